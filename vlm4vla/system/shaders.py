"""SAPIEN's minimal shaders without the reflection of surroundings, for scenes that have none.

They add to a pixel what its surface reflects of an environment map, which is black unless a scene
sets one. For it SAPIEN integrates a table of reflectances before a process's first picture, and a
renderer on the CPU takes seconds to do so. Without it pictures are the same to the bit.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from vlm4vla import paths
from vlm4vla.files import replacing_folder

STOCK: Final = "minimal"
"""The shader pack that ManiSkill renders with unless told otherwise."""

_INCLUDED: Final = "common"
"""What the packs beside it include."""

_TABLE: Final = "samplerBRDFLUT"
_DECLARED: Final = re.compile(rf"^layout\(.*\) uniform sampler2D {_TABLE};$\n", re.MULTILINE)
_READ: Final = re.compile(rf"texture\({_TABLE}, [^;]*\)\.xy")


def without_reflection() -> str:
    """The shader pack as SAPIEN takes it: a folder in the cache, made on the first call.

    Returns:
        the folder's path, or `STOCK` where the installed SAPIEN's shaders are other ones than those
        that this knows, so that only time is lost.

    Raises:
        UserError: the cache cannot be written.
    """
    spec = find_spec("sapien")
    if spec is None or spec.submodule_search_locations is None:
        return STOCK
    packs = Path(spec.submodule_search_locations[0]) / "vulkan_shader"
    written = {}
    for file in sorted(path for name in (STOCK, _INCLUDED) for path in (packs / name).glob("*.*")):
        text = _READ.sub("vec2(0)", _DECLARED.sub("", file.read_text("utf-8")))
        if _TABLE in text:
            return STOCK
        written[file.relative_to(packs)] = text
    key = hashlib.sha256(repr(sorted(written.items())).encode()).hexdigest()[:12]
    folder = paths.cache() / f"shaders-{key}"
    if not folder.exists():
        with replacing_folder(folder) as temporary:
            for name, text in written.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_text(text, "utf-8")
    return str(folder / STOCK)
