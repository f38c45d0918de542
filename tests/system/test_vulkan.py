import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.system import vulkan

PROBE = [sys.executable, "-m", "vlm4vla.system.probe"]


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No driver is chosen by the environment, and none lies in the private folder."""
    # Setting before deleting makes monkeypatch undo what ensure_driver sets, too.
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "home"))


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A software driver's manifest in a folder where a hardware driver's lies, too."""
    folder = tmp_path / "icd.d"
    folder.mkdir()
    (folder / "aaa_hardware.json").write_text("{}")
    (folder / "lvp_icd.x86_64.json").write_text("{}")
    monkeypatch.setattr(vulkan, "_MANIFEST_FOLDERS", (tmp_path / "missing", folder))
    return folder / "lvp_icd.x86_64.json"


def put_in_path(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_the_software_driver_is_chosen_among_others(manifest: Path) -> None:
    assert vulkan.ensure_driver() == manifest
    assert os.environ["VK_DRIVER_FILES"] == str(manifest)


def test_a_child_process_does_not_take_our_choice_for_the_users(manifest: Path) -> None:
    vulkan.ensure_driver()
    assert vulkan.overridden() == ""
    assert vulkan.ensure_driver() == manifest


@pytest.mark.parametrize("name", ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"])
def test_the_users_choice_is_left_alone(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/somewhere/nvidia.json")
    assert vulkan.ensure_driver() == Path("/somewhere/nvidia.json")
    assert os.environ[name] == "/somewhere/nvidia.json"
    assert vulkan.overridden() == name


def test_without_a_driver_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan, "_MANIFEST_FOLDERS", ())
    assert vulkan.ensure_driver() is None
    assert "VK_DRIVER_FILES" not in os.environ
    assert not vulkan.has_driver()


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("22.3.6-1+deb12u1", False),
        ("24.2.8-1ubuntu1~24.04.1", False),
        ("24.3.0-1", True),
        ("25.0.7-2~bpo12+1", True),
        ("1:26.1.0-1", True),
    ],
)
def test_mesa_24_3_is_the_oldest_that_will_do(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, enough: bool
) -> None:
    put_in_path(monkeypatch, tmp_path / "bin", "dpkg-query", f"printf '{version}'")
    assert vulkan.has_driver() is enough


def test_a_missing_system_library_counts_as_a_missing_driver(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_in_path(monkeypatch, tmp_path / "bin", "dpkg-query", "printf 25.0.7")
    monkeypatch.setattr(vulkan, "_LIBRARIES", {"libsurely-not-here.so.1": "none"})
    assert not vulkan.has_driver()


def test_a_damaged_private_driver_is_named_with_its_fix(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "vulkan"
    folder.mkdir(parents=True)
    record = {"manifest": str(folder / "lvp_icd.json"), "preload": [str(folder / "libgone.so")]}
    (folder / "driver.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"libgone\.so") as caught:
        vulkan.ensure_driver()
    assert "vlm4vla doctor --fix" in caught.value.fix


def test_an_unknown_system_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan, "codename", lambda: "")
    with pytest.raises(UserError, match=r"24\.3 or newer") as caught:
        vulkan.install_driver()
    assert "Debian 12, Debian 13, Ubuntu 24.04" in caught.value.problem


def test_sources_without_a_new_mesa_stop_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OldApt:
        def __init__(self, private: Path | None) -> None:
            pass

        def update(self) -> None:
            pass

        def use_backports(self) -> None:
            pass

        def candidate(self, package: str) -> str:
            return "24.0.5-1ubuntu1"

    monkeypatch.setattr(vulkan, "codename", lambda: "noble")
    monkeypatch.setattr(vulkan, "Apt", OldApt)
    with pytest.raises(UserError, match=r"apt offers Mesa 24\.0\.5-1ubuntu1") as caught:
        vulkan.install_driver()
    assert "updates of Ubuntu 24.04" in caught.value.fix


def test_a_driver_unpacked_into_a_private_folder_renders(tmp_path: Path) -> None:
    system = vulkan.ensure_driver()
    if system is None:
        pytest.skip("the driver of this machine is itself a private one, and every test uses it")
    driver = next(path for path in Path("/usr/lib").rglob("libvulkan_lvp.so"))
    # What a machine without root gets: the driver and a library of its own, outside the system.
    libraries = tmp_path / "home" / "vulkan" / "root" / "usr" / "lib"
    libraries.mkdir(parents=True)
    shutil.copy(driver, libraries)
    shutil.copy(next(Path("/usr/lib").rglob("libdrm.so.2")).resolve(), libraries / "libdrm.so.2")
    (libraries / "lvp_icd.json").write_text(system.read_text())

    record = tmp_path / "home" / "vulkan" / "driver.json"
    vulkan._record_private(tmp_path / "home" / "vulkan" / "root", record)

    preload = json.loads(record.read_text())["preload"]
    assert [Path(library).name for library in preload] == ["libdrm.so.2", "libvulkan_lvp.so"]
    private = {name: value for name, value in os.environ.items() if name != "VK_DRIVER_FILES"}
    done = subprocess.run(
        PROBE, env=private, capture_output=True, text=True, check=True, timeout=300
    )
    devices, render = map(json.loads, done.stdout.splitlines())
    assert "llvmpipe" in devices["devices"][0]["name"]
    # Half a pixel of error at each edge of a box 47 pixels wide.
    assert render["render"]["box"] == pytest.approx((46.9 / 128) ** 2, rel=0.05)
    maps = (
        "from vlm4vla.system.vulkan import ensure_driver; ensure_driver()\n"
        "print(open('/proc/self/maps').read())"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", maps],
        env=private,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert str(libraries / "libdrm.so.2") in loaded.stdout
    assert str(driver) not in loaded.stdout
