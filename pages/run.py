"""The Run page: pick a scene, type a sentence, watch the robot."""

import contextlib
import html
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import gradio as gr

from pages import moments
from pages.live_view import Shown, live_view, message, new_turn
from pages.result_card import as_data_url, card, result_card
from vlm4vla import seeds
from vlm4vla.driver import CHUNK
from vlm4vla.errors import UserError
from vlm4vla.eval.cast import EXPERT, Cast
from vlm4vla.eval.choice import Choice, choose
from vlm4vla.eval.instruction import read, suggestions
from vlm4vla.eval.keep import Kept
from vlm4vla.eval.live import Frame, Waiting, look
from vlm4vla.eval.order import Order, take_order
from vlm4vla.eval.outcome import Outcome
from vlm4vla.eval.settings import FEWEST_STEPS, MOST_STEPS, read_settings
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.standing import standing
from vlm4vla.eval.store import Store
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import Scene

_TASKS: Final[dict[Task, str]] = {
    "place": "put on a plate or in a bowl",
    "stack": "stack on another object",
    "pick": "lift",
    "push": "push into a zone",
    "reach": "touch",
}

_ROBOTS_VIEW: Final = "robot"
"""The choice of the policy's camera."""

Updates = dict[Any, Any]


def build(page: gr.Blocks, stage: Stage, cast: Cast, store: Store, recordings: Store) -> None:
    """Lays the page out.

    Args:
        page: the `gr.Blocks` that it is built in.
        stage: where episodes are played.
        cast: who can act.
        store: where finished episodes are kept.
        recordings: what comes with the app; its pinned episode opens the page.
    """
    opening = recordings.get(recordings.pinned()[0])
    first = choose(opening.task, opening.seed)
    opening_video = recordings.video(opening.run_id)
    assert opening_video is not None
    opening_shown = moments.recording(opening, opening_video)

    gr.Markdown(
        "# VLM4VLA\nTell a simulated robot what to do, and watch it happen: what you start here "
        "is simulated now, while you look."
    )
    banner = gr.HTML(visible=False, elem_id="banner")
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
            played = gr.Dataset(
                components=["textbox"],
                samples=[[recordings.get(run_id).instruction] for run_id in recordings.ids()],
                label="Recorded episodes: press one to watch it",
                samples_per_page=20,
                visible=False,
                type="index",
                elem_id="recorded",
            )
            driver = gr.Dropdown(
                _drivers(cast), value=cast.names()[0], label="Driver", elem_id="driver"
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
                    label=f"Scene, 0 to {seeds.UNSEEN[-1]:,}",
                    precision=0,
                    min_width=140,
                    elem_id="seed",
                )
                another = gr.Button("New scene", min_width=120, elem_id="new-scene")
            with gr.Accordion("More settings", open=False, elem_id="settings"):
                camera = gr.Radio(
                    [("from the side", ""), ("what the policy sees", _ROBOTS_VIEW)],
                    value="",
                    label="Camera",
                    elem_id="camera",
                )
                most_steps = gr.Slider(
                    FEWEST_STEPS,
                    MOST_STEPS,
                    MOST_STEPS,
                    step=1,
                    label="Most steps, 20 a second of the robot's time",
                    buttons=[],
                    elem_id="most-steps",
                )
                execute = gr.Radio(
                    [("as the driver is made", 0), *[(str(n), n) for n in range(1, CHUNK + 1)]],
                    value=0,
                    label="Actions carried out before the next look",
                    elem_id="execute",
                )
    result = result_card()

    def quiet() -> Updates:
        return {
            complaint: gr.HTML(visible=False),
            proposal: gr.Button(visible=False),
            proposed: "",
        }

    def complain(error: UserError) -> Updates:
        return quiet() | {complaint: _message(error)}

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
                sentence,
                placeholder=suggestions(chosen.scene, chosen.task)[0],
            ),
            result: None,
        }

    def show_scene(
        task_name: str, number: float | None, sentence: str, view: str, request: gr.Request
    ) -> Iterator[Updates]:
        try:
            chosen = choose(task_name, number)
        except UserError as error:
            yield complain(error)
            return
        told = offer(chosen, sentence if _valid(sentence, chosen.scene) else "")
        yield told
        yield from _with_first(told, look_at(chosen.scene, _INVITATION, view, request))

    def look_at(scene: Scene, note: str, view: str, request: gr.Request) -> Iterator[Updates]:
        shown = Shown(new_turn(), "still", note)
        looking = look(stage, visitor(request), scene, image=view == _ROBOTS_VIEW)
        try:
            with contextlib.closing(looking) as seen:
                for moment in seen:
                    if isinstance(moment, Waiting):
                        yield {live: message(moments.waiting(shown, moment))}
                    else:
                        yield {live: message(moments.still(shown, moment, scene))}
        except UserError as error:
            yield broken(shown, error)

    def draw_scene(
        task_name: str, sentence: str, view: str, request: gr.Request
    ) -> Iterator[Updates]:
        yield from show_scene(task_name, random.choice(seeds.TEST), sentence, view, request)

    def carry_out(
        name: str,
        task_name: str,
        number: float | None,
        sentence: str,
        steps: float,
        actions: int,
        view: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        shown = Shown(new_turn(), "starting", _LOADING, name)
        loading = not cast.loaded(name)
        if loading:
            yield {live: message(shown)}
        try:
            order = take_order(cast, task_name, number, sentence, name, steps, actions)
        except UserError as error:
            yield complain(error) | (broken(shown, error) if loading else {})
            return
        shown = replace(shown, driver=order.new_driver().label, instruction=order.reading.sentence)
        told = quiet() | ({} if order.reading.goal else _not_known(order))
        if not order.understood:
            yield told
            return
        # A browser may skip what is followed closely by something else, so nothing is said once.
        underway: Updates = {stop: gr.Button(interactive=True), result: None}
        yield told | underway
        playing = order.play(stage, visitor(request), store, image=view == _ROBOTS_VIEW)
        try:
            with contextlib.closing(playing) as seen:
                for moment in seen:
                    if isinstance(moment, Waiting):
                        yield underway | {live: message(moments.waiting(shown, moment))}
                    elif isinstance(moment, Frame):
                        shown = moments.at(replace(shown, phase="live", note=_LIVE), moment)
                        yield underway | {live: message(shown)}
                    elif isinstance(moment, Outcome):
                        shown = moments.ended(shown, moment)
                        over = {live: message(shown), stop: gr.Button(interactive=False)}
                        yield over
                    else:
                        yield over | {result: card_of(order, moment)}
        except UserError as error:
            yield broken(shown, error)

    def _not_known(order: Order) -> Updates:
        nearest = order.reading.nearest
        return {
            complaint: _message(_why_not_known(order)),
            proposed: nearest,
            proposal: gr.Button(f"Run “{nearest}” instead", visible=True),
        }

    def card_of(order: Order, kept: Kept) -> dict[str, Any]:
        name = order.actor.name
        known = standing(store, order.actor.identity, order.goal.task, cast.evaluation(name))
        return card(kept.record, known, as_data_url(kept.video), name, kept.problem)

    def run_offered(
        name: str,
        task_name: str,
        number: float | None,
        offered: str | list[str],
        steps: float,
        actions: int,
        view: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        # A dataset hands over a row, a state its value.
        sentence = offered if isinstance(offered, str) else offered[0]
        played_now = carry_out(name, task_name, number, sentence, steps, actions, view, request)
        yield from _with_first({instruction: sentence}, played_now)

    def first_sight(request: gr.Request) -> Iterator[Updates]:
        asked = {name: str(value) for name, value in request.query_params.items()}
        # Checkpoints may have come since the app was started.
        found = {driver: gr.Dropdown(_drivers(cast), value=cast.names()[0])}
        yield from _with_first(found, asked_for_by(asked, request))

    def asked_for_by(asked: dict[str, str], request: gr.Request) -> Iterator[Updates]:
        if "run" in asked:
            yield from show_stored(store, asked["run"], request)
        elif asked.keys() & {"task", "seed", "instruction"}:
            yield from show_scene(
                asked.get("task", first.task),
                _number(asked.get("seed", str(first.scene.seed))),
                asked.get("instruction", ""),
                "",
                request,
            )
        else:
            yield from announce(opening_shown)

    def show_stored(shelf: Store, run_id: str, request: gr.Request) -> Iterator[Updates]:
        try:
            record = shelf.get(run_id)
            video = shelf.video(run_id)
            chosen = choose(record.task, record.seed)
        except UserError as error:
            yield from _with_first(complain(error), announce(opening_shown))
            return
        name = cast.name_of(record.driver)
        changed = read_settings(record.condition)
        known = standing(store, record.driver, record.goal_task, cast.evaluation(name))
        told = offer(chosen, record.instruction) | {
            result: card(record, known, as_data_url(video) if video else "", name),
            most_steps: changed.most_steps or MOST_STEPS,
            execute: changed.execute,
        }
        if name:
            told[driver] = gr.Dropdown(_drivers(cast), value=name)
        else:
            gone = UserError(_GONE, "Run takes the driver chosen below.")
            told[complaint] = _message(gone)
        if video:
            yield from _with_first(told, announce(moments.recording(record, video)))
        else:
            yield from _with_first(told, look_at(chosen.scene, _NO_VIDEO, "", request))

    def show_recorded(index: int, request: gr.Request) -> Iterator[Updates]:
        yield from show_stored(recordings, recordings.ids()[index], request)

    def announce(recorded: Shown) -> Iterator[Updates]:
        recorded = replace(recorded, turn=new_turn())
        while stage.readiness.status == "starting":
            yield {live: message(replace(recorded, note=_GETTING_READY))}
            stage.wait(0.5)
        if stage.readiness.status == "ready":
            yield {live: message(replace(recorded, note=_READY))}
            return
        why = UserError(
            f"Recordings only: {stage.readiness.reason}",
            f"To run episodes here: {stage.readiness.fix}",
        )
        yield {
            live: message(replace(recorded, note="Recorded earlier.")),
            banner: _message(why),
            run: gr.Button(interactive=False),
            chips: gr.Dataset(samples=[], visible=False),
            played: gr.Dataset(visible=True),
        }

    def end_episode(request: gr.Request) -> None:
        stage.line.stop(visitor(request))

    everything = [
        live, result, banner, chips, played, instruction, complaint, proposed, proposal, run, stop,
        driver, task, seed, most_steps, execute,
    ]  # fmt: skip
    # A newer click replaces the episode before it, so clicks must not wait for each other.
    streaming: dict[str, Any] = {
        "outputs": everything,
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": None,
        "api_visibility": "private",
    }

    def order_with(sentence: gr.components.Component) -> list[gr.components.Component]:
        return [driver, task, seed, sentence, most_steps, execute, camera]

    gr.on(
        [task.input, seed.input, camera.input],
        show_scene,
        [task, seed, instruction, camera],
        **streaming,
    )
    another.click(draw_scene, [task, instruction, camera], **streaming)
    gr.on([run.click, instruction.submit], carry_out, order_with(instruction), **streaming)
    chips.click(run_offered, order_with(chips), **streaming)
    proposal.click(run_offered, order_with(proposed), **streaming)
    played.click(show_recorded, played, **streaming)
    stop.click(end_episode, queue=False, api_visibility="private")
    page.load(first_sight, **streaming)


_GETTING_READY: Final = "Recorded earlier. The simulator is getting ready."
_READY: Final = "Recorded earlier. Type an instruction, or press one, and it happens live."
_LIVE: Final = "Happening now, simulated while you watch."
_LOADING: Final = "The checkpoint is being loaded."
_INVITATION: Final = "Type an instruction, or press one of those offered."
_NO_VIDEO: Final = "No video was made of this episode. Press Run to see it."
_GONE: Final = "The checkpoint that acted here is not on this server any more."


def _with_first(updates: Updates, stream: Iterator[Updates]) -> Iterator[Updates]:
    """Says something together with the first that a stream has to say."""
    for index, said in enumerate(stream):
        yield said if index else updates | said


def _drivers(cast: Cast) -> list[tuple[str, str]]:
    return [
        ("expert (scripted, not learned)" if name == EXPERT else f"{name} (trained policy)", name)
        for name in cast.names()
    ]


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


def _why_not_known(order: Order) -> UserError:
    words = ", ".join(f"“{word}”" for word in order.reading.unknown)
    why = f"Words that training never held: {words}." if words else ""
    if order.understood:
        nearest = order.reading.nearest
        return UserError(
            f"No known instruction says this; success is judged as for “{nearest}”.", why
        )
    return UserError("The scripted expert does not understand this here.", why)


def _message(error: UserError) -> gr.HTML:
    words = html.escape(str(error))
    return gr.HTML(f'<p class="message" role="alert">{words}</p>', visible=True)


def visitor(request: gr.Request) -> str:
    """Who asks: a page that is open in a browser, or a program's address."""
    return request.session_hash or (request.client.host if request.client else "")
