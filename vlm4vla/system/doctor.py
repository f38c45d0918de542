"""Can this machine do the main job: simulate, and render live?

A check fails only if that job cannot run; whatever merely slows it down or touches something
else is a warning. Nothing is cached: every call looks again.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlm4vla import paths
from vlm4vla.errors import UserError
from vlm4vla.system import vulkan
from vlm4vla.system.probe import BOX_SHARE

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
WHOLE = f"{ROOT}[sim]"
"""The package with the simulator, as pip is told it."""
INSTALL = f"{BIN}/pip install -e '{WHOLE}' -c {ROOT}/constraints.txt"
FIX = f"{BIN}/vlm4vla doctor --fix"
NO_VULKAN = "Recordings play, and Run is disabled."

PROBE_SECONDS = 120
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """What one check found.

    Args:
        name: what was looked at, in a word or two.
        status: "fail" if the main job cannot run, "warn" if something else suffers.
        detail: what was found, as one line.
        fix: what to do about it, as a command or a sentence; empty when all is well.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def run_checks() -> list[Check]:
    """Runs every check; takes some seconds, most of them for the test render."""
    return [
        check_python(),
        check_packages(),
        *check_renderer(),
        check_memory(),
        check_bf16(),
        check_disk(),
        check_data_folder(),
        check_accelerator(),
    ]


def repairs(checks: list[Check]) -> dict[str, Callable[[], None]]:
    """The failed checks that can be put right without asking, by name, in order."""
    known = {"packages": _install_packages, "Vulkan": vulkan.install_driver}
    failed = {check.name for check in checks if check.status != "ok"}
    if vulkan.overridden():
        # The user chose that driver; installing another would not change the choice.
        failed.discard("Vulkan")
    return {name: repair for name, repair in known.items() if name in failed}


def check_python() -> Check:
    """Python 3.11 or 3.12."""
    version = sys.version.split()[0]
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("Python", "ok", version)
    fix = "make app PYTHON=/path/to/python3.12"
    return Check("Python", "fail", f"{version}, and 3.11 or 3.12 is needed", fix)


def check_packages(root: Path = ROOT) -> Check:
    """Every required package is there, in the version that was tested."""
    name = "packages"
    if not (root / "constraints.txt").is_file():
        return Check(name, "warn", "not a checkout: no constraints.txt to compare with")
    # An installation that was interrupted leaves packages without a name.
    installed = {
        canonical(package.name): package.version
        for package in importlib.metadata.distributions()
        if package.metadata["Name"]
    }
    required = re.findall(r"^([\w.-]+)", (root / "requirements.txt").read_text(), re.MULTILINE)
    missing = [package for package in required if canonical(package) not in installed]
    if missing:
        return Check(name, "fail", f"missing: {', '.join(missing)}", f"{INSTALL}, or {FIX}")
    tested = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (root / "constraints.txt").read_text(), re.MULTILINE)
    )
    present = {package: installed.get(canonical(package), "") for package in tested}
    # A local label ("2.13.0+cpu") names the build, not another version.
    differing = [
        f"{package} {version} (tested {tested[package]})"
        for package, version in present.items()
        if version and version.split("+")[0] != tested[package]
    ]
    if differing:
        return Check(name, "warn", ", ".join(differing), f"{INSTALL}, or {FIX}")
    count = sum(bool(version) for version in present.values())
    return Check(name, "ok", f"{count} in the tested versions")


def check_renderer() -> list[Check]:
    """A Vulkan device with Mesa's version, and a test render with its time."""
    found, error = _probe()
    fix = _renderer_fix()
    devices = found.get("devices")
    if not devices:
        # Without a list the probe ended before it could ask, and its error is the reason.
        reason = "no Vulkan driver answers" if devices == [] else _last_line(error)
        if missing := re.match(r"ModuleNotFoundError: No module named '([\w.]+)'", reason):
            detail = f"not installed: {missing[1]} is missing. {NO_VULKAN}"
            return [Check("packages of the simulator", "fail", detail, f"{INSTALL}, or {FIX}")]
        if name := vulkan.overridden():
            reason += f" ({name}={os.environ[name]})"
        return [
            Check("Vulkan", "fail", f"{reason}. {NO_VULKAN}", fix),
            Check("test render", "fail", "not possible without Vulkan", fix),
        ]
    detail = "; ".join(f"{device['name']}, {device['driver']}" for device in devices)
    versions = [tuple(map(int, v)) for v in re.findall(r"Mesa (\d+)\.(\d+)", detail)]
    if versions and max(versions) < vulkan.MINIMUM_MESA:
        wanted = ".".join(map(str, vulkan.MINIMUM_MESA))
        device = Check("Vulkan", "fail", f"{detail}: older than {wanted}. {NO_VULKAN}", fix)
    else:
        device = Check("Vulkan", "ok", detail)
    return [device, _judge_render(found.get("render"), error, fix)]


def check_memory(
    meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")
) -> Check:
    """Enough free memory for the app with one simulator."""
    if not meminfo.is_file():
        return Check("memory", "ok", "not known on this system; 2 GiB are needed")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    free = int(match[1]) * 1024 / GIB if match else 0.0
    limit = group / "memory.max"
    # In a container the machine's memory says little.
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        used = int((group / "memory.current").read_text()) - _file_cache(group)
        free = min(free, (int(most) - used) / GIB)
    detail = f"{free:.1f} GiB available"
    if free < 2:
        return Check("memory", "fail", f"{detail}, 2 are needed", "Close other programs.")
    if free < 6:
        return Check("memory", "warn", f"{detail}, training wants 6", "Close other programs.")
    return Check("memory", "ok", detail)


def _file_cache(group: Path) -> int:
    """Bytes of a container's used memory that hold files, and are given back when needed."""
    counts = group / "memory.stat"
    text = counts.read_text() if counts.is_file() else ""
    return sum(map(int, re.findall(r"^(?:in)?active_file (\d+)$", text, re.MULTILINE)))


def check_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> Check:
    """Whether the processor multiplies bf16 numbers itself, which makes training faster."""
    flags = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set[str]()
    found = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    return Check("bf16", "ok", f"in the processor ({', '.join(found)})" if found else "no: fp32")


def check_disk() -> Check:
    """Free space where the app writes."""
    folder = paths.home()
    while not _visible(folder):
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    detail = f"{free:.1f} GiB free at {folder}"
    fix = "Free some space, or set VLM4VLA_HOME to a folder on another disk."
    if free < 0.5:
        return Check("disk", "fail", f"{detail}, 0.5 are needed", fix)
    if free < 5:
        return Check("disk", "warn", f"{detail}, a full data set wants 5", fix)
    return Check("disk", "ok", detail)


def _visible(folder: Path) -> bool:
    """Whether a folder is there, as far as one may look."""
    try:
        return folder.exists()
    except PermissionError:
        return False


def check_data_folder() -> Check:
    """A file can be written to the data folder."""
    folder = paths.home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as written:
            written.write(b"0")
    except OSError as error:
        fix = "Set VLM4VLA_HOME to a folder that you can write to."
        return Check("data folder", "fail", f"{folder}: {error.strerror}", fix)
    return Check("data folder", "ok", str(folder))


def check_accelerator() -> Check:
    """A graphics card that torch could train on; none is needed."""
    name = "accelerator"
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check(name, "ok", "none; not needed")
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:
        return Check(name, "warn", "nvidia-smi does not answer")
    if listed.returncode != 0:
        return Check(name, "warn", f"nvidia-smi: {_last_line(listed.stdout + listed.stderr)}")
    cards = "; ".join(listed.stdout.strip().splitlines())
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "warn", f"{cards}, and no torch", f"{INSTALL}, or {FIX}")
    if version.endswith("+cpu"):
        fix = f"{BIN}/pip install --force-reinstall torch=={version.split('+')[0]}"
        return Check(name, "warn", f"{cards}, but this torch is built for the CPU only", fix)
    return Check(name, "ok", cards)


def _probe() -> tuple[dict[str, Any], str]:
    """What `vlm4vla.system.probe` found before it ended, and why it ended if it did not finish."""
    command = [sys.executable, "-m", "vlm4vla.system.probe"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired as late:
        partial = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        return _json_lines(partial), f"no answer within {PROBE_SECONDS} s"
    if done.returncode < 0:
        return _json_lines(done.stdout), f"ended by signal {-done.returncode}"
    return _json_lines(done.stdout), done.stderr if done.returncode else ""


def _json_lines(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found


def _judge_render(render: dict[str, float] | None, error: str, fix: str) -> Check:
    name = "test render"
    if render is None:
        return Check(name, "fail", f"{_last_line(error)}. {NO_VULKAN}", fix)
    if abs(render["box"] - BOX_SHARE) > 0.02:
        detail = f"the box covers {render['box']:.1%} of the picture, not {BOX_SHARE:.1%}"
        return Check(name, "fail", f"{detail}. {NO_VULKAN}", fix)
    first = f"the first, with its shaders, {render['first_ms'] / 1000:.1f} s"
    return Check(name, "ok", f"{render['ms']:.1f} ms a picture; {first}")


def _renderer_fix() -> str:
    name = vulkan.overridden()
    return f"unset {name}" if name else FIX


def _install_packages() -> None:
    constraints = str(ROOT / "constraints.txt")
    command = [sys.executable, "-m", "pip", "install", "-e", WHOLE, "-c", constraints]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise UserError("pip could not install the packages.", "Its last lines above say why.")


def canonical(package: str) -> str:
    """The one way to write a package's name."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
