"""Distances in feature space that are worked out by hand, and the command that keeps them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.live.fake_simulators import FakeSimulators, Still
from tests.model.conftest import make
from vlm4vla.action import tiny
from vlm4vla.cli import main
from vlm4vla.commands import distance
from vlm4vla.core.condition import Condition
from vlm4vla.eval.picture_distance import (
    Played,
    by_parts,
    nearest,
    play,
    summarise,
    tells_failure,
)
from vlm4vla.model.policy import Policy
from vlm4vla.suites.registry import TABLETOP


def test_a_feature_counts_by_its_spread_over_the_reference_and_one_without_any_does_not() -> None:
    # Standard deviations 1 and 10; the third never varies.
    reference = np.array([[-1.0, -10, 7], [1, 10, 7]])
    points = np.array([[1.0, 10, 99], [1, 0, 7], [4, 50, 0]])
    # (1, 1) lies on a picture of the reference; (1, 0) one away, (4, 5) 3 and 4 from (1, 1).
    assert nearest(reference, points) == pytest.approx([0, 1, 5])


def of(task: str, *distances: float) -> tuple[str, Any]:
    return task, np.array(distances)


def test_a_failure_is_told_as_often_as_it_is_the_further_off() -> None:
    low, high = of("pick", 1, 1), of("pick", 4, 4)
    assert tells_failure([high, high], [low, low]) == 1
    assert tells_failure([low, high], [of("pick", 2), of("pick", 3)]) == 0.5
    # One tie of two counts half.
    assert tells_failure([of("pick", 2)], [of("pick", 2), low]) == 0.75


def test_only_what_both_episodes_reached_is_compared_and_only_within_a_task() -> None:
    # Over its first two steps the failure is nearer, whatever comes of it later.
    assert tells_failure([of("pick", 1, 1, 9, 9)], [of("pick", 2, 2)]) == 0
    assert tells_failure([of("pick", 1, 1, 9, 9)], [of("pick", 2, 2), of("stack", 0)]) == 0
    assert tells_failure([of("pick", 1)], [of("stack", 0)]) is None


def test_longer_episodes_of_the_same_kind_are_told_by_chance() -> None:
    rng = np.random.default_rng(0)
    failed = [of("pick", *rng.normal(size=80)) for _ in range(60)]
    done = [of("pick", *rng.normal(size=20)) for _ in range(60)]
    # Their largest distances would tell four of five.
    told = tells_failure(failed, done)
    assert told is not None and abs(told - 0.5) < 0.1


def test_parts_of_an_episode_hold_every_step() -> None:
    assert by_parts(np.arange(20.0)) == [0.5 + 2 * part for part in range(10)]
    assert by_parts(np.array([3.0])) == [3.0] * 10


def episode(by: str, success: bool, *values: float) -> tuple[dict[str, Any], Any]:
    return {"by": by, "task": "pick", "success": success}, np.array(values)[:, None]


def test_the_unit_is_the_experts_own_distance() -> None:
    reference = np.array([[-1.0], [1.0]])
    found = summarise(
        reference,
        [
            # 2 away from the nearest: the median.
            episode("expert", True, 3, 3),
            episode("policy", True, 5, 5),
            *(episode("policy", False, 9 + index, 1) for index in range(5)),
        ],
    )
    # On average 4 away, as the success is, to 6: one tie of five.
    assert (found["median"], found["failures"], found["told"]) == (2, 5, 0.9)
    means = {row["group"]: row["mean"]["mean"] for row in found["groups"]}
    # Failures: 0 and 8 to 12 away.
    assert means == pytest.approx({"expert": 1, "success": 2, "failure": 2.5})
    few = summarise(reference, [episode("expert", True, 3), episode("policy", False, 9)])
    assert few["told"] is None and [row["group"] for row in few["groups"]] == ["expert", "failure"]


def test_every_step_of_an_episode_is_seen_and_its_end_kept() -> None:
    spec = TABLETOP.spec("pick", 0, Condition())
    with FakeSimulators(lasts=5).lend() as environment:
        played = play(TABLETOP, environment, Still("expert"), spec)
    assert played.pictures[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5] and played.success


def test_the_command_prints_its_line_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    Policy(make(), tiny(), query_init="embedding").eval().save_pretrained(tmp_path / "one")

    class Nothing:
        def close(self) -> None:
            pass

    rng = np.random.default_rng(0)
    asked: list[tuple[str, int]] = []

    def one(suite: Any, environment: Any, agent: Any, spec: Any) -> Played:
        asked.append((agent.identity.kind, spec.seed))
        return Played(rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8), spec.seed % 2 == 0)

    monkeypatch.setattr(distance, "EnvironmentProcess", lambda suite: Nothing())
    monkeypatch.setattr(distance, "play", one)
    once = str(tmp_path / "one")
    words = ["distance", "--checkpoint", once, f"{once}/", "--tasks", "pick"]
    words += ["--episodes", "2", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    [answer] = json.loads(capsys.readouterr().out.splitlines()[-1])["policies"]
    expert, policy = (
        [("expert", seed) for seed in (1_000_000, 1_000_001, 100_000, 100_001)],
        [("policy", 100_000), ("policy", 100_001)],
    )
    assert asked == [*expert, *policy]
    assert (answer["pictures"], answer["episodes"], answer["failures"]) == (6, 2, 1)
    assert [row["group"] for row in answer["groups"]] == ["expert", "success", "failure"]
    assert answer["groups"][0]["mean"]["n"] == 2 and answer["told"] is None
    stored = json.loads((tmp_path / "out" / "picture-distance-one.json").read_text())
    assert stored == answer and "vlm4vla distance --checkpoint one" in stored["command"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["policies"] == [answer]
    assert len(asked) == 6
