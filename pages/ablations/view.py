"""The matrix, and the episodes of a cell, as HTML."""

import base64
import csv
import html
import io
from collections.abc import Sequence
from typing import Final

from vlm4vla.ablation.curves import Point
from vlm4vla.ablation.matrix import PICTURE_ROWS, SENTENCE_COLUMNS, Cell, short
from vlm4vla.ablation.registry import PERTURBATIONS
from vlm4vla.ablation.summary import floor_of
from vlm4vla.episodes.rows import Row
from vlm4vla.statistics import Rate

_MOST_EPISODES: Final = 200
"""Episodes of a cell that are listed; its file holds all."""


def command(checkpoint: str, tasks: Sequence[str]) -> str:
    """The command that measures the whole matrix."""
    return (
        f"vlm4vla ablate --checkpoint {checkpoint} --tasks {' '.join(tasks)} "
        "--grid picture sentence"
    )


def key_of(row: int, column: int) -> str:
    """What a cell is called in the address."""
    return f"{row}-{column}"


def matrix_html(cells: Sequence[Sequence[Cell]], chosen: str) -> str:
    """The matrix as a table of buttons.

    Args:
        cells: of `vlm4vla.ablation.matrix.matrix`.
        chosen: the key of the cell whose episodes are shown; "" for none.
    """
    floor = floor_of(cells)
    chance = floor.rate if floor and floor.rate.n else None
    head = "".join(f'<th scope="col">{html.escape(short(one))}</th>' for one in SENTENCE_COLUMNS)
    lines = []
    for i, (picture, row) in enumerate(zip(PICTURE_ROWS, cells, strict=True)):
        found = "".join(
            f"<td>{_button(cell, key_of(i, j), chosen, chance, cell is floor)}</td>"
            for j, cell in enumerate(row)
        )
        lines.append(f'<tr><th scope="row">{html.escape(short(picture))}</th>{found}</tr>')
    mark = (
        f'<p class="ab-legend"><span class="ab-chance-key"></span> chance: {rate_text(chance)}, '
        "with a blank picture and no sentence</p>"
        if chance
        else '<p class="ab-legend">Chance was not measured.</p>'
    )
    return (
        '<div class="ab-scroll" role="region" aria-label="Success by picture and sentence" '
        'tabindex="0"><table class="ab-matrix"><caption>Success, by what became of the picture '
        "(rows) and of the sentence (columns)</caption>"
        f"<thead><tr><td></td>{head}</tr>"
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>{mark}"
        f"{_download('matrix.csv', _matrix_csv(cells), 'Matrix as CSV')}"
    )


def episodes_html(cell: Cell, checkpoint: str, tasks: Sequence[str]) -> str:
    """The episodes of a cell, or the command that would run them."""
    title = html.escape(_title(cell))
    if not cell.rate.n:
        line = html.escape(command(checkpoint, tasks))
        return (
            f"<h3>{title}: not run</h3><p>This runs it, in the same scenes as the rest:</p>"
            f'<pre tabindex="0"><code>{line}</code></pre>'
        )
    facts = [
        f"success {rate_text(cell.rate)}",
        f"another object moved {rate_text(cell.wrong_object)}",
    ]
    if cell.other_goal:
        facts.append(f"the told object's goal done {rate_text(cell.other_goal)}")
    if cell.paired and cell.p is not None:
        points = [100 * v for v in (cell.paired.difference, cell.paired.low, cell.paired.high)]
        facts.append(
            f"against the intact policy on the same scenes {points[0]:+.0f} points "
            f"(95 % {points[1]:+.0f} to {points[2]:+.0f}), p = {cell.p:.2g} "
            "(exact McNemar test, Holm over the matrix)"
        )
    items = "".join(episode_item(row) for row in cell.rows[:_MOST_EPISODES])
    more = len(cell.rows) - _MOST_EPISODES
    rest = f"<p>{more} more stand in the table of episodes.</p>" if more > 0 else ""
    return (
        f"<h3>{title}</h3><p>{html.escape('; '.join(facts))}.</p>"
        f'<ul class="ab-episodes" tabindex="0" aria-label="Episodes">{items}</ul>{rest}'
    )


def curve_csv(points: Sequence[Point], number: str) -> str:
    """A link that holds the numbers behind a curve."""
    rows = [[number, "successes", "n", "rate", "low", "high"]]
    rows += [[str(point.value), *_numbers(point.cell.rate)] for point in points]
    return _download(f"{number}.csv", rows, "These numbers as CSV")


def _button(cell: Cell, key: str, chosen: str, chance: Rate | None, floor: bool) -> str:
    pressed = "true" if key == chosen else "false"
    name = html.escape(_title(cell), quote=True)
    if not cell.rate.n:
        return (
            f'<button type="button" class="ab-cell ab-hollow" data-cell="{key}" '
            f'aria-pressed="{pressed}" aria-label="{name}: not run">not run</button>'
        )
    rate = cell.rate
    bar = (
        f'<span class="ab-bar" aria-hidden="true">'
        f'<span class="ab-range" style="left:{100 * rate.low:.1f}%;'
        f'width:{100 * (rate.high - rate.low):.1f}%"></span>'
        f'<span class="ab-tick" style="left:{100 * rate.rate:.1f}%"></span>'
    )
    if chance:
        bar += f'<span class="ab-chance" style="left:{100 * chance.rate:.1f}%"></span>'
    own = '<span class="ab-note">chance</span>' if floor else ""
    if cell.other_goal:
        own = f'<span class="ab-note">told goal {100 * cell.other_goal.rate:.0f} %</span>'
    return (
        f'<button type="button" class="ab-cell" data-cell="{key}" aria-pressed="{pressed}" '
        f'style="--share:{rate.rate:.3f}" aria-label="{name}: {html.escape(rate_text(rate))}">'
        f'<span class="ab-rate">{100 * rate.rate:.0f} %</span>'
        f'<span class="ab-of">{rate.successes} of {rate.n} '
        f"({100 * rate.low:.0f} to {100 * rate.high:.0f} %)</span>{bar}</span>{own}</button>"
    )


def _title(cell: Cell) -> str:
    changes = cell.condition.perturbations
    if not changes:
        return "Picture and sentence kept"
    places = {"picture": "picture kept", "sentence": "sentence kept"}
    for one in changes:
        place = PERTURBATIONS.get(one.name).place
        places[place] = f"{place} {short(one)}"
    return ", ".join(places.values()).capitalize()


def episode_item(row: Row) -> str:
    """An episode as an item of a list, which opens it."""
    verdict = "success" if row.outcome.success else row.outcome.kind
    kind = "done" if row.outcome.success else "failed"
    return (
        f'<li><a href="inspect?run={row.id}"><span class="ab-verdict" data-kind="{kind}">'
        f"{html.escape(verdict)}</span> {html.escape(row.spec.task)} {row.spec.seed}: "
        f"{html.escape(row.spec.instruction)}</a></li>"
    )


def rate_text(rate: Rate) -> str:
    """A rate with its interval."""
    return f"{rate.successes} of {rate.n} (95 % {100 * rate.low:.0f} to {100 * rate.high:.0f} %)"


def _numbers(rate: Rate) -> list[str]:
    return [str(rate.successes), str(rate.n), *(f"{v:.4f}" for v in rate[2:])]


def _matrix_csv(cells: Sequence[Sequence[Cell]]) -> list[list[str]]:
    rows = [["condition", "successes", "n", "rate", "low", "high", "told_goal_done", "p"]]
    for line in cells:
        for cell in line:
            told = str(cell.other_goal.successes) if cell.other_goal else ""
            p = f"{cell.p:.4g}" if cell.p is not None else ""
            rows.append([cell.condition.label or "intact", *_numbers(cell.rate), told, p])
    return rows


def _download(name: str, rows: Sequence[Sequence[str]], text: str) -> str:
    """A link that holds its file, so that none is served."""
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    content = base64.b64encode(written.getvalue().encode()).decode()
    return (
        f'<a class="ab-csv" download="{html.escape(name)}" '
        f'href="data:text/csv;base64,{content}">{html.escape(text)}</a>'
    )
