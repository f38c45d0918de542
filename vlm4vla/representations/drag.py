"""One object moved over the table, position by position, and what layers make of each picture."""

import base64
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vlm4vla.core.environment import Environment, Pose
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError
from vlm4vla.files import replacing
from vlm4vla.representations.pictures import CENTIMETRES, TARGETS, Pictures, Split, Values, split
from vlm4vla.representations.results import SHIPPED
from vlm4vla.representations.ridge import kernel, linear_probes
from vlm4vla.suites.tabletop.projection import POLICY_LENS
from vlm4vla.suites.tabletop.scene import WORKSPACE, ObjectSpec
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, goal_of, scene_of

if TYPE_CHECKING:
    from vlm4vla.representations.layers import Features

FILE: Final = "drag.json"

STEPS: Final = 13
"""Positions along each side of the workspace."""

CLEAR: Final = 0.062
"""Nearest that the centre of the moved object comes to another one's, metres; the diagonals of two
of the largest cubes would need 0.069, were they turned so."""

TARGET: Final = "named"
"""What is probed: where the object that the sentence names is."""

_MAPS: Final = ("projector", "picture")
"""Parts of a VLM whose tokens lie as the picture does; those of a vision tower may lie in blocks
that are merged later."""


class Track(NamedTuple):
    """The pictures of an object that is moved.

    Attributes:
        spec: the scene, and the sentence that names the object.
        object: what is moved.
        height: of its centre above the table, metres.
        places: (P, 2) where it stands, world frame, metres; the first is its own.
        pictures: P pictures with the truth.
    """

    spec: EpisodeSpec
    object: ObjectSpec
    height: float
    places: Values
    pictures: Pictures


def places_of(spec: EpisodeSpec) -> Values:
    """Where the named object can stand: (P, 2) metres, its own place first, then row by row."""
    scene, named = scene_of(spec), goal_of(spec).object
    own = next(thing for thing in scene.objects if thing.name == named)
    others = np.array([(one.x, one.y) for one in scene.objects if one.name != named])
    x, y = (np.linspace(low, high, STEPS) for low, high in WORKSPACE)
    every = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    away = np.linalg.norm(every[:, None] - others[None], axis=-1)
    return np.vstack([[(own.x, own.y)], every[(away >= CLEAR).all(1)]])


def track(environment: Environment, spec: EpisodeSpec, tell: Callable[[str], None]) -> Track:
    """Draws the named object of a scene at every place, everything else as it starts.

    Args:
        environment: of the tabletop suite.
        spec: a scene of the suite with its sentence.
        tell: takes a line about how far it is.
    """
    named = goal_of(spec).object
    things = scene_of(spec).objects
    which = next(n for n, thing in enumerate(things) if thing.name == named)
    pose = environment.reset(spec).pose
    assert pose is not None
    places = places_of(spec)
    images, truth = [], {target.name: list[Values]() for target in TARGETS}
    for x, y in places:
        poses = pose.poses.copy()
        poses[which, :2] = x, y
        drawn = environment.draw(spec, Pose(pose.joints, poses), [POLICY_CAMERA])
        images.append(drawn.images[POLICY_CAMERA])
        for target in TARGETS:
            truth[target.name].append(target.of(drawn.privileged, spec))
    tell(f"{len(places)} places drawn")
    n = len(places)
    pictures = Pictures(
        np.stack(images),
        (spec.instruction,) * n,
        np.full(n, spec.seed),
        np.zeros(n, bool),
        {name: np.stack(values) for name, values in truth.items()},
    )
    return Track(spec, things[which], float(pose.poses[which, 2]), places, pictures)


def together(pictures: Pictures, moved: Pictures) -> tuple[Pictures, Split]:
    """Pictures that probes are fitted to, and those of a track behind them, which only test."""
    parts = split(pictures.scenes)
    none = np.zeros(len(moved), bool)
    return (
        Pictures(
            np.concatenate([pictures.images, moved.images]),
            pictures.instructions + moved.instructions,
            np.concatenate([pictures.scenes, moved.scenes]),
            np.concatenate([pictures.first, moved.first]),
            {
                name: np.concatenate([values, moved.truth[name]])
                for name, values in pictures.truth.items()
            },
        ),
        Split(*(np.concatenate([one, none]) for one in parts)),
    )


def follow(
    seen: "Features", whole: Pictures, parts: Split, moved: Track, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """What every layer makes of a track.

    Args:
        seen: features of all of `whole`.
        whole: see `together`; the track's pictures are the last.
        parts: of the same.
        moved: the track.
        tell: takes a line about how far it is.

    Returns:
        Of each layer its name; `cm`, where its probe puts the object at each place, and `off`, how
        far that is from the truth; `at`, the same place as shares of the picture; and where its
        tokens lie as the picture does, `side` cells a side and `change`: how far each token is
        from what it was at the first place, divided by its length there, in 255ths of `most`.
    """
    n = len(moved.places)
    truth = {TARGET: whole.truth[TARGET]}
    found = []
    for layer, values in seen.items():
        told = linear_probes(kernel(values, parts.fit), truth, parts, ())[TARGET][-n:, 0]
        off = np.linalg.norm(told - moved.places * CENTIMETRES, axis=1)
        heights = np.full((n, 1), moved.height)
        at = POLICY_LENS.project(np.hstack([told / CENTIMETRES, heights]))
        row: dict[str, Any] = {
            "name": layer.name,
            "cm": np.round(told, 1).tolist(),
            "off": np.round(off, 1).tolist(),
            "at": np.round(at, 3).tolist(),
        }
        if layer.part in _MAPS and round(values.shape[1] ** 0.5) ** 2 == values.shape[1]:
            row |= _changes(values[-n:].astype(np.float32))
        found.append(row)
    tell(f"{len(found)} layers followed")
    return found


def _changes(tokens: NDArray[np.float32]) -> dict[str, Any]:
    """Of tokens (P, T, D) how far each is from the same of the first picture; see `follow`."""
    length = np.linalg.norm(tokens[0], axis=-1)
    change = np.linalg.norm(tokens - tokens[0], axis=-1) / np.maximum(length, 1e-6)
    most = max(float(change.max()), 1e-6)
    levels = np.round(255 * change / most).astype(np.uint8)
    return {
        "side": round(tokens.shape[1] ** 0.5),
        "most": round(most, 3),
        "change": base64.b64encode(levels.tobytes()).decode(),
    }


def always_mean(whole: Pictures, parts: Split, moved: Track) -> float:
    """How far, in cm on average over a track, whoever always says the mean of the fit is off."""
    mean = np.nanmean(whole.truth[TARGET][parts.fit], axis=0)[0]
    return float(np.linalg.norm(moved.places * CENTIMETRES - mean, axis=1).mean())


def as_json(
    moved: Track, scenes: int, always: float, command: str, encoders: Sequence[Any]
) -> dict[str, Any]:
    """What a page needs to show a track.

    Args:
        moved: the track.
        scenes: how many seeds probes were fitted, chosen and tested on.
        always: see `always_mean`.
        command: what made it.
        encoders: of each `name`, `digest` and what `follow` gives as `layers`.
    """
    heights = np.full((len(moved.places), 1), moved.height)
    return {
        "command": command,
        "scenes": scenes,
        "always": round(always, 1),
        "task": moved.spec.task,
        "seed": moved.spec.seed,
        "instruction": moved.spec.instruction,
        "object": moved.object.name,
        "cm": np.round(moved.places * CENTIMETRES, 1).tolist(),
        "at": np.round(POLICY_LENS.project(np.hstack([moved.places, heights])), 4).tolist(),
        "pixels": moved.pictures.images.shape[1],
        "pictures": base64.b64encode(strip(moved.pictures.images)).decode(),
        "encoders": list(encoders),
    }


def strip(images: Image) -> bytes:
    """WebP of pictures (P, H, W, 3) in rows of `STEPS`, the first at the upper left."""
    count, height, width, _ = images.shape
    rows = -(-count // STEPS)
    sheet = Pillow.new("RGB", (STEPS * width, rows * height))
    for place, picture in enumerate(images):
        sheet.paste(Pillow.fromarray(picture), (place % STEPS * width, place // STEPS * height))
    target = io.BytesIO()
    sheet.save(target, "webp", quality=80, method=6)
    return target.getvalue()


def write_drag(folder: Path, plain: dict[str, Any]) -> Path:
    """Writes what `as_json` gives, atomically.

    Raises:
        UserError: the disk is full or not writable.
    """
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(plain, separators=(",", ":")) + "\n", "utf-8")
    return folder / FILE


def read_drag(folder: Path = SHIPPED) -> dict[str, Any] | None:
    """What was written into a folder; None where nothing was.

    Raises:
        UserError: the file is damaged.
    """
    try:
        plain: dict[str, Any] = json.loads((folder / FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{FILE} is no JSON.", "Run `vlm4vla represent --drag` again.") from error
    return plain


def mean_off(layer: dict[str, Any]) -> float:
    """Mean distance in cm of a layer's probe from the truth over all places of a track."""
    off: Iterable[float] = layer["off"]
    return float(np.mean(list(off)))
