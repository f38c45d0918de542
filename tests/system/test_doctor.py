import argparse
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from vlm4vla.commands import doctor as command
from vlm4vla.system import doctor
from vlm4vla.system.doctor import Check


def run_doctor(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vlm4vla.cli", "doctor", *arguments],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def probe_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Replaces the process that asks Vulkan by a shell script."""
    program = tmp_path / "probe"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(program))
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.delenv(name, raising=False)


def devices(driver: str) -> str:
    return "echo '" + json.dumps({"devices": [{"name": "llvmpipe", "driver": driver}]}) + "'\n"


def picture(box: float) -> str:
    return "echo '" + json.dumps({"render": {"first_ms": 4000, "ms": 2.5, "box": box}}) + "'\n"


def test_this_machine_is_ready() -> None:
    done = run_doctor("--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["ok"] is True
    found = {check["name"]: check for check in report["checks"]}
    assert list(found) == [
        "Python",
        "packages",
        "Vulkan",
        "test render",
        "memory",
        "bf16",
        "disk",
        "data folder",
        "accelerator",
    ]
    assert "Mesa" in found["Vulkan"]["detail"]
    assert all(check["status"] != "fail" for check in found.values())


def test_with_the_driver_hidden_it_says_so_and_names_the_fix() -> None:
    done = run_doctor(VK_DRIVER_FILES="/nonexistent/icd.json")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    (vulkan,) = [index for index, line in enumerate(lines) if line.startswith("FAIL  Vulkan")]
    assert "no Vulkan driver answers (VK_DRIVER_FILES=/nonexistent/icd.json)" in lines[vulkan]
    assert "Recordings play, and Run is disabled." in lines[vulkan]
    assert lines[vulkan + 1].strip() == "fix: unset VK_DRIVER_FILES"
    assert lines[-1].startswith("not ready")


def test_a_good_device_and_picture_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe_is(monkeypatch, tmp_path, devices("Mesa 25.0.7 (LLVM 15)") + picture(0.1341))
    device, render = doctor.check_renderer()
    assert (device.status, render.status) == ("ok", "ok")
    assert device.detail == "llvmpipe, Mesa 25.0.7 (LLVM 15)"
    assert render.detail.startswith("2.5 ms a picture")
    assert "4.0 s" in render.detail


def test_an_old_mesa_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe_is(monkeypatch, tmp_path, devices("Mesa 22.3.6 (LLVM 15)") + "exit 1")
    device, render = doctor.check_renderer()
    assert device.status == render.status == "fail"
    assert "older than 24.3" in device.detail
    assert device.fix == f"{sys.prefix}/bin/vlm4vla doctor --fix"


def test_an_empty_picture_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe_is(monkeypatch, tmp_path, devices("Mesa 25.0.7") + picture(0.0))
    _, render = doctor.check_renderer()
    assert render.status == "fail"
    assert "covers 0.0% of the picture, not 13.4%" in render.detail


def test_a_crash_while_rendering_keeps_what_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    probe_is(monkeypatch, tmp_path, devices("Mesa 25.0.7") + "kill -SEGV $$")
    device, render = doctor.check_renderer()
    assert device.status == "ok"
    assert render.status == "fail"
    assert "signal 11" in render.detail


def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.5)
    probe_is(monkeypatch, tmp_path, devices("Mesa 25.0.7") + "exec sleep 60")
    device, render = doctor.check_renderer()
    assert device.status == "ok"
    assert "no answer within 0.5 s" in render.detail


def test_an_import_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = "ImportError: libGL.so.1: cannot open shared object file"
    probe_is(monkeypatch, tmp_path, f"echo '{error}' >&2; exit 1")
    device, _ = doctor.check_renderer()
    assert device.status == "fail"
    assert device.detail.startswith(error)


def test_packages_that_are_not_there_are_no_matter_of_drivers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = "ModuleNotFoundError: No module named 'mani_skill'"
    probe_is(monkeypatch, tmp_path, f'echo "{error}" >&2; exit 1')
    [check] = doctor.check_renderer()
    assert (check.name, check.status) == ("packages of the simulator", "fail")
    assert "mani_skill is missing. Recordings play" in check.detail and "[sim]" in check.fix


def package_root(tmp_path: Path, requirements: str, constraints: str) -> Path:
    (tmp_path / "requirements.txt").write_text(requirements)
    (tmp_path / "constraints.txt").write_text(constraints)
    return tmp_path


def test_a_missing_package_fails(tmp_path: Path) -> None:
    root = package_root(tmp_path, "# why\nnumpy>=1\nsurely-absent>=2\n", "numpy==1.0\n")
    check = doctor.check_packages(root)
    assert check.status == "fail"
    assert check.detail == "missing: surely-absent"
    # The simulator's packages are an extra, and what is told must bring them.
    assert f"{sys.prefix}/bin/pip install -e '{doctor.ROOT}[sim]' -c " in check.fix


def test_what_an_interrupted_installation_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foo-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.check_packages(package_root(tmp_path, "numpy\n", "")).status == "ok"


def test_an_untested_version_is_a_warning(tmp_path: Path) -> None:
    root = package_root(tmp_path, "numpy>=1\n", "numpy==0.0.1\nnot-installed==1\n")
    check = doctor.check_packages(root)
    assert check.status == "warn"
    assert check.detail.startswith("numpy ")
    assert "(tested 0.0.1)" in check.detail
    assert "not-installed" not in check.detail


def test_underscores_and_builds_do_not_make_another_version(tmp_path: Path) -> None:
    import torch

    tested = torch.__version__.split("+")[0]
    root = package_root(tmp_path, "mani-skill\ntorch\n", f"torch=={tested}\n")
    check = doctor.check_packages(root)
    assert (check.status, check.detail) == ("ok", "1 in the tested versions")


@pytest.mark.parametrize(
    ("kib", "status"), [(1_000_000, "fail"), (4_000_000, "warn"), (16_000_000, "ok")]
)
def test_memory(tmp_path: Path, kib: int, status: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable:   {kib} kB\n")
    assert doctor.check_memory(meminfo, tmp_path).status == status


@pytest.mark.parametrize(("limit", "detail"), [("max", "15.3 GiB"), (str(3 * 2**30), "2.0 GiB")])
def test_a_containers_limit_counts(tmp_path: Path, limit: str, detail: str) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 16000000 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{2**30}\n")
    check = doctor.check_memory(tmp_path / "meminfo", tmp_path)
    assert check.detail.startswith(detail)


def test_files_that_a_container_remembers_are_no_used_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 16000000 kB\n")
    (tmp_path / "memory.max").write_text(f"{8 * 2**30}\n")
    (tmp_path / "memory.current").write_text(f"{7 * 2**30}\n")
    (tmp_path / "memory.stat").write_text(
        f"anon {2**30}\nfile {6 * 2**30}\ninactive_file {5 * 2**30}\nactive_file {2**30}\n"
    )
    assert doctor.check_memory(tmp_path / "meminfo", tmp_path).detail.startswith("7.0 GiB")


@pytest.mark.parametrize(
    ("flags", "detail"), [("fpu avx512_bf16 vme", "avx512_bf16"), ("fpu avx2", "no")]
)
def test_bf16_is_read_from_the_processor(tmp_path: Path, flags: str, detail: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: {flags}\n")
    check = doctor.check_bf16(cpuinfo)
    assert check.status == "ok"
    assert detail in check.detail


def test_a_data_folder_that_cannot_be_written_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "file" / "data"))
    check = doctor.check_data_folder()
    assert check.status == "fail"
    assert "Not a directory" in check.detail
    assert "VLM4VLA_HOME" in check.fix


@pytest.mark.parametrize(
    ("free", "status"), [(0.1 * 2**30, "fail"), (2 * 2**30, "warn"), (80 * 2**30, "ok")]
)
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, status: str) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(free))
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "not" / "made" / "yet"))
    check = doctor.check_disk()
    assert check.status == status
    assert str(tmp_path) in check.detail


def test_a_folder_that_one_may_not_enter_is_not_asked_for_its_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "closed" / "home"))
    real = Path.exists

    def exists(path: Path) -> bool:
        if "closed" in path.parts:
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(Path, "exists", exists)
    assert str(tmp_path) in doctor.check_disk().detail


@pytest.mark.parametrize(
    ("torch_version", "status"), [("2.13.0+cpu", "warn"), ("2.13.0", "ok"), ("2.13.0+cu130", "ok")]
)
def test_a_card_that_torch_cannot_use_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch_version: str, status: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: torch_version)
    check = doctor.check_accelerator()
    assert check.status == status
    assert check.detail.startswith("NVIDIA H100, 81559 MiB")


def test_fix_repairs_what_failed_and_looks_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [Check("packages", "warn", "old", "pip"), Check("Vulkan", "fail", "none", "fix")]
    installed: list[str] = []
    monkeypatch.setattr(doctor.vulkan, "overridden", lambda: "")
    monkeypatch.setattr(doctor.vulkan, "install_driver", lambda: installed.append("driver"))
    monkeypatch.setattr(doctor, "_install_packages", lambda: installed.append("packages"))
    answers = iter([broken, [Check("Vulkan", "ok", "llvmpipe")]])
    monkeypatch.setattr(command, "run_checks", lambda: next(answers))

    assert command.run(argparse.Namespace(fix=True, json=True)) == 0
    assert installed == ["packages", "driver"]
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_fix_leaves_a_driver_that_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent/icd.json")
    assert doctor.repairs([Check("Vulkan", "fail", "none")]) == {}


def test_a_warning_alone_leaves_the_code_at_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_checks", lambda: [Check("memory", "warn", "3.0 GiB")])
    assert command.run(argparse.Namespace(fix=False, json=False)) == 0
