"""The paper's studies as HTML: a table each, and the episodes of a cell."""

import html
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from pages.ablations.view import episode_item, rate_text
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
    said = "".join(f"<li>{html.escape(one.sentence())}</li>" for one in told)
    question = html.escape(QUESTION)
    return f'<section id="predictors"><h3>{question}</h3><ul class="st-said">{said}</ul></section>'


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
    body = ""
    for (level, family, value), cells in rows.items():
        about = html.escape(f"{level}, {family} at {value:g}")
        body += f'<tr><th scope="row">{about}</th>'
        body += "".join(
            f"<td>{_point(cells[seed], chosen) if seed in cells else ''}</td>" for seed in columns
        )
        body += (f"<td>{_paper(beside.get(level))}</td>" if beside else "") + "</tr>"
    return (
        f'<section id="study-{study.name}"><h3>{html.escape(study.question)}</h3>{answer}'
        f'<div class="ab-scroll" role="region" aria-label="{html.escape(study.question)}" '
        'tabindex="0"><table class="st-table"><caption>Success over all tasks, a policy a cell'
        f"</caption><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        "</section>"
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
        f'<span class="ab-bar" aria-hidden="true"><span class="ab-range" '
        f'style="left:{100 * rate.low:.1f}%;width:{100 * (rate.high - rate.low):.1f}%"></span>'
        f'<span class="ab-tick" style="left:{100 * rate.rate:.1f}%"></span></span></a>'
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
