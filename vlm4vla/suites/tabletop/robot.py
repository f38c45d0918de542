"""The Panda with light visual meshes: what a CPU renderer can draw a hundred times a second.

The installed package's visual meshes hold 135 thousand triangles, nine tenths of a frame's time on
a software renderer. They are decimated once into the cache; collision meshes stay as they are, so
physics is untouched.
"""

import hashlib
import shutil
import tempfile
from functools import cache as run_once
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
import trimesh
from mani_skill import __version__ as mani_skill_version
from mani_skill.agents.registration import register_agent
from mani_skill.agents.robots.panda.panda import Panda

from vlm4vla import paths
from vlm4vla.errors import UserError

KEEP_TRIANGLES: Final = 0.12
"""Share of the triangles that is kept; at 5 % shading artefacts show, at 15 % none do."""

SMALLEST_PART: Final = 120
"""Parts with fewer triangles than this are kept whole."""


def light_urdf() -> Path:
    """The URDF of the light Panda, made on the first call and found in the cache afterwards.

    Raises:
        UserError: the cache cannot be written.
    """
    source = Path(Panda.urdf_path)
    key = hashlib.sha256(
        f"{mani_skill_version} {KEEP_TRIANGLES} {SMALLEST_PART} 1".encode() + source.read_bytes()
    ).hexdigest()[:12]
    folder = paths.cache() / f"panda-{key}"
    urdf = folder / "panda.urdf"
    if not urdf.exists():
        try:
            _build(source, folder)
        except OSError as error:
            raise UserError(
                f"Could not write {folder}: {error.strerror or error}.",
                "Free some disk space, or let VLM4VLA_HOME name another folder.",
            ) from error
    return urdf


def _build(source: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        tree = ElementTree.parse(source)
        for mesh in tree.iterfind(".//mesh"):
            original = source.parent / mesh.attrib["filename"]
            if original.suffix == ".glb":
                target = temporary / original.name
                if not target.exists():
                    _decimate(original).export(target)
                mesh.set("filename", original.name)
            else:
                # The collision mesh and the convex hull that SAPIEN keeps beside it.
                for part in (original, original.with_name(original.name + ".convex.stl")):
                    if part.exists():
                        shutil.copyfile(part, temporary / part.name)
                mesh.set("filename", original.name)
        tree.write(temporary / "panda.urdf")
        try:
            temporary.rename(folder)
        except OSError:
            # Another process finished first; its folder has the same content.
            if not (folder / "panda.urdf").exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decimate(path: Path) -> trimesh.Scene:
    """Joins the parts of a mesh by material and decimates each."""
    scene = trimesh.load_scene(path)
    parts: dict[str, list[trimesh.Trimesh]] = {}
    for mesh in scene.dump():
        material = mesh.visual.material
        parts.setdefault(str(np.asarray(material.main_color).tolist()), []).append(mesh)
    light = trimesh.Scene()
    for index, meshes in enumerate(parts.values()):
        material = meshes[0].visual.material
        whole = trimesh.util.concatenate(
            [trimesh.Trimesh(mesh.vertices, mesh.faces) for mesh in meshes]
        )
        whole.merge_vertices()
        if len(whole.faces) > SMALLEST_PART:
            whole = whole.simplify_quadric_decimation(
                face_count=max(SMALLEST_PART, int(len(whole.faces) * KEEP_TRIANGLES))
            )
        # Sharp edges keep separate normals; smooth normals across them look like dents.
        whole = trimesh.graph.smooth_shade(whole, angle=np.radians(40))
        whole.visual = trimesh.visual.TextureVisuals(
            material=trimesh.visual.material.PBRMaterial(
                baseColorFactor=material.main_color, metallicFactor=0.0, roughnessFactor=0.7
            )
        )
        light.add_geometry(whole, geom_name=f"part{index}")
    return light


@run_once
def light_panda() -> str:
    """Registers the light Panda with ManiSkill and returns its robot uid."""

    @register_agent()
    class LightPanda(Panda):
        uid = "panda_light"
        urdf_path = str(light_urdf())

    return LightPanda.uid
