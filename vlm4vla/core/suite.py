"""Suites: a benchmark's tasks, scenes, environments and the judgement of its episodes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from vlm4vla.action import ActionSpec
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import Episode, EpisodeSpec, Event, Outcome
from vlm4vla.core.motion import Motion


class Suite(Protocol):
    """A benchmark suite. Making one imports no simulator; `open` does."""

    @property
    def name(self) -> str:
        """What it is registered by."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Its tasks."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Its cameras; the first is the one that policies see, the last the one for people."""
        ...

    @property
    def action(self) -> ActionSpec:
        """What its actions mean."""
        ...

    @property
    def control_hz(self) -> float:
        """Control steps in a second of the robot's time."""
        ...

    def spec(self, task: str, seed: int, condition: Condition) -> EpisodeSpec:
        """The episode that a seed draws.

        Raises:
            UserError: the task is unknown, or the condition impossible here.
        """
        ...

    def limit(self, spec: EpisodeSpec) -> int:
        """Control steps after which the episode is over."""
        ...

    def open(self) -> Environment:
        """Starts a simulator in this process.

        Raises:
            UserError: it cannot run here.
        """
        ...

    def tell(
        self, spec: EpisodeSpec, events: Sequence[Event], steps: int, *, stopped: bool = False
    ) -> Outcome:
        """Judges an episode by what happened in it.

        Args:
            spec: what was asked for.
            events: what happened, in order.
            steps: control steps that were carried out.
            stopped: a person ended it early.
        """
        ...

    def motion(self, episode: Episode) -> Motion | None:
        """What moved in an episode, from its row alone; None where the row does not tell."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Versions of everything in it that changes results.

        Raises:
            UserError: something of it is not installed.
        """
        ...
