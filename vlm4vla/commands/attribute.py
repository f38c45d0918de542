"""`vlm4vla attribute`: what of its picture a policy's first action comes from."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentSpan, EpisodeSpec, episode_id
from vlm4vla.core.rollout import versions_of
from vlm4vla.errors import UserError
from vlm4vla.files import replacing, write_json
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import KNOWN, POLICY_CAMERA, goal_of
from vlm4vla.suites.tabletop.types import BACKGROUND, FINGERS, ROBOT
from vlm4vla.workers.environment import EnvironmentProcess

if TYPE_CHECKING:
    from vlm4vla.model.policy import Policy

METHODS: Final = ("occlusion", "gradient", "integrated")
TARGETS: Final = ("displacement", "length", "agreement", "gripper")
RANDOM_ORDERS: Final = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or its name")
    parser.add_argument("--task", choices=TASKS, default="pick", help="which kind of scene")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="which scenes")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="occlusion",
        help="cover a cell of the picture; or gradient times input, or integrated gradients, at "
        "the vision tokens",
    )
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="displacement",
        help="what is explained of the first action: how far it goes its own way, how far in all, "
        "minus how far it ends from where it went (mm), or the gripper's logit",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for three files a scene")


def run(args: argparse.Namespace) -> int:
    """Explains the first inference of each scene and tells one line for each."""
    if min(args.seeds) < 0:
        raise UserError("Seeds start at 0.")
    # They take seconds: torch.
    from vlm4vla.agents.policy import load_agent
    from vlm4vla.attribution.faithfulness import STRIDE

    agent = load_agent(AgentCatalogue().folder(args.checkpoint))
    span = (AgentSpan(agent.identity),)
    versions = versions_of(TABLETOP, span)
    environment = None
    try:
        for seed in dict.fromkeys(args.seeds):
            spec = TABLETOP.spec(args.task, seed, Condition(KNOWN))
            settings = {
                "checkpoint": agent.identity.digest,
                "episode": episode_id(spec, span, versions),
                "step": 0,
                "method": args.method,
                "target": args.target,
                "cover": "mean",
                "stride": STRIDE,
                "random_orders": RANDOM_ORDERS,
            }
            base = args.out / f"{args.task}-{seed:06d}-{args.method}-{args.target}"
            told = _kept(base.with_suffix(".json"), settings)
            if told is None:
                environment = environment or EnvironmentProcess(TABLETOP)
                told = _explain(agent.policy, environment, spec, settings, base)
            print(_line(told), flush=True)
    finally:
        if environment is not None:
            environment.close()
    return 0


def _kept(file: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier run with the same settings wrote."""
    try:
        told = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(told, dict) and settings.items() <= told.items()
    return told if same else None


def _explain(
    policy: "Policy",
    environment: EnvironmentProcess,
    spec: EpisodeSpec,
    settings: dict[str, Any],
    base: Path,
) -> dict[str, Any]:
    """Explains one inference and writes its files, the JSON last."""
    from vlm4vla.attribution.faithfulness import area, curves, mass_shares, points_at
    from vlm4vla.attribution.inputs import Question
    from vlm4vla.attribution.methods import METHODS as methods
    from vlm4vla.attribution.overlay import overlay
    from vlm4vla.attribution.target import TARGETS as targets

    seen = environment.reset(spec, [POLICY_CAMERA]).observation
    regions = _regions(spec, environment.segmentation(), environment.privileged().names)
    question = Question(seen.images[POLICY_CAMERA], spec.instruction)
    target = targets[settings["target"]]
    found = methods[settings["method"]](policy, question, target)
    line = curves(policy, question, target, found.scores, range(RANDOM_ORDERS))
    scale = float(np.abs(found.scores).max())
    told = {
        **settings,
        "task": spec.task,
        "seed": spec.seed,
        "instruction": spec.instruction,
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
    }
    with replacing(base.with_suffix(".npz")) as temporary:
        np.savez_compressed(
            temporary, map=found.scores, target=found.value, picture=question.picture
        )
    with replacing(base.with_suffix(".png")) as temporary:
        imageio.imwrite(temporary, overlay(question.picture, found.scores, scale or 1.0))
    write_json(base.with_suffix(".json"), told)
    return told


def _regions(
    spec: EpisodeSpec, segmentation: NDArray[np.int16], names: tuple[str, ...]
) -> dict[str, NDArray[np.bool_]]:
    """Masks that part the picture by truth: "object" is the goal's, "goal" the place it is for.

    What a goal does not have is left out.
    """
    goal = goal_of(spec)
    named = {"object": goal.object, "goal": goal.target}
    regions = {
        part: segmentation == names.index(name) for part, name in named.items() if name is not None
    }
    regions |= {"gripper": segmentation == FINGERS, "robot": segmentation == ROBOT}
    others = [i for i, name in enumerate(names) if name not in named.values()]
    regions |= {"others": np.isin(segmentation, others), "background": segmentation == BACKGROUND}
    return regions


def _line(told: Mapping[str, Any]) -> str:
    unit = told["unit"]
    return (
        f"{told['task']} {told['seed']}, {told['instruction']!r}: {told['method']} of "
        f"{told['value']:.1f} {unit} ({told['target']}); on the named object "
        f"{told['mass']['object']:.0%} of the mass and {told['pixels']['object']:.1%} of the "
        f"pixels; against random orders, deletion {told['deletion']['gain']:+.1f} {unit}, "
        f"insertion {told['insertion']['gain']:+.1f} {unit}"
    )
