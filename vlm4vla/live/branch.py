"""Branches: an episode that leaves a stored one at a step, with one thing changed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.registry import perturbation
from vlm4vla.ablation.sentences import SENTENCES
from vlm4vla.agents.catalogue import AgentCatalogue, Entry
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import GIVEN, Perturbation
from vlm4vla.core.episode import Episode, EpisodeSpec
from vlm4vla.core.observation import Array
from vlm4vla.errors import UserError
from vlm4vla.live.instruction import goal_in, understand
from vlm4vla.suites.tabletop.changes import GONE, gone_at
from vlm4vla.suites.tabletop.suite import NAME, scene_of

BLANK: Final = "blank"
"""What `take_branch` calls a blank picture; nothing on the table has that name."""


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

    def new_agent(self) -> Agent:
        """Who acts, behind the layer that carries out what is changed about pictures and words."""
        return PerturbedAgent(self.entry.new_agent())


def take_branch(
    catalogue: AgentCatalogue,
    parent: Episode,
    step: object,
    sentence: object = "",
    agent: object = "",
    change: object = "",
) -> Branch:
    """Checks a branch that came from outside.

    Args:
        catalogue: who can act.
        parent: the stored episode.
        step: the control step at which it is left, a whole number below the parent's steps.
        sentence: what the robot is told from there on; "" for the same.
        agent: one of the catalogue's names; "" for whoever acted last in the parent.
        change: `BLANK` for a picture that is blank from there on, or the name of a movable thing
            that is gone; "" for neither.

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
    if same_words and entry.identity == last and not change:
        raise UserError(
            "Nothing would be changed.",
            "Say another sentence, choose who takes over, or change what there is to see.",
        )
    goal = goal_in(reading)
    if goal is None and entry.identity.kind == "expert":
        raise UserError("The scripted expert cannot do this.", reading.sentence)
    spec = replace(parent.spec, parent=parent.id, branch_step=int(step))
    if not same_words:
        told = _told_anew(spec.condition.perturbations, int(step))
        condition = replace(spec.condition, words=GIVEN, goal="first", perturbations=told)
        spec = replace(
            spec,
            instruction=reading.text,
            goal=asdict(goal) if goal else {},
            condition=condition,
        )
    if change:
        changed = _changed(spec, change, int(step), entry.identity.kind == "expert")
        spec = replace(
            spec,
            condition=replace(
                spec.condition, perturbations=(*spec.condition.perturbations, changed)
            ),
        )
    return Branch(entry, spec, parent.actions[: int(step)], reading.as_json())


def removable(spec: EpisodeSpec) -> list[str]:
    """Names of the things that a branch can take off the table."""
    return [item.name for item in scene_of(spec).objects]


def _told_anew(changes: Sequence[Perturbation], step: int) -> tuple[Perturbation, ...]:
    """Perturbations of which none of the sentence holds any more: from a step on, it is another."""
    return tuple(
        replace(one, last_step=step - 1) if one.name in SENTENCES and one.holds(step) else one
        for one in changes
        if one.name not in SENTENCES or one.first_step < step
    )


def _changed(spec: EpisodeSpec, change: object, step: int, expert: bool) -> Perturbation:
    """What is changed from a step on about what there is to see."""
    before = spec.condition.perturbations
    if change == BLANK:
        if expert:
            raise UserError(
                "The scripted expert looks at no picture, so a blank one changes nothing.",
                "Choose a policy.",
            )
        if any(one.name == "picture-blank" and one.holds(step) for one in before):
            raise UserError("The picture is blank already.", "Change something else.")
        return perturbation("picture-blank", first_step=step)
    if change not in removable(spec):
        raise UserError(
            f"There is no {change} that could be taken away.",
            f"Choose one of {', '.join(removable(spec))}.",
        )
    if change in gone_at(before, step):
        raise UserError(f"The {change} is gone already.", "Take away something else.")
    if expert and change in spec.goal.values():
        raise UserError(
            f"The scripted expert can do nothing with the {change} once it is gone.",
            "Choose a policy, or take away something else.",
        )
    return Perturbation(GONE, {"name": str(change)}, step)
