"""The Run page: pick a scene, type a sentence, watch the robot."""

from dataclasses import replace
from typing import Any, Final

import gradio as gr

from pages.run import moments
from pages.run.handlers import GETTING_READY, Handlers
from pages.run.layout import lay_out
from pages.services import Services
from vlm4vla.live.request import choose

_IN_ADDRESS: Final = """(map) => {
  const url = new URL(location.href);
  if (map) url.searchParams.set('map', map);
  else url.searchParams.delete('map');
  history.replaceState(history.state, '', url);
  return map;
}"""
"""Writes which map is shown into the address."""


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out and says what happens at which event.

    Args:
        page: the `gr.Blocks` that it is built in.
        services: what it is built from; the oldest recording opens the page.
    """
    simulators, catalogue, archive, recordings = services
    opening = recordings.table.get(recordings.oldest_first()[0])
    film = recordings.films.path(opening.id)
    assert film is not None, "every recording has a film"
    first = choose(opening.spec.task, opening.spec.seed)
    seen = recordings.films.seen(opening.id)
    shown = replace(moments.recording(opening, film, seen, first.scene), note=GETTING_READY)
    parts = lay_out(
        shown,
        first,
        catalogue,
        [recordings.table.get(run_id).spec.instruction for run_id in recordings.oldest_first()],
    )
    on = Handlers(parts, simulators, catalogue, archive, recordings, opening.id)
    # A newer click replaces the episode before it, so clicks must not wait for each other.
    streaming: dict[str, Any] = {
        "outputs": parts.written(),
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    scene = [parts.task, parts.seed, parts.instruction]
    gr.on([parts.task.input, parts.seed.input], on.show_scene, [*scene, parts.scene], **streaming)
    private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # Only the newest of the sentences that are typed matters.
    parts.reading.input(on.understand, scene, parts.reading, trigger_mode="always_last", **private)
    parts.live.select(
        on.point,
        [parts.task, parts.seed],
        [parts.instruction, parts.reading, parts.complaint, parts.proposal, parts.proposed],
        **private,
    )
    parts.another.click(on.draw_scene, [parts.task, parts.instruction], **streaming)
    gr.on(
        [parts.run.click, parts.instruction.submit],
        on.carry_out,
        parts.order(parts.instruction),
        **streaming,
    )
    parts.chips.click(on.run_offered, parts.order(parts.chips), **streaming)
    parts.proposal.click(on.run_offered, parts.order(parts.proposed), **streaming)
    parts.recorded.click(on.show_recorded, parts.recorded, **streaming)
    parts.blind.click(on.blind, queue=False, api_visibility="private")
    parts.swap.click(on.swap, queue=False, api_visibility="private")
    parts.map.input(on.choose_map, parts.map, js=_IN_ADDRESS, queue=False, api_visibility="private")
    parts.elsewhere.click(on.run_elsewhere, parts.asked, **streaming)
    parts.stop.click(on.stop, queue=False, api_visibility="private")
    page.load(on.first_sight, **streaming)
