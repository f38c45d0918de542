"""The language model over many rows that share their picture, without repeating the picture.

Rows of one picture begin alike up to the end of the image tokens. That part runs once a picture;
its keys and values then serve every row, whose own part is short. For three rows a picture this
halves the language model's work, in training and when measuring.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy


def shared_query_state(
    policy: Policy, features: Features, instructions: Sequence[str], image_index: Tensor
) -> Tensor:
    """The query's last hidden state (R, D), float32, as `policy.query_state` gives it.

    Args:
        policy: the policy.
        features: of B pictures; every picture has at least one row.
        instructions: R instructions.
        image_index: (R,) the picture of each instruction.
    """
    rows = policy.rows([policy.vlm.family.text(sentence) for sentence in instructions])
    states, column = shared_states(policy, features, rows, image_index)
    return states[torch.arange(len(states)), rows.last - column].float()


def shared_states(
    policy: Policy, features: Features, rows: Rows, image_index: Tensor
) -> tuple[Tensor, int]:
    """Last hidden states of the part of each row that follows the picture.

    The same numbers as `policy.states(features, rows, image_index)` from a column on, for language
    models that attend backwards only.

    Args:
        policy: the policy; its family must be a decoder with causal attention.
        features: of B pictures; every picture has at least one row.
        rows: R rows.
        image_index: (R,) the picture of each row.

    Returns:
        (R, L - column, D) and the column.
    """
    base = policy.base
    column = int(rows.is_image[0].nonzero().max()) + 1
    order = torch.arange(len(image_index), device=image_index.device).flip(0)
    first = image_index.new_empty(len(features.tokens))
    first[image_index.flip(0)] = order
    pictures = dataclasses.replace(
        rows,
        ids=rows.ids[first, :column],
        attention=rows.attention[first, :column],
        is_image=rows.is_image[first, :column],
        is_answer=rows.is_answer[first, :column],
    )
    cache = DynamicCache(config=base.config.get_text_config())
    base(
        **features.arguments(base, pictures.ids, pictures.is_image),
        attention_mask=pictures.attention,
        past_key_values=cache,
        use_cache=True,
        **policy.vlm.family.inputs(pictures, base.config),
    )
    cache.batch_select_indices(image_index)
    positions = torch.arange(column, rows.ids.shape[1], device=rows.ids.device).expand(
        len(image_index), -1
    )
    # Families whose pictures take fewer positions than tokens keep the difference here.
    offset = getattr(base, "rope_deltas", None)
    if offset is not None:
        positions = (positions + offset[image_index]).expand(3, -1, -1)
    states: Tensor = base(
        input_ids=rows.ids[:, column:],
        attention_mask=rows.attention,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return states, column
