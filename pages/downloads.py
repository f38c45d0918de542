"""What a browser fetches by itself: failures as CSV or JSON lines, kept films, a moved object."""

from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.eval.labelling import Query, as_csv, as_jsonl, summarise
from vlm4vla.representations.drag import FILE
from vlm4vla.representations.results import SHIPPED

_FORMS: Final = {"csv": (as_csv, "text/csv"), "jsonl": (as_jsonl, "application/jsonl")}


def failures(request: Request) -> Response:
    """The episodes of a question, streamed: `/failures.csv` or `/failures.jsonl`."""
    form = request.path_params["form"]
    if form not in _FORMS:
        return PlainTextResponse("There is failures.csv and failures.jsonl.", status_code=404)
    table = Archive.open().table
    try:
        found = summarise(table, Query.from_address(request.query_params))
    except UserError as error:
        return PlainTextResponse(str(error), status_code=503)
    lines, kind = _FORMS[form]
    name = {"Content-Disposition": f'attachment; filename="failures.{form}"'}
    return StreamingResponse(lines(table, found), media_type=kind, headers=name)


def film(request: Request) -> Response:
    """A film that is kept: `/films/ID.mp4`."""
    path = Archive.open().films.path(request.path_params["key"])
    if path is None:
        return PlainTextResponse("No film of this episode is kept.", status_code=404)
    return FileResponse(path, media_type="video/mp4")


def drag(request: Request) -> Response:
    """What layers make of an object that is moved: `/representations/drag.json`."""
    if not (SHIPPED / FILE).is_file():
        return PlainTextResponse("No object has been moved here.", status_code=404)
    return FileResponse(SHIPPED / FILE, media_type="application/json")


ROUTES: Final = [
    Route("/failures.{form}", failures, methods=["GET"]),
    Route("/films/{key}.mp4", film, methods=["GET"]),
    Route("/representations/drag.json", drag, methods=["GET"]),
]
"""For `app_kwargs`."""
