"""Each check must fail where its claim is broken."""

from dataclasses import replace

import torch

from vlm4vla.model import conformance
from vlm4vla.model.conformance import probe
from vlm4vla.model.policy import Policy


def failed(vlm):
    return {check.name for check in probe(vlm).checks if not check.passed}


def test_a_query_inside_a_prefix_that_looks_forward(small):
    vlm = small("paligemma")
    vlm.family = replace(
        vlm.family, inputs=lambda rows, config: {"token_type_ids": torch.zeros_like(rows.ids)}
    )
    assert {"earlier tokens", "VLM untouched"} <= failed(vlm)


def test_pictures_without_effect(small):
    vlm = small("gemma3")
    torch.nn.init.zeros_(vlm.base.multi_modal_projector.mm_input_projection_weight)
    assert "both matter" in failed(vlm)


def test_a_blind_query(small):
    vlm = small("paligemma")

    def only_itself(module, args, kwargs):
        mask = kwargs["attention_mask"]
        blind = torch.full_like(mask, False) if mask.dtype == torch.bool else mask.clone()
        if mask.dtype == torch.bool:
            blind |= torch.eye(mask.shape[-1], dtype=torch.bool)
        return args, kwargs | {"attention_mask": blind}

    vlm.base.language_model.register_forward_pre_hook(only_itself, with_kwargs=True)
    assert {"sees everything", "both matter"} <= failed(vlm)


def test_attended_padding_is_harmless_after_the_query(small):
    vlm = small("internvl")

    def everything(module, args, kwargs):
        mask = kwargs["attention_mask"]
        return args, kwargs | {"attention_mask": torch.ones_like(mask)}

    vlm.base.language_model.register_forward_pre_hook(everything, with_kwargs=True)
    # Padding stands after the query, so a causal model ignores it even when it is attended.
    assert failed(vlm) == set()


def test_positions_that_depend_on_the_neighbours(small):
    vlm = small("internvl")

    def stretched(rows, config):
        length = rows.ids.shape[1]
        return {"position_ids": (torch.arange(length) * length).expand(len(rows.ids), -1)}

    vlm.family = replace(vlm.family, inputs=stretched)
    assert "padding" in failed(vlm)


def test_a_wrong_freeze_boundary(small, monkeypatch):
    # Declaring the projector a part of vision is not caught by names alone, a frozen tower that
    # still learns is.
    vlm = small("paligemma")
    real = conformance.set_trainable

    def leaky(policy, groups):
        real(policy, groups)
        policy.base.vision_tower.requires_grad_(True)

    monkeypatch.setattr(conformance, "set_trainable", leaky)
    assert failed(vlm) == {"freezing"}


def test_a_prompt_that_tokenises_differently(small, monkeypatch):
    vlm = small("qwen3-vl")
    real = conformance.token_ids
    monkeypatch.setattr(conformance, "token_ids", lambda t, text: real(t, text + "!"))
    assert failed(vlm) == {"prompt"}


def test_a_lossy_checkpoint(small, monkeypatch):
    real = Policy.save_pretrained
    monkeypatch.setattr(
        Policy, "save_pretrained", lambda policy, folder: real(policy, folder, dtype=torch.bfloat16)
    )
    assert failed(small("smolvlm")) == {"save and load"}


def test_weights_and_switches_are_left_as_they_were(small):
    vlm = small("kosmos-2")
    before = {name: p.clone() for name, p in vlm.base.named_parameters()}
    vlm.base.vision_model.requires_grad_(False)
    probe(vlm)
    for name, parameter in vlm.base.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad == (not name.startswith("vision_model"))


def test_report_names_the_parts(small):
    report = probe(small("qwen3-vl")).to_json()
    assert report["passed"] is True
    assert report["parts"]["vision tower"] == "visual"
    assert report["parts"]["hidden size"] == 64
    start, end = report["parts"]["image tokens"]
    assert end - start == 64
    assert report["parts"]["parameters"]["projector"] == 0
