"""Makes the recordings that come with the app: `python -m vlm4vla.eval.bundle --out FOLDER`."""

import argparse
import shutil
import sys
from pathlib import Path

from vlm4vla import seeds
from vlm4vla.errors import UserError
from vlm4vla.eval.cast import EXPERT, Cast
from vlm4vla.eval.choice import choose
from vlm4vla.eval.instruction import suggestions
from vlm4vla.eval.keep import Kept
from vlm4vla.eval.order import take_order
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.store import Record, Store
from vlm4vla.suites.tabletop.scene import TASKS


def main() -> None:
    """Records, for each task, the first scene whose first suggestion succeeds.

    The first task's episode opens the app. What the folder held before is replaced at the end.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    parser.add_argument(
        "--driver", default="", help=f"a checkpoint by name, or {EXPERT} (default: the app's)"
    )
    parser.add_argument("--tasks", nargs="+", default=["place", "stack", "pick", "push", "reach"])
    parser.add_argument("--tries", type=int, default=20, help="most scenes for a task")
    args = parser.parse_args()
    stage = Stage(places=1)
    stage.open()
    try:
        record_all(stage, Cast(), args.driver, args.tasks, args.tries, args.out)
    except UserError as error:
        print(f"bundle: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        stage.close()


def record_all(
    stage: Stage, cast: Cast, driver: str, tasks: list[str], tries: int, out: Path
) -> None:
    """Records the tasks and replaces what `out` held.

    Args:
        stage: where the episodes are played.
        cast: who can act.
        driver: one of its names, or "" for the first.
        tasks: which; the first one's episode opens the app.
        tries: most scenes for a task.
        out: folder of the recordings.

    Raises:
        UserError: no scene of a task succeeded; `out` is as it was then.
    """
    if unknown := set(tasks) - set(TASKS):
        raise UserError(f"There is no task {min(unknown)!r}.", f"Choose of {', '.join(TASKS)}.")
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    store = Store(new)
    for task in tasks:
        record, tried = _first_success(stage, cast, driver, task, tries, store)
        print(f"{task}: scene {record.seed}, {tried} tried. {record.sentence}", flush=True)
        if task == tasks[0]:
            store.pin(record.run_id)
    shutil.rmtree(out, ignore_errors=True)
    new.replace(out)


def _first_success(
    stage: Stage, cast: Cast, driver: str, task: str, tries: int, store: Store
) -> tuple[Record, int]:
    for tried, seed in enumerate(seeds.TEST[:tries], 1):
        chosen = choose(task, seed)
        sentence = suggestions(chosen.scene, chosen.task)[0]
        order = take_order(cast, task, seed, sentence, driver)
        for moment in order.play(stage, "bundle", store):
            if isinstance(moment, Kept):
                if moment.record.outcome == "success":
                    return moment.record, tried
                store.drop(moment.record.run_id)
    raise UserError(f"No scene of {task!r} succeeded in {tries} tries.", "Try more, or leave it.")


if __name__ == "__main__":
    main()
