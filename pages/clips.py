"""Clips for cards: `/clips/ID.mp4` is a clip, or tells when to ask again."""

import weakref
from collections.abc import Callable
from typing import Any, Final

import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pages.limits import address_of
from pages.services import Services
from vlm4vla.episodes.labels import Shown, shown
from vlm4vla.errors import UserError
from vlm4vla.inspection.clip_maker import ClipMaker, TooManyError
from vlm4vla.inspection.clips import EVERY, Clips, moments_of
from vlm4vla.live.session import borrowed
from vlm4vla.suites.registry import SUITES
from vlm4vla.suites.tabletop.suite import NAME

_DRAWER: Final = "clips"
"""Stands in the queue for a simulator like a visitor: clips have one at most."""

_DAY: Final = 86_400

_makers: weakref.WeakKeyDictionary[gr.Blocks, ClipMaker] = weakref.WeakKeyDictionary()


def serve(page: gr.Blocks, services: Services) -> Callable[[], bool]:
    """Has clips drawn for an app.

    Args:
        page: the `gr.Blocks` of the app.
        services: whose simulators draw.

    Returns:
        Whether clips can be drawn, as far as is known when it is called.
    """
    simulators = services.simulators
    _makers[page] = ClipMaker(
        services.archive.table, Clips(), lambda: borrowed(simulators, _DRAWER)
    )
    return lambda: simulators.readiness.status != "unavailable"


def clip_of(one: Shown) -> dict[str, Any] | None:
    """Address of an episode's clip, and at which of its seconds the label's step is to be seen."""
    if one.row.spec.suite != NAME:
        return None
    hz = SUITES.get(NAME).control_hz
    first = moments_of(one.row.steps, one.automatic.step, hz)[0]
    at = (one.automatic.step - first) // EVERY * EVERY / hz
    # The step is there for the browser's cache: other rules may give another one.
    return {"src": f"clips/{one.row.id}.mp4?t={one.automatic.step}", "at": at}


def clip(request: Request) -> Response:
    """A clip; 202 while it is made, 429 for who asks for too many, 204 where there can be none."""
    maker = _makers.get(request.app.get_blocks())
    address = address_of(request.client.host if request.client else None)
    try:
        one = shown(maker.table, request.path_params["key"]) if maker else None
    except UserError as error:
        return PlainTextResponse(str(error), status_code=404)
    if maker is None or one is None or clip_of(one) is None:
        return PlainTextResponse("There is no clip of this episode.", status_code=404)
    try:
        path = maker.ask(one.row.id, one.automatic.step, address)
    except TooManyError as error:
        return JSONResponse({"detail": str(error)}, 429, headers={"Retry-After": "30"})
    except UserError:
        # No mistake of the browser's, which would write one into its console.
        return Response(status_code=204)
    if path is None:
        return PlainTextResponse("", status_code=202, headers={"Retry-After": "1"})
    kept = {"Cache-Control": f"private, max-age={_DAY}"}
    return FileResponse(path, media_type="video/mp4", headers=kept)


ROUTE: Final = Route("/clips/{key}.mp4", clip, methods=["GET"])
