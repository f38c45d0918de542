"""Skipped parts: success with one layer or head of a policy skipped, or without image tokens."""

from collections.abc import Collection
from typing import Final

from vlm4vla.ablation.curves import alone
from vlm4vla.ablation.matrix import Cell, compared, condition_of
from vlm4vla.ablation.registry import PERTURBATIONS
from vlm4vla.core.condition import Perturbation
from vlm4vla.episodes.table import EpisodeTable

PARTS: Final = tuple(name for name in PERTURBATIONS if PERTURBATIONS.get(name).place == "inside")
"""The perturbations inside a policy."""


def skipped(table: EpisodeTable, agent: str, tasks: Collection[str]) -> list[Cell]:
    """A cell for each part that was skipped, in the order of the network, the intact one first.

    Empty where no part was skipped.

    Args:
        table: where the episodes are; nothing is run.
        agent: digest of who acted.
        tasks: which tasks count.
    """
    changes = [one for one in alone(table, agent, tasks) if one.name in PARTS]
    if not changes:
        return []
    return compared(table, agent, list(map(condition_of, sorted(changes, key=_place))), tasks)


def part_of(change: Perturbation) -> str:
    """What a perturbation of `PARTS` skips, for people."""
    if change.name == "skip-image-tokens":
        return "image tokens zero"
    values = change.values
    part = values.get("part", change.name.split("-")[1])
    head = f" head {values['head']}" if "head" in values else ""
    return f"{part} layer {values['layer']}{head}"


def _place(change: Perturbation) -> tuple[int, bool, int, int]:
    values = change.values
    # The picture goes through the vision tower before the language model reads it.
    later = values.get("part") != "vision"
    layer, head = int(values.get("layer", 0)), int(values.get("head", 0))
    return (PARTS.index(change.name), later, layer, head)
