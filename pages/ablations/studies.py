"""The paper's studies as HTML: a table each, and the episodes of a cell."""

import html
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from pages.ablations.view import episode_item, rate_text
from pages.whiskers import rate_bar
from vlm4vla.statistics import Rate
from vlm4vla.studies.paper import direction
from vlm4vla.studies.predictor import QUESTION, Prediction
from vlm4vla.studies.report import ALL, Agreement, CellResult, Report

CELL: Final = "study-cell"
"""What a cell's name is called in the address."""

_SHOWN: Final = ("table", "read-off-chart")
"""How a number of the paper must be known to stand beside ours."""


def studies_html(found: Sequence[Report], told: Sequence[Prediction], chosen: str) -> str:
    """Every study: its question, what it says, and a table of its cells.

    Args:
        found: the studies.
        told: what numbers before training say of success.
        chosen: name of the cell whose episodes are shown; "" for none.
    """
    key = (
        '<p class="ab-legend">● measured here, with its 95 % interval &nbsp; ○ not run &nbsp; '
        "◇ the paper, on its own benchmarks: directions alone can be compared</p>"
    )
    studies = "".join(_study(one, chosen) for one in found)
    return key + studies + _predictors(told) + _cell(found, chosen)


def _predictors(told: Sequence[Prediction]) -> str:
    declared, others = (
        [one for one in told if one.declared],
        [one for one in told if not one.declared],
    )
    folded = (
        '<details class="st-more"><summary>And '
        f"{len(others)} exploratory ones, of other layers</summary>{_told(others)}</details>"
        if others
        else ""
    )
    return (
        f'<section id="predictors"><h3>{html.escape(QUESTION)}</h3>{_told(declared)}{folded}'
        "</section>"
    )


def _told(some: Sequence[Prediction]) -> str:
    items = "".join(f"<li>{html.escape(one.sentence())}</li>" for one in some)
    return f'<ul class="st-said">{items}</ul>'


def _study(found: Report, chosen: str) -> str:
    study = found.study
    said = [one.sentence() for one in found.chosen if one.rates]
    said += [one.sentence() for one in found.recipes if one.seeds]
    if said:
        said += [one.sentence() for one in found.agreements if one.paper]
        answer = "".join(f"<li>{html.escape(one)}</li>" for one in said)
        answer = f'<ul class="st-said">{answer}</ul>'
    else:
        line = f"vlm4vla study run {study.name} --data CACHE"
        answer = f"<p>Not run yet. This runs it: <code>{html.escape(line)}</code></p>"
    columns = list(dict.fromkeys(one.member.cell.seed for one in found.cells))
    heads = "".join(f'<th scope="col">training seed {seed}</th>' for seed in columns)
    beside = {one.contrast.a: one for one in found.agreements}
    if beside:
        heads += '<th scope="col">the paper</th>'
    rows: dict[tuple[str, str, float], dict[int, CellResult]] = {}
    for one in found.cells:
        cell = one.member.cell
        place = (one.member.level, cell.start.family, cell.learning_rate)
        rows.setdefault(place, {})[cell.seed] = one
    run, missing = "", ""
    for (level, family, value), cells in rows.items():
        about = html.escape(f"{level}, {family} at {value:g}")
        row = f'<tr><th scope="row">{about}</th>'
        row += "".join(
            f"<td>{_point(cells[seed], chosen) if seed in cells else ''}</td>" for seed in columns
        )
        row += (f"<td>{_paper(beside.get(level))}</td>" if beside else "") + "</tr>"
        if any(_overall(one) for one in cells.values()):
            run += row
        else:
            missing += row
    about = html.escape(study.question, quote=True)
    table = _table("Success over all tasks, a policy a cell", about, heads, run) if run else ""
    if missing:
        count, open_ = missing.count("<tr>"), " open" if 'aria-current="true"' in missing else ""
        table += (
            f'<details class="st-more"{open_}><summary>○ {count} of {len(rows)} rows not run'
            f"</summary>{_table('Not run', f'Not run: {about}', heads, missing)}</details>"
        )
    return (
        f'<section id="study-{study.name}"><h3>{html.escape(study.question)}</h3>{answer}{table}'
        "</section>"
    )


def _table(caption: str, about: str, heads: str, body: str) -> str:
    return (
        f'<div class="ab-scroll" role="region" aria-label="{about}" tabindex="0">'
        f'<table class="st-table"><caption>{caption}</caption><thead><tr><td></td>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _point(found: CellResult, chosen: str) -> str:
    name, label = found.member.cell.name, html.escape(found.member.label)
    href = f"ablations?{urlencode({CELL: name})}#{CELL}"
    current = ' aria-current="true"' if name == chosen else ""
    rate = _overall(found)
    if rate is None:
        return (
            f'<a class="st-point st-hollow" href="{href}"{current} '
            f'aria-label="{label}: not run">○ not run</a>'
        )
    some = f", {found.missing} missing" if found.missing else ""
    return (
        f'<a class="st-point" href="{href}"{current} aria-label="{label}: '
        f'{html.escape(rate_text(rate))}{some}">● {rate.successes} of {rate.n}{some}'
        f"{rate_bar(rate)}</a>"
    )


def _paper(found: Agreement | None) -> str:
    """Where the paper's numbers on a level point, with the numbers on hover."""
    if found is None:
        return ""
    known = [one for one in found.paper if one.confidence in _SHOWN]
    if not known:
        return "quoted by others only" if found.paper else "no number"
    lower = sum(one.delta < 0 for one in known)
    numbers = "; ".join(f"{one.model}, {one.benchmark}: {one.delta:+g}" for one in known)
    sources = ", ".join(dict.fromkeys(one.source for one in known))
    title = html.escape(f"{numbers} ({sources})", quote=True)
    points = {"mixed": "both ways"}.get(direction(known), direction(known))
    return f'<span title="{title}">◇ {points} ({lower} of {len(known)} lower), {sources}</span>'


def _cell(found: Sequence[Report], chosen: str) -> str:
    """What is known about a cell, and its episodes."""
    places = [
        (report, one) for report in found for one in report.cells if one.member.cell.name == chosen
    ]
    if not places:
        return ""
    report, one = places[0]
    cell = one.member.cell
    line = f"vlm4vla study run {report.study.name} --cells {cell.name} --data CACHE"
    rates = ", ".join(f"{task} {rate_text(rate)}" for task, rate in one.rates.items())
    facts = [
        f"success: {rates}" if rates else "not run",
        f"learned: {', '.join(cell.groups)}",
        f"scenes {cell.scenes.seeds[0]} to {cell.scenes.seeds[-1]} of each task",
    ]
    if one.account:
        sizes = one.account["parameters"].values()
        facts.append(f"{sum(size['trainable'] for size in sizes):,} parameters trained")
    gauged = one.measures.sentences() if one.measures else []
    measures = f"<p>Measured: {html.escape('; '.join(gauged))}.</p>" if gauged else ""
    items = "".join(episode_item(row) for _, row in sorted(one.found.rows.items()))
    listed = (
        f'<ul class="ab-episodes" tabindex="0" aria-label="Episodes">{items}</ul>' if items else ""
    )
    return (
        f'<section id="{CELL}"><h3>{html.escape(one.member.label)}</h3>'
        f"<p>{html.escape('; '.join(facts))}.</p>{measures}"
        f'<pre tabindex="0"><code>{html.escape(line)}</code></pre>{listed}</section>'
    )


def _overall(found: CellResult) -> Rate | None:
    """Success over all tasks; None where nothing ran."""
    return found.rates.get(ALL) or next(iter(found.rates.values()), None)
