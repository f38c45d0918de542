"""What stands on the Inspect page where no episode is asked for: some to choose from."""

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.rates import facets
from vlm4vla.episodes.rows import Row
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import NAME

_SHOWN: Final = 12
_POLICIES: Final = 4
"""Policies of which a failure in each task is shown."""


def choice(archive: Archive, recordings: Archive) -> str:
    """Recent episodes, failures of evaluations, and recordings, as links."""
    recent = archive.table.query(Filter(suite=NAME, source=("live", "rollout")), limit=_SHOWN)
    failures = Filter(suite=NAME, success=False, kind="evaluation", agent_kind="policy")
    counted = facets(archive.table, failures, ["agent"])["agent"]
    policies = sorted(counted, key=lambda agent: -counted[agent])[:_POLICIES]
    failed = [
        row
        for task in TASKS
        for policy in policies
        for row in archive.table.query(replace(failures, task=task, agent=policy), limit=1)
    ]
    recorded = recordings.table.query(limit=_SHOWN)
    parts = [
        "<h2>Choose an episode to look into</h2>",
        "<p>Step by step: what the policy saw, what it aimed at, and where it left the way that "
        "the scripted expert would have gone.</p>",
        _section("Run here", recent, "None yet: <a href='./'>run one</a>, then come back."),
        _section(
            "Failures of measured checkpoints",
            failed,
            "None are in the table yet; they are brought in when the app starts.",
        ),
        _section("Recordings", recorded, ""),
        "<p><a href='./failures'>All failures</a>, with filters.</p>",
    ]
    return f'<div class="ic">{"".join(parts)}</div>'


def _section(title: str, rows: Sequence[Row], empty: str) -> str:
    if not rows:
        return f"<h3>{title}</h3><p>{empty}</p>" if empty else ""
    return f"<h3>{title}</h3><ul>{''.join(map(_item, rows))}</ul>"


def _item(row: Row) -> str:
    mark, word = ("✓", "success") if row.outcome.success else ("✗", row.outcome.kind)
    kind = "done" if row.outcome.success else "failed"
    name = row.agent.name or row.agent.kind
    return (
        f'<li><a href="./inspect?run={html.escape(row.id)}">'
        f'<span class="ic-{kind}">{mark} {html.escape(word)}</span> '
        f"<span>“{html.escape(row.spec.instruction)}”</span> "
        f"<span>{html.escape(name)}, {html.escape(row.spec.task)} {row.spec.seed}, "
        f"{row.steps} steps</span></a></li>"
    )
