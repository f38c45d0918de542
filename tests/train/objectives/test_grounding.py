from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic import make_cache

from vlm4vla import action
from vlm4vla.model.policy import Policy
from vlm4vla.train.batches.frames import Frames
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.grounding import (
    BINS,
    HIGH,
    LOW,
    Grounded,
    GroundingHead,
    GroundingObjective,
    GroundingRecipe,
    Points,
    check_numbers,
    measure_grounding,
    point_errors,
    points_of,
)
from vlm4vla.train.objectives.imitation import ImitationObjective, ImitationRecipe
from vlm4vla.train.objectives.language import make_backbone

LOOP = Recipe(steps=1, batch=1, learning_rate=1e-3)
SIZES = {"vision_layers": 2, "vision_width": 48, "language_layers": 2, "language_width": 48}


@pytest.fixture(scope="module")
def head():
    return GroundingHead(8)


def logits_of(head, points):
    """Logits whose probabilities are the two-bin targets of the loss."""
    low, width = head.centres[:, 0], head.centres[:, 1] - head.centres[:, 0]
    where = (points - low) / width
    left = where.floor()
    share = (where - left)[..., None]
    bins = torch.arange(BINS)
    target = (bins == left[..., None]) * (1 - share) + (bins == left[..., None] + 1) * share
    return target.clamp(min=1e-9).log()


def test_places_lie_between_bins(head):
    points = torch.tensor([[[0.013, -0.071, 0.044], [-0.2, 0.1, 0.02], [0.0, 0.0, 0.1]]])
    assert torch.allclose(head.places(logits_of(head, points)), points, atol=1e-4)


def test_bins_cover_the_axes(head):
    width = (torch.tensor(HIGH) - torch.tensor(LOW)) / BINS
    assert torch.allclose(head.centres[:, 0], torch.tensor(LOW) + width / 2)
    assert torch.allclose(head.centres[:, -1], torch.tensor(HIGH) - width / 2)


@pytest.mark.parametrize(
    ("objective", "recipe"),
    [(GroundingObjective, GroundingRecipe), (ImitationObjective, ImitationRecipe)],
)
def test_heads_are_drawn_from_the_seed_and_the_process_draws_what_it_would_have(objective, recipe):
    policy = Policy(make_backbone(**SIZES, heads=4), action.tiny())
    cache = make_cache(episodes=4, frames=2)
    frames = Frames(cache, np.arange(len(cache)))

    def heads(seed):
        module = objective(policy, frames, recipe(replace(LOOP, seed=seed))).module
        return {n: p for n, p in module.named_parameters() if not n.startswith("policy.")}

    state = torch.get_rng_state()
    first, again, other = heads(3), heads(3), heads(4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    differ = {name for name, value in first.items() if not torch.equal(value, other[name])}
    assert {"sight.hand.places", "sight.hand.looks"} < differ
    assert any(name.startswith(("head.", "grounding.")) for name in differ)


def test_loss_of_a_uniform_guess_is_the_logarithm_of_the_bins(head):
    points = torch.zeros(2, 3, 3)
    known = torch.ones(2, 3, dtype=torch.bool)
    assert head.loss(torch.zeros(2, 3, 3, BINS), points, known).item() == pytest.approx(
        np.log(BINS), rel=1e-5
    )


@pytest.mark.parametrize(
    ("axis", "metres", "best"), [(0, -0.221, 10), (1, 0.0065, 24), (2, 0.020, 3)]
)
def test_the_loss_is_least_where_the_bin_of_the_point_is_named(head, axis, metres, best):
    # 48 bins of 11.25 mm from -0.34 on, of 11.667 mm from -0.28 on, and of 5.833 mm from 0 on: the
    # middle of bin 10 of the first is at -0.34 + 10.5 * 0.01125 = -0.2219, that of bin 24 of the
    # second at -0.28 + 24.5 * 0.011667 = 0.0058, that of bin 3 of the third at 0.0204.
    points = torch.full((1, 3, 3), 0.1)
    points[..., axis] = metres
    known = torch.ones(1, 3, dtype=torch.bool)
    losses = []
    for number in range(BINS):
        logits = torch.zeros(1, 3, 3, BINS)
        logits[:, :, axis, number] = 5
        losses.append(head.loss(logits, points, known).item())
    assert int(np.argmin(losses)) == best


def test_a_point_between_two_bins_asks_for_both(head):
    # -0.34 + 11 * 0.01125 is the end of bin 10 and the beginning of bin 11.
    points = torch.full((1, 3, 3), 0.1)
    points[..., 0] = -0.21625
    logits = torch.zeros(1, 3, 3, BINS)
    logits[..., 0, 10:12] = 100
    entropy = head.loss(logits, points, torch.ones(1, 3, dtype=torch.bool)).item()
    # Of two bins that are named alike, and of 48 on each of the other axes.
    assert entropy == pytest.approx((np.log(2) + 2 * np.log(48)) / 3, rel=1e-4)


def test_errors_for_the_log_are_millimetres():
    truth = torch.zeros(3, 3, 3)
    off = truth + torch.tensor([[0.03, 0.04, 0.0], [0.0, 0.005, 0.012], [0.0, 0.0, 0.5]])
    known = torch.ones(3, 3, dtype=torch.bool)
    found = point_errors(SimpleNamespace(places=lambda _: off), truth, Points(truth, known))
    assert found["gripper_mm"].item() == pytest.approx(50, rel=1e-4)
    assert found["thing_mm"].item() == pytest.approx(13, rel=1e-4)


def test_errors_on_unseen_frames_are_millimetres():
    policy = Policy(make_backbone(**SIZES, heads=4), action.tiny())
    cache = make_cache(episodes=4, frames=3)
    frames, numbers = Frames(cache, np.arange(len(cache))), np.arange(len(cache))
    batch = frames.every_goal(numbers, np.random.default_rng(0))
    # A third of the frames are first ones.
    thing = np.where(batch.is_first[:, None], (0.008, 0.015, 0), (0, 0.005, 0.012))
    found = points_of(batch).metres
    found[:, 0] += np.float32([0.03, 0.04, 0])
    found[:, 1] += thing.astype(np.float32)
    found[:, 2] += np.float32([0.006, 0, 0.008])
    # Most goals have no place, and theirs is not measured.
    assert batch.has_place.mean() < 0.5
    found[~batch.has_place, 2] = 5
    relating = frames.comparing(numbers, np.random.default_rng(0))
    compared = points_of(relating).metres
    # No two things stand within 5 mm of each other.
    compared[::4, 1] = relating.others[::4, 0] + np.float32([0.005, 0, 0])
    first = np.linalg.norm(relating.others[:, 0] - relating.thing, axis=-1) == 0
    right = 1 - np.mean((np.arange(len(first)) % 4 == 0) & ~first)
    answers = iter([found, compared])

    class Knowing(GroundingHead):
        def places(self, logits):
            return torch.from_numpy(next(answers))

    grounded = measure_grounding(policy, Knowing(policy.vlm.width), frames, numbers)
    assert 0.7 < right < 1
    expected = {"gripper_mm": 50, "thing_mm": 13, "place_mm": 10, "first_mm": 17}
    expected |= {"bound": 1, "compared": right}
    assert grounded.metrics() == pytest.approx(expected, rel=1e-3)


def test_points_that_there_are_not_do_not_count(head):
    points = torch.full((1, 3, 3), 0.05)
    logits = logits_of(head, points)
    known = torch.tensor([[True, True, False]])
    wrong = logits.clone()
    wrong[:, 2] = torch.randn(1, 3, BINS, generator=torch.Generator().manual_seed(0)) * 30
    assert head.loss(wrong, points, known) == head.loss(logits, points, known)


def test_points_come_in_the_order_of_the_head():
    cache = make_cache(episodes=4, frames=2)
    batch = Frames(cache, np.arange(len(cache))).draw(4, 3, np.random.default_rng(0))
    points = points_of(batch)
    assert (points.metres[:, 0] == batch.tcp).all()
    assert (points.metres[:, 1] == batch.thing).all()
    assert (points.known[:, 2] == batch.has_place).all()
    assert points.known[:, :2].all()


def test_frames_to_measure_on_begin_with_first_frames():
    cache = make_cache(episodes=30, frames=5)
    frames = Frames(cache, np.arange(len(cache)))
    numbers = check_numbers(frames, 10, 20)
    assert (cache.step[numbers[:10]] == 0).all()
    assert len(numbers) == 30
    assert len(np.unique(cache.episode[numbers[:10]])) == 10
    assert (numbers == check_numbers(frames, 10, 20)).all()


def test_every_point_has_its_gate_and_the_place_where_there_is_one():
    grounded = Grounded(gripper=9.0, thing=4.0, place=7.0, first=8.0, bound=0.9, compared=0.5)
    assert [gate.passed for gate in grounded.gates()] == [True, True, False, True]
    placeless = Grounded(
        gripper=8.1, thing=4.0, place=float("nan"), first=8.0, bound=0.9, compared=0.5
    )
    assert [gate.passed for gate in placeless.gates()] == [True, True, False]
