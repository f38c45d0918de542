"""Contact sheets, with an environment that paints what it is asked for."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.suites.tabletop.moved import episode_of
from vlm4vla.core.environment import Drawing
from vlm4vla.core.episode import AgentId
from vlm4vla.inspection.sheets import CELL, COLUMNS, FRAMES, contact_sheet, moments, part_shown
from vlm4vla.suites.tabletop.projection import VIEW_LENS
from vlm4vla.suites.tabletop.suite import VIEW_CAMERA


class Painter:
    """An environment whose n-th picture is grey of the brightness 10 n."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def draw(self, spec: Any, pose: Any, cameras: Any) -> Drawing:
        self.asked.append(pose)
        picture = np.full((384, 384, 3), 10 * len(self.asked), np.uint8)
        return Drawing({VIEW_CAMERA: picture}, None, None)


def sheet_of(episode: Any) -> bytes:
    return contact_sheet(episode, Painter(), "001")  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_frames_lie_between_the_first_moment_and_the_last(steps: int) -> None:
    found = moments(steps)
    assert found == sorted(set(found))
    assert (found[0], found[-1], len(found)) == (0, steps, min(FRAMES, steps + 1))
    assert max(np.diff(found)) <= steps / (FRAMES - 1) + 1


def test_frames_stand_in_their_order() -> None:
    episode = episode_of("pick", steps=40)
    painter = Painter()
    drawn = contact_sheet(episode, painter, "001")  # type: ignore[arg-type]
    sheet = np.asarray(Image.open(io.BytesIO(drawn)))
    assert [pose.joints.tolist() for pose in painter.asked] == [
        episode.trace.joints[step].tolist() for step in moments(40)
    ]
    pitch = round(sheet.shape[1] / COLUMNS)
    corners = sheet[CELL - 8 - FRAMES // COLUMNS * pitch :: pitch, CELL - 8 :: pitch]
    assert corners[..., 0].ravel().tolist() == list(range(10, 170, 10))


def test_a_sheet_tells_neither_who_acted_nor_what_came_of_it() -> None:
    parts = {"steps": 5, "seed": 3}
    plain = episode_of("place", **parts)
    other = episode_of(
        "place",
        **parts,
        outcome="success",
        agent=AgentId("policy", "f" * 16, "another"),
        events=[(4, "reached"), (5, "wrong_object")],
    )
    assert sheet_of(plain) == sheet_of(other)
    assert sheet_of(plain) != sheet_of(episode_of("place", steps=5, seed=4))


def test_all_that_moves_is_within_the_part_that_is_shown() -> None:
    far = np.linspace((-0.2, -0.2, 0.1), (0.1, 0.2, 0.1), 5)
    episode = episode_of("pick", steps=4, hand=far)
    left, top, side = part_shown(episode)
    assert min(left, top) >= 0 and max(left, top) + side <= 1 + 1e-9
    seen = VIEW_LENS.project(np.concatenate([far, episode.trace.poses[:, :, :3].reshape(-1, 3)]))
    seen = seen.clip(0, 1)
    assert (seen >= (left - 1e-6, top - 1e-6)).all()
    assert (seen <= (left + side + 1e-6, top + side + 1e-6)).all()
