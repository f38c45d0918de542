import argparse
import importlib
import os
import subprocess
import sys
import types

import pytest

from vlm4vla import cli
from vlm4vla.errors import UserError


def use(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Puts a command `sample` in place whose `run` is the given function."""
    module = types.ModuleType("vlm4vla.commands.sample")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--n", type=int, default=0)

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlm4vla.commands.sample", module)
    monkeypatch.setitem(cli.COMMANDS, "sample", "for this test")


def test_the_commands_result_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda args: args.n)
    assert cli.main(["sample", "--n", "5"]) == 5


def test_a_user_error_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise UserError("The folder is empty.", "Name another one.")

    use(monkeypatch, run)
    assert cli.main(["sample"]) == 2
    assert capsys.readouterr().err == "vlm4vla sample: The folder is empty. Name another one.\n"


def test_a_value_may_be_two_dashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Copy as command writes it where a visitor typed nothing else."""
    found: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        found.append(args)
        return 0

    use(monkeypatch, run)
    module = sys.modules["vlm4vla.commands.sample"]

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--say")
        parser.add_argument("--n", type=int, default=0)
        parser.add_argument("rest", nargs="*")

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    for said in ("--", "--n", "-", "", "--n 3"):
        assert cli.main(["sample", f"--say={said}", "--", "--n"]) == 0
        assert (found[-1].say, found[-1].rest) == (said, ["--n"])
    with pytest.raises(SystemExit):
        cli.main(["sample", "--n=--"])


def test_a_name_that_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, lambda args: os.stat("a" * 5000).st_mode)
    assert cli.main(["sample"]) == 2
    assert capsys.readouterr().err.startswith("vlm4vla sample: A name is too long")
    use(monkeypatch, lambda args: len("\ud800".encode()))
    assert cli.main(["sample"]) == 2
    assert "is no text in UTF-8" in capsys.readouterr().err


def test_ctrl_c_is_code_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    use(monkeypatch, run)
    assert cli.main(["sample"]) == 130
    assert capsys.readouterr().err == "vlm4vla sample: stopped\n"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    use(monkeypatch, run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["sample"])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_has_its_module(name: str) -> None:
    module = importlib.import_module(f"vlm4vla.commands.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert callable(module.run)
    assert module.__doc__


def test_help_needs_no_heavy_import() -> None:
    program = (
        "import sys; from vlm4vla import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'sapien', 'gradio', 'numpy'} & set(sys.modules)\n"
        "    sys.exit(str(heavy) if heavy or end.code else 0)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert name in done.stdout


LONG = (
    "import sys, types; from vlm4vla import cli\n"
    "module = types.ModuleType('vlm4vla.commands.sample')\n"
    "module.add_arguments = lambda parser: None\n"
    "def run(args):\n"
    "    for line in range({lines}):\n"
    "        print('a line of the list', file={stream})\n"
    "    return 0\n"
    "module.run = run\n"
    "sys.modules['vlm4vla.commands.sample'] = module\n"
    "cli.COMMANDS['sample'] = 'for this test'\n"
    "sys.exit(cli.main([{argument!r}]))\n"
)
"""A command of `lines` lines, more than a pipe or Python holds back if there are many."""


@pytest.mark.parametrize(
    ("argument", "lines", "stream", "unbuffered"),
    [
        ("sample", 1, "sys.stdout", ""),
        ("sample", 1, "sys.stdout", "1"),
        ("sample", 20_000, "sys.stdout", ""),
        ("sample", 20_000, "sys.stderr", ""),
        ("--help", 0, "sys.stdout", ""),
    ],
)
def test_a_closed_pipe_ends_a_command_without_a_word(
    argument: str, lines: int, stream: str, unbuffered: str
) -> None:
    read, write = os.pipe()
    os.close(read)
    program = LONG.format(argument=argument, lines=lines, stream=stream)
    to_stdout = stream == "sys.stdout"
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=closed if to_stdout else subprocess.PIPE,
            stderr=subprocess.PIPE if to_stdout else closed,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            text=True,
            timeout=60,
        )
    assert not (done.stderr if to_stdout else done.stdout)
    assert done.returncode == 141
