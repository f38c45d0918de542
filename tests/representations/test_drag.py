"""An object that is moved: where it can stand, and what probes and tokens make of it."""

import argparse
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.model.conftest import make
from tests.representations.test_command import painted
from vlm4vla.action import tiny
from vlm4vla.commands import represent
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Drawing, Pose, Transition
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.representations.drag import (
    CLEAR,
    STEPS,
    TARGET,
    Track,
    follow,
    places_of,
    read_drag,
    strip,
    together,
    track,
)
from vlm4vla.representations.layers import Layer
from vlm4vla.representations.pictures import CENTIMETRES
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import WORKSPACE
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, goal_of, scene_of
from vlm4vla.suites.tabletop.types import State

SPEC = TABLETOP.spec("reach", 40, Condition())
OBJECTS = scene_of(SPEC).objects
NAMED = next(n for n, one in enumerate(OBJECTS) if one.name == goal_of(SPEC).object)


class Table:
    """An environment that shows a white square where the named object stands: down is x."""

    def reset(self, spec: Any) -> Transition:
        poses = np.array([(one.x, one.y, 0.02, 1, 0, 0, 0) for one in OBJECTS], np.float32)
        pose = Pose(np.zeros(9, np.float32), poses)
        seen = Observation(0, {}, np.zeros(4, np.float32))
        return Transition(seen, (), False, False, pose=pose)

    def draw(self, spec: Any, pose: Pose, cameras: Any) -> Drawing:
        picture = np.zeros((128, 128, 3), np.uint8)
        top = round(float(np.interp(pose.poses[NAMED, 0], WORKSPACE[0], (0, 96))))
        picture[top : top + 32, 48:80] = 255
        names = tuple(one.name for one in OBJECTS)
        zero = np.zeros(3, np.float32)
        sizes = np.full(len(names), 0.04, np.float32)
        state = State(zero, zero, 0.08, names, pose.poses[:, :3], sizes, len(names))
        return Drawing({POLICY_CAMERA: picture}, None, state)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def moved() -> Track:
    return track(Table(), SPEC, lambda line: None)  # type: ignore[arg-type]


def test_places_are_on_the_table_and_clear_of_the_other_objects() -> None:
    places = places_of(SPEC)
    assert places[0] == pytest.approx((OBJECTS[NAMED].x, OBJECTS[NAMED].y))
    (x0, x1), (y0, y1) = WORKSPACE
    assert ((places >= (x0, y0)) & (places <= (x1, y1))).all()
    others = [(one.x, one.y) for n, one in enumerate(OBJECTS) if n != NAMED]
    away = [min(np.hypot(x - a, y - b) for a, b in others) for x, y in places]
    assert min(away) >= CLEAR
    # Each of the others covers less than 6 x 6 steps of 2.3 and 2.5 cm.
    assert STEPS**2 - 36 * len(others) < len(places) - 1 < STEPS**2
    assert len(np.unique(places, axis=0)) == len(places)


def test_only_the_named_object_is_moved(moved: Track) -> None:
    told = moved.pictures.truth["named"][:, 0]
    assert told == pytest.approx(moved.places * CENTIMETRES, abs=1e-4)
    assert moved.object.name == goal_of(SPEC).object
    assert moved.height == pytest.approx(0.02)
    assert set(moved.pictures.instructions) == {SPEC.instruction}


def test_what_a_layer_holds_is_found_and_what_it_lacks_is_not(moved: Track) -> None:
    whole, parts = together(painted(60), moved.pictures)
    n = len(moved.places)
    assert not (parts.fit | parts.choose | parts.test)[-n:].any()
    truth = whole.truth[TARGET][:, 0]
    noise = np.random.default_rng(0).normal(size=(len(whole), 1, 8))
    tokens = np.ones((len(whole), 4, 2))
    # The third token grows with the place: from 1 by a tenth of its length, half of it at most.
    tokens[-n:, 2] *= 1 + np.linspace(0, 0.5, n)[:, None]
    seen = {
        Layer("vision", 1): noise,
        Layer("picture", 1): tokens,
        Layer("query", 1): np.concatenate([truth, truth**2], 1)[:, None],
    }
    lost, map_, knows = follow(seen, whole, parts, moved, lambda line: None)  # type: ignore[arg-type]
    assert max(knows["off"]) < 0.5 < np.mean(lost["off"])
    assert knows["cm"][3] == pytest.approx(100 * moved.places[3], abs=0.5)
    assert "change" not in lost and "change" not in knows
    assert (map_["side"], map_["most"]) == (2, pytest.approx(0.5))
    levels = np.frombuffer(base64.b64decode(map_["change"]), np.uint8).reshape(n, 4)
    assert levels[:, 2].tolist() == [round(255 * k / (n - 1)) for k in range(n)]
    assert not levels[:, [0, 1, 3]].any()


def test_pictures_lie_in_rows() -> None:
    shades = np.arange(15, dtype=np.uint8) * 16
    images = np.broadcast_to(shades[:, None, None, None], (15, 32, 32, 3))
    sheet = np.asarray(Image.open(io.BytesIO(strip(images))).convert("L"))
    assert sheet.shape == (64, 32 * STEPS)
    assert abs(int(sheet[16, 32 * 12 + 16]) - 12 * 16) < 6
    assert abs(int(sheet[48, 32 + 16]) - 14 * 16) < 6


def test_the_command_writes_one_file_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    Policy(make(), tiny(), query_init="embedding").save_pretrained(tmp_path / "one")
    monkeypatch.setattr(represent, "_pictures", lambda scenes: (painted(), tmp_path / "work"))
    monkeypatch.setattr(represent, "EnvironmentProcess", lambda suite: Table())
    args = argparse.Namespace(
        checkpoint=[str(tmp_path / "one")], scenes=40, out=tmp_path / "out", drag=True
    )
    assert read_drag(tmp_path / "out") is None
    assert represent.run(args) == 0
    found = read_drag(tmp_path / "out")
    assert found is not None
    assert found["command"] == "vlm4vla represent --checkpoint one --scenes 40 --drag"
    assert (found["seed"], found["object"]) == (40, goal_of(SPEC).object)
    [encoder] = found["encoders"]
    assert [one["name"] for one in encoder["layers"]][-1] == "query 3"
    for layer in encoder["layers"]:
        assert len(layer["off"]) == len(layer["at"]) == len(found["cm"]) == len(found["at"])
    # Where the object has not moved nothing changes; where it has, something does.
    [first] = [one for one in encoder["layers"] if one["name"] == "projector"]
    levels = np.frombuffer(base64.b64decode(first["change"]), np.uint8)
    levels = levels.reshape(len(found["cm"]), first["side"] ** 2)
    assert not levels[0].any() and levels.max() == 255
    assert "puts the" in capsys.readouterr().out
    (tmp_path / "out" / "drag.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        read_drag(tmp_path / "out")
