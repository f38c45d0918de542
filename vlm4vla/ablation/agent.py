"""An agent whose pictures and sentences are perturbed on their way to it."""

from dataclasses import replace
from typing import Final

from vlm4vla.ablation.pictures import PICTURES, Mask, Truth, perturbed_picture
from vlm4vla.ablation.sentences import SENTENCES, perturbed_sentence
from vlm4vla.core.agent import Agent, AgentLayer, PerturbableAgent, PrivilegedAgent
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import SUITES
from vlm4vla.suites.tabletop.suite import judged_goal
from vlm4vla.suites.tabletop.types import BACKGROUND, FINGERS, ROBOT

_OF_SCENE: Final = "picture-other"
_BY_SEGMENTATION: Final = "picture-without"


class PerturbedAgent(AgentLayer):
    """An agent behind a layer that changes what it sees and is told; see `Agent`.

    What changes is said by each episode's condition, so one serves plain episodes too. Only the
    layer asks the environment for the truth; the agent behind it is given pictures and sentences.

    Args:
        agent: who acts.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        inner = getattr(agent, "perturbations", ())
        self.perturbations: tuple[str, ...] = (*PICTURES, *SENTENCES, *inner)
        self._changes: tuple[Perturbation, ...] = ()
        self._spec: EpisodeSpec | None = None
        self._environment: Environment | None = None
        self._other: Image | None = None
        self._told = ""

    def prepare(self, spec: EpisodeSpec) -> None:
        """See `PerturbableAgent.prepare`."""
        self._spec, self._other = spec, None
        self._changes = spec.condition.perturbations
        for change in self._changes:
            if change.name in SENTENCES:
                # What cannot be said is refused before anything moves.
                perturbed_sentence(spec, change)
            if change.name == _BY_SEGMENTATION:
                _check_named(spec, str(change.values["what"]))
        if isinstance(self._agent, PerturbableAgent):
            self._agent.prepare(spec)

    def watch(self, environment: Environment) -> None:
        """Takes the environment that pictures of other scenes and segmentations come from."""
        self._environment = environment
        if isinstance(self._agent, PrivilegedAgent):
            self._agent.watch(environment)
        if any(change.name == _OF_SCENE for change in self._changes):
            self._other = self._picture_of_another_scene(environment)

    def perturb(self, change: Perturbation) -> None:
        """Adds a perturbation of pictures or sentences while an episode runs.

        Raises:
            UserError: it is impossible here.
        """
        if self._spec is None:
            raise UserError("No episode runs that could be perturbed.")
        if change.name in SENTENCES:
            perturbed_sentence(self._spec, change)
        self._changes = (*self._changes, change)

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        self._told = self._sentence(0, instruction)
        self._agent.reset(self._told)

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`."""
        if self._spec is not None:
            sentence = self._sentence(observation.step, self._spec.instruction)
            if sentence != self._told:
                self._told = sentence
                self._agent.reset(sentence)
        return self._agent.act(self.seen(observation))

    def seen(self, observation: Observation) -> Observation:
        """What the agent behind it sees of an observation."""
        holding = [
            change
            for change in self._changes
            if change.name in PICTURES and change.holds(observation.step)
        ]
        if self._spec is None or not holding:
            return observation
        truth = Truth(self._other, self._cover)
        images = dict(observation.images)
        for camera in self.cameras:
            for change in holding:
                images[camera] = perturbed_picture(
                    images[camera], change, self._spec.seed, observation.step, truth
                )
        return replace(observation, images=images)

    def told(self, step: int) -> str:
        """What the agent behind it is told at a step; "" before an episode."""
        return self._sentence(step, self._spec.instruction) if self._spec else ""

    def _sentence(self, step: int, instruction: str) -> str:
        for change in self._changes:
            if self._spec and change.name in SENTENCES and change.holds(step):
                return perturbed_sentence(self._spec, change)
        return instruction

    def _picture_of_another_scene(self, environment: Environment) -> Image:
        """The first picture of the neighbouring seed's scene; both are of one split."""
        assert self._spec is not None
        other = SUITES.get(self._spec.suite).spec(self._spec.task, self._spec.seed ^ 1, Condition())
        seen = environment.reset(other, self.cameras).observation
        return seen.images[self.cameras[0]]

    def _cover(self, what: str) -> tuple[Mask, Mask]:
        """Where something is seen in the last picture, and where the background is."""
        assert self._environment is not None and self._spec is not None
        shown = self._environment.segmentation()
        if what in ("gripper", "robot"):
            hidden = shown == FINGERS
            if what == "robot":
                hidden |= shown == ROBOT
        else:
            names = list(self._environment.privileged().names)
            hidden = shown == names.index(_check_named(self._spec, what))
        return hidden, shown == BACKGROUND


def _check_named(spec: EpisodeSpec, what: str) -> str:
    """The name of the goal's object or target; "" for a part of the robot."""
    if what in ("gripper", "robot"):
        return ""
    goal = judged_goal(spec)
    name = (goal.object if what == "object" else goal.target) if goal else None
    if not name:
        raise UserError(
            f"The {what} of {spec.instruction!r} cannot be painted out: there is none.",
            "Choose the object, the gripper or the robot.",
        )
    return name
