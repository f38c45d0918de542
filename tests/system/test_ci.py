"""What continuous integration does, with a stand-in for `make`."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = {"PWD", "SHLVL", "_"}
"""What a shell sets by itself."""


def test_the_tests_see_nothing_of_the_environment_but_home_path_language_and_pip(
    tmp_path: Path,
) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "make $@"\nenv\n')
    make.chmod(0o755)
    kept = {
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PIP_CERT": "/certificates with a space",
        "PIP_INDEX_URL": "http://127.0.0.1/simple",
        "https_proxy": "http://127.0.0.1:3128",
    }
    hiding = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(tmp_path), "VLM4VLA_HOME": "x", "PIP": "y"}
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run"],
        env=kept | hiding,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, second = (
        part.splitlines() for part in done.stdout.removeprefix("make ").split("make ", 1)
    )
    assert [first[0], second[0]] == ["test", "check-312"]
    for told in (first, second):
        seen = dict(line.split("=", 1) for line in told[1:])
        assert {name: value for name, value in seen.items() if name not in OWN} == kept
