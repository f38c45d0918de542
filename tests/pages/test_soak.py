"""Ten minutes of visitors, hostile bodies and nonsense, against a server with its own process."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from pages.limits import UNHEARD_SECONDS
from tests import waiting
from tests.pages.conftest import free_port
from tests.pages.test_crowd import function_index
from tests.pages.test_fuzz import NASTY

SECONDS = 600.0
WARM_UP = 60.0
VISITORS = 20
MOST_MEGABYTES = 100

SERVER = """
import sys
from vlm4vla.system import memory
memory.share_arenas()  # as app.py does
memory.one_allocator()
memory.map_large_blocks()
from pages import site
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
site.build(FakeSimulators(places=2, longest=24), FakeCatalogue()).launch(
    server_name="127.0.0.1", server_port=int(sys.argv[1]), **site.launch_settings()
)
"""

SENTENCE = "lift the orange cylinder"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server, and its process."""
    port = free_port()
    # Each visitor comes through a proxy, and so from an address of its own.
    settings = {
        "FORWARDED_ALLOW_IPS": "127.0.0.1",
        "GRADIO_TEMP_DIR": str(tmp_path / "uploads"),
        "PYTHONUNBUFFERED": "1",
        "VLM4VLA_HOME": str(tmp_path / "home"),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        waiting.Output(process).line(f"http://127.0.0.1:{port}", 180)
        yield f"http://127.0.0.1:{port}/gradio_api/", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


class Visitor:
    """Does one thing after another, good and bad, until the time is over."""

    def __init__(self, url: str, number: int, index: int) -> None:
        self.url, self.number, self.index = url, number, index
        self.rng = random.Random(number)
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def stay(self, until: float) -> None:
        headers = {"x-forwarded-for": f"203.0.113.{self.number}"}
        with httpx.Client(
            base_url=self.url, headers=headers, timeout=60, trust_env=False
        ) as self.client:
            while time.monotonic() < until and not self.wrong:
                what = self.rng.choice(
                    [self.watch, self.leave, self.call, self.forget, self.flood, self.mumble]
                )
                try:
                    what()
                except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                    self.wrong.append(f"{what.__name__}: {error!r}")
                self.done[what.__name__] += 1
                time.sleep(self.rng.uniform(0, 0.5))

    def press_run(self) -> str:
        who = f"{self.number}-{self.rng.getrandbits(60):x}"
        data = ["expert", "pick", 0, SENTENCE, 100, 0]
        body = {"data": data, "fn_index": self.index, "session_hash": who, "trigger_id": None}
        assert self.client.post("queue/join", json=body).status_code == 200
        return who

    def watch(self) -> None:
        """Runs an episode on the page, to its end."""
        last = ""
        with self.client.stream(
            "GET", "queue/data", params={"session_hash": self.press_run()}
        ) as said:
            for line in waiting.within(120, said.iter_lines()):
                last = line or last
                if '"process_completed"' in line:
                    break
        assert '"success":true' in last.replace(" ", ""), last[:300]

    def leave(self) -> None:
        """Starts an episode and does not look, or looks away at once."""
        who = self.press_run()
        if self.rng.random() < 0.5:
            with self.client.stream("GET", "queue/data", params={"session_hash": who}):
                pass

    def call(self) -> None:
        """Runs an episode as a program does."""
        asked = self.client.post("call/run_episode", json={"data": ["pick", 0, SENTENCE, "", 0, 0]})
        assert asked.status_code == 200, asked.text
        event = asked.json()["event_id"]
        with self.client.stream("GET", f"call/run_episode/{event}") as said:
            answer = "\n".join(waiting.within(120, said.iter_lines()))
        assert "event: complete" in answer or "waiting already" in answer, answer[:300]

    def forget(self) -> None:
        """Asks and never comes back for the answer."""
        asked = self.client.post("call/instructions", json={"data": ["pick", 0]})
        assert asked.status_code in (200, 429), asked.text

    def flood(self) -> None:
        """Fifteen megabytes as an event, and as a file."""
        body = b'{"data": ["' + b"a" * 15_000_000 + b'"]}'
        where = self.rng.choice(["call/run_episode", "queue/join", "upload"])
        assert self.client.post(where, content=body).status_code == 413
        small = {"files": ("a.png", b"hello")}
        assert self.client.post("upload", files=small).status_code == 403

    def mumble(self) -> None:
        """Nonsense."""
        given = [v for v in self.rng.choices(NASTY, k=6) if not isinstance(v, bytes)]
        body = json.dumps({"data": given})[: self.rng.choice([None, 5, 20])]
        where = self.rng.choice(
            ["call/run_episode", "call/nobody", "queue/join", "cancel", "run/x"]
        )
        assert self.client.post(where, content=body).status_code < 600


@pytest.mark.long
def test_ten_minutes_of_everything_leave_the_memory_and_a_server_that_answers(
    server: tuple[str, psutil.Process], tmp_path: Path
) -> None:
    url, process = server
    index = function_index("carry_out")
    begin = time.monotonic()
    visitors = [Visitor(url, number, index) for number in range(VISITORS)]
    threads = [
        threading.Thread(target=visitor.stay, args=(begin + SECONDS,)) for visitor in visitors
    ]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    before = process.memory_info().rss
    waiting.join(threads, SECONDS + 300)
    assert [wrong for visitor in visitors for wrong in visitor.wrong] == []
    # What nobody listens to is forgotten first.
    time.sleep(2 * UNHEARD_SECONDS)
    grown = (process.memory_info().rss - before) / 2**20
    done = sum((visitor.done for visitor in visitors), Counter())
    print(f"grown by {grown:.1f} MB from {before / 2**20:.0f} MB; done: {dict(done)}")
    last = Visitor(url, VISITORS, index)
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as last.client:
        last.watch()
        last.call()
    assert min(done[name] for name in ("watch", "leave", "call", "forget", "flood", "mumble")) > 20
    uploads = tmp_path / "uploads"
    assert [path for path in uploads.rglob("*") if path.is_file()] == []
    assert grown < MOST_MEGABYTES
