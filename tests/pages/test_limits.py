"""What the app refuses over HTTP, against a small app that is served on this machine."""

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.events import api as gradio_api
from starlette.middleware import Middleware

from pages import limits
from pages.limits import LARGEST_EVENT, Limits, address_of
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import free_port, serve
from tests.waiting import until, within


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[tuple[gr.Blocks, httpx.Client]]:
    """An app with one endpoint, `twice`, and a client of it."""

    def twice(text: str) -> str:
        """Says it twice."""
        return text * 2

    with gr.Blocks() as app:
        gradio_api(twice, api_name="twice", concurrency_limit=None)
    limits.believe_proxies()
    port = free_port()
    app.launch(
        server_name="127.0.0.1",
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(Limits, **settings)]},
    )
    url = f"http://127.0.0.1:{port}/gradio_api/"
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield app, client
    finally:
        app.close()


def ask(client: httpx.Client, text: str = "a", **more: Any) -> httpx.Response:
    return client.post("call/twice", json={"data": [text]}, **more)


def result(client: httpx.Client, event: str) -> str:
    with client.stream("GET", f"call/twice/{event}") as answer:
        return "\n".join(within(60, answer.iter_lines()))


def kept(app: gr.Blocks) -> int:
    """How many streams of results Gradio holds."""
    queue = app._queue
    return len(queue.pending_messages_per_session) + len(queue.pending_event_ids_session)


def test_an_event_is_answered_and_one_that_is_too_long_is_refused_with_413() -> None:
    with served(most_bytes=1000) as (_, client):
        envelope = len(json.dumps({"data": [""]}))
        assert '"aaaa"' in result(client, ask(client, "aa").json()["event_id"])
        # httpx writes JSON without spaces.
        longest = "a" * (1000 - envelope + 1)
        assert ask(client, longest).status_code == 200
        refused = ask(client, longest + "a")
        assert refused.status_code == 413
        assert refused.json() == {"detail": "An event has at most 1,000 bytes here."}
        # Of fifteen megabytes the sender still hears the answer, and so it does without a length.
        assert ask(client, "a" * 15_000_000).status_code == 413
        pieces = (b"a" * 100_000 for _ in range(150))
        assert client.post("call/twice", content=pieces).status_code == 413
        assert client.post("queue/join", content=b"a" * 1001).status_code == 413
        assert '"aa"' in result(client, ask(client).json()["event_id"])


def test_an_event_that_makes_no_sense_is_refused_in_a_sentence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with served() as (_, client):
        joined = {"data": [], "fn_index": -1, "session_hash": "a"}
        for refused in (
            client.post("queue/join", json=joined),
            client.post("queue/join", json=joined | {"fn_index": 10**9}),
            client.post("call/twice", content=b'{"data": ["\xff"]}'),
            client.post("call/twice", content=b"\x1f\x8b\x08\x00", headers={"x-a": "gzip"}),
        ):
            assert refused.status_code == 400, refused.text
            assert refused.json() == {"detail": "This is no event of this app."}
        for path in ("call/none", "call/__init__", "queue/join"):
            assert 400 <= client.post(path, json=[1]).status_code < 500
        assert '"aa"' in result(client, ask(client).json()["event_id"])
    assert "Traceback" not in capfd.readouterr().err


def test_files_are_refused_and_none_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with served() as (_, client):
        for address in ("upload", "upload/", "upload?upload_id=1", "component_server", "stream/x"):
            refused = client.post(address, files={"files": ("a.txt", b"hello")})
            assert refused.status_code == 403, address
            assert refused.json() == {"detail": "This app takes events and no files."}
        assert client.put("call/twice", json={"data": ["a"]}).status_code == 405
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_address_cannot_leave_more_than_its_share_behind() -> None:
    with served(most_events=3) as (_, client):
        events = [ask(client).json()["event_id"] for _ in range(3)]
        refused = ask(client)
        assert refused.status_code == 429
        assert "3 results of this address wait to be fetched" in refused.json()["detail"]
        # A forged header makes nobody somebody else.
        assert ask(client, headers={"x-forwarded-for": "203.0.113.9"}).status_code == 429
        assert '"aa"' in result(client, events[0])
        assert ask(client).status_code == 200


def test_forwarded_addresses_count_where_a_proxy_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.0/8")
    with served(most_events=1) as (_, client):
        for visitor in ("203.0.113.9", "203.0.113.10", "2001:db8:0:1::1", "2001:db8:0:2::1"):
            assert ask(client, headers={"x-forwarded-for": visitor}).status_code == 200
        same_line = {"x-forwarded-for": "2001:db8:0:1:ffff::2"}
        assert ask(client, headers=same_line).status_code == 429
        # The proxy writes the address that it saw last; what stands before is the visitor's word.
        forged = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}
        assert ask(client, headers=forged).status_code == 429


def test_results_that_nobody_fetches_are_forgotten() -> None:
    with served(unfetched_seconds=0.4, unheard_seconds=0.4) as (app, client):
        for index in range(20):
            assert ask(client, "a" * 5000).status_code == 200
            joined = {"data": ["a"], "fn_index": 0, "session_hash": f"s{index}"}
            assert client.post("queue/join", json=joined).status_code == 200
        assert kept(app) > 0
        until(lambda: kept(app) == 0, 30, lambda: kept(app))
        assert app._queue.event_ids_to_events == {}
        assert '"aa"' in result(client, ask(client).json()["event_id"])


def test_the_state_of_a_session_goes_with_its_page() -> None:
    with served(unfetched_seconds=0.3, unheard_seconds=0.3) as (app, client):
        states = app.state_holder.session_data
        joined = {"data": ["a"], "fn_index": 0}
        with client.stream("GET", "heartbeat/open"):
            for name in ("open", "none"):
                body = joined | {"session_hash": name}
                assert client.post("queue/join", json=body).status_code == 200
            ask(client)
            # An open page may be idle for as long as it likes.
            until(lambda: kept(app) == 0 and set(states) == {"open"}, 30, lambda: set(states))
            time.sleep(1.0)
            assert set(states) == {"open"}
        until(lambda: not states, 30, lambda: set(states))


@pytest.mark.parametrize("named", [True, False])
def test_who_listens_is_never_forgotten(named: bool) -> None:
    waited = 1.5

    def slow(text: str) -> str:
        """Answers after it would have been forgotten."""
        time.sleep(waited)
        return text

    with served(unfetched_seconds=0.2, unheard_seconds=0.2) as (app, client):
        for function in app.fns.values():
            function.fn = slow
        body = {"data": ["a"]} | ({"session_hash": "mine"} if named else {})
        event = client.post("call/twice", json=body).json()["event_id"]
        assert '["a"]' in result(client, event)
        until(lambda: kept(app) == 0, 30, lambda: kept(app))


def test_thirty_calls_at_once_are_all_answered() -> None:
    with served() as (_, client), ThreadPoolExecutor(30) as pool:
        events = [
            answer.json()["event_id"] for answer in pool.map(lambda _: ask(client), range(30))
        ]
        answers = list(pool.map(lambda event: result(client, event), events))
    assert ['"aa"' in answer for answer in answers] == [True] * 30


@pytest.mark.parametrize(
    "host, address",
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_is_a_line_not_one_of_its_many_numbers(host: str | None, address: str) -> None:
    assert address_of(host) == address


def test_only_a_space_has_a_proxy_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def believed(**settings: str) -> str:
        for name in ("SPACE_ID", "FORWARDED_ALLOW_IPS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        limits.believe_proxies()
        return limits.os.environ["FORWARDED_ALLOW_IPS"]

    assert believed() == ""
    assert believed(SPACE_ID="someone/robot") == "10.0.0.0/8"
    assert believed(SPACE_ID="someone/robot", FORWARDED_ALLOW_IPS="192.0.2.1") == "192.0.2.1"


def test_the_app_itself_has_these_limits() -> None:
    simulators: Any = FakeSimulators()
    with (
        serve(simulators, FakeCatalogue()) as url,
        httpx.Client(base_url=url + "gradio_api/", timeout=60, trust_env=False) as client,
    ):
        body = json.dumps({"data": ["a" * limits.MOST_BYTES]}).encode()
        assert client.post("call/run_episode", content=body).status_code == 413
        assert client.post("upload", files={"files": ("a.txt", b"hello")}).status_code == 403
        assert client.post("call/instructions", json={"data": ["pick", 0]}).status_code == 200


def test_the_largest_event_is_measured(run_page: Any) -> None:
    """Nothing that the page sends is refused, and the bound is not wider than it has to be."""
    sent: list[int] = []
    answers: list[int] = []
    run_page.on("request", lambda asked: sent.append(len(asked.post_data_buffer or b"")))
    run_page.on("response", lambda answer: answers.append(answer.status))
    longest = "🤖" * 200
    for press in ("#new-scene", "#run"):
        run_page.fill("#instruction textarea", longest)
        with run_page.expect_request(lambda asked: "/queue/join" in asked.url):
            run_page.locator(press).first.click()
    arguments = ["stack", 199_999, longest, "a-checkpoint-with-a-rather-long-name" * 3, 100, 100]
    # Python writes each of these signs in twelve bytes.
    sent.append(len(json.dumps({"data": arguments, "session_hash": "a" * 64})))
    assert LARGEST_EVENT / 2 <= max(sent) <= LARGEST_EVENT, sorted(sent)[-5:]
    assert max(answers) < 400
