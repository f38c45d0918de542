"""A bundle as files: arrays, JSON, pictures, and one self-contained page."""

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.episodes.plain import episode_to_json
from vlm4vla.inspection.bundle import Bundle
from vlm4vla.inspection.explanation import Explanation, explained_agent
from vlm4vla.inspection.kinds import MapKind
from vlm4vla.inspection.offline import offline_page
from vlm4vla.inspection.payload import headline, payload
from vlm4vla.inspection.shelf import versions

_DATE: Final = (2020, 1, 1, 0, 0, 0)
"""Of every file in a zip, so that the same bundle gives the same bytes."""


def told(bundle: Bundle) -> dict[str, Any]:
    """What `vlm4vla inspect --json` prints."""
    diagnosis, episode = bundle.diagnosis, bundle.episode
    agent = episode.agents[-1].agent
    return {
        "id": episode.id,
        "checkpoint": agent.digest,
        "outcome": episode.outcome.kind,
        "diagnosis": headline(bundle),
        "rule": diagnosis.kind,
        "parting": diagnosis.parting,
        "label": diagnosis.failure.label if diagnosis.failure else "",
        "label_step": diagnosis.failure.finding.step if diagnosis.failure else None,
        "pictures": len(bundle.pictures),
        "inferences": bundle.inferences,
        "explained": len(bundle.explanations),
        "missing": list(bundle.missing),
    }


def files_of(bundle: Bundle, *, page: bool = True) -> dict[str, bytes]:
    """The files of a bundle by name.

    `lanes.npz` holds the fields of `vlm4vla.inspection.lanes.Lanes`, metres and millimetres as
    there; `maps/TARGET-METHOD.npz` those of `vlm4vla.inspection.explanation.Explanation`, a row an
    inference, what is of words filled up with NaN where its sentence has fewer than another;
    `bundle.json` what is no array, of every map its worth, and of each inference the command that
    makes its map and the words.

    Args:
        bundle: which.
        page: with `index.html`, which scrubs offline.
    """
    episode = bundle.episode
    settings = told(bundle) | {
        "command": f"vlm4vla inspect {episode.id}",
        "versions": versions(),
        "things": list(bundle.lanes.things),
        "maps": [_told_map(bundle, kind) for kind in bundle.maps],
        "episode": episode_to_json(episode),
    }
    found = {
        "bundle.json": json.dumps(settings, indent=1, ensure_ascii=False).encode(),
        "lanes.npz": _npz(_lanes(bundle)),
    }
    for kind, explained in bundle.maps.items():
        found[_file(kind)] = _npz(_maps(explained))
    for step, one in enumerate(bundle.pictures):
        found[f"pictures/policy-{step:03d}.png"] = one.policy
        found[f"pictures/view-{step:03d}.jpg"] = one.view
    if page:
        found["index.html"] = offline_page(payload(bundle)).encode()
    return found


def zipped(files: dict[str, bytes]) -> bytes:
    """Files as one zip; the same files give the same bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def _lanes(bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
    lanes = bundle.lanes
    names = ("positions", "tips", "opening", "commanded", "gripper", "angles", "aims_at", "held")
    arrays = {name: np.asarray(getattr(lanes, name)) for name in names}
    arrays["inference_steps"] = np.array([one.step for one in lanes.inferences], np.int64)
    if lanes.expert is not None:
        arrays["expert_millimetres"] = lanes.expert.millimetres
        arrays["expert_fingers"] = lanes.expert.fingers
    return arrays


def _file(kind: MapKind) -> str:
    return f"maps/{kind.name}.npz"


def _told_map(bundle: Bundle, kind: MapKind) -> dict[str, Any]:
    agent, explained = explained_agent(bundle.episode), bundle.maps[kind]
    return {
        "file": _file(kind),
        "target": kind.target,
        "method": kind.method,
        "unit": kind.unit,
        "checkpoint": agent.digest if agent else "",
        "worth": kind.worth(agent.digest if agent else ""),
        "commands": [kind.command(bundle.episode.id, one.step) for one in explained],
        "words": [list(one.words) for one in explained],
    }


def _maps(explained: Sequence[Explanation]) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {
        name: np.array([getattr(one, name) for one in explained])
        for name in ("cells", "apart", "layers")
    }
    # The sentence may change its length in mid-run.
    by_word = {
        name: _filled_up([getattr(one, name) for one in explained]) for name in ("bars", "turned")
    }
    return {"steps": np.array([one.step for one in explained]), **arrays, **by_word}


def _filled_up(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    filled = np.full((len(rows), max(map(len, rows))), np.nan)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row
    return filled


def _npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    target = io.BytesIO()
    np.savez_compressed(target, allow_pickle=False, **arrays)
    return target.getvalue()
