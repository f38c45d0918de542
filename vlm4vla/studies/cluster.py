"""A study at the paper's size: commands for `accelerate launch`, and an array script for Slurm."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vlm4vla.files import replacing_folder
from vlm4vla.studies.cell import eval_command, train_command
from vlm4vla.studies.study import Member
from vlm4vla.studies.trained import CHECKPOINT

ACCELERATORS: Final = 8
"""A node's, as in the paper."""

_WORKERS: Final = 8
"""Processes that prepare the batches of an accelerator, and later simulators."""

ARRAY: Final = "array.sh"
"""The script of them all."""

_TEMPLATE: Final = """\
#!/bin/bash
#SBATCH --job-name=vlm4vla-{name}
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --gpus-per-node={accelerators}
#SBATCH --requeue
# DATA=... RUNS=... sbatch array.sh, in this folder: the training cache, and a folder for the runs
# that every node sees. Tasks go on where they were stopped: submit the same once more.
set -euo pipefail
: "${{DATA:?name the training cache}}" "${{RUNS:?name a shared folder}}"
cd "${{SLURM_SUBMIT_DIR:-.}}"
exec bash "$(ls cells/*.sh | sed -n "$((SLURM_ARRAY_TASK_ID + 1))p")"
"""

_CELL: Final = """\
#!/bin/bash
# {label}
set -euo pipefail
{train}
{evaluate}
"""


def write(name: str, members: Sequence[Member], folder: Path) -> None:
    """Writes the scripts of a study's cells; a folder that is there is replaced.

    Args:
        name: of the study.
        members: its cells at full size.
        folder: gets `array.sh`, and a file a cell below `cells`.
    """
    with replacing_folder(folder) as new:
        (new / "cells").mkdir()
        for number, member in enumerate(members):
            text = script(member)
            (new / "cells" / f"{number:03d}-{member.cell.name}.sh").write_text(text, "utf-8")
        array = _TEMPLATE.format(name=name, last=len(members) - 1, accelerators=ACCELERATORS)
        (new / ARRAY).write_text(array, "utf-8")


def script(member: Member) -> str:
    """The script of one cell."""
    cell = member.cell
    data, run = Path("$DATA"), Path("$RUNS") / cell.name
    launch = ["accelerate", "launch", "--num_processes", str(ACCELERATORS), "-m", "vlm4vla.cli"]
    trained = [*launch, *train_command(cell, data, run, _WORKERS)]
    evaluated = ["vlm4vla", *eval_command(cell, run / CHECKPOINT, _WORKERS)]
    return _CELL.format(label=member.label, train=_shell(trained), evaluate=_shell(evaluated))


def _shell(words: Sequence[str]) -> str:
    """The words as a shell reads them; the two folders stay variables."""
    return " ".join(f'"{word}"' if word.startswith("$") else shlex.quote(word) for word in words)
