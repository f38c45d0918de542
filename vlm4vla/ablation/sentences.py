"""Perturbations of sentences: pure functions of the specification."""

import string
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from vlm4vla.core.condition import OTHER_OBJECT, Perturbation
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.suite import NAME, goal_of, other_goal, say

_VOWELS: Final = "aeiou"
_CONSONANTS: Final = "".join(c for c in string.ascii_lowercase if c not in _VOWELS)


def perturbed_sentence(spec: EpisodeSpec, change: Perturbation) -> str:
    """The sentence that is told instead of a specification's own.

    Args:
        spec: the scene, the sentence and what it asks for.
        change: one of the perturbations of sentences.

    Raises:
        UserError: the suite has no other sentence, or nothing is asked for that could be said in
            another way.
    """
    return _CHANGES[change.name](spec)


def _empty(spec: EpisodeSpec) -> str:
    return ""


def _paraphrase(spec: EpisodeSpec) -> str:
    _check_suite(spec)
    return say(spec, goal_of(spec), but=spec.instruction)


def _other_object(spec: EpisodeSpec) -> str:
    _check_suite(spec)
    return say(spec, other_goal(spec))


def _order(spec: EpisodeSpec) -> str:
    words = spec.instruction.split()
    rng = np.random.default_rng([spec.seed, 29])
    if len(set(words)) < 2:
        return spec.instruction
    while True:
        shuffled = [words[int(i)] for i in rng.permutation(len(words))]
        if shuffled != words:
            return " ".join(shuffled)


def _nonsense(spec: EpisodeSpec) -> str:
    """As many words of as many letters, consonants and vowels in turn."""
    rng = np.random.default_rng([spec.seed, 31])
    words = []
    for word in spec.instruction.split():
        letters = (_CONSONANTS, _VOWELS)
        words.append(
            "".join(
                letters[i % 2][int(rng.integers(len(letters[i % 2])))] for i in range(len(word))
            )
        )
    return " ".join(words)


def _check_suite(spec: EpisodeSpec) -> None:
    if spec.suite != NAME:
        raise UserError(
            f"The suite {spec.suite!r} has one sentence a task.",
            f"Other valid sentences are drawn in {NAME!r}.",
        )


_CHANGES: Final[Mapping[str, Callable[[EpisodeSpec], str]]] = {
    "sentence-empty": _empty,
    "sentence-paraphrase": _paraphrase,
    OTHER_OBJECT: _other_object,
    "sentence-order": _order,
    "sentence-nonsense": _nonsense,
}

SENTENCES: Final = tuple(_CHANGES)
"""Names of the perturbations of sentences."""
