"""The language model over many rows that share their picture, without repeating the picture.

Rows of one picture begin alike up to the end of the image tokens. Where text attends backwards
only, that part runs once a picture; its keys and values then serve every row, whose own part is
short. For three rows a picture this halves the language model's work, in training and when
measuring. Other families (prefix attention, encoder-decoders) run every row whole, and so does
whoever asks one thing about each picture.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy
from vlm4vla.model.prompt import build_rows
from vlm4vla.model.vlm import Vlm
from vlm4vla.train.speed.packed import is_packed, packed_states


@dataclasses.dataclass(frozen=True)
class Asked:
    """R rows about B pictures.

    Attributes:
        rows: the rows.
        image_index: int64 (R,) the picture of each: an array, later a tensor.
        beginning: columns up to the last image token, the same tokens in every row.
    """

    rows: Rows
    image_index: Any
    beginning: int


def ask_rows(
    vlm: Vlm,
    texts: Sequence[str],
    answers: Sequence[str] | None,
    image_index: NDArray[np.int64],
) -> Asked:
    """Rows on the CPU, from sentences.

    Args:
        vlm: whose tokens.
        texts: R user's sentences.
        answers: R texts to be written, or None for the action query.
        image_index: (R,) the picture of each.
    """
    cpu = torch.device("cpu")
    rows = build_rows(vlm.tokenizer, vlm.family, vlm.image_tokens, texts, answers, cpu)
    return Asked(rows, image_index, int(rows.is_image[0].nonzero().max()) + 1)


def row_states(policy: Policy, features: Features, asked: Asked) -> tuple[Tensor, int]:
    """Last hidden states of rows, of the part that follows the picture where they share the rest.

    The same numbers as `policy.states(features, rows, image_index)`, from a column on; inside
    `packed_layers` 0 where nobody reads them.

    Args:
        policy: the policy.
        features: of B pictures.
        asked: R rows about them, on the policy's device.

    Returns:
        (R, L - column, D) and the column, 0 where nothing is shared; of an encoder-decoder the
        decoder's states.
    """
    if is_packed(policy):
        args = features, asked.rows, asked.image_index, asked.beginning
        return packed_states(policy, *args), asked.beginning
    # Where each row has a picture of its own nothing is repeated, and two passes cost more.
    if not policy.vlm.family.causal or len(asked.image_index) == len(features.tokens):
        return policy.states(features, asked.rows, asked.image_index), 0
    return _states_after_picture(policy, features, asked), asked.beginning


def _states_after_picture(policy: Policy, features: Features, asked: Asked) -> Tensor:
    base, rows, column = policy.base, asked.rows, asked.beginning
    count = len(features.tokens)
    beginning = Rows(
        ids=rows.ids[:1, :column].expand(count, -1),
        attention=rows.attention[:1, :column].expand(count, -1),
        is_image=rows.is_image[:1, :column].expand(count, -1),
        last=rows.last[:1].expand(count),
        is_answer=rows.is_answer[:1, :column].expand(count, -1),
    )
    cache = DynamicCache(config=base.config.get_text_config())
    base(
        **features.arguments(base, beginning.ids, beginning.is_image),
        attention_mask=beginning.attention,
        past_key_values=cache,
        use_cache=True,
        **policy.vlm.family.inputs(beginning, base.config),
    )
    cache.batch_select_indices(asked.image_index)
    positions = policy.vlm.family.inputs(rows, base.config).get("position_ids")
    if positions is None:
        positions = torch.arange(rows.ids.shape[1], device=rows.ids.device)[None]
    states: Tensor = base(
        input_ids=rows.ids[:, column:],
        attention_mask=rows.attention,
        position_ids=positions[..., column:],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return states


def query_of(policy: Policy, states: Tensor, asked: Asked, column: int) -> Tensor:
    """The query's state (R, D), float32, among states of rows from a column on."""
    if policy.base.config.is_encoder_decoder:
        return states[:, -1].float()
    rows = torch.arange(len(states), device=states.device)
    return states[rows, asked.rows.last - column].float()
