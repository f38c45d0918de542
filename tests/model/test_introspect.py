import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    Blip2Config,
    JanusConfig,
    LlamaConfig,
    Mistral3Config,
)

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
    checks = probe(vlm).checks
    assert [check for check in checks if not check.passed] == []
    empty = [check for check in checks if not check.compared]
    assert [check.name for check in empty] == ["as shipped"]
    assert "its processor cannot be used here, " in empty[0].claim


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
    with pytest.raises(UserError, match="no vision_config: it reads words only"):
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
    with pytest.raises(UserError, match="it may want image_sizes"):
        load_vlm(tmp_path)


MEAN, STD = [0.1, 0.2, 0.3], [0.9, 0.8, 0.7]
PICTURES = {
    "image_processor_type": "CLIPImageProcessorPil",
    "size": {"height": 64, "width": 64},
    "do_center_crop": False,
    "image_mean": MEAN,
    "image_std": STD,
}
PROCESSOR = {
    "processor_class": "LlavaProcessor",
    "image_processor": PICTURES,
    "patch_size": 16,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
    "image_token": "<image>",
}


def settings(folder, **files):
    """Takes away what a stranger ships and gives it other files."""
    for name in ("chat_template.jinja", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def begin_with(folder, token):
    """Makes the tokenizer put a token before every text, as Llama's does."""
    file = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    number = tokenizer.token_to_id(token)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, number)]
    )
    tokenizer.save(file)


def test_the_processor_of_transformers_5_is_read(stranger, pictures):
    settings(stranger, processor_config=PROCESSOR)
    (stranger / "chat_template.jinja").write_text(TEMPLATE)
    begin_with(stranger, "</s>")
    vlm = load_vlm(stranger, device="cpu")
    assert vlm.family.prompt == "</s>USER: {image}\n{text} ASSISTANT:"
    assert vlm.family.mean_std == (tuple(MEAN), tuple(STD))
    report = probe(vlm)
    assert [check for check in report.checks if not check.passed] == []
    assert report.checks[-1].claim == (
        "tokens, pixels and arguments are those of the shipped processor"
    )
    policy = Policy(vlm, action.tiny())
    (pixels,) = policy.pixels(np.full((1, 64, 64, 3), (51, 102, 204), np.uint8))
    wanted = [(v - m) / s for v, m, s in zip((0.2, 0.4, 0.8), MEAN, STD, strict=True)]
    torch.testing.assert_close(pixels[:, 5, 7], torch.tensor(wanted), atol=1e-5, rtol=0)


def test_a_checkpoint_of_it_is_written_alike(stranger, tmp_path, pictures):
    settings(stranger, processor_config=PROCESSOR, chat_template={"chat_template": TEMPLATE})
    begin_with(stranger, "</s>")
    policy = Policy.from_vlm(stranger, action.tiny(), device="cpu")
    policy.save_pretrained(tmp_path / "c")
    again = Policy.from_pretrained(tmp_path / "c", device="cpu")
    assert again.vlm.family.prompt == policy.vlm.family.prompt
    assert (again.act(pictures[:1], ["go"]) == policy.act(pictures[:1], ["go"])).all()


@pytest.mark.parametrize(
    ("changes", "black", "white"),
    [
        ({}, -1.0, 1.0),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_normalize": False, "rescale_factor": 2 / 255}, 0.0, 2.0),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 255.0),
        ({"rescale_factor": 1 / 127.5}, -1.0, 3.0),
    ],
)
@pytest.mark.parametrize("usable", [True, False])
def test_rescaling_and_normalising_are_what_the_settings_say(
    stranger, changes, black, white, usable
):
    pictures = PICTURES | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | changes
    if usable:
        settings(stranger, processor_config=PROCESSOR | {"image_processor": pictures})
    else:
        settings(stranger, preprocessor_config=pictures | {"image_processor_type": "Missing"})
    policy = Policy.from_vlm(stranger, action.tiny(), device="cpu")
    dark, light = policy.pixels([Image.new("RGB", (64, 64), c) for c in ("black", "white")])
    torch.testing.assert_close(dark, torch.full_like(dark, black), atol=1e-3, rtol=0)
    torch.testing.assert_close(light, torch.full_like(light, white), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template": {"chat_template": TEMPLATE}},
        {"tokenizer_config": {"chat_template": TEMPLATE}},
        {"tokenizer_config": {"chat_template": [{"name": "default", "template": TEMPLATE}]}},
        {"processor_config": {"chat_template": TEMPLATE}},
    ],
)
def test_the_chat_template_is_found_wherever_it_is_kept(stranger, files):
    settings(stranger, **files)
    prompt = load_vlm(stranger, device="cpu").family.prompt
    assert prompt == "USER: {image}\n{text} ASSISTANT:"


def test_tokens_that_begin_every_text_are_kept(stranger):
    settings(stranger, tokenizer_config={"bos_token": {"content": "</s>"}})
    (stranger / "chat_template.jinja").write_text("{{ bos_token }}" + TEMPLATE)
    assert load_vlm(stranger, device="cpu").family.prompt.startswith("</s>USER: {image}")
    (stranger / "chat_template.jinja").write_text(TEMPLATE)
    begin_with(stranger, "</s>")
    assert load_vlm(stranger, device="cpu").family.prompt.startswith("</s>USER: {image}")


def test_a_template_that_raises_is_refused(stranger):
    settings(stranger)
    (stranger / "chat_template.jinja").write_text("{{ raise_exception('No pictures!') }}")
    with pytest.raises(UserError, match=r"chat template of .* fails .*No pictures!"):
        load_vlm(stranger, device="cpu")


def test_a_processor_of_other_sizes_is_refused(stranger):
    small = PICTURES | {"size": {"height": 32, "width": 32}}
    settings(stranger, processor_config=PROCESSOR | {"image_processor": small})
    with pytest.raises(UserError, match=r"\(1, 3, 32, 32\) of a picture, .* one of 64 pixels"):
        load_vlm(stranger, device="cpu")
    settings(stranger, processor_config=PROCESSOR | {"patch_size": 8})
    with pytest.raises(UserError, match="64 image tokens where its vision tower gives 16"):
        load_vlm(stranger, device="cpu")


def test_the_probe_notices_what_the_processor_writes_otherwise(stranger):
    settings(stranger, processor_config=PROCESSOR, chat_template={"chat_template": TEMPLATE})
    vlm = load_vlm(stranger, device="cpu")
    vlm.family = replace(vlm.family, prompt=vlm.family.prompt + "!", mean_std=((0.5,) * 3,) * 2)
    check = probe(vlm).checks[-1]
    assert not check.passed
    assert check.value == 2
    assert "tokens" in check.claim
    assert "pixels up to" in check.claim
    meant = {"tokens": "we shout", "pixels": "we squint"}
    vlm.family = replace(vlm.family, differs=meant)
    check = probe(vlm).checks[-1]
    assert check.passed
    assert "on purpose: we shout" in check.claim


def saved(config, known, folder):
    vlm = Vlm(known.family, random_weights(config, 0), known.tokenizer, "x")
    save_vlm(vlm, folder)


TEXT = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}


def test_a_forward_that_takes_no_features_is_refused_before_it_is_called(small, tmp_path):
    config = Blip2Config(
        vision_config=TOWER,
        qformer_config=TEXT | {"encoder_hidden_size": 32},
        text_config=TEXT | {"model_type": "opt", "ffn_dim": 32, "word_embed_proj_dim": 32},
        image_token_index=2,
        num_query_tokens=4,
    )
    saved(config, small("smolvlm"), tmp_path)
    with pytest.raises(UserError, match="forward does not take picture features"):
        load_vlm(tmp_path, device="cpu")


def test_a_picture_generator_is_no_projector(small, tmp_path, capsys):
    config = JanusConfig(
        text_config=TEXT | {"model_type": "llama", "num_key_value_heads": 2},
        vision_config=TOWER | {"projection_dim": 32, "num_image_tokens": 16, "mlp_ratio": 1.0},
        vq_config={
            "base_channels": 32,
            "latent_channels": 32,
            "num_embeddings": 8,
            "image_token_embed_dim": 32,
            "projection_dim": 32,
        },
        image_token_id=2,
    )
    saved(config, small("smolvlm"), tmp_path)
    vlm = load_vlm(tmp_path, device="cpu")
    assert vlm.family.projector == ("aligner",)
    assert "vqmodel" in vlm.family.unused
    assert "never used: vqmodel, generation_embeddings" in capsys.readouterr().err
    report = probe(vlm)
    assert [check for check in report.checks if not check.passed] == []
    assert report.parts["parameters"]["unused"] > report.parts["parameters"]["projector"] > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_mean": [0.1]}, r"image_mean is \[0.1\], not one finite number or three. Mend it"),
        ({"image_std": [0.1] * 4}, "image_std is .* not one finite number or three"),
        ({"image_mean": "half"}, "image_mean is 'half'"),
        ({"image_mean": [float("nan")] * 3}, "image_mean is .*nan"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255'"),
        ({"rescale_factor": 0}, "divide by zero"),
        ({"image_std": 0}, "divide by zero"),
        ({"do_normalize": "false"}, "do_normalize is 'false', not true or false"),
        ({"do_flip_channel_order": True}, "turn the colours round"),
    ],
)
def test_picture_settings_that_nobody_can_follow_are_refused(stranger, changes, words):
    settings(stranger, preprocessor_config=PICTURES | {"image_processor_type": "Odd"} | changes)
    with pytest.raises(UserError, match=words):
        load_vlm(stranger, device="cpu")


def test_a_processor_that_makes_nan_of_pictures_is_refused(stranger):
    pictures = PICTURES | {"image_mean": [float("nan")] * 3}
    settings(stranger, processor_config=PROCESSOR | {"image_processor": pictures})
    with pytest.raises(UserError, match="numbers of a picture that are not finite"):
        load_vlm(stranger, device="cpu")


SHOUT = "<image>{% for m in messages %}{{ m['content'][1]['text'] }}{% endfor %}"


@pytest.mark.parametrize("usable", [True, False])
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 / 0 }}", "fails over one picture and one sentence: division by zero. Mend it"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "fails over .*recursion"),
    ],
)
def test_a_template_may_fail_in_every_way(stranger, template, words, usable):
    settings(stranger, **({"processor_config": PROCESSOR} if usable else {}))
    (stranger / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=words):
        load_vlm(stranger, device="cpu")


@pytest.mark.parametrize(
    "template", ["{% raw %}{text}{% endraw %}" + SHOUT, "<image>{{ messages[0]['content'] }}"]
)
def test_a_template_that_writes_no_plain_words_is_refused(stranger, template):
    settings(stranger, processor_config=PROCESSOR)
    (stranger / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match="parts of a message as data, or braces of its own"):
        load_vlm(stranger, device="cpu")


@pytest.mark.parametrize("usable", [True, False])
def test_a_template_that_asks_for_the_date_is_told_the_same_one_on_every_day(stranger, usable):
    settings(stranger, **({"processor_config": PROCESSOR} if usable else {}))
    dated = "{% set day = strftime_now('%d %b %Y, %-d. %m.') %}{{ day }} " + SHOUT
    (stranger / "chat_template.jinja").write_text(dated)
    vlm = load_vlm(stranger, device="cpu")
    assert vlm.family.prompt == "26 Jul 2024, 26. 07. {image}{text}"
    assert probe(vlm).checks[-1].passed


@pytest.mark.parametrize("templates", [["x"], [{"name": "default"}], [{"name": "tool_use"}]])
def test_a_list_of_templates_without_a_usual_one_is_none(stranger, templates):
    settings(stranger, tokenizer_config={"chat_template": templates})
    assert load_vlm(stranger, device="cpu").family.prompt == "{image}\n{text}\n"
