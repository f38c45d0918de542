"""The layout of the Run page: its components, and nothing that happens."""

from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from pages.run import elsewhere
from pages.run.live_view import Shown, live_view
from pages.run.reading_line import reading_line
from pages.run.result_card import result_card
from vlm4vla import seeds
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import CHUNK, EXPERT
from vlm4vla.agents.facts import share, size
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.request import FEWEST_STEPS, MOST_STEPS, Choice
from vlm4vla.suites.tabletop.instructions import Task

TASKS: Final[dict[Task, str]] = {
    "place": "place: onto a plate or into a bowl",
    "stack": "stack: on another object",
    "pick": "pick: lift an object",
    "push": "push: into a zone",
    "reach": "reach: touch an object",
}


@dataclass(frozen=True)
class Layout:
    """The components that handlers read and write.

    `scene` holds the task and number shown, `asked` what `Handlers.run_elsewhere` runs again.
    """

    live: gr.HTML
    elsewhere: gr.Button
    asked: gr.State
    scenes: gr.HTML
    result: gr.HTML
    banner: gr.HTML
    instruction: gr.Textbox
    reading: gr.HTML
    complaint: gr.HTML
    proposed: gr.State
    proposal: gr.Button
    run: gr.Button
    stop: gr.Button
    blind: gr.Button
    swap: gr.Button
    map: gr.Radio
    chips: gr.Dataset
    recorded: gr.Dataset
    agent: gr.Dropdown
    task: gr.Dropdown
    seed: gr.Number
    another: gr.Button
    scene: gr.State
    max_steps: gr.Slider
    replan_every: gr.Radio

    def written(self) -> list[gr.components.Component]:
        """Everything that a handler may write."""
        kept = (self.another,)
        return [part for part in vars(self).values() if part not in kept]

    def order(self, sentence: gr.components.Component) -> list[gr.components.Component]:
        """What a request is made of, with the sentence of the given component."""
        return [self.agent, self.task, self.seed, sentence, self.max_steps, self.replan_every]


def lay_out(
    opening: Shown, first: Choice, catalogue: AgentCatalogue, recorded: list[str]
) -> Layout:
    """Makes the components; call it inside a `gr.Blocks`.

    Args:
        opening: what is seen first.
        first: the scene to begin with.
        catalogue: who can act.
        recorded: the sentences of the recordings.
    """
    parts: dict[str, Any] = {}
    gr.Markdown(pitch(catalogue), elem_id="pitch")
    parts["banner"] = gr.HTML(visible=False, elem_id="banner")
    parts |= _bar(first, catalogue)
    with gr.Row(elem_id="stage"):
        with gr.Column(scale=8, min_width=320):
            parts["live"] = live_view(opening)
            parts |= _switches()
            parts["elsewhere"] = gr.Button(elsewhere.BUTTON, visible=False, elem_id="elsewhere")
            parts["asked"] = gr.State(None)
            parts["scenes"] = elsewhere.strip()
        with gr.Column(scale=4, min_width=280):
            parts |= _offers(first, recorded) | _scene(first)
            with gr.Accordion("More settings", open=False, elem_id="settings"):
                parts |= _settings()
    parts["result"] = result_card()
    return Layout(**parts)


def _bar(first: Choice, catalogue: AgentCatalogue) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row(elem_id="bar"):
        parts["instruction"] = gr.Textbox(
            suggestions(first.scene, first.task)[0],
            label="Tell the robot what to do",
            elem_id="instruction",
            scale=4,
            min_width=280,
        )
        parts["agent"] = gr.Dropdown(
            agents(catalogue),
            value=catalogue.names()[0],
            label="Who acts",
            elem_id="agent",
            scale=3,
            min_width=200,
        )
        parts["run"] = gr.Button("Run", variant="primary", min_width=90, elem_id="run")
        parts["stop"] = gr.Button("Stop", interactive=False, min_width=90, elem_id="stop")
    parts["reading"] = reading_line()
    parts["complaint"] = gr.HTML(visible=False, elem_id="complaint")
    parts["proposed"] = gr.State("")
    parts["proposal"] = gr.Button(visible=False, size="sm", elem_id="proposal")
    return parts


def _switches() -> dict[str, Any]:
    with gr.Row(elem_id="switches"):
        return {
            "blind": gr.Button("Blind it now", interactive=False, min_width=140, elem_id="blind"),
            "swap": gr.Button(
                "Swap the words now", interactive=False, min_width=140, elem_id="swap"
            ),
            "map": gr.Radio(
                [("off", ""), ("gradient", "gradient"), ("occlusion (slow)", "occlusion")],
                value="",
                label="Map of what moves the action, live",
                elem_id="map",
                min_width=280,
            ),
        }


def _offers(first: Choice, recorded: list[str]) -> dict[str, Any]:
    return {
        "chips": gr.Dataset(
            components=["textbox"],
            samples=samples(first),
            label="Point at one thing in the picture, or at two in turn, or press one of these",
            samples_per_page=20,
            elem_id="chips",
        ),
        "recorded": gr.Dataset(
            components=["textbox"],
            samples=[[sentence] for sentence in recorded],
            label="Recorded episodes: press one to watch it",
            samples_per_page=20,
            visible=False,
            type="index",
            elem_id="recorded",
        ),
    }


def _scene(first: Choice) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="scene-number"):
        parts["task"] = gr.Dropdown(
            [(text, name) for name, text in TASKS.items()],
            value=first.task,
            label="Task of the scene",
            elem_id="task",
            min_width=200,
        )
        parts["seed"] = gr.Number(
            first.scene.seed,
            label=f"Scene, 0 to {seeds.UNSEEN[-1]:,}",
            min_width=140,
            elem_id="seed",
        )
        parts["scene"] = gr.State((first.task, first.scene.seed))
        parts["another"] = gr.Button("New scene", min_width=120, elem_id="new-scene")
    return parts


def _settings() -> dict[str, Any]:
    return {
        "max_steps": gr.Slider(
            FEWEST_STEPS,
            MOST_STEPS,
            MOST_STEPS,
            step=1,
            label="Most steps, 20 a second of the robot's time",
            buttons=[],
            elem_id="most-steps",
        ),
        "replan_every": gr.Radio(
            [("as it was trained", 0), *[(str(n), n) for n in range(1, CHUNK + 1)]],
            value=0,
            label="Actions carried out before the next inference",
            elem_id="execute",
        ),
    }


def agents(catalogue: AgentCatalogue) -> list[tuple[str, str]]:
    """The menu of agents: what is shown, and the name; the expert stands apart, last."""
    return [(_described(catalogue, name), name) for name in catalogue.names()]


def _described(catalogue: AgentCatalogue, name: str) -> str:
    if name == EXPERT.name:
        return "No VLM: scripted expert, which reads the simulator's state"
    known = catalogue.facts(name)
    small = f", {size(known.parameters)} parameters" if known.parameters else ""
    success = share(known.overall) if known.overall else "not evaluated"
    return f"{name} · VLM {known.family or 'of unknown family'}{small} · success {success}"


def pitch(catalogue: AgentCatalogue) -> str:
    """What this is, in two lines, naming the VLM that acts first."""
    name = catalogue.names()[0]
    if name == EXPERT.name:
        who = "No checkpoint is here yet, so a scripted expert acts in its place."
    else:
        known = catalogue.facts(name)
        small = f" of {size(known.parameters)} parameters" if known.parameters else ""
        who = (
            f"The one that acts here first, a {known.family or name}{small}, sees one small "
            "picture, reads your sentence, and moves the robot."
        )
    return (
        "# VLM4VLA\nTurns any vision-language model (VLM) into a robot policy, and shows why it "
        f"does what it does. {who} What you start is simulated live."
    )


def samples(chosen: Choice) -> list[list[str]]:
    """The suggested instructions of a scene, a row each."""
    return [[sentence] for sentence in suggestions(chosen.scene, chosen.task)]
