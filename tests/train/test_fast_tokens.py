"""FAST action tokens: what is lost, what is not, and what is refused."""

import json
import math

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from vlm4vla.action import paper, tiny
from vlm4vla.errors import UserError
from vlm4vla.train.fast_tokens import SCALE, FastTokens, fit, numbers

SPEC = tiny()


def reaches(count: int, seed: int) -> np.ndarray:
    """Chunks of a hand that flies to a point, slows down there and closes; a few are noise."""
    rng = np.random.default_rng(seed)
    left = rng.uniform(-0.3, 0.3, (count, 3))
    chunks = np.zeros((count, 4, 7), np.float32)
    for step in range(4):
        move = np.clip(0.5 * left / 0.1, -0.6, 0.6)
        chunks[:, step, :3] = move
        left = left - 0.1 * move
        chunks[:, step, 6] = np.where(np.linalg.norm(left, axis=1) > 0.05, 1, -1)
    noise = rng.uniform(-0.6, 0.6, (count // 10, 4, 3))
    chunks[: count // 10, :, :3] = noise
    return chunks


@pytest.fixture(scope="module")
def tokens() -> FastTokens:
    return fit(SPEC, reaches(3000, 0))


def test_other_chunks_come_back_within_two_millimetres(tokens):
    chunks = reaches(1000, 1)
    rows = tokens.encode(chunks)
    back = tokens.decode(rows)
    off = 100 * np.linalg.norm((back - chunks)[..., :3], axis=-1)
    assert np.percentile(off, 95) < 2
    # A coefficient is off by at most half a number, and the transform keeps lengths: over the
    # chunk, sqrt(4 steps * 3 axes) * 0.5 / 40 of 60 mm.
    assert off.max() <= 60 * math.sqrt(12) * 0.5 / SCALE + 1e-3
    assert (back[..., 6] == chunks[..., 6]).all()
    assert (back[..., 3:6] == 0).all()
    # Sixteen numbers a chunk, in fewer tokens.
    assert np.mean([len(row) for row in rows]) < 12


def test_nothing_is_lost_but_the_rounding(tokens):
    chunks = reaches(200, 2)
    spelled = [tokens.spelled(row) for row in tokens.encode(chunks)]
    assert np.array_equal(spelled, numbers(SPEC, SCALE, chunks))


def test_the_numbers_are_those_of_the_transform_worked_out_by_hand():
    # 0.3 of at most 0.6 is a target of 0.5 in x: constant, so 0.5 * sqrt(4) in the first
    # coefficient. y runs 1, 0, 0, -1, times sqrt(1/2) cos((2 s + 1) k pi / 8) over the steps s.
    chunk = np.zeros((1, 4, 7), np.float32)
    chunk[0, :, 0], chunk[0, :, 1], chunk[0, :, 6] = 0.3, [0.6, 0, 0, -0.6], [1, 1, -1, -1]
    half = math.sqrt(0.5)
    y = [half * (math.cos(k * math.pi / 8) - math.cos(7 * k * math.pi / 8)) for k in (1, 3)]
    cosines = [[math.cos((2 * s + 1) * k * math.pi / 8) for s in range(4)] for k in (1, 3)]
    fingers = [half * (c[0] + c[1] - c[2] - c[3]) for c in cosines]
    wanted = [1.0, 0, 0, 0, 0, y[0], 0, fingers[0], 0, 0, 0, 0, 0, y[1], 0, fingers[1]]
    assert numbers(SPEC, 100, chunk).tolist() == [[round(100 * one) for one in wanted]]


def test_every_chunk_can_be_written_whatever_was_fitted():
    few = fit(SPEC, np.zeros((1, 4, 7)), vocabulary=1)
    extreme = np.full((2, 4, 7), 5.0, np.float32)
    extreme[1] *= np.array([1, -1, 1, -1], np.float32)[:, None]
    back = few.decode(few.encode(extreme))
    assert np.allclose(np.abs(back[..., :3]), 0.6, atol=0.02)
    assert few.size == 2 * 80 + 1


def test_the_file_is_json_and_gives_the_same_tokens(tokens):
    text = tokens.to_json()
    again = FastTokens.from_json(text)
    assert json.loads(text)["scale"] == SCALE
    chunks = reaches(50, 3)
    assert again.encode(chunks) == tokens.encode(chunks)
    assert again.spec == SPEC
    assert fit(SPEC, reaches(3000, 0)).to_json() == text


def test_the_papers_actions_have_seven_numbers_a_step():
    spec = paper([-1.0] * 6, [1.0] * 6, "made up", chunk=10)
    chunks = np.random.default_rng(0).uniform(-0.6, 0.6, (20, 10, 7)).astype(np.float32)
    tokens = fit(spec, chunks)
    back = tokens.decode(tokens.encode(chunks))
    assert back.shape == (20, 10, 7)
    assert np.abs(back - chunks)[..., :6].max() < 0.1


def test_what_is_no_chunk_and_no_token_is_refused_in_a_sentence(tokens):
    with pytest.raises(UserError, match=r"Chunks must be \(R, 4, 7\), not \(1, 3, 7\)"):
        tokens.encode(np.zeros((1, 3, 7)))
    with pytest.raises(UserError, match="no chunks"):
        fit(SPEC, np.zeros((0, 4, 7)))
    [row] = tokens.encode(np.zeros((1, 4, 7)))
    with pytest.raises(UserError, match=r"spell \d+ numbers, and a chunk has 16"):
        tokens.decode([row[:-1]])
    for wrong in (tokens.size, -1):
        with pytest.raises(UserError, match=f"no action token {wrong}; there are {tokens.size}"):
            tokens.decode([[*row[:-1], wrong]])
    with pytest.raises(UserError, match="no action tokens"):
        FastTokens.from_json("{}")
    with pytest.raises(UserError, match="no action tokens"):
        FastTokens.from_json("not JSON")
    with pytest.raises(UserError, match="lack 161 of the 161 numbers"):
        FastTokens(SPEC, SCALE, Tokenizer(models.BPE()))
