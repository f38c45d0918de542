"""`vlm4vla represent`: what layers of encoders know, how alike they are, and where they look."""

import argparse
import functools
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm4vla import paths, seeds
from vlm4vla.agents.catalogue import SHIPPED as CHECKPOINTS
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.several import each_once
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import held, write_json
from vlm4vla.representations.drag import (
    always_mean,
    as_json,
    follow,
    mean_off,
    together,
    track,
    write_drag,
)
from vlm4vla.representations.pictures import TARGETS, Pictures, draw, moments
from vlm4vla.representations.results import (
    CkaRow,
    ProbeRow,
    ShareRow,
    write_cka,
    write_probes,
    write_shares,
)
from vlm4vla.representations.similarity import cka
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.workers.environment import EnvironmentProcess

if TYPE_CHECKING:
    from vlm4vla.attribution.inferences import Inference
    from vlm4vla.representations.measure import Encoder


POSES: Final = "qwen3vl-tiny"
"""The shipped policy in whose own episodes pictures are drawn, whichever encoder is probed."""

EXPLAINED: Final = 50
"""Test seeds whose first inferences are explained, of every task."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        required=True,
        metavar="NAME",
        help="policies or VLMs: a shipped checkpoint's name, such as qwen3vl-tiny or "
        "vlm-init/qwen3-vl, or a folder",
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=200,
        help="test seeds, each with the scenes of all tasks (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument(
        "--drag",
        action="store_true",
        help="instead of probes of all kinds, follow one object that is moved over the table",
    )


def run(args: argparse.Namespace) -> int:
    """Probes one encoder after the other; those that were probed before are not done again."""
    folders = list(dict.fromkeys(_folder(name) for name in args.checkpoint))
    # They take seconds: torch.
    from vlm4vla.representations.measure import Encoder, kernels, layers_of, rows_of

    encoders = each_once(
        (Encoder(_name(folder, folders), folder) for folder in folders),
        lambda one: (one.name, one.digest),
    )
    pictures, work = _pictures(args.scenes)
    if args.drag:
        return _drag(encoders, pictures, args)
    asked = functools.cache(lambda: _inferences(min(args.scenes, EXPLAINED)))
    rows: list[ProbeRow] = []
    shares: list[ShareRow] = []
    layers: dict[str, list[str]] = {}
    for place, encoder in enumerate(encoders, 1):
        begun = time.monotonic()

        def tell(line: str, place: int = place, name: str = encoder.name) -> None:
            print(f"[{place}/{len(encoders)}] {name}: {line}", file=sys.stderr, flush=True)

        command = f"vlm4vla represent --checkpoint {encoder.name} --scenes {args.scenes}"
        with held(work / encoder.digest):
            rows_of(encoder, pictures, work, command, tell)
            shares += _shares(encoder, asked, work, command, tell)
        stored = json.loads((work / f"{encoder.digest}.json").read_text("utf-8"))
        own = [ProbeRow(**{**row, "checkpoint": encoder.name}) for row in stored]
        layers[encoder.name] = layers_of(own)
        rows += own
        write_probes(args.out, rows)
        write_shares(args.out, shares)
        print(f"{encoder.name}: {_sentence(own)} ({time.monotonic() - begun:.0f} s)", flush=True)
    found = []
    products = {one.name: kernels(one.digest, work) for one in encoders}
    for a, b in itertools.combinations_with_replacement(products, 2):
        first, second = ([products[x][layer] for layer in layers[x]] for x in (a, b))
        command = f"vlm4vla represent --checkpoint {a} {b} --scenes {args.scenes}"
        values = cka(first, second)
        found += [
            CkaRow(a, layer_a, b, layer_b, float(values[i, j]), len(first[0]), command)
            for i, layer_a in enumerate(layers[a])
            for j, layer_b in enumerate(layers[b])
        ]
    write_cka(args.out, found)
    print(
        f"{len(rows)} rows of probes, {len(found)} of CKA and {len(shares)} of shares stand in "
        f"{args.out}."
    )
    return 0


def _drag(encoders: list["Encoder"], pictures: Pictures, args: argparse.Namespace) -> int:
    """Writes `drag.json`."""
    from vlm4vla.representations.layers import features

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    environment = EnvironmentProcess(TABLETOP)
    try:
        # A scene beyond those that probes are fitted to.
        moved = track(environment, TABLETOP.spec("reach", args.scenes, Condition()), tell)
    finally:
        environment.close()
    whole, parts = together(pictures, moved.pictures)
    found = []
    for encoder in encoders:
        policy = encoder.load()
        tell(f"{encoder.name}: reads")
        seen = features(policy, whole.images, whole.instructions, tell)
        policy.detach()
        layers = follow(seen, whole, parts, moved, tell)
        found.append({"name": encoder.name, "digest": encoder.digest, "layers": layers})
        best = min(layers, key=mean_off)
        print(
            f"{encoder.name}: {best['name']} puts the {moved.object.name} nearest, "
            f"{mean_off(best):.2f} cm away on average over {len(moved.places)} places"
        )
    names = " ".join(encoder.name for encoder in encoders)
    command = f"vlm4vla represent --checkpoint {names} --scenes {args.scenes} --drag"
    always = always_mean(whole, parts, moved)
    path = write_drag(args.out, as_json(moved, args.scenes, always, command, found))
    print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def _pictures(scenes: int) -> tuple[Pictures, Path]:
    """The pictures, drawn once a machine, and the folder for what is found on them."""
    table = EpisodeTable()
    try:
        prepare(table, Films(table), legacy=paths.home(), shipped=SHIPPED)
    except UserError as error:
        # What is in the table can be drawn even so.
        print(f"vlm4vla represent: {error}", file=sys.stderr)
    wanted = moments(table, scenes, AgentCatalogue([CHECKPOINTS]).digest_of(POSES))
    mark = hashlib.sha256(" ".join(target.name for target in TARGETS).encode())
    for moment in wanted:
        mark.update(json.dumps(moment.spec.to_json(), sort_keys=True).encode())
        if moment.pose is not None:
            mark.update(moment.pose.joints.tobytes() + moment.pose.poses.tobytes())
    work = paths.cache() / "represent" / mark.hexdigest()[:16]
    file = work / "pictures.npz"
    if not file.is_file():
        environment = EnvironmentProcess(TABLETOP)
        try:
            drawn = draw(environment, wanted, lambda line: print(line, file=sys.stderr, flush=True))
        finally:
            environment.close()
        drawn.save(file)
    return Pictures.load(file), work


def _shares(
    encoder: "Encoder",
    asked: Callable[[], list["Inference"]],
    work: Path,
    command: str,
    tell: Callable[[str], None],
) -> list[ShareRow]:
    """How much of where an encoder looks lies on the named object, layer by layer.

    Each method's rows are kept, so that a run that was stopped does not explain again.
    """
    from vlm4vla.attribution.shares import methods_for

    found = []
    for method in methods_for(encoder.acts):
        kept = work / f"{encoder.digest}-shares-{method}.json"
        if not kept.is_file():
            told = _explained(encoder, asked(), method, command, tell)
            write_json(kept, [row._asdict() for row in told])
        stored = json.loads(kept.read_text("utf-8"))
        found += [ShareRow(**{**row, "checkpoint": encoder.name}) for row in stored]
    return found


def _explained(
    encoder: "Encoder",
    asked: list["Inference"],
    method: str,
    command: str,
    tell: Callable[[str], None],
) -> list[ShareRow]:
    from vlm4vla.attribution.shares import shares_by_layer

    policy = encoder.load()
    found = shares_by_layer(policy, asked, method, tell)
    head = (encoder.name, encoder.digest, policy.vlm.family.name)
    policy.detach()
    area = sum(float(one.regions["object"].mean()) for one in asked) / len(asked)
    return [
        ShareRow(
            *head,
            one.method,
            one.layer,
            one.place,
            one.told.mean,
            one.told.low,
            one.told.high,
            one.told.n,
            one.maps,
            len(asked),
            area,
            command,
        )
        for one in found
    ]


def _inferences(scenes: int) -> list["Inference"]:
    """What is explained: the first inference of every task in the first test seeds."""
    from vlm4vla.attribution.inferences import first_inference

    environment = EnvironmentProcess(TABLETOP)
    try:
        found = []
        for seed in seeds.TEST[:scenes]:
            for task in TABLETOP.tasks:
                spec = TABLETOP.spec(task, seed, Condition())
                found.append(first_inference(environment, spec))
            print(f"{len(found)} inferences drawn", end="\r", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return found
    finally:
        environment.close()


def _folder(name: str) -> Path:
    for folder in (Path(name), CHECKPOINTS / name):
        if (folder / "config.json").is_file():
            return folder.resolve()
    return AgentCatalogue().folder(name)


def _name(folder: Path, among: Sequence[Path]) -> str:
    """What an encoder is called: the end of its path that none of the others has.

    That is the last part, unless folders of one name are compared, as training makes them. What is
    shipped is called as everywhere else.

    Args:
        folder: its own.
        among: all folders, each once.
    """
    if folder.is_relative_to(CHECKPOINTS):
        return folder.relative_to(CHECKPOINTS).as_posix()
    parts = folder.parts
    for start in range(len(parts) - 1, 0, -1):
        end = parts[start:]
        if sum(one.parts[-len(end) :] == end for one in among) == 1:
            return "/".join(end)
    return folder.as_posix()


def _sentence(rows: list[ProbeRow]) -> str:
    judged = [row for row in rows if (row.target, row.probe) == ("object", "linear") and row.n]
    if not judged:
        return "where the object of a colour is could not be judged in these scenes"
    best = min(judged, key=lambda row: row.value)
    return (
        f"the object of a colour is known best at {best.layer}: {best.value:.2f} cm "
        f"(95 % {best.low:.2f} to {best.high:.2f}; mean predictor {best.baseline:.2f}, "
        f"fresh weights {best.random:.2f})"
    )
