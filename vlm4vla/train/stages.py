"""The stages as runs: where each starts from, what it writes, which gates it must pass.

A run's folder holds its recipe, its newest state, its gates, and at the end `vlm` (language and
tokens) or `checkpoint` (the others), from which the next stage starts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from accelerate import PartialState

from vlm4vla import action
from vlm4vla.data.cache import Cache, open_cache
from vlm4vla.errors import UserError
from vlm4vla.files import replacing_folder, write_json
from vlm4vla.model.checkpoint import Provenance
from vlm4vla.model.groups import GROUPS, describe_trainable, set_trainable
from vlm4vla.model.load import chosen_device, load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm, save_vlm
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.train.auxiliary.patch_words import PatchWordLoss
from vlm4vla.train.batches.frames import Frames
from vlm4vla.train.batches.pictures import Pool, draw_pool, kept_pool
from vlm4vla.train.gates import Gate, check_gates, record_gates
from vlm4vla.train.loop.train import Objective, Watch, check_same, train
from vlm4vla.train.objectives.grounding import (
    GroundingObjective,
    GroundingRecipe,
    check_numbers,
    measure_grounding,
)
from vlm4vla.train.objectives.imitation import (
    ImitationObjective,
    ImitationRecipe,
    measure_imitation,
)
from vlm4vla.train.objectives.language import LanguageObjective, LanguageRecipe, make_backbone
from vlm4vla.train.objectives.tokens import (
    TokensObjective,
    TokensRecipe,
    action_tokens,
    add_words,
    measure_tokens,
)
from vlm4vla.train.provenance import command, lineage, remember
from vlm4vla.train.run import Run, one_at_a_time
from vlm4vla.train.speed.cpu_layers import chosen_layers, fast_layers
from vlm4vla.train.start import identity_of
from vlm4vla.train.vqa import Skill, measure_skill

VLM = "vlm"
"""The folder inside a language or tokens run that holds the trained VLM."""

CHECKPOINT = "checkpoint"
"""The folder inside a robot run that holds the trained policy."""


NEW: Final = "random weights"
"""What a language stage starts from that goes on from no other."""


class Measured(Protocol):
    """What a stage measures at its end."""

    def metrics(self) -> dict[str, float]:
        """The metrics flat, for a log."""
        ...

    def gates(self) -> list[Gate]:
        """What they must reach."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage, ready to run.

    Attributes:
        name: the stage's name.
        objective: what is learned.
        recipe: how; its `loop` is the loop's part.
        about: what else must be the same when the run goes on.
        data: fingerprints of what it learns from, by name.
        check: a quick measurement.
        measure: the thorough one at the end.
        save: writes what the stage hands on into the run's folder, and says where.
        report: the file that the metrics go to.
        keep: shares of the steps after which the VLM is kept, too.
    """

    name: str
    objective: Objective
    recipe: Any
    about: Mapping[str, Any]
    data: Mapping[str, str]
    check: Callable[[], Measured]
    measure: Callable[[], Measured]
    save: Callable[[], Path]
    report: str
    keep: Sequence[float] = ()


def run_stage(run: Run, stage: Stage, policy: Policy) -> Path:
    """Trains, measures, saves and checks the gates.

    Args:
        run: the run.
        stage: what is run in it.
        policy: what learns, in place.

    Returns:
        The folder of what the stage hands on.

    Raises:
        UserError: a gate failed, or the run was begun in another way.
    """
    recipe = stage.recipe.loop
    steps = {max(1, round(share * recipe.steps)): share for share in stage.keep}
    watch = Watch(
        check=lambda done: stage.check().metrics(),
        check_every=run.check_every,
        keep={done: partial(_keep, run, policy.vlm, share) for done, share in steps.items()},
        track=run.track,
    )
    # What is added to it at the end must be whole.
    lineage(policy.vlm)
    with fast_layers(policy), chosen_layers(policy, run.compiled):
        train(
            stage.objective,
            recipe,
            run.folder,
            watch=watch,
            device=run.device,
            workers=run.preparing,
            about=stage.about,
        )
        if not PartialState().is_main_process:
            return run.folder
        measured = stage.measure()
    metrics = measured.metrics()
    write_json(run.folder / stage.report, metrics)
    for name, value in metrics.items():
        print(f"{name}: {value:.4g}")
    remember(policy.vlm, stage.name, asdict(stage.recipe), metrics, stage.data)
    gates = measured.gates()
    record_gates(gates, run.folder)
    target = stage.save()
    check_gates(gates)
    return target


def _keep(run: Run, vlm: Vlm, share: float) -> None:
    """Writes the VLM as it is on the way."""
    with replacing_folder(run.folder / f"{VLM}-{round(100 * share):02d}") as folder:
        save_vlm(vlm, folder)


@one_at_a_time
def run_language(
    run: Run,
    recipe: LanguageRecipe,
    source: Path | str | None = None,
    sizes: Mapping[str, int] | None = None,
    pools: tuple[Pool, Pool] | None = None,
    keep: Sequence[float] = (),
    drawings: Path | None = None,
) -> Path:
    """Trains a tiny VLM on pictures and questions.

    Args:
        run: the run.
        recipe: how.
        source: a VLM made by this stage to go on with; None for random weights.
        sizes: of the VLM, as its family's tiny config takes them; None for the chosen ones.
        pools: pictures to learn from and to measure on; drawn if None.
        keep: shares of the steps after which the VLM is kept, too, as its average is then.
        drawings: a folder in which drawn pictures are kept for other runs; None keeps none.

    Returns:
        The folder of the VLM.

    Raises:
        UserError: the family cannot learn this way, a gate failed, or another process trains in
            the same folder.
    """
    if source:
        vlm = load_vlm(source, torch.float32, run.device)
        recipe = replace(recipe, family=vlm.family.name)
    start = identity_of(source) if source else NEW
    about = about_stage("language", recipe, start=start)
    check_same(run.folder, recipe.loop, about)
    if not source:
        vlm = make_backbone(recipe.family, recipe.loop.seed, **(sizes or {}))
        vlm.base.to(chosen_device(run.device))
    policy = Policy.from_vlm(vlm, action.tiny(), query_init="embedding")
    # What the family cannot do must be said before pictures are drawn for a minute.
    PatchWordLoss(vlm)
    if pools is None:
        drawn = kept_pool(drawings, recipe.pictures) if drawings else draw_pool(recipe.pictures)
        pools = drawn, draw_pool(400, held_out=True)
    learned, held_out = pools
    few = Pool(held_out.images[:96], held_out.segmentations[:96], held_out.items[:96])

    def measure() -> Skill:
        skill = measure_skill(policy, held_out)
        write_json(run.folder / "asked.json", skill.asked)
        return skill

    stage = Stage(
        name="language",
        objective=LanguageObjective(policy, learned, recipe),
        recipe=recipe,
        about=about,
        data={},
        check=lambda: measure_skill(policy, few),
        measure=measure,
        save=lambda: _save_vlm(policy, run),
        report="skill.json",
        keep=keep,
    )
    return run_stage(run, stage, policy)


@one_at_a_time
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
        UserError: a gate failed, the policy's actions are not the data's, or another process
            trains in the same folder.
    """
    _check_actions(policy)
    learned, unseen = learned_and_unseen(cache, tasks)
    about = about_stage("grounding", recipe, **_robot(run, policy, cache, tasks))
    objective = GroundingObjective(policy, learned, recipe)
    head = objective.grounding.head
    few, many = check_numbers(unseen, 48, 48), check_numbers(unseen, 200, 400)
    stage = Stage(
        name="grounding",
        objective=objective,
        recipe=recipe,
        about=about,
        data={"cache": cache.fingerprint},
        check=lambda: measure_grounding(policy, head, unseen, few),
        measure=lambda: measure_grounding(policy, head, unseen, many),
        save=lambda: _save(policy, run, cache),
        report="grounding.json",
    )
    return run_stage(run, stage, policy)


@one_at_a_time
def run_imitation(
    run: Run,
    recipe: ImitationRecipe,
    policy: Policy,
    cache: Cache,
    tasks: Sequence[Task] = (),
    groups: Sequence[str] = GROUPS,
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
        UserError: a group is unknown, the data holds none of the tasks or other actions than the
            policy's, or another process trains in the same folder.
    """
    _check_actions(policy)
    set_trainable(policy, groups)
    learned, unseen = learned_and_unseen(cache, tasks)
    few, many = check_numbers(unseen, 24, 72), check_numbers(unseen, 100, 500)
    stage = Stage(
        name="imitation",
        objective=ImitationObjective(policy, learned, recipe),
        recipe=recipe,
        about=about_stage("imitation", recipe, **_robot(run, policy, cache, tasks)),
        data={"cache": cache.fingerprint},
        check=lambda: measure_imitation(policy, unseen, few),
        measure=lambda: measure_imitation(policy, unseen, many),
        save=lambda: _save(policy, run, cache),
        report="imitation.json",
    )
    return run_stage(run, stage, policy)


@one_at_a_time
def run_tokens(
    run: Run,
    recipe: TokensRecipe,
    policy: Policy,
    cache: Cache,
    tasks: Sequence[Task] = (),
    groups: Sequence[str] = GROUPS,
) -> Path:
    """Teaches a VLM to answer instructions with action tokens.

    Args:
        run: the run.
        recipe: how.
        policy: holds the VLM, which learns in place; its query and head are not used.
        cache: robot frames with labels.
        tasks: whose instructions are drawn; empty for all.
        groups: which freeze groups learn.

    Returns:
        The folder of the VLM.

    Raises:
        UserError: a group is unknown, no group of the VLM is named, the data holds none of the
            tasks or other actions than the policy's, or another process trains in the same folder.
    """
    _check_actions(policy)
    learned, unseen = learned_and_unseen(cache, tasks)
    policy.detach()
    tokens = action_tokens(policy.vlm, policy.spec, learned)
    add_words(policy.vlm, tokens, recipe.loop.seed)
    # The hooks of a query belong to the words as they were.
    policy = Policy.from_vlm(policy.vlm, policy.spec)
    set_trainable(policy, groups)
    few, many = check_numbers(unseen, 24, 72), check_numbers(unseen, 100, 500)
    stage = Stage(
        name="tokens",
        objective=TokensObjective(policy, tokens, learned, recipe),
        recipe=recipe,
        about=about_stage("tokens", recipe, **_robot(run, policy, cache, tasks), groups=groups),
        data={"cache": cache.fingerprint},
        check=lambda: measure_tokens(policy, tokens, unseen, few),
        measure=lambda: measure_tokens(policy, tokens, unseen, many),
        save=lambda: _save_vlm(policy, run),
        report="tokens.json",
    )
    return run_stage(run, stage, policy)


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


def _check_actions(policy: Policy) -> None:
    """Refuses a policy that would take the actions of the data, which are the suite's, for others.

    Raises:
        UserError: they mean something else, or their chunks are of another length.
    """
    wanted = TABLETOP.action
    policy.spec.check_means(wanted, "the policy")
    if policy.spec.chunk != wanted.chunk:
        raise UserError(
            f"The policy plans {policy.spec.chunk} actions at once, and the data's labels hold "
            f"{wanted.chunk}.",
            "Start from another policy, or from its VLM alone.",
        )


def learned_and_unseen(cache: Cache, tasks: Sequence[Task] = ()) -> tuple[Frames, Frames]:
    """Frames to learn from and frames to check on.

    Args:
        cache: robot frames.
        tasks: whose goals are drawn; empty for all.

    Raises:
        UserError: the data holds fewer than two scenes of the tasks.
    """
    every = Frames(cache, np.arange(len(cache)), tasks)
    scenes = {cache.episodes[number].seed for number in np.unique(cache.episode[every.numbers])}
    if len(scenes) < 2:
        raise UserError(
            f"The data holds one scene for {', '.join(tasks) or 'all tasks'}, and training needs "
            "at least two: one to learn from and one to check on.",
            "Collect 2 or more episodes of each task with `vlm4vla collect --episodes`, then "
            "run `vlm4vla cache` again.",
        )
    split = cache.split(tasks=tasks)
    return Frames(cache, split.train, tasks), Frames(cache, split.validation, tasks)


def about_stage(stage: str, recipe: Any, **more: Any) -> dict[str, Any]:
    """What must not change between two parts of one run, nor be different where it is taken over.

    Args:
        stage: the stage's name.
        recipe: the stage's; its `loop` is compared by itself.
        **more: the rest, as plain values.
    """
    own = {name: value for name, value in asdict(recipe).items() if name != "loop"}
    return {"stage": stage, **own, **more}


def _robot(run: Run, policy: Policy, cache: Cache, tasks: Sequence[Task]) -> dict[str, Any]:
    """What a stage on robot frames starts from and learns."""
    sizes = describe_trainable(policy)
    frozen = [name for name, size in sizes.items() if size.parameters and not size.trainable]
    return {
        "start": run.start or policy.vlm.source,
        "data": cache.fingerprint,
        "asked": cache.asked,
        "tasks": tasks,
        "frozen": frozen,
    }


def _save_vlm(policy: Policy, run: Run) -> Path:
    policy.detach()
    target = run.folder / VLM
    with replacing_folder(target) as folder:
        save_vlm(policy.vlm, folder)
    return target


def _save(policy: Policy, run: Run, cache: Cache) -> Path:
    target = run.folder / CHECKPOINT
    data = {"cache": cache.fingerprint}
    training = {"stages": lineage(policy.vlm)}
    provenance = Provenance(command=command(), data=data, training=training)
    policy.save_pretrained(target, provenance)
    return target
