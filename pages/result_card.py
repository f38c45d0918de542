"""The result of an episode: what happened, how often it does, a video, and how to get it again."""

import base64
import json
import shlex
from pathlib import Path
from typing import Any, Final

import gradio as gr

from vlm4vla.eval.outcome import CONTROL_HZ
from vlm4vla.eval.store import Record
from vlm4vla.statistics import Rate

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
from vlm4vla.driver import ExpertDriver, rollout
from vlm4vla.eval.choice import choose
from vlm4vla.eval.instruction import read
from vlm4vla.sim.worker import SimulatorPool

scene = choose({task}, {seed}).scene
reading = read({instruction}, scene)
with SimulatorPool().acquire() as simulator:
    steps = list(rollout(simulator, ExpertDriver(), scene, reading.goal, reading.sentence))
print(len(steps) - 1, "steps, success:", steps[-1].observation.success)
"""

_ORIGIN: Final = "ORIGIN"
"""Stands for the address of the app, which only the browser knows."""

_CLIENT: Final = """\
from gradio_client import Client

client = Client("{origin}")
print(client.predict({task}, {seed}, {instruction}, api_name="/run_episode"))
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


def card(record: Record, rate: Rate, film: str, problem: str = "") -> dict[str, Any]:
    """What is sent to the browser.

    Args:
        record: the episode.
        rate: successes of its driver on its task.
        film: its video, as `as_data_url` makes it.
        problem: why it could not be stored.
    """
    seconds = record.steps / CONTROL_HZ
    asked = {
        "task": json.dumps(record.task),
        "seed": record.seed,
        "instruction": json.dumps(record.instruction, ensure_ascii=False),
    }
    return {
        "id": record.run_id,
        "title": "Success" if record.outcome == "success" else f"Not done: {record.outcome}",
        "sentence": record.sentence,
        "facts": [
            ["Instruction", record.instruction],
            ["Steps", f"{record.steps} ({seconds:.1f} s of the robot's time)"],
            ["Scene", f"{record.task} {record.seed}"],
            ["Driver", record.driver],
            ["Its success on this task", _share(rate)],
        ],
        "film": film,
        "problem": problem,
        **(_for_the_expert(record, asked) if record.driver == "expert" else {}),
        "client": _CLIENT.format(origin=_ORIGIN, **asked),
    }


def _for_the_expert(record: Record, asked: dict[str, Any]) -> dict[str, str]:
    return {
        "command": f"vlm4vla rollout --expert --task {record.task} --seed {record.seed} "
        f"--instruction {shlex.quote(record.instruction)} --out rollout",
        "python": _PYTHON.format(**asked),
    }


def as_data_url(video: bytes | Path) -> str:
    """A video that a page can hold: no file is served."""
    content = video if isinstance(video, bytes) else video.read_bytes()
    return "data:video/mp4;base64," + base64.b64encode(content).decode()


def _share(rate: Rate) -> str:
    return (
        f"{rate.successes} of {rate.n} episodes kept here "
        f"(95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %)"
    )
