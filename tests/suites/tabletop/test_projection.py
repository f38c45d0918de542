"""The lenses against what the simulator really draws."""

import numpy as np
import pytest

from vlm4vla.suites.tabletop.projection import POLICY_LENS, VIEW_LENS, outlines
from vlm4vla.suites.tabletop.scene import sample_scene
from vlm4vla.suites.tabletop.types import Pictures


def test_what_a_lens_aims_at_is_in_the_middle_and_left_is_left() -> None:
    for lens in (POLICY_LENS, VIEW_LENS):
        assert np.allclose(lens.project(np.array(lens.target)), 0.5)
    # The policy's camera stands opposite the robot: the robot's left (y) is on the right.
    across, down = POLICY_LENS.project(np.array([-0.10, 0.10, 0.026]))
    # 0.1 m at 2 m, of a picture that is 2 tan 0.1 wide at 1 m.
    assert across == pytest.approx(0.5 + 0.05 / (2 * np.tan(0.1)))
    assert down == pytest.approx(0.5)


@pytest.mark.parametrize("layout", ["objects", "zones", "containers"])
def test_outlines_lie_around_what_the_policy_camera_shows(tabletop, layout) -> None:
    scene = sample_scene(layout, 4)
    seen = tabletop.reset(scene, None, Pictures(segmentation=True))
    boxes = outlines(scene, POLICY_LENS)
    assert list(boxes) == list(seen.state.names)
    for index, box in enumerate(boxes.values()):
        rows, columns = np.nonzero(seen.segmentation == index)
        if len(rows) < 40:
            continue  # the arm hides it
        left, top, width, height = (128 * share for share in box)
        assert columns.min() >= left - 2 and columns.max() <= left + width + 1
        assert rows.min() >= top - 2 and rows.max() <= top + height + 1
        assert len(rows) >= 0.35 * width * height


def test_outlines_lie_around_what_people_see(tabletop) -> None:
    # A red object is the only thing whose pixels are much redder than green and blue.
    scene = next(
        scene
        for scene in (sample_scene("objects", seed) for seed in range(50))
        if "red cube" in [item.name for item in scene.objects]
    )
    view = tabletop.reset(scene, None, Pictures(image=False, view=True)).view.astype(int)
    red = (
        (view[..., 0] > 90) & (view[..., 0] > 2 * view[..., 1]) & (view[..., 0] > 2 * view[..., 2])
    )
    names = [item.name for item in scene.objects if item.name.startswith("red")]
    boxes = [outlines(scene, VIEW_LENS)[name] for name in names]
    rows, columns = np.nonzero(red)
    inside = np.zeros(len(rows), bool)
    for left, top, width, height in boxes:
        inside |= (
            (columns >= 384 * left - 2)
            & (columns <= 384 * (left + width) + 2)
            & (rows >= 384 * top - 2)
            & (rows <= 384 * (top + height) + 2)
        )
    assert len(rows) > 100
    assert inside.mean() > 0.97


def test_depth_is_along_the_view_whatever_lies_aside() -> None:
    down = np.radians(50)
    aim = np.array([-0.10, 0.0, 0.026])
    # Towards the camera, and across the view.
    nearer = aim + 0.3 * np.array([np.cos(down), 0, np.sin(down)])
    aside = aim + 0.2 * np.array([0, 1, 0])
    np.testing.assert_allclose(POLICY_LENS.depth(np.stack([aim, nearer, aside])), [2.0, 1.7, 2.0])
