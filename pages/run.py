"""The Run page: pick a scene, type a sentence, watch the robot."""

import contextlib
import html
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import gradio as gr

from pages.live_view import Phase, Shown, encode, live_view, message, new_turn
from pages.result_card import as_data_url, card, result_card
from vlm4vla import seeds
from vlm4vla.driver import Driver
from vlm4vla.errors import UserError
from vlm4vla.eval.choice import Choice, choose
from vlm4vla.eval.film import last_picture
from vlm4vla.eval.instruction import Reading, read, suggestions
from vlm4vla.eval.keep import Asked, Kept, keep
from vlm4vla.eval.live import Frame, Waiting, look, play
from vlm4vla.eval.outcome import Outcome
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.store import Record, Store
from vlm4vla.sim.instructions import Task
from vlm4vla.sim.scene import Scene

_TASKS: Final[dict[Task, str]] = {
    "place": "put on a plate or in a bowl",
    "stack": "stack on another object",
    "pick": "lift",
    "push": "push into a zone",
    "reach": "touch",
}

Updates = dict[Any, Any]


@dataclass(frozen=True)
class Cast:
    """Who acts.

    Attributes:
        identity: "expert", or the hash of the checkpoint; stands in every record.
        new_driver: makes the driver of one episode.
    """

    identity: str
    new_driver: Callable[[], Driver]


def build(page: gr.Blocks, stage: Stage, cast: Cast, store: Store, recordings: Store) -> None:
    """Lays the page out.

    Args:
        page: the `gr.Blocks` that it is built in.
        stage: where episodes are played.
        cast: who acts.
        store: where finished episodes are kept.
        recordings: what comes with the app; its oldest episode opens the page.
    """
    label = cast.new_driver().label
    opening_id = recordings.ids()[0]
    opening = recordings.get(opening_id)
    first = choose(opening.task, opening.seed)
    opening_shown = _recording(opening, recordings.video(opening_id), label)

    gr.Markdown(
        "# VLM4VLA\nTell a simulated robot what to do, and watch it happen: what you start here "
        "is simulated now, while you look."
    )
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            live = live_view(replace(opening_shown, note=_GETTING_READY))
        with gr.Column(scale=2, min_width=320):
            instruction = gr.Textbox(
                label="Instruction",
                placeholder=suggestions(first.scene, first.task)[0],
                elem_id="instruction",
            )
            complaint = gr.HTML(visible=False, elem_id="complaint")
            proposed = gr.State("")
            proposal = gr.Button(visible=False, size="sm", elem_id="proposal")
            with gr.Row():
                run = gr.Button("Run", variant="primary", min_width=120, elem_id="run")
                stop = gr.Button("Stop", interactive=False, min_width=120, elem_id="stop")
            chips = gr.Dataset(
                components=["textbox"],
                samples=_samples(first),
                label="Or press one of these to run it",
                samples_per_page=20,
                elem_id="chips",
            )
            task = gr.Dropdown(
                [(text, name) for name, text in _TASKS.items()],
                value=first.task,
                label="Scene with something to",
                elem_id="task",
            )
            with gr.Row(elem_classes="scene-number"):
                seed = gr.Number(
                    first.scene.seed,
                    label=f"Scene, 0 to {seeds.TEST[-1]:,}",
                    precision=0,
                    min_width=140,
                    elem_id="seed",
                )
                another = gr.Button("New scene", min_width=120, elem_id="new-scene")
    result = result_card()

    def quiet() -> Updates:
        return {
            complaint: gr.HTML(visible=False),
            proposal: gr.Button(visible=False),
            proposed: "",
        }

    def complain(error: UserError) -> Updates:
        return quiet() | {complaint: _complaint(error)}

    def broken(shown: Shown, error: UserError) -> Updates:
        lost = stage.readiness.status == "unavailable"
        return {
            live: message(replace(shown, phase="error", note=str(error), src="")),
            stop: gr.Button(interactive=False),
        } | ({run: gr.Button(interactive=False)} if lost else {})

    def offer(chosen: Choice, sentence: str) -> Updates:
        return quiet() | {
            task: chosen.task,
            seed: chosen.scene.seed,
            chips: gr.Dataset(samples=_samples(chosen)),
            instruction: gr.Textbox(
                sentence if _valid(sentence, chosen.scene) else "",
                placeholder=suggestions(chosen.scene, chosen.task)[0],
            ),
        }

    def show_scene(
        task_name: str, number: float | None, sentence: str, request: gr.Request
    ) -> Iterator[Updates]:
        shown = Shown(
            new_turn(), "still", "Type an instruction, or press one of those offered.", label
        )
        try:
            chosen = choose(task_name, number)
        except UserError as error:
            yield complain(error)
            return
        yield offer(chosen, sentence)
        try:
            with contextlib.closing(look(stage, visitor(request), chosen.scene)) as moments:
                for moment in moments:
                    if isinstance(moment, Waiting):
                        yield {live: message(_waiting(shown, moment))}
                    else:
                        yield {live: message(_still(shown, moment, chosen.scene))}
        except UserError as error:
            yield broken(shown, error)

    def draw_scene(task_name: str, sentence: str, request: gr.Request) -> Iterator[Updates]:
        yield from show_scene(task_name, random.choice(seeds.TEST), sentence, request)

    def carry_out(
        task_name: str, number: float | None, sentence: str, request: gr.Request
    ) -> Iterator[Updates]:
        driver = cast.new_driver()
        try:
            chosen = choose(task_name, number)
            reading = read(sentence, chosen.scene)
        except UserError as error:
            yield complain(error)
            return
        goal = reading.goal
        told = quiet()
        if goal is None:
            goal = read(reading.nearest, chosen.scene).goal
            told = {
                complaint: _complaint(_not_known(reading, runs=driver.kind == "policy")),
                proposed: reading.nearest,
                proposal: gr.Button(f"Run “{reading.nearest}” instead", visible=True),
            }
        if goal is None or (reading.goal is None and driver.kind == "expert"):
            yield told
            return
        shown = Shown(new_turn(), "live", "", driver.label, reading.sentence)
        yield told | {stop: gr.Button(interactive=True), result: None}
        # What a sentence of nobody's making achieves says nothing about the task's success rate.
        condition = "" if reading.goal else "unknown sentence"
        asked = Asked(cast.identity, chosen.task, chosen.scene.seed, reading.sentence, condition)
        episode = play(stage, visitor(request), driver, chosen.scene, goal, reading.sentence)
        try:
            with contextlib.closing(keep(episode, store, asked)) as moments:
                for moment in moments:
                    if isinstance(moment, Waiting):
                        yield {live: message(_waiting(shown, moment))}
                    elif isinstance(moment, Frame):
                        shown = _at(shown, moment)
                        yield {live: message(shown)}
                    elif isinstance(moment, Outcome):
                        yield {
                            live: message(_ended(shown, moment)),
                            stop: gr.Button(interactive=False),
                        }
                    else:
                        yield {result: card_of(moment)}
        except UserError as error:
            yield broken(shown, error)

    def card_of(kept: Kept) -> dict[str, Any]:
        rate = store.rate(kept.record.driver, kept.record.task)
        return card(kept.record, rate, as_data_url(kept.video), kept.problem)

    def run_sample(
        task_name: str, number: float | None, sample: list[str], request: gr.Request
    ) -> Iterator[Updates]:
        yield {instruction: sample[0]}
        yield from carry_out(task_name, number, sample[0], request)

    def run_proposed(
        task_name: str, number: float | None, sentence: str, request: gr.Request
    ) -> Iterator[Updates]:
        yield from run_sample(task_name, number, [sentence], request)

    def first_sight(request: gr.Request) -> Iterator[Updates]:
        asked = {name: str(value) for name, value in request.query_params.items()}
        if "run" in asked:
            yield from show_stored(asked["run"])
        elif asked.keys() & {"task", "seed", "instruction"}:
            yield from show_scene(
                asked.get("task", first.task),
                _number(asked.get("seed", str(first.scene.seed))),
                asked.get("instruction", ""),
                request,
            )
        else:
            yield from announce(opening_shown)

    def show_stored(run_id: str) -> Iterator[Updates]:
        try:
            record = store.get(run_id)
            video = store.video(run_id)
            chosen = choose(record.task, record.seed)
        except UserError as error:
            yield complain(error)
            return
        yield offer(chosen, record.instruction) | {
            result: card(record, store.rate(record.driver, record.task), as_data_url(video))
        }
        acted = label if record.driver == cast.identity else record.driver
        yield from announce(_recording(record, video, acted))

    def announce(recorded: Shown) -> Iterator[Updates]:
        recorded = replace(recorded, turn=new_turn())
        while stage.readiness.status == "starting":
            stage.wait(0.5)
            yield {live: message(replace(recorded, note=_GETTING_READY))}
        if stage.readiness.status == "ready":
            yield {live: message(replace(recorded, note=_READY))}
            return
        why = f"Recordings only: {stage.readiness.reason} {stage.readiness.fix}"
        yield {
            live: message(replace(recorded, note=why)),
            run: gr.Button(interactive=False),
            chips: gr.Dataset(samples=[], visible=False),
        }

    def end_episode(request: gr.Request) -> None:
        stage.line.stop(visitor(request))

    everything = [
        live, result, chips, instruction, complaint, proposed, proposal, run, stop, task, seed
    ]  # fmt: skip
    # A newer click replaces the episode before it, so clicks must not wait for each other.
    streaming: dict[str, Any] = {
        "outputs": everything,
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    asked_for = [task, seed, instruction]
    gr.on([task.input, seed.input], show_scene, asked_for, **streaming)
    another.click(draw_scene, [task, instruction], **streaming)
    gr.on([run.click, instruction.submit], carry_out, asked_for, **streaming)
    chips.click(run_sample, [task, seed, chips], **streaming)
    proposal.click(run_proposed, [task, seed, proposed], **streaming)
    stop.click(end_episode, queue=False, api_visibility="private")
    page.load(first_sight, **streaming)


_GETTING_READY: Final = "Recorded earlier. The simulator is getting ready."
_READY: Final = "Recorded earlier. Type an instruction, or press one, and it happens live."


def _samples(chosen: Choice) -> list[list[str]]:
    return [[sentence] for sentence in suggestions(chosen.scene, chosen.task)]


def _valid(sentence: str, scene: Scene) -> bool:
    try:
        return read(sentence, scene).goal is not None
    except UserError:
        return False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _not_known(reading: Reading, *, runs: bool) -> UserError:
    words = ", ".join(f"“{word}”" for word in reading.unknown)
    why = f"Words that training never held: {words}." if words else ""
    if runs:
        problem = f"No known instruction says this; success is judged as for “{reading.nearest}”."
        return UserError(problem, why)
    return UserError("The scripted expert does not understand this here.", why)


def _complaint(error: UserError) -> gr.HTML:
    words = html.escape(str(error))
    return gr.HTML(f'<p class="message" role="alert">{words}</p>', visible=True)


def _recording(record: Record, video: Path, label: str) -> Shown:
    return Shown(
        new_turn(),
        "recording",
        driver=label,
        instruction=record.instruction,
        src=encode(last_picture(video)),
        step=record.steps,
        happenings=record.happenings,
        video=as_data_url(video),
        label=f"Recording: {record.sentence}",
    )


def _waiting(shown: Shown, moment: Waiting) -> Shown:
    if moment.place == 0:
        return replace(shown, phase="starting", note="The simulator is getting ready.")
    before = "You are next" if moment.place == 1 else f"You are number {moment.place} in the line"
    return replace(shown, phase="waiting", note=f"{before}: every simulator is in use.")


def _still(shown: Shown, frame: Frame, scene: Scene) -> Shown:
    things = [item.name for item in scene.objects] + [item.name for item in scene.fixtures]
    return replace(
        shown, src=encode(frame.view), label=f"The robot's table with {', '.join(things)}"
    )


def _at(shown: Shown, frame: Frame) -> Shown:
    return replace(
        shown,
        src=encode(frame.view),
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


def visitor(request: gr.Request) -> str:
    """Who asks: a page that is open in a browser, or a program's address."""
    return request.session_hash or (request.client.host if request.client else "")
