"""The action query: one learned vector that enters where its token id stands.

Nothing is resized and tied weights stay tied: hooks on the embedding modules put the vector in
the place of an id that no vocabulary has. Image merging, positions and masks stay the business
of the VLM's own forward.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vlm4vla.errors import UserError
from vlm4vla.model.family import QUERY_ID


class _Injection:
    def __init__(self, query: nn.Parameter) -> None:
        self.query = query
        self.mask: Tensor | None = None

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        ids = args[0]
        self.mask = ids == QUERY_ID
        return (ids.masked_fill(self.mask, 0), *args[1:])

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        mask, self.mask = self.mask, None
        assert mask is not None
        return torch.where(mask[..., None], self.query.to(output.dtype), output)


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
