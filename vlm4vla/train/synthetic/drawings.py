"""Drawings of a table with coloured things on it, without a robot and without a simulator.

Every solid is intersected with the rays of its own small window, so that outlines, occlusion and
centres are exact and a picture still takes only a few milliseconds. Cameras, light, tones and
clutter are drawn anew for each picture; what carries a name is only a thing's colour and kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, SHAPES, Fixture, Shape

PIXELS: Final = 128
"""Side of a picture, the same as the policy camera's."""

_OVERSAMPLING: Final = 2
_CANVAS: Final = PIXELS * _OVERSAMPLING

Floats = NDArray[np.float32]

_Vector = tuple[Floats, Floats, Floats]
"""A field of 3-vectors, one array a component: several times faster than a last axis of three."""

_Window = tuple[int, int, int, int]
"""Left, top, right, bottom on the canvas; right and bottom are excluded."""

_SHADES: Final = 256
_BRIGHTEST: Final = 1.5
_RAMP: Final = np.linspace(0.0, _BRIGHTEST, _SHADES, dtype=np.float32)[:, None]


@dataclass(frozen=True)
class Item:
    """A named thing in a picture: the pixel that its centre falls on, x to the right, y down."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """A picture with its exact labels.

    Attributes:
        image: (128, 128, 3) uint8 RGB.
        segmentation: (128, 128) int8, the index into `items`, -1 where there is none of them.
        items: the named things; names are unique.
    """

    image: NDArray[np.uint8]
    segmentation: NDArray[np.int8]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class _Camera:
    """A pinhole camera above a table whose frame is (right, away, up), metres."""

    position: Floats
    axes: Floats
    focal: float

    def project(self, points: Floats) -> Floats:
        """(..., 3) points to canvas x, canvas y and depth along the optical axis."""
        seen = (points - self.position) @ self.axes.T
        seen[..., :2] *= self.focal / seen[..., 2:]
        seen[..., :2] += _CANVAS / 2
        return seen.astype(np.float32)

    def rays(self, window: _Window) -> _Vector:
        """Directions of the pixels of a window, as three (h, w) components."""
        left, top, right, bottom = window
        half = _CANVAS / 2
        xs = ((np.arange(left, right, dtype=np.float32) + (0.5 - half)) / self.focal)[None, :]
        ys = ((np.arange(top, bottom, dtype=np.float32) + (0.5 - half)) / self.focal)[:, None]
        across, down, forward = self.axes
        return (
            xs * across[0] + (ys * down[0] + forward[0]),
            xs * across[1] + (ys * down[1] + forward[1]),
            xs * across[2] + (ys * down[2] + forward[2]),
        )

    def on_table(self, x: float, y: float) -> Floats:
        """The point of the table plane that a canvas pixel shows."""
        ray = self.axes[2] + (x - _CANVAS / 2) / self.focal * self.axes[0]
        ray = ray + (y - _CANVAS / 2) / self.focal * self.axes[1]
        return self.position - ray * (self.position[2] / ray[2])


@dataclass(frozen=True)
class _Solid:
    """A thing before it is drawn: `kind` "box" is unnamed clutter.

    `half` are half extents along its own axes (metres), `centre` the centre of its volume or, for
    flat things, of its surface.
    """

    kind: Shape | Fixture | Literal["box"]
    name: str | None
    centre: Floats
    half: Floats
    yaw: float
    colour: Floats


_Light = tuple[Floats, float]
"""Direction towards the light, and the share of light that is ambient."""


def draw_picture(seed: int) -> Picture:
    """Draws the picture of a seed: any non-negative integer, the same picture for ever."""
    rng = np.random.default_rng([seed, 50])
    while True:
        picture = _attempt(rng)
        if picture is not None:
            return picture


def _attempt(rng: np.random.Generator) -> Picture | None:
    """One draw; None if something named is hidden or cut off so far that nobody could name it."""
    camera = _draw_camera(rng)
    solids = _draw_solids(rng, camera)
    light: _Light = (_draw_direction(rng), float(rng.uniform(0.35, 0.75)))
    canvas = _draw_ground(rng)
    if rng.random() < 0.4:
        for solid in solids:
            _cast_shadow(canvas, camera, solid, light, strength=float(rng.uniform(0.15, 0.45)))
    owner = np.full((_CANVAS, _CANVAS), -1, np.int8)
    named = [solid for solid in solids if solid.name is not None]
    alone = np.zeros(len(named), np.int64)
    # Flat things lie under everything; the rest is painted from far to near.
    order = sorted(solids, key=lambda s: (s.kind != "zone", -camera.project(s.centre)[2]))
    for solid in order:
        index = next((i for i, other in enumerate(named) if other is solid), -1)
        window = _window(camera, solid)
        if window is None:
            if index >= 0:
                return None
            continue
        hit, shade = _INTERSECT[solid.kind](camera, solid, window, light)
        rows, columns = slice(window[1], window[3]), slice(window[0], window[2])
        steps = (np.minimum(shade[hit], _BRIGHTEST) * ((_SHADES - 1) / _BRIGHTEST)).astype(np.uint8)
        canvas[rows, columns][hit] = _shades(solid.colour)[steps]
        owner[rows, columns][hit] = index
        if index >= 0:
            alone[index] = hit.sum()
    segmentation = np.ascontiguousarray(owner[::_OVERSAMPLING, ::_OVERSAMPLING])
    seen = np.bincount((segmentation + 1).ravel(), minlength=len(named) + 1)[1:]
    if (seen < np.maximum(0.45 * alone / _OVERSAMPLING**2, 50)).any():
        return None
    image = np.asarray(Image.fromarray(canvas).reduce(_OVERSAMPLING)).astype(np.int16)
    noise = rng.integers(-3, 4, size=(PIXELS, PIXELS, 1), dtype=np.int16)
    items = []
    for solid in named:
        x, y, _ = camera.project(solid.centre)
        items.append(Item(str(solid.name), float(x) / _OVERSAMPLING, float(y) / _OVERSAMPLING))
    return Picture(
        image=np.clip(image + noise, 0, 255).astype(np.uint8),
        segmentation=segmentation,
        items=tuple(items),
    )


def _draw_camera(rng: np.random.Generator) -> _Camera:
    pitch, roll = np.radians(rng.uniform(38.0, 66.0)), np.radians(rng.normal(0.0, 2.0))
    distance = rng.uniform(0.5, 2.2)
    pixels_per_metre = rng.uniform(270.0, 430.0) * _OVERSAMPLING
    forward = np.array([0.0, np.cos(pitch), -np.sin(pitch)])
    up = np.array([0.0, np.sin(pitch), np.cos(pitch)])
    right = np.array([1.0, 0.0, 0.0])
    across = np.cos(roll) * right + np.sin(roll) * up
    down = -(np.cos(roll) * up - np.sin(roll) * right)
    return _Camera(
        position=(-distance * forward).astype(np.float32),
        axes=np.stack([across, down, forward]).astype(np.float32),
        focal=float(pixels_per_metre * distance),
    )


def _draw_direction(rng: np.random.Generator) -> Floats:
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 85))
    flat = np.cos(height)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(height)], np.float32)


def _draw_colour(rng: np.random.Generator, word: str) -> Floats:
    """The word's colour as a renderer might show it: other exposure, a touch paler."""
    base = np.array(COLOURS[word], np.float32)
    pale = rng.uniform(0.0, 0.05)
    jitter = rng.uniform(0.88, 1.12, size=3)
    return ((base * jitter * rng.uniform(0.75, 1.2)) * (1 - pale) + pale * 0.6).astype(np.float32)


def _draw_solids(rng: np.random.Generator, camera: _Camera) -> list[_Solid]:
    """Named things apart from each other, then clutter in neutral tones."""
    kinds: list[Shape | Fixture] = [
        SHAPES[int(rng.integers(len(SHAPES)))] for _ in range(int(rng.integers(1, 6)))
    ]
    kinds += [
        FIXTURES[int(rng.integers(len(FIXTURES)))]
        for _ in range(int(rng.choice(4, p=[0.4, 0.25, 0.25, 0.1])))
    ]
    words = list(COLOURS)
    solids: list[_Solid] = []
    taken: set[str] = set()
    for kind in sorted(kinds, key=lambda kind: kind in SHAPES):
        colour = words[int(rng.integers(len(words)))]
        name = f"{colour} {kind}"
        if name in taken:
            continue
        spot = _free_spot(rng, camera, kind, solids)
        if spot is None:
            continue
        taken.add(name)
        solids.append(_make(rng, kind, name, spot, _draw_colour(rng, colour)))
    for _ in range(int(rng.choice(4, p=[0.45, 0.25, 0.2, 0.1]))):
        solids.append(_make_clutter(rng, camera))
    return solids


def _radius(kind: Shape | Fixture) -> float:
    """How much room a kind needs around its centre on the table, metres."""
    return {"plate": 0.062, "bowl": 0.062, "zone": 0.0}.get(kind, 0.024)


def _free_spot(
    rng: np.random.Generator, camera: _Camera, kind: Shape | Fixture, solids: list[_Solid]
) -> Floats | None:
    margin = {"zone": 8, "plate": 16, "bowl": 16}.get(kind, 9) * _OVERSAMPLING
    for _ in range(20):
        x, y = rng.uniform(margin, _CANVAS - margin, size=2)
        spot = camera.on_table(float(x), float(y))
        clear = True
        for other in solids:
            apart = float(np.hypot(*(spot - other.centre)[:2]))
            if kind == "zone" or other.kind == "zone":
                clear &= kind != other.kind or apart > 0.16
            elif other.kind != "box":
                # Sometimes something lies in a bowl or on a plate.
                inside = other.kind in ("plate", "bowl") and apart < 0.03 and rng.random() < 0.5
                clear &= inside or apart > _radius(kind) + _radius(other.kind) + 0.012
        if clear:
            return spot
    return None


def _make(
    rng: np.random.Generator, kind: Shape | Fixture, name: str, spot: Floats, colour: Floats
) -> _Solid:
    size = float(rng.uniform(0.038, 0.052)) / 2
    # Things stand askew by up to 15 degrees in scenes, but cameras look from anywhere.
    yaw = float(rng.uniform(-0.8, 0.8))
    if kind == "zone":
        half = np.array([rng.uniform(0.025, 0.05), rng.uniform(0.06, 0.16), 0.0])
        if rng.random() < 0.5:
            half[:2] = half[1], half[0]
        return _Solid(kind, name, spot, half.astype(np.float32), 0.25 * yaw, colour)
    if kind == "plate":
        half = np.array([0.0, 0.0, rng.uniform(0.003, 0.007)])
        half[:2] = rng.uniform(0.048, 0.064)
    elif kind == "bowl":
        half = np.array([0.0, 0.0, rng.uniform(0.010, 0.020)])
        half[:2] = rng.uniform(0.048, 0.064)
    else:
        half = np.full(3, size)
    centre = spot + np.array([0.0, 0.0, half[2]], np.float32)
    return _Solid(kind, name, centre, half.astype(np.float32), yaw, colour)


def _make_clutter(rng: np.random.Generator, camera: _Camera) -> _Solid:
    """A box or bar in grey, white, black or brown, anywhere, also cut by the edge."""
    x, y = rng.uniform(-10, _CANVAS + 10, size=2)
    spot = camera.on_table(float(x), float(y))
    half = rng.uniform(0.008, 0.05, size=3)
    if rng.random() < 0.3:
        half[int(rng.integers(3))] = rng.uniform(0.06, 0.16)
    tone = float(rng.choice([0.02, 0.1, 0.35, 0.8])) * float(rng.uniform(0.7, 1.2))
    tint = np.array([1.0, 1.0, 1.0])
    if rng.random() < 0.25:
        tint = np.array([1.0, 0.75, 0.5])
    centre = spot + np.array([0.0, 0.0, half[2] + rng.choice([0.0, 0.08]) * rng.random()])
    return _Solid(
        "box",
        None,
        centre.astype(np.float32),
        half.astype(np.float32),
        float(rng.uniform(-0.8, 0.8)),
        (tone * tint).astype(np.float32),
    )


def _draw_ground(rng: np.random.Generator) -> NDArray[np.uint8]:
    """The table with uneven light, and in some pictures an edge with a floor or wall beyond."""
    corners = rng.uniform(0.75, 1.1, size=(2, 2)).astype(np.float32)
    light = Image.fromarray(corners).resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
    ground = np.asarray(light)[:, :, None] * (_to_srgb(_draw_tone(rng)) * 255)
    if rng.random() < 0.35:
        edge = rng.uniform(0.0, 0.25) * PIXELS + rng.uniform(-0.1, 0.1) * np.arange(PIXELS)
        ground[np.arange(PIXELS)[:, None] < edge] = _to_srgb(_draw_tone(rng)) * 255
    small = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    return np.array(small.resize((_CANVAS, _CANVAS), Image.Resampling.NEAREST))


def _draw_tone(rng: np.random.Generator) -> Floats:
    """Linear RGB of a table or floor: grey, wood, or a dull tint."""
    bright = rng.uniform(0.03, 0.85)
    kind = rng.random()
    if kind < 0.5:
        tint = rng.uniform(0.95, 1.05, size=3)
    elif kind < 0.85:
        tint = np.array([1.0, rng.uniform(0.65, 0.9), rng.uniform(0.4, 0.75)])
    else:
        tint = rng.uniform(0.75, 1.0, size=3)
    return (bright * tint).astype(np.float32)


def _to_srgb(linear: Floats) -> Floats:
    return np.clip(linear, 0.0, 1.0) ** np.float32(1 / 2.2)


def _shades(colour: Floats) -> NDArray[np.uint8]:
    """(256, 3) sRGB of a linear colour under light from none to `_BRIGHTEST`."""
    return (_to_srgb(_RAMP * colour) * 255).astype(np.uint8)


def _window(camera: _Camera, solid: _Solid) -> _Window | None:
    """The canvas rectangle that can show a solid, or None if it is out of the picture."""
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    points = camera.project((solid.centre + (_CORNERS * solid.half) @ turn).astype(np.float32))
    left, top = np.maximum(np.floor(points.min(0)[:2]).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(0)[:2]).astype(int) + 1, _CANVAS)
    if left >= right or top >= bottom:
        return None
    return int(left), int(top), int(right), int(bottom)


_CORNERS: Final = np.array(
    [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32
)


def _turned(solid: _Solid, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The first two components in a solid's own frame."""
    cos, sin = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
    return cos * x + sin * y, cos * y - sin * x


def _lambert(normals: _Vector, light: _Light) -> Floats:
    (x, y, z), ambient = light
    facing = normals[0] * x + normals[1] * y + normals[2] * z
    return ambient + (1.3 * (1 - ambient)) * np.maximum(facing, 0.0)


def _lambert_up(light: _Light) -> np.float32:
    return np.float32(light[1] + 1.3 * (1 - light[1]) * light[0][2])


_Hit = tuple[NDArray[np.bool_], Floats]


def _hit_ball(camera: _Camera, solid: _Solid, window: _Window, light: _Light) -> _Hit:
    dx, dy, dz = camera.rays(window)
    ox, oy, oz = origin = camera.position - solid.centre
    radius = solid.half[0]
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    root = b * b - a * (origin @ origin - radius**2)
    t = (-b - np.sqrt(np.maximum(root, 0))) / a
    normals = ((ox + t * dx) / radius, (oy + t * dy) / radius, (oz + t * dz) / radius)
    return root > 0, _lambert(normals, light)


def _hit_box(camera: _Camera, solid: _Solid, window: _Window, light: _Light) -> _Hit:
    rays = camera.rays(window)
    offset = camera.position - solid.centre
    ox, oy = _turned(solid, offset[0], offset[1])
    dx, dy = _turned(solid, rays[0], rays[1])
    lx, ly = _turned(solid, light[0][0], light[0][1])
    entry = leave = shade = None
    for d, o, half, sun in zip(
        (dx, dy, rays[2]), (ox, oy, offset[2]), solid.half, (lx, ly, light[0][2]), strict=True
    ):
        d = np.where(np.abs(d) < 1e-6, np.float32(1e-6), d)
        middle, width = -o / d, np.abs(half / d)
        near, far = middle - width, middle + width
        lit = light[1] + 1.3 * (1 - light[1]) * np.maximum(-np.sign(d) * sun, 0.0)
        if entry is None or leave is None or shade is None:
            entry, leave, shade = near, far, lit
        else:
            shade = np.where(near > entry, lit, shade)
            entry, leave = np.maximum(entry, near), np.minimum(leave, far)
    assert entry is not None and leave is not None and shade is not None
    return entry < leave, shade


def _hit_cylinder(camera: _Camera, solid: _Solid, window: _Window, light: _Light) -> _Hit:
    dx, dy, dz = rays = camera.rays(window)
    ox, oy, oz = camera.position - solid.centre
    radius, height = solid.half[0], solid.half[2]
    capped = _on_plane(camera, solid, rays, height) < radius**2
    t, wall = _wall(ox, oy, dx, dy, radius, outside=True)
    wall &= np.abs(oz + t * dz) < height
    normals = ((ox + t * dx) / radius, (oy + t * dy) / radius, np.zeros_like(t))
    return capped | wall, np.where(capped, _lambert_up(light), _lambert(normals, light))


def _on_plane(camera: _Camera, solid: _Solid, rays: _Vector, height: np.float32) -> Floats:
    """Squared distance from the axis where rays cross a level of a solid."""
    ox, oy, oz = camera.position - solid.centre
    t = (height - oz) / rays[2]
    return (ox + t * rays[0]) ** 2 + (oy + t * rays[1]) ** 2


def _wall(
    ox: np.float32, oy: np.float32, dx: Floats, dy: Floats, radius: np.float32, *, outside: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """Where rays meet an upright cylinder wall, from outside or on its inner far side."""
    a = dx * dx + dy * dy
    b = ox * dx + oy * dy
    root = b * b - a * (ox * ox + oy * oy - radius * radius)
    edge = np.sqrt(np.maximum(root, 0))
    sign = np.float32(-1.0 if outside else 1.0)
    return ((sign * edge - b) / a).astype(np.float32), root > 0


def _hit_zone(camera: _Camera, solid: _Solid, window: _Window, light: _Light) -> _Hit:
    rays = camera.rays(window)
    offset = camera.position - solid.centre
    t = -offset[2] / rays[2]
    x, y = _turned(solid, offset[0] + t * rays[0], offset[1] + t * rays[1])
    hit = (np.abs(x) < solid.half[0]) & (np.abs(y) < solid.half[1])
    return hit, np.broadcast_to(_lambert_up(light), hit.shape)


def _hit_dish(camera: _Camera, solid: _Solid, window: _Window, light: _Light) -> _Hit:
    """A plate (low) or a bowl (higher): outer wall, a rim, and the inside seen over the rim."""
    hit, shade = _hit_cylinder(camera, solid, window, light)
    dx, dy, dz = rays = camera.rays(window)
    ox, oy, oz = camera.position - solid.centre
    radius, height = solid.half[0], solid.half[2]
    inner = radius * np.float32(0.8 if solid.kind == "plate" else 0.88)
    t, _ = _wall(ox, oy, dx, dy, inner, outside=False)
    normals = (-(ox + t * dx) / inner, -(oy + t * dy) / inner, np.zeros_like(t))
    bottom = np.float32(0.92) * _lambert_up(light)
    inside = np.where(oz + t * dz > -height, _lambert(normals, light), bottom)
    return hit, np.where(_on_plane(camera, solid, rays, height) < inner**2, inside, shade)


_INTERSECT: Final[dict[str, Callable[[_Camera, _Solid, _Window, _Light], _Hit]]] = {
    "cube": _hit_box,
    "box": _hit_box,
    "ball": _hit_ball,
    "cylinder": _hit_cylinder,
    "zone": _hit_zone,
    "plate": _hit_dish,
    "bowl": _hit_dish,
}


def _cast_shadow(
    canvas: NDArray[np.uint8], camera: _Camera, solid: _Solid, light: _Light, *, strength: float
) -> None:
    """Darkens the table on the far side of the light; the outline is a rounded bar."""
    if solid.kind == "zone":
        return
    direction = light[0]
    top = solid.centre[2] + solid.half[2]
    offset = -direction[:2] / direction[2] * top * 0.7
    radius = float(np.hypot(solid.half[0], solid.half[1])) * 0.75
    middle = np.append(solid.centre[:2] + offset / 2, 0.0).astype(np.float32)
    reach = np.append(np.abs(offset) / 2 + radius, 0.0).astype(np.float32)
    window = _window(camera, _Solid("box", None, middle, reach, 0.0, solid.colour))
    if window is None:
        return
    dx, dy, dz = camera.rays(window)
    t = -camera.position[2] / dz
    x = camera.position[0] + t * dx - solid.centre[0]
    y = camera.position[1] + t * dy - solid.centre[1]
    along = (x * offset[0] + y * offset[1]) / max(float(offset @ offset), 1e-9)
    along = np.clip(along, 0.0, 1.0)
    dark = (x - along * offset[0]) ** 2 + (y - along * offset[1]) ** 2 < radius**2
    part = canvas[window[1] : window[3], window[0] : window[2]]
    part[dark] = (part[dark] * (1 - strength)).astype(np.uint8)
