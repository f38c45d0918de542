"""An episode that somebody asked for: everything that came from outside, checked."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from vlm4vla.driver import Driver
from vlm4vla.eval.cast import Actor, Cast
from vlm4vla.eval.choice import Choice, choose
from vlm4vla.eval.instruction import Reading, read
from vlm4vla.eval.keep import Asked, Kept, keep
from vlm4vla.eval.live import Moment, play
from vlm4vla.eval.settings import Settings, check_settings
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.store import Store
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.tasks import TIME_LIMIT

UNKNOWN: Final = "unknown sentence"
"""The condition of episodes whose sentence is nobody's making: what they achieve says nothing about
the task's success rate."""


@dataclass(frozen=True)
class Order:
    """What is to be played.

    Attributes:
        actor: who acts.
        choice: the scene.
        reading: the sentence, and what it means there.
        goal: what success is judged by; for an unknown sentence, that of the nearest known one.
        settings: what is changed besides.
    """

    actor: Actor
    choice: Choice
    reading: Reading
    goal: Goal
    settings: Settings

    @property
    def understood(self) -> bool:
        """Whether this driver can carry the sentence out."""
        return self.reading.goal is not None or self.actor.kind == "policy"

    def new_driver(self) -> Driver:
        """The driver of the episode."""
        return self.actor.new_driver(self.settings.execute)

    @property
    def asked(self) -> Asked:
        """What stands in the episode's record."""
        conditions = [] if self.reading.goal else [UNKNOWN]
        conditions += filter(None, [self.settings.condition])
        return Asked(
            self.actor.identity,
            self.choice.task,
            self.choice.scene.seed,
            self.reading.sentence,
            ", ".join(conditions),
            str(self.goal),
        )

    def play(
        self, stage: Stage, visitor: str, store: Store, *, image: bool = False
    ) -> Generator[Moment | Kept, None, None]:
        """Plays and keeps the episode; see `vlm4vla.eval.live.play` and `vlm4vla.eval.keep.keep`.

        Args:
            stage: where.
            visitor: for whom.
            store: where it goes.
            image: whether frames hold the policy camera's picture, too.
        """
        episode = play(
            stage,
            visitor,
            self.new_driver(),
            self.choice.scene,
            self.goal,
            self.reading.sentence,
            most_steps=self.settings.most_steps,
            image=image,
        )
        return keep(episode, store, self.asked)


def take_order(
    cast: Cast,
    task: object,
    scene: object,
    instruction: object,
    driver: object = "",
    most_steps: object = 0,
    execute: object = 0,
) -> Order:
    """Checks what came from outside.

    Args:
        cast: who can act.
        task: see `vlm4vla.eval.choice.choose`.
        scene: see `vlm4vla.eval.choice.choose`.
        instruction: see `vlm4vla.eval.instruction.accept`.
        driver: one of the cast's names, or "" for the first.
        most_steps: see `vlm4vla.eval.settings.Settings`.
        execute: see `vlm4vla.eval.settings.Settings`.

    Raises:
        UserError: something is not what it should be.
    """
    choice = choose(task, scene)
    reading = read(instruction, choice.scene)
    goal = reading.goal or read(reading.nearest, choice.scene).goal
    assert goal is not None, "the nearest sentence is a known one"
    actor = cast.actor(driver)
    settings = check_settings(
        most_steps,
        execute,
        limit=TIME_LIMIT[goal.task],
        chunk=actor.chunk,
        usual=actor.execute,
    )
    return Order(actor, choice, reading, goal, settings)
