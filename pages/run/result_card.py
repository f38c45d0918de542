"""The result of an episode: what happened, how often it does, a video, and how to get it again."""

import base64
import json
import shlex
from pathlib import Path
from typing import Any, Final

import gradio as gr

from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.episode import Episode, Outcome
from vlm4vla.episodes.rates import Standing
from vlm4vla.suites.registry import SUITES

_TEMPLATE: Final = """
<section class="rc" aria-label="Result" hidden>
  <video class="rc-video" controls muted playsinline preload="auto"></video>
  <div class="rc-words">
    <h2 class="rc-title"></h2>
    <p class="rc-sentence"></p>
    <dl class="rc-facts"></dl>
    <p class="rc-problem message" hidden></p>
    <p class="rc-buttons">
      <a class="rc-inspect">Inspect</a>
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
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.rollout import record
from vlm4vla.live.request import take_request
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.workers.environment import EnvironmentPool

asked = take_request(AgentCatalogue(), {arguments})
with EnvironmentPool(TABLETOP).acquire() as environment:
    episode = record(TABLETOP, environment, asked.entry.new_agent(), asked.spec, "rollout")
print(episode.steps, "steps:", episode.outcome.sentence)
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
    episode: Episode, known: Standing | None, film: str, name: str, problem: str = ""
) -> dict[str, Any]:
    """What is sent to the browser.

    Args:
        episode: what was asked and what happened.
        known: how often its agent does its task; None where that would not be like with like.
        film: its film, as `as_data_url` makes it; "" for none.
        name: what its agent is chosen by; "" if it is not here any more.
        problem: why it could not be stored.
    """
    spec = episode.spec
    seconds = episode.steps / SUITES.get(spec.suite).control_hz
    changed = spec.condition.label
    outcome = episode.outcome
    return {
        "id": episode.id,
        "title": _title(outcome),
        "verdict": "success" if outcome.success else outcome.kind,
        "sentence": outcome.sentence,
        "facts": [
            ["Instruction", spec.instruction],
            *_read_as(episode),
            ["Steps", f"{episode.steps} ({seconds:.1f} s of the robot's time)"],
            ["Scene", f"{spec.task} {spec.seed}"],
            *([["Changed", changed]] if changed else []),
            ["Acted", _agent(episode, name)],
            *([[f"Its success at {episode.goal_task}", _share(known)]] if known else []),
        ],
        "film": film,
        "problem": problem,
        # No program blinds a policy in mid-run.
        **(_programs(episode, name) if name and not spec.condition.perturbations else {}),
    }


def _title(outcome: Outcome) -> str:
    if outcome.success:
        return "Success"
    return "Not judged" if outcome.kind == "not judged" else f"Not done: {outcome.kind}"


def _read_as(episode: Episode) -> list[list[str]]:
    """How a sentence that is no known one was understood."""
    reading = episode.reading
    if reading.get("kind") == "understood":
        return [["Judged as", str(reading["judged_as"])]]
    if reading.get("kind") == "not judged":
        return [["Why not judged", str(reading["sentence"])]]
    return []


def _programs(episode: Episode, name: str) -> dict[str, str]:
    spec = episode.spec
    changed = spec.condition
    values = (spec.task, spec.seed, spec.instruction, name)
    arguments = [json.dumps(value, ensure_ascii=False) for value in values]
    words = ["vlm4vla", "rollout"]
    words += ["--expert"] if name == EXPERT.name else ["--checkpoint", name]
    words += ["--task", spec.task, "--seed", str(spec.seed)]
    words += [f"--instruction={spec.instruction}"]
    python, client = list(arguments), list(arguments)
    if changed.max_steps:
        python.append(f"max_steps={changed.max_steps}")
        client.append(f"most_steps={changed.max_steps}")
        words += ["--most-steps", str(changed.max_steps)]
    if changed.replan_every:
        python.append(f"replan_every={changed.replan_every}")
        client.append(f"execute={changed.replan_every}")
        words += ["--execute", str(changed.replan_every)]
    return {
        "command": shlex.join([*words, "--out", "rollout"]),
        "python": _PYTHON.format(arguments=", ".join(python)),
        "client": _CLIENT.format(origin=_ORIGIN, arguments=", ".join(client)),
    }


def _agent(episode: Episode, name: str) -> str:
    if episode.agent == EXPERT:
        return EXPERT.name
    return f"{name or 'a checkpoint'}, hash {episode.agent.digest}"


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
