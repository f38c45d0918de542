"""What a frame and an episode hold, in memory and as columns of the LeRobotDataset v3 layout.

LeRobot's loader casts every file to the fixed shapes in `meta/info.json`, so what differs from
scene to scene (how many things, how many valid goals) is padded with zeros to the largest number
that a scene can have; the episode's metadata says how many are real. Column names that begin
with `observation.` or `action` become inputs and outputs of LeRobot's policies, so ours do not.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.scene import Layout
from vlm4vla.suites.tabletop.types import POLICY_PIXELS, Event

FPS: Final = 20
"""Control steps, and so frames, a second."""

CHUNK: Final = 4
"""Actions in a label."""

ACTION_NAMES: Final = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
MAX_THINGS: Final = 5
"""Three objects and two places; a scene without places has at most four objects."""
MAX_GOALS: Final = 20
"""Four objects that all stack: reach 4, pick 4, stack 12."""

EVENTS: Final[tuple[Event, ...]] = get_args(Event)

IMAGE: Final = "observation.images.policy"
STATE: Final = "observation.state"
VELOCITY: Final = "tcp.velocity"
ACTION: Final = "action"
CHUNKS: Final = "label.chunks"
NOISY: Final = "label.noisy"
POSITIONS: Final = "things.positions"
PIXELS: Final = "things.pixels"
NEXT_EVENTS: Final = "next.events"
NEXT_SUCCESS: Final = "next.success"
NEXT_DONE: Final = "next.done"


def _feature(dtype: str, shape: list[int], names: list[str] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "names": names}


FEATURES: Final[dict[str, dict[str, Any]]] = {
    IMAGE: _feature("image", [POLICY_PIXELS, POLICY_PIXELS, 3], ["height", "width", "channels"]),
    STATE: _feature("float32", [4], ["x", "y", "z", "opening"]),
    VELOCITY: _feature("float32", [3], ["x", "y", "z"]),
    ACTION: _feature("float32", [7], list(ACTION_NAMES)),
    CHUNKS: _feature("float32", [MAX_GOALS * CHUNK * 7]),
    NOISY: _feature("bool", [1]),
    POSITIONS: _feature("float32", [MAX_THINGS * 3]),
    PIXELS: _feature("int64", [MAX_THINGS]),
    NEXT_EVENTS: _feature("bool", [len(EVENTS)], list(EVENTS)),
    NEXT_SUCCESS: _feature("bool", [1]),
    NEXT_DONE: _feature("bool", [1]),
    "timestamp": _feature("float32", [1]),
    "frame_index": _feature("int64", [1]),
    "episode_index": _feature("int64", [1]),
    "index": _feature("int64", [1]),
    "task_index": _feature("int64", [1]),
}
"""Every column in file order, as `meta/info.json` lists it."""

PLACED: Final = ("episode_index", "index", "task_index")
"""Columns that are known only when the whole dataset is put together."""


def arrow_type(feature: dict[str, Any]) -> pa.DataType:
    """The column type of a feature: pictures are structs, [1] a scalar, vectors fixed lists."""
    if feature["dtype"] == "image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    scalar = pa.bool_() if feature["dtype"] == "bool" else pa.type_for_alias(feature["dtype"])
    return scalar if feature["shape"] == [1] else pa.list_(scalar, feature["shape"][0])


def _hugging_face_type(feature: dict[str, Any]) -> dict[str, Any]:
    if feature["dtype"] == "image":
        return {"_type": "Image"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    if feature["shape"] == [1]:
        return value
    return {"feature": value, "length": feature["shape"][0], "_type": "List"}


def arrow_schema() -> pa.Schema:
    """The schema of the data files, with the metadata that `datasets` reads."""
    columns = {name: _hugging_face_type(feature) for name, feature in FEATURES.items()}
    return pa.schema(
        [(name, arrow_type(feature)) for name, feature in FEATURES.items()],
        metadata={"huggingface": json.dumps({"info": {"features": columns}})},
    )


@dataclass(frozen=True)
class EpisodeInfo:
    """What is true of a whole episode.

    Attributes:
        task: the task that the episode was drawn for.
        layout: with `seed`, what `sample_scene` rebuilds the scene from.
        seed: the scene's seed.
        goal: the goal that was followed.
        instruction: the sentence for it.
        driver: who acted: "expert", or "policy" and its fingerprint.
        noise: probability with which noise was added to an action.
        start: where the finger tips were put before the episode began, x, y, z in metres; None
            for the simulator's own draw from the seed.
        things: names of the movable objects, then of the places; the order of all columns.
        movable: how many of the things can move.
        goals: every goal that is valid in the scene, as text; the order of the labels.
        versions: versions of the libraries that the pictures and labels depend on.
    """

    task: Task
    layout: Layout
    seed: int
    goal: Goal
    instruction: str
    driver: str
    noise: float
    start: tuple[float, float, float] | None
    things: tuple[str, ...]
    movable: int
    goals: tuple[str, ...]
    versions: dict[str, str]

    def to_json(self) -> str:
        """One line of JSON from which `episode_info` makes an equal object."""
        return json.dumps(asdict(self), sort_keys=True)


def episode_info(text: str) -> EpisodeInfo:
    """Reads what `EpisodeInfo.to_json` wrote.

    Raises:
        ValueError: it is not JSON, misses a field, or names no scene.
        TypeError: a field is of another kind.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError(f"it is a {type(values).__name__}")
    if missing := {field.name for field in fields(EpisodeInfo)} - set(values):
        raise ValueError(f"no {', '.join(sorted(missing))}")
    seed, layout = values["seed"], values["layout"]
    if not isinstance(seed, int) or seed < 0 or layout not in get_args(Layout):
        raise ValueError(f"seed {seed!r} of layout {layout!r} is no scene")
    values["goal"] = Goal(**values["goal"])
    values["start"] = values["start"] and tuple(values["start"])
    for name in ("things", "goals"):
        values[name] = tuple(values[name])
    return EpisodeInfo(**values)


@dataclass(frozen=True)
class Recording:
    """One episode of T frames; frame t is what was seen, then what was done about it.

    Attributes:
        info: what is true of all frames.
        images: (T, 128, 128, 3) uint8 RGB.
        state: (T, 4) centre between the finger tips in the world frame and the opening, metres.
        velocity: (T, 3) velocity of that point, metres a second.
        action: (T, 7) the action that was executed, simulator units.
        chunks: (T, g, 4, 7) the expert's next actions for each valid goal, simulator units.
        noisy: (T,) noise was added to the executed action.
        positions: (T, k, 3) centres of the things, world frame, metres.
        pixels: (T, k) how many pixels of the picture show the thing.
        events: (T, 7) what the action led to, in the order of `Event`.
        success: (T,) whether the goal's condition held after the action.
        done: (T,) whether the episode was over after the action.
    """

    info: EpisodeInfo
    images: NDArray[np.uint8]
    state: NDArray[np.float32]
    velocity: NDArray[np.float32]
    action: NDArray[np.float32]
    chunks: NDArray[np.float32]
    noisy: NDArray[np.bool_]
    positions: NDArray[np.float32]
    pixels: NDArray[np.int64]
    events: NDArray[np.bool_]
    success: NDArray[np.bool_]
    done: NDArray[np.bool_]

    def __post_init__(self) -> None:
        frames, things, goals = len(self.images), len(self.info.things), len(self.info.goals)
        pixels = POLICY_PIXELS
        expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "images": ((frames, pixels, pixels, 3), np.uint8),
            "state": ((frames, 4), np.float32),
            "velocity": ((frames, 3), np.float32),
            "action": ((frames, 7), np.float32),
            "chunks": ((frames, goals, CHUNK, 7), np.float32),
            "noisy": ((frames,), np.bool_),
            "positions": ((frames, things, 3), np.float32),
            "pixels": ((frames, things), np.int64),
            "events": ((frames, len(EVENTS)), np.bool_),
            "success": ((frames,), np.bool_),
            "done": ((frames,), np.bool_),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self, info: str | None = None) -> str:
        """SHA-256 of the content: the same for the same frames however they are stored.

        Args:
            info: the text that was stored of `info`; None for the text of this version.
        """
        return self._digest(self.info.to_json() if info is None else info, ())

    def fingerprint_of_values(self) -> str:
        """SHA-256 of all but pictures, pixels counted in them, and versions of libraries."""
        return self._digest(replace(self.info, versions={}).to_json(), ("images", "pixels"))

    def _digest(self, info: str, without: Collection[str]) -> str:
        digest = hashlib.sha256(info.encode())
        for field in fields(self):
            if field.name not in ("info", *without):
                digest.update(np.ascontiguousarray(getattr(self, field.name)).data)
        return digest.hexdigest()
