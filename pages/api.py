"""The public endpoints: what a page does, for programs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.events import api as gradio_api

from pages.run.handlers import address, visitor
from pages.services import Services
from vlm4vla.core.episode import Episode, goal_text
from vlm4vla.errors import UserError, surprises_told
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.request import choose, take_request
from vlm4vla.live.session import Finished, play


def build(services: Services) -> None:
    """Adds the endpoints; call it inside a `gr.Blocks`.

    Args:
        services: what they are built from.
    """
    simulators, catalogue, archive, _ = services

    def drivers() -> list[str]:
        """Lists who can act: checkpoints by name, and the scripted expert. The first is the usual.

        Returns:
            Names for `run_episode`.
        """
        return catalogue.names()

    def instructions(task: str, scene: int) -> list[str]:
        """Lists one valid instruction for everything that can be done in a scene.

        Args:
            task: reach, pick, push, place or stack.
            scene: number of the scene, 0 to 199,999.
        """
        with _told():
            chosen = choose(task, scene)
            return suggestions(chosen.scene, chosen.task)

    def run_episode(
        request: gr.Request,
        task: str,
        scene: int,
        instruction: str,
        driver: str = "",
        most_steps: int = 0,
        execute: int = 0,
    ) -> dict[str, Any]:
        """Has the robot carry out an instruction, and returns what happened.

        Args:
            request: filled in by Gradio.
            task: reach, pick, push, place or stack.
            scene: number of the scene, 0 to 199,999.
            instruction: what the robot is told, at most 200 characters.
            driver: who acts, one of `drivers`; empty for the first of them.
            most_steps: ends the episode after 5 to 100 steps; 0 for the task's own limit.
            execute: actions carried out before the next inference; 0 for as many as usual.

        Returns:
            The stored episode: its run id, the outcome, the steps and the events.
        """
        with _told():
            asked = take_request(catalogue, task, scene, instruction, driver, most_steps, execute)
            if not asked.understood:
                nearest = asked.reading.suggestions[:1]
                raise UserError(
                    f"The expert does not understand the instruction: {asked.reading.sentence}",
                    f"The nearest that is understood: {nearest[0]}" if nearest else "",
                )
            agent = asked.entry.new_agent()
            who, where = visitor(request), address(request)
            for moment in play(simulators, who, agent, asked.spec, archive, asked.told, where):
                if isinstance(moment, Finished):
                    return _told_of(moment.episode)
            raise UserError("The episode was ended.", "The same visitor has started another one.")

    def stored_episode(run_id: str) -> dict[str, Any]:
        """Returns an episode that was run before, here or by `vlm4vla eval`.

        Args:
            run_id: sixteen hexadecimal digits.

        Returns:
            The same as `run_episode`.
        """
        with _told():
            return _told_of(archive.table.get(run_id))

    shared: dict[str, Any] = {"concurrency_limit": None}
    for endpoint in (drivers, instructions, run_episode, stored_episode):
        gradio_api(endpoint, api_name=endpoint.__name__, **shared)


def _told_of(episode: Episode) -> dict[str, Any]:
    spec = episode.spec
    return {
        "run_id": episode.id,
        "driver": episode.agent.digest,
        "task": spec.task,
        "seed": spec.seed,
        "instruction": spec.instruction,
        "condition": spec.condition.label,
        "goal": goal_text(episode),
        "outcome": episode.outcome.kind,
        "sentence": episode.outcome.sentence,
        "steps": episode.steps,
        "happenings": [[event.step, event.name] for event in episode.events],
        "reading": dict(episode.reading),
    }


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        with surprises_told("The call"):
            yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
