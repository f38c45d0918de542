"""What the app takes over HTTP: small events, no files, and a share of its memory for each address.

Gradio has no bound on the length of an event, takes files from anybody, and keeps the result of
an event until somebody asks for it.
"""

import asyncio
import ipaddress
import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm4vla.system import memory

LARGEST_EVENT: Final = 4_096
"""Bytes of the largest event that a page or a program has a reason to send.

The page's Run with an instruction of 200 emoji, each of which JSON writes in 12 bytes, and all
else at its longest; `tests/pages/test_limits.py` measures it.
"""

MOST_BYTES: Final = 2 * LARGEST_EVENT
"""A longer body is refused with 413."""

MOST_SESSIONS: Final = 150
"""Sessions whose state Gradio may keep, 330 kB each; it would keep 10,000. A page that was used
before so many others begins anew at its next event."""

MOST_EVENTS: Final = 256
"""Events of one address whose results nobody has fetched; a class behind one address has room."""

UNHEARD_SECONDS: Final = 30.0
"""How long the events of a page that does not listen are kept; a page listens at once."""

UNFETCHED_SECONDS: Final = 600.0
"""How long a program may take to fetch the result of a call."""

_DRAINED: Final = 64 * 2**20
_READ_SECONDS: Final = 60.0
_TAKEN = re.compile(r"/gradio_api/(queue/join|(call(/v2)?|run|api)/[^/]+|cancel|reset|mcp(/.*)?)/?")
_CALL = re.compile(r"/gradio_api/call(?:/v2)?/[^/]+/?")
_RESULT = re.compile(r"/gradio_api/call(?:/v2)?/[^/]+/([^/]+)")
_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)/?")


def address_of(host: str | None) -> str:
    """Whom an event is counted for: an IPv4 address, or the /64 network that one IPv6 line has.

    Args:
        host: the client's host, as `scope["client"]` or Gradio's `request.client` has it; see
            `believe_proxies` for the addresses that a proxy forwards.
    """
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def believe_proxies() -> None:
    """Lets `FORWARDED_ALLOW_IPS` alone say whose forwarded addresses are true.

    Call it before serving. It is the setting of uvicorn, which serves the app and puts a
    forwarded address in the place of a proxy's: addresses and networks, separated by commas.
    Without it uvicorn believes every program on this machine; here nobody is believed. A Space can
    be reached through its proxy only, which has an address in 10.0.0.0/8.
    """
    default = "10.0.0.0/8" if "SPACE_ID" in os.environ else ""
    os.environ.setdefault("FORWARDED_ALLOW_IPS", default)


@dataclass
class _Session:
    """Events of one stream of results.

    Attributes:
        address: whose they are.
        keep: seconds that they are kept while nobody listens.
        since: when the last event came or the last listener left, on the monotonic clock.
        names: events by whose own name its results may be asked for as well.
        events: how many came since somebody listened last.
        listeners: how many streams are open.
    """

    address: str
    keep: float
    since: float = field(default_factory=time.monotonic)
    events: int = 0
    listeners: int = 0
    names: set[str] = field(default_factory=set)


class Limits:
    """ASGI middleware for a Gradio app.

    - A body longer than `most_bytes` gets 413, one that does not come to its end 408.
    - A POST that is no event, such as an upload, gets 403, and an event that Gradio cannot make
      sense of 400.
    - An address with `most_events` results that nobody fetches gets 429.
    - Results that nobody fetches are forgotten, and with them what Gradio keeps of a session whose
      page is closed.

    Args:
        app: what is served.
        most_bytes: the longest body, in bytes.
        most_events: how many results of one address may wait.
        unheard_seconds: how long those wait that belong to a page.
        unfetched_seconds: how long those wait that a program has called for.
    """

    def __init__(
        self,
        app: ASGIApp,
        most_bytes: int = MOST_BYTES,
        most_events: int = MOST_EVENTS,
        unheard_seconds: float = UNHEARD_SECONDS,
        unfetched_seconds: float = UNFETCHED_SECONDS,
    ) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._most_events = most_events
        self._unheard_seconds = unheard_seconds
        self._unfetched_seconds = unfetched_seconds
        self._sessions: dict[str, _Session] = {}
        self._by_event: dict[str, _Session] = {}
        # A page that is open holds a connection for nothing but that.
        self._open_pages: Counter[str] = Counter()
        self._sweeping: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif heartbeat := _HEARTBEAT.fullmatch(_path(scope)):
            await self._stay(heartbeat[1], scope, receive, send)
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._listen(scope, receive, send)
        else:
            await self._take(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                body = await _read(receive, self._most_bytes)
        except TimeoutError:
            await _refuse(408, "The body of the request did not come.")(scope, receive, send)
            return
        if body is None:
            refusal = f"An event has at most {self._most_bytes:,} bytes here."
            await _refuse(413, refusal)(scope, receive, send)
            return
        path = _path(scope)
        if not _TAKEN.fullmatch(path):
            await _refuse(403, "This app takes events and no files.")(scope, receive, send)
            return
        event = path.startswith("/gradio_api/queue/join") or bool(_CALL.fullmatch(path))
        address = _address(scope)
        if event and self._waiting()[address] >= self._most_events:
            refusal = f"{self._most_events} results of this address wait to be fetched already."
            await _refuse(429, refusal)(scope, receive, send)
            return
        answer: list[bytes] = []
        told = [0]

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                told[0] = message["status"]
            elif event:
                answer.append(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, _again(body, receive), note)
        # Gradio raises what it likes over an event that names no function or is not UTF-8.
        except Exception as error:
            if told[0]:
                raise
            print(f"limits.py: {path}: {type(error).__name__}: {error}", file=sys.stderr)
            await _refuse(400, "This is no event of this app.")(scope, receive, send)
            return
        if event and told[0] == 200:
            self._remember(scope, address, _text(body, "session_hash"), b"".join(answer))

    def _waiting(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for session in self._sessions.values():
            counted[session.address] += session.events
        return counted

    def _remember(self, scope: Scope, address: str, stream: str | None, answer: bytes) -> None:
        # An event without a session of its own has a stream with its own name.
        event = _text(answer, "event_id")
        name = stream or event
        if event is None or name is None:
            return
        keep = self._unheard_seconds if stream else self._unfetched_seconds
        session = self._sessions.setdefault(name, _Session(address, keep))
        session.since = time.monotonic()
        if not session.listeners:
            session.events += 1
            session.names.add(event)
            self._by_event[event] = session
        self._start_sweeping(scope)

    def _start_sweeping(self, scope: Scope) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep(scope["app"]))

    async def _stay(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._open_pages[name] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open_pages -= Counter([name])
            session = _Session(_address(scope), self._unheard_seconds)
            self._sessions.setdefault(name, session).since = time.monotonic()
            self._start_sweeping(scope)

    async def _listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _stream(scope) or ""
        session = self._sessions.get(name) or self._by_event.get(name)
        if session is None:
            await self._app(scope, receive, send)
            return
        session.listeners += 1
        session.events = 0
        try:
            await self._app(scope, receive, send)
        finally:
            session.listeners -= 1
            session.since = time.monotonic()
            # What was fetched need not be kept for long.
            session.keep = self._unheard_seconds

    async def _sweep(self, app: Any) -> None:
        pause = min(self._unheard_seconds, self._unfetched_seconds) / 4
        while self._sessions:
            await asyncio.sleep(pause)
            now = time.monotonic()
            before = len(self._sessions)
            for name, session in list(self._sessions.items()):
                if not session.listeners and now - session.since > session.keep:
                    del self._sessions[name]
                    for event in session.names:
                        del self._by_event[event]
                    await _forget(app, name)
                    if name not in self._open_pages:
                        app.state_holder.session_data.pop(name, None)
                        app.state_holder.time_last_used.pop(name, None)
            if len(self._sessions) < before:
                memory.give_back()


async def _forget(app: Any, name: str) -> None:
    """Drops what Gradio keeps for a stream of results, as it does itself when one is cut off."""
    queue = app.get_blocks()._queue
    queue.pending_messages_per_session.pop(name, None)
    await queue.clean_events(session_hash=name)
    queue.pending_event_ids_session.pop(name, None)


async def _read(receive: Receive, most: int) -> bytes | None:
    """The body of a request; None if it is too long.

    A body that is too long is read and thrown away, so that its sender hears why: who is cut off
    in the middle of sending may never read the answer. There is an end to that, too.
    """
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        length += len(message.get("body", b""))
        if length > most:
            parts.clear()
        else:
            parts.append(message.get("body", b""))
        if not message.get("more_body", False) or length > _DRAINED:
            break
    return None if length > most else b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read already, then goes on."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refuse(status: int, detail: str) -> JSONResponse:
    # Gradio's page shows what stands under this name.
    return JSONResponse({"detail": detail}, status_code=status)


def _address(scope: Scope) -> str:
    return address_of((scope.get("client") or ("",))[0])


def _path(scope: Scope) -> str:
    path = str(scope["path"])
    return path.removeprefix(str(scope.get("root_path", "")))


def _stream(scope: Scope) -> str | None:
    """The name of the stream of results that a request listens to."""
    path = _path(scope)
    if result := _RESULT.fullmatch(path):
        return result[1]
    if path.rstrip("/") == "/gradio_api/queue/data":
        found = re.search(rb"(?:^|&)session_hash=([^&]*)", scope.get("query_string", b""))
        return found[1].decode("latin-1") if found else None
    return None


def _text(document: bytes, name: str) -> str | None:
    """A text in a JSON object; None if it is not there."""
    try:
        value = json.loads(document)
    except ValueError:
        return None
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None
