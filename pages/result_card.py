"""The result of an episode: what happened, how often it does, a video, and how to get it again."""

import base64
import json
import shlex
from pathlib import Path
from typing import Any, Final

import gradio as gr

from vlm4vla.eval.cast import EXPERT
from vlm4vla.eval.outcome import CONTROL_HZ
from vlm4vla.eval.settings import read_settings
from vlm4vla.eval.standing import Standing
from vlm4vla.eval.store import Record

_TEMPLATE: Final = """
<section class="rc" aria-label="Result" hidden>
  <video class="rc-video" controls muted playsinline preload="auto"></video>
  <div class="rc-words">
    <h2 class="rc-title"></h2>
    <p class="rc-sentence"></p>
    <dl class="rc-facts"></dl>
    <p class="rc-problem message" hidden></p>
    <p class="rc-buttons">
      <button type="button" data-copy="link">Copy link</button>
      <button type="button" data-copy="command">Copy as command</button>
      <button type="button" data-copy="python">Copy as Python</button>
      <button type="button" data-copy="client">Copy as gradio_client</button>
      <a class="rc-download" download>Save video</a>
      <span class="rc-copied" role="status"></span>
    </p>
  </div>
</section>
"""

_PYTHON: Final = """\
from vlm4vla.driver import rollout
from vlm4vla.eval.cast import Cast
from vlm4vla.eval.order import take_order
from vlm4vla.workers.simulator import SimulatorPool

order = take_order(Cast(), {arguments})
with SimulatorPool().acquire() as simulator:
    steps = list(
        rollout(
            simulator,
            order.new_driver(),
            order.choice.scene,
            order.goal,
            order.reading.sentence,
            most_steps=order.settings.most_steps,
        )
    )
print(len(steps) - 1, "steps, success:", steps[-1].observation.success)
"""

_ORIGIN: Final = "ORIGIN"
"""Stands for the address of the app, which only the browser knows."""

_CLIENT: Final = """\
from gradio_client import Client

client = Client("{origin}")
print(client.predict({arguments}, api_name="/run_episode"))
"""


def result_card() -> gr.HTML:
    """The component; its value is what `card` makes, or None for nothing."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=(Path(__file__).parent / "result_card.js").read_text(),
        apply_default_css=False,
        elem_id="result",
        elem_classes="result-card",
    )


def card(
    record: Record, known: Standing, film: str, name: str, problem: str = ""
) -> dict[str, Any]:
    """What is sent to the browser.

    Args:
        record: the episode.
        known: how often its driver does its task.
        film: its video, as `as_data_url` makes it; "" for none.
        name: what its driver is chosen by; "" if it is not here any more.
        problem: why it could not be stored.
    """
    seconds = record.steps / CONTROL_HZ
    return {
        "id": record.run_id,
        "title": "Success" if record.outcome == "success" else f"Not done: {record.outcome}",
        "sentence": record.sentence,
        "facts": [
            ["Instruction", record.instruction],
            ["Steps", f"{record.steps} ({seconds:.1f} s of the robot's time)"],
            ["Scene", f"{record.task} {record.seed}"],
            *([["Changed", record.condition]] if record.condition else []),
            ["Driver", _driver(record, name)],
            [f"Its success at “{record.goal_task}”", _share(known)],
        ],
        "film": film,
        "problem": problem,
        **(_programs(record, name) if name else {}),
    }


def _programs(record: Record, name: str) -> dict[str, str]:
    changed = read_settings(record.condition)
    values = (record.task, record.seed, record.instruction, name)
    arguments = [json.dumps(value, ensure_ascii=False) for value in values]
    words = ["vlm4vla", "rollout"]
    words += ["--expert"] if name == EXPERT else ["--checkpoint", f"checkpoints/{name}"]
    words += ["--task", record.task, "--seed", str(record.seed)]
    words += ["--instruction", record.instruction]
    if changed.most_steps:
        arguments.append(f"most_steps={changed.most_steps}")
        words += ["--most-steps", str(changed.most_steps)]
    if changed.execute:
        arguments.append(f"execute={changed.execute}")
        words += ["--execute", str(changed.execute)]
    joined = ", ".join(arguments)
    return {
        "command": shlex.join([*words, "--out", "rollout"]),
        "python": _PYTHON.format(arguments=joined),
        "client": _CLIENT.format(origin=_ORIGIN, arguments=joined),
    }


def _driver(record: Record, name: str) -> str:
    if record.driver == EXPERT:
        return EXPERT
    return f"{name or 'a checkpoint'}, hash {record.driver}"


def as_data_url(video: bytes | Path) -> str:
    """A video that a page can hold: no file is served."""
    content = video if isinstance(video, bytes) else video.read_bytes()
    return "data:video/mp4;base64," + base64.b64encode(content).decode()


def _share(known: Standing) -> str:
    rate = known.rate
    if not rate.n:
        return "not measured yet"
    return (
        f"{rate.successes} of {rate.n} "
        f"(95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %) {known.source}"
    )
