"""Branches: an episode that leaves a stored one at a step, with one thing changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlm4vla.agents.catalogue import AgentCatalogue, Entry
from vlm4vla.core.condition import GIVEN
from vlm4vla.core.episode import Episode, EpisodeSpec
from vlm4vla.core.observation import Array
from vlm4vla.errors import UserError
from vlm4vla.live.instruction import goal_in, understand
from vlm4vla.suites.tabletop.suite import NAME, scene_of


@dataclass(frozen=True)
class Branch:
    """A branch that was asked for.

    Attributes:
        entry: who acts from the step on.
        spec: what is asked for; names the parent and the step.
        prefix: (step, 7) the parent's actions up to there.
        told: how the sentence was understood, plain values for the table of episodes.
    """

    entry: Entry
    spec: EpisodeSpec
    prefix: Array
    told: Mapping[str, Any]


def take_branch(
    catalogue: AgentCatalogue,
    parent: Episode,
    step: object,
    sentence: object = "",
    agent: object = "",
) -> Branch:
    """Checks a branch that came from outside.

    Args:
        catalogue: who can act.
        parent: the stored episode.
        step: the control step at which it is left, a whole number below the parent's steps.
        sentence: what the robot is told from there on; "" for the same.
        agent: one of the catalogue's names; "" for whoever acted last in the parent.

    Raises:
        UserError: something is not what it should be, or nothing would be changed.
    """
    if parent.spec.suite != NAME:
        raise UserError(f"Episodes of the suite {parent.spec.suite} have no branches here.")
    if (
        isinstance(step, bool)
        or not isinstance(step, int | float)
        or step not in range(parent.steps)
    ):
        raise UserError(
            f"The step must be a whole number from 0 to {parent.steps - 1}.",
            "Go to an earlier step: after the last one there is nothing left to do.",
        )
    last = parent.agents[-1].agent
    name = agent or catalogue.name_of(last.digest)
    if not name:
        raise UserError(
            "Whoever acted in this episode is not here any more.", "Choose who takes over."
        )
    entry = catalogue.entry(name)
    reading = understand(sentence or parent.spec.instruction, scene_of(parent.spec))
    same_words = reading.text == parent.spec.instruction
    if same_words and entry.identity == last:
        raise UserError(
            "Nothing would be changed.", "Say another sentence, or choose who takes over."
        )
    goal = goal_in(reading)
    if goal is None and entry.identity.kind == "expert":
        raise UserError("The scripted expert cannot do this.", reading.sentence)
    spec = replace(parent.spec, parent=parent.id, branch_step=int(step))
    if not same_words:
        condition = replace(spec.condition, words=GIVEN, goal="first")
        spec = replace(
            spec,
            instruction=reading.text,
            goal=asdict(goal) if goal else {},
            condition=condition,
        )
    return Branch(entry, spec, parent.actions[: int(step)], reading.as_json())
