"""`vlm4vla attribute`: what of its picture and sentence a policy's action comes from."""

import argparse
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import imageio.v3 as imageio
import numpy as np

from vlm4vla.ablation.given import GivenPainter, displaced, given_sentence, unrepeatable
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.attribution.names import METHODS, TARGETS
from vlm4vla.commands import trust
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import Painter
from vlm4vla.core.episode import AgentSpan, Episode, EpisodeSpec, episode_id
from vlm4vla.core.rollout import versions_of
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import read_matching, replacing, write_json
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import KNOWN
from vlm4vla.workers.environment import EnvironmentProcess

if TYPE_CHECKING:
    from vlm4vla.agents.policy import PolicyAgent
    from vlm4vla.attribution.inferences import Inference

RANDOM_ORDERS: Final = 5

_METHOD: Final = "occlusion"
_TARGET: Final = "displacement"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("map", "verify"),
        default="map",
        help="map: explain (the default); verify: measure the shipped trust table's methods over "
        "the scenes of --seeds, and say where it does not hold",
    )
    parser.add_argument(
        "--run", metavar="ID", help="a stored episode, whose pictures are drawn again"
    )
    parser.add_argument("--step", type=int, help="control step of that episode (default: 0)")
    parser.add_argument(
        "--checkpoint",
        help="checkpoint folder, or its name; for a stored episode by default the one that acted",
    )
    parser.add_argument(
        "--task", choices=TASKS, help="which kind of scene (default: pick; to verify: all five)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="which scenes (default: 0; to verify: those that you draw)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="; ".join(f"{name}: {meaning}" for name, meaning in METHODS.items())
        + f" (default: {_METHOD})",
    )
    parser.add_argument(
        "--target",
        choices=TARGETS,
        help="; ".join(f"{name}: {meaning}" for name, meaning in TARGETS.items())
        + f" (default: {_TARGET})",
    )
    parser.add_argument(
        "--layer", type=int, help="of the attention, from 0; by default the mean of all"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for three files a map")
    parser.add_argument("--json", action="store_true", help="to verify: one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Explains an inference of each scene, or one of a stored episode; a line for each."""
    if args.action == "verify":
        return _verify(args)
    if args.json:
        raise UserError("A map's JSON is one of its files.", "Leave --json out, or verify.")
    if args.run is not None and (args.task or args.seeds):
        raise UserError(
            "A stored episode has its own task and scene.", "Leave --task and --seeds out."
        )
    args.method, args.target = args.method or _METHOD, args.target or _TARGET
    args.seeds, args.step = args.seeds or [0], args.step or 0
    if min(*args.seeds, args.step) < 0:
        raise UserError("Seeds and steps start at 0.")
    if args.run is None and args.checkpoint is None:
        raise UserError("Whom to explain?", "Name a --checkpoint, or a stored episode by --run.")
    if args.layer is not None and args.method != "attention":
        raise UserError("Only attention has layers.", "Leave --layer out, or ask for attention.")
    if args.run is None and args.step:
        raise UserError(
            "A later step needs an episode that got there.", "Name a stored one by --run."
        )
    stored = EpisodeTable().get(args.run) if args.run is not None else None
    changes = stored.spec.condition.perturbations if stored is not None else ()
    if unknown := unrepeatable(changes):
        raise UserError(
            f"In this episode the policy itself was changed ({', '.join(unknown)}), which is not "
            "repeated here, so a map would be of another policy.",
            "Choose an episode without that change.",
        )
    catalogue = AgentCatalogue()
    name = args.checkpoint
    if stored is not None and name is None:
        name = catalogue.name_of(stored.agent.digest)
        if stored.agent.kind != "policy" or not name:
            raise UserError(
                "Whoever acted in this episode is no checkpoint that is here.",
                "Name a --checkpoint that should be explained in its place.",
            )
    # They take seconds: torch.
    from vlm4vla.agents.policy import load_agent
    from vlm4vla.attribution.faithfulness import STRIDE

    folder = catalogue.folder(name)
    _check_writable(args.out)
    agent = load_agent(folder)
    span = (AgentSpan(agent.identity),)
    versions = versions_of(TABLETOP, span)
    drawn = [
        TABLETOP.spec(args.task or "pick", seed, Condition(KNOWN))
        for seed in dict.fromkeys(args.seeds)
    ]
    wanted = []
    for spec in [stored.spec] if stored is not None else drawn:
        settings = {
            "checkpoint": agent.identity.digest,
            "episode": stored.id if stored is not None else episode_id(spec, span, versions),
            "asked_step": args.step,
            "method": args.method,
            "target": args.target,
            "cover": "mean",
            "stride": STRIDE,
            "random_orders": RANDOM_ORDERS,
        }
        if args.layer is not None:
            settings["layer"] = args.layer
        if changes:
            settings["perturbations"] = [one.to_json() for one in changes]
        what = f"{spec.task}-{spec.seed:06d}"
        if stored is not None:
            what = f"{stored.id}-{args.step:03d}"
        layer = f"-{args.layer}" if args.layer is not None else ""
        base = args.out / f"{what}-{args.method}{layer}-{args.target}"
        told = read_matching(base.with_suffix(".json"), settings)
        if told is None:
            _check_nobody_elses(base.with_suffix(".json"), settings["checkpoint"])
        wanted.append((spec, settings, base, told))
    environment = None
    try:
        for spec, settings, base, told in wanted:
            if told is None:
                environment = environment or EnvironmentProcess(TABLETOP)
                painter, inference = _inference(environment, spec, stored, args.step)
                told = _explain(agent, painter, inference, settings, base)
            print(_line(told), flush=True)
    finally:
        if environment is not None:
            environment.close()
    return 0


def _check_writable(out: Path) -> None:
    """Refuses before a model is loaded a folder that no map can be kept in."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(
            f"Could not write {out}: {error.strerror}.", "Choose another folder."
        ) from error


def _check_nobody_elses(path: Path, checkpoint: str) -> None:
    """Refuses to write over a map of another checkpoint, whose file has the same name."""
    there = read_matching(path, {}) or {}
    if there.get("checkpoint", checkpoint) != checkpoint:
        raise UserError(
            f"{path} is a map of another checkpoint, {there['checkpoint']}.",
            "Choose another --out for this one.",
        )


def _verify(args: argparse.Namespace) -> int:
    if args.checkpoint is None or args.run is not None or not args.seeds:
        raise UserError(
            "A trust table belongs to a checkpoint and is verified on scenes.",
            "Name --checkpoint and --seeds.",
        )
    for name in ("method", "target", "layer", "step"):
        if getattr(args, name) is not None:
            raise UserError(
                f"A trust table is verified whole, so --{name} chooses nothing.",
                "Leave it out, or leave out verify.",
            )
    return trust.verify(
        argparse.Namespace(
            checkpoint=args.checkpoint,
            tasks=[args.task] if args.task else list(TASKS),
            seeds=args.seeds,
            randomised=len(args.seeds) * len(TASKS),
            out=args.out,
            json=args.json,
        )
    )


def _inference(
    environment: EnvironmentProcess, spec: EpisodeSpec, stored: Episode | None, step: int
) -> tuple[Painter, "Inference"]:
    """The inference to explain, and who draws what the policy was given at it."""
    from vlm4vla.attribution.inferences import first_inference, inference_of, inferred_at

    if stored is None:
        return environment, first_inference(environment, spec)
    step = inferred_at(stored, step)
    painter = GivenPainter.of(environment, spec).at(step)
    found = inference_of(painter, stored, step)
    changes = spec.condition.perturbations
    told = given_sentence(spec, changes, step)
    found = replace(found, question=replace(found.question, instruction=told))
    if displaced(changes, step):
        found = replace(found, regions={}, things={})
    return painter, found


def _explain(
    agent: "PolicyAgent",
    painter: Painter,
    inference: "Inference",
    settings: dict[str, Any],
    base: Path,
) -> dict[str, Any]:
    """Explains one inference and writes its files, the JSON last."""
    from vlm4vla.attribution.attention import attention
    from vlm4vla.attribution.faithfulness import area, curves, mass_shares, points_at
    from vlm4vla.attribution.methods import METHODS as methods
    from vlm4vla.attribution.overlay import overlay
    from vlm4vla.attribution.target import TARGETS as targets

    policy, question, regions = agent.policy, inference.question, inference.regions
    target = targets[settings["target"]]
    if "layer" not in settings:
        found = methods[settings["method"]](policy, question, target)
    else:
        found = attention(policy, question, target, layer=settings["layer"])
    line = curves(policy, question, target, found.scores, range(RANDOM_ORDERS))
    scale = float(np.abs(found.scores).max())
    told = {
        **settings,
        "step": inference.step,
        "task": inference.spec.task,
        "seed": inference.spec.seed,
        "instruction": question.instruction,
        "unit": target.unit,
        "value": found.value,
        "reference": found.reference,
        "scale": scale,
        "mass": mass_shares(found.scores, regions),
        "pixels": {name: float(region.mean()) for name, region in regions.items()},
        "points_at": {name: points_at(found.scores, region) for name, region in regions.items()},
        "deletion": {
            "area": float(area(line.deletion)),
            "random_areas": area(line.random_deletion).tolist(),
            "gain": line.deletion_gain,
        },
        "insertion": {
            "area": float(area(line.insertion)),
            "random_areas": area(line.random_insertion).tolist(),
            "gain": line.insertion_gain,
        },
        "things": _things(agent, painter, inference, settings["target"]),
        "words": _words(agent, inference, settings["target"]),
    }
    with replacing(base.with_suffix(".npz")) as temporary:
        np.savez_compressed(
            temporary, map=found.scores, target=found.value, picture=question.picture
        )
    with replacing(base.with_suffix(".png")) as temporary:
        imageio.imwrite(temporary, overlay(question.picture, found.scores, scale or 1.0))
    write_json(base.with_suffix(".json"), told)
    return told


def _things(
    agent: "PolicyAgent", painter: Painter, inference: "Inference", target: str
) -> dict[str, dict[str, float]]:
    """What each thing accounts for: painted over in three ways, or not there at all."""
    from vlm4vla.attribution.inputs import COVERS
    from vlm4vla.attribution.occlusion import object_occlusion, painted_over
    from vlm4vla.attribution.scene import drawn_without
    from vlm4vla.attribution.target import TARGETS as targets

    question = inference.question
    ways = {
        name: painted_over(question.picture, inference.things, cover)
        for name, cover in COVERS.items()
    }
    ways["drawn without"] = drawn_without(painter, inference.spec, inference.pose, inference.names)
    told: dict[str, dict[str, float]] = {}
    for way, without in ways.items():
        found = object_occlusion(agent.policy, question, targets[target], without)
        for name, score in zip(without, found.scores.tolist(), strict=True):
            told.setdefault(name, {})[way] = score
    return told


def _words(agent: "PolicyAgent", inference: "Inference", target: str) -> list[dict[str, Any]]:
    """What each word accounts for: left out, or replaced by others of its sort."""
    from vlm4vla.attribution.inputs import words
    from vlm4vla.attribution.occlusion import leave_one_word_out, replace_one_word
    from vlm4vla.attribution.target import TARGETS as targets

    said = words(inference.question.instruction)
    if not said:
        return []
    asked = agent.policy, inference.question, targets[target]
    left_out, replaced = leave_one_word_out(*asked).scores, replace_one_word(*asked).scores
    return [
        {"word": word, "left_out": one, "replaced": None if math.isnan(other) else other}
        for word, one, other in zip(
            said,
            left_out.tolist(),
            replaced.tolist(),
            strict=True,
        )
    ]


def _line(told: Mapping[str, Any]) -> str:
    unit = told["unit"]
    on_object = ""
    if "object" in told["mass"]:
        on_object = (
            f"on the named object {told['mass']['object']:.0%} of the mass and "
            f"{told['pixels']['object']:.1%} of the pixels; "
        )
    changed = ", ".join(Perturbation.from_json(one).label for one in told.get("perturbations", ()))
    return (
        f"{told['task']} {told['seed']}, step {told['step']}, {told['instruction']!r}"
        f"{changed and f' under {changed}'}: "
        f"{told['method']} of {told['value']:.1f} {unit} ({told['target']}); {on_object}against "
        f"random orders, deletion {told['deletion']['gain']:+.1f} {unit}, "
        f"insertion {told['insertion']['gain']:+.1f} {unit}"
    )
