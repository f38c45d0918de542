"""Several processes on one table, and one that is killed while it writes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests import waiting
from tests.episodes.examples import content, example
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable

WRITER = """
import sys
from pathlib import Path
from tests.episodes.examples import EVALUATION, example
from vlm4vla.episodes.table import EpisodeTable
table = EpisodeTable(Path(sys.argv[1]))
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    table.put(example(seed), [EVALUATION])
    print(seed, flush=True)
"""

READER = """
import sys
from pathlib import Path
from tests.episodes.examples import content, example
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.rates import rates
from vlm4vla.episodes.table import EpisodeTable
table = EpisodeTable(Path(sys.argv[1]))
before = -1
while before < int(sys.argv[2]):
    count = table.count(Filter(kind="evaluation", name="reported"))
    assert count >= before, (count, before)
    assert all(row.rate.n >= count for row in rates(table))
    for row in table.query(limit=3):
        assert content(table.get(row.id)) == content(example(row.spec.seed))
    before = count
print(before)
"""


def start(program: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_two_processes_write_what_a_third_one_reads(tmp_path: Path) -> None:
    # None of them finds a table: who comes first makes it.
    running = [
        start(WRITER, tmp_path, 0, 60),
        start(WRITER, tmp_path, 40, 100),
        start(READER, tmp_path, 100),
    ]
    done = [one.communicate(timeout=120) for one in running]
    assert [one.returncode for one in running] == [0, 0, 0], done
    assert done[2][0] == "100\n"
    table = EpisodeTable(tmp_path)
    assert {row.spec.seed for row in table.query()} == set(range(100))
    assert table.count(Filter(current=True)) == 100


def test_kill_9_of_a_writer_loses_nothing_that_was_put(tmp_path: Path) -> None:
    running = start(WRITER, tmp_path, 0, 100_000)
    said = waiting.Output(running)
    waiting.until(lambda: len(said.lines) >= 25, 120, lambda: said.lines)
    os.kill(running.pid, signal.SIGKILL)
    put = [int(line) for line in said.end(60)]
    assert running.wait(60) == -signal.SIGKILL
    table = EpisodeTable(tmp_path)
    found = {row.spec.seed for row in table.query(limit=100_000)}
    assert found >= set(put)
    assert len(found) - len(put) <= 1, "the one that was put when it was killed"
    for seed in found:
        assert content(table.get(example(seed).id)) == content(example(seed))
    with table.database.writing() as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    table.put(example(200_000))
    assert table.count() == len(found) + 1


def test_a_child_does_not_use_its_parent_s_connections(tmp_path: Path) -> None:
    table = EpisodeTable(tmp_path)
    table.put(example(1))
    assert table.count() == 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            table.put(example(2))
            status = 0 if table.count() == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    table.put(example(3))
    assert table.count() == 3
