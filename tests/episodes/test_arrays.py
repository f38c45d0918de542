import zlib
from dataclasses import replace

import numpy as np
import pytest

from tests.episodes.examples import content, example, motion
from vlm4vla.core.episode import Episode, Prediction, Trace
from vlm4vla.episodes.arrays import NO_ARRAYS, pack, unpack


def again(episode: Episode) -> Episode:
    arrays = unpack(pack(episode))
    return replace(
        episode, actions=arrays.actions, predictions=arrays.predictions, trace=arrays.trace
    )


def test_arrays_come_back_bit_for_bit() -> None:
    for steps in (1, 4, 13, 100):
        episode = example(steps=steps)
        assert content(again(episode)) == content(episode)


def test_so_do_values_that_are_equal_to_none() -> None:
    odd = np.array(
        [np.nan, -0.0, np.inf, -np.inf, 1e-45, np.finfo(np.float32).max], np.float32
    ).reshape(1, 6)
    payload = np.array([[0x7FC12345] * 6], np.uint32).view(np.float32)
    actions = np.concatenate([odd, payload])
    episode = example(actions=actions, predictions=(Prediction(1, payload),))
    assert content(again(episode)) == content(episode)


@pytest.mark.parametrize(
    "predictions",
    [
        (),
        (Prediction(0, np.ones((4, 7), np.float32)),),
        # Longer than what was carried out, of another width, and made after the end.
        (Prediction(10, np.ones((30, 7), np.float32)), Prediction(11, np.ones((2, 3), np.float32))),
        (Prediction(50, np.ones((2, 7), np.float32)),),
    ],
)
def test_chunks_may_have_any_length_and_step(predictions: tuple[Prediction, ...]) -> None:
    episode = example(predictions=predictions)
    assert content(again(episode)) == content(episode)


def test_an_episode_without_arrays_has_none_when_it_comes_back() -> None:
    episode = example(actions=NO_ARRAYS.actions, predictions=(), trace=Trace.empty())
    assert content(again(episode)) == content(episode)


def test_a_suite_may_have_no_objects_that_move() -> None:
    trace = Trace(np.ones((13, 9), np.float32), np.zeros((13, 0, 7), np.float32))
    episode = example(trace=trace)
    assert content(again(episode)) == content(episode)


def test_a_hundred_steps_of_four_objects_take_less_than_ten_kilobytes() -> None:
    actions, predictions, trace = motion(100)
    assert trace.joints.shape == (101, 9) and trace.poses.shape == (101, 4, 7)
    assert len(np.unique(trace.poses, axis=0)) > 90, "the objects move"
    raw = 4 * (100 * 7 + 25 * 4 * 7 + 101 * 9 + 101 * 28)
    assert raw == 20_548
    episode = example(actions=actions, predictions=predictions, trace=trace)
    assert len(pack(episode)) < 10_000


def test_what_was_executed_as_predicted_is_stored_once() -> None:
    episode = example(steps=100)
    alone = len(pack(replace(episode, predictions=())))
    assert len(pack(episode)) - alone < 300  # 2,800 bytes of actions


@pytest.mark.parametrize(
    "blob",
    [b"", b"\x02abc", b"\x01abc", pack(example())[:-20], b"\x01" + zlib.compress(b"no head")],
)
def test_a_damaged_blob_is_told(blob: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(blob)
