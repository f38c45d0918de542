"""A policy in the driver's seat."""

import threading
import weakref
from pathlib import Path
from typing import Final, Literal

from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.types import Array, Observation

_turns: Final[weakref.WeakKeyDictionary[Policy, threading.Lock]] = weakref.WeakKeyDictionary()
"""A lock for each policy: while it computes, its VLM holds state that belongs to one call."""

_turns_lock: Final = threading.Lock()


class PolicyDriver:
    """A policy as `vlm4vla.driver.Driver`: it sees the picture and the sentence, nothing else.

    Several drivers, in several threads, may share a policy.

    Args:
        policy: who acts.
        label: what people are shown.
        execute: actions carried out before the next look; 0 for as many as the policy declares.
    """

    kind: Literal["expert", "policy"] = "policy"

    def __init__(self, policy: Policy, label: str = "policy", execute: int = 0) -> None:
        self.policy = policy
        self.label = label
        self.execute = execute or policy.spec.execute
        self._instruction = ""
        with _turns_lock:
            self._turn = _turns.setdefault(policy, threading.Lock())

    def begin(self, scene: Scene, instruction: str) -> None:
        """Starts an episode; the scene is not looked at."""
        self._instruction = instruction

    def act(self, observation: Observation) -> Array:
        """The next chunk: (n, 7) float32 in [-1, 1]."""
        assert observation.image is not None
        with self._turn:
            return self.policy.act(observation.image[None], [self._instruction])[0]


def load_driver(checkpoint: Path) -> PolicyDriver:
    """A driver from a checkpoint folder, labelled with its hash.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    label = f"policy {checkpoint_hash(checkpoint)[:12]}"
    return PolicyDriver(Policy.from_pretrained(checkpoint), label)
