"""The Run page: pick a scene, type a sentence, watch the robot."""

import contextlib
import html
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import gradio as gr

from pages.live_view import Phase, Shown, encode, live_view, message, new_turn
from vlm4vla import seeds
from vlm4vla.driver import Driver
from vlm4vla.errors import UserError
from vlm4vla.eval.choice import choose
from vlm4vla.eval.instruction import read, suggestions
from vlm4vla.eval.live import Frame, Waiting, look, play
from vlm4vla.eval.outcome import Outcome
from vlm4vla.eval.stage import Stage
from vlm4vla.sim.instructions import Task
from vlm4vla.sim.scene import LAYOUT_OF_TASK, Scene, sample_scene

_CHOICES: Final[dict[Task, str]] = {
    "place": "Put an object on a plate or in a bowl",
    "stack": "Stack one object on another",
    "pick": "Lift an object",
    "push": "Push an object into a zone",
    "reach": "Touch an object",
}
_OPENING: Final[tuple[Task, int]] = ("place", 0)

Updates = dict[Any, Any]


def build(page: gr.Blocks, stage: Stage, new_driver: Callable[[], Driver]) -> None:
    """Lays the page out.

    Args:
        page: the `gr.Blocks` that it is built in.
        stage: where episodes are played.
        new_driver: makes the driver of one episode.
    """
    label = new_driver().label
    opening = sample_scene(LAYOUT_OF_TASK[_OPENING[0]], _OPENING[1])
    first = suggestions(opening, _OPENING[0])

    gr.Markdown(
        "# VLM4VLA\nTell a simulated robot what to do, and watch it happen: every frame is "
        "simulated now, while you look."
    )
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            live = live_view(
                Shown(new_turn(), "starting", "The simulator is getting ready.", label)
            )
        with gr.Column(scale=2, min_width=320):
            task = gr.Dropdown(
                [(text, name) for name, text in _CHOICES.items()],
                value=_OPENING[0],
                label="Scene for",
                elem_id="task",
            )
            with gr.Row(elem_classes="scene-number"):
                seed = gr.Number(
                    _OPENING[1],
                    label=f"Scene number, 0 to {seeds.TEST[-1]:,}",
                    precision=0,
                    min_width=180,
                    elem_id="seed",
                )
                another = gr.Button("New scene", min_width=110, elem_id="new-scene")
            instruction = gr.Textbox(
                label="Instruction",
                placeholder=first[0],
                elem_id="instruction",
            )
            complaint = gr.HTML(visible=False, elem_id="complaint")
            proposed = gr.State("")
            proposal = gr.Button(visible=False, size="sm", elem_id="proposal")
            with gr.Row():
                run = gr.Button("Run", variant="primary", elem_id="run")
                stop = gr.Button("Stop", interactive=False, elem_id="stop")
            chips = gr.Dataset(
                components=["textbox"],
                samples=[[text] for text in first],
                label="Or press one of these to run it",
                samples_per_page=20,
                elem_id="chips",
            )

    def quiet() -> Updates:
        return {complaint: gr.HTML(visible=False), proposal: gr.Button(visible=False), proposed: ""}

    def complain(error: UserError) -> Updates:
        return quiet() | {complaint: _words(error)}

    def show_scene(
        task_name: str, number: float | None, sentence: str, request: gr.Request
    ) -> Iterator[Updates]:
        turn = new_turn()
        try:
            chosen, scene = choose(task_name, number)
        except UserError as error:
            yield complain(error)
            return
        offered = suggestions(scene, chosen)
        yield quiet() | {
            chips: gr.Dataset(samples=[[text] for text in offered]),
            instruction: gr.Textbox(
                sentence if _valid(sentence, scene) else "", placeholder=offered[0]
            ),
        }
        shown = Shown(turn, "still", "Type an instruction, or press one of those offered.", label)
        try:
            with contextlib.closing(look(stage, _visitor(request), scene)) as moments:
                for moment in moments:
                    if isinstance(moment, Waiting):
                        yield {live: message(_waiting(shown, moment))}
                    else:
                        described = f"The robot's table with {_things(scene)}"
                        yield {live: message(replace(shown, src=encode(moment), label=described))}
        except UserError as error:
            yield {live: message(replace(shown, phase="error", note=str(error)))} | unavailable()

    def unavailable() -> Updates:
        if stage.readiness.status != "unavailable":
            return {}
        return {run: gr.Button(interactive=False), stop: gr.Button(interactive=False)}

    def draw_scene(task_name: str, sentence: str, request: gr.Request) -> Iterator[Updates]:
        number = random.choice(seeds.TEST)
        yield {seed: number}
        yield from show_scene(task_name, number, sentence, request)

    def run_episode(
        task_name: str, number: float | None, sentence: str, request: gr.Request
    ) -> Iterator[Updates]:
        turn = new_turn()
        driver = new_driver()
        try:
            scene = choose(task_name, number).scene
            reading = read(sentence, scene)
        except UserError as error:
            yield complain(error)
            return
        if reading.goal is None:
            unknown = ", ".join(f"“{word}”" for word in reading.unknown)
            why = f" It does not know {unknown}." if unknown else ""
            yield {
                complaint: _words(
                    UserError("The scripted expert does not understand this here." + why)
                ),
                proposed: reading.nearest,
                proposal: gr.Button(f"Run “{reading.nearest}” instead", visible=True),
            }
            return
        shown = Shown(turn, "live", "", driver.label, reading.sentence)
        yield quiet() | {stop: gr.Button(interactive=True)}
        try:
            with contextlib.closing(
                play(stage, _visitor(request), driver, scene, reading.goal, reading.sentence)
            ) as moments:
                for moment in moments:
                    if isinstance(moment, Waiting):
                        yield {live: message(_waiting(shown, moment))}
                    elif isinstance(moment, Frame):
                        shown = _at(shown, moment)
                        yield {live: message(shown)}
                    else:
                        yield {
                            live: message(_ended(shown, moment)),
                            stop: gr.Button(interactive=False),
                        }
        except UserError as error:
            yield {
                live: message(replace(shown, phase="error", note=str(error), src="")),
                stop: gr.Button(interactive=False),
            } | unavailable()

    def run_sample(
        task_name: str, number: float | None, sample: list[str], request: gr.Request
    ) -> Iterator[Updates]:
        yield {instruction: sample[0]}
        yield from run_episode(task_name, number, sample[0], request)

    def run_proposed(
        task_name: str, number: float | None, sentence: str, request: gr.Request
    ) -> Iterator[Updates]:
        yield from run_sample(task_name, number, [sentence], request)

    def end_episode(request: gr.Request) -> None:
        stage.line.stop(_visitor(request))

    everything = [live, chips, instruction, complaint, proposed, proposal, run, stop, seed]
    # A newer click replaces the episode before it, so clicks must not wait for each other.
    streaming: dict[str, Any] = {
        "outputs": everything,
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    scene_inputs = [task, seed, instruction]
    gr.on([task.input, seed.input], show_scene, scene_inputs, **streaming)
    another.click(draw_scene, [task, instruction], **streaming)
    gr.on([run.click, instruction.submit], run_episode, scene_inputs, **streaming)
    chips.click(run_sample, [task, seed, chips], **streaming)
    proposal.click(run_proposed, [task, seed, proposed], **streaming)
    stop.click(end_episode, queue=False, api_visibility="private")
    page.load(show_scene, scene_inputs, **streaming)


def _valid(sentence: str, scene: Scene) -> bool:
    try:
        return read(sentence, scene).goal is not None
    except UserError:
        return False


def _words(error: UserError) -> gr.HTML:
    words = html.escape(str(error))
    return gr.HTML(f'<p class="message" role="alert">{words}</p>', visible=True)


def _waiting(shown: Shown, moment: Waiting) -> Shown:
    if moment.place == 0:
        return replace(shown, phase="starting", note="The simulator is getting ready.")
    before = "You are next" if moment.place == 1 else f"You are number {moment.place} in the line"
    return replace(shown, phase="waiting", note=f"{before}: every simulator is in use.")


def _at(shown: Shown, frame: Frame) -> Shown:
    return replace(
        shown,
        src=encode(frame),
        step=frame.step,
        limit=frame.limit,
        happenings=tuple((item.step, item.event) for item in frame.happenings),
        timing=f"driver {frame.driver_ms:.1f} ms · physics {frame.physics_ms:.0f} ms · "
        f"picture {frame.render_ms:.0f} ms",
    )


def _ended(shown: Shown, outcome: Outcome) -> Shown:
    phase: Phase = "failure"
    if outcome.success:
        phase = "success"
    elif outcome.kind == "stopped":
        phase = "stopped"
    return replace(shown, phase=phase, note=outcome.sentence, src="")


def _things(scene: Scene) -> str:
    return ", ".join([item.name for item in scene.objects] + [item.name for item in scene.fixtures])


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)
