"""The stages as runs: where each starts from, what it writes, which gates it must pass.

A run's folder holds its recipe, its newest state, its gates, and at the end `vlm` (language and
tokens) or `checkpoint` (the others), from which the next stage starts.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
from accelerate import PartialState

from vlm4vla import action
from vlm4vla.data.cache import Cache, open_cache
from vlm4vla.errors import UserError
from vlm4vla.files import held, replacing_folder, write_json
from vlm4vla.model.checkpoint import MANIFEST, Provenance
from vlm4vla.model.groups import GROUPS, describe_trainable, set_trainable
from vlm4vla.model.load import accelerator, chosen_device, load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm, save_vlm
from vlm4vla.model.vocabulary import take_words
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.train.auxiliary.patch_words import PatchWordLoss
from vlm4vla.train.batches.frames import Frames
from vlm4vla.train.batches.pictures import Pool, draw_pool, kept_pool
from vlm4vla.train.gates import Gate, check_gates, record_gates
from vlm4vla.train.loop.train import Objective, Watch, check_same, train
from vlm4vla.train.mimetic_init import start_as_pretrained
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
from vlm4vla.train.provenance import command, forget, lineage, remember
from vlm4vla.train.speed.cpu_layers import chosen_layers, fast_layers
from vlm4vla.train.vqa import Skill, measure_skill

_More = ParamSpec("_More")
_Result = TypeVar("_Result")

VLM = "vlm"
"""The folder inside a language or tokens run that holds the trained VLM."""

CHECKPOINT = "checkpoint"
"""The folder inside a robot run that holds the trained policy."""


INITS = ("vlm", "scratch", "mimetic")
"""Where a policy's weights start: "vlm" has the VLM's, "scratch" random ones as its class draws
them, and "mimetic" those of the start that our tiny VLMs' pretraining had."""


NEW: Final = "random weights"
"""What a language stage starts from that goes on from no other."""


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
        workers: processes that prepare batches; None for one a core beside this one where an
            accelerator does the rest, and none elsewhere.
        start: what its policy starts from, as `identity_of` names it.
    """

    folder: Path
    check_every: int = 0
    track: str | None = None
    device: str | None = None
    compiled: bool = False
    workers: int | None = None
    start: str = ""

    @property
    def preparing(self) -> int:
        """How many processes prepare batches."""
        if self.workers is not None:
            return self.workers
        if (self.device or accelerator()) == "cpu":
            return 0
        return max(1, (os.cpu_count() or 1) - 1)


def alone(run: Run) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes out of a run's folder.

    Of the processes that `accelerate launch` starts, the first one writes, and holds it for all.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    return held(run.folder) if first else contextlib.nullcontext()


def require_one_process(stage: str) -> None:
    """Refuses a stage that several processes cannot divide, before any of them begins it.

    Args:
        stage: as `vlm4vla train` calls it.

    Raises:
        UserError: `accelerate launch` started several.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise UserError(
            f"`vlm4vla train {stage}` trains in one process, and {count} were started.",
            "Start it without `accelerate launch`, which language, grounding, tokens and imitation "
            "can be started with, one at a time.",
        )


def one_at_a_time(
    begin: Callable[Concatenate[Run, _More], _Result],
) -> Callable[Concatenate[Run, _More], _Result]:
    """A way of running whose folder is its own, whoever calls it."""

    @functools.wraps(begin)
    def begun(run: Run, /, *args: _More.args, **kwargs: _More.kwargs) -> _Result:
        with alone(run):
            return begin(run, *args, **kwargs)

    return begun


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


def identity_of(source: Path | str, init: str = "vlm", words: Path | str | None = None) -> str:
    """Which weights a run starts from, the same wherever their folder lies.

    A run that was begun on one machine goes on on another, and one whose folder holds other
    weights by now does not.

    Args:
        source: a checkpoint folder, a VLM folder, a preset or a Hub id.
        init: one of `INITS`; with another than "vlm" the architecture alone is taken over.
        words: the VLM whose tokenizer it reads with; None for its own.

    Returns:
        The first sixteen hexadecimal digits of the SHA-256 of a folder's safetensors, in the
        order of their names, or what has none as it was given; then the init, if not "vlm"; then
        the same digits of what the words are from.
    """
    name = str(source)
    if files := sorted(Path(source).glob("*.safetensors")):
        found = hashlib.sha256()
        for file in files:
            with open(file, "rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
        name = found.hexdigest()[:16]
    begun = name if init == "vlm" else f"{name}, {init}"
    return begun if words is None else f"{begun}, words of {identity_of(words)}"


def start_policy(
    source: Path | str,
    init: str,
    device: str | None,
    query_init: str = "embedding",
    seed: int = 0,
    words: Path | str | None = None,
) -> Policy:
    """The policy that a robot stage starts from.

    Its weights are float32, whatever they were stored in: steps of a usual learning rate are
    smaller than what half precision tells apart.

    Args:
        source: a checkpoint folder, a VLM folder, a preset or a Hub id.
        init: one of `INITS`.
        device: "cpu", "cuda", or None.
        query_init: "embedding" or, as in the paper, "zero"; a checkpoint keeps its own query.
        seed: of new weights, the head's among them.
        words: a VLM whose tokenizer it shall read with; None for its own.

    Raises:
        UserError: the source is not there or does not fit, or its language model cannot have the
            start "mimetic", or the words are of another family.
    """
    policy = _weights_to_start_from(source, init, device, query_init, seed)
    if words is not None:
        take_words(policy.vlm, load_vlm(words, torch.float32, torch.device("cpu")).tokenizer)
    return policy


def _weights_to_start_from(
    source: Path | str, init: str, device: str | None, query_init: str, seed: int
) -> Policy:
    if init == "vlm" and (Path(source) / MANIFEST).is_file():
        return Policy.from_pretrained(source, device, dtype=torch.float32)
    # New weights are drawn on the CPU: a seed's are then the same wherever they learn.
    there = chosen_device(device)
    at_first = there if init == "vlm" else torch.device("cpu")
    weights = "vlm" if init == "vlm" else "scratch"
    vlm = load_vlm(source, torch.float32, at_first, weights, seed=seed)
    if init == "mimetic":
        start_as_pretrained(vlm, seed)
    if init != "vlm":
        forget(vlm)
    vlm.base.to(there)
    with torch.random.fork_rng(devices=[]):
        # Two runs of one seed would else begin with different heads.
        torch.manual_seed(seed)
        return Policy.from_vlm(vlm, action.tiny(), query_init=query_init)


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
