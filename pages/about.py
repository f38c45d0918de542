"""The About page: the method, what is measured, this machine, limits, licences."""

import html
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import gradio as gr

from pages.services import Services
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.statistics import wilson
from vlm4vla.suites.tabletop.tasks import CONDITIONS, TIME_LIMIT
from vlm4vla.system import doctor
from vlm4vla.system.doctor import Check

_SHOWN: Final = ("Python", "Vulkan", "test render", "memory", "bf16", "accelerator")
"""The checks that tell a visitor something; the others name folders of the server."""

_METHOD: Final = """\
# About

A vision-language model (VLM) reads a picture and a sentence. VLM4VLA turns one into a robot
policy with as little as possible: one learned token, the **action query**, is appended to the
prompt; what the VLM makes of it goes through a small head, and out come the next actions. The two
parts that are added are drawn in blue.
"""

_AFTER: Final = """\
- **Picture**: one camera, 128 x 128 pixels, looking down at the table.
- **Actions**: seven numbers each, 20 times a second: how far the gripper moves (x, y, z) and
  turns, and whether it closes. Several are carried out before the next inference.
- **Agent**: a *policy* sees the picture and the sentence, nothing else. The *scripted expert*
  reads the true positions from the simulator instead; it makes the training data and shows
  what can be done. The page always says which of the two acts.
- **Live**: physics and pictures are computed while you watch, at most 15 steps a second here. A
  recording says so.

## What counts as success

The simulator's true state decides, never a picture. Every scene holds several objects and places,
so only the sentence says what to do. The same scene number is always the same scene.
"""

_LIMITS: Final = """\
## Limits

- The scripted expert understands the sentences that the page offers, and their paraphrases, and
  nothing else.
- Everything is simulated; nothing here has been tried on a real robot.
- A policy's success rate comes with its checkpoint, from scenes that were drawn, not picked;
  where there is none, the episodes kept here are counted, and the result says so.
- A finished episode is kept on this server, with its sentence and without anything about you,
  until newer ones need the space. One that you stop is not kept.

## Licences

VLM4VLA is Apache-2.0. The robot and the table come with the installed ManiSkill package, whose
assets are CC BY-NC 4.0: pictures and videos of them are for non-commercial use. What else it is
built on stands in the file `NOTICE`.
"""

_HOW: Final = (
    "<code>vlm4vla eval</code> runs a checkpoint in scenes that training never sees, with "
    "sentences that it never sees; the intervals are Wilson's. The result travels in the "
    "checkpoint. Everything else that was measured stands in <code>docs/results.md</code>, each "
    "figure with its command."
)

_lock = threading.Lock()
_found: list[Check] = []


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out.

    Args:
        page: the `gr.Blocks` of this page.
        services: what it is built from.
    """
    catalogue = services.catalogue
    gr.Markdown(_METHOD)
    gr.HTML(_drawing())
    gr.Markdown(_AFTER + _tasks())
    gr.Markdown("## What was measured")
    measured = gr.HTML(_measured(catalogue), elem_classes="figure", elem_id="measured")
    gr.Markdown("## This machine")
    machine = gr.HTML("<p>Looking …</p>", elem_id="machine")
    gr.Markdown(_LIMITS)

    def look_around() -> Iterator[str]:
        yield _table(_checks())

    def measure() -> str:
        return _measured(catalogue)

    page.load(measure, outputs=measured, show_progress="hidden", api_visibility="private")
    page.load(look_around, outputs=machine, show_progress="hidden", api_visibility="private")


def _drawing() -> str:
    """The data flow, lying, and upright for a narrow screen; the page shows one of them."""
    folder = Path(__file__).parent
    wide, narrow = ((folder / f"method{end}.svg").read_text() for end in ("", "_narrow"))
    return f'<div class="method-wide">{wide}</div><div class="method-narrow">{narrow}</div>'


def _checks() -> list[Check]:
    # Once for all visitors: the test render takes seconds of everybody's processor time.
    with _lock:
        if not _found:
            _found.extend(check for check in doctor.run_checks() if check.name in _SHOWN)
        return list(_found)


def _tasks() -> str:
    rows = []
    for name in CONDITIONS:
        condition = " ".join((CONDITIONS.get(name).__doc__ or "").split())
        steps = {str(task): limit for task, limit in TIME_LIMIT.items()}[name]
        rows.append(f"| {name} | {condition} | {steps} |")
    return "\n| task | succeeds when | steps |\n|---|---|---|\n" + "\n".join(rows)


def _measured(catalogue: AgentCatalogue) -> str:
    rows = []
    for name in catalogue.names():
        for task, row in catalogue.evaluation(name).get("tasks", {}).items():
            rate = wilson(row["successes"], row["n"])
            cells = (
                name,
                task,
                f"{rate.successes} of {rate.n}",
                f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %",
            )
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    if not rows:
        return f"<p>No checkpoint here has been evaluated yet. {_HOW}</p>"
    head = "".join(f"<th>{name}</th>" for name in ("checkpoint", "task", "success", "95 %"))
    lines = "".join(f"<tr>{row}</tr>" for row in (head, *rows))
    return f"<p>{_HOW}</p><table>{lines}</table>"


def _table(checks: list[Check]) -> str:
    rows = [
        f"<tr><th scope='row'>{html.escape(check.name)}</th>"
        f"<td>{html.escape(check.detail)}</td></tr>"
        for check in checks
    ]
    return f"<table>{''.join(rows)}</table>"
