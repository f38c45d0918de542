"""The action query: one learned vector that enters where its token id stands.

Nothing is resized and tied weights stay tied: hooks on the embedding modules put the vector in
the place of an id that no vocabulary has. Image merging, positions and masks stay the business
of the VLM's own forward.
"""

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vlm4vla.errors import UserError
from vlm4vla.model.family import QUERY_ID

# Each thread has its own, so several may call one policy. An embedding is never looked up inside
# another's look-up, so one is enough.
_is_query: ContextVar[Tensor] = ContextVar("is_query")


class _Injection:
    def __init__(self, query: nn.Parameter) -> None:
        self.query = query

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        ids = args[0]
        mask = ids == QUERY_ID
        _is_query.set(mask)
        return (ids.masked_fill(mask, 0), *args[1:])

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return torch.where(_is_query.get()[..., None], self.query.to(output.dtype), output)


def initial_query(embeddings: nn.Module, words: Tensor, how: str) -> Tensor:
    """A query (D,) before it has learned anything.

    Args:
        embeddings: the VLM's input embeddings.
        words: their weight (V, D).
        how: "zero" as in the paper, or "embedding" for a random one at the scale of the word
            embeddings.

    Raises:
        UserError: `how` is neither.
    """
    if how == "zero":
        return torch.zeros(words.shape[1], device=words.device)
    if how == "embedding":
        with torch.no_grad():
            some = torch.arange(min(4096, len(words)), device=words.device)
            scale = embeddings(some).float().std().cpu()
        draw = torch.randn(words.shape[1], generator=torch.Generator().manual_seed(0))
        return (draw * scale).to(words.device)
    raise UserError(f"Unknown start of the query {how!r}; known: zero, embedding.")


def attach_query(
    base: nn.Module, embeddings: nn.Module, query: nn.Parameter
) -> list[RemovableHandle]:
    """Makes `QUERY_ID` stand for `query` in every embedding that shares the words' weight.

    Args:
        base: the VLM.
        embeddings: its input embeddings.
        query: (D,) in the scale of that module's output.

    Returns:
        Handles; removing them restores the bare VLM.

    Raises:
        UserError: another policy's query is in place, which would be the one that is read.
    """
    shared = [
        module
        for module in base.modules()
        if isinstance(module, nn.Embedding) and module.weight is embeddings.weight
    ]
    for module in shared:
        for hook in module._forward_hooks.values():
            if isinstance(getattr(hook, "__self__", None), _Injection):
                raise UserError(
                    "This VLM already belongs to a policy.", "Call detach() on that policy first."
                )
    handles = []
    for module in shared:
        injection = _Injection(query)
        handles.append(module.register_forward_pre_hook(injection.before))
        handles.append(module.register_forward_hook(injection.after))
    return handles
