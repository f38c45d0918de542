"""What is true in a picture, and which pictures are drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.episodes.examples import example
from vlm4vla import seeds
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Trace
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.representations.pictures import TARGETS, Pictures, moments
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.suite import goal_of
from vlm4vla.suites.tabletop.types import State
from vlm4vla.suites.tabletop.vocabulary import COLOURS


def test_the_truth_of_a_state_made_by_hand() -> None:
    spec = TABLETOP.spec("reach", 0, Condition())
    named = goal_of(spec).object
    others = ["red cube", "red ball", "blue cube"]
    names = (named, *[name for name in others if name != named], "green bowl")
    positions = np.array([[0.01 * i, -0.02 * i, 0.02] for i in range(len(names))], np.float32)
    state = State(
        tcp=np.array([0.1, 0.0, 0.25], np.float32),
        velocity=np.zeros(3, np.float32),
        opening=0.045,
        names=names,
        positions=positions,
        sizes=np.full(len(names), 0.04, np.float32),
        movable=len(names) - 1,
    )
    told = {target.name: target.of(state, spec) for target in TARGETS}
    np.testing.assert_allclose(told["named"], [[0.0, 0.0]])
    np.testing.assert_allclose(told["gripper"], [[10, 0, 25]], rtol=1e-5)
    np.testing.assert_allclose(told["height"], [[25]], rtol=1e-5)
    assert told["closed"] == [[1]]
    # The camera is 2 m from (-0.10, 0, 0.026) and looks 50 degrees down at it, against x.
    away = 200 - 100 * (0.10 * np.cos(np.radians(50)) + (0.02 - 0.026) * np.sin(np.radians(50)))
    np.testing.assert_allclose(told["depth"], [[away]], rtol=1e-5)
    # The finger tips are 23 cm above the named object.
    assert told["contact"] == [[0]]
    # Two red things: neither is "the red one". The bowl does not move, but its colour is seen.
    colours = list(COLOURS)
    assert np.isnan(told["object"][colours.index("red")]).all()
    assert np.isnan(told["object"][colours.index("green")]).all() == ("green" not in named)
    assert told["colour"][colours.index("green")] == 1
    blue = names.index("blue cube")
    np.testing.assert_allclose(
        told["object"][colours.index("blue")], [blue * 1.0, blue * -2.0], rtol=1e-5
    )


def test_every_scene_is_begun_once_and_all_seeds_are_unseen() -> None:
    found = moments(EpisodeTable.in_memory(), 30, "nobody")
    # Three layouts a seed, and no stored episode to take poses from.
    assert len(found) == 90
    assert {moment.spec.seed for moment in found} == set(seeds.TEST[:30])
    assert {moment.spec.task for moment in found} == set(TABLETOP.tasks)
    with pytest.raises(UserError):
        moments(EpisodeTable.in_memory(), 3, "nobody")


def test_poses_are_those_of_one_agent_whoever_else_acted() -> None:
    table = EpisodeTable.in_memory()
    other = example(0, agent="0" * 16)
    own = example(0, agent="1" * 16)
    changed = replace(own, trace=Trace(own.trace.joints + 1, own.trace.poses))
    table.put(other)
    table.put(changed)
    [pose] = [one.pose for one in moments(table, 30, "1" * 16) if one.pose is not None]
    assert (pose.joints == changed.trace.joints).all(1).any()
    assert not (pose.joints == other.trace.joints).all(1).any()
    assert all(one.pose is None for one in moments(table, 30, "2" * 16))


def test_pictures_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"object": (6, 2), "named": (1, 2), "gripper": (1, 3), "colour": (6, 1)}
    kept = Pictures(
        rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8),
        ("a", "b", "c d", "e", "f"),
        np.arange(5),
        np.array([True, False, True, True, False]),
        {t.name: rng.normal(size=(5, *shapes.get(t.name, (1, 1)))) for t in TARGETS},
    )
    kept.save(tmp_path / "p.npz")
    back = Pictures.load(tmp_path / "p.npz")
    assert back.instructions == kept.instructions
    assert (back.images == kept.images).all() and (back.first == kept.first).all()
    assert all((back.truth[name] == kept.truth[name]).all() for name in kept.truth)
    # What was drawn for other questions is read as far as one asks.
    assert list(Pictures.load(tmp_path / "p.npz", TARGETS[:2]).truth) == ["object", "named"]
