"""The matrix, and the episodes of a cell, as HTML."""

import csv
import html
import io
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode

from pages.csv_link import csv_link
from vlm4vla.ablation.matrix import PICTURE_ROWS, SENTENCE_COLUMNS, Cell, short
from vlm4vla.ablation.registry import PERTURBATIONS
from vlm4vla.ablation.summary import floor_of, losses
from vlm4vla.episodes.rows import Row
from vlm4vla.eval.labelling import Query
from vlm4vla.eval.tally import ALL, condition_text
from vlm4vla.statistics import Rate
from vlm4vla.suites.tabletop.scene import TASKS

_MOST_EPISODES: Final = 200
"""Episodes of a cell that are listed; its file holds all."""


_PAIRED: Final = ("difference", "difference_low", "difference_high", "p")

_BESIDE: Final = "Run it live beside the intact run"
_BESIDE_EXPERT: Final = "Run it live beside the expert"


def command(checkpoint: str, tasks: Sequence[str]) -> str:
    """The command that measures the whole matrix."""
    return (
        f"vlm4vla ablate --checkpoint {checkpoint} --tasks {' '.join(tasks)} "
        "--grid picture sentence"
    )


def key_of(row: int, column: int) -> str:
    """What a cell is called in the address."""
    return f"{row}-{column}"


Live = Callable[[Cell, Row | None], str]
"""Where a cell's condition is run live beside the intact policy, in an episode's scene or in the
one that tells most; "" where it cannot be run."""


class Mark(NamedTuple):
    """A point of a chart.

    Attributes:
        text: which, for people.
        cell: what was measured there.
        href: where its episodes are shown.
        value: its place on the chart's axis; None where that holds names.
    """

    text: str
    cell: Cell
    href: str
    value: float | None = None


def matrix_html(cells: Sequence[Sequence[Cell]], chosen: str, live: Live) -> str:
    """The matrix as a table of buttons, each with a link that runs its condition.

    Args:
        cells: of `vlm4vla.ablation.matrix.matrix`.
        chosen: the key of the cell whose episodes are shown; "" for none.
        live: the links' addresses.
    """
    floor = floor_of(cells)
    chance = floor.rate if floor and floor.rate.n else None
    head = "".join(f'<th scope="col">{html.escape(short(one))}</th>' for one in SENTENCE_COLUMNS)
    lines = []
    for i, (picture, row) in enumerate(zip(PICTURE_ROWS, cells, strict=True)):
        found = "".join(
            f"<td>{_button(cell, key_of(i, j), chosen, chance, cell is floor)}"
            f"{_live(live(cell, None), 'live', _title(cell))}</td>"
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
        f"{csv_link('matrix.csv', _csv(_matrix_csv(cells)), 'Matrix as CSV', css='ab-csv')}"
    )


def episodes_html(cell: Cell, checkpoint: str, tasks: Sequence[str], live: Live) -> str:
    """The episodes of a cell of the matrix, or the command that would run them."""
    title = _title(cell)
    if not cell.rate.n:
        line = html.escape(command(checkpoint, tasks))
        return (
            f"<h3>{html.escape(title)}: not run</h3>"
            "<p>This runs it, in the same scenes as the rest:</p>"
            f'<pre tabindex="0"><code>{line}</code></pre>'
        )
    return _episodes(title, cell, live, "the matrix")


def _episodes(title: str, cell: Cell, live: Live, family: str) -> str:
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
            f"(exact McNemar test, Holm over {family})"
        )
    items = "".join(episode_item(row, live(cell, row)) for row in cell.rows[:_MOST_EPISODES])
    more = len(cell.rows) - _MOST_EPISODES
    rest = f"The first {_MOST_EPISODES} of {len(cell.rows)}. " if more > 0 else ""
    every = html.escape(_wall(cell), quote=True)
    rest = (
        f'<p>{rest}<a class="ab-all" href="{every}">All episodes of this condition</a>, as cards '
        "with what went wrong.</p>"
    )
    return (
        f"<h3>{html.escape(title)}</h3><p>{html.escape('; '.join(facts))}.</p>"
        f"{_live(live(cell, None), _BESIDE if cell.paired else _BESIDE_EXPERT, title)}"
        f'<ul class="ab-episodes" tabindex="0" aria-label="Episodes">{items}</ul>{rest}'
    )


def _wall(cell: Cell) -> str:
    """Where all episodes of a cell's agent and tasks under its condition are shown."""
    tasks = sorted({row.goal_task for row in cell.rows})
    return "failures?" + urlencode(
        Query(
            kind=ALL,
            label=(ALL,),
            agent=(cell.rows[0].agent.digest,),
            condition=(condition_text(cell.condition),),
            task=() if len(tasks) == len(TASKS) else tuple(tasks),
        ).to_address()
    )


def points_html(marks: Sequence[Mark], chosen: str, column: str, name: str, live: Live) -> str:
    """The points of a chart as links, the episodes of one of them, and the numbers as a file.

    Args:
        marks: the points.
        chosen: address of the point whose episodes are shown; "" for none.
        column: what the file calls the points.
        name: of the file, without its suffix.
        live: see `matrix_html`.
    """
    current = ' aria-current="true"'
    links = "".join(
        f'<li><a class="ab-point" href="{html.escape(one.href, quote=True)}"'
        f"{current if one.href == chosen else ''}><b>{html.escape(one.text)}</b> "
        f"{html.escape(rate_text(one.cell.rate))}</a></li>"
        for one in marks
    )
    shown = next((one for one in marks if one.href == chosen), None)
    below = ""
    if shown:
        listed = _episodes(shown.text.capitalize(), shown.cell, live, "this chart's points")
        below = f'<section id="point">{listed}</section>'
    said = html.escape(losses([(one.text, one.cell) for one in marks]))
    content = _csv(_points_csv(marks, column))
    numbers = csv_link(f"{name}.csv", content, "These numbers as CSV", css="ab-csv")
    return (
        f'<p class="ab-loss">{said}</p>'
        f'<ul class="ab-points" aria-label="Points: press one for its episodes">{links}</ul>'
        f"{numbers}{below}"
    )


def _points_csv(marks: Sequence[Mark], column: str) -> list[list[str]]:
    rows = [[column, "successes", "n", "rate", "low", "high", *_PAIRED]]
    for one in marks:
        paired, p = one.cell.paired, one.cell.p
        told = [f"{v:.4f}" for v in paired] if paired else [""] * 3
        told.append(f"{p:.4g}" if p is not None else "")
        name = one.text if one.value is None else f"{one.value:g}"
        rows.append([name, *_numbers(one.cell.rate), *told])
    return rows


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


def _live(href: str, text: str, about: str) -> str:
    """A link that runs a condition live; `about` tells apart those with the same text."""
    if not href:
        return ""
    return (
        f'<a class="ab-live" href="{html.escape(href, quote=True)}" '
        f'aria-label="{text}: {html.escape(about, quote=True)}">'
        f'<span aria-hidden="true">▶</span> <b>{text}</b></a>'
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


def episode_item(row: Row, live: str = "") -> str:
    """An episode as an item of a list, which opens it.

    Args:
        row: of the episode.
        live: where its scene is run again; "" for no such link.
    """
    verdict = "success" if row.outcome.success else row.outcome.kind
    kind = "done" if row.outcome.success else "failed"
    return (
        f'<li><a href="inspect?run={row.id}"><span class="ab-verdict" data-kind="{kind}">'
        f"{html.escape(verdict)}</span> {html.escape(row.spec.task)} {row.spec.seed}: "
        f"{html.escape(row.spec.instruction)}</a>"
        f"{_live(live, 'live', f'{row.spec.task} {row.spec.seed}')}</li>"
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


def _csv(rows: Sequence[Sequence[str]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()
