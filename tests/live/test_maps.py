"""The live map: of the very weights, picture and step, and only for who wants one."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ablation.test_agent import Noting
from tests.attribution.toys import small
from tests.live.fake_simulators import FakeEnvironment, FakeSimulators, Still
from vlm4vla.agents.policy import PolicyAgent
from vlm4vla.attribution.inputs import Question
from vlm4vla.attribution.occlusion import occlusion
from vlm4vla.attribution.target import DISPLACEMENT
from vlm4vla.attribution.worth import NOT_MEASURED, worth
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Observation
from vlm4vla.episodes.archive import Archive
from vlm4vla.live import session
from vlm4vla.live.maps import EXPERT_HAS_NONE, LiveMap, MapWishes, NoMap
from vlm4vla.live.session import Frame, play
from vlm4vla.live.switches import BLIND, Switches
from vlm4vla.suites.registry import TABLETOP

SPEC = replace(TABLETOP.spec("pick", 4, Condition()), condition=Condition(words=GIVEN))


def picture(step: int) -> np.ndarray:
    return np.random.default_rng(step).integers(0, 256, (16, 16, 3), dtype=np.uint8)


class Noise(FakeEnvironment):
    """Every picture is noise of its own step."""

    def observe(self, cameras: Any) -> Any:
        seen = super().observe(cameras)
        images = {name: picture(self.done) for name in cameras}
        return replace(seen, observation=Observation(self.done, images, seen.observation.proprio))


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setattr(session, "STEPS_PER_SECOND", 1000)
    return Archive.open()


def acting(policy: Any) -> PolicyAgent:
    agent = PolicyAgent(policy, AgentId("policy", "0123", "small"))
    agent.replan_every = 3
    return agent


def maps_of(
    agent: Any, archive: Archive, method: str = "occlusion", when: int = 0, blind: int = -1
) -> list[LiveMap | NoMap | None]:
    """The maps of an episode of six steps; the method is chosen after the picture of a step."""
    simulators = FakeSimulators()
    simulators._new_environment = partial(Noise, simulators.gate, lasts=6)
    wishes, switches, found = MapWishes(), Switches(), []
    for moment in play(simulators, "a", agent, SPEC, archive, {}, switches=switches, wishes=wishes):
        if isinstance(moment, Frame):
            found.append(moment.map)
            if moment.step == when:
                wishes.choose("a", method)
            if moment.step == blind:
                switches.ask("a", BLIND)
    return found


def test_it_is_the_map_of_the_last_inference(archive: Archive) -> None:
    policy = small("qwen3-vl")
    first, *found = maps_of(acting(policy), archive)
    assert first is None
    # Three actions an inference: those at steps 0 and 3 lead to the pictures of six steps.
    assert [one.step for one in found] == [0, 0, 0, 3, 3, 3]
    for one in found:
        assert np.array_equal(one.picture, picture(one.step))
        question = Question(picture(one.step), SPEC.instruction)
        wanted = occlusion(policy, question, DISPLACEMENT).scores
        assert np.ptp(wanted) > 0
        np.testing.assert_allclose(one.scores, wanted, atol=1e-6)
    # One scale for the whole episode so far.
    largest = [float(np.abs(one.scores).max()) for one in (found[0], found[3])]
    assert [one.most for one in found] == pytest.approx([largest[0]] * 3 + [max(largest)] * 3)


def test_other_weights_make_another_map(archive: Archive) -> None:
    one, other = (maps_of(acting(small("qwen3-vl", seed=s)), archive)[1] for s in (0, 1))
    assert np.array_equal(one.picture, other.picture)
    assert np.corrcoef(one.scores.ravel(), other.scores.ravel())[0, 1] < 0.9


def test_both_methods_are_to_be_had_in_mid_run(archive: Archive) -> None:
    found = maps_of(acting(small("qwen3-vl")), archive, "gradient", when=4)
    assert found[:5] == [None] * 5
    assert [one.method for one in found[5:]] == ["gradient"] * 2
    assert found[5].step == 3 and found[5].scores.shape == (8, 8)


def test_a_blinded_policy_has_a_map_of_the_grey_that_it_sees(archive: Archive) -> None:
    *_, last = maps_of(acting(small("qwen3-vl")), archive, blind=1)
    assert (last.picture == 128).all()
    # Grey in the place of grey changes nothing.
    assert np.abs(last.scores).max() < 1e-4


def test_nobody_who_wants_none_has_one(archive: Archive) -> None:
    for method in ("", "attention", "nonsense"):
        assert maps_of(acting(small("qwen3-vl")), archive, method) == [None] * 7


def test_an_expert_has_none_and_it_is_said_why(archive: Archive) -> None:
    assert maps_of(Still("expert"), archive)[1:] == [NoMap(EXPERT_HAS_NONE)] * 6
    [reason] = {one.reason for one in maps_of(Noting(), archive)[1:]}
    assert "no policy that could be asked" in reason


def test_what_cannot_be_explained_does_not_end_the_episode(archive: Archive) -> None:
    agent = acting(small("qwen3-vl"))
    agent.policy.spec = replace(agent.policy.spec, units=("rad",) * 7)
    found = maps_of(agent, archive)
    assert len(found) == 7 and all(isinstance(one, NoMap) for one in found[1:])


def test_wishes_are_the_newest_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4vla.live.maps._MOST_VISITORS", 2)
    wishes = MapWishes()
    for visitor in "abac":
        wishes.choose(visitor, "occlusion")
    assert [wishes.chosen(visitor) for visitor in "abc"] == ["occlusion", "", "occlusion"]
    wishes.choose("a", "")
    assert wishes.chosen("a") == ""


def test_worth_is_told_where_it_was_measured(tmp_path: Path) -> None:
    def row(when: str, **changes: Any) -> dict[str, Any]:
        return {
            "when": when,
            "method": "occlusion",
            "target": "displacement",
            "n": 12,
            "infidelity": {"mean": 0.25, "low": 0.125, "high": 0.5},
            "against": [],
        } | changes

    rows = [row("first"), row("parting", against=["it is slow"]), row("first", method="rollout")]
    table = {"checkpoint": "0123", "command": "", "episodes": 12, "randomised": 0, "rows": rows}
    (tmp_path / "trust-one.json").write_text(json.dumps(table))
    said = worth("0123", "occlusion", "displacement", tmp_path)
    assert said.count("0.25 (95 % 0.12 to 0.50, n = 12)") == 2
    assert said.endswith("against it: it is slow where it leaves the expert.")
    assert worth("0123", "occlusion", "gripper", tmp_path) == NOT_MEASURED
    assert worth("4567", "occlusion", "displacement", tmp_path) == NOT_MEASURED
