"""The About page: the method, what is measured, paper and data, limits, licences, this machine."""

import html
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import gradio as gr

from pages.services import Services
from pages.whiskers import rate_bar
from vlm4vla.agents.facts import on_known_sentences
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.rates import evaluated
from vlm4vla.statistics import Rate, wilson
from vlm4vla.suites.tabletop.suite import BROAD
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
- **Keys**: 1 to 7 open the pages, in the order of the bar; Escape stops a run; the arrows step
  through an inspected episode.

## What counts as success

The simulator's true state decides, never a picture. Every scene holds several objects and places,
so only the sentence says what to do. The same scene number is always the same scene.
"""

_PAPER: Final = """\
## The paper

The method, and most of what the Ablations and Encoders pages ask, are those of *VLM4VLA:
Revisiting Vision-Language-Models in Vision-Language-Action Models* (ICLR 2026):
[arXiv 2601.03309](https://arxiv.org/abs/2601.03309), [its own
code](https://github.com/CladernyJorn/VLM4VLA). What is measured here is measured here, with far
smaller models and on this table; the paper's own numbers stand at the end of the Ablations page.

```bibtex
@inproceedings{zhang2026vlm4vla,
  title     = {{VLM4VLA}: Revisiting Vision-Language-Models in Vision-Language-Action Models},
  author    = {Zhang, Jianke and Chen, Xiaoyu and Wang, Qiuyue and Li, Mingsheng and
               Guo, Yanjiang and Hu, Yucheng and Zhang, Jiajun and Bai, Shuai and
               Lin, Junyang and Chen, Jianyu},
  booktitle = {International Conference on Learning Representations},
  year      = {2026},
  note      = {arXiv:2601.03309}
}
```

## The data

The policies learned from the scripted expert in simulated scenes whose numbers no evaluation uses:
7,000 episodes with 151,185 pictures to begin with, then rounds in which the policy acted and the
expert said what it would have done. Every picture is labelled for every sentence that has a
meaning in its scene, so a sentence cannot be ignored. `vlm4vla collect` makes them again, in the
layout of LeRobotDataset v3.0; what they hold stands in `docs/data.md`. No picture or action of a
real robot is among them.
"""

_LIMITS: Final = """\
## Limits

- The scripted expert does what the line below a sentence says that it was read as, and nothing
  where it was read as nothing. A policy is given the sentence as it stands.
- Everything is simulated; nothing here has been tried on a real robot.
- A policy's success rate comes with its checkpoint, from scenes that were drawn, not picked;
  where there is none, the episodes kept here are counted, and the result says so.
- A finished episode is kept on this server, with its sentence and without anything about you;
  its film until newer ones need the space. One that you stop is not kept.

## Licences

VLM4VLA is Apache-2.0. The robot and the table come with the installed ManiSkill package, whose
assets are CC BY-NC 4.0: pictures and videos of them are for non-commercial use. What else it is
built on stands in the file `NOTICE`.
"""

_HOW: Final = (
    "<code>vlm4vla eval</code> runs a checkpoint in scenes that training never sees. <b>Known</b> "
    "sentences say things as the page offers them, in words held out of training; <b>broad</b> "
    "ones (<code>--words broad</code>) are of the whole language, with synonyms and with things "
    "named by colour alone or by where they stand, which not every policy was taught. A bar is "
    "from 0 to 100 %, its mark the rate, the strip about it Wilson's 95 % interval. Compare and "
    "Failures count the episodes that are kept here; where those were recorded on another kind of "
    "processor, which rounds sums otherwise, a few of a hundred end otherwise. "
    "Everything else that was measured stands in <code>docs/results.md</code>, each figure "
    "with its command."
)

_lock = threading.Lock()
_found: list[Check] = []


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out.

    Args:
        page: the `gr.Blocks` of this page.
        services: what it is built from.
    """
    gr.Markdown(_METHOD)
    gr.HTML(_drawing())
    gr.Markdown(_AFTER + _tasks())
    gr.Markdown("## What was measured")
    measured = gr.HTML("<p>Looking …</p>", elem_classes="figure", elem_id="measured")
    gr.Markdown(_PAPER, elem_id="cite")
    gr.Markdown(_LIMITS)
    machine = gr.HTML(_folded("<p>Looking …</p>"), elem_id="machine")

    def look_around() -> Iterator[str]:
        yield _folded(_table(_checks()))

    def measure() -> str:
        return measured_html(services)

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


def measured_html(services: Services) -> str:
    """Every checkpoint's rates, known sentences beside broad ones, with their intervals."""
    bodies = ""
    for name in services.catalogue.names():
        published = on_known_sentences(services.catalogue.evaluation(name))
        known = {
            task: wilson(row["successes"], row["n"])
            for task, row in published.get("tasks", {}).items()
        }
        if not known:
            continue
        digest = str(published.get("checkpoint", ""))
        broad = evaluated(services.archive.table, digest, condition=Condition(words=BROAD))
        rows = [("all", _together(known), _together(broad))]
        rows += [(task, rate, broad.get(task)) for task, rate in known.items()]
        head = f'<tr><th scope="rowgroup" colspan="3">{html.escape(name)}</th></tr>'
        lines = "".join(
            f'<tr><th scope="row">{html.escape(task)}</th>'
            f"<td>{_rate(a)}</td><td>{_rate(b)}</td></tr>"
            for task, a, b in rows
        )
        bodies += f"<tbody>{head}{lines}</tbody>"
    if not bodies:
        return f"<p>No checkpoint here has been evaluated yet. {_HOW}</p>"
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("known", "broad"))
    return (
        f"<p>{_HOW}</p><table><caption>Success by task and kind of sentence</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead>{bodies}</table>"
    )


def _together(rates: Mapping[str, Rate]) -> Rate | None:
    """The rate over all tasks; None where there are none."""
    if not rates:
        return None
    return wilson(
        sum(one.successes for one in rates.values()), sum(one.n for one in rates.values())
    )


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "not measured"
    interval = f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"
    return f"{rate.successes} of {rate.n} <small>({interval})</small>{rate_bar(rate)}"


def _folded(inside: str) -> str:
    return f"<details><summary>This machine</summary>{inside}</details>"


def _table(checks: list[Check]) -> str:
    rows = [
        f"<tr><th scope='row'>{html.escape(check.name)}</th>"
        f"<td>{html.escape(check.detail)}</td></tr>"
        for check in checks
    ]
    return f"<table>{''.join(rows)}</table>"
