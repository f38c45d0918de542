"""Features by layer: what every layer of a VLM makes of pictures and sentences."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.qwen import in_rows

BATCH: Final = 32
"""Pictures in one forward pass."""

CELLS: Final = 8
"""Features that lie on a finer square grid are averaged to this many cells along each side."""

_MOST: Final = 6e4
"""What half precision can hold; some layers of large models have single numbers beyond it."""

Part = Literal["vision", "projector", "picture", "query"]


@dataclass(frozen=True)
class Layer:
    """A layer of a VLM at some of its places.

    Attributes:
        part: "vision" for the vision tower, "projector" for what the language model is given,
            "picture" and "query" for a language layer at the image tokens and at the action query.
        number: of the block, from 1; 0 for what the first block of the vision tower gets. After
            the language model's last block comes one more "query", what the action head reads.
    """

    part: Part
    number: int

    @property
    def name(self) -> str:
        """Such as "vision 3"."""
        return self.part if self.part == "projector" else f"{self.part} {self.number}"


Features = dict[Layer, NDArray[np.float16]]
"""By layer, in the order in which they are computed, (N, tokens, width)."""


def blocks(base: nn.Module, paths: Sequence[str]) -> nn.ModuleList:
    """The blocks of a tower: the longest list of modules below some paths.

    Raises:
        UserError: there is none.
    """
    lists = [
        module
        for path in paths
        for module in base.get_submodule(path).modules()
        if isinstance(module, nn.ModuleList)
    ]
    if not lists:
        raise UserError(f"Nothing below {', '.join(paths)} is a stack of layers.")
    return max(lists, key=len)


@contextlib.contextmanager
def watched(modules: Sequence[nn.Module], see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Calls `see` with number and output of each module while the block lasts.

    The first module's input comes as number 0; the outputs count from 1. No hook survives, whatever
    happens.
    """
    handles = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(0, args[0] if args else kwargs["hidden_states"])

    def after(number: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            see(number, output if isinstance(output, Tensor) else output[0])

        return hook

    try:
        handles.append(modules[0].register_forward_pre_hook(before, with_kwargs=True))
        for number, module in enumerate(modules, 1):
            handles.append(module.register_forward_hook(after(number)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def to_cells(grid: Tensor) -> Tensor:
    """Tokens (B, side * side, D) of a picture, by rows, as at most `CELLS` x `CELLS` cells.

    A side that is a multiple of `CELLS` is averaged; anything else stays as it is.
    """
    side = int(grid.shape[1] ** 0.5)
    if side < CELLS or side % CELLS:
        return grid
    block = side // CELLS
    apart = grid.reshape(len(grid), CELLS, block, CELLS, block, grid.shape[-1])
    return apart.mean((2, 4)).reshape(len(grid), CELLS * CELLS, grid.shape[-1])


def squared(tokens: Tensor) -> Tensor:
    """Tokens (B, T, D) without what stands before a square number of them: a class token."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens[:, tokens.shape[1] - side * side :]


@torch.inference_mode()
def features(
    policy: Policy,
    images: Image,
    instructions: Sequence[str],
    tell: Callable[[str], None] = lambda line: None,
) -> Features:
    """What every layer makes of N pictures and sentences.

    Args:
        policy: whose VLM; the query is the policy's.
        images: (N, H, W, 3).
        instructions: N sentences.
        tell: takes a line about how far it is.
    """
    kept: dict[Layer, list[NDArray[np.float16]]] = {}
    for start in range(0, len(images), BATCH):
        some = slice(start, start + BATCH)
        for layer, tokens in _seen(policy, images[some], instructions[some]).items():
            kept.setdefault(layer, []).append(tokens.clamp(-_MOST, _MOST).half().cpu().numpy())
    tell(f"{len(images)} pictures read")
    order: list[Part] = ["vision", "projector", "picture", "query"]
    named = sorted(kept, key=lambda layer: (order.index(layer.part), layer.number))
    return {layer: np.concatenate(kept[layer]) for layer in named}


@torch.inference_mode()
def pooled(policy: Policy, images: Image) -> NDArray[np.float64]:
    """(N, D) the mean of each picture's tokens behind the projector, for N pictures."""
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    means = [policy.encode(some).tokens.double().mean(1).cpu().numpy() for some in batches]
    return np.concatenate(means)


def _seen(policy: Policy, images: Image, instructions: Sequence[str]) -> dict[Layer, Tensor]:
    """One batch."""
    vlm, seen = policy.vlm, dict[Layer, Tensor]()
    vision = blocks(policy.base, vlm.family.vision)
    language = blocks(policy.base, vlm.family.language)
    rows = policy.prompt(instructions)
    row = torch.arange(len(images), device=rows.last.device)

    def see_vision(number: int, output: Tensor) -> None:
        # Qwen's vision tower lays all pictures of a batch in one row.
        tokens = output.reshape(len(images), -1, output.shape[-1])
        patches = in_rows(squared(tokens), policy.base.config)
        seen[Layer("vision", number)] = to_cells(patches)

    def see_language(number: int, output: Tensor) -> None:
        if number:
            picture = output[rows.is_image].reshape(len(images), -1, output.shape[-1])
            seen[Layer("picture", number)] = to_cells(squared(picture))
            seen[Layer("query", number)] = output[row, rows.last][:, None]

    with watched(list(vision), see_vision):
        encoded = policy.encode(images)
    seen[Layer("projector", 0)] = to_cells(squared(encoded.tokens))
    with watched(list(language), see_language):
        states = policy.states(encoded, rows)
    seen[Layer("query", len(language) + 1)] = policy.at_query(states, rows)[:, None]
    return seen
