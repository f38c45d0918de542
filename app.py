"""Serves the app: `python app.py [--mcp]`, on HOST and PORT."""

import argparse
import functools
import importlib.util
import io
import os
import sys
import threading
from typing import Final

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.eval.filling import Filling
from vlm4vla.live.simulators import Simulators
from vlm4vla.system import address, memory

FIRST_PAGE_SECONDS: Final = 5.0
"""What is not needed for a first page waits so long after the server's start. Whoever presses Run
before does not wait: a policy is loaded when it is first asked for."""


def main() -> None:
    """Serves until interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # To a pipe, as under systemd or in a container, the address would come when the app ends.
        sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mcp",
        action="store_true",
        default=os.environ.get("MCP", "") not in ("", "0"),
        help="offer the endpoints as MCP tools, too (also MCP=1); needs the extra gradio[mcp]",
    )
    mcp = parser.parse_args().mcp
    if mcp and importlib.util.find_spec("mcp") is None:
        print(
            "app.py: MCP tools need the package mcp, which is not installed. "
            f"Run `{sys.executable} -m pip install 'gradio[mcp]'`, or start without --mcp.",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        host, port = address.chosen(os.environ)
    except UserError as error:
        print(f"app.py: {error}", file=sys.stderr)
        sys.exit(2)
    memory.share_arenas()
    memory.one_allocator()
    memory.map_large_blocks()
    # Gradio reads it when it is imported. Nothing here calls home.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # The simulators need the other cores, and `vlm4vla eval` computes with one thread, too: the
    # same sums in the same order, so the same episode.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        table = Archive.open().table
        # Pages are served before anything is brought in, and read no table of an earlier version.
        table.database.upgrade()
        table.database.read_ahead()
        filling = Filling()
    except UserError as error:
        print(f"app.py: {error}", file=sys.stderr)
        sys.exit(2)
    simulators, catalogue = Simulators(), AgentCatalogue()
    # The first simulator starts while Gradio is imported.
    simulators.open()
    from pages import site

    blocks = site.build(simulators, catalogue, filling.progress)
    blocks.launch(
        server_name=host,
        server_port=port,
        mcp_server=mcp,
        prevent_thread_lock=True,
        **site.launch_settings(),
    )
    # Not at once: torch takes seconds to import, and the first page shows a film without it.
    for work in (catalogue.warm, functools.partial(_fill, filling)):
        later = threading.Timer(FIRST_PAGE_SECONDS, work)
        later.daemon = True
        later.start()
    blocks.block_thread()


def _fill(filling: Filling) -> None:
    """Brings earlier and shipped episodes in and labels them, while the app is served already."""
    try:
        filling.carry_out()
    except UserError as error:
        print(f"app.py: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
