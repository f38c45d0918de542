"""Puts the episodes of an evaluation into the store that the app reads."""

from collections.abc import Sequence

from vlm4vla.eval.outcome import Happening, judge
from vlm4vla.eval.store import Record, Store
from vlm4vla.eval.trial import Trial
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, sample_scene


def file_trials(store: Store, driver: str, trials: Sequence[Trial]) -> None:
    """Keeps the trials that the store does not hold as an evaluation's yet, without a video.

    Args:
        store: where.
        driver: "expert", or the hash of the checkpoint.
        trials: what happened.

    Raises:
        UserError: the disk is full or not writable.
    """
    kept = set(store.evaluated())
    for trial in trials:
        record = record_of(trial, driver)
        if record.run_id not in kept:
            store.put(record, None, evaluated=True)


def record_of(trial: Trial, driver: str) -> Record:
    """A trial as the record of an episode. The sentence alone tells its condition."""
    scene = sample_scene(LAYOUT_OF_TASK[trial.task], trial.seed)
    goal = next(goal for goal in scene.goals() if str(goal) == trial.goal)
    happenings = [Happening(step, event) for step, event in trial.events]
    outcome = judge(goal, happenings, trial.steps, stopped=False)
    return Record(
        driver=driver,
        task=trial.task,
        seed=trial.seed,
        instruction=trial.instruction,
        condition="",
        goal=trial.goal,
        outcome=outcome.kind,
        sentence=outcome.sentence,
        steps=trial.steps,
        happenings=trial.events,
    )
