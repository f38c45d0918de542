"""Names of the Hub, against a small Hub on this machine that goes away while it is asked.

A process of its own asks: only there do the Hub's libraries read the address of another Hub.
"""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import make_tiny, save_vlm

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK = """
import json, sys, time, urllib.request
from vlm4vla.errors import UserError
from vlm4vla.model.load import load_vlm

for name in sys.argv[2:]:
    if name == "stop":
        urllib.request.urlopen(sys.argv[1] + "/stop", timeout=10).read()
        continue
    began = time.monotonic()
    try:
        vlm = load_vlm(name, device="cpu")
        found = f"{vlm.family.name} in {vlm.base.dtype}"
    except UserError as error:
        found = [error.problem, error.fix]
    print(json.dumps([found, time.monotonic() - began]))
"""
NAMES = [
    "made/internvl",
    "made/gated",
    "made/missing",
    "made/pickled",
    "made/wordless",
    "made/broken",
    "made/silent",
    "stop",
    "made/internvl",
    "made/pickled",
    "made/other",
]
LACKS = {"made/pickled": "model.safetensors", "made/wordless": "tokenizer.json"}


class Hub(http.server.ThreadingHTTPServer):
    """Serves one model; names say how others are refused."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.ended = threading.Event()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        if self.path == "/stop":
            self.server.shutdown()
            self.server.server_close()
            return self.answer(200)
        if "/tree/" in self.path:
            return self.answer(200, content=b"[]")
        name, _, file = self.path.removeprefix("/").partition("/resolve/main/")
        if name == "made/silent":
            self.server.ended.wait(300)
        if name == "made/broken":
            return self.answer(503)
        if name == "made/gated":
            return self.answer(403, {"X-Error-Code": "GatedRepo"})
        if name == "made/missing" or not file:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        found = self.server.folder / file
        if not found.is_file() or file == LACKS.get(name):
            return self.answer(404, {"X-Error-Code": "EntryNotFound"})
        return self.answer(200, {"ETag": f'"{name}-{file}"'}, found.read_bytes())

    do_GET = do_HEAD

    def answer(self, status, headers=None, content=b""):
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """What came of asking for `NAMES` one after another: `answers`, and what was `printed`."""
    root = tmp_path_factory.mktemp("hub")
    (root / "model").mkdir()
    save_vlm(make_tiny(CORPUS, "internvl"), root / "model")
    hub = Hub(root / "model")
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    hidden = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    known = {key: value for key, value in os.environ.items() if key not in hidden}
    run = subprocess.run(
        [sys.executable, "-c", ASK, hub.url, *NAMES],
        env=known | {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "home"), "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    hub.ended.set()
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(NAMES) - 1, run.stderr
    return SimpleNamespace(answers=answers, printed=run.stderr)


def test_a_model_comes_from_the_hub_and_later_from_the_cache(asked):
    # So small, and it keeps the precision that it is stored in.
    stored = "internvl in torch.float32"
    assert asked.answers[NAMES.index("made/internvl")][0] == stored
    found, seconds = asked.answers[-3]
    assert found == stored
    assert seconds < 5


@pytest.mark.parametrize(
    ("name", "problem", "fix"),
    [
        ("made/gated", "made/gated is gated.", "https://huggingface.co/made/gated"),
        ("made/missing", "The Hub has no public model made/missing.", "Check the name"),
        ("made/pickled", "made/pickled cannot be read: it has no .safetensors weights.", ""),
        ("made/wordless", "made/wordless cannot be read: it has no tokenizer.json.", ""),
    ],
)
def test_what_the_hub_refuses(asked, name, problem, fix):
    found, _ = asked.answers[NAMES.index(name)]
    assert found[0].startswith(problem)
    assert fix in found[1]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("made/broken", NAMES.index("made/broken")),
        ("made/silent", NAMES.index("made/silent")),
        # Half of it is in the cache.
        ("made/pickled", -2),
        ("made/other", -1),
    ],
)
def test_a_hub_that_does_not_answer_costs_seconds(asked, name, place):
    (problem, fix), seconds = asked.answers[place]
    assert problem == f"{name} is not in the local cache and the Hub cannot be reached."
    assert f"hf download {name}" in fix
    assert seconds < 4


def test_the_libraries_log_nothing_beside_our_sentence(asked):
    assert asked.printed == ""
