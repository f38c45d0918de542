"""Bundles: made bit by bit, kept, resumed, and never mixed up."""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inspection.examples import POLICY, still_episode
from tests.shipped import shipped
from vlm4vla.ablation.registry import perturbation
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.condition import Perturbation
from vlm4vla.core.environment import Drawing
from vlm4vla.core.episode import AgentId, Episode, Trace
from vlm4vla.data.pictures import decode_image
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.labelling import examine
from vlm4vla.inspection import bundle as making
from vlm4vla.inspection import captions
from vlm4vla.inspection.bundle import Bundle, completed, shelf_of, started
from vlm4vla.inspection.explanation import Explanation
from vlm4vla.inspection.export import files_of, told, zipped
from vlm4vla.inspection.kinds import USUAL, MapKind
from vlm4vla.inspection.offline import offline_page
from vlm4vla.inspection.payload import headline, payload
from vlm4vla.inspection.pictures import draw_pictures
from vlm4vla.inspection.shelf import MOST_BUNDLES, Bundles

NOBODY = AgentCatalogue(roots=())

FAILED = "c5354b37593509ce"
"""A stack of a shipped evaluation that was let go beside its target."""

PERTURBED = "b48a1775babec45f"
"""A shipped episode with a blank picture and no sentence."""


class Painter:
    """Draws pictures that tell the draw's number."""

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, spec: Any, pose: Any, cameras: Any, **_: Any) -> Drawing:
        self.drawn += 1
        shades = {"policy": (128, self.drawn), "view": (384, self.drawn)}
        images = {
            name: np.full((side, side, 3), shade, np.uint8)
            for name, (side, shade) in shades.items()
        }
        return Drawing({name: images[name] for name in cameras}, None, None)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Any]:
        yield self


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small sums: a second thread would only wait for the first, and for everybody else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path / "inspections")


def episode(agent: AgentId = POLICY, steps: int = 12) -> Episode:
    return still_episode(np.tile([0.1, 0, 0, 0, 0, 0, 1.0], (steps, 1)), agent=agent)


def explanation(step: int, words: tuple[str, ...], turned: list[float]) -> Explanation:
    """One whose action each word turns so far."""
    nothing = np.zeros(len(words))
    return Explanation(
        step, np.zeros((8, 8)), words, nothing, np.array(turned), 0.0, np.zeros((0, 8, 8))
    )


def whole(
    found: Episode,
    bundles: Bundles,
    painter: Painter,
    catalogue: Any = NOBODY,
    kind: MapKind = USUAL,
) -> Bundle:
    bundle = started(found, bundles, kind)
    return [bundle, *completed(bundle, bundles, catalogue, painter.lend)][-1]


def test_pictures_of_every_moment_are_kept_and_not_drawn_twice(bundles: Bundles) -> None:
    painter, found = Painter(), episode()
    making_it = completed(started(found, bundles), bundles, NOBODY, painter.lend)
    assert len(next(making_it).pictures) == 4
    making_it.close()
    assert painter.drawn == 4
    bundle = whole(found, bundles, painter)
    assert painter.drawn == 13 and bundle.drawn
    # The pictures come back as they were drawn: shade 1 first, shade 13 last.
    assert [one.seen[0, 0, 0] for one in started(found, bundles).pictures] == list(range(1, 14))


def test_a_damaged_file_is_drawn_again(bundles: Bundles) -> None:
    painter, found = Painter(), episode()
    whole(found, bundles, painter)
    file = shelf_of(found, bundles).folder / "pictures-0004.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert len(started(found, bundles).pictures) == 4
    assert whole(found, bundles, painter).drawn


@pytest.mark.parametrize("part", ["joints", "poses", "chunk"])
def test_what_was_made_of_an_episode_that_was_replaced_is_not_shown(
    bundles: Bundles, part: str
) -> None:
    painter, found = Painter(), episode()
    whole(found, bundles, painter)
    joints, poses, first = found.trace.joints.copy(), found.trace.poses.copy(), found.predictions[0]
    chunk = first.chunk.copy()
    {"joints": joints, "poses": poses, "chunk": chunk}[part].flat[3] += 0.01
    predictions = (replace(first, chunk=chunk), *found.predictions[1:])
    again = replace(found, trace=Trace(joints, poses), predictions=predictions)
    assert again.id == found.id
    assert started(again, bundles).pictures == ()
    # Neither is in the other's way: what comes from the table is the same bit by bit.
    stored = EpisodeTable.in_memory()
    stored.put(found)
    assert len(started(stored.get(found.id), bundles).pictures) == 13


def test_what_cannot_be_made_is_named_and_the_rest_is_there(bundles: Bundles) -> None:
    @contextlib.contextmanager
    def none() -> Iterator[Any]:
        raise UserError("There is no renderer.", "Install one.")
        yield

    *_, bundle = completed(started(episode(), bundles), bundles, NOBODY, none)
    assert "There is no renderer" in bundle.missing[0]
    assert bundle.lanes.steps == 12 and payload(bundle)["expert"]["mm"]
    assert json.loads(files_of(bundle)["bundle.json"])["missing"] == list(bundle.missing)


def test_a_checkpoint_that_is_not_here_is_named(bundles: Bundles) -> None:
    bundle = whole(episode(), bundles, Painter())
    assert bundle.drawn and "0123456789abcdef" in bundle.missing[0]
    expert = whole(episode(agent=AgentId("expert", "expert")), bundles, Painter())
    assert "No policy acted" in expert.missing[0]


@pytest.mark.parametrize("change", [Perturbation("of tomorrow"), perturbation("skip-head")])
def test_no_map_is_made_where_what_was_changed_is_not_repeated(
    bundles: Bundles, change: Perturbation
) -> None:
    found = episode()
    condition = replace(found.spec.condition, perturbations=(change,))
    changed = replace(found, spec=replace(found.spec, condition=condition))
    assert change.name in whole(changed, bundles, Painter()).missing[0]


def test_maps_are_made_of_the_picture_and_the_sentence_that_the_policy_had(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, str]] = []

    def explain(policy: Any, picture: Any, told: str, one: Any, kind: Any) -> Explanation:
        asked.append((one.step, int(picture[0, 0, 0]), told))
        return explanation(one.step, (), [])

    monkeypatch.setattr("vlm4vla.inspection.explanation.explain", explain)
    monkeypatch.setattr(making, "policy_of", lambda *_: None)
    found = episode()
    changes = (perturbation("picture-blank", {"level": 77}, first_step=4),)
    changes += (perturbation("sentence-empty", first_step=8),)
    condition = replace(found.spec.condition, perturbations=changes)
    found = replace(found, spec=replace(found.spec, condition=condition))
    assert whole(found, bundles, Painter()).explained
    # The painter's first picture has the shade 1.
    sentence = found.spec.instruction
    assert sorted(asked) == [(0, 1, sentence), (4, 77, sentence), (8, 77, "")]


def drawn_cells(page: Any, text: str, file: Path) -> str:
    """The map as it is drawn over the first picture of a page that scrubs offline."""
    file.write_text(text)
    page.goto(file.as_uri())
    page.wait_for_selector("#viewer[data-frames][data-shown$='occlusion']", state="attached")
    return str(page.evaluate("document.querySelector('.iv-policy').toDataURL()"))


def test_other_weights_give_another_map_and_another_place(
    bundles: Bundles, tmp_path: Path, page: Any
) -> None:
    from vlm4vla.agents.policy import load_agent
    from vlm4vla.model.policy import Policy

    policy = Policy.from_vlm("qwen3-vl:tiny")
    policy.save_pretrained(tmp_path / "a" / "tiny")
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(
                0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            )
    policy.save_pretrained(tmp_path / "b" / "tiny")
    found = {}
    for name in "ab":
        catalogue = AgentCatalogue(roots=(tmp_path / name,))
        identity = load_agent(tmp_path / name / "tiny").identity
        bundle = whole(episode(identity, steps=4), bundles, Striped(), catalogue)
        assert bundle.missing == () and bundle.explained
        # Asked again, it is not the one that was made up.
        assert all(one.apart >= 0 and one.cells.shape == (8, 8) for one in bundle.explanations)
        assert all(len(one.bars) == len(one.words) > 0 for one in bundle.explanations)
        found[name] = bundle
        # What is kept is what was made.
        again = started(bundle.episode, bundles).explanations
        assert all(
            np.array_equal(one.cells, other.cells) and one.words == other.words
            for one, other in zip(again, bundle.explanations, strict=True)
        )
    assert (
        shelf_of(found["a"].episode, bundles).folder != shelf_of(found["b"].episode, bundles).folder
    )
    assert not np.allclose(found["a"].explanations[0].cells, found["b"].explanations[0].cells)
    # So do they in what is sent to be drawn, and in what is drawn; the pictures are the same.
    values = {name: payload(one) for name, one in found.items()}
    cells = {name: value["maps"][0]["rows"][0]["cells"] for name, value in values.items()}
    assert cells["a"] != cells["b"]
    assert values["a"]["frames"] == values["b"]["frames"]
    drawn = {
        name: drawn_cells(page, offline_page(value), tmp_path / f"{name}.html")
        for name, value in values.items()
    }
    assert drawn["a"] != drawn["b"]
    assert drawn["a"] == drawn_cells(page, offline_page(values["a"]), tmp_path / "a.html")


def untrained(folder: Path) -> tuple[AgentCatalogue, AgentId]:
    """A checkpoint of a policy that has learned nothing."""
    from vlm4vla.agents.policy import load_agent
    from vlm4vla.model.policy import Policy

    Policy.from_vlm("qwen3-vl:tiny").save_pretrained(folder / "tiny")
    return AgentCatalogue(roots=(folder,)), load_agent(folder / "tiny").identity


def test_each_kind_of_map_is_kept_under_its_own_name(bundles: Bundles, tmp_path: Path) -> None:
    catalogue, identity = untrained(tmp_path)
    found = episode(identity, steps=4)
    by_gradient = MapKind("gripper", "gradient")
    for kind in (USUAL, by_gradient, MapKind("gripper", "attention")):
        assert whole(found, bundles, Striped(), catalogue, kind).explained
    bundle = started(found, bundles)
    assert set(bundle.maps) == {USUAL, by_gradient, MapKind("gripper", "attention")}
    usual, gradient, attention = (one[0] for one in bundle.maps.values())
    assert not np.allclose(usual.cells, gradient.cells)
    assert len(usual.layers) == len(gradient.layers) == 0
    # Of attention there is a map a layer, shares each, of which the map is the mean.
    assert attention.layers.mean(0) == pytest.approx(attention.cells)
    assert attention.layers.min() > 0 and (attention.layers.sum((1, 2)) <= 1).all()
    # How far a word turns the action has nothing to do with the map.
    assert usual.turned == pytest.approx(gradient.turned) and (usual.turned >= 0).all()


def test_a_map_that_a_method_cannot_make_is_named(bundles: Bundles, tmp_path: Path) -> None:
    catalogue, identity = untrained(tmp_path)
    kind = MapKind("agreement", "gradient")
    bundle = whole(episode(identity, steps=4), bundles, Striped(), catalogue, kind)
    assert not bundle.maps and "no slope" in bundle.missing[0]


def test_a_map_comes_with_its_worth_and_the_command_that_makes_it(
    bundles: Bundles, page: Any, tmp_path: Path
) -> None:
    measured = AgentId("policy", "bed03166840b0dc4", "qwen3vl-tiny")
    found = episode(measured, steps=4)
    bundle = replace(
        whole(found, bundles, Striped()), maps={USUAL: (explanation(0, ("go",), [1.0]),)}
    )
    command = (
        f"vlm4vla attribute --run {found.id} --step 0 --method occlusion --target displacement "
        "--out maps"
    )
    # As in assets/results/trust-qwen3vl-tiny.json.
    worth = "infidelity 0.29 (95 % 0.24 to 0.34, n = 100) at the start"
    [kept] = json.loads(files_of(bundle)["bundle.json"])["maps"]
    assert kept["commands"] == [command] and worth in kept["worth"]
    assert (kept["unit"], kept["checkpoint"]) == ("mm", measured.digest)
    assert np.load(io.BytesIO(files_of(bundle)[kept["file"]]))["cells"].shape == (1, 8, 8)
    drawn_cells(page, offline_page(payload(bundle)), tmp_path / "page.html")
    assert worth in page.inner_text(".iv-worth")
    assert page.inner_text(".iv-command code") == command
    assert found.id in page.inner_text(".iv-caption")
    assert measured.digest in page.inner_text(".iv-caption")
    # What was not made cannot be chosen where there is nobody to make it.
    assert page.locator(".iv-method option:disabled").count() == 2


def test_maps_begin_at_the_step_that_is_looked_at(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def explain(policy: Any, picture: Any, text: str, one: Any, kind: Any) -> Explanation:
        asked.append(one.step)
        return explanation(one.step, ("a",), [0.0])

    monkeypatch.setattr("vlm4vla.inspection.explanation.explain", explain)
    monkeypatch.setattr(making, "policy_of", lambda *_: None)
    painter = Painter()
    list(completed(started(episode(), bundles), bundles, NOBODY, painter.lend, first=9))
    # Of the steps 0, 4 and 8: the nearest first.
    assert asked == [8, 4, 0]


class Striped(Painter):
    """Pictures in which no cell is like the mean."""

    def draw(self, spec: Any, pose: Any, cameras: Any, **_: Any) -> Drawing:
        plain = super().draw(spec, pose, cameras).images
        ramp = {
            n: np.linspace(0, 255, i.size).reshape(i.shape).astype(np.uint8)
            for n, i in plain.items()
        }
        return Drawing(ramp, None, None)


def test_explaining_goes_on_where_it_stopped(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def explain(
        policy: Any, picture: Any, instruction: str, prediction: Any, kind: Any
    ) -> Explanation:
        asked.append(prediction.step)
        return explanation(prediction.step, ("a",), [0.0])

    monkeypatch.setattr("vlm4vla.inspection.explanation.explain", explain)
    monkeypatch.setattr(making, "policy_of", lambda *_: None)
    found, painter = episode(), Painter()
    making_it = completed(started(found, bundles), bundles, NOBODY, painter.lend)
    for bundle in making_it:
        if bundle.explanations:
            break
    making_it.close()
    assert len(asked) == 1
    assert whole(found, bundles, painter).explained
    assert sorted(asked) == [0, 4, 8]


def test_the_oldest_bundles_make_room(bundles: Bundles) -> None:
    for index in range(MOST_BUNDLES + 3):
        bundles.of(still_episode(np.zeros((4, 7)), seed=index), "").write("x", {"a": np.zeros(1)})
    assert len(list(bundles.folder.iterdir())) == MOST_BUNDLES


def test_the_files_hold_what_was_made(bundles: Bundles) -> None:
    bundle = whole(episode(), bundles, Painter())
    files = files_of(bundle)
    assert len([name for name in files if name.startswith("pictures/policy")]) == 13
    lanes = np.load(io.BytesIO(files["lanes.npz"]))
    assert lanes["commanded"] == pytest.approx(np.tile([10.0, 0, 0], (12, 1)), abs=1e-4)
    assert set(told(bundle)) >= {"id", "diagnosis", "parting", "rule", "missing", "explained"}
    assert zipped(files) == zipped(files)


def test_a_sentence_that_changes_its_length_leaves_gaps(bundles: Bundles) -> None:
    explained = (explanation(0, ("go",), [1.0]), explanation(4, ("go", "on"), [2.0, 3.0]))
    bundle = replace(started(episode(), bundles), maps={USUAL: explained})
    files = files_of(bundle)
    [kept] = json.loads(files["bundle.json"])["maps"]
    assert kept["words"] == [["go"], ["go", "on"]]
    arrays = np.load(io.BytesIO(files[kept["file"]]))
    assert arrays["turned"] == pytest.approx(np.array([[1, np.nan], [2, 3]]), nan_ok=True)
    assert arrays["bars"].shape == (2, 2)


def test_words_that_are_not_heeded_are_named_once_somebody_looked_elsewhere(
    bundles: Bundles,
) -> None:
    bundle = whole(episode(), bundles, Painter())
    name = bundle.lanes.things[0]
    colour, kind = name.split()
    said = replace(bundle.diagnosis, kind="aimed elsewhere", sentences="It went off.", parting=4)
    one = explanation(4, ("the", colour, kind), [0.2, 0.4, 9.0])
    # Whatever the maps explain: a word that turns the action aside takes nothing off its way.
    bundle = replace(bundle, diagnosis=said, maps={MapKind("gripper", "attention"): (one,)})
    assert said.failure
    told_of = f"It went off. At step 4 it did not heed “{colour}” (0.4 mm)."
    assert headline(bundle) == f"{said.failure.text} {told_of}"


def test_a_shipped_failure_is_told_as_among_the_failures(bundles: Bundles, tmp_path: Path) -> None:
    [found] = shipped("paligemma-tiny-known", [FAILED], tmp_path).values()
    kept = examine(found)
    value = payload(started(found, bundles))
    first = f"{kept.label.capitalize()}, step {kept.step}: {kept.finding['sentence']}"
    assert value["diagnosis"].startswith(f"{first} ")
    assert value["failure"] == [kept.step, kept.label]
    assert value["park"] == kept.step < found.steps


def test_a_shipped_perturbed_episode_is_drawn_and_told_as_the_policy_had_it(
    bundles: Bundles, environment: Any, tmp_path: Path
) -> None:
    [found] = shipped("qwen3vl-tiny-ablation", [PERTURBED], tmp_path).values()
    shelf = shelf_of(found, bundles)
    pictures = next(draw_pictures(shelf, found, environment))
    # One grey everywhere, and the table for people.
    assert all((one.seen == 128).all() for one in pictures)
    assert np.std(decode_image(pictures[0].view)) > 10
    value = payload(started(found, bundles))
    assert value["told"] == "told nothing"
    assert value["seen"] == (
        "What the policy saw under picture-blank (level 128), one grey everywhere"
    )


@pytest.mark.parametrize(
    ("changes", "seen", "said"),
    [
        ((), "What the policy sees", ""),
        ((perturbation("light"),), "What the policy sees", ""),
        ((perturbation("skip-head"),), "What the policy sees", ""),
        (
            (perturbation("picture-blank", first_step=4),),
            "What the policy saw under picture-blank (level 128) from step 4 on, "
            "one grey everywhere",
            "",
        ),
        (
            (perturbation("sentence-empty", first_step=4),),
            "What the policy sees",
            "told “lift the orange ball”, told nothing from step 4 on",
        ),
        (
            (Perturbation("of tomorrow"),),
            "Not what the policy saw: this version does not know how of tomorrow changed it, and "
            "shows the picture without that",
            "",
        ),
    ],
)
def test_captions_say_what_the_policy_saw_and_was_told(
    changes: tuple[Perturbation, ...], seen: str, said: str
) -> None:
    found = episode()
    condition = replace(found.spec.condition, perturbations=changes)
    spec = replace(found.spec, instruction="lift the orange ball", condition=condition)
    found = replace(found, spec=spec)
    assert (captions.shown(found), captions.told(found)) == (seen, said)


def test_where_no_policy_acted_the_picture_is_what_one_would_see() -> None:
    assert captions.shown(episode(EXPERT)) == "What a policy would see"


def test_one_page_scrubs_without_a_server(bundles: Bundles, page: Any, tmp_path: Path) -> None:
    text = offline_page(
        payload(whole(episode(), bundles, Striped())) | {"instruction": "</script>"}
    )
    assert not re.findall(r"(?:src|href)=", text) and "https://" not in text
    (tmp_path / "page.html").write_text(text)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("#viewer[data-frames='13']", state="attached")
    before = int(page.get_attribute("#viewer", "data-step"))
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"#viewer[data-step='{before + 1}']", state="attached")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_selector(f"#viewer[data-step='{min(12, before + 11)}']", state="attached")
    assert "</script>" in page.inner_text(".iv-facts")
    assert complaints == []
