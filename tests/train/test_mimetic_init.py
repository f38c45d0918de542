import pytest
import torch

from vlm4vla.train.objectives.language import make_backbone

SIZES = {"vision_layers": 3, "vision_width": 48, "language_layers": 2, "language_width": 48}


def test_a_token_attends_to_what_resembles_it_and_copies_it():
    vlm = make_backbone(**SIZES, heads=4)
    attention = vlm.base.language_model.layers[0].self_attn
    states = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    states[4] = states[1] + 0.1 * states[0]
    queries, keys = attention.q_proj(states), attention.k_proj(states)
    scores = queries[4] @ keys[:4].T
    assert scores.argmax() == 1
    # All heads reading one token give back half of it.
    copied = attention.o_proj(attention.v_proj(states[1]))
    assert torch.allclose(copied, 0.5 * states[1], atol=1e-5)


def test_the_same_seed_gives_the_same_start():
    first, again, other = (make_backbone(seed=seed, **SIZES, heads=4).base for seed in (0, 0, 1))
    name = "language_model.layers.1.mlp.up_proj.weight"
    weights = [dict(base.named_parameters())[name] for base in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert abs(weights[0].std().item() - 48**-0.5) < 0.01


@pytest.mark.parametrize("family", ["qwen3-vl", "paligemma", "kosmos-2"])
def test_words_enter_at_the_scale_that_was_asked_for(family):
    vlm = make_backbone(family)
    words = vlm.base.get_input_embeddings()(torch.arange(len(vlm.words)))
    expected = {"qwen3-vl": 0.5, "paligemma": 0.5, "kosmos-2": 0.16}[family]
    assert abs(words.std().item() - expected) < 0.01 * expected


def test_a_latent_does_not_begin_by_looking_at_itself():
    projection = make_backbone("kosmos-2").base.image_to_text_projection
    attention, latents = projection.x_attn, projection.latent_query
    scores = attention.q_proj(latents) @ attention.k_proj(latents).T
    assert scores.diagonal().mean() < scores.std()
