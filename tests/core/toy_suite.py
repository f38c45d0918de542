"""A third suite: a dot that goes to a corner, in numpy alone.

Its camera has another name and size, its action another meaning; it tells no true state, no poses
and no segmentation.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vlm4vla.action import ActionSpec
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Transition
from vlm4vla.core.episode import AgentId, EpisodeSpec, Outcome
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError

CAMERA: Final = "top"
HEIGHT, WIDTH = 48, 64
LIMIT: Final = 40
CORNERS: Final = {"red": (4, 4), "blue": (59, 43)}
"""Pixel x, y of what a sentence may name."""

_ACTION: Final = ActionSpec(
    name="toy",
    units=("pixel", "pixel", *("nothing",) * 4, "1 open, 0 closed"),
    frame="picture",
    control_mode="toy_delta",
    low=(-4.0,) * 6,
    high=(4.0,) * 6,
    clip=1.0,
    moves=(True, True, *(False,) * 4),
    still=(0.0,) * 6,
    gripper_open=1.0,
    gripper_closed=0.0,
    chunk=3,
    execute=2,
    statistics="by definition",
)


class ToyEnvironment:
    """The dot moves by the action's first two numbers, at most 4 pixels each."""

    perturbations = ("drift",)
    action = _ACTION

    def reset(self, spec, cameras=()):
        if spec.goal.get("corner") not in CORNERS:
            raise UserError(f"There is no corner {spec.goal.get('corner')!r}.", "Name red or blue.")
        self._spec, self._step = spec, 0
        self._dot = np.random.default_rng(spec.seed).integers((24, 16), (40, 32)).astype(float)
        return self._told(cameras)

    def step(self, action, cameras=()):
        move = np.clip(action[:2], -4, 4).astype(float)
        for change in self._spec.condition.perturbations:
            if change.name == "drift" and change.holds(self._step):
                move += (change.values["x"], change.values["y"])
        self._dot = np.clip(self._dot + move, 0, (WIDTH - 1, HEIGHT - 1))
        self._step += 1
        return self._told(cameras)

    def privileged(self) -> Any:
        raise UserError("The toy tells no true state.")

    def segmentation(self):
        raise UserError("The toy tells no segmentation.")

    def draw(self, spec, pose, cameras=(), *, segmentation=False):
        raise UserError("The toy has no poses to draw.")

    def close(self):
        """Nothing to free."""

    def _told(self, cameras):
        there = self._spec.goal["corner"]
        success = self._at(there)
        late = self._step >= LIMIT and not success
        watched = self._spec.condition.goal == "alternate" and any(
            self._at(corner) for corner in CORNERS if corner != there
        )
        return Transition(
            Observation(
                self._step,
                {CAMERA: self._picture()} if CAMERA in cameras else {},
                np.zeros(0, np.float32),
            ),
            (("arrived",) if success else ()) + (("timeout",) if late else ()),
            success,
            success or late,
            watched,
            physics_ms=0.5,
        )

    def _at(self, corner):
        return bool(np.abs(self._dot - CORNERS[corner]).max() < 2)

    def _picture(self):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for channel, corner in ((0, "red"), (2, "blue")):
            x, y = CORNERS[corner]
            image[y, x, channel] = 255
        x, y = self._dot.round().astype(int)
        image[y, x] = 255
        return image


@dataclass(frozen=True)
class ToySuite:
    """See `vlm4vla.core.suite.Suite`."""

    name: str = "toy"
    tasks: tuple[str, ...] = ("go",)
    cameras: tuple[str, ...] = (CAMERA,)
    control_hz: float = 10

    @property
    def action(self):
        return _ACTION

    def spec(self, task: str, seed: int, condition: Condition) -> EpisodeSpec:
        first, second = ("red", "blue") if seed % 2 else ("blue", "red")
        corner = first if condition.goal == "first" else second
        goal = {"task": task, "corner": corner}
        return EpisodeSpec("toy", task, seed, f"go to the {corner} corner", goal, condition)

    def limit(self, spec):
        return LIMIT

    def open(self):
        return ToyEnvironment()

    def tell(self, spec, events, steps, *, stopped=False):
        if any(event.name == "arrived" for event in events):
            return Outcome("success", f"The dot arrived in {steps} steps.")
        kind = "stopped" if stopped else "out of time"
        return Outcome(kind, f"The dot had not arrived after {steps} steps.")

    def motion(self, episode):
        return None

    def versions(self):
        return {"toy": "1"}


TOY: Final = ToySuite()


class ToyAgent:
    """Finds the dot in the picture and plans three steps of at most `stride` pixels."""

    replan_every = 2
    cameras = (CAMERA,)
    action = _ACTION

    def __init__(self, stride: float = 4.0, name: str = "toy agent") -> None:
        self.stride = stride
        self.identity = AgentId("policy", f"toy {stride}", name)
        self.told: list[str] = []
        self.seen: list[Observation] = []

    def reset(self, instruction: str) -> None:
        corner = next((one for one in CORNERS if one in instruction), None)
        if corner is None:
            raise UserError(f"The toy agent does not know where {instruction!r} is.", "Name one.")
        self._goal = np.array(CORNERS[corner], float)
        self.told.append(instruction)

    def act(self, observation: Observation):
        self.seen.append(observation)
        image = observation.images[CAMERA]
        y, x = np.argwhere(image.min(axis=-1) == 255)[0]
        dot, chunk = np.array([x, y], float), np.zeros((3, 7), np.float32)
        for row in chunk:
            row[:2] = np.clip(self._goal - dot, -self.stride, self.stride)
            dot = dot + row[:2]
        return chunk
