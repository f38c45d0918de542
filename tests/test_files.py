import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.files import replacing, write_json


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
