"""Serves the app: `python app.py`, on HOST and PORT."""

import os

from vlm4vla.driver import ExpertDriver
from vlm4vla.eval.stage import Stage


def main() -> None:
    """Serves until interrupted."""
    # Gradio reads it when it is imported. Nothing here calls home.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    stage = Stage()
    # The first simulator starts while Gradio is imported.
    stage.open()
    from pages import run, site

    site.build(stage, run.Cast("expert", ExpertDriver)).launch(
        server_name=os.environ.get("HOST", "127.0.0.1"),
        server_port=int(os.environ.get("PORT", "7860")),
        **site.launch_settings(),
    )


if __name__ == "__main__":
    main()
