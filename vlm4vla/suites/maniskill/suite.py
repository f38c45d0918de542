"""Stock ManiSkill environments as a suite: every environment is a task with a fixed instruction.

Imports no simulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vlm4vla import seeds
from vlm4vla.action import ActionSpec, tiny
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import Episode, EpisodeSpec, Event, Outcome
from vlm4vla.errors import UserError
from vlm4vla.suites.versions import versions

NAME: Final = "maniskill"

TIME_LIMIT: Final = 100
"""Control steps (20 a second) until an episode is over."""

INSTRUCTIONS: Final[dict[str, str]] = {
    "PickCube-v1": "pick up the red cube and hold it at the goal",
    "PushCube-v1": "push the blue cube to the target",
    "PullCube-v1": "pull the blue cube to the target",
    "StackCube-v1": "stack the red cube on the green cube",
    "StackPyramid-v1": "build a pyramid with the three cubes",
    "LiftPegUpright-v1": "stand the peg upright",
    "PlaceSphere-v1": "put the blue ball into the bin",
    "PokeCube-v1": "poke the cube with the peg",
    "PullCubeTool-v1": "pull the cube closer with the tool",
    "RollBall-v1": "roll the ball into the goal",
    "PegInsertionSide-v1": "insert the peg into the hole",
    "PlugCharger-v1": "plug the charger into the receptacle",
}
"""What the known environments ask for; any other environment needs a sentence of the user's."""


@dataclass(frozen=True)
class ManiskillSuite:
    """The suite; see `vlm4vla.core.suite.Suite`. Any environment id is a task."""

    name: str = NAME
    tasks: tuple[str, ...] = tuple(INSTRUCTIONS)
    cameras: tuple[str, ...] = ("policy", "view")
    control_hz: float = 20

    @property
    def action(self) -> ActionSpec:
        """What its actions mean."""
        return tiny()

    def spec(self, task: str, seed: int, condition: Condition) -> EpisodeSpec:
        """See `Suite.spec`."""
        return instructed(task, seed, None, condition)

    def limit(self, spec: EpisodeSpec) -> int:
        """See `Suite.limit`."""
        return TIME_LIMIT

    def open(self) -> Environment:
        """See `Suite.open`."""
        # It takes seconds: SAPIEN.
        from vlm4vla.suites.maniskill.environment import open_environment

        return open_environment()

    def tell(
        self, spec: EpisodeSpec, events: Sequence[Event], steps: int, *, stopped: bool = False
    ) -> Outcome:
        """See `Suite.tell`."""
        took = f"{steps} steps ({steps / self.control_hz:.1f} s of the robot's time)"
        if any(event.name == "success" for event in events):
            return Outcome("success", f"The robot did what {spec.task} asks for in {took}.")
        if stopped:
            return Outcome("stopped", f"Stopped after {steps} steps.")
        return Outcome(
            "out of time", f"After {took} the robot had not done what {spec.task} asks for."
        )

    def motion(self, episode: Episode) -> None:
        """See `Suite.motion`; which pose is whose differs between environments."""
        return None

    def versions(self) -> Mapping[str, str]:
        """See `Suite.versions`."""
        return versions()


def instructed(
    environment: str, seed: int, instruction: str | None, condition: Condition
) -> EpisodeSpec:
    """The specification of a stock environment with a sentence.

    Args:
        environment: its id, such as "StackCube-v1".
        seed: what stands where is the environment's own matter.
        instruction: None for the fixed one.
        condition: what is changed besides.

    Raises:
        UserError: the environment has no fixed instruction and none was given, another goal than
            its own is wanted, or there is no such seed.
    """
    seeds.checked(seed)
    if condition.goal != "first":
        raise UserError(f"{environment} has one goal of its own.", "Ask for the first goal.")
    sentence = instruction or INSTRUCTIONS.get(environment)
    if sentence is None:
        raise UserError(
            f"No instruction is known for {environment!r}.",
            f"Give one, or choose one of {', '.join(INSTRUCTIONS)}.",
        )
    return EpisodeSpec(NAME, environment, seed, sentence, {"task": environment}, condition)
