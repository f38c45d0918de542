"""Open-loop errors whose values are worked out by hand, and the command that keeps them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.live.fake_simulators import FakeSimulators, Still
from tests.model.conftest import make
from vlm4vla.action import tiny
from vlm4vla.cli import main
from vlm4vla.commands import openloop
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Event
from vlm4vla.errors import UserError
from vlm4vla.eval.open_loop import (
    Followed,
    follow,
    mean_of,
    measure,
    phases_of,
    predicted,
    summarise,
)
from vlm4vla.model.policy import Policy
from vlm4vla.suites.registry import TABLETOP

EVENTS = (Event(2, "reached"), Event(3, "grasped"), Event(4, "success"))


def followed(fingers: tuple[int, ...] = (1, 1, -1, -1)) -> Followed:
    """Four actions: 30 mm along x at each, the fingers as given."""
    actions = np.zeros((4, 7), np.float32)
    actions[:, 0] = 0.3
    actions[:, 6] = fingers
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    return Followed("pick up the red cube", pictures, actions, EVENTS)


def test_an_action_belongs_to_the_phase_that_was_reached_before_it() -> None:
    assert phases_of(EVENTS, 4).tolist() == [0, 0, 1, 2]
    assert phases_of((), 3).tolist() == [0, 0, 0]
    assert phases_of((Event(1, "reached"), Event(2, "reached")), 3).tolist() == [0, 1, 1]


def test_errors_by_dimension_phase_and_place_in_the_chunk() -> None:
    chunks = np.zeros((4, 2, 7), np.float32)
    chunks[..., 6] = 1
    # Off by 30 and 40 mm in y and z at the first action, then right; the second ones stand still.
    chunks[:, 0, 0] = 0.3
    chunks[0, 0, 1:3] = (0.3, -0.4)
    found = measure(followed(), chunks, (100.0, 100.0, 100.0))
    approach = found["phases"]["approach"]
    assert approach == pytest.approx(
        {"steps": 2, "x": 0, "y": 15, "z": 20, "length": 25, "still": 30}, abs=1e-4
    )
    assert found["phases"]["contact"]["length"] == pytest.approx(0, abs=1e-4)
    assert found["phases"]["all"]["length"] == pytest.approx(50 / 4, abs=1e-4)
    assert found["along"] == pytest.approx([50 / 4, 30], abs=1e-4)
    # The expert closes the fingers at step 2, this policy never.
    assert found["fingers"] == {"steps": 4, "otherwise": 2, "expert": 2, "policy": None}
    with pytest.raises(UserError, match="3 chunks do not belong to 4 actions"):
        measure(followed(), chunks[:3], (100.0,) * 3)


def test_a_chunk_that_foresees_what_the_expert_does_has_no_error() -> None:
    whole = followed().actions + np.linspace(0, 0.3, 4, dtype=np.float32)[:, None] * np.eye(7)[1]
    chunks = np.stack([whole[[min(t + k, 3) for k in range(3)]] for t in range(4)])
    found = measure(replace(followed(), actions=whole), chunks, (100.0,) * 3)
    assert found["along"] == pytest.approx([0, 0, 0], abs=1e-4)


def test_means_are_over_episodes_and_fingers_are_timed_where_the_expert_closes_them() -> None:
    def record(task: str, length: float, expert: int | None, policy: int | None) -> dict[str, Any]:
        cell = {"steps": 4, "x": length, "y": 0.0, "z": 0.0, "length": length, "still": 9.0}
        fingers = {"steps": 4, "otherwise": 1, "expert": expert, "policy": policy}
        return {
            "task": task,
            "phases": {"all": cell, "approach": cell},
            "along": [length, 2 * length],
            "fingers": fingers,
        }

    told = [
        record("reach", 1.0, None, None),
        record("pick", 2.0, 3, 5),
        record("pick", 6.0, 3, 2),
        record("pick", 7.0, 3, None),
    ]
    found = summarise(told)
    names = [(row["task"], row["phase"], row["n"]) for row in found["rows"]]
    assert names == [
        ("all", "all", 4),
        ("all", "approach", 4),
        ("reach", "all", 1),
        ("reach", "approach", 1),
        ("pick", "all", 3),
        ("pick", "approach", 3),
    ]
    means = [row["length"]["mean"] for row in found["rows"]]
    assert means == [4, 4, 1, 1, 5, 5]
    assert [one["mean"] for one in found["along"]] == [4, 8]
    fingers = found["fingers"]
    assert (fingers["closing"], fingers["never"]) == (3, 1)
    assert fingers["late"]["mean"] == pytest.approx(0.5) and fingers["late"]["n"] == 2
    assert fingers["otherwise"]["mean"] == pytest.approx(0.25)


def test_an_interval_holds_the_mean_and_shrinks_with_more_episodes() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    few, many = mean_of(values[:25]), mean_of(values)
    assert few.low < few.mean < few.high and many.low < many.mean < many.high
    # The standard error is 2 / sqrt(400) = 0.1; an interval is 3.92 of them wide.
    assert many.high - many.low == pytest.approx(0.392, rel=0.15)
    assert few.high - few.low > 3 * (many.high - many.low)


def test_the_expert_is_followed_step_by_step() -> None:
    spec = TABLETOP.spec("pick", 3, Condition())
    with FakeSimulators(lasts=5).lend() as environment:
        found = follow(TABLETOP, environment, Still("policy"), spec)
    # Pictures of the fake simulator show their step, and nobody acts on the last.
    assert found.pictures[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.actions.shape == (5, 7) and found.instruction == spec.instruction
    assert phases_of(found.events, 5).tolist() == [0, 0, 1, 1, 1]


def test_the_command_prints_its_line_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    policy = Policy(make(), tiny(), query_init="embedding").eval()
    policy.save_pretrained(tmp_path / "one")
    policy = Policy.from_pretrained(tmp_path / "one")

    class Nothing:
        def close(self) -> None:
            pass

    monkeypatch.setattr(openloop, "EnvironmentProcess", lambda suite: Nothing())
    monkeypatch.setattr(openloop, "follow", lambda *args: followed())
    once = str(tmp_path / "one")
    words = ["openloop", "--checkpoint", once, f"{once}/", "--tasks", "pick"]
    words += ["--episodes", "2", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    [answer] = json.loads(capsys.readouterr().out.splitlines()[-1])["policies"]
    chunks = predicted(policy, followed())
    wanted = summarise(2 * [{"task": "pick", **measure(followed(), chunks, (100.0,) * 3)}])
    assert {name: answer[name] for name in wanted} == wanted
    assert chunks.shape == (4, 4, 7) and answer["episodes"] == 2 and answer["success"] == {}
    stored = json.loads((tmp_path / "out" / "open-loop-one.json").read_text())
    assert stored == answer and "vlm4vla openloop --checkpoint one" in stored["command"]

    def never(*args: object) -> None:
        raise AssertionError("followed once more")

    monkeypatch.setattr(openloop, "follow", never)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["policies"] == [answer]


def test_a_policy_whose_actions_mean_something_else_is_refused_before_anybody_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    other = replace(tiny(), control_mode="pd_joint_pos")
    Policy(make(), other, query_init="embedding").save_pretrained(tmp_path / "other")

    def never(*args: object) -> None:
        raise AssertionError("a simulator was started")

    monkeypatch.setattr(openloop, "EnvironmentProcess", never)
    assert main(["openloop", "--checkpoint", str(tmp_path / "other"), "--episodes", "1"]) == 2
    told = capsys.readouterr().err
    assert "The actions of other have another meaning here: control_mode is pd_joint_pos" in told
