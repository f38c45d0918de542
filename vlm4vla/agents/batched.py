"""One policy for several simulators: on an accelerator, one large batch costs what one row does.

Requests are gathered for a few milliseconds and answered together. Matrix products of another
shape round differently, so every batch has the same number of rows and the same length: what is
missing is filled up, and a row does not depend on who else asked. A sentence that would make a
batch longer is answered without the others.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

import numpy as np

from vlm4vla.action import ActionSpec
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError

Act = Callable[[Image, Sequence[str]], Array]
"""Pictures (B, H, W, 3) and B sentences to chunks (B, n, 7), as `Policy.act`."""

Length = Callable[[str], int]
"""A sentence to how long its row is, in whatever decides the shape of a batch."""

FILLER: Final = "the " * 48
"""The sentence of rows that fill a batch. As long in tokens as hardly any instruction of the suite,
it decides the length of every batch, save of those that hold one longer sentence."""


@dataclass(frozen=True)
class _Request:
    image: Image
    instruction: str
    long: bool
    answer: Future[Array]


class Batcher:
    """Gathers requests and answers them in one call.

    Args:
        act: the policy; called in one thread, one call at a time.
        length: of a row of the policy; called in the threads of those who ask.
        rows: of every batch; at least one of them is a filler.
        wait: seconds that the first request of a batch waits for others.
    """

    def __init__(self, act: Act, length: Length, rows: int = 16, wait: float = 0.004) -> None:
        self._act = act
        self._length = length
        self._usual = length(FILLER)
        self._rows = rows
        self._wait = wait
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._open = True
        self._opening = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def act(self, image: Image, instruction: str) -> Array:
        """The next chunk (n, 7) for one simulator.

        Args:
            image: (H, W, 3) uint8 RGB.
            instruction: the sentence.

        Raises:
            UserError: the service is closed, or the sentence cannot be read.
            Exception: whatever the policy raised; everybody who waits for the batch is told.
        """
        long = self._length(instruction) > self._usual
        request = _Request(image, instruction, long, Future())
        with self._opening:
            if not self._open:
                raise UserError("The policy is shut down.", "Start the evaluation again.")
            self._requests.put(request)
        return request.answer.result()

    def close(self) -> None:
        """Answers what was asked and ends; later requests are refused."""
        with self._opening:
            self._open = False
            self._requests.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (first := self._requests.get()) is not None:
            batch = [first]
            until = time.monotonic() + self._wait
            while len(batch) < self._rows - 1:
                try:
                    more = self._requests.get(timeout=max(0.0, until - time.monotonic()))
                except Empty:
                    break
                if more is None:
                    self._requests.put(None)
                    break
                batch.append(more)
            for part in _parts(batch):
                self._answer(part)

    def _answer(self, batch: Sequence[_Request]) -> None:
        missing = self._rows - len(batch)
        images = [request.image for request in batch]
        images += [np.zeros_like(images[0])] * missing
        sentences = [request.instruction for request in batch] + [FILLER] * missing
        try:
            chunks = self._act(np.stack(images), sentences)
            answers = list(zip(batch, chunks[: len(batch)], strict=True))
        except Exception as error:  # noqa: BLE001 - a simulator that is not told waits for ever
            for request in batch:
                request.answer.set_exception(error)
        else:
            for request, chunk in answers:
                request.answer.set_result(chunk)


def _parts(requests: Sequence[_Request]) -> list[list[_Request]]:
    """Requests by the batch that answers them: every long one's is its own."""
    usual = [request for request in requests if not request.long]
    return [part for part in (usual, *([one] for one in requests if one.long)) if part]


class BatchedAgent:
    """One simulator's share of a batcher; see `vlm4vla.core.agent.Agent`.

    Args:
        batcher: who answers.
        identity: whose answers these are.
        action: what its actions mean, and how many of a chunk are carried out.
        camera: the camera whose picture it sees.
    """

    def __init__(
        self, batcher: Batcher, identity: AgentId, action: ActionSpec, camera: str = "policy"
    ) -> None:
        self.identity = identity
        self.replan_every = action.execute
        self.action = action
        self.cameras = (camera,)
        self._batcher = batcher
        self._instruction = ""

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        self._instruction = instruction

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`."""
        return self._batcher.act(observation.images[self.cameras[0]], self._instruction)
