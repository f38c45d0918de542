"""Inside a VLM for the time of a call: its layers, their outputs, and what they attend to.

Everything that is put on a model is taken off when the block ends, also by an error.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vlm4vla.attribution.inputs import Scores, to_grid
from vlm4vla.attribution.score import Explained
from vlm4vla.errors import UserError
from vlm4vla.model.groups import inside
from vlm4vla.model.policy import Policy
from vlm4vla.model.qwen import in_rows

_RECORDED: Final = "vlm4vla_recorded"
_EAGER: Final = "eager"
_SWITCHING: Final = threading.RLock()


class Attended(NamedTuple):
    """What an attention module attended to.

    Attributes:
        name: of the module in the VLM.
        weights: (B, heads, L, L) shares of attention, the last axis sums to 1.
    """

    name: str
    weights: Tensor


class _Recording(NamedTuple):
    names: dict[nn.Module, str]
    seen: list[Attended]


_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)


def opened(policy: Explained) -> Policy:
    """The policy, if it can be looked into.

    Raises:
        UserError: it is none of this project's VLMs.
    """
    if not isinstance(policy, Policy):
        raise UserError(
            f"{type(policy).__name__} has no VLM that could be looked into.", "Choose occlusion."
        )
    return policy


def vision_layers(policy: Policy) -> dict[str, nn.Module]:
    """The layers of the vision tower from the first to the last, by their names in the VLM.

    Raises:
        UserError: the tower has no stack of attention layers.
    """
    return _stack(policy, policy.vlm.family.vision, "vision tower")


def language_layers(policy: Policy) -> dict[str, nn.Module]:
    """The layers of the language model, as `vision_layers`."""
    return _stack(policy, policy.vlm.family.language, "language model")


def _stack(policy: Policy, paths: tuple[str, ...], what: str) -> dict[str, nn.Module]:
    stacks = [
        {f"{name}.{index}": layer for index, layer in enumerate(stack)}
        for name, stack in policy.base.named_modules()
        if isinstance(stack, nn.ModuleList) and inside(name, paths)
        if all(any("Attention" in type(m).__name__ for m in one.modules()) for one in stack)
    ]
    if not stacks:
        raise UserError(
            f"The {what} of {policy.vlm.family.name} is no stack of attention layers.",
            "Choose occlusion.",
        )
    return max(stacks, key=len)


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list to which this thread's outputs of a module are added, the first of several."""
    seen: list[Tensor] = []
    ours = threading.get_ident()

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        if threading.get_ident() == ours:
            seen.append(output if isinstance(output, Tensor) else output[0])

    handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def recorded_attention(policy: Policy) -> Iterator[list[Attended]]:
    """Yields a list to which this thread's calls add what every attention module attended to.

    This thread's attention is computed by the model's own plain ("eager") function meanwhile, which
    alone tells its weights. Other threads' calls compute as they always do: a policy that acts
    elsewhere does not notice, also where its call is half over when the block begins or ends.

    Raises:
        UserError: a module has no such function.
    """
    names = {module: name for name, module in policy.base.named_modules()}
    seen: list[Attended] = []
    with _SWITCHING:
        configs = {
            id(module.config): module.config
            for module in policy.base.modules()
            if hasattr(getattr(module, "config", None), "_attn_implementation")
        }
        before = {key: config._attn_implementation for key, config in configs.items()}
        token = _recording.set(_Recording(names, seen))
        try:
            for key, config in configs.items():
                config._attn_implementation = _recorded(before[key])
            yield seen
        finally:
            _recording.reset(token)
            for key, config in configs.items():
                config._attn_implementation = before[key]


def _recorded(usual: str) -> str:
    """Name of the attention that records this thread's calls and is `usual` for all others."""
    name = f"{_RECORDED}_{usual}"
    # The names are ours alone, so registering them again changes nothing.
    AttentionInterface.register(name, partial(_attend, usual))
    AttentionMaskInterface.register(name, partial(_mask, usual))
    return name


def _mask(usual: str, *args: Any, **kwargs: Any) -> Any:
    known = ALL_MASK_ATTENTION_FUNCTIONS
    return known[_EAGER if _recording.get() else usual](*args, **kwargs)


def _attend(
    usual: str, module: nn.Module, *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    recording = _recording.get()
    if recording is None and usual != _EAGER:
        output, weights = ALL_ATTENTION_FUNCTIONS[usual](module, *args, **kwargs)
        return output, weights
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise UserError(
            f"{type(module).__name__} does not tell what it attends to.", "Choose another method."
        )
    output, weights = eager(module, *args, **kwargs)
    if recording is not None:
        recording.seen.append(Attended(recording.names[module], weights.detach()))
    return output, weights


def token_grid(policy: Explained, tokens: Tensor) -> Scores:
    """Scores (T,) of all vision tokens as scores (GRID, GRID) of picture cells.

    Raises:
        UserError: the tokens belong to no place in the picture.
    """
    numbers = np.asarray(tokens.detach().double().cpu())
    if isinstance(policy, Policy):
        family = policy.vlm.family
        on_grid = family.grid(policy.base.config)
        if on_grid is None:
            raise UserError(
                f"Each vision token of {family.name} has looked at the whole picture, so scores "
                "of tokens are no map.",
                "Choose occlusion, Grad-CAM or rollout, which work on the picture's own patches.",
            )
        numbers = numbers[on_grid]
    return to_grid(numbers)


def patch_grid(policy: Policy, states: Tensor) -> Scores:
    """Scores (..., T) of one picture's patches inside the vision tower as (GRID, GRID) of cells.

    What stands before the patches, such as a class token, is left out.

    Raises:
        UserError: there are fewer scores than patches.
    """
    scores = states.detach().double().cpu().ravel()
    side = patches_a_side(policy)
    if len(scores) < side**2:
        raise UserError(
            f"The vision tower of {policy.vlm.family.name} has {len(scores)} states for "
            f"{side**2} patches there.",
            "Choose another layer, or occlusion.",
        )
    return to_grid(in_rows(scores[None, -(side**2) :], policy.base.config)[0].numpy())


def patches_a_side(policy: Policy) -> int:
    """Patches that the vision tower cuts a picture into along each side."""
    config = policy.base.config
    patch = config.vision_config.patch_size
    return policy.vlm.family.side(config) // int(patch if isinstance(patch, int) else patch[0])
