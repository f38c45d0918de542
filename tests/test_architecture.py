"""Who may import whom, as docs/architecture.md says, and its list of files.

`python -m tests.test_architecture` writes the list anew.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlm4vla.files import replacing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
OURS = ("vlm4vla", "pages", "app", "tests", "benchmarks", "assets")


def section(name: str, text: str | None = None) -> str:
    """What stands between the markers of a name."""
    text = PAGE.read_text("utf-8") if text is None else text
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert found, f"docs/architecture.md has no {name}"
    return found[1]


def table(name: str) -> list[list[str]]:
    """The rows of a table between markers, without its head."""
    rows = section(name).strip().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def quoted(cell: str) -> list[str]:
    """The names in backticks."""
    return re.findall(r"`([^`]+)`", cell)


FLOORS = list(dict.fromkeys(floor for floor, *_ in table("floors")))
FLOOR_OF = {
    room: FLOORS.index(floor) for floor, rooms, *_ in table("floors") for room in quoted(rooms)
}
OUTSIDE_OF = {
    room: None if outside == "any" else quoted(outside)
    for _, rooms, _, outside in table("floors")
    for room in quoted(rooms)
}
KEEPERS = {name: quoted(rooms) for names, rooms in table("packages") for name in quoted(names)}


def room_of(module: str) -> str:
    """The room of a module's full name."""
    return module.removeprefix("vlm4vla.").split(".")[0]


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, in functions as well."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{one.name}") for one in node.names)


def complaint(module: str, imported: str) -> str:
    """Why a module may not import a name; "" if it may."""
    room, outside = room_of(module), imported.split(".")[0]
    if outside in OURS:
        other = room_of(imported)
        if other == room or imported == "vlm4vla.__version__":
            return ""
        if other not in FLOOR_OF:
            return f"{other} stands on no floor"
        ground = FLOOR_OF[room] == FLOOR_OF[other] == 0
        return "" if FLOOR_OF[other] < FLOOR_OF[room] or ground else f"{other} is not below {room}"
    if outside in sys.stdlib_module_names and outside not in KEEPERS:
        return ""
    allowed = OUTSIDE_OF[room]
    if allowed is not None and outside not in allowed and outside not in KEEPERS:
        return f"{room} takes {', '.join(allowed) or 'nothing'} from outside"
    name = module.removeprefix("vlm4vla.")
    keepers = KEEPERS.get(outside, [room])
    kept = any(name == keeper or name.startswith(f"{keeper}.") for keeper in keepers)
    return "" if kept else f"{outside} is for {', '.join(keepers)}"


def sources(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of the house and its module's name."""
    for folder in ("vlm4vla", "pages"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path, ".".join(path.relative_to(root).with_suffix("").parts)
    if (root / "app.py").exists():
        yield root / "app.py", "app"


def violations(root: Path) -> list[str]:
    """Every import that the page does not allow."""
    found = []
    for path, name in sources(root):
        module = name.removesuffix(".__init__")
        if module in ("vlm4vla", "pages"):
            continue
        if room_of(module) not in FLOOR_OF:
            found.append(f"{name}: {room_of(module)} stands on no floor")
            continue
        for line, imported in imports(path, module):
            if why := complaint(module, imported):
                found.append(f"{name}:{line} imports {imported}: {why}")
    return found


def test_nobody_imports_upwards() -> None:
    assert violations(ROOT) == []
    rooms = {room_of(name) for _, name in sources(ROOT) if name != "vlm4vla.__init__"}
    assert rooms == set(FLOOR_OF), "every room stands on a floor, and no other does"


UPWARDS = [
    ("vlm4vla/core/x.py", "def f():\n    from vlm4vla.agents import policy", "agents is not below"),
    ("vlm4vla/core/x.py", "from vlm4vla import agents", "agents is not below core"),
    ("vlm4vla/core/x.py", "from ..agents.policy import PolicyAgent", "agents is not below core"),
    ("vlm4vla/core/x.py", "import vlm4vla.suites.registry", "suites is not below core"),
    ("vlm4vla/core/x.py", "import scipy", "core takes numpy from outside"),
    ("vlm4vla/core/x.py", "import torch.nn", "torch is for model"),
    ("vlm4vla/errors.py", "from vlm4vla.core import agent", "core is not below errors"),
    ("vlm4vla/language/x.py", "import torch", "torch is for model"),
    ("vlm4vla/language/x.py", "from vlm4vla.core import agent", "core is not below language"),
    ("vlm4vla/suites/x.py", "from vlm4vla.model import policy", "model is not below suites"),
    ("vlm4vla/suites/libero/x.py", "import sapien", "sapien is for suites.tabletop"),
    ("vlm4vla/suites/tabletop/suite.py", "import torch", "torch is for model"),
    ("vlm4vla/agents/x.py", "from vlm4vla.episodes import table", "episodes is not below agents"),
    ("vlm4vla/train/x.py", "import gymnasium", "gymnasium is for suites.tabletop"),
    ("vlm4vla/eval/x.py", "from vlm4vla.live import queue", "live is not below eval"),
    ("vlm4vla/live/x.py", "import sqlite3", "sqlite3 is for episodes"),
    ("vlm4vla/commands/x.py", "from pages import site", "pages is not below commands"),
    ("pages/x.py", "def f():\n    import torch", "torch is for model"),
    ("pages/x.py", "from vlm4vla.commands import eval", "commands is not below pages"),
    ("vlm4vla/model/x.py", "from tests import waiting", "tests stands on no floor"),
    ("vlm4vla/attic/x.py", "import os", "attic stands on no floor"),
]
DOWNWARDS = [
    ("vlm4vla/core/x.py", "import numpy\nfrom importlib import metadata\nfrom . import agent"),
    (
        "vlm4vla/core/x.py",
        "from vlm4vla import __version__, seeds\nfrom ..action import Array",
    ),
    ("vlm4vla/files.py", "from vlm4vla.errors import UserError"),
    ("vlm4vla/suites/tabletop/env.py", "import torch, sapien, gymnasium\nimport mani_skill.envs"),
    ("vlm4vla/agents/x.py", "def f():\n    from vlm4vla.model import policy\n    import torch"),
    ("app.py", "from pages import site"),
]


@pytest.mark.parametrize(("file", "code", "why"), UPWARDS)
def test_a_planted_import_is_found(tmp_path: Path, file: str, code: str, why: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(parents=True)
    planted.write_text(code)
    [found] = violations(tmp_path)
    assert found.startswith(file.removesuffix(".py").replace("/", ".")) and why in found


@pytest.mark.parametrize(("file", "code"), DOWNWARDS)
def test_what_is_allowed_is_not_complained_of(tmp_path: Path, file: str, code: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(code)
    assert violations(tmp_path) == []


def tree(root: Path) -> str:
    """Every file of the house with its docstring's first line, a folder a heading."""
    lines: list[str] = []
    heads: set[Path] = set()
    files = [path for path, _ in sources(root)] + sorted((root / "benchmarks").glob("*.py"))
    for path in files:
        place = path.relative_to(root)
        words = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if words is None:
            assert not path.read_text("utf-8").strip(), f"{place} has no docstring"
            continue
        for folder in reversed(place.parents[:-1]):
            if folder not in heads:
                heads.add(folder)
                lines.append(f"{'  ' * (len(folder.parts) - 1)}{folder.name}/")
        name = f"{'  ' * len(place.parent.parts)}{place.name}"
        lines.append(f"{name:<26} {words.splitlines()[0]}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def test_the_list_of_files_is_up_to_date() -> None:
    assert section("tree") == tree(ROOT), "run `python -m tests.test_architecture`"


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    written = text.replace(section("tree", text) + "<!-- /tree -->", tree(ROOT) + "<!-- /tree -->")
    with replacing(PAGE) as temporary:
        temporary.write_text(written, "utf-8")
