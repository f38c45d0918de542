"""The public endpoints: what a page does, for programs."""

import contextlib
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api as gradio_api

from pages.run import Cast, visitor
from vlm4vla.errors import UserError
from vlm4vla.eval.choice import choose
from vlm4vla.eval.instruction import read, suggestions
from vlm4vla.eval.keep import Asked, Kept, keep
from vlm4vla.eval.live import play
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.store import Store


def build(stage: Stage, cast: Cast, store: Store) -> None:
    """Adds the endpoints; call it inside a `gr.Blocks`.

    Args:
        stage: where episodes are played.
        cast: who acts.
        store: where finished episodes are kept.
    """

    def instructions(task: str, scene: int) -> list[str]:
        """Lists one valid instruction for everything that can be done in a scene.

        Args:
            task: reach, pick, push, place or stack.
            scene: number of the scene, 0 to 99,999.
        """
        with _told():
            chosen = choose(task, scene)
            return suggestions(chosen.scene, chosen.task)

    def run_episode(task: str, scene: int, instruction: str, request: gr.Request) -> dict[str, Any]:
        """Has the robot carry out an instruction, and returns what happened.

        Args:
            task: reach, pick, push, place or stack.
            scene: number of the scene, 0 to 99,999.
            instruction: what the robot is told, at most 200 characters.
            request: filled in by Gradio.

        Returns:
            The stored episode: its run id, the outcome, the steps and the events.
        """
        with _told():
            chosen = choose(task, scene)
            reading = read(instruction, chosen.scene)
            if reading.goal is None:
                raise UserError(
                    "The instruction is not understood in this scene.",
                    f"The nearest that is: {reading.nearest}",
                )
            episode = play(
                stage,
                visitor(request),
                cast.new_driver(),
                chosen.scene,
                reading.goal,
                reading.sentence,
            )
            asked = Asked(cast.identity, chosen.task, chosen.scene.seed, reading.sentence)
            for moment in keep(episode, store, asked):
                if isinstance(moment, Kept):
                    return {"run_id": moment.record.run_id, **asdict(moment.record)}
            raise UserError("The episode was ended.", "The same visitor has started another one.")

    shared: dict[str, Any] = {"concurrency_limit": None}
    gradio_api(instructions, api_name="instructions", **shared)
    gradio_api(run_episode, api_name="run_episode", **shared)


@contextlib.contextmanager
def _told() -> Any:
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
