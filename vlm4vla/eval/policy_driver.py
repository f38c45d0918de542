"""A policy in the driver's seat."""

from pathlib import Path
from typing import Literal

from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy
from vlm4vla.sim.scene import Scene
from vlm4vla.sim.types import Array, Observation


class PolicyDriver:
    """A policy as `vlm4vla.driver.Driver`: it sees the picture and the sentence, nothing else.

    Args:
        policy: who acts.
        label: what people are shown.
    """

    kind: Literal["expert", "policy"] = "policy"

    def __init__(self, policy: Policy, label: str = "policy") -> None:
        self.policy = policy
        self.label = label
        self.execute = policy.spec.execute
        self._instruction = ""

    def begin(self, scene: Scene, instruction: str) -> None:
        """Starts an episode; the scene is not looked at."""
        self._instruction = instruction

    def act(self, observation: Observation) -> Array:
        """The next chunk: (n, 7) float32 in [-1, 1]."""
        assert observation.image is not None
        return self.policy.act(observation.image[None], [self._instruction])[0]


def load_driver(checkpoint: Path) -> PolicyDriver:
    """A driver from a checkpoint folder, labelled with its hash.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    label = f"policy {checkpoint_hash(checkpoint)[:12]}"
    return PolicyDriver(Policy.from_pretrained(checkpoint), label)
