import argparse
import importlib
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
