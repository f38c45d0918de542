"""A study's results, from the table of episodes alone."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Final, NamedTuple

from scipy.stats import t as student

from vlm4vla.episodes.pairs import Half, Pair
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.compare import Comparison, compare_several
from vlm4vla.statistics import ALPHA, Rate, detectable_difference, wilson
from vlm4vla.studies.measures import Measures
from vlm4vla.studies.paper import Reported, direction, reported
from vlm4vla.studies.status import Found, episodes_of, measured
from vlm4vla.studies.study import Contrast, Member, Study
from vlm4vla.studies.trained import account

ALL: Final = "all"
"""Both tasks together; see `vlm4vla.eval.compare`."""

SEEDS_FOR_A_RECIPE: Final = 3
"""Training seeds a side without which a difference is one of policies, not of recipes."""


class CellResult(NamedTuple):
    """What a table holds of a cell.

    Attributes:
        member: the cell in its study.
        found: its episodes.
        rates: success by task, and "all".
        account: what is known about its training, see `vlm4vla.studies.trained.check_trained`.
        measures: what was measured of its policy; None where nothing was.
    """

    member: Member
    found: Found
    rates: Mapping[str, Rate]
    account: Mapping[str, Any] | None
    measures: Measures | None

    @property
    def missing(self) -> int:
        """Episodes that are not there."""
        return self.member.cell.expected - len(self.found.rows)


class SeedResult(NamedTuple):
    """Two levels within one training seed of one family: two policies on the same scenes.

    Attributes:
        seed: training seed.
        rows: a task each, and "all"; p values are adjusted for the whole study (Holm).
        detectable: by task, the smallest difference that as many scenes would tell in four cases of
            five, where as many of them differ, held to the first step of Holm's adjustment; None
            where too few differ.
    """

    seed: int
    rows: Mapping[str, Comparison]
    detectable: Mapping[str, float | None]


class RecipeResult(NamedTuple):
    """Two levels over the training seeds of one family at one learning rate.

    Attributes:
        contrast: which.
        family: of the VLM.
        learning_rate: of both.
        seeds: those whose policies share scenes.
        mean: mean over training seeds of the difference of rates a - b; NaN without seeds.
        low: lower end of its 95 % t interval over training seeds; NaN with fewer than two.
        high: upper end.
    """

    contrast: Contrast
    family: str
    learning_rate: float
    seeds: tuple[SeedResult, ...]
    mean: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether the training seeds tell the recipes apart."""
        enough = len(self.seeds) >= SEEDS_FOR_A_RECIPE
        return enough and (self.low > 0 or self.high < 0)

    def sentence(self) -> str:
        """The result, never more than it says."""
        a, b = self.contrast.a, self.contrast.b
        about = f"{self.family} at {self.learning_rate:g}, {a} against {b}: "
        if not self.seeds:
            return about + "not run."
        singly = ", ".join(f"{100 * one.rows[ALL].paired.difference:+.0f}" for one in self.seeds)
        n = self.seeds[0].rows[ALL].a.n
        if len(self.seeds) < SEEDS_FOR_A_RECIPE:
            told = sum(one.rows[ALL].told for one in self.seeds)
            policies = "these two policies" if len(self.seeds) == 1 else "these pairs of policies"
            verdict = f"we cannot tell {policies} apart"
            if told:
                some = "" if told == len(self.seeds) else f"{told} of {len(self.seeds)} of "
                verdict = f"{some}{policies} differ"
            return (
                f"{about}{singly} points in {len(self.seeds)} of the training seeds: {verdict}; "
                f"about the recipes it takes {SEEDS_FOR_A_RECIPE}."
            )
        within = sum(one.rows[ALL].told for one in self.seeds)
        verdict = "they differ" if self.told else "we cannot tell"
        return (
            f"{about}{singly} points in the training seeds ({n} episodes each; {within} of "
            f"{len(self.seeds)} told within a seed), mean {100 * self.mean:+.1f} (95 % over "
            f"training seeds {100 * self.low:+.1f} to {100 * self.high:+.1f}): {verdict}."
        )


class Agreement(NamedTuple):
    """A contrast beside the paper's: directions alone, since units differ.

    Attributes:
        contrast: which.
        paper: the paper's differences; empty where it made none.
        ours: "lower" or "higher" where every family tells it, else "".
    """

    contrast: Contrast
    paper: Sequence[Reported]
    ours: str

    def sentence(self) -> str:
        """Whether both point the same way."""
        about = f"{self.contrast.a} against {self.contrast.b}: "
        theirs = direction(list(self.paper))
        if not theirs:
            return about + "the paper has no number."
        sources = ", ".join(dict.fromkeys(one.source for one in self.paper))
        how = ", ".join(dict.fromkeys(one.confidence for one in self.paper))
        lower = sum(one.delta < 0 for one in self.paper)
        said = f"{about}the paper has it lower in {lower} of {len(self.paper)} ({sources}; {how}), "
        if not self.ours:
            return said + "ours does not tell a direction in every family."
        if theirs in ("mixed", "level"):
            points = {"mixed": "points both ways", "level": "is level"}[theirs]
            return said + f"ours is {self.ours} in every family; the paper's {points}."
        agree = "the same direction" if theirs == self.ours else "the opposite direction"
        return said + f"ours is {self.ours} in every family: {agree}."


class Chosen(NamedTuple):
    """The learning rate with most successes on the selection scenes.

    Attributes:
        family: of the VLM.
        init: where the weights start.
        rates: success by learning rate, of the cells that are whole.
        best: the learning rate; None before every rate was tried. Of equals the lowest.
    """

    family: str
    init: str
    rates: Mapping[float, Rate]
    best: float | None

    def sentence(self) -> str:
        """The choice."""
        tried = "; ".join(f"{value:g}: {text(rate)}" for value, rate in self.rates.items())
        about = f"{self.family}, {self.init}: {tried or 'not run'}"
        return about + (f"; best at {self.best:g}." if self.best else "; not every rate was tried.")


class Report(NamedTuple):
    """Everything about a study."""

    study: Study
    cells: Sequence[CellResult]
    recipes: Sequence[RecipeResult]
    agreements: Sequence[Agreement]
    chosen: Sequence[Chosen]


def report(table: EpisodeTable, study: Study) -> Report:
    """The results of a study.

    Args:
        table: where the episodes are.
        study: which.
    """
    return reports(table, [study])[0]


def reports(table: EpisodeTable, studies: Sequence[Study]) -> list[Report]:
    """The results of several studies; what cells have in common is read once.

    Args:
        table: where the episodes are.
        studies: which.
    """
    members = [member for study in studies for member in study.members]
    cells = {member.cell.name: member.cell for member in members}
    found = {name: episodes_of(table, cell) for name, cell in cells.items()}
    return [_report(study, found) for study in studies]


def _report(study: Study, found: Mapping[str, Found]) -> Report:
    cells = [_cell(member, found[member.cell.name]) for member in study.members]
    recipes = _recipes(study, cells)
    agreements = [
        Agreement(contrast, reported(contrast.paper), _direction(contrast, recipes))
        for contrast in study.contrasts
    ]
    chosen = [] if study.contrasts else _chosen(cells)
    return Report(study, cells, recipes, agreements, chosen)


def text(rate: Rate) -> str:
    """A rate for people."""
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.successes} of {rate.n} (95 % {low:.0f} to {high:.0f})"


def lines(found: Report) -> list[str]:
    """A report as lines of text."""
    study = found.study
    out = [f"{study.name}: {study.question}"]
    for cell in found.cells:
        rates = ", ".join(f"{task} {text(rate)}" for task, rate in cell.rates.items())
        notes = [f"{cell.missing} episodes missing"] if cell.rates and cell.missing else []
        if cell.found.others:
            notes.append(f"{cell.found.others} further policies not counted")
        said = "; ".join([rates or "not run", *notes])
        out.append(f"  {cell.member.cell.name}  {cell.member.label}: {said}")
        if cell.measures:
            out.append(f"    {'; '.join(cell.measures.sentences())}")
    out += [f"  {one.sentence()}" for one in found.chosen]
    for recipe in found.recipes:
        out.append(f"  {recipe.sentence()}")
        out += [
            f"    training seed {one.seed}, {task}: {_compared(row, one.detectable[task])}"
            for one in recipe.seeds
            for task, row in one.rows.items()
        ]
    return out + [f"  {one.sentence()}" for one in found.agreements]


def to_json(found: Report) -> dict[str, Any]:
    """A report as plain values; nothing but finite numbers."""
    return {
        "study": found.study.name,
        "question": found.study.question,
        "cells": [
            {
                "name": cell.member.cell.name,
                "level": cell.member.level,
                "family": cell.member.cell.start.family,
                "seed": cell.member.cell.seed,
                "learning_rate": cell.member.cell.learning_rate,
                "groups": cell.member.cell.groups,
                "agent": cell.found.agent,
                "others": cell.found.others,
                "missing": cell.missing,
                "rates": {task: rate._asdict() for task, rate in cell.rates.items()},
                "account": cell.account,
                "measures": cell.measures.to_json() if cell.measures else None,
            }
            for cell in found.cells
        ],
        "contrasts": [
            {
                "a": one.contrast.a,
                "b": one.contrast.b,
                "family": one.family,
                "learning_rate": one.learning_rate,
                "sentence": one.sentence(),
                "told": one.told,
                **{name: _finite(getattr(one, name)) for name in ("mean", "low", "high")},
                "seeds": [
                    {
                        "seed": seed.seed,
                        "tasks": {
                            task: {**row.to_json(), "detectable": seed.detectable[task]}
                            for task, row in seed.rows.items()
                        },
                    }
                    for seed in one.seeds
                ],
            }
            for one in found.recipes
        ],
        "paper": [
            {
                "a": one.contrast.a,
                "b": one.contrast.b,
                "reported": [number._asdict() for number in one.paper],
                "ours": one.ours,
                "sentence": one.sentence(),
            }
            for one in found.agreements
        ],
        "rates": [
            {
                "family": one.family,
                "init": one.init,
                "rates": {f"{value:g}": rate._asdict() for value, rate in one.rates.items()},
                "best": one.best,
            }
            for one in found.chosen
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _compared(row: Comparison, detectable: float | None) -> str:
    paired = row.paired
    smallest = "none" if detectable is None else f"{100 * detectable:.0f} points"
    return (
        f"{row.a.successes} against {row.b.successes} of {row.a.n}, "
        f"{100 * paired.difference:+.0f} points (95 % {100 * paired.low:+.0f} to "
        f"{100 * paired.high:+.0f}), adjusted p = {row.adjusted:.2g}, smallest difference that "
        f"would be told {smallest}: {'they differ' if row.told else 'we cannot tell'}"
    )


def _cell(member: Member, found: Found) -> CellResult:
    won: dict[str, list[bool]] = {}
    for (task, _), row in sorted(found.rows.items()):
        won.setdefault(task, []).append(row.outcome.success)
    rates = {task: wilson(sum(some), len(some)) for task, some in won.items()}
    if len(rates) > 1:
        rates[ALL] = _overall(found)
    cell, agent = member.cell, found.agent
    return CellResult(member, found, rates, account(cell, agent), measured(cell, agent))


def _overall(found: Found) -> Rate:
    return wilson(sum(row.outcome.success for row in found.rows.values()), len(found.rows))


def _recipes(study: Study, cells: Sequence[CellResult]) -> list[RecipeResult]:
    by_place = {(one.member.level, *_block(one.member)): one for one in cells}
    blocks = dict.fromkeys(_block(one.member) for one in cells)
    places = [
        (contrast, block, some)
        for contrast in study.contrasts
        for block in blocks
        if (some := _pairs(by_place, contrast, block))
    ]
    compared = compare_several([some for *_, some in places])
    # Those over all tasks are adjusted for each other, and so are the others.
    sizes = Counter(row.task == ALL for rows in compared for row in rows)
    results: dict[tuple[Contrast, str, float], list[SeedResult]] = {
        (contrast, family, value): [] for contrast in study.contrasts for family, value, _ in blocks
    }
    for (contrast, (family, value, seed), _), rows in zip(places, compared, strict=True):
        by_task = {row.task: row for row in rows}
        # With one task, there is no row for several of them.
        by_task.setdefault(ALL, rows[0])
        detectable = {
            task: detectable_difference(row.only_a + row.only_b, row.a.n, sizes[row.task == ALL])
            for task, row in by_task.items()
        }
        results[contrast, family, value].append(SeedResult(seed, by_task, detectable))
    return [_recipe(*alike, sorted(some)) for alike, some in results.items()]


_Block = tuple[str, float, int]


def _block(member: Member) -> _Block:
    """What two cells must share to be compared."""
    return member.cell.start.family, member.cell.learning_rate, member.cell.seed


def _pairs(
    cells: Mapping[tuple[str, str, float, int], CellResult], contrast: Contrast, block: _Block
) -> list[Pair]:
    """The scenes that both levels have an episode of."""
    a, b = cells.get((contrast.a, *block)), cells.get((contrast.b, *block))
    if a is None or b is None:
        return []
    return [
        Pair(one.spec.suite, task, seed, *(Half(r.id, r.outcome.success) for r in (one, other)))
        for (task, seed), one in sorted(a.found.rows.items())
        if (other := b.found.rows.get((task, seed)))
    ]


def _recipe(
    contrast: Contrast, family: str, learning_rate: float, seeds: Sequence[SeedResult]
) -> RecipeResult:
    alike = contrast, family, learning_rate, tuple(seeds)
    differences = [one.rows[ALL].paired.difference for one in seeds]
    n = len(differences)
    if n < 2:
        middle = differences[0] if n else math.nan
        return RecipeResult(*alike, middle, math.nan, math.nan)
    reach = float(student.ppf(1 - ALPHA / 2, n - 1)) * stdev(differences) / math.sqrt(n)
    middle = mean(differences)
    return RecipeResult(*alike, middle, middle - reach, middle + reach)


def _direction(contrast: Contrast, recipes: Sequence[RecipeResult]) -> str:
    """Where every family's difference points, if all tell it."""
    mine = [one for one in recipes if one.contrast == contrast]
    if not all(one.told for one in mine):
        return ""
    signs = {one.mean > 0 for one in mine}
    return ("higher" if signs == {True} else "lower") if len(signs) == 1 else ""


def _chosen(cells: Sequence[CellResult]) -> list[Chosen]:
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for one in cells:
        start = one.member.cell.start
        groups.setdefault((start.family, start.init), []).append(one)
    found = []
    for (family, init), some in groups.items():
        rates = {
            one.member.cell.learning_rate: _overall(one.found) for one in some if not one.missing
        }
        whole = len(rates) == len(some)
        best = max(sorted(rates), key=lambda value: rates[value].successes) if whole else None
        found.append(Chosen(family, init, rates, best))
    return found
