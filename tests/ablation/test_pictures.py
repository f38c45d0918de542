import numpy as np
import pytest

from vlm4vla.ablation.pictures import PICTURES, Truth, perturbed_picture
from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.errors import UserError

NOTHING = Truth()
PICTURE = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)


def changed(name, picture=PICTURE, seed=3, step=0, truth=NOTHING, **values):
    return perturbed_picture(picture, perturbation(name, values), seed, step, truth)


def test_every_perturbation_of_pictures_is_carried_out():
    assert {n for n in PERTURBATIONS if PERTURBATIONS.get(n).place == "picture"} == set(PICTURES)


def test_blank_is_one_grey_and_the_picture_itself_stays():
    before = PICTURE.copy()
    assert (changed("picture-blank") == 128).all()
    assert (changed("picture-blank", level=7) == 7).all()
    np.testing.assert_array_equal(PICTURE, before)


def test_noise_has_its_deviation_and_is_drawn_anew_at_every_step():
    grey = np.full((128, 128, 3), 128, np.uint8)
    one = changed("picture-noise", grey, sigma=10.0)
    # 49,152 draws: the deviation of 10 (10.004 once rounded) is known to 0.3 %.
    assert (one.astype(float) - 128).std() == pytest.approx(10.0, abs=0.2)
    np.testing.assert_array_equal(one, changed("picture-noise", grey, sigma=10.0))
    assert (one != changed("picture-noise", grey, step=4, sigma=10.0)).mean() > 0.5
    assert (one != changed("picture-noise", grey, seed=4, sigma=10.0)).mean() > 0.5
    np.testing.assert_array_equal(changed("picture-noise", sigma=0.0), PICTURE)


def test_blur_spreads_an_edge_and_keeps_what_is_even():
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 200
    blurred = changed("picture-blur", edge, sigma=2.0)
    assert blurred[16, 0].max() == 0 and blurred[16, -1].min() == 200
    # In the middle of a blurred edge both sides weigh the same.
    assert int(blurred[16, 15, 0]) + int(blurred[16, 16, 0]) == pytest.approx(200, abs=2)
    assert 0 < blurred[16, 14, 0] < 100


def test_patches_are_all_there_in_an_order_of_the_episode():
    def patches(picture):
        cut = picture.reshape(8, 16, 8, 16, 3).transpose(0, 2, 1, 3, 4)
        return [part.tobytes() for part in cut.reshape(64, -1)]

    shuffled = changed("picture-patches")
    assert sorted(patches(shuffled)) == sorted(patches(PICTURE))
    assert sum(a != b for a, b in zip(patches(shuffled), patches(PICTURE), strict=True)) > 50
    np.testing.assert_array_equal(shuffled, changed("picture-patches", step=9))
    assert patches(shuffled) != patches(changed("picture-patches", seed=4))
    with pytest.raises(UserError, match="no whole patches of 24"):
        changed("picture-patches", side=24)


def test_another_scene_s_picture_is_shown_as_a_copy():
    other = np.full_like(PICTURE, 9)
    shown = changed("picture-other", truth=Truth(other))
    np.testing.assert_array_equal(shown, other)
    assert shown is not other
    with pytest.raises(UserError, match="no picture of another scene"):
        changed("picture-other")


def test_what_is_painted_out_has_the_background_s_colour_and_the_rest_stays():
    hidden, background = np.zeros((2, 128, 128), bool)
    hidden[10:20, 10:20] = True
    background[100:] = True
    picture = PICTURE.copy()
    picture[100:] = (90, 80, 70)
    asked = []

    def covers(what):
        asked.append(what)
        return hidden, background

    painted = changed("picture-without", picture, truth=Truth(covers=covers), what="gripper")
    assert asked == ["gripper"]
    assert (painted[10:20, 10:20] == (90, 80, 70)).all()
    np.testing.assert_array_equal(painted[~hidden], picture[~hidden])
