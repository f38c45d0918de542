"""The stages as runs: where each starts from, what it writes, which gates it must pass.

A run's folder holds its recipe, its snapshot, its gates, and at the end `vlm` (language) or
`checkpoint` (the others), from which the next stage starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vlm4vla import action
from vlm4vla.data.cache import Cache, open_cache
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.model.checkpoint import MANIFEST, Provenance
from vlm4vla.model.groups import describe_trainable, set_trainable
from vlm4vla.model.load import accelerator, load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.train.frames import Frames
from vlm4vla.train.gates import check_gates
from vlm4vla.train.grounding import (
    GroundingLesson,
    GroundingRecipe,
    check_numbers,
    measure_grounding,
)
from vlm4vla.train.imitation import ImitationLesson, ImitationRecipe, measure_imitation
from vlm4vla.train.language import LanguageLesson, LanguageRecipe, make_backbone
from vlm4vla.train.lineage import command, forget, lineage, remember
from vlm4vla.train.loop import check_same, train
from vlm4vla.train.pictures import Pool, draw_pool
from vlm4vla.train.quick import compiled_layers, quick_layers
from vlm4vla.train.skill import measure_skill

VLM = "vlm"
"""The folder inside a language run that holds the trained VLM."""

CHECKPOINT = "checkpoint"
"""The folder inside a robot run that holds the trained policy."""


@dataclass(frozen=True)
class Run:
    """What every stage is told about its run.

    Attributes:
        folder: where everything of the run is written.
        check_every: steps between measurements on unseen scenes, 0 for only at the end.
        track: project name for trackio, or None.
        device: "cpu", "cuda", or None for the accelerator if there is one.
        compiled: compile the language model's layers, which takes a minute and gives a fifth more
            samples a second afterwards.
    """

    folder: Path
    check_every: int = 0
    track: str | None = None
    device: str | None = None
    compiled: bool = False


def run_language(
    run: Run,
    recipe: LanguageRecipe,
    source: Path | str | None = None,
    sizes: Mapping[str, int] | None = None,
    pools: tuple[Pool, Pool] | None = None,
) -> Path:
    """Trains a tiny VLM on pictures and questions.

    Args:
        run: the run.
        recipe: how.
        source: a VLM made by this stage to go on with; None for random weights.
        sizes: of the VLM, as its family's tiny config takes them; None for the chosen ones.
        pools: pictures to learn from and to measure on; drawn if None.

    Returns:
        The folder of the VLM.

    Raises:
        UserError: a gate failed.
    """
    about = _about("language", recipe, start=str(source or "random weights"))
    check_same(run.folder, recipe.loop, about)
    if source:
        vlm = load_vlm(source, torch.float32, run.device)
    else:
        vlm = make_backbone(recipe.loop.seed, **(sizes or {}))
        vlm.base.to(run.device or accelerator())
    policy = Policy.from_vlm(vlm, action.tiny(), query_init="embedding")
    learned, held_out = pools or (
        draw_pool(recipe.pictures),
        draw_pool(400, held_out=True),
    )
    few = Pool(held_out.images[:96], held_out.segmentations[:96], held_out.items[:96])
    lesson = LanguageLesson(policy, learned, recipe)
    with quick_layers(policy), compiled_layers(policy, run.compiled):
        train(
            lesson,
            recipe.loop,
            run.folder,
            check=lambda done: measure_skill(policy, few).figures(),
            check_every=run.check_every,
            track=run.track,
            device=run.device,
            about=about,
        )
        skill = measure_skill(policy, held_out)
    write_json(run.folder / "skill.json", skill.figures())
    for name, value in skill.figures().items():
        print(f"{name}: {value:.4g}")
    policy.detach()
    remember(vlm, "language", asdict(recipe), skill.figures(), {})
    target = run.folder / VLM
    target.mkdir(exist_ok=True)
    save_vlm(vlm, target)
    check_gates(skill.gates(), run.folder / "gates.json")
    return target


def start_policy(
    source: Path | str, init: str, device: str | None, query_init: str = "embedding"
) -> Policy:
    """The policy that a robot stage starts from.

    Args:
        source: a checkpoint folder, a VLM folder, a preset or a Hub id.
        init: "vlm" for its weights, "scratch" for the same architecture with random ones.
        device: "cpu", "cuda", or None.
        query_init: "embedding" or, as in the paper, "zero"; a checkpoint keeps its own query.

    Raises:
        UserError: the source is not there or does not fit.
    """
    if init == "vlm" and (Path(source) / MANIFEST).is_file():
        return Policy.from_pretrained(source, device)
    vlm = load_vlm(source, torch.float32, device, init)
    if init == "scratch":
        forget(vlm)
    return Policy.from_vlm(vlm, action.tiny(), query_init=query_init)


def run_grounding(
    run: Run, recipe: GroundingRecipe, policy: Policy, cache: Cache, tasks: Sequence[Task] = ()
) -> Path:
    """Teaches a policy's VLM where things are, from the query's position.

    Args:
        run: the run.
        recipe: how.
        policy: where it starts from; it learns in place.
        cache: robot frames.
        tasks: whose instructions are drawn; empty for all.

    Returns:
        The folder of the policy.

    Raises:
        UserError: a gate failed.
    """
    split = cache.split()
    unseen = Frames(cache, split.validation, tasks)
    frozen = _frozen(policy)
    lesson = GroundingLesson(policy, Frames(cache, split.train, tasks), recipe)
    head = lesson.grounding.head
    few, many = check_numbers(unseen, 48, 48), check_numbers(unseen, 200, 400)
    with quick_layers(policy), compiled_layers(policy, run.compiled):
        train(
            lesson,
            recipe.loop,
            run.folder,
            check=lambda done: measure_grounding(policy, head, unseen, few).figures(),
            check_every=run.check_every,
            track=run.track,
            device=run.device,
            about=_about(
                "grounding",
                recipe,
                start=policy.vlm.source,
                data=cache.fingerprint,
                tasks=tasks,
                **frozen,
            ),
        )
        grounded = measure_grounding(policy, head, unseen, many)
    figures = grounded.figures()
    write_json(run.folder / "grounding.json", figures)
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    target = _save(policy, run, cache, "grounding", asdict(recipe), figures)
    check_gates(grounded.gates(), run.folder / "gates.json")
    return target


def run_imitation(
    run: Run,
    recipe: ImitationRecipe,
    policy: Policy,
    cache: Cache,
    tasks: Sequence[Task] = (),
    groups: Sequence[str] = ("vision", "language", "embeddings", "projector", "head"),
) -> Path:
    """Teaches a policy the expert's actions.

    Args:
        run: the run.
        recipe: how.
        policy: where it starts from; it learns in place.
        cache: robot frames with labels.
        tasks: whose instructions are drawn; empty for all.
        groups: which freeze groups learn.

    Returns:
        The folder of the policy.

    Raises:
        UserError: a group is unknown, or the data holds none of the tasks.
    """
    set_trainable(policy, groups)
    split = cache.split()
    unseen = Frames(cache, split.validation, tasks)
    lesson = ImitationLesson(policy, Frames(cache, split.train, tasks), recipe)
    few, many = check_numbers(unseen, 24, 72), check_numbers(unseen, 100, 500)
    with quick_layers(policy), compiled_layers(policy, run.compiled):
        train(
            lesson,
            recipe.loop,
            run.folder,
            check=lambda done: measure_imitation(policy, unseen, few).figures(),
            check_every=run.check_every,
            track=run.track,
            device=run.device,
            about=_about(
                "imitation",
                recipe,
                start=policy.vlm.source,
                data=cache.fingerprint,
                tasks=tasks,
                **_frozen(policy),
            ),
        )
        figures = measure_imitation(policy, unseen, many).figures()
    write_json(run.folder / "imitation.json", figures)
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    return _save(policy, run, cache, "imitation", asdict(recipe), figures)


def open_frames(folder: Path) -> Cache:
    """Opens a training cache.

    Raises:
        UserError: there is none.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no training cache {folder}.",
            "Collect episodes with `vlm4vla collect`, or name another folder with --data.",
        )
    return open_cache(folder)


def _about(stage: str, recipe: Any, **more: Any) -> dict[str, Any]:
    """What must not change between two parts of one run."""
    own = {name: value for name, value in asdict(recipe).items() if name != "loop"}
    return {"stage": stage, **own, **more}


def _frozen(policy: Policy) -> dict[str, Any]:
    """Groups that do not learn; nothing where all do, as in runs begun before this was kept."""
    sizes = describe_trainable(policy)
    frozen = [name for name, size in sizes.items() if size.parameters and not size.trainable]
    return {"frozen": frozen} if frozen else {}


def _save(
    policy: Policy,
    run: Run,
    cache: Cache,
    stage: str,
    recipe: Mapping[str, Any],
    figures: Mapping[str, float],
) -> Path:
    target = run.folder / CHECKPOINT
    data = {"cache": cache.fingerprint}
    remember(policy.vlm, stage, recipe, figures, data)
    training = {"stages": lineage(policy.vlm)}
    provenance = Provenance(command=command(), data=data, training=training)
    policy.save_pretrained(target, provenance)
    return target
