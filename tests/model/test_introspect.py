import importlib.util
from pathlib import Path

import pytest
from transformers import AutoModel, LlamaConfig, Mistral3Config

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.conformance import probe
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm, make_tiny, random_weights, save_tokenizer, save_vlm

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>\n{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@pytest.fixture
def stranger(families, tmp_path):
    """A folder of an architecture that no family describes."""
    file = Path(__file__).parent / "made_up_family.py"
    spec = importlib.util.spec_from_file_location("made_up_family", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    vlm = make_tiny((), "made-up")
    vlm.extras = {
        "chat_template.jinja": TEMPLATE,
        "preprocessor_config.json": '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}',
    }
    save_vlm(vlm, tmp_path)
    del families._items["made-up"]
    return tmp_path


def test_an_unknown_architecture_is_adapted_with_an_account(stranger, capsys):
    vlm = load_vlm(stranger, device="cpu")
    account = capsys.readouterr().err
    for words in ("'llava'", "vision_tower", "multi_modal_projector", "16 tokens", "as shipped"):
        assert words in account
    assert vlm.family.prompt == "USER: {image}\n{text} ASSISTANT:"
    assert vlm.family.mean_std[0] == (0.1, 0.2, 0.3)
    assert [check for check in probe(vlm).checks if not check.passed] == []


def test_its_checkpoint_loads_again(stranger, tmp_path, pictures):
    policy = Policy.from_vlm(stranger, action.tiny(), device="cpu")
    policy.save_pretrained(tmp_path / "c")
    again = Policy.from_pretrained(tmp_path / "c", device="cpu")
    assert again.vlm.family.prompt == policy.vlm.family.prompt
    assert (again.act(pictures[:1], ["go"]) == policy.act(pictures[:1], ["go"])).all()


def test_without_a_chat_template_the_prompt_is_plain(stranger, capsys):
    (stranger / "chat_template.jinja").unlink()
    assert load_vlm(stranger, device="cpu").family.prompt == "{image}\n{text}\n"
    assert "without a chat template" in capsys.readouterr().err


def test_a_model_without_eyes_is_refused(small, tmp_path):
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    AutoModel.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(small("smolvlm"), tmp_path)
    with pytest.raises(UserError, match="so it does not see"):
        load_vlm(tmp_path)


def test_pictures_that_need_more_than_pixels_are_refused(small, tmp_path):
    text = {
        "model_type": "mistral",
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    known = small("smolvlm")
    config = Mistral3Config(vision_config=vision, text_config=text, image_token_index=2)
    vlm = Vlm(known.family, random_weights(config, 0), known.tokenizer, "x")
    save_vlm(vlm, tmp_path)
    with pytest.raises(UserError, match=r"more than pixels|could not be computed"):
        load_vlm(tmp_path)
