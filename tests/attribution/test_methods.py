import numpy as np
import pytest

from tests.attribution.toys import Toy, noise
from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.attribution.gradient import gradient_times_input, integrated_gradients
from vlm4vla.attribution.inputs import (
    COVERS,
    Question,
    blurred,
    covered,
    grey,
    mean_colour,
    to_grid,
)
from vlm4vla.attribution.methods import METHODS
from vlm4vla.attribution.occlusion import (
    leave_one_word_out,
    object_occlusion,
    occlusion,
    painted_over,
    replace_one_word,
)
from vlm4vla.attribution.score import sentence_values
from vlm4vla.attribution.target import AGREEMENT, DISPLACEMENT, GRIPPER
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy


@pytest.fixture(scope="module")
def shipped():
    return Policy.from_pretrained(SHIPPED / "qwen3vl-tiny")


def cells(**bright):
    """A black picture in which some cells, named c0 to c63, have this red."""
    picture = np.zeros((128, 128, 3), np.uint8)
    for name, red in bright.items():
        row, column = divmod(int(name[1:]), 8)
        picture[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16, 0] = red
    return Question(picture, "pick up the red cube")


def test_occlusion_finds_the_one_cell_that_a_policy_looks_at():
    found = occlusion(Toy(lambda red: red[:, 7] / 2), cells(c7=255, c30=255), DISPLACEMENT)
    # 2 of 64 cells have red 255: the mean is 8 after rounding. The action goes 30 mm.
    expected = np.zeros((8, 8))
    expected[0, 7] = 30 * (1 - 8 / 255)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.value == pytest.approx(30)


def test_methods_of_pictures_and_tokens_find_the_cell_that_a_policy_looks_at():
    policy = Toy(lambda red: red[:, 56] / 2)
    for name in ("occlusion", "occlusion-grey", "occlusion-blur", "gradient", "integrated"):
        found = METHODS[name](policy, noise(), DISPLACEMENT)
        assert np.abs(found.scores).argmax() == 56, name
        assert np.count_nonzero(np.abs(found.scores) > 1e-9) == 1, name


def test_gradient_times_input_of_a_linear_policy():
    # x = c3 / 2 - c40 / 4 with c3 = 1 and c40 = 0.4: 30 mm and -6 mm.
    policy = Toy(lambda red: red[:, 3] / 2 - red[:, 40] / 4)
    found = gradient_times_input(policy, cells(c3=255, c40=102, c50=200), DISPLACEMENT)
    expected = np.zeros(64)
    expected[3], expected[40] = 30, -6
    np.testing.assert_allclose(found.scores.ravel(), expected, atol=1e-6)
    assert found.value == pytest.approx(24)


def test_integrated_gradients_of_a_product():
    # The baseline is 8 / 255 everywhere. Along the way to (1, 1) each factor gains the same:
    # (1 - m) times the mean (1 + m) / 2 of the other one.
    policy = Toy(lambda red: red[:, 3] * red[:, 40])
    found = integrated_gradients(policy, cells(c3=255, c40=255), DISPLACEMENT)
    m = 8 / 255
    expected = np.zeros(64)
    expected[3] = expected[40] = 60 * (1 - m) * (1 + m) / 2
    np.testing.assert_allclose(found.scores.ravel(), expected, atol=1e-5)
    assert found.reference == pytest.approx(60 * m * m)
    assert found.scores.sum() == pytest.approx(found.value - found.reference)


def test_a_word_left_out_takes_its_part_with_it():
    asked = Question(noise().picture, "Pick  up the RED cube.")
    found = leave_one_word_out(Toy(lambda red: red[:, 0]), asked, GRIPPER)
    assert (found.value, found.scores.tolist()) == (4, [0, 0, 0, 3, 1])


def test_a_word_is_replaced_by_others_of_its_sort():
    # "red" gives 3, every other colour nothing; "cube" gives 1, a ball and a cylinder nothing.
    found = replace_one_word(Toy(lambda red: red[:, 0]), noise(), GRIPPER)
    assert found.value == 4
    np.testing.assert_array_equal(found.scores, [np.nan, np.nan, np.nan, 3, 1])


def test_a_thing_is_taken_away_in_any_way():
    # x is half of the mean red of cells 3 and 4; each way of taking a thing away has its own red.
    asked = cells(c3=255, c4=255)
    policy = Toy(lambda red: (red[:, 3] + red[:, 4]) / 4)
    there = np.zeros((128, 128), bool)
    there[:16, 48:64] = True
    covers = {"mean": 8, "grey": 128}
    for name, left in covers.items():
        without = painted_over(asked.picture, {"cube": there}, COVERS[name])
        found = object_occlusion(policy, asked, DISPLACEMENT, without)
        assert found.scores == pytest.approx([15 * (1 - left / 255)], rel=1e-5), name
    gone = {"cube": cells(c4=255).picture, "ball": asked.picture}
    found = object_occlusion(policy, asked, DISPLACEMENT, gone)
    np.testing.assert_allclose(found.scores, [15, 0], atol=1e-5)


def test_the_shipped_policys_integrated_gradients_are_complete(shipped):
    for target in (DISPLACEMENT, GRIPPER):
        found = integrated_gradients(shipped, noise(), target)
        difference = found.value - found.reference
        assert abs(difference) > 0.1
        assert found.scores.sum() == pytest.approx(difference, rel=0.03)
    assert all(parameter.grad is None for parameter in shipped.parameters())


def test_the_shipped_policys_occlusion_is_what_its_actions_do(shipped):
    asked = noise()
    found = occlusion(shipped, asked, AGREEMENT, cover=blurred)
    hidden = asked.picture.copy()
    hidden[32:48, 64:80] = blurred(asked.picture)[32:48, 64:80]
    chunks = shipped.act(np.stack([asked.picture, hidden]), [asked.instruction] * 2)
    moved = np.linalg.norm(chunks[0, 0, :3] - chunks[1, 0, :3]) * 100
    assert moved > 0.01
    assert found.scores[2, 4] == pytest.approx(moved, rel=1e-2)


def test_the_shipped_policys_words_are_read_anew(shipped):
    asked = noise()
    found = leave_one_word_out(shipped, asked, DISPLACEMENT)
    [shorter] = sentence_values(shipped, asked, DISPLACEMENT, ["pick up the cube"])
    assert len(found.scores) == 5
    assert found.scores[3] == pytest.approx(found.value - shorter, abs=1e-3)


def test_cells_are_covered_and_nothing_else():
    asked = noise()
    chosen = np.zeros((1, 64), bool)
    chosen[0, [0, 63]] = True
    for cover in (mean_colour, blurred, grey):
        [found] = covered(asked.picture, chosen, cover)
        changed = (found != asked.picture).any(-1)
        assert not changed[16:].any(axis=None, where=np.arange(16, 128)[:, None] < 112)
        assert changed[:16, :16].mean() > 0.9 and changed[112:, 112:].mean() > 0.9
        assert not changed[:16, 16:].any() and not changed[112:, :112].any()
    # A picture that the grid does not divide still lies in cells from edge to edge.
    odd = covered(np.zeros((9, 11, 3), np.uint8) + np.uint8(7), np.ones((1, 64), bool))
    assert odd.shape == (1, 9, 11, 3) and (odd == 7).all()


def test_tokens_become_cells_and_nothing_is_lost():
    coarse = to_grid(np.arange(16.0))
    np.testing.assert_allclose(coarse[:2, :4], [[0, 0, 0.25, 0.25]] * 2)
    fine = to_grid(np.arange(256.0))
    assert fine[0, 1] == pytest.approx(2 + 3 + 18 + 19)
    np.testing.assert_allclose(to_grid(np.ones(100)), np.full((8, 8), 100 / 64))
    with pytest.raises(UserError, match="7 vision tokens"):
        to_grid(np.ones(7))


def test_what_cannot_be_explained_is_said():
    policy = Toy(lambda red: red[:, 0])
    with pytest.raises(UserError, match="no slope"):
        gradient_times_input(policy, noise(), AGREEMENT)
    with pytest.raises(UserError, match="Toy has no VLM"):
        METHODS["rollout"](policy, noise(), DISPLACEMENT)
    with pytest.raises(UserError, match="no word"):
        leave_one_word_out(policy, Question(noise().picture, " . "), GRIPPER)
    with pytest.raises(UserError, match="8 x 8 cells"):
        Question(np.zeros((7, 9, 3), np.uint8), "go")
