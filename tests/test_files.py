import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests import waiting
from vlm4vla import files
from vlm4vla.errors import UserError
from vlm4vla.files import (
    exchange,
    held,
    read_matching,
    recover,
    replacing,
    replacing_folder,
    standing_folder,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "table.txt"
    for content in ("first", "second"):
        with replacing(target) as temporary:
            temporary.write_text(content)
    assert target.read_text() == "second"
    assert names(target.parent) == ["table.txt"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_the_old_content_stands_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old"


def test_an_error_in_the_block_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    target.write_text("old")
    with pytest.raises(KeyError), replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["table.txt"]


def test_a_full_disk_is_a_message_for_the_user(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    target.write_text("old")
    with pytest.raises(UserError, match=r"table\.txt: No space left on device"), replacing(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["table.txt"]


def test_a_folder_that_cannot_be_made_is_a_message_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Could not write"):
        write_json(tmp_path / "file" / "table.json", {})


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    target.write_text("old")
    program = (
        "import os, sys; from pathlib import Path; from vlm4vla.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(target)], check=False, timeout=60)
    assert done.returncode == -9
    assert target.read_text() == "old"


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    write_json(target, {"name": "Würfel", "n": [1, 2]})
    text = target.read_text("utf-8")
    assert json.loads(text) == {"name": "Würfel", "n": [1, 2]}
    assert '  "name": "Würfel"' in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("dangling", [False, True])
def test_what_a_link_points_to_is_replaced_and_the_link_stays(
    tmp_path: Path, dangling: bool
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    if not dangling:
        (store / "table.json").write_text("old")
        (store / "folder").mkdir()
    (tmp_path / "file").symlink_to(store / "table.json")
    (tmp_path / "link").symlink_to(Path("store", "folder"))
    write_json(tmp_path / "file", 3)
    with replacing_folder(tmp_path / "link") as new:
        (new / "a").write_text("new")
    assert (tmp_path / "file").is_symlink()
    assert (store / "table.json").read_text() == "3\n"
    assert (tmp_path / "link").is_symlink()
    assert (store / "folder" / "a").read_text() == "new"
    assert names(store) == ["folder", "table.json"]
    assert names(tmp_path) == ["file", "link", "store"]


KILLED = """
import os, sys
from pathlib import Path
from vlm4vla import files

real, calls = os.replace, []

def killed(*names):
    calls.append(names)
    # The first one is tried on the folder that is there, and refused.
    if len(calls) > 2:
        os._exit(9)
    real(*names)

files.exchange = lambda one, other: False
with files.replacing_folder(Path(sys.argv[1])) as new:
    (new / "policy.json").write_text("new")
    if sys.argv[2] == "writing":
        os._exit(9)
    os.replace = killed
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inside" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text("old")
    return folder


@pytest.fixture(params=["exchange", "renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that can exchange two names, and one that cannot."""
    if request.param == "renames":
        monkeypatch.setattr(files, "exchange", lambda one, other: False)


def replace(folder: Path, content: str) -> None:
    with replacing_folder(folder) as new:
        (new / "policy.json").write_text(content)


def kill(folder: Path, when: str) -> None:
    command = [sys.executable, "-c", KILLED, str(folder), when]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9


@pytest.mark.usefixtures("way")
def test_a_folder_is_made_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "checkpoint"
    for content in ("first", "second"):
        replace(folder, content)
        assert (folder / "policy.json").read_text() == content
        assert names(folder.parent) == ["checkpoint"]
        assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        # What safetensors says: its exception is none of Python's.
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_the_old_folder_and_nothing_else(
    folder: Path, error: Exception
) -> None:
    with (
        pytest.raises(UserError, match=r"checkpoint: No space left on device\. Free some"),
        replacing_folder(folder) as new,
    ):
        (new / "policy.json").write_text("half")
        raise error
    assert (folder / "policy.json").read_text() == "old"
    assert names(folder.parent) == ["checkpoint"]


def test_errors_that_are_not_of_the_disk_stay_what_they_are(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="odd"), replacing_folder(folder):
        raise RuntimeError("odd")
    assert names(folder.parent) == ["checkpoint"]


@pytest.mark.parametrize("way", [replacing, replacing_folder])
def test_what_a_block_could_not_read_is_not_told_as_if_it_could_not_be_written(
    tmp_path: Path, way: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    source = tmp_path / "source.json"
    with pytest.raises(FileNotFoundError, match=r"source\.json"), way(tmp_path / "target"):
        source.read_text()
    refused = UserError("source.json cannot be read: Not found (os error 2).", "Make it.")
    with pytest.raises(UserError) as told, way(tmp_path / "target"):
        raise refused
    assert told.value is refused
    # An error of a disk that says neither which file nor that it is full could be of either.
    with pytest.raises(OSError, match="damaged"), way(tmp_path / "target"):
        raise OSError("damaged")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "refusal",
    [
        lambda place: PermissionError(errno.EACCES, os.strerror(errno.EACCES), place),
        lambda place: RuntimeError(f"Cannot open {place}: I/O error (os error 13)"),
    ],
)
def test_what_a_block_could_not_write_is_told(
    folder: Path, refusal: Callable[[str], Exception]
) -> None:
    with (
        pytest.raises(UserError, match=r"write .*checkpoint: Permission denied\. Choose another"),
        replacing_folder(folder) as new,
    ):
        raise refusal(str(new / "policy.json"))


def test_a_file_in_the_place_of_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with (
        pytest.raises(UserError, match="mine: Not a directory"),
        replacing_folder(tmp_path / "mine"),
    ):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
    assert names(tmp_path) == ["mine"]


def test_a_git_repository_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    with (
        pytest.raises(UserError, match="is a Git repository"),
        replacing_folder(tmp_path / "clone"),
    ):
        pass
    assert names(tmp_path) == ["clone"]


def test_everything_is_on_disk_before_the_name_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = files._sync, files.exchange
    monkeypatch.setattr(files, "_sync", lambda path: (done.append(path.name), sync(path)))
    monkeypatch.setattr(files, "exchange", lambda a, b: (done.append("exchange"), rename(a, b))[1])
    with replacing_folder(folder) as new:
        (new / "deep").mkdir()
        (new / "a").write_text("1")
        (new / "deep" / "b").write_text("2")
    assert sorted(done[:-1]) == ["a", "b", "deep", "new"]
    assert done[-1] == "exchange"


def test_killed_between_two_renames_the_old_folder_comes_back(folder: Path) -> None:
    kill(folder, "renaming")
    assert not folder.exists()
    # Who only reads finds it where it is.
    assert (standing_folder(folder) / "policy.json").read_text() == "old"
    assert not folder.exists()
    recover(folder)
    assert standing_folder(folder) == folder
    assert (folder / "policy.json").read_text() == "old"
    replace(folder, "newer")
    assert (folder / "policy.json").read_text() == "newer"
    assert names(folder.parent) == ["checkpoint"]


def test_after_such_a_kill_a_save_that_fails_leaves_the_old_folder(folder: Path) -> None:
    kill(folder, "renaming")
    with pytest.raises(UserError, match="too large"), replacing_folder(folder):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert (folder / "policy.json").read_text() == "old"


def test_nothing_is_recovered_over_a_folder_that_is_there(folder: Path) -> None:
    kill(folder, "renaming")
    folder.mkdir()
    recover(folder)
    assert names(folder) == []
    shutil.rmtree(folder)
    recover(folder.parent / "nowhere" / "checkpoint")


def test_killed_while_writing_the_remains_go_with_the_next_folder(folder: Path) -> None:
    kill(folder, "writing")
    assert len(names(folder.parent)) == 2
    (folder.parent / ".checkpoint.notes").write_text("mine")
    replace(folder, "new")
    assert names(folder.parent) == [".checkpoint.notes", "checkpoint"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("there", [False, True])
def test_two_at_once_both_end_well_and_the_later_one_stays(folder: Path, there: bool) -> None:
    if not there:
        shutil.rmtree(folder)
    held, entered = threading.Event(), threading.Event()

    def first() -> None:
        with replacing_folder(folder) as new:
            (new / "policy.json").write_text("first")
            entered.set()
            assert held.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(30)
    replace(folder, "second")
    assert (folder / "policy.json").read_text() == "second"
    held.set()
    waiting.join([thread], 30)
    assert (folder / "policy.json").read_text() == "first"
    assert names(folder.parent) == ["checkpoint"]


def test_who_looks_over_leftovers_in_between_does_not_take_the_new_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp
    looking: list[threading.Timer] = []

    def looked_over(*args: object) -> str:
        made = make(*args)
        if not looking:
            # As another process, which lets go when it finds the folder empty.
            descriptor = os.open(made, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            looking.append(threading.Timer(0.2, os.close, [descriptor]))
            looking[0].start()
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", looked_over)
    with replacing_folder(folder) as new:
        (new / "policy.json").write_text("first")
        waiting.join(looking, 30)
        replace(folder, "second")
        assert (new / "policy.json").read_text() == "first"
    assert (folder / "policy.json").read_text() == "first"
    assert names(folder.parent) == ["checkpoint"]


def test_a_new_folder_that_is_removed_in_between_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, removed = tempfile.mkdtemp, []

    def swept(*args: object) -> str:
        made = make(*args)
        if not removed:
            os.rmdir(made)
            removed.append(made)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", swept)
    replace(folder, "new")
    assert (folder / "policy.json").read_text() == "new"
    assert len(removed) == 1 and names(folder.parent) == ["checkpoint"]


def test_where_folders_cannot_be_locked_they_are_replaced_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*args: object) -> None:
        # What NFS says of a folder.
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", unable)
    replace(folder, "new")
    assert (folder / "policy.json").read_text() == "new"
    assert names(folder.parent) == ["checkpoint"]


def test_a_folder_is_held_until_it_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, found = tempfile.TemporaryDirectory.cleanup, []

    def removed(beside: tempfile.TemporaryDirectory[str]) -> None:
        with files._alone(Path(beside.name)) as alone:
            found.append(alone)
        remove(beside)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", removed)
    replace(folder, "new")
    assert found == [False]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges names")
def test_an_exchange_is_one_step(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert exchange(folder, other)
    assert (other / "policy.json").read_text() == "old"
    assert not list(folder.iterdir())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        exchange(folder, tmp_path / "nowhere")


def test_a_system_that_cannot_exchange_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        def __init__(self, *args: object, **kwargs: object) -> None:
            pass

    monkeypatch.setattr(files.ctypes, "CDLL", Old)
    assert not exchange(folder, tmp_path)
    Old.renameat2 = lambda *args: -1  # type: ignore[attr-defined]
    monkeypatch.setattr(files.ctypes, "get_errno", lambda: errno.EINVAL)
    assert not exchange(folder, tmp_path)


def test_the_wrong_kind_of_target_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    begun: list[str] = []
    with pytest.raises(UserError, match="folder: Is a directory"), replacing(tmp_path / "folder"):
        begun.append("file")
    with (
        pytest.raises(UserError, match="file: Not a directory"),
        replacing_folder(tmp_path / "file"),
    ):
        begun.append("folder")
    assert not begun


HOLDING = """
import sys
from pathlib import Path
from vlm4vla.files import held

with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_held_folder_names_who_holds_it_and_is_free_when_that_one_dies(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    command = [sys.executable, "-c", HOLDING, str(folder)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        waiting.Output(other).line("held", 60)
        with (
            pytest.raises(UserError, match=rf"one is in use by process {other.pid} on .*Wait"),
            held(folder),
        ):
            pass
    finally:
        other.kill()
        other.wait(30)
    with held(folder):
        (folder / "result").write_text("1")
    assert names(folder) == ["result"]


def test_a_held_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path / "run"):
        raise KeyError
    assert names(tmp_path) == []


def test_a_held_folder_is_free_for_its_holder_and_for_nobody_else(tmp_path: Path) -> None:
    folder, refused = tmp_path / "run", []

    def try_it() -> None:
        try:
            with held(folder):
                pass
        except UserError as error:
            refused.append(error.problem)

    with held(folder):
        with held(tmp_path / "sub" / ".." / "run"):
            (folder / "result").write_text("1")
        other = threading.Thread(target=try_it)
        other.start()
        waiting.join([other], 30)
        assert len(refused) == 1 and "in use by process" in refused[0]
    other = threading.Thread(target=try_it)
    other.start()
    waiting.join([other], 30)
    assert len(refused) == 1


def test_what_another_run_wrote_or_nobody_can_read_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    assert read_matching(file, {}) is None
    write_json(file, {"seed": 3, "value": 1.5})
    assert read_matching(file, {"seed": 3}) == {"seed": 3, "value": 1.5}
    assert read_matching(file, {"seed": 4}) is None
    file.write_text('{"seed": 3', "utf-8")
    assert read_matching(file, {"seed": 3}) is None
