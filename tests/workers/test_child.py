import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.waiting import Output
from tests.workers.processes import gone
from vlm4vla.errors import UserError
from vlm4vla.workers.child import Child


class Counter:
    """Something that lives in a child process."""

    def __init__(self, start: int = 0) -> None:
        if start < 0:
            raise UserError("A counter starts at 0.", "Give another start.")
        self.value = start

    def add(self, number: int, *, twice: bool = False) -> int:
        self.value += number * (2 if twice else 1)
        return self.value

    def refuse(self) -> None:
        raise UserError("Not this.", "Ask for that.")

    def fail(self) -> None:
        raise ValueError("odd")

    def leave(self) -> None:
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)

    def sleep(self) -> None:
        time.sleep(600)

    def later(self, number: int) -> int:
        time.sleep(0.02)
        return number

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def read(self) -> str:
        return sys.stdin.read()

    def shout(self, lines: int) -> int:
        for _ in range(lines):
            print("x" * 1000, file=sys.stderr)
        return lines


def counter(start: int = 0, **options: float) -> Child:
    return Child(partial(Counter, start), "counter", "Count again.", **options)


def test_methods_and_attributes_of_an_object_elsewhere():
    child = counter(5)
    assert child.pid != os.getpid() and child.alive
    assert child.call("add", 2) == 7
    assert child.call("add", 2, twice=True) == 11
    assert child.get("value") == 11
    child.close()
    assert not child.alive and gone(child.pid)
    with pytest.raises(UserError, match="counter's process ended"):
        child.call("add", 1)


def test_a_refusal_crosses_over_and_leaves_the_child_usable():
    child = counter(1)
    with pytest.raises(UserError) as refusal:
        child.call("refuse")
    assert (refusal.value.problem, refusal.value.fix) == ("Not this.", "Ask for that.")
    assert child.call("add", 1) == 2
    child.close()


def test_any_other_error_ends_the_child():
    child = counter()
    with pytest.raises(UserError, match=r"counter failed: ValueError: odd Run `vlm4vla doctor`"):
        child.call("fail")
    assert gone(child.pid)


def test_an_object_that_cannot_be_made_says_why():
    with pytest.raises(UserError) as refusal:
        counter(-1)
    assert (refusal.value.problem, refusal.value.fix) == (
        "A counter starts at 0.",
        "Give another start.",
    )
    with pytest.raises(UserError, match="counter failed: TypeError"):
        Child(partial(Counter, None), "counter", "Count again.")


def test_a_child_that_ends_says_how_with_its_last_words_and_the_remedy():
    child = counter()
    with pytest.raises(UserError, match=r"ended \(exit code 3\)\. last words Count again\."):
        child.call("leave")
    killed = counter()
    os.kill(killed.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"ended \(signal SIGKILL\).*Count again\."):
        killed.call("add", 1)


def test_a_child_that_does_not_answer_in_time_is_ended():
    child = counter(call_timeout=0.3)
    with pytest.raises(UserError, match=r"did not answer for 0 s\. Count again\."):
        child.call("sleep")
    assert not child.alive


def test_it_can_be_ended_in_the_middle_of_a_call():
    child = counter()
    errors: list[UserError] = []

    def wait() -> None:
        try:
            child.call("sleep")
        except UserError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    child.kill()
    waiting.join(10)
    assert not waiting.is_alive() and "SIGKILL" in str(errors[0])


class Interrupted(BaseException):
    """What a signal handler raises."""


def test_who_is_interrupted_while_waiting_leaves_no_answer_behind():
    child = counter()

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(Interrupted):
            child.call("sleep")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not child.alive
    with pytest.raises(UserError, match="counter's process ended"):
        child.call("add", 1)


def test_each_thread_gets_its_own_answer():
    child = counter()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: child.call("later", number), range(40)))
    assert found == list(range(40))
    child.close()


def test_it_computes_with_one_thread_and_reads_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    child = counter()
    assert child.call("environment", "OMP_NUM_THREADS") == "1"
    assert child.call("read") == ""
    # More than a pipe holds: nobody reads it but the parent.
    assert child.call("shout", 300) == 300
    child.close()


PARENT = """
import threading, time
from functools import partial
from tests.workers.test_child import Counter
from vlm4vla.workers.child import Child
def start():
    print(Child(partial(Counter, 1), "counter", "").pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join(60)
input()
"""


def test_a_child_outlives_the_thread_that_asked_for_it_and_not_the_process():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        pid = int(Output(parent).line("", 60))
        assert not gone(pid, 0.5)
    finally:
        parent.kill()
        parent.wait(30)
    assert gone(pid)
