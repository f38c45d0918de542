"""All pages together, and how they are served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import gradio as gr
from gradio.components import Navbar
from starlette.middleware import Middleware

from pages import about, api, clips, downloads, episode_card, filling, limits, link_preview
from pages.ablations import page as ablations
from pages.compare import page as compare
from pages.encoders import page as encoders
from pages.failures import page as failures
from pages.inspect import page as inspect
from pages.run import page as run
from pages.services import Services
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.episodes.archive import Archive
from vlm4vla.live.simulators import Simulators

RECORDINGS: Final = Path(__file__).resolve().parents[1] / "assets" / "recordings"


class Page(NamedTuple):
    """A page beside Run.

    Attributes:
        name: in the navigation.
        path: of its address.
        build: lays it out in its `gr.Blocks`.
    """

    name: str
    path: str
    build: Callable[[gr.Blocks, Services], None]


PAGES: Final = (
    Page("Inspect", "/inspect", inspect.build),
    Page("Compare", "/compare", compare.build),
    Page("Encoders", "/encoders", encoders.build),
    Page("Failures", "/failures", failures.build),
    Page("Ablations", "/ablations", ablations.build),
    Page("About", "/about", about.build),
)
"""The pages beside Run, in the order of the navigation."""


def build(
    simulators: Simulators,
    catalogue: AgentCatalogue,
    progress: Callable[[], tuple[int, int] | None] = lambda: None,
) -> gr.Blocks:
    """The app.

    Args:
        simulators: where episodes are played.
        catalogue: who can act in them.
        progress: see `pages.filling.build`.
    """
    services = Services(simulators, catalogue, Archive.open(), Archive.bundled(RECORDINGS))
    with gr.Blocks(title="VLM4VLA") as site:
        run.build(site, services)
        api.build(services)
        Navbar(main_page_name="Run")
    for page in PAGES:
        with site.route(page.name, page.path) as blocks:
            Navbar(main_page_name="Run")
            filling.build(blocks, progress)
            page.build(blocks, services)
    return site


def launch_settings() -> dict[str, Any]:
    """What `gr.Blocks.launch` needs to be told, wherever the app is served."""
    limits.believe_proxies()
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
        "css_paths": [
            Path(__file__).parent / "style.css",
            episode_card.STYLE,
            compare.STYLE,
            encoders.STYLE,
            failures.STYLE,
            *inspect.STYLES,
            Path(__file__).parent / "ablations" / "style.css",
        ],
        "head": f"<style>{_beside('header.css')}</style>"
        f"<script>{_beside('header.js')}{_beside('anchor.js')}</script>" + _preload(),
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "state_session_capacity": limits.MOST_SESSIONS,
        "app_kwargs": {
            "middleware": [
                Middleware(limits.Limits),
                Middleware(
                    link_preview.LinkPreview,
                    archive=Archive.open(),
                    recordings=Archive.bundled(RECORDINGS),
                ),
            ],
            "routes": [*downloads.ROUTES, clips.ROUTE],
        },
    }


def _preload() -> str:
    """Has the module of charts fetched early; nothing where this Gradio has none of that name."""
    assets = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    return "".join(
        f"<script>{_beside('preload.js').replace('MODULE', module.name)}</script>"
        for module in sorted(assets.glob("PlotlyPlot-*.js"))
    )


def _beside(name: str) -> str:
    return (Path(__file__).parent / name).read_text()
