"""A VLM's own forward, cut in two: pictures to features, features and rows to hidden states."""

import torch
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.prompt import build_rows, split_for_decoder
from vlm4vla.model.vlm import Vlm


def encode(vlm: Vlm, pixels: Tensor) -> Features:
    """Features of pictures (B, 3, side, side); gradients flow through."""
    given = vlm.family.pixels(pixels.to(vlm.base.dtype), vlm.base.config)
    return Features.of(vlm.base.get_image_features(**given, return_dict=True), len(pixels))


def hidden_states(vlm: Vlm, features: Features, rows: Rows) -> Tensor:
    """Last hidden states (R, L, D) over rows with a picture each; of the decoder if it has one.

    Raises:
        UserError: pictures and rows, or image tokens and features, differ in number.
    """
    if features.tokens.shape[:2] != (len(rows.ids), vlm.image_tokens):
        count, tokens, _ = features.tokens.shape
        raise UserError(
            f"{count} pictures of {tokens} tokens do not fit {len(rows.ids)} rows with "
            f"{vlm.image_tokens} image tokens."
        )
    config = vlm.base.config
    text = {"input_ids": rows.ids, "attention_mask": rows.attention}
    if config.is_encoder_decoder:
        text = split_for_decoder(rows, config.get_text_config().decoder_start_token_id)
    output = vlm.base(
        **features.arguments(vlm.base, text.pop("input_ids"), rows.is_image),
        **text,
        **vlm.family.inputs(rows, config),
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state
    return states


@torch.no_grad()
def rehearse(vlm: Vlm) -> set[str]:
    """Runs a grey picture and a short sentence through the whole VLM, so that later calls work.

    Returns:
        The names of the model's parts that were called.

    Raises:
        Exception: whatever the VLM's classes raise when they cannot be called like this.
    """
    called: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, part=part: called.add(part))
        for part, whole in vlm.base.named_children()
        for module in whole.modules()
    ]
    try:
        device, side = vlm.words.device, vlm.family.side(vlm.base.config)
        features = encode(vlm, torch.zeros(1, 3, side, side, device=device))
        text = [vlm.family.text("go")]
        rows = build_rows(vlm.tokenizer, vlm.family, vlm.image_tokens, text, [""], device)
        states = hidden_states(vlm, features, rows)
    finally:
        for handle in handles:
            handle.remove()
    if states.shape[-1] != vlm.width:
        raise ValueError(f"hidden states are {states.shape[-1]} wide, words {vlm.width}")
    return called
