"""The `vlm4vla` console script: finds the command's module and runs it."""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from vlm4vla.errors import UserError

COMMANDS = {
    "backbones": "list the VLMs that can become a policy",
    "probe": "show a VLM's parts and prove that its adaptation is sound",
    "doctor": "check that this machine can run VLM4VLA",
    "expert": "success rates of the scripted expert",
    "collect": "record demonstrations with labels for every valid instruction",
    "data": "make a dataset again from stored episodes",
    "replay": "replay stored labels open loop: the gate that data must pass",
    "cache": "lay datasets out for training",
    "train": "one gated stage of learning, resumable at any moment",
    "export": "a trained VLM or policy as it is handed on, with its card; or the app as a Space",
    "eval": "success rates of a checkpoint in closed loop",
    "distance": "how far rollouts lead from pictures of the expert in scenes of training",
    "openloop": "how far policies are from the expert on its own way: by phase, chunk and fingers",
    "compare": "two checkpoints or conditions on the same scenes, with what these can tell",
    "failures": "why episodes failed, by rules: counts with intervals, labels of people, kappa",
    "rollout": "one episode, with a video and everything that happened in it",
    "inspect": "why a stored episode went as it did: diagnosis, lanes, maps, one page of it",
    "attribute": "what of its picture a policy's first action comes from: maps, and their tests",
    "trust": "which attribution methods deserve trust for a checkpoint, measured on episodes",
    "ablate": "what success is left without picture, sentence or parts, on the same scenes",
    "study": "the paper's studies: list their cells, run what is missing, report, verify",
    "represent": "what the layers of VLMs know of the scene: probes, and how alike they are",
    "episodes": "list, rate, export and import the stored episodes of every door",
    "language": "how a sentence is read in a scene; make the language page",
    "describe": "make the data page: counts, histograms, a sheet of pictures",
}


class _Parser(argparse.ArgumentParser):
    """argparse, in which a value may be `--`, as in `--instruction=--`.

    Python's own takes the two signs out of every value and leaves an empty list.
    """

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    A `UserError` is printed as one message and gives 2, and so is a name that the system refuses
    or that is no text; Ctrl-C gives 130. A reader who closes the
    pipe, such as `head`, has seen enough: that gives 141 without a word.
    """
    try:
        try:
            return _run(argv)
        finally:
            # What is still held back would fail after this, where nobody catches it.
            sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_closed_pipes()
        return 141


def _run(argv: Sequence[str] | None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(prog="vlm4vla", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if argv and argv[0] == name:
            # Only the chosen command is imported: torch and SAPIEN take seconds to load.
            importlib.import_module(f"vlm4vla.commands.{name}").add_arguments(command)
    args = parser.parse_args(argv)
    module = importlib.import_module(f"vlm4vla.commands.{args.command}")
    try:
        return int(module.run(args))
    except UserError as error:
        print(f"vlm4vla {args.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"vlm4vla {args.command}: A name is too long for a file or folder.", file=sys.stderr)
        return 2
    except UnicodeEncodeError as error:
        said = f"{error.object[:60]!r} is no text in UTF-8"
        print(f"vlm4vla {args.command}: {said}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vlm4vla {args.command}: stopped", file=sys.stderr)
        return 130


def _let_go_of_closed_pipes() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Python flushes once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
