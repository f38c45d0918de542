"""Two agents live on one scene and sentence, in step: the lower half of the Compare page."""

import contextlib
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import gradio as gr

from pages.run.handlers import address, visitor
from pages.run.live_view import encode, new_turn
from pages.services import Services
from vlm4vla import seeds
from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.ablation.words import changes_of, words_of
from vlm4vla.agents.catalogue import label_of
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import EpisodeSpec, Outcome
from vlm4vla.episodes.pairs import Side
from vlm4vla.errors import UserError, surprises_told
from vlm4vla.live.duet import Part, play_both, stop_both
from vlm4vla.live.instruction import suggestions, understand
from vlm4vla.live.request import LIVE_PLACES, Choice, Request, choose, take_request
from vlm4vla.live.session import Finished, Frame, Moment, Waiting
from vlm4vla.suites.tabletop.scene import TASKS, Scene

_FOLDER: Final = Path(__file__).parent

TASK: Final = "pick"
NAMES: Final = ("live_a", "live_b", "scene_task", "scene_seed", "say", "change_a", "change_b")
"""Parameters of the address that choose what is run; of the last two see
`vlm4vla.ablation.words`. With `start` besides, both are run as soon as the page is filled."""

_LIVE: Final = "Happening now, both simulated while you watch; Stop ends both."


def build(page: gr.Blocks, services: Services) -> None:
    """Lays this part of the page out.

    Args:
        page: the `gr.Blocks` of the page.
        services: what it is built from.
    """
    catalogue = services.catalogue
    known = catalogue.names()
    first = choose(TASK, seeds.TEST[0])
    gr.Markdown("## Live, side by side")
    with gr.Row(elem_classes="duet-bar"):
        a = gr.Dropdown(known, value=known[0], label="A", elem_id="duet-a")
        b = gr.Dropdown(known, value=known[min(1, len(known) - 1)], label="B", elem_id="duet-b")
        task = gr.Dropdown(list(TASKS), value=TASK, label="Scene of task", elem_id="duet-task")
        seed = gr.Number(seeds.TEST[0], label="Scene number", precision=0, elem_id="duet-seed")
    with gr.Row(elem_classes="duet-bar"):
        changes = [
            gr.Dropdown(
                _offered(()),
                value=[],
                multiselect=True,
                label=f"Changed for {side}",
                elem_id=f"duet-change-{side.lower()}",
            )
            for side in "AB"
        ]
    with gr.Row(elem_classes="duet-bar"):
        sentence = gr.Textbox(
            _offered_in(first),
            label="Both are told",
            elem_id="duet-sentence",
            scale=4,
        )
        run = gr.Button("Run both", variant="primary", elem_id="duet-run")
        stop = gr.Button("Stop", elem_id="duet-stop")
    complaint = gr.HTML("", elem_id="duet-complaint")
    view = gr.HTML(
        None,
        html_template=(_FOLDER / "duet.html").read_text("utf-8"),
        js_on_load=(_FOLDER / "duet.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id="duet",
        elem_classes="duet",
    )
    chosen = [a, b, task, seed, sentence, *changes]
    shown = gr.State((first.task, first.scene.seed))

    def first_sight(request: gr.Request) -> list[Any]:
        asked = {name: str(value) for name, value in request.query_params.items()}
        names = catalogue.names()
        if names == known and not asked.keys() & set(NAMES):
            # By the time that a slow browser hears of this, somebody may have chosen.
            return [gr.skip()] * (len(chosen) + 2)
        return list(_asked(names, asked))

    def offer(which: str, number: float | None, said: str, before: tuple[str, float]) -> Any:
        # A menu that was only left is called input by Gradio, too.
        if (which, number) == before:
            return gr.skip()
        try:
            scene = choose(which, number)
        except UserError:
            return gr.skip()
        own = said != _offered_in(choose(*before)) and _means_something(said, scene.scene)
        return gr.skip() if own else _offered_in(scene), (scene.task, scene.scene.seed)

    def carry_out(
        one: str,
        other: str,
        which: str,
        number: float | None,
        said: str,
        change_a: list[str] | None,
        change_b: list[str] | None,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        turn = new_turn()
        names = (one, other)
        words = (" ".join(change_a or ()), " ".join(change_b or ()))
        try:
            with surprises_told("The run"):
                yield {complaint: "", view: _loading(turn, names)}
                asked = [
                    take_request(catalogue, which, number, said, name, changes=change)
                    for name, change in zip(names, words, strict=True)
                ]
                for name, made in zip(names, asked, strict=True):
                    if not made.understood:
                        raise UserError(f"{name} cannot do this.", made.reading.sentence)
                values = (*names, which, str(int(number or 0)), said, *words)
                place = dict(zip(NAMES, values, strict=True))
                yield from (
                    {complaint: "", view: {**told, "turn": turn, "address": place}}
                    for told in _told(services, asked, visitor(request), address(request))
                )
        except UserError as error:
            yield {complaint: _alert(str(error)), view: _still(turn, names, str(error))}

    def end(request: gr.Request) -> None:
        stop_both(services.simulators, visitor(request))

    private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    filled = page.load(first_sight, outputs=[*chosen, complaint, shown], **private)
    # Of a number that is typed quickly, the last sentence offered is that of the last number.
    gr.on(
        [task.input, seed.input],
        offer,
        [task, seed, sentence, shown],
        [sentence, shown],
        trigger_mode="always_last",
        **private,
    )
    gr.on(
        [run.click, sentence.submit],
        carry_out,
        chosen,
        [complaint, view],
        trigger_mode="multiple",
        concurrency_limit=None,
        **private,
    )
    filled.then(None, complaint, js=(_FOLDER / "start.js").read_text("utf-8"), **private)
    stop.click(end, queue=False, api_visibility="private")


def live_address(
    policy: str, digest: str, spec: EpisodeSpec, changes: Sequence[Perturbation]
) -> str:
    """The address that runs a policy and the same policy with something changed, in one scene.

    Above them it compares what is stored of both. Where nothing is changed, the expert is the
    other one.

    Args:
        policy: its name in the catalogue.
        digest: its digest, which its episodes are stored under.
        spec: the scene and its sentence.
        changes: what is changed for B.
    """
    chosen = {
        "live_a": policy,
        "live_b": policy if changes else EXPERT.name,
        "scene_task": spec.task,
        "scene_seed": str(spec.seed),
        "say": spec.instruction,
    }
    if changes:
        changed = Condition(perturbations=tuple(changes))
        chosen |= {
            "a": Side(digest, Condition()).key,
            "b": Side(digest, changed).key,
            "change_b": " ".join(map(words_of, changes)),
        }
    return f"compare?{urlencode(chosen | {'start': '1'})}"


def scene_address(one: str, other: str, spec: EpisodeSpec) -> str:
    """The address that has two agents ready for a scene, its sentence and what was changed in it.

    Args:
        one: name of the first in the catalogue.
        other: of the second.
        spec: the scene, its sentence and its condition.
    """
    changes = " ".join(map(words_of, spec.condition.perturbations))
    values = (one, other, spec.task, str(spec.seed), spec.instruction, changes, changes)
    chosen = {name: value for name, value in zip(NAMES, values, strict=True) if value}
    return f"compare?{urlencode(chosen)}#duet"


def _asked(known: list[str], asked: Mapping[str, str]) -> tuple[Any, ...]:
    """What the address chooses, the usual for the rest, and what of it cannot be had."""
    usual = (known[0], known[min(1, len(known) - 1)])
    chosen, refused = [], []
    for side, name in zip("ab", usual, strict=True):
        wanted = asked.get(f"live_{side}", "")
        chosen.append(wanted if wanted in known else name)
        if wanted and wanted not in known:
            refused.append(f"There is no {wanted} here; {side.upper()} is {name}.")
    which, number = asked.get("scene_task", TASK), asked.get("scene_seed", str(seeds.TEST[0]))
    try:
        scene = choose(which, int(number))
    except (UserError, ValueError):
        scene = choose(TASK, seeds.TEST[0])
        refused.append(
            f"There is no scene {number} of {which}; shown is {scene.scene.seed} of {scene.task}."
        )
    sentence = asked.get("say", "") or _offered_in(scene)
    menus = [gr.Dropdown(known, value=name) for name in chosen]
    changes = []
    for name in NAMES[-2:]:
        try:
            found = changes_of(asked.get(name, "").split())
        except UserError as error:
            found = ()
            refused.append(f"Nothing is changed for {name[-1].upper()}: {error}")
        changes.append(gr.Dropdown(_offered(found), value=[words_of(change) for change in found]))
    complaint = _alert(" ".join(refused)) if refused else ""
    place = (scene.task, scene.scene.seed)
    return (*menus, *place, sentence, *changes, complaint, place)


def _offered_in(scene: Choice) -> str:
    return suggestions(scene.scene, scene.task)[0]


def _means_something(sentence: str, scene: Scene) -> bool:
    try:
        return understand(sentence, scene).judged
    except UserError:
        return False


def _alert(message: str) -> str:
    return f'<p class="message" role="alert">{html.escape(message)}</p>'


def _offered(further: Sequence[Perturbation]) -> list[tuple[str, str]]:
    """What can be changed, as usual, and what an address asks for: its text and its words."""
    known = [PERTURBATIONS.get(name) for name in PERTURBATIONS]
    usual = [perturbation(one.name) for one in known if one.place in LIVE_PLACES]
    every = {words_of(change): change for change in (*usual, *further)}
    return [(_said(change), words) for words, change in every.items()]


def _said(change: Perturbation) -> str:
    known = PERTURBATIONS.get(change.name)
    numbers = ", ".join(f"{name} {value}" for name, value in change.values.items())
    return f"{known.place}: {known.short}" + (f" ({numbers})" if numbers else "")


def _told(
    services: Services, asked: list[Request], who: str, where: str
) -> Iterator[dict[str, Any]]:
    first, second = (Part(one.new_agent(), one.spec, one.told) for one in asked)
    playing = play_both(services.simulators, who, (first, second), services.archive, where)
    with contextlib.closing(playing) as seen:
        for pair in seen:
            sides = [_side(moment, one) for moment, one in zip(pair, asked, strict=True)]
            over = all(isinstance(one, Outcome | Finished) for one in pair)
            note = _ending(pair) if over else _note(pair)
            yield {
                "a": sides[0],
                "b": sides[1],
                "phase": "over" if over else "live",
                "note": note,
            }


def _note(pair: tuple[Moment, ...]) -> str:
    places = [one.place for one in pair if isinstance(one, Waiting)]
    if not places:
        return _LIVE
    if max(places):
        return "Every simulator is in use; both begin when two are free."
    return "The simulators are getting ready."


def _ending(pair: tuple[Moment, ...]) -> str:
    outcomes = [one.episode.outcome if isinstance(one, Finished) else one for one in pair]
    done = [
        name
        for name, one in zip("AB", outcomes, strict=True)
        if isinstance(one, Outcome) and one.success
    ]
    if any(isinstance(one, Outcome) and one.kind == "stopped" for one in outcomes):
        return "Stopped."
    said = {0: "Neither did it", 1: f"Only {done[0]} did it" if done else "", 2: "Both did it"}
    return f"{said[len(done)]}. One scene tells no difference: see above what many tell."


def _side(moment: Moment, asked: Request) -> dict[str, Any]:
    label = ", ".join(filter(None, [label_of(asked.entry.identity), asked.condition.label]))
    told = {"phase": "waiting", "badge": "waiting", "src": "", "step": 0, "caption": label}
    if isinstance(moment, Frame):
        if asked.entry.identity.kind == "policy":
            sentence = moment.told if moment.changes else asked.spec.instruction
            told |= {"eye": encode(moment.image), "told": sentence}
        return told | {
            "phase": "live",
            "badge": f"live, step {moment.step}",
            "src": encode(moment.view),
            "step": moment.step,
        }
    if isinstance(moment, Waiting):
        return told
    outcome = moment.episode.outcome if isinstance(moment, Finished) else moment
    phase = "success" if outcome.success else "failure"
    if outcome.kind in ("stopped", "not judged"):
        phase = "unjudged"
    told |= {"phase": phase, "badge": outcome.kind, "caption": f"{label}: {outcome.sentence}"}
    if isinstance(moment, Finished):
        told |= {"step": moment.episode.steps, "run": "" if moment.problem else moment.episode.id}
        told["caption"] = " ".join(filter(None, [str(told["caption"]), moment.problem]))
    return told


def _loading(turn: int, names: tuple[str, str]) -> dict[str, Any]:
    return _still(turn, names, "The checkpoints are being loaded.")


def _still(turn: int, names: tuple[str, str], note: str) -> dict[str, Any]:
    sides = [
        {"phase": "waiting", "badge": "", "src": "", "step": 0, "caption": name} for name in names
    ]
    return {"turn": turn, "a": sides[0], "b": sides[1], "phase": "waiting", "note": note}
