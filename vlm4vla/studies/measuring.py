"""Measuring a cell: probes by layer, CKA with its start, and shares of attribution."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from vlm4vla.attribution.methods import METHODS as MAPS
from vlm4vla.attribution.score import Explained
from vlm4vla.attribution.shares import share_on_object
from vlm4vla.attribution.target import DISPLACEMENT
from vlm4vla.errors import UserError
from vlm4vla.files import replacing
from vlm4vla.model.policy import Policy
from vlm4vla.representations.layers import features
from vlm4vla.representations.measure import CKA_PICTURES, Encoder, mean_score, probe
from vlm4vla.representations.pictures import split
from vlm4vla.representations.similarity import Gram, cka, gram
from vlm4vla.studies.cell import Cell, digest_of
from vlm4vla.studies.measures import (
    ANYWHERE,
    ATTRIBUTION,
    CKA,
    METHODS,
    OBJECT,
    OF_CELL,
    OF_ORIGIN,
    PROBE,
    PROBED,
    Measured,
    Measures,
    Row,
    origin_of,
    read,
)
from vlm4vla.studies.trained import RUN, VLM, account, checkpoint_of, folder_of, vlm_of
from vlm4vla.studies.views import Asked, Views
from vlm4vla.train.start import start_policy

Tell = Callable[[str], None]
Grams = dict[str, Gram]

KERNELS: Final = "kernels.npz"
"""Beside an origin's rows: what CKA needs, by layer."""


def measure(cell: Cell, views: Views, command: str, tell: Tell) -> Measures:
    """Measures a cell's policy and, once for all cells that share it, what it started from.

    Args:
        cell: trained here.
        views: what it is measured on.
        command: stands beside the rows.
        tell: takes a line about how far it is.

    Raises:
        UserError: its policy is another one than its account says, or its start is not there.
    """
    encoder = Encoder(cell.name, checkpoint_of(cell))
    known = account(cell) or {}
    if encoder.digest != known.get("agent"):
        raise UserError(
            f"The policy of {cell.name} is {encoder.digest}, and its account says "
            f"{known.get('agent')}.",
            "Remove its folder and run the cell again.",
        )
    before, products = _origin(cell, views, command, tell)
    began = time.process_time()
    policy = encoder.load()
    rows, own = _read_layers(policy, views, tell)
    rows += [
        Row(
            CKA, layer, "", float(cka([mine], [products[layer]])[0, 0]), None, None, len(mine), None
        )
        for layer, mine in own.items()
    ]
    for method in METHODS:
        rows += shares(policy, views.asked, method)
        tell(f"{method} explained at {len(views.asked)} inferences")
    policy.detach()
    spent = time.process_time() - began
    found = Measured(
        cell.name, encoder.digest, views.fingerprint, command, round(spent, 1), _finite(rows)
    )
    found.write(folder_of(cell) / OF_CELL)
    return Measures(found, before)


def shares(policy: Explained, asked: Sequence[Asked], method: str) -> list[Row]:
    """How much of a method's maps lies on the named object, and at how many inferences any score.

    Maps are of how far the first action goes its own way. Those without any score say nothing of
    where it lies and are left out; the tasks of a scene are averaged; the interval is over scenes.

    Args:
        policy: whom the maps explain.
        asked: the inferences.
        method: one of `vlm4vla.attribution.methods.METHODS`.
    """
    maps = (MAPS[method](policy, one.question, DISPLACEMENT).scores for one in asked)
    told, any_score = share_on_object(
        (one.seed, scores, one.object) for one, scores in zip(asked, maps, strict=True)
    )
    area = float(np.mean([one.object.mean() for one in asked]))
    some = any_score / len(asked)
    return [
        Row(ATTRIBUTION, method, OBJECT, told.mean, told.low, told.high, told.n, area),
        Row(ATTRIBUTION, method, ANYWHERE, some, None, None, len(asked), None),
    ]


def _read_layers(policy: Policy, views: Views, tell: Tell) -> tuple[list[Row], Grams]:
    """Rows of all linear probes, and what CKA needs of every layer."""
    pictures = views.pictures
    seen = features(policy, pictures.images, pictures.instructions, tell)
    parts = split(pictures.scenes)
    always = {one.name: mean_score(pictures, parts, one.name).value for one in PROBED}
    found = probe(seen, pictures, parts, lambda line: None, attentive=False)
    rows = [
        Row(PROBE, layer, target, told.value, told.low, told.high, told.n, always[target])
        for (layer, target, _), told in found.items()
    ]
    tell(f"{len(seen)} layers probed")
    some = np.flatnonzero(pictures.first)[:CKA_PICTURES]
    return rows, {layer.name: gram(values[some]) for layer, values in seen.items()}


def _finite(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those whose score can be told; None for ends of intervals that cannot be."""
    return tuple(
        row._replace(low=_known(row.low), high=_known(row.high), baseline=_known(row.baseline))
        for row in rows
        if np.isfinite(row.score)
    )


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _origin(cell: Cell, views: Views, command: str, tell: Tell) -> tuple[Measured, Grams]:
    """What a cell started from: measured now, unless it was for another cell."""
    origin = origin_of(cell)
    vlm = vlm_of(cell, account(cell) or {})
    kernels = origin.folder / KERNELS
    known = read(origin.folder, origin.name, OF_ORIGIN)
    same = known and known.pictures == views.fingerprint and known.agent in ("", vlm)
    if known and same and kernels.is_file():
        with np.load(kernels, allow_pickle=False) as kept:
            return known, {name: kept[name] for name in kept.files}
    began = time.process_time()
    policy = start_of(cell)
    rows, products = _read_layers(policy, views, lambda line: tell(f"before training: {line}"))
    policy.detach()
    spent = time.process_time() - began
    found = Measured(origin.name, vlm, views.fingerprint, command, round(spent, 1), _finite(rows))
    # Rows of another VLM would else stand beside these kernels if this was killed in between.
    (origin.folder / OF_ORIGIN).unlink(missing_ok=True)
    with replacing(kernels) as temporary, open(temporary, "wb") as file:
        np.savez(file, **products)  # type: ignore[arg-type]
    # Last: where these are, the kernels are, too.
    found.write(origin.folder / OF_ORIGIN)
    return found, products


def start_of(cell: Cell) -> Policy:
    """The policy that a cell's training started with, with all its new weights.

    Raises:
        UserError: the VLM is another one than the cell's, or it is not there.
    """
    cell.start.check()
    source, init = Path(cell.start.path), cell.start.init
    if cell.step is not None:
        source, init = folder_of(cell.step) / RUN / VLM, "vlm"
        if not source.is_dir() or digest_of(source) != vlm_of(cell, account(cell) or {}):
            raise UserError(
                f"The VLM that {cell.name} started from is not in {source}.",
                "Measure the cell where it was trained.",
            )
    query = "zero" if cell.preset == "paper" else "embedding"
    return start_policy(source, init, "cpu", query, cell.seed).eval()
