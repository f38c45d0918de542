"""What the seven numbers of an action mean, and how they become training targets and back.

One `ActionSpec` travels with the data, the weights and the figures. Scaling and its inverse live
in the same object, so a prediction cannot be executed with another scaling than it was trained on.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vlm4vla.errors import UserError

Array = npt.NDArray[np.float32]

ARM = ("x", "y", "z", "roll", "pitch", "yaw")
DIMENSIONS = (*ARM, "gripper")

_MEANING: Final = ("units", "frame", "control_mode", "gripper_open", "gripper_closed")
"""What a controller takes an action for. The rest is how a policy scales actions and how far it
plans, which it does and undoes on its own."""

_LENGTH: Final = re.compile(r"([\d.]+) m")


def _f32(values: Sequence[float]) -> Array:
    return np.asarray(values, dtype=np.float32)


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _numbers(values: npt.ArrayLike) -> Array:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"These are no numbers: {error}.") from error


class Targets(NamedTuple):
    """What a policy learns: `arm` (..., 6) in [-1, 1], `gripper` (...) with 1 open and 0 closed."""

    arm: Array
    gripper: Array


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """The meaning of an action of six arm numbers and one gripper number.

    An arm number a is scaled in two stages, as in the paper (section "Actions", its code clips at
    0.65): low..high goes to -1..1, then the result is clipped to +-clip and divided by clip.

    Args:
        name: which preset this is.
        units: what 1.0 stands for in each of the seven environment dimensions.
        frame: the frame that the arm's motion is expressed in.
        control_mode: the controller that the environment must run.
        low: six lower ends of stage one, in environment units.
        high: six upper ends of stage one.
        clip: half range kept by stage two, in (0, 1]; 1.0 keeps everything.
        moves: False for a dimension that never moves: its target is 0 and its command `still`.
        still: the six commands of "no motion", used where `moves` is False.
        gripper_open: the environment's command for an open gripper.
        gripper_closed: the environment's command for a closed gripper.
        chunk: actions predicted at a time.
        execute: how many of them are executed before the next prediction.
        statistics: where `low` and `high` come from.

    Raises:
        UserError: the values contradict one another.
    """

    name: str
    units: tuple[str, ...]
    frame: str
    control_mode: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    clip: float
    moves: tuple[bool, ...]
    still: tuple[float, ...]
    gripper_open: float
    gripper_closed: float
    chunk: int
    execute: int
    statistics: str

    def __post_init__(self) -> None:
        arm = (self.low, self.high, self.moves, self.still)
        numbers = (*self.low, *self.high, *self.still, self.gripper_open, self.gripper_closed)
        texts = (self.name, self.frame, self.control_mode, self.statistics, *self.units)
        counts = (self.chunk, self.execute)
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in counts):
            problem = "counts steps in a number that is not whole"
            raise UserError(f"The action specification {self.name!r} {problem}.")
        # In the precision that actions are computed in: what is equal there gives no scale.
        with np.errstate(over="ignore", invalid="ignore"):
            low, high, values = _f32(self.low), _f32(self.high), _f32(numbers)
            spans = high[: len(low)] - low[: len(high)]
        for broken, problem in (
            (
                not isinstance(self.units, tuple)
                or len(self.units) != 7
                or any(len(v) != 6 for v in arm),
                "needs 7 units and 6 arm values",
            ),
            (not all(isinstance(v, str) for v in texts), "holds no text where one should be"),
            (not all(isinstance(v, bool) for v in self.moves), "does not say which numbers move"),
            (not np.isfinite(values).all(), "holds a value that is not finite"),
            ((spans <= 0).any(), "has low >= high in float32"),
            (not np.isfinite(spans).all(), "has ends too far apart"),
            (not 0 < self.clip <= 1, "has a clip outside (0, 1]"),
            (self.gripper_open == self.gripper_closed, "does not tell open from closed"),
            (not 1 <= self.execute <= self.chunk, "executes fewer than 1 or more than chunk steps"),
        ):
            if broken:
                raise UserError(f"The action specification {self.name!r} {problem}.")

    def check_means(self, wanted: "ActionSpec", who: str) -> None:
        """Refuses actions that a controller would take for others.

        Args:
            wanted: what the controller takes actions for.
            who: whose these are.

        Raises:
            UserError: they mean something else.
        """
        for name in _MEANING:
            own, other = getattr(self, name), getattr(wanted, name)
            if own != other:
                raise UserError(
                    f"The actions of {who} have another meaning here: {name} is {_shown(own)}, "
                    f"not {_shown(other)}.",
                    "Choose a policy and a suite that were made for each other.",
                )

    def millimetres(self) -> tuple[float, ...]:
        """What 1.0 of x, y and z stands for.

        Raises:
            UserError: the first three units of the actions are no lengths.
        """
        found = [_LENGTH.fullmatch(unit) for unit in self.units[:3]]
        lengths = tuple(float(match[1]) * 1e3 for match in found if match)
        if len(lengths) < 3:
            raise UserError(
                f"Actions in {', '.join(self.units[:3])} have no displacement in millimetres.",
                "Explain the gripper or a single dimension instead.",
            )
        return lengths

    def normalise(self, actions: npt.ArrayLike) -> Targets:
        """Environment actions (..., 7) to training targets.

        Raises:
            UserError: the last axis is not 7 long or a number is not finite.
        """
        actions = _numbers(actions)
        if actions.ndim == 0 or actions.shape[-1] != 7 or not np.isfinite(actions).all():
            raise UserError(f"Actions must be finite (..., 7), not {actions.shape}.")
        low, high = _f32(self.low), _f32(self.high)
        arm = 2 * (actions[..., :6] - low) / (high - low) - 1
        arm = np.clip(arm, -self.clip, self.clip) / np.float32(self.clip)
        middle = (self.gripper_open + self.gripper_closed) / 2
        opens = (actions[..., 6] > middle) == (self.gripper_open > middle)
        return Targets(np.where(self.moves, arm, 0).astype(np.float32), opens.astype(np.float32))

    def unnormalise(self, arm: npt.ArrayLike, gripper_logits: npt.ArrayLike) -> Array:
        """A prediction to environment actions (..., 7).

        Args:
            arm: (..., 6) in [-1, 1].
            gripper_logits: (...); positive means open.

        Raises:
            UserError: the shapes do not fit, or a number is not finite.
        """
        arm, gripper_logits = _numbers(arm), _numbers(gripper_logits)
        if arm.shape != (*gripper_logits.shape, 6):
            raise UserError(
                f"A prediction is (..., 6) and (...), not {arm.shape} and {gripper_logits.shape}."
            )
        if not (np.isfinite(arm).all() and np.isfinite(gripper_logits).all()):
            raise UserError("A prediction that is not finite is no action.")
        arm = arm * np.float32(self.clip)
        low, high = _f32(self.low), _f32(self.high)
        motion = np.where(self.moves, (arm + 1) / 2 * (high - low) + low, _f32(self.still))
        opens = gripper_logits > 0
        gripper = np.where(opens, self.gripper_open, self.gripper_closed)
        return np.concatenate([motion, gripper[..., None]], axis=-1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `from_json` reads back unchanged."""
        return {"dimensions": list(DIMENSIONS)} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ActionSpec":
        """Reads what `to_json` gave.

        Raises:
            UserError: a field is missing, unknown, of the wrong kind, or the dimensions differ.
        """
        fields = dict(value)
        if fields.pop("dimensions", None) != list(DIMENSIONS):
            raise UserError(f"The action's dimensions are not {', '.join(DIMENSIONS)}.")
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := sorted(names ^ set(fields)):
            raise UserError(f"The action specification lacks or does not know: {', '.join(odd)}.")
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        try:
            return cls(**tuples)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"The action specification holds a wrong type: {error}.") from error

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any field."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


SUITE_CAPS: Final = (0.6, 0.6, 0.6, 0.0, 0.0, 0.0)
"""Largest commands of the suite's expert: 0.06 m a step asked for, and it never rotates."""


def tiny(caps: Sequence[float] = SUITE_CAPS, chunk: int = 4, execute: int = 4) -> ActionSpec:
    """Our simulator's action: ManiSkill `pd_ee_delta_pose`.

    Args:
        caps: the largest command that the expert gives in each of the six arm dimensions, in
            environment units; 0 marks a dimension that never moves.
        chunk: actions predicted at a time.
        execute: how many of them are executed before the next prediction.
    """
    return ActionSpec(
        name="tiny",
        units=("0.1 m",) * 3 + ("0.1 rad",) * 3 + ("+1 open, -1 closed",),
        frame="robot base",
        control_mode="pd_ee_delta_pose",
        low=tuple(-float(cap or 1.0) for cap in caps),
        high=tuple(float(cap or 1.0) for cap in caps),
        clip=1.0,
        moves=tuple(cap > 0 for cap in caps),
        still=(0.0,) * 6,
        gripper_open=1.0,
        gripper_closed=-1.0,
        chunk=chunk,
        execute=execute,
        statistics="the expert's declared caps",
    )


def paper(
    q01: Sequence[float],
    q99: Sequence[float],
    statistics: str,
    chunk: int = 4,
    execute: int = 4,
    gripper_open: float = 1.0,
    gripper_closed: float = -1.0,
) -> ActionSpec:
    """The paper's action: scaled between the 1 % and 99 % quantiles, then clipped at 0.65.

    A dimension whose quantiles are equal gives no scale: it counts as one that never moves, its
    target is 0 and its command the quantile.

    Raises:
        UserError: the quantiles are not six and six finite numbers in order.

    Args:
        q01: six 1 % quantiles of the data set, in its units.
        q99: six 99 % quantiles.
        statistics: the data set that they come from.
        chunk: 4 on Bridge and LIBERO, 10 on CALVIN.
        execute: how many are executed before the next prediction.
        gripper_open: the environment's command for an open gripper.
        gripper_closed: the environment's command for a closed gripper.
    """
    low, high = _numbers(q01), _numbers(q99)
    if low.shape != (6,) or high.shape != (6,):
        raise UserError(f"Quantiles are six and six numbers, not {low.shape} and {high.shape}.")
    # In the precision that actions are computed in.
    moves = tuple(bool(moved) for moved in low != high)
    ends = [
        (float(a), float(b)) if moved else (float(a) - 1, float(b) + 1)
        for a, b, moved in zip(q01, q99, moves, strict=True)
    ]
    return ActionSpec(
        name="paper",
        units=("data set",) * 6 + (f"{gripper_open:+g} open, {gripper_closed:+g} closed",),
        frame="end effector, relative",
        control_mode="the data set's",
        low=tuple(first for first, _ in ends),
        high=tuple(last for _, last in ends),
        clip=0.65,
        moves=moves,
        still=tuple(0.0 if moved else float(a) for a, moved in zip(q01, moves, strict=False)),
        gripper_open=gripper_open,
        gripper_closed=gripper_closed,
        chunk=chunk,
        execute=execute,
        statistics=statistics,
    )
