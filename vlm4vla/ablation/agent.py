"""An agent whose pictures and sentences are perturbed on their way to it."""

from dataclasses import replace

from vlm4vla.ablation.given import (
    another_scene,
    check_nameable,
    cover,
    given_picture,
    given_sentence,
    needs_another_scene,
)
from vlm4vla.ablation.pictures import PICTURES, Mask, Truth
from vlm4vla.ablation.registry import ordered
from vlm4vla.ablation.sentences import SENTENCES
from vlm4vla.core.agent import Agent, AgentLayer, PerturbableAgent, PrivilegedAgent
from vlm4vla.core.condition import Perturbation
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError


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
        # What cannot be said or shown is refused before anything moves.
        check_nameable(spec, self._changes)
        if isinstance(self._agent, PerturbableAgent):
            self._agent.prepare(spec)

    def watch(self, environment: Environment) -> None:
        """Takes the environment that pictures of other scenes and segmentations come from."""
        self._environment = environment
        if isinstance(self._agent, PrivilegedAgent):
            self._agent.watch(environment)
        if needs_another_scene(self._changes):
            assert self._spec is not None
            self._other = another_scene(environment, self._spec, self.cameras)

    def perturb(self, change: Perturbation) -> None:
        """Adds a perturbation of pictures or sentences while an episode runs.

        It takes the place of one of its name, and all hold in the order in which they are kept, so
        that the episode can be run again.

        Raises:
            UserError: it is impossible here.
        """
        if self._spec is None:
            raise UserError("No episode runs that could be perturbed.")
        check_nameable(self._spec, [change])
        others = [one for one in self._changes if one.name != change.name]
        self._changes = ordered([*others, change])

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        self._told = self.told(0) if self._spec else instruction
        self._agent.reset(self._told)

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`."""
        if self._spec is not None:
            sentence = self.told(observation.step)
            if sentence != self._told:
                self._told = sentence
                self._agent.reset(sentence)
        return self._agent.act(self.seen(observation))

    def seen(self, observation: Observation) -> Observation:
        """What the agent behind it sees of an observation."""
        if self._spec is None or not any(one.name in PICTURES for one in self._changes):
            return observation
        truth = Truth(self._other, self._cover)
        seed, step = self._spec.seed, observation.step
        images = dict(observation.images)
        for camera in self.cameras:
            images[camera] = given_picture(images[camera], self._changes, seed, step, truth)
        return replace(observation, images=images)

    def told(self, step: int) -> str:
        """What the agent behind it is told at a step; "" before an episode."""
        return given_sentence(self._spec, self._changes, step) if self._spec else ""

    def _cover(self, what: str) -> tuple[Mask, Mask]:
        """Where something is seen in the last picture, and where the background is."""
        environment = self._environment
        assert environment is not None and self._spec is not None
        shown = environment.segmentation()
        return cover(self._spec, what, shown, lambda: environment.privileged().names)
