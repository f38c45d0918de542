"""The scripts of full-size runs."""

import subprocess

from vlm4vla import cli
from vlm4vla.commands import study
from vlm4vla.studies import cluster
from vlm4vla.studies.registry import PAPER
from vlm4vla.studies.study import studies


def test_a_study_at_full_size_is_written_and_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "SHIPPED", tmp_path)
    out = tmp_path / "scripts"
    words = ["study", "run", "modules", "--preset", "paper", "--out", str(out)]
    assert cli.main(words) == 0
    scripts = sorted((out / "cells").iterdir())
    assert len(scripts) == len(studies(PAPER)["modules"].members) == 26
    for script in [*scripts, out / cluster.ARRAY]:
        subprocess.run(["bash", "-n", script], check=True, timeout=60)
    assert "#SBATCH --array=0-25" in (out / cluster.ARRAY).read_text()
    frozen = scripts[1].read_text()
    assert "# vision frozen, qwen3-vl at 2e-05, training seed 0" in frozen
    assert "--from qwen3-vl:paper --init vlm" in frozen
    assert "--train language embeddings projector head --preset paper" in frozen
    assert "--steps 50000 --batch 512 --learning-rate 2e-05 --seed 0" in frozen
    # The same words may stand in the folder once more, but other files are nobody's to replace.
    assert cli.main(words) == 0
    log = out / "slurm-1_0.out"
    log.write_text("an hour of eight accelerators")
    assert cli.main(words) == 2
    assert "it holds slurm-1_0.out" in capsys.readouterr().err
    assert log.is_file()
    assert cli.main(words[:-2]) == 2
    assert "--out" in capsys.readouterr().err


def test_steps_have_an_array_of_their_own_that_goes_first(tmp_path):
    members = [m for m in studies(PAPER)["injection"].members if m.cell.seed == 0]
    cluster.write("injection", members, tmp_path / "scripts")
    cells = [one.read_text() for one in sorted((tmp_path / "scripts" / "cells").iterdir())]
    steps = sorted((tmp_path / "scripts" / "steps").iterdir())
    # Eight cells; tokens to the language model, to all, and shuffled to all are made once each.
    assert (len(cells), len(steps)) == (8, 3)
    for step in steps:
        name = step.stem.split("-")[1]
        assert sum(f'--from "$RUNS/{name}/vlm"' in cell for cell in cells) == 2
        text = step.read_text()
        assert f'train tokens --from qwen3-vl:paper --init vlm --data "$DATA" --out "$RUNS/{name}"'
        assert "--steps 4000 --batch 512 --learning-rate 2e-05 --seed 0" in text
    assert ["--shuffled" in step.read_text() for step in steps] == [False, False, True]
    arrays = [(tmp_path / "scripts" / name).read_text() for name in ("steps.sh", cluster.ARRAY)]
    assert "--array=0-2" in arrays[0] and "ls steps/*.sh" in arrays[0]
    assert "--array=0-7" in arrays[1] and "First steps.sh" in arrays[1]
    for script in [*steps, tmp_path / "scripts" / "steps.sh"]:
        subprocess.run(["bash", "-n", script], check=True, timeout=60)


def test_a_script_of_the_array_carries_out_its_two_commands(tmp_path):
    member = studies(PAPER)["initialisation"].members[0]
    cluster.write("initialisation", [member], tmp_path / "scripts")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("accelerate", "vlm4vla"):
        (tools / name).write_text(f'#!/bin/bash\nprintf "%s|" {name} "$@"\necho\n')
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["bash", cluster.ARRAY],
        cwd=tmp_path / "scripts",
        env={
            "PATH": f"{tools}:/usr/bin:/bin",
            "DATA": "/my data",
            "RUNS": "/my runs",
            "SLURM_ARRAY_TASK_ID": "0",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    trained, evaluated = done.stdout.splitlines()
    assert trained.startswith("accelerate|launch|--num_processes|8|-m|vlm4vla.cli|train|imitation|")
    assert f"|--data|/my data|--out|/my runs/{member.cell.name}|" in trained
    assert f"|--checkpoint|/my runs/{member.cell.name}/checkpoint|" in evaluated
    assert f"|--cell|{member.cell.name}|" in evaluated
