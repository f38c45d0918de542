"""Conditions: everything about an episode that was changed on purpose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from vlm4vla.errors import UserError

Value = str | int | float | bool

GIVEN: Final = "given"
"""`Condition.words` of a sentence that somebody typed."""

OTHER_OBJECT: Final = "sentence-other-object"
"""The perturbation that tells the sentence of another goal of the scene. That goal is watched, so
that one sees which was followed."""


@dataclass(frozen=True)
class Perturbation:
    """A perturbation: a named change with its numbers, which holds from a step to a step.

    Attributes:
        name: what is changed, such as "start" or "noise".
        values: its numbers, plain values by name.
        first_step: the control step from which on it holds.
        last_step: the last control step at which it holds; None for until the end.
    """

    name: str
    values: Mapping[str, Value] = field(default_factory=dict)
    first_step: int = 0
    last_step: int | None = None

    def holds(self, step: int) -> bool:
        """Whether it holds at a control step."""
        return self.first_step <= step and (self.last_step is None or step <= self.last_step)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is as usual is left out."""
        plain: dict[str, Any] = {"name": self.name}
        if self.values:
            plain["values"] = dict(sorted(self.values.items()))
        if self.first_step:
            plain["first_step"] = self.first_step
        if self.last_step is not None:
            plain["last_step"] = self.last_step
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Perturbation":
        """The perturbation of `to_json`.

        Raises:
            UserError: it holds something that this version does not know, it has no name, or a
                field is of another type.
        """
        _check_object("A perturbation", plain)
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(plain) - set(known)):
            raise UserError(
                f"A perturbation with {', '.join(unknown)} is not known here.",
                f"Known fields are {', '.join(known)}; a newer version may have others.",
            )
        if "name" not in plain:
            raise UserError("A perturbation has no name.", "Say with `name` what is changed.")
        _check_text("name", plain["name"])
        _check_values(plain.get("values", {}))
        _check_steps("first_step", plain.get("first_step", 0))
        if plain.get("last_step") is not None:
            _check_steps("last_step", plain["last_step"])
        return cls(**plain)

    @property
    def label(self) -> str:
        """The perturbation for people."""
        numbers = ", ".join(f"{name} {value}" for name, value in sorted(self.values.items()))
        when = ""
        if self.last_step is not None:
            when = f" at steps {self.first_step} to {self.last_step}"
        elif self.first_step:
            when = f" from step {self.first_step} on"
        return self.name + (f" ({numbers})" if numbers else "") + when


@dataclass(frozen=True)
class Condition:
    """An experimental condition: everything that was changed on purpose.

    Attributes:
        words: which sentences are drawn, in the suite's terms ("known", "trained", ...);
            `GIVEN` for one that somebody typed.
        goal: "first" for the goal that the seed draws, "alternate" for a second one of the same
            scene, while the first is watched.
        max_steps: control steps after which the episode is ended; 0 for the task's own limit.
        replan_every: actions of a chunk carried out before the next inference; 0 for as many as
            the agent was made for.
        perturbations: changes to pictures, sentences, the agent or the simulator.
    """

    words: str = "known"
    goal: str = "first"
    max_steps: int = 0
    replan_every: int = 0
    perturbations: tuple[Perturbation, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is as usual is left out, so a new field changes no old identity."""
        plain: dict[str, Any] = {"words": self.words}
        if self.goal != "first":
            plain["goal"] = self.goal
        if self.max_steps:
            plain["max_steps"] = self.max_steps
        if self.replan_every:
            plain["replan_every"] = self.replan_every
        if self.perturbations:
            plain["perturbations"] = [one.to_json() for one in self.perturbations]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Condition":
        """The condition of `to_json`.

        Raises:
            UserError: it holds something that this version does not know, or a field is of
                another type.
        """
        _check_object("A condition", plain)
        known = {"words", "goal", "max_steps", "replan_every", "perturbations"}
        if unknown := sorted(set(plain) - known):
            raise UserError(
                f"A condition with {', '.join(unknown)} is not known here.",
                "It was written by a newer version: update this one.",
            )
        for name in ("words", "goal"):
            _check_text(name, plain.get(name, ""))
        for name in ("max_steps", "replan_every"):
            _check_steps(name, plain.get(name, 0))
        told = plain.get("perturbations", [])
        if not isinstance(told, list):
            raise _other("perturbations", told, "a list of objects")
        changes = tuple(Perturbation.from_json(one) for one in told)
        return cls(**{**plain, "perturbations": changes})

    def without_usual(self, limit: int, replan_every: int) -> "Condition":
        """The same without numbers that change nothing, so that one episode has one identity.

        Args:
            limit: control steps after which the task itself is over.
            replan_every: actions that the agent itself carries out before the next inference.
        """
        return replace(
            self,
            max_steps=self.max_steps if self.max_steps < limit else 0,
            replan_every=self.replan_every if self.replan_every != replan_every else 0,
        )

    @property
    def watches(self) -> bool:
        """Whether a second goal of the scene is watched besides the one that is judged."""
        return self.goal != "first" or any(one.name == OTHER_OBJECT for one in self.perturbations)

    @property
    def label(self) -> str:
        """The condition for people; "" where nothing but the words was chosen."""
        parts = []
        if self.goal != "first":
            parts.append(f"{self.goal} goal")
        if self.max_steps:
            parts.append(f"at most {self.max_steps} steps")
        if self.replan_every:
            plural = "s" if self.replan_every > 1 else ""
            parts.append(f"{self.replan_every} action{plural} an inference")
        parts += [one.label for one in self.perturbations]
        return ", ".join(parts)


def _check_object(what: str, told: object) -> None:
    if not isinstance(told, Mapping):
        raise UserError(f"{what} is {told!r}.", "Write it as an object with named fields.")


def _check_text(name: str, told: object) -> None:
    if not isinstance(told, str):
        raise _other(name, told, "a text")


def _check_steps(name: str, told: object) -> None:
    # A bool is an int to Python.
    if not isinstance(told, int) or isinstance(told, bool) or told < 0:
        raise _other(name, told, "a whole number from 0 on")


def _check_values(told: object) -> None:
    if not isinstance(told, Mapping):
        raise _other("values", told, "an object of named numbers or words")
    for name, value in told.items():
        _check_text("values", name)
        plain = isinstance(value, str | int | float)
        if not plain or (isinstance(value, float) and not math.isfinite(value)):
            raise _other(f"values.{name}", value, "a finite number, a word, true or false")


def _other(name: str, told: object, wanted: str) -> UserError:
    return UserError(f"`{name}` of a condition is {told!r}.", f"Give {wanted}.")
