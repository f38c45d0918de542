import errno
import os
import shutil
import subprocess
import sys

import pytest

from vlm4vla.model import swap
from vlm4vla.model.swap import exchange, recover, replacing_folder

KILLED = """
import os, sys
from pathlib import Path
from vlm4vla.model import swap

real, calls = os.replace, []

def killed(*names):
    calls.append(names)
    if len(calls) > int(sys.argv[2]):
        os._exit(9)
    real(*names)

if sys.argv[3] == "renames":
    swap.exchange = lambda one, other: False
os.replace = killed
with swap.replacing_folder(Path(sys.argv[1])) as new:
    (new / "policy.json").write_text("new")
    if sys.argv[3] == "write":
        os._exit(9)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "policy.json").write_text("old")
    return folder


@pytest.fixture
def renames(monkeypatch):
    """A system that cannot exchange."""
    monkeypatch.setattr(swap, "exchange", lambda one, other: False)


def replace(folder, content):
    with replacing_folder(folder) as new:
        (new / "policy.json").write_text(content)


def kill(folder, after, when):
    command = [sys.executable, "-c", KILLED, str(folder), str(after), when]
    assert subprocess.run(command, check=False, timeout=120).returncode == 9


def names(folder):
    return sorted(path.name for path in folder.parent.iterdir())


@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_a_folder_is_made_and_replaced(way, request, tmp_path):
    if way == "renames":
        request.getfixturevalue("renames")
    folder = tmp_path / "deep" / "checkpoint"
    for content in ("first", "second"):
        replace(folder, content)
        assert (folder / "policy.json").read_text() == content
        assert names(folder) == ["checkpoint"]
        assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_an_error_leaves_the_old_folder(way, request, folder):
    if way == "renames":
        request.getfixturevalue("renames")
    with pytest.raises(OSError, match="full"), replacing_folder(folder) as new:
        (new / "policy.json").write_text("half")
        raise OSError(errno.ENOSPC, "full")
    assert (folder / "policy.json").read_text() == "old"
    assert names(folder) == ["checkpoint"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges names")
def test_an_exchange_is_one_step(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    assert exchange(folder, other)
    assert (other / "policy.json").read_text() == "old"
    assert not list(folder.iterdir())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        exchange(folder, tmp_path / "nowhere")


def test_a_system_that_cannot_exchange_says_so(folder, tmp_path, monkeypatch):
    class Old:
        def __init__(self, *args, **kwargs):
            pass

    monkeypatch.setattr(swap.ctypes, "CDLL", Old)
    assert not exchange(folder, tmp_path)
    Old.renameat2 = lambda *args: -1
    monkeypatch.setattr(swap.ctypes, "get_errno", lambda: errno.EINVAL)
    assert not exchange(folder, tmp_path)


def test_killed_between_the_renames_the_old_folder_comes_back(folder):
    kill(folder, after=1, when="renames")
    assert not folder.exists()
    recover(folder)
    assert (folder / "policy.json").read_text() == "old"
    replace(folder, "newer")
    assert (folder / "policy.json").read_text() == "newer"
    assert names(folder) == ["checkpoint"]


def test_after_such_a_kill_the_next_save_needs_no_reading_first(folder):
    kill(folder, after=1, when="renames")
    with pytest.raises(OSError, match="full"), replacing_folder(folder):
        raise OSError("full")
    assert (folder / "policy.json").read_text() == "old"


def test_killed_while_writing_the_remains_go_with_the_next_save(folder):
    kill(folder, after=0, when="write")
    assert len(names(folder)) == 2
    recover(folder)
    assert (folder / "policy.json").read_text() == "old"
    beside = folder.parent / ".checkpoint.notes"
    beside.write_text("mine")
    replace(folder, "new")
    assert names(folder) == [".checkpoint.notes", "checkpoint"]


def test_nothing_is_recovered_over_a_folder_that_is_there(folder):
    kill(folder, after=1, when="renames")
    folder.mkdir()
    recover(folder)
    assert os.listdir(folder) == []
    shutil.rmtree(folder)
    recover(folder.parent / "nowhere" / "checkpoint")
