"""The modality matrix: success by what became of the picture and of the sentence."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.core.condition import OTHER_OBJECT, Condition, Perturbation
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.rows import Row
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.statistics import PairedDifference, Rate, holm, mcnemar, paired_difference, wilson
from vlm4vla.suites.tabletop.suite import NAME

PICTURE_ROWS: Final = (
    None,
    perturbation("picture-blank"),
    perturbation("picture-other"),
    perturbation("picture-patches"),
)
SENTENCE_COLUMNS: Final = (
    None,
    perturbation("sentence-empty"),
    perturbation(OTHER_OBJECT),
    perturbation("sentence-order"),
)
"""The matrix's rows and columns; None is as usual."""

STUDY: Final = Membership("study", "ablation")
"""Where perturbed episodes belong."""

SPLIT: Final = "test"
_MOST: Final = 100_000
"""Episodes of one condition that are counted."""

Scene = tuple[str, int]
"""Task and seed."""


def condition_of(*changes: Perturbation | None) -> Condition:
    """The condition of some perturbations, with the usual sentences."""
    return Condition(perturbations=tuple(one for one in changes if one))


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix.

    Attributes:
        condition: what became of picture and sentence.
        rate: of the goal that the scene's own sentence asks for.
        wrong_object: share of the episodes in which another object was moved.
        other_goal: share in which what the other object's sentence asks for was done; None where
            no such sentence is told.
        paired: this cell minus the intact one on the scenes of both, with its interval; None for
            the intact cell, or without such scenes.
        shared: rates of the intact one and of this cell on these scenes; None where `paired` is.
        p: of McNemar's exact test, adjusted for all cells (Holm); None where `paired` is.
        rows: its episodes, by task and seed.
    """

    condition: Condition
    rate: Rate
    wrong_object: Rate
    other_goal: Rate | None
    paired: PairedDifference | None
    shared: tuple[Rate, Rate] | None
    p: float | None
    rows: tuple[Row, ...]


def short(change: Perturbation | None) -> str:
    """A perturbation's name in the matrix."""
    return PERTURBATIONS.get(change.name).short if change else "kept"


def matrix(
    table: EpisodeTable,
    agent: str,
    tasks: Collection[str],
    seeds: Collection[int] | None = None,
    *,
    pictures: Sequence[Perturbation | None] = PICTURE_ROWS,
    sentences: Sequence[Perturbation | None] = SENTENCE_COLUMNS,
) -> list[list[Cell]]:
    """The matrix of an agent, a list a row; a cell without episodes has n = 0.

    Args:
        table: where the episodes are; nothing is run.
        agent: digest of who acted.
        tasks: which tasks count.
        seeds: which scenes; None for all that any changed cell has, and if none has one, all.
        pictures: the rows; the first is None.
        sentences: the columns; the first is None.
    """
    found = [
        [
            _scenes(table, agent, condition_of(picture, sentence), tasks, seeds)
            for sentence in sentences
        ]
        for picture in pictures
    ]
    intact = found[0][0]
    if seeds is None:
        # The intact cell has often been given more scenes: like is compared with like.
        rest = [one for row in found for one in row][1:]
        intact = _among(intact, rest)
        found[0][0] = intact
    cells = [
        [
            _cell(condition_of(picture, sentence), rows, intact)
            for sentence, rows in zip(sentences, line, strict=True)
        ]
        for picture, line in zip(pictures, found, strict=True)
    ]
    return _adjusted(cells)


def compared(
    table: EpisodeTable,
    agent: str,
    conditions: Sequence[Condition],
    tasks: Collection[str],
    seeds: Collection[int] | None = None,
) -> list[Cell]:
    """One cell for each condition, the intact one first; see `matrix`."""
    intact = _scenes(table, agent, Condition(), tasks, seeds)
    rows = [_scenes(table, agent, condition, tasks, seeds) for condition in conditions]
    if seeds is None:
        intact = _among(intact, rows)
    cells = [_cell(Condition(), intact, intact)]
    cells += [_cell(one, found, intact) for one, found in zip(conditions, rows, strict=True)]
    return _adjusted([cells])[0]


def telling(cell: Cell, intact: Cell) -> Row | None:
    """An episode of the intact policy in a scene that shows what a cell's condition does.

    It is the first scene that the intact policy does and the cell does not, or the other way
    round; where they differ in none, the first of both, or the first that the intact policy has.

    Args:
        cell: any cell.
        intact: the intact one.
    """
    known = {(row.spec.task, row.spec.seed): row for row in intact.rows}
    shared = [row for row in cell.rows if (row.spec.task, row.spec.seed) in known]
    pairs = [(row, known[row.spec.task, row.spec.seed]) for row in shared]
    for done in (True, False):
        for row, own in pairs:
            if own.outcome.success is done and row.outcome.success is not done:
                return own
    return next((own for _, own in pairs), next(iter(intact.rows), None))


def _scenes(
    table: EpisodeTable,
    agent: str,
    condition: Condition,
    tasks: Collection[str],
    seeds: Collection[int] | None,
) -> dict[Scene, Row]:
    wanted = Filter(
        agent=agent, suite=NAME, condition=condition, split=SPLIT, current=True, task=tuple(tasks)
    )
    return {
        (row.spec.task, row.spec.seed): row
        for row in table.query(wanted, order="oldest", limit=_MOST)
        if len(row.agents) == 1
        and not row.spec.parent
        and "imported" not in row.kinds
        and (seeds is None or row.spec.seed in seeds)
    }


def _among(intact: dict[Scene, Row], others: Sequence[dict[Scene, Row]]) -> dict[Scene, Row]:
    """The intact episodes of the scenes that any other has; all of them where none has one."""
    shared = {scene for one in others for scene in one}
    return {s: row for s, row in intact.items() if s in shared} if shared else intact


def _cell(condition: Condition, rows: dict[Scene, Row], intact: dict[Scene, Row]) -> Cell:
    paired, ends, p = None, None, None
    if condition.perturbations and (shared := rows.keys() & intact.keys()):
        outcomes = [(rows[s].outcome.success, intact[s].outcome.success) for s in shared]
        both, only, lost = (outcomes.count(x) for x in ((True, True), (True, False), (False, True)))
        n = len(outcomes)
        paired = paired_difference(both, only, lost, n - both - only - lost)
        ends = wilson(both + lost, n), wilson(both + only, n)
        p = mcnemar(only, lost)
    return Cell(
        condition,
        wilson(sum(row.outcome.success for row in rows.values()), len(rows)),
        _share(rows, "wrong_object"),
        _share(rows, "old_goal_done") if condition.watches else None,
        paired,
        ends,
        p,
        tuple(rows[scene] for scene in sorted(rows)),
    )


def _share(rows: dict[Scene, Row], measure: str) -> Rate:
    return wilson(sum(bool(r.outcome.measures.get(measure)) for r in rows.values()), len(rows))


def _adjusted(cells: list[list[Cell]]) -> list[list[Cell]]:
    """The cells with p values adjusted for all of them."""
    values = [cell.p for row in cells for cell in row if cell.p is not None]
    adjusted = iter(holm(values))
    return [
        [replace(cell, p=next(adjusted)) if cell.p is not None else cell for cell in row]
        for row in cells
    ]
