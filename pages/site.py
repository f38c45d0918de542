"""All pages together, and how they are served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from pages import run
from vlm4vla.driver import Driver
from vlm4vla.eval.stage import Stage


def build(stage: Stage, new_driver: Callable[[], Driver]) -> gr.Blocks:
    """The app.

    Args:
        stage: where episodes are played.
        new_driver: makes the driver of one episode.
    """
    with gr.Blocks(title="VLM4VLA") as site:
        run.build(site, stage, new_driver)
    return site


def launch_settings() -> dict[str, Any]:
    """What `gr.Blocks.launch` needs to be told, wherever the app is served."""
    return {
        "theme": gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        "css_paths": Path(__file__).parent / "style.css",
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
    }
