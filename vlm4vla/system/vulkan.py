"""Which Vulkan driver the simulator renders with, and how to get one.

SAPIEN draws on the CPU through lavapipe, the software driver of Mesa, from Mesa 24.3 on. It is
chosen even where there is a graphics card, so that pictures do not depend on the machine.

Only the standard library is used: set-up runs this before anything is installed.
"""

import ctypes
import ctypes.util
import json
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

from vlm4vla import files, paths
from vlm4vla.errors import UserError
from vlm4vla.system.debian import SUPPORTED, Apt, codename

MINIMUM_MESA = (24, 3)

_DRIVER_PACKAGES = ("mesa-vulkan-drivers", "libvulkan1")
# The wheels of SAPIEN and of OpenCV, which it imports, are linked to these and do not bring them.
_LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
}
_MANIFEST_FOLDERS = (
    Path("/etc/vulkan/icd.d"),
    Path("/usr/local/share/vulkan/icd.d"),
    Path("/usr/share/vulkan/icd.d"),
)
_OVERRIDES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")


def private_folder() -> Path:
    """Where a driver is unpacked on machines without root."""
    return paths.home() / "vulkan"


def overridden() -> str:
    """The name of the environment variable by which the user chose a driver, else empty.

    What `ensure_driver` set, in this process or in its parent, is not the user's choice.
    """
    own = _record().get("manifest") or str(_system_manifest())
    return next((name for name in _OVERRIDES if os.environ.get(name) not in (None, "", own)), "")


def ensure_driver() -> Path | None:
    """Points Vulkan at the software driver; call it in each process before importing sapien.

    A driver that the user chose with `VK_DRIVER_FILES` or `VK_ICD_FILENAMES` is left alone.

    Returns:
        The driver's manifest, or None when no software driver was found and Vulkan's own search
        decides. `vlm4vla.system.doctor` says what is wrong then.

    Raises:
        UserError: the driver in the private folder is damaged.
    """
    record = _record()
    if record:
        # SAPIEN looks for the Vulkan loader in system folders only, and its own serves as well.
        warnings.filterwarnings("ignore", "Failed to find system libvulkan")
        for library in record["preload"]:
            # The loader opens the driver by path, and nothing would tell it where the libraries
            # are that the driver needs: a library that is already loaded is found by its name.
            try:
                ctypes.CDLL(library)
            except OSError as error:
                raise UserError(
                    f"The driver in {private_folder()} does not load: {error}.",
                    "Unpack it again with `vlm4vla doctor --fix`.",
                ) from error
    if name := overridden():
        return Path(os.environ[name].split(os.pathsep)[0])
    manifest = Path(record["manifest"]) if record else _system_manifest()
    if manifest is not None:
        os.environ["VK_DRIVER_FILES"] = str(manifest)
    return manifest


def has_driver() -> bool:
    """Whether a software driver that is new enough is installed, judged without loading it.

    Counts as missing, too, while a system library is missing that the simulator is linked to.
    """
    if _record():
        return True
    linked = [name.removeprefix("lib").split(".so")[0] for name in _LIBRARIES]
    if _system_manifest() is None or not all(map(ctypes.util.find_library, linked)):
        return False
    if shutil.which("dpkg-query") is None:
        return True
    query = ["dpkg-query", "--show", "--showformat=${Version}", "mesa-vulkan-drivers"]
    installed = subprocess.run(query, capture_output=True, text=True, check=False)
    return installed.returncode != 0 or _mesa(installed.stdout) >= MINIMUM_MESA


def install_driver() -> None:
    """Gets a software driver that SAPIEN accepts: with apt as root, else into a private folder.

    Raises:
        UserError: this system has no apt, or its sources hold no driver that is new enough.
    """
    release = codename()
    wanted = ".".join(map(str, MINIMUM_MESA))
    if release not in SUPPORTED:
        raise UserError(
            f"This system is none of {', '.join(SUPPORTED.values())}, so no Vulkan driver was "
            "installed.",
            f"Install Mesa {wanted} or newer with its software Vulkan driver (lavapipe).",
        )
    root = os.geteuid() == 0
    folder = private_folder()
    apt = Apt(None if root else folder / "apt")
    apt.update()
    apt.use_backports()
    offered = apt.candidate("mesa-vulkan-drivers")
    if _mesa(offered) < MINIMUM_MESA:
        raise UserError(
            f"apt offers Mesa {offered or 'in no version'}, and SAPIEN needs {wanted} or newer.",
            f"Enable the updates of {SUPPORTED[release]} in /etc/apt, then run this again.",
        )
    if root:
        apt.install(*_DRIVER_PACKAGES, *_LIBRARIES.values())
        return
    unpacked = folder / "root"
    shutil.rmtree(unpacked, ignore_errors=True)
    apt.unpack([*_DRIVER_PACKAGES, *_LIBRARIES.values()], unpacked)
    _record_private(unpacked, folder / "driver.json")
    shutil.rmtree(folder / "apt")


def _record() -> dict[str, Any]:
    """What is known of the driver in the private folder, empty when there is none."""
    record = private_folder() / "driver.json"
    return json.loads(record.read_text()) if record.is_file() else {}


def _system_manifest() -> Path | None:
    found = (path for folder in _MANIFEST_FOLDERS for path in sorted(folder.glob("lvp_icd*.json")))
    return next(found, None)


def _mesa(version: str) -> tuple[int, int]:
    """Mesa's release in a package version: "1:25.0.7-2~bpo12+1" gives (25, 0)."""
    match = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _record_private(unpacked: Path, record: Path) -> None:
    """Writes what `ensure_driver` needs to load a driver that lies in a private folder."""
    manifest = next(unpacked.rglob("lvp_icd*.json"))
    driver = next(unpacked.rglob("libvulkan_lvp.so"))
    folders = {library.parent for library in unpacked.rglob("*.so*")}
    opened = [driver, *(next(unpacked.rglob(name), None) for name in _LIBRARIES)]
    needed = {str(library) for library in opened if library}
    needed |= {name for library in opened if library for name in _linked(library, folders)}
    inside = sorted(library for library in needed if library.startswith(str(unpacked)))
    # A library links to strictly more than any library it links to, so this order loads each
    # one after what it needs.
    inside.sort(key=lambda library: len(_linked(Path(library), folders)))
    content = json.loads(manifest.read_text())
    content["ICD"]["library_path"] = str(driver)
    private_manifest = record.with_name("lvp_icd.json")
    files.write_json(private_manifest, content)
    files.write_json(record, {"manifest": str(private_manifest), "preload": inside})


def _linked(library: Path, folders: set[Path]) -> set[str]:
    """Every library that `library` loads, directly or not, when `folders` are searched first."""
    search = os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, sorted(folders)))}
    listed = subprocess.run(
        ["ldd", library], env=search, capture_output=True, text=True, check=True
    )
    if missing := re.findall(r"(\S+) => not found", listed.stdout):
        raise UserError(f"{library.name} needs {', '.join(missing)}, which no package brought.")
    return set(re.findall(r"=> (/\S+)", listed.stdout))
