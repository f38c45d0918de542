"""One dataset under several fingerprints: recorded by one command on several kinds of machine.

A fingerprint is of every last bit. What a command records is a function of its seeds on one kind
of machine; on another, a contact that rounds otherwise moves a thing by up to a fiftieth of a
millimetre, some episodes end a step earlier or later, and the whole fingerprint is another one.
What the episodes were to be is the same everywhere, down to scene, sentence, start and noise. A
cell's name holds the fingerprint of the first machine, and each cell's account the one that its
policy learned from.
"""

from collections.abc import Mapping
from typing import Final

ASKED: Final[Mapping[str, str]] = {
    # How far what came of it differs is told in docs/studies.md.
    "f39f5a9b9280a8ee492e2242dc96e884fdd6fd8da7c6c2297b4cb9ff67f3678d": (
        "72f1016e01f147768c0bece2d89d3f9eb3aff9235c3a5d6ef1737d507585a8dd"
    ),
}
"""By the fingerprint that cells are named by, `vlm4vla.data.cache.Cache.asked` of its episodes."""

ELSEWHERE: Final[Mapping[str, frozenset[str]]] = {
    "f39f5a9b9280a8ee492e2242dc96e884fdd6fd8da7c6c2297b4cb9ff67f3678d": frozenset(
        {
            "a73f720cd2ebc1bd7b61fdeeb4ad0870aa0b1ed16a8aae0bc67a587ea87ab563",
            "c4498b099397d645786e02c795453ebea1ff90de4c61cde670e4440950e84b20",
        }
    ),
}
"""Fingerprints of the same episodes, for runs that do not say what theirs were to be."""


def same_data(found: str, asked: str, declared: str) -> bool:
    """Whether frames are those that a cell names, as this or another kind of machine records them.

    Args:
        found: fingerprint of the frames.
        asked: what their episodes were to be, see `vlm4vla.data.cache.Cache.asked`.
        declared: the fingerprint in the cell.
    """
    known = found == declared or found in ELSEWHERE.get(declared, ())
    return known or asked == ASKED.get(declared)
