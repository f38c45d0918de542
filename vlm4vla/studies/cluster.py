"""A study at the paper's size: commands for `accelerate launch`, and an array script for Slurm."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vlm4vla.files import refuse_others, replacing_folder
from vlm4vla.studies.cell import Training, VlmStep, eval_command, step_command, train_command
from vlm4vla.studies.study import Member
from vlm4vla.studies.trained import CHECKPOINT, VLM

ACCELERATORS: Final = 8
"""A node's, as in the paper."""

_WORKERS: Final = 8
"""Processes that prepare the batches of an accelerator, and later simulators."""

ARRAY: Final = "array.sh"
"""The script of them all."""

_STEPS: Final = "steps"
_CELLS: Final = "cells"
_DATA: Final = Path("$DATA")

_TEMPLATE: Final = """\
#!/bin/bash
#SBATCH --job-name=vlm4vla-{name}
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --gpus-per-node={accelerators}
#SBATCH --requeue
# DATA=... RUNS=... sbatch {file}, in this folder: the training cache, and a folder for the runs
# that every node sees. Tasks go on where they were stopped: submit the same once more.
{first}set -euo pipefail
: "${{DATA:?name the training cache}}" "${{RUNS:?name a shared folder}}"
cd "${{SLURM_SUBMIT_DIR:-.}}"
exec bash "$(ls {folder}/*.sh | sed -n "$((SLURM_ARRAY_TASK_ID + 1))p")"
"""

_BEFORE: Final = """\
# First steps.sh, whose VLMs these begin with: sbatch --dependency=afterok:JOB array.sh.
"""

_SCRIPT: Final = """\
#!/bin/bash
# {label}
set -euo pipefail
{lines}
"""


def write(name: str, members: Sequence[Member], folder: Path) -> None:
    """Writes the scripts of a study's cells; earlier ones in the folder are replaced.

    Args:
        name: of the study.
        members: its cells at full size.
        folder: gets `array.sh`, and a file a cell below `cells`; where cells have steps, `steps.sh`
            and a file a step below `steps`, too.

    Raises:
        UserError: the folder holds something else, such as what jobs wrote into it.
    """
    refuse_others(folder, {ARRAY, f"{_STEPS}.sh", _CELLS, _STEPS}, "folder of scripts")
    steps = {one.cell.step.name: one.cell.step for one in members if one.cell.step}
    with replacing_folder(folder) as new:
        cells = [(one.cell.name, script(one)) for one in members]
        _array(new / ARRAY, _CELLS, name, cells, _BEFORE if steps else "")
        if steps:
            made = [(key, step_script(step)) for key, step in steps.items()]
            _array(new / f"{_STEPS}.sh", _STEPS, name, made)


def script(member: Member) -> str:
    """The script of one cell."""
    cell = member.cell
    run = _run_of(cell)
    vlm = _run_of(cell.step) / VLM if cell.step else None
    evaluated = ["vlm4vla", *eval_command(cell, run / CHECKPOINT, _WORKERS)]
    lines = [_launched(train_command(cell, _DATA, run, _WORKERS, vlm)), _shell(evaluated)]
    return _SCRIPT.format(label=member.label, lines="\n".join(lines))


def step_script(step: VlmStep) -> str:
    """The script of one step."""
    what = "shuffled action tokens" if step.shuffled else "action tokens"
    learns = ", ".join(step.groups)
    label = f"{what} to {learns} of {step.start.family}, training seed {step.seed}"
    line = _launched(step_command(step, _DATA, _run_of(step), _WORKERS))
    return _SCRIPT.format(label=label, lines=line)


def _array(
    file: Path, folder: str, name: str, scripts: Sequence[tuple[str, str]], first: str = ""
) -> None:
    """Writes scripts into a folder beside `file`, and into it what submits them all."""
    (file.parent / folder).mkdir()
    for number, (key, text) in enumerate(scripts):
        (file.parent / folder / f"{number:03d}-{key}.sh").write_text(text, "utf-8")
    text = _TEMPLATE.format(
        name=name,
        last=len(scripts) - 1,
        accelerators=ACCELERATORS,
        file=file.name,
        folder=folder,
        first=first,
    )
    file.write_text(text, "utf-8")


def _run_of(training: Training) -> Path:
    return Path("$RUNS") / training.name


def _launched(words: Sequence[str]) -> str:
    launch = ["accelerate", "launch", "--num_processes", str(ACCELERATORS), "-m", "vlm4vla.cli"]
    return _shell([*launch, *words])


def _shell(words: Sequence[str]) -> str:
    """The words as a shell reads them; the two folders stay variables."""
    return " ".join(f'"{word}"' if word.startswith("$") else shlex.quote(word) for word in words)
