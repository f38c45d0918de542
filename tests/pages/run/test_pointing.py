"""What is answered when things in the picture are pointed at."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from pages import site
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["red cube"], "pick up the red cube"),
        (["red cube", "green plate"], "put the red cube on the green plate"),
        # Of two that do not go together, the first one counts.
        (["red cube", "the moon"], "pick up the red cube"),
        # A plate cannot be moved, so the sentence stays.
        (["purple plate"], None),
        ([], None),
        ("purple plate", None),
    ],
)
def test_a_sentence_is_written_or_the_old_one_stays(names: Any, sentence: str | None) -> None:
    app = site.build(FakeSimulators(), FakeCatalogue())  # type: ignore[arg-type]
    point = next(block for block in app.fns.values() if block.fn and block.name == "point")
    said = point.fn("place", 3, SimpleNamespace(index=names))  # type: ignore[misc]
    # Gradio refuses an answer that names no component.
    with ThreadPoolExecutor(1) as beside:
        # The browser of other tests keeps an event loop in this thread.
        first, *_ = beside.submit(asyncio.run, app.postprocess_data(point, said, None)).result()
    assert first == (sentence if sentence else gr.skip())
