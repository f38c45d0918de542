"""All pages together, and how they are served."""

from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.components import Navbar

from pages import about, api, run
from vlm4vla.eval.cast import Cast
from vlm4vla.eval.stage import Stage
from vlm4vla.eval.store import Store

RECORDINGS: Final = Path(__file__).resolve().parents[1] / "assets" / "recordings"


def build(stage: Stage, cast: Cast) -> gr.Blocks:
    """The app.

    Args:
        stage: where episodes are played.
        cast: who can act in them.
    """
    store = Store()
    with gr.Blocks(title="VLM4VLA") as site:
        run.build(site, stage, cast, store, Store(RECORDINGS))
        api.build(stage, cast, store)
        Navbar(main_page_name="Run")
    with site.route("About", "/about") as page:
        Navbar(main_page_name="Run")
        about.build(page, cast)
    return site


def launch_settings() -> dict[str, Any]:
    """What `gr.Blocks.launch` needs to be told, wherever the app is served."""
    theme = gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    # White on the usual shade of a main button is too faint to read.
    shades = {
        f"button_primary_background_fill{state}{mode}": shade
        for state, shade in (("", "*primary_700"), ("_hover", "*primary_800"))
        for mode in ("", "_dark")
    }
    return {
        "theme": theme.set(**shades),
        "css_paths": Path(__file__).parent / "style.css",
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
    }
