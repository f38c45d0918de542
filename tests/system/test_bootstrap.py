import os
import sys
from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.system import bootstrap

INPUTS = ("requirements.txt", "constraints.txt", "pyproject.toml")


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A checkout whose steps only note that they ran."""
    done: list[str] = []
    for name in INPUTS:
        (tmp_path / name).write_text(f"{name}\n")
    venv = tmp_path / ".venv"
    venv.mkdir()
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "_make_environment", lambda: done.append("environment"))
    monkeypatch.setattr(
        bootstrap, "_install_packages", lambda extra: done.append(f"packages[{extra}]")
    )
    monkeypatch.setattr(bootstrap.vulkan, "has_driver", lambda: False)
    monkeypatch.setattr(bootstrap.vulkan, "install_driver", lambda: done.append("driver"))
    monkeypatch.setattr(bootstrap.chromium, "executable", lambda: "")
    monkeypatch.setattr(bootstrap.chromium, "install", lambda python: done.append("chromium"))
    return done


def test_the_app_needs_no_test_tools(steps: list[str]) -> None:
    bootstrap.set_up("app")
    assert steps == ["environment", "packages[sim]", "driver"]


def test_the_tests_need_everything(steps: list[str]) -> None:
    bootstrap.set_up("test")
    assert steps == ["environment", "packages[sim,test]", "driver", "chromium"]


@pytest.mark.parametrize(
    ("platform", "app", "test"),
    [("linux", "sim", "sim,test"), ("darwin", "", "test"), ("win32", "", "test")],
)
def test_the_simulator_is_installed_where_it_renders(platform: str, app: str, test: str) -> None:
    assert bootstrap.extras("app", platform) == app
    assert bootstrap.extras("test", platform) == test


def test_what_is_there_is_not_installed(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.vulkan, "has_driver", lambda: True)
    monkeypatch.setattr(bootstrap.chromium, "executable", lambda: "/usr/bin/chromium")
    bootstrap.set_up("test")
    assert steps == ["environment", "packages[sim,test]"]


def test_a_second_run_does_nothing(steps: list[str]) -> None:
    bootstrap.set_up("app")
    steps.clear()
    bootstrap.set_up("app")
    assert steps == []
    bootstrap.set_up("test")
    assert steps != []


@pytest.mark.parametrize("name", INPUTS)
def test_a_changed_input_runs_it_again(steps: list[str], tmp_path: Path, name: str) -> None:
    bootstrap.set_up("app")
    steps.clear()
    (tmp_path / name).write_text("something else\n")
    bootstrap.set_up("app")
    assert steps == ["environment", "packages[sim]", "driver"]


def test_an_interrupted_run_goes_on(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(extra: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "_install_packages", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.set_up("app")
    steps.clear()
    bootstrap.set_up("app")
    assert steps == ["environment", "packages[sim]", "driver"]


def test_without_a_driver_the_app_starts_and_the_tests_do_not(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_driver() -> None:
        raise UserError("No driver here.", "Install one.")

    monkeypatch.setattr(bootstrap.vulkan, "install_driver", no_driver)
    bootstrap.set_up("app")
    assert "No driver here. Install one. Until then recordings play" in capsys.readouterr().out
    with pytest.raises(UserError, match="No driver here"):
        bootstrap.set_up("test")


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 13, 0)])
def test_another_python_gets_one_sentence(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "version", ".".join(map(str, version)) + " (main)")
    with pytest.raises(UserError) as caught:
        bootstrap.set_up("app")
    assert caught.value.problem.endswith(f"this is {version[0]}.{version[1]}.{version[2]}.")
    assert steps == []


def test_an_environment_of_another_python_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    (venv / "left-over").touch()
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")
    bootstrap._make_environment()
    assert not (venv / "left-over").exists()
    expected = f"version = {sys.version_info.major}.{sys.version_info.minor}."
    assert expected in (venv / "pyvenv.cfg").read_text()


def test_a_cpu_build_is_asked_for_at_the_configured_index_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexit 1\n')
    pip.chmod(0o755)
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\ntorch==2.13.0\n")
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", tmp_path / "constraints.txt")
    bootstrap._prefer_cpu_torch([pip])
    first, second = calls.read_text().splitlines()
    assert first.endswith("--no-deps torch==2.13.0+cpu")
    assert "--index-url" not in first
    assert second.endswith("--index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu")


def test_a_try_for_a_cpu_build_that_fails_says_one_thing_and_shows_no_report_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # No such version is installed, so pip has to look for it.
    (tmp_path / "constraints.txt").write_text("torch==0.0.1\n")
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", tmp_path / "constraints.txt")
    # A person's own constraints, which make pip explain at length what conflicts with what.
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    bootstrap._prefer_cpu_torch([sys.executable, "-m", "pip", "--no-input"])
    said = capfd.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        "      torch==0.0.1+cpu, about 200 MB, if it can be had",
        "      it cannot be had here: the usual build is taken",
    ]
