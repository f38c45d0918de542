"""Families against transformers' own processors, put together from settings like the Hub's."""

import json

import pytest

from vlm4vla import action
from vlm4vla.model.conformance import as_shipped
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm

SIZE = {"height": 128, "width": 128}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}"
    "{% if p.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
PALIGEMMA = {
    "preprocessor_config": {
        "image_processor_type": "SiglipImageProcessor",
        "size": SIZE,
        "image_seq_length": 64,
        **HALF,
    },
    "tokenizer_config": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
}
QWEN3 = {
    "preprocessor_config": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 16,
        "merge_size": 1,
        "temporal_patch_size": 1,
        "size": {"shortest_edge": 128**2, "longest_edge": 128**2},
        **HALF,
    },
    "tokenizer_config": {"pad_token": "<|endoftext|>"},
}
FLORENCE = {
    "preprocessor_config": {
        "image_processor_type": "CLIPImageProcessor",
        "size": SIZE,
        "do_center_crop": False,
        "image_seq_length": 17,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "tokenizer_config": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "extra_special_tokens": {"image_token": "<image>"},
    },
}


def check(small, folder, name, files, template=None):
    save_vlm(small(name), folder)
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return as_shipped(Policy(load_vlm(folder, device="cpu"), action.tiny()))


@pytest.mark.parametrize(
    ("name", "files", "template"),
    [
        ("paligemma", PALIGEMMA, None),
        ("qwen3-vl", QWEN3, SYSTEM + QWEN),
        ("florence-2", FLORENCE, None),
    ],
)
def test_a_family_writes_what_its_processor_writes(small, tmp_path, name, files, template):
    found = check(small, tmp_path, name, files, template)
    assert found.passed
    assert found.claim == "tokens, pixels and arguments are those of the shipped processor"


def test_the_papers_own_words_are_declared_and_told(small, tmp_path):
    found = check(small, tmp_path, "qwen3-vl", QWEN3, QWEN)
    assert found.passed
    assert "You are a helpful assistant" in found.claim
    assert "tokens on purpose: the paper gives a system message" in found.claim
    assert "arguments" not in found.claim


@pytest.mark.parametrize(
    ("name", "files", "wrong"),
    [
        ("paligemma", {"image_mean": [0.4] * 3}, "pixels up to"),
        ("paligemma", {"do_rescale": False}, "pixels up to"),
        ("qwen3-vl", {"size": {"shortest_edge": 64**2, "longest_edge": 64**2}}, "pixels (16, "),
    ],
)
def test_settings_that_a_family_does_not_follow_fail(small, tmp_path, name, files, wrong):
    known = {"paligemma": PALIGEMMA, "qwen3-vl": QWEN3}[name]
    changed = known | {"preprocessor_config": known["preprocessor_config"] | files}
    found = check(small, tmp_path, name, changed, QWEN if name == "qwen3-vl" else None)
    assert not found.passed
    assert wrong in found.claim


def test_nothing_shipped_is_said(small):
    found = as_shipped(Policy(small("paligemma"), action.tiny()))
    assert found.claim == "nothing to compare with: none is shipped"
