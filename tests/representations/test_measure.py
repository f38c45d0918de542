import hashlib
from pathlib import Path

import pytest

from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.errors import UserError
from vlm4vla.representations.measure import Encoder


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_vlm_is_known_by_its_settings_weights_and_words(tmp_path: Path) -> None:
    names = ("config.json", "model.safetensors", "tokenizer.json")
    encoder = Encoder("one", folder_of(tmp_path, *names))
    assert encoder.digest == hashlib.sha256("".join(names).encode()).hexdigest()[:16]


def test_weights_in_several_files_count_all(tmp_path: Path) -> None:
    parts = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    names = ("config.json", "tokenizer.json", "model.safetensors.index.json", *parts)
    encoder = Encoder("large", folder_of(tmp_path, *names))
    before = encoder.digest
    (tmp_path / parts[1]).write_text("other weights")
    assert encoder.digest != before


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_settings_weights_or_words_is_told(tmp_path: Path, missing: str) -> None:
    names = {"config.json", "model.safetensors", "tokenizer.json"} - {missing}
    encoder = Encoder("half", folder_of(tmp_path, *names))
    with pytest.raises(UserError, match=f"has no {missing}"):
        _ = encoder.digest


def test_a_list_of_weights_is_no_weights(tmp_path: Path) -> None:
    names = ("config.json", "tokenizer.json", "model.safetensors.index.json")
    encoder = Encoder("list", folder_of(tmp_path, *names))
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        _ = encoder.digest


def test_a_vlm_is_probed_with_a_query_of_zeros_and_fresh_weights_with_a_random_one() -> None:
    encoder = Encoder("vlm-init/qwen3-vl", SHIPPED / "vlm-init" / "qwen3-vl")
    zero, random = encoder.load(), encoder.scratch()
    assert not zero.query.any() and random.query.all()
    for policy in (zero, random):
        policy.detach()
