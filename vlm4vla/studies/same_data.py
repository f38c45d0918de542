"""One dataset under several fingerprints: recorded by one command on several kinds of machine.

A fingerprint is of every last bit. What a command records is a function of its seeds on one kind
of machine; on another kind a rounding may differ somewhere among 151,185 frames, and with it the
whole fingerprint. A cell's name holds the fingerprint of the first machine, so the others are
listed here, and each cell's account says which one its policy learned from.
"""

from collections.abc import Mapping
from typing import Final

ELSEWHERE: Final[Mapping[str, frozenset[str]]] = {
    # What was compared is told in docs/studies.md.
    "f39f5a9b9280a8ee492e2242dc96e884fdd6fd8da7c6c2297b4cb9ff67f3678d": frozenset(
        {
            "a73f720cd2ebc1bd7b61fdeeb4ad0870aa0b1ed16a8aae0bc67a587ea87ab563",
            "c4498b099397d645786e02c795453ebea1ff90de4c61cde670e4440950e84b20",
        }
    ),
}
"""By the fingerprint that cells are named by, those of the same episodes elsewhere."""


def same_data(found: str, declared: str) -> bool:
    """Whether frames are those that a cell names, as this or another kind of machine records them.

    Args:
        found: fingerprint of the frames.
        declared: the one in the cell.
    """
    return found == declared or found in ELSEWHERE.get(declared, frozenset())
