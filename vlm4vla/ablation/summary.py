"""What the modality matrix says, in sentences that claim no more than its scenes can tell."""

from collections.abc import Sequence
from typing import Final

from vlm4vla.ablation.matrix import Cell
from vlm4vla.core.condition import OTHER_OBJECT
from vlm4vla.statistics import ALPHA, Rate

_CLAIMS: Final = (
    ("sentence-empty", "Without the sentence", "it reads it", "reads it"),
    ("picture-blank", "With a blank picture", "it looks", "looks"),
    ("sentence-order", "With the words in another order", "it needs their order", "needs it"),
)


def summary(cells: Sequence[Sequence[Cell]]) -> str:
    """The matrix in a few sentences; "" where nothing but the intact policy was measured."""
    intact = cells[0][0]
    alone = {
        cell.condition.perturbations[0].name: cell
        for row in cells
        for cell in row
        if len(cell.condition.perturbations) == 1 and cell.rate.n
    }
    if not intact.rate.n:
        return ""
    parts = [_claim(alone[name], *words) for name, *words in _CLAIMS if name in alone]
    if other := alone.get(OTHER_OBJECT):
        parts.append(_followed(other))
    if (floor := floor_of(cells)) and floor.rate.n:
        parts.append(f"With neither, {_percent(floor.rate)} is left: that is chance here.")
    return " ".join(parts)


def losses(cells: Sequence[tuple[str, Cell]]) -> str:
    """Which changes cost success and of which the scenes cannot tell it; "" without any.

    Args:
        cells: of one family, whose p values are adjusted together, with their names.
    """
    told, untold = [], []
    for name, cell in cells:
        if cell.paired is None or cell.p is None:
            continue
        if cell.p < ALPHA:
            told.append(f"{name} ({100 * cell.paired.difference:+.0f} points)")
        else:
            untold.append(name)
    parts = []
    if told:
        parts.append(f"These scenes tell a difference for {', '.join(told)}.")
    if untold:
        parts.append(f"These scenes tell no difference for {', '.join(untold)}.")
    return " ".join(parts)


def floor_of(cells: Sequence[Sequence[Cell]]) -> Cell | None:
    """The cell without picture and without sentence: what is left there is chance."""
    for row in cells:
        for cell in row:
            names = {one.name for one in cell.condition.perturbations}
            if names == {"picture-blank", "sentence-empty"}:
                return cell
    return None


def _claim(cell: Cell, before: str, verdict: str, question: str) -> str:
    if cell.p is None or cell.paired is None or cell.shared is None:
        return (
            f"{before} it does {_percent(cell.rate)}, of scenes that the intact policy was not "
            f"given: these cannot tell whether it {question}."
        )
    intact, left = cell.shared
    moved = f"from {100 * intact.rate:.0f} to {_percent(left)}"
    if cell.p >= ALPHA:
        return f"{before} it goes {moved}: these scenes cannot tell whether it {question}."
    if cell.paired.difference > 0:
        return f"{before} it rises {moved}."
    return f"{before} it falls {moved}: {verdict}."


def _followed(cell: Cell) -> str:
    told, own = cell.other_goal, cell.rate
    assert told is not None
    counts = (
        f"it does what it is told in {told.successes} of {told.n} scenes and what the scene's own "
        f"sentence asks for in {own.successes}"
    )
    if told.low > own.high:
        return f"Told of another object, {counts}: it follows the sentence."
    if own.low > told.high:
        return f"Told of another object, {counts}: it does not follow the sentence."
    return f"Told of another object, {counts}."


def _percent(rate: Rate) -> str:
    return f"{100 * rate.rate:.0f} %"
