"""Gates: figures that a stage must reach before the next may start."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from vlm4vla.errors import UserError
from vlm4vla.files import write_json


@dataclass(frozen=True)
class Gate:
    """One figure and its limit.

    Attributes:
        figure: what was measured, with its unit.
        value: what came out.
        limit: what it must reach.
        at_least: whether `value` must be at least (True) or at most (False) `limit`.
    """

    figure: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Whether the figure reaches its limit; a NaN never does."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "passed" if self.passed else "FAILED"
        return f"gate {verdict}: {self.figure} {self.value:.4g} (needs {sign} {self.limit:g})"


class GateFailed(UserError):
    """A figure missed its limit; what the stage hands on is written nevertheless."""


FILE: Final = "gates.json"
"""Lies in every run's folder whose measurements are over."""


def record_gates(gates: Sequence[Gate], run: Path) -> None:
    """Prints every gate and keeps them in a run's folder, where they are before what it hands on.

    So a run that was killed in between is one that goes on, not one without gates.
    """
    for gate in gates:
        print(gate, flush=True)
    write_json(run / FILE, [asdict(gate) | {"passed": gate.passed} for gate in gates])


def check_gates(gates: Sequence[Gate]) -> None:
    """Stops at the first gate that failed.

    Raises:
        GateFailed: a figure misses its limit; the message names it.
    """
    for gate in gates:
        if not gate.passed:
            sign = "at least" if gate.at_least else "at most"
            raise GateFailed(
                f"The {gate.figure} is {gate.value:.4g} and must be {sign} {gate.limit:g}.",
                "Train this stage for longer (--steps) before the next one builds on it.",
            )
