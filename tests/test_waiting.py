"""No test waits without a bound, and a wait that ends in vain says what it saw."""

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import waiting

TESTS = Path(__file__).parent
LISTED = ("run", "check_output", "check_call", "call")
"""Functions of `subprocess` that wait, and take a `timeout`."""


def unbounded(code: str) -> list[str]:
    """The waits in some code that nothing ends: "line: call"."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.For) and ast.unparse(node.iter).endswith((".stdout", ".stderr")):
            found.append(f"{node.lineno}: {ast.unparse(node.iter)}")
        if isinstance(node, ast.comprehension):
            iterated = ast.unparse(node.iter)
            if iterated.endswith((".stdout", ".stderr")):
                found.append(f"{node.iter.lineno}: {iterated}")
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, named = node.func.attr, {keyword.arg for keyword in node.keywords}
        called = ast.unparse(node.func)
        waits = (
            (called in [f"subprocess.{function}" for function in LISTED] and "timeout" not in named)
            or (name in ("wait", "join") and not node.args and not named)
            or (name == "communicate" and "timeout" not in named)
            or (name == "readline" and called.endswith(".stdout.readline"))
        )
        if waits:
            found.append(f"{node.lineno}: {called}")
    return found


def test_every_wait_in_a_test_has_a_bound() -> None:
    assert unbounded("import subprocess\nsubprocess.run(['true'])\n") == ["2: subprocess.run"]
    assert unbounded("next(line for line in process.stdout)") == ["1: process.stdout"]
    assert unbounded("thread.join()\n', '.join(names)\nprocess.wait(timeout=3)") == [
        "1: thread.join"
    ]
    files = [file for file in TESTS.rglob("*.py") if file.name != "waiting.py"]
    assert len(files) > 50
    found = {str(file.relative_to(TESTS)): unbounded(file.read_text()) for file in files}
    assert {file: waits for file, waits in found.items() if waits} == {}


def test_a_wait_in_vain_tells_what_was_seen() -> None:
    seen: list[int] = []
    with pytest.raises(AssertionError, match=r"nothing in 0.05 seconds; seen: \[1"):
        waiting.until(lambda: seen.append(1), 0.05, lambda: seen)
    with pytest.raises(AssertionError, match="no end in 0 seconds; seen: \\['a'\\]"):
        list(waiting.within(0, "abc"))
    stay = threading.Event()
    thread = threading.Thread(target=lambda: stay.wait(30), name="sleeper")
    thread.start()
    with pytest.raises(AssertionError, match="sleeper"):
        waiting.join([thread], 0.01)
    stay.set()
    waiting.join([thread], 30)


@pytest.mark.parametrize(
    "program, complaint",
    [
        ("print('hello')", "ended without 'http://'; said: hello"),
        ("import time; print('hello', flush=True); time.sleep(60)", "seen: hello"),
    ],
)
def test_an_output_without_the_line_fails_with_what_was_said(program: str, complaint: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        said = waiting.Output(process)
        said.line("hello", 30)
        with pytest.raises(AssertionError, match=complaint):
            said.line("http://", 0.5 if "sleep" in program else 30)
    finally:
        process.kill()
        process.wait(30)
