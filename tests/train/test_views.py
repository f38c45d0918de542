import numpy as np
import pytest

from vlm4vla.sim.camera import policy_camera
from vlm4vla.sim.scene import sample_scene
from vlm4vla.train.views import DISTANCE, FOCAL, label_view, project


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
    segmentation, items = label_view(scene, positions, np.full(5, 400))
    assert [item.name for item in items] == [thing.name for thing in things]
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
    segmentation, _ = label_view(scene, positions, pixels)
    assert not (segmentation == 1).any()
    assert (segmentation == 0).any()
