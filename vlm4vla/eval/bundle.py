"""Makes the recordings that come with the app: `python -m vlm4vla.eval.bundle --out FOLDER`."""

import argparse
from pathlib import Path
from typing import Final

from vlm4vla.driver import ExpertDriver
from vlm4vla.errors import UserError
from vlm4vla.eval.choice import choose
from vlm4vla.eval.instruction import read
from vlm4vla.eval.keep import Asked, Kept, keep
from vlm4vla.eval.live import play
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.store import Store
from vlm4vla.sim.instructions import Task

EPISODES: Final[tuple[tuple[Task, int, str], ...]] = (
    ("place", 0, "put the yellow ball in the red bowl"),
)
"""Task, seed and sentence of each; the first plays when the app is opened."""


def main() -> None:
    """Plays every episode with the scripted expert and stores it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    store = Store(parser.parse_args().out)
    stage = Stage(places=1)
    stage.open()
    for task, seed, instruction in EPISODES:
        scene = choose(task, seed).scene
        goal = read(instruction, scene).goal
        if goal is None:
            raise UserError(f"{instruction!r} is not valid in scene {seed} of {task!r}.")
        moments = play(stage, "bundle", ExpertDriver(), scene, goal, instruction)
        for moment in keep(moments, store, Asked("expert", task, seed, instruction)):
            if isinstance(moment, Kept):
                print(moment.record.run_id, moment.record.sentence, len(moment.video))
    stage.close()


if __name__ == "__main__":
    main()
