"""A bundle as the plain values that the viewer in the browser reads, at most about 400 KB.

Lengths are whole millimetres, places in a picture thousandths of its side.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm4vla.agents.catalogue import label_of
from vlm4vla.attribution.names import TARGETS as EXPLAINED
from vlm4vla.inspection.bundle import Bundle
from vlm4vla.inspection.captions import shown, told
from vlm4vla.inspection.diagnosis import DIFFERS_MM, Diagnosis, goal_name
from vlm4vla.inspection.explanation import Explanation, explained_agent
from vlm4vla.inspection.kinds import METHODS, ONE_LAYER, TARGETS, MapKind
from vlm4vla.inspection.lanes import Follower, Lanes
from vlm4vla.inspection.pictures import Picture
from vlm4vla.suites.registry import SUITES
from vlm4vla.suites.tabletop.projection import VIEW_LENS
from vlm4vla.suites.tabletop.suite import scene_of
from vlm4vla.suites.tabletop.vocabulary import colour_of, kind_of


def payload(bundle: Bundle, ghost: Bundle | None = None) -> dict[str, Any]:
    """The values of a bundle.

    Args:
        bundle: which.
        ghost: a second episode that is drawn on the same axes; its pictures are not sent.
    """
    episode, lanes, diagnosis = bundle.episode, bundle.lanes, bundle.diagnosis
    spec = episode.spec
    return {
        "id": episode.id,
        "instruction": spec.instruction,
        "told": told(episode),
        "seen": shown(episode),
        "agent": label_of(episode.agents[-1].agent),
        "scene": f"{spec.task} {spec.seed}",
        "condition": spec.condition.label,
        "parent": spec.parent,
        "branch": spec.branch_step,
        "outcome": {
            "kind": episode.outcome.kind,
            "sentence": episode.outcome.sentence,
            "success": episode.outcome.success,
        },
        "hz": SUITES.get(spec.suite).control_hz,
        "diagnosis": headline(bundle),
        "rule": diagnosis.kind,
        "parting": diagnosis.parting,
        "park": diagnosis.park,
        "failure": _failure(diagnosis),
        "command": f"vlm4vla inspect {episode.id}",
        "things": [
            {"name": name, "colour": colour_of(name), "kind": kind_of(name)}
            for name in lanes.things
        ],
        "sizes": _millimetres([one.size for one in scene_of(spec).objects]),
        "movable": lanes.movable,
        "asked": _asked(lanes),
        "differs": DIFFERS_MM,
        **_drawn_lanes(lanes),
        "targets": [[name, EXPLAINED[name]] for name in TARGETS],
        "methods": [[name, text] for name, text in METHODS.items()],
        "kind": list(bundle.kind),
        "maps": [_maps(bundle, kind) for kind in bundle.maps],
        "maps_wanted": bundle.inferences,
        "one_layer": ONE_LAYER,
        "frames": [_frame(one) for one in bundle.pictures],
        "missing": list(bundle.missing),
        "ghost": _ghost(ghost) if ghost else None,
    }


def headline(bundle: Bundle) -> str:
    """The sentences to read first: what went wrong, then how it left the expert's way.

    Where no failure label tells what went wrong, the outcome does, if no rule says more.
    """
    diagnosis = bundle.diagnosis
    if diagnosis.failure:
        said = [diagnosis.failure.text, diagnosis.sentences]
    elif diagnosis.kind:
        said = [diagnosis.sentences]
    else:
        said = [bundle.episode.outcome.sentence, diagnosis.sentences]
    return " ".join(filter(None, [*said, *_idle_words(bundle)]))


def _idle_words(bundle: Bundle) -> list[str]:
    """What is to be said about words that name something and change nothing."""
    diagnosis = bundle.diagnosis
    if diagnosis.kind in ("", "as the expert", "late fingers") or diagnosis.parting is None:
        return []
    every = [one for explained in bundle.maps.values() for one in explained]
    at = [one for one in every if one.step <= diagnosis.parting]
    if not at:
        return []
    last = max(at, key=lambda one: one.step)
    named = {word for name in bundle.lanes.things for word in name.split()}
    pairs = zip(last.words, last.turned, strict=True)
    idle = [f"“{word}” ({value:.1f} mm)" for word, value in pairs if word in named and value < 1]
    return [f"At step {last.step} it did not heed {' and '.join(idle)}."] if idle else []


def _failure(diagnosis: Diagnosis) -> list[Any] | None:
    if diagnosis.failure is None:
        return None
    return [diagnosis.failure.finding.step, diagnosis.failure.label]


def _asked(lanes: Lanes) -> dict[str, Any] | None:
    if lanes.expert is None:
        return None
    goal = lanes.expert.goal
    return {
        "text": goal_name(goal),
        "object": lanes.things.index(goal.object),
        "target": lanes.things.index(goal.target) if goal.target else -1,
    }


def _drawn_lanes(lanes: Lanes) -> dict[str, Any]:
    return {
        "steps": lanes.steps,
        "events": [[event.step, event.name] for event in lanes.events],
        "positions": _millimetres(lanes.positions[:, :, :2]),
        "tips": _millimetres(lanes.tips),
        "tips_seen": _seen(lanes.tips),
        "opening": _millimetres(lanes.opening),
        "open": (lanes.gripper > 0).astype(int).tolist(),
        "angles": [
            [None if np.isnan(angle) else round(float(angle)) for angle in row]
            for row in lanes.angles
        ],
        "aims": lanes.aims_at.tolist(),
        "expert": _expert(lanes.expert),
        "inferences": [
            {
                "step": one.step,
                "path": _millimetres(one.path),
                "seen": _seen(one.path),
                "executed": one.executed,
                "gaps": np.round(1e3 * one.gaps, 1).tolist(),
            }
            for one in lanes.inferences
        ],
    }


def _expert(one: Follower | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "mm": np.round(one.millimetres, 1).tolist(),
        "fingers": one.fingers.astype(int).tolist(),
    }


def _ghost(bundle: Bundle) -> dict[str, Any]:
    episode = bundle.episode
    return {
        "id": episode.id,
        "instruction": episode.spec.instruction,
        "agent": label_of(episode.agents[-1].agent),
        "branch": episode.spec.branch_step,
        "condition": episode.spec.condition.label,
        "sentence": episode.outcome.sentence,
        "success": episode.outcome.success,
        **_drawn_lanes(bundle.lanes),
    }


def _maps(bundle: Bundle, kind: MapKind) -> dict[str, Any]:
    agent = explained_agent(bundle.episode)
    digest = agent.digest if agent else ""
    return {
        "target": kind.target,
        "method": kind.method,
        "unit": kind.unit,
        "words_unit": TARGETS[kind.target],
        "meaning": kind.meaning,
        "worth": kind.worth(digest),
        "checkpoint": digest,
        "rows": [
            _map(one) | {"command": kind.command(bundle.episode.id, one.step)}
            for one in bundle.maps[kind]
        ],
    }


def _map(one: Explanation) -> dict[str, Any]:
    return {
        "step": one.step,
        "cells": _figures(one.cells.ravel()),
        "layers": [_figures(layer.ravel()) for layer in one.layers],
        "words": list(one.words),
        "bars": _figures(one.bars),
        "apart": round(one.apart, 2),
    }


def _figures(values: NDArray[np.float64]) -> list[float]:
    """To three significant figures of the largest: shares of attention are small."""
    most = float(np.abs(values).max(initial=0))
    return np.round(values, 2 - math.floor(math.log10(most)) if most else 0).tolist()


def _frame(one: Picture) -> list[str]:
    return [base64.b64encode(file).decode() for file in (one.policy_light, one.view_light)]


def _millimetres(metres: NDArray[np.floating] | Sequence[float]) -> Any:
    return np.round(1e3 * np.asarray(metres, np.float64)).astype(int).tolist()


def _seen(points: NDArray[np.float64]) -> Any:
    return np.round(1e3 * VIEW_LENS.project(points)).astype(int).tolist()
