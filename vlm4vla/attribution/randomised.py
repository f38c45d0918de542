"""A policy with randomised weights: a map that stays the same does not explain the policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.model.groups import parameter_groups
from vlm4vla.model.policy import Policy

HEAD: Final = "head"
LANGUAGE: Final = "language"
ALL: Final = "all"
CASCADE: Final = (HEAD, LANGUAGE, ALL)
"""How far weights are randomised, from the output backwards: the action head and its query, then
the language model too, then everything (Adebayo et al. 2018, cascading randomisation)."""


_GROUPS: Final = {HEAD: ("head",), LANGUAGE: ("head", "language", "embeddings")}


@contextmanager
def randomised(policy: Policy, level: str, seed: int = 0) -> Iterator[None]:
    """Randomises every weight of some parts; the true ones are back when the block ends.

    The action head begins anew, as before it learned: shuffled, its outputs would be at their
    limits whatever the picture. Of every other weight the numbers are shuffled, which keeps their
    mean and spread. Nobody else may use the policy meanwhile.

    Args:
        policy: whose weights.
        level: one of `CASCADE`.
        seed: of the randomisation.

    Raises:
        UserError: there is no such level.
    """
    if level not in CASCADE:
        raise UserError(f"Unknown level {level!r}; known: {', '.join(CASCADE)}.")
    groups = parameter_groups(policy)
    chosen = {
        name: one
        for name, one in policy.named_parameters()
        if level == ALL or groups[name] in _GROUPS[level]
    }
    before = {name: one.detach().clone() for name, one in chosen.items()}
    draw = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for name, one in chosen.items():
                one.copy_(_anew(one, draw) if name.startswith("head.") else _shuffled(one, draw))
        yield
    finally:
        with torch.no_grad():
            for name, one in chosen.items():
                one.copy_(before[name])


def _anew(weight: Tensor, draw: torch.Generator) -> Tensor:
    """As `vlm4vla.model.head.ActionHead` begins."""
    fresh = torch.zeros(weight.shape)
    return torch.nn.init.xavier_uniform_(fresh, generator=draw) if weight.ndim == 2 else fresh


def _shuffled(weight: Tensor, draw: torch.Generator) -> Tensor:
    order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
    return weight.flatten()[order].reshape(weight.shape)
