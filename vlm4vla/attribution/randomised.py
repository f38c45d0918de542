"""A policy with randomised weights: a map that stays the same does not explain the policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

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
    """Shuffles the numbers within every weight of some parts; they are back when the block ends.

    Shuffled weights keep their mean and spread, so that activations stay finite. Nobody else may
    use the policy meanwhile.

    Args:
        policy: whose weights.
        level: one of `CASCADE`.
        seed: of the shuffling.

    Raises:
        UserError: there is no such level.
    """
    if level not in CASCADE:
        raise UserError(f"Unknown level {level!r}; known: {', '.join(CASCADE)}.")
    groups = parameter_groups(policy)
    chosen = [
        one
        for name, one in policy.named_parameters()
        if level == ALL or groups[name] in _GROUPS[level]
    ]
    before = [one.detach().clone() for one in chosen]
    draw = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for one in chosen:
                order = torch.randperm(one.numel(), generator=draw).to(one.device)
                one.copy_(one.flatten()[order].reshape(one.shape))
        yield
    finally:
        with torch.no_grad():
            for one, kept in zip(chosen, before, strict=True):
                one.copy_(kept)
