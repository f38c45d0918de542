"""What a link to the app unfurls as, in chats and social networks: title, sentence and picture.

Gradio writes its own name into these tags. They are put in place as a page is served, because
the programs that read them run no scripts.
"""

import contextlib
import functools
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from PIL import Image, ImageDraw, ImageFont
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm4vla.core.episode import Episode
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.live.film import last_picture

NAME: Final = "VLM4VLA"
PITCH: Final = (
    "Turn any vision-language model (VLM) into a robot policy, type a sentence, and watch it act."
)

_SHORT: Final = "a vision-language model moves a robot"

_SIZE: Final = (1200, 630)
"""Of a picture, in pixels: the shape that previews are cut to."""

_ANY: Final = "app"
"""Stands for the picture of the app itself."""

_PICTURE = re.compile(r"/preview/([0-9a-f]{16}|app)\.jpg")
_TAGS = re.compile(r"<meta\b[^>]*\b(?:property|name)=\"(?:og|twitter):[^>]*>\s*", re.DOTALL)
_INK, _PAPER, _GREEN, _ORANGE, _GREY = "#14181f", "#ffffff", "#00664b", "#8f3f00", "#4a4f57"


@dataclass(frozen=True)
class Preview:
    """What is told of a link.

    Attributes:
        title: in one line.
        description: in a sentence or two.
        picture: name of its picture: an episode's id, or `_ANY`.
    """

    title: str
    description: str
    picture: str


class LinkPreview:
    """ASGI middleware for a Gradio app: the tags of its pages, and the pictures that they name.

    Args:
        app: what is served.
        archive: where episodes are looked up.
        recordings: what comes with the app; its oldest episode is the picture of the app.
    """

    def __init__(self, app: ASGIApp, archive: Archive, recordings: Archive) -> None:
        self._app = app
        self._shelves = (archive, recordings)
        self._opening = recordings.oldest_first()[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif asked := _PICTURE.fullmatch(scope["path"].removeprefix(scope.get("root_path", ""))):
            # A film is decoded for it.
            response = await run_in_threadpool(self._draw, asked[1])
            await response(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    def preview(self, query: str) -> Preview:
        """What a link with these query parameters leads to."""
        found = self._find(parse_qs(query).get("run", [""])[0])
        return _of(found) if found else Preview(f"{NAME}: {_SHORT}", PITCH, _ANY)

    def _find(self, run_id: str) -> Episode | None:
        for shelf in self._shelves:
            try:
                return shelf.table.get(run_id)
            except UserError:
                continue
        return None

    def _draw(self, name: str) -> Response:
        episode = self._find(self._opening if name == _ANY else name)
        if episode is None:
            return Response(status_code=404)
        films = (shelf.films.path(episode.id) for shelf in self._shelves)
        film = next((path for path in films if path), None)
        drawn = _drawn(episode if name != _ANY else None, film)
        return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: list[Message] = []
        body: list[bytes] = []

        async def rewrite(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if not headers.get("content-type", "").startswith("text/html"):
                    await send(message)
                    return
                start.append(message)
            elif not start:
                await send(message)
            else:
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    page = self._with_tags(b"".join(body).decode(), Request(scope)).encode()
                    MutableHeaders(raw=start[0]["headers"])["content-length"] = str(len(page))
                    await send(start[0])
                    await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, rewrite)

    def _with_tags(self, page: str, request: Request) -> str:
        told = self.preview(request.url.query)
        picture = f"{request.base_url}preview/{told.picture}.jpg"
        pairs = {
            "og:type": "website",
            "og:site_name": NAME,
            "og:title": told.title,
            "og:description": told.description,
            "og:url": str(request.url),
            "og:image": picture,
            "og:image:width": str(_SIZE[0]),
            "og:image:height": str(_SIZE[1]),
            "og:image:alt": told.title,
            "twitter:card": "summary_large_image",
            "twitter:title": told.title,
            "twitter:description": told.description,
            "twitter:image": picture,
        }
        tags = "".join(
            f'<meta {"name" if name.startswith("twitter") else "property"}="{name}" '
            f'content="{html.escape(value)}" />\n'
            for name, value in pairs.items()
        )
        tags += f'<meta name="description" content="{html.escape(told.description)}" />\n'
        head, found, rest = _TAGS.sub("", page).partition("<head>")
        return f"{head}{found}\n{tags}{rest}" if found else page


def _verdict(episode: Episode) -> tuple[str, str]:
    """The result in a word or two, and its colour."""
    if episode.outcome.success:
        return "success", _GREEN
    if episode.outcome.kind == "not judged":
        return "not judged", _GREY
    return f"not done ({episode.outcome.kind.replace('_', ' ')})", _ORANGE


def _agent(episode: Episode) -> str:
    return " and ".join(span.agent.name or "a policy" for span in episode.agents)


def _of(episode: Episode) -> Preview:
    verdict, _ = _verdict(episode)
    who = _agent(episode)
    return Preview(
        f"“{episode.spec.instruction}”: {verdict} | {NAME}",
        f"{episode.outcome.sentence} {who}, scene {episode.spec.task} {episode.spec.seed}, "
        f"{episode.steps} steps. {PITCH}",
        episode.id,
    )


@functools.lru_cache(maxsize=64)
def _picture(lines: tuple[str, str, str], colour: str, film: Path | None) -> bytes:
    canvas = Image.new("RGB", _SIZE, _PAPER)
    side = 0
    # A film that has made room for another one, or is damaged, leaves the words.
    with contextlib.suppress(UserError):
        if film is not None:
            picture = Image.fromarray(last_picture(film))
            side = _SIZE[1]
            canvas.paste(picture.resize((side, side)), (0, 0))
    draw = ImageDraw.Draw(canvas)
    top, said, below = lines
    left, width = side + 40, _SIZE[0] - side - 80
    draw.text((left, 50), top, fill=_GREY, font=ImageFont.load_default(38))
    size = 54 if len(said) < 70 else 34
    text = _wrapped(draw, said, width, size)
    draw.multiline_text((left, 130), text, fill=_INK, font=ImageFont.load_default(size), spacing=12)
    draw.rectangle((left, 520, left + 14, 580), fill=colour)
    draw.text((left + 32, 528), below, fill=colour, font=ImageFont.load_default(40))
    target = io.BytesIO()
    canvas.save(target, "jpeg", quality=85)
    return target.getvalue()


def _drawn(episode: Episode | None, film: Path | None) -> bytes:
    if episode is None:
        said = "Turn any vision-language model into a robot policy"
        return _picture((NAME, said, "type, and watch it act"), _GREY, film)
    verdict, colour = _verdict(episode)
    said = f"“{episode.spec.instruction}”"
    return _picture((f"{NAME} | {_agent(episode)}", said, verdict), colour, film)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int, size: int) -> str:
    """The text in as many lines as it needs, cut to what fits the height."""
    font, lines = ImageFont.load_default(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    most = 360 // (size + 12)
    return "\n".join(lines[:most]) + ("…" if len(lines) > most else "")
