"""Sentences to token rows, the same for every family."""

import re
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

from vlm4vla.errors import UserError
from vlm4vla.model.family import QUERY_ID, Family, Rows


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text` without anything added; special tokens written out are recognised."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def plain_ids(tokenizer: Tokenizer, before: str, text: str, after: str) -> list[int]:
    """Ids of `before + text + after`, where no part of `text` becomes a special token.

    What is typed is not ours: an image token in it would be a second picture, an end token would
    end the prompt. Special tokens in `before` and `after` are recognised.
    """
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    inside = sorted((token for token in added if token in text), key=len, reverse=True)
    if not inside:
        return token_ids(tokenizer, before + text + after)
    ids = token_ids(tokenizer, before)
    for part in re.split(f"({'|'.join(map(re.escape, inside))})", text):
        # Letter by letter a token's name is only its letters, in every kind of vocabulary.
        for piece in part if part in added else [part]:
            ids += token_ids(tokenizer, piece) if piece else []
    return ids + token_ids(tokenizer, after)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of one special token.

    Raises:
        UserError: the vocabulary lacks it.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise UserError(f"The tokenizer has no token {token!r}.", "It belongs to another family.")
    return int(found)


def build_rows(
    tokenizer: Tokenizer,
    family: Family,
    image_tokens: int,
    texts: Sequence[str],
    answers: Sequence[str] | None,
    device: torch.device,
) -> Rows:
    """Rows of prompt and action query, or of prompt and answer.

    The query follows each row's own last token, so padding changes nothing. (The authors put it
    after the padding.)

    Args:
        tokenizer: the VLM's.
        family: gives the prompt.
        image_tokens: length of the run of image tokens.
        texts: R user's sentences. Before the action query they are typed by anybody, and written
            out special tokens in them are plain text; before an answer they are our own questions.
        answers: R answers, each ended by the family's end token; None for the action query.
        device: where the rows are wanted.
    """
    before, after = family.around_image()
    start = token_ids(tokenizer, before)
    image = [token_id(tokenizer, family.image_token)] * image_tokens
    opening, closing = after.split("{text}")
    if answers is None:
        asked = [plain_ids(tokenizer, opening, text, closing) for text in texts]
    else:
        asked = [token_ids(tokenizer, opening + text + closing) for text in texts]
    prompts = [start + image + ids for ids in asked]
    if answers is None:
        tails = [[QUERY_ID]] * len(prompts)
    else:
        tails = [token_ids(tokenizer, answer + family.end) for answer in answers]
    length = torch.tensor([len(p) + len(t) for p, t in zip(prompts, tails, strict=True)])
    prompt_length = torch.tensor([len(p) for p in prompts])
    ids = pad_sequence(
        [torch.tensor(p + t) for p, t in zip(prompts, tails, strict=True)], batch_first=True
    )
    column = torch.arange(ids.shape[1]).expand_as(ids)
    attended = column < length[:, None]
    return Rows(
        ids=ids.to(device),
        attention=attended.long().to(device),
        is_image=((column >= len(start)) & (column < len(start) + image_tokens)).to(device),
        last=(length - 1).to(device),
        is_answer=(attended & (column >= prompt_length[:, None]) & (ids != QUERY_ID)).to(device),
    )


def split_for_decoder(rows: Rows, start: int) -> dict[str, torch.Tensor]:
    """Rows as an encoder-decoder reads them: prompt to the encoder, query or answer after `start`.

    Args:
        rows: as `build_rows` makes them.
        start: id of the token that every decoder sequence begins with.
    """
    tail = rows.is_query | rows.is_answer
    tails = [
        torch.cat([ids.new_tensor([start]), ids[t]]) for ids, t in zip(rows.ids, tail, strict=True)
    ]
    return {
        "input_ids": rows.ids.masked_fill(tail, 0),
        "attention_mask": rows.attention * ~tail,
        "decoder_input_ids": pad_sequence(tails, batch_first=True),
    }
