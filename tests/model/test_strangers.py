"""The table of strangers in docs/backbones.md, against the transformers that is installed."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vlm4vla.errors import UserError
from vlm4vla.model import introspect
from vlm4vla.model.family import family_of
from vlm4vla.model.vlm import quiet

PAGE = Path(__file__).resolve().parents[2] / "docs/backbones.md"


def table() -> dict[str, tuple[int, list[str]]]:
    """What came of it -> how many, and which architectures."""
    _, _, rest = PAGE.read_text("utf-8").partition("| what came of it | how many |")
    found = {}
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            break
        what, count, names = line.strip("|").split("|")
        found[what.strip()] = int(count), re.findall(r"`([^`]+)`", names.split("(")[0])
    return found


def row(beginning: str) -> list[str]:
    [names] = [names for what, (_, names) in table().items() if what.startswith(beginning)]
    return names


def config(kind: str) -> Any:
    with quiet():
        return CONFIG_MAPPING[kind]()


def test_every_architecture_stands_in_the_table_once_and_is_counted() -> None:
    rows = table().values()
    listed = [name for _, names in rows for name in names]
    assert sorted(listed) == sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    assert [count for count, _ in rows] == [len(names) for _, names in rows]
    assert f"the {len(listed)} image-text architectures" in PAGE.read_text("utf-8")


def test_families_are_known_and_strangers_are_not() -> None:
    known = {*row("a family, no check failed"), *row("a family's class")}
    for kind in known | set(row("adapted from what")):
        assert (family_of(config(kind)) is not None) == (kind in known), kind


def test_pictures_of_no_fixed_size_are_told_from_the_config_alone() -> None:
    for kind in row("pictures of no fixed square size"):
        with pytest.raises(UserError, match="no fixed square size"):
            introspect._side(kind, config(kind))


def test_what_has_no_bare_model_has_none() -> None:
    for kind in row("no bare model"):
        assert CONFIG_MAPPING[kind] not in AutoModel._model_mapping, kind
    for kind in row("adapted from what"):
        assert CONFIG_MAPPING[kind] in AutoModel._model_mapping, kind


def test_what_has_no_vision_tower_in_its_config_has_none() -> None:
    for kind in row("no vision tower in the config"):
        assert getattr(config(kind), "vision_config", None) is None, kind
