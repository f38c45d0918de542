import numpy as np
import pytest

from vlm4vla.suites.tabletop.camera import policy_camera
from vlm4vla.suites.tabletop.scene import sample_scene
from vlm4vla.train.batches.projection import DISTANCE, FOCAL, below, label_view, project

TIPS = np.array([0.05, 0.0, 0.12])


def test_the_projection_is_the_policy_cameras():
    config = policy_camera()
    matrix = config.pose.sp.to_transformation_matrix()
    focal = config.height / 2 / np.tan(config.fov / 2)
    points = np.random.default_rng(0).uniform((-0.3, -0.2, 0), (0.1, 0.2, 0.3), (50, 3))
    # SAPIEN's cameras look along x, with y to the left and z up.
    local = (points - matrix[:3, 3]) @ matrix[:3, :3]
    across = config.width / 2 - focal * local[:, 1] / local[:, 0]
    down = config.height / 2 - focal * local[:, 2] / local[:, 0]
    assert np.allclose(project(points), np.stack([across, down], -1), atol=0.02)


def test_near_things_lie_lower_and_the_robots_left_is_on_the_right():
    near, far = project(np.array([[0.05, 0.0, 0.02], [-0.15, 0.0, 0.02]]))
    assert near[1] > far[1]
    left = project(np.array([-0.1, 0.1, 0.02]))
    assert left[0] > 64


@pytest.fixture
def scene():
    return sample_scene("containers", 1_000_003)


def placed(scene):
    things = [*scene.objects, *scene.fixtures]
    positions = np.zeros((5, 3), np.float32)
    for i, thing in enumerate(things):
        positions[i] = thing.x, thing.y, 0.02
    return things, positions


def test_a_segmentation_shows_every_thing_where_it_is(scene):
    things, positions = placed(scene)
    segmentation, items = label_view(scene, positions, np.full(5, 400), TIPS)
    assert [item.name for item in items] == [*(thing.name for thing in things), "robotic arm"]
    for i, item in enumerate(items[: len(scene.objects)]):
        rows, columns = np.nonzero(segmentation == i)
        assert abs(columns.mean() - item.x) < 1.5
        assert abs(rows.mean() - item.y) < 1.5
        width = scene.objects[i].size * FOCAL / DISTANCE
        assert abs(np.ptp(columns) + 1 - 1.1 * width) < 3


def test_what_the_robot_hides_is_left_out(scene):
    _, positions = placed(scene)
    pixels = np.full(5, 400)
    pixels[1] = 10
    segmentation, _ = label_view(scene, positions, pixels, TIPS)
    assert not (segmentation == 1).any()
    assert (segmentation == 0).any()


def test_the_hand_is_seen_around_its_tips_and_placed_on_the_table_below_them(scene):
    segmentation, items = label_view(scene, np.full((5, 3), 9.0), np.zeros(5), TIPS)
    rows, columns = np.nonzero(segmentation == len(items) - 1)
    tips = project(TIPS)
    # The hand is 20 cm wide, 1.73 m from the camera, and hangs down to the tips.
    assert abs(columns.mean() - tips[0]) < 1
    assert abs(np.ptp(columns) + 1 - 0.20 * FOCAL / 1.73) < 4
    assert 0 < rows.max() - tips[1] < 8
    assert rows.min() < tips[1] - 20
    place = np.array([items[-1].x, items[-1].y])
    assert np.allclose(place, project(np.array([0.05, 0.0, 0.0])))
    # 12 cm of height seen from 50 degrees above: 12 cm times cos 50 in the picture.
    assert place[1] - tips[1] == pytest.approx(0.12 * np.cos(np.radians(50)) * FOCAL / 1.9, rel=0.1)


def test_below_keeps_where_and_drops_how_high():
    assert below(np.array([[0.1, -0.2, 0.3]])).tolist() == [[0.1, -0.2, 0.0]]
