"""FAST action tokens: a chunk of actions as a short row of words (arXiv 2501.09747).

A discrete cosine transform over the chunk's steps, coefficients rounded to whole numbers, the
slowest motion of every dimension first, and byte-pair encoding of the numbers that come often
together. The way back loses nothing but the rounding.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, idct
from tokenizers import Tokenizer, models, trainers

from vlm4vla.action import ActionSpec, Array
from vlm4vla.errors import UserError

SCALE: Final = 40.0
"""What coefficients of targets in [-1, 1] are multiplied with before they are rounded. The paper
takes 10, which puts the hand 4 mm beside where an action sends it in one of twenty actions of the
suite's expert, and 8 mm beside where a chunk does; with 40 both are below 2 mm."""

VOCABULARY: Final = 512
"""Tokens, the numbers themselves among them."""

FILE: Final = "fast.json"
"""Lies in every folder of a VLM that has action tokens among its words."""

_FIRST: Final = 0xE000
"""Code point of the smallest number; from here on no character means anything to anybody."""

_FIELDS: Final = {"action", "scale", "bpe"}


class FastTokens:
    """Chunks to FAST tokens and back.

    Args:
        spec: the meaning of the actions and the length of a chunk.
        scale: see `SCALE`.
        bpe: writes numbers, a character each, in tokens; every number that can come must be one.

    Raises:
        UserError: the vocabulary lacks a number.
    """

    def __init__(self, spec: ActionSpec, scale: float, bpe: Tokenizer) -> None:
        self.spec, self.scale, self._bpe = spec, scale, bpe
        self._largest = _largest(spec, scale)
        known = bpe.get_vocab()
        if lacking := [one for one in _alphabet(self._largest) if one not in known]:
            raise UserError(
                f"The action tokens lack {len(lacking)} of the {2 * self._largest + 1} numbers "
                "that a chunk is made of.",
                "Fit them again.",
            )

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._bpe.get_vocab_size())

    def encode(self, chunks: npt.ArrayLike) -> list[list[int]]:
        """Chunks (R, n, 7), environment units, to R rows of tokens.

        Raises:
            UserError: these are no chunks of the action specification.
        """
        words = _words(numbers(self.spec, self.scale, chunks), self._largest)
        # Row by row: the package's own threads do not survive a fork.
        return [list(self._bpe.encode(word).ids) for word in words]

    def decode(self, rows: Sequence[Sequence[int]]) -> Array:
        """R rows of tokens to chunks (R, n, 7), environment units.

        Raises:
            UserError: a row holds an unknown token, or does not spell a chunk.
        """
        spec, width = self.spec, sum(self.spec.moves) + 1
        found = np.array([self.spelled(row) for row in rows], np.float64)
        coefficients = found.reshape(len(rows), spec.chunk, width) / self.scale
        targets = idct(coefficients, axis=1, norm="ortho")
        arm = np.zeros((len(rows), spec.chunk, len(spec.moves)))
        arm[..., spec.moves] = np.clip(targets[..., :-1], -1, 1)
        return spec.unnormalise(arm, targets[..., -1])

    def spelled(self, row: Sequence[int]) -> list[int]:
        """The whole numbers that a row of tokens spells, as `numbers` gave them.

        Raises:
            UserError: a token is unknown, or these are not as many numbers as a chunk has.
        """
        pieces = [self._bpe.id_to_token(one) if one >= 0 else None for one in row]
        if None in pieces:
            raise UserError(
                f"There is no action token {row[pieces.index(None)]}; there are {self.size}."
            )
        word = "".join(piece for piece in pieces if piece)
        wanted = self.spec.chunk * (sum(self.spec.moves) + 1)
        if len(word) != wanted:
            raise UserError(
                f"These action tokens spell {len(word)} numbers, and a chunk has {wanted}."
            )
        return [ord(one) - _FIRST - self._largest for one in word]

    def to_json(self) -> str:
        """Everything as JSON text that `from_json` reads back."""
        bpe = json.loads(self._bpe.to_str())
        value = {"action": self.spec.to_json(), "scale": self.scale, "bpe": bpe}
        return json.dumps(value) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "FastTokens":
        """Reads what `to_json` wrote.

        Raises:
            UserError: it is something else.
        """
        try:
            value: dict[str, Any] = json.loads(text)
            if value.keys() != _FIELDS:
                raise ValueError(f"its keys are {', '.join(sorted(value))}")
            bpe = Tokenizer.from_str(json.dumps(value["bpe"]))
            scale = float(value["scale"])
        except UserError:
            raise
        except Exception as error:  # the package raises bare exceptions
            raise UserError(
                f"These are no action tokens: {error}.",
                "Fit them again with `vlm4vla train tokens`.",
            ) from error
        return cls(ActionSpec.from_json(value["action"]), scale, bpe)


def fit(
    spec: ActionSpec, chunks: npt.ArrayLike, scale: float = SCALE, vocabulary: int = VOCABULARY
) -> FastTokens:
    """Learns which numbers come often together; the same chunks give the same tokens.

    Args:
        spec: the meaning of the actions.
        chunks: (R, n, 7) to learn from, environment units.
        scale: see `SCALE`.
        vocabulary: largest number of tokens; the numbers themselves are always among them.

    Raises:
        UserError: there are none, or these are no chunks of the action specification.
    """
    rows = numbers(spec, scale, chunks)
    if not len(rows):
        raise UserError("Action tokens cannot be fitted to no chunks.", "Collect episodes first.")
    bpe = Tokenizer(models.BPE())
    largest = _largest(spec, scale)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=_alphabet(largest), show_progress=False
    )
    bpe.train_from_iterator(_words(rows, largest), trainer)
    return FastTokens(spec, scale, bpe)


def numbers(spec: ActionSpec, scale: float, chunks: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Rounded coefficients (R, n * d) of chunks (R, n, 7), the slowest of all dimensions first.

    Of d dimensions that move, the gripper's is the last; it is -1 for closed and 1 for open.

    Raises:
        UserError: these are no chunks of the action specification.
    """
    found = np.asarray(chunks, np.float32)
    if found.ndim != 3 or found.shape[1] != spec.chunk:
        raise UserError(f"Chunks must be (R, {spec.chunk}, 7), not {found.shape}.")
    arm, gripper = spec.normalise(found)
    targets = np.concatenate([arm[..., spec.moves], 2 * gripper[..., None] - 1], axis=-1)
    rounded = np.rint(dct(targets.astype(np.float64), axis=1, norm="ortho") * scale)
    return rounded.astype(np.int64).reshape(len(found), spec.chunk * targets.shape[-1])


def _largest(spec: ActionSpec, scale: float) -> int:
    """No coefficient is larger: the transform keeps lengths, and n targets are at most 1."""
    return round(scale * spec.chunk**0.5)


def _alphabet(largest: int) -> list[str]:
    return [chr(_FIRST + one) for one in range(2 * largest + 1)]


def _words(rows: npt.NDArray[np.int64], largest: int) -> list[str]:
    """A character a number."""
    return ["".join(chr(_FIRST + largest + one) for one in row) for row in rows.tolist()]
