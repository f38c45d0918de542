"""Proof that an adaptation does what it says, as numbers: what `vlm4vla probe` prints."""

import contextlib
import dataclasses
import inspect
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vlm4vla import action
from vlm4vla.model import processor
from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.groups import GROUPS, describe_trainable, parameter_groups, set_trainable
from vlm4vla.model.introspect import MARKS
from vlm4vla.model.policy import Policy
from vlm4vla.model.processor import Written
from vlm4vla.model.prompt import token_id, token_ids
from vlm4vla.model.vlm import Vlm

SHORT = "reach the red cube"
LONG = "push the small green cylinder to the left of the yellow plate on the table"

_ROUNDING = 1e-4
"""Share of the largest state that rounding may make in float32."""

_NOTICED = 1e-5
"""Share of the largest state above which a change is more than what padding makes in float32."""


class Check(NamedTuple):
    """One claim about an adaptation.

    Attributes:
        name: of the check.
        passed: whether `value` keeps the limit.
        value: what was measured.
        limit: the limit, with its direction.
        claim: what it means, in words.
        compared: False where there was nothing to compare with; `passed` says nothing then.
    """

    name: str
    passed: bool
    value: float
    limit: str
    claim: str
    compared: bool = True


@dataclasses.dataclass(frozen=True)
class Report:
    """The parts that were found in a VLM, and the checks."""

    model: str
    family: str
    parts: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "model": self.model,
            "family": self.family,
            "passed": self.passed,
            "parts": self.parts,
            "checks": [check._asdict() for check in self.checks],
        }


def probe(vlm: Vlm) -> Report:
    """Adapts a VLM and measures whether the adaptation keeps its promises.

    The VLM's weights are not changed, and it belongs to no policy afterwards. A copy of the
    policy is written to a temporary folder.
    """
    policy = Policy(vlm, action.tiny(), query_init="embedding").eval()
    try:
        checks = tuple(check(policy) for check in CHECKS)
        return Report(vlm.source, vlm.family.name, _parts(policy), checks)
    finally:
        policy.detach()


def _pictures(policy: Policy, count: int) -> Tensor:
    """Pictures with structure at every scale, the same on every machine: (count, S, S, 3)."""
    side = policy.vlm.family.side(policy.base.config)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [
        127.5 + 127.5 * torch.sin((3 + k + c) * x / side * 6 + (2 + 2 * k) * y / 9 + c)
        for k in range(count)
        for c in range(3)
    ]
    return torch.stack(waves).view(count, 3, side, side).permute(0, 2, 3, 1).to(torch.uint8)


def _limit(policy: Policy, states: Tensor) -> float:
    """The difference that rounding may make in states of this size."""
    share = _ROUNDING if policy.base.dtype == torch.float32 else 5e-2
    return share * float(states.abs().max())


def _small(name: str, difference: Tensor, limit: float, claim: str) -> Check:
    value = float(difference.abs().max())
    return Check(name, value <= limit, value, f"<= {limit:.1e}", claim)


# --- the parts --------------------------------------------------------------------------------


def _parts(policy: Policy) -> dict[str, Any]:
    family, sizes = policy.vlm.family, describe_trainable(policy)
    rows = policy.prompt([SHORT])
    columns = rows.is_image[0].nonzero().flatten()
    total = sum(size.parameters for size in sizes.values())
    return {
        "class": type(policy.base).__name__,
        "vision tower": ", ".join(family.vision),
        "projector": ", ".join(family.projector or family.merger),
        "language model": ", ".join(family.language),
        "embeddings": list(policy.vlm.words.shape),
        "hidden size": policy.vlm.width,
        "picture side": family.side(policy.base.config),
        "image tokens": [int(columns[0]), int(columns[-1]) + 1],
        "prompt tokens": int(rows.last[0]),
        "dtype": str(policy.base.dtype).removeprefix("torch."),
        "parameters": {group: size.parameters for group, size in sizes.items()},
        "new parameters": sizes["head"].parameters,
        "share of new parameters": sizes["head"].parameters / total,
    }


# --- the checks -------------------------------------------------------------------------------


def prompt_as_declared(policy: Policy) -> Check:
    """Tokenising in pieces gives what the whole declared prompt gives."""
    vlm = policy.vlm
    rows = policy.prompt([SHORT, LONG])
    wrong = 0
    for row, instruction in enumerate((SHORT, LONG)):
        text = vlm.family.prompt.replace("{text}", vlm.family.text(instruction))
        whole = text.replace("{image}", vlm.family.image_token * vlm.image_tokens)
        wanted = token_ids(vlm.tokenizer, whole)
        found = rows.ids[row, : rows.last[row]].tolist()
        wrong += sum(a != b for a, b in zip(wanted, found, strict=False))
        wrong += abs(len(wanted) - len(found))
        wrong += int(not rows.is_query[row, rows.last[row]])
    image = token_id(vlm.tokenizer, vlm.family.image_token)
    wrong += int((rows.ids[rows.is_image] != image).sum())
    return Check(
        "prompt", wrong == 0, float(wrong), "0 tokens", "the prompt is the declared one, then <AQ>"
    )


def sees_everything(policy: Policy) -> Check:
    """The query's state has a gradient at every image token and every text token."""
    rows = policy.prompt([LONG])
    features = policy.encode(_pictures(policy, 1))
    features = features.map(lambda tokens: tokens.detach().clone().requires_grad_())
    with _embedded(policy, rows) as embedded:
        _, state = _state(policy, features, rows)
        weights = torch.linspace(-1, 1, state.shape[-1], device=state.device)
        (state * weights).sum().backward()
    policy.zero_grad()
    text = (rows.attention.bool() & ~rows.is_image & ~rows.is_query)[0]
    image_gradient, text_gradient = features.tokens.grad, embedded[0].grad
    assert image_gradient is not None and text_gradient is not None
    seen = torch.cat([image_gradient[0].abs().sum(-1), text_gradient[0, text].abs().sum(-1)]) > 0
    share = float(seen.float().mean())
    return Check(
        "sees everything", share == 1, share, "= 1", "the query sees every image and text token"
    )


def both_matter(policy: Policy) -> Check:
    """Another picture and another instruction each change the query's state."""
    with torch.no_grad():
        features = policy.encode(_pictures(policy, 2))
        index = torch.tensor([0, 0, 1], device=policy.device)
        states = policy.query_state(features, [SHORT, LONG, SHORT], index)
    change = torch.stack([states[1] - states[0], states[2] - states[0]]).abs().amax(-1)
    value, limit = float(change.min()), _NOTICED * float(states.abs().max())
    claim = "picture and words both reach the query"
    return Check("both matter", value > limit, value, f"> {limit:.1e}", claim)


def earlier_unchanged(policy: Policy) -> Check:
    """No token before the query changes when the query does."""
    rows = policy.prompt([SHORT, LONG])
    with torch.no_grad():
        features = policy.encode(_pictures(policy, 2))
        before, _ = _state(policy, features, rows)
        kept = policy.query.clone()
        policy.query.copy_(kept.flip(0) * 3 + 1)
        after, _ = _state(policy, features, rows)
        policy.query.copy_(kept)
    earlier = _earlier(policy, rows, before)
    return _small(
        "earlier tokens",
        (after - before)[earlier],
        _limit(policy, before),
        "no earlier token changes when the query does",
    )


def batch_equals_single(policy: Policy) -> Check:
    """Two rows at once give what each gives alone."""
    pictures = _pictures(policy, 2)
    with torch.no_grad():
        both = policy.query_state(policy.encode(pictures), [SHORT, SHORT])
        alone = [policy.query_state(policy.encode(picture[None]), [SHORT]) for picture in pictures]
    return _small(
        "batch = single",
        both - torch.cat(alone),
        _limit(policy, both),
        "a batch gives what its rows give alone",
    )


def padding_is_nothing(policy: Policy) -> Check:
    """A row padded to a longer neighbour's length gives what it gives alone."""
    pictures = _pictures(policy, 1)
    with torch.no_grad():
        features = policy.encode(pictures)
        both = torch.zeros(2, dtype=torch.long, device=policy.device)
        padded = policy.query_state(features, [SHORT, LONG], both)[:1]
        alone = policy.query_state(features, [SHORT])
    return _small("padding", padded - alone, _limit(policy, alone), "padding changes nothing")


def one_vision_pass(policy: Policy) -> Check:
    """Sharing one vision pass among instructions gives what separate passes give."""
    pictures = _pictures(policy, 2)
    index = torch.tensor([1, 0, 1])
    with torch.no_grad():
        words = [SHORT, LONG, LONG]
        shared = policy.query_state(policy.encode(pictures), words, index.to(policy.device))
        apart = policy.query_state(policy.encode(pictures[index]), words)
    return _small(
        "one vision pass",
        shared - apart,
        _limit(policy, shared),
        "one vision pass may serve several instructions",
    )


def vlm_untouched(policy: Policy) -> Check:
    """The bare VLM's word scores over the prompt are the same with the query in place."""
    texts = [policy.vlm.family.text(i) for i in (SHORT, LONG)]
    with torch.no_grad():
        features = policy.encode(_pictures(policy, 2))
        policy.detach()
        try:
            plain = policy.rows(texts, answers=["", ""])
            bare = policy.states(features, plain)
        finally:
            policy.attach()
        rows = policy.rows(texts)
        adapted = policy.states(features, rows)
        width = min(bare.shape[1], adapted.shape[1])
        earlier = _earlier(policy, rows, adapted)[:, :width]
        scores = policy.word_logits(bare[:, :width][earlier])
        difference = policy.word_logits(adapted[:, :width][earlier]) - scores
    return _small(
        "VLM untouched", difference, _limit(policy, scores), "the bare VLM's word scores stay"
    )


def freezing_is_exact(policy: Policy) -> Check:
    """Freezing a group stops its gradients and no others."""
    pictures = _pictures(policy, 2)
    belongs = parameter_groups(policy)
    learned = {name for name, p in policy.named_parameters() if p.requires_grad}
    set_trainable(policy, GROUPS)
    features = policy.encode(pictures)
    states = policy.states(features, policy.prompt([SHORT, LONG]))
    (states.float().sin().sum() + features.tokens.float().sin().sum()).backward()
    used = _with_gradient(policy) | {name for name in belongs if belongs[name] == "head"}
    wrong = 0
    for frozen in GROUPS:
        set_trainable(policy, [group for group in GROUPS if group != frozen])
        prediction = policy(pictures, [SHORT, LONG])
        (prediction.arm.sin().sum() + prediction.gripper.sin().sum()).backward()
        expected = {name for name in used if belongs[name] != frozen}
        wrong += len(_with_gradient(policy) ^ expected)
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(name in learned)
    return Check(
        "freezing",
        wrong == 0,
        float(wrong),
        "0 tensors",
        "each freeze group freezes exactly what it names; gradients reach everything else",
    )


def saved_and_loaded(policy: Policy) -> Check:
    """A checkpoint gives back every bit."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "checkpoint"
        policy.save_pretrained(folder)
        again = Policy.from_pretrained(folder, policy.device)
        wrong = sum(
            int((a != b).sum())
            for a, b in zip(policy.state_dict().values(), again.state_dict().values(), strict=True)
        )
        pictures = _pictures(policy, 2)
        difference = policy.act(pictures, [SHORT, LONG]) - again.act(pictures, [SHORT, LONG])
        del again
    value = wrong + float(abs(difference).max())
    return Check("save and load", value == 0, value, "= 0", "a saved policy loads bit-equal")


def as_shipped(policy: Policy) -> Check:
    """A plain picture and a sentence become what the repository's own processor makes of them."""
    vlm, claim = policy.vlm, "tokens, pixels and arguments are those of the shipped processor"
    side, kind = vlm.family.side(policy.base.config), policy.base.config.model_type
    text = vlm.family.text(SHORT)
    written = vlm.repository and processor.write(
        vlm.repository, kind, vlm.family.image_token, text, side
    )
    if not isinstance(written, Written):
        why = f"its processor cannot be used here, {written}" if written else "none is shipped"
        claim = f"nothing to compare with: {why}"
        return Check("as shipped", True, 0.0, "= 0", claim, compared=False)
    rows, picture = policy.rows([text]), np.full((1, side, side, 3), processor.COLOUR, np.uint8)
    given = vlm.family.pixels(policy.pixels(picture), policy.base.config)
    found = _differences(rows, given, vlm.family.inputs(rows, policy.base.config), written, policy)
    meant = vlm.family.differs
    told = [f"{what} {how}" for what, how in found.items()]
    told += [f"{what} on purpose: {meant[what]}" for what in found if what in meant]
    wrong = sum(what not in meant for what in found)
    if told:
        claim = f"the shipped processor writes otherwise: {'; '.join(told)}"
    return Check("as shipped", not wrong, float(wrong), "= 0", claim)


def _differences(
    rows: Rows,
    given: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    written: Written,
    policy: Policy,
) -> dict[str, str]:
    """What the shipped processor writes otherwise, in words."""
    found = {}
    decode, ids = policy.vlm.tokenizer.decode, rows.ids[0, : rows.last[0]].tolist()
    if ids != written.ids:
        image = policy.vlm.family.image_token
        run = re.compile(f"(?:{re.escape(image)}){{2,}}")
        ours, theirs = (
            run.sub(image, decode(one, skip_special_tokens=False)) for one in (ids, written.ids)
        )
        found["tokens"] = f"{len(written.ids)}, not {len(ids)}: {theirs!r}, not {ours!r}"
    pixels, theirs_pixels = given["pixel_values"].float().cpu(), written.pixels
    if pixels.numel() != theirs_pixels.numel():
        found["pixels"] = f"{tuple(theirs_pixels.shape)}, not {tuple(pixels.shape)}"
    elif (gap := float((pixels.flatten() - theirs_pixels.flatten()).abs().max())) > 1e-3:
        found["pixels"] = f"up to {gap:.3g} apart"
    forward = inspect.signature(policy.base.forward).parameters
    ours_all = {**given, **inputs}
    odd = []
    for name, value in written.further.items():
        if name not in forward:
            continue
        mine = ours_all.get(name)
        if name in MARKS:
            if "tokens" in found or mine is None:
                continue  # of other tokens, or of none: then the model does without
            mine = mine[:, : len(ids)]
        same = mine is not None and mine.shape == value.shape and bool((mine.cpu() == value).all())
        odd += [] if same else [name]
    if odd:
        found["arguments"] = ", ".join(odd)
    return found


CHECKS: tuple[Callable[[Policy], Check], ...] = (
    prompt_as_declared,
    sees_everything,
    both_matter,
    earlier_unchanged,
    batch_equals_single,
    padding_is_nothing,
    one_vision_pass,
    vlm_untouched,
    freezing_is_exact,
    saved_and_loaded,
    as_shipped,
)


def _state(policy: Policy, features: Features, rows: Rows) -> tuple[Tensor, Tensor]:
    states = policy.states(features, rows)
    return states, policy.at_query(states, rows).float()


def _earlier(policy: Policy, rows: Rows, states: Tensor) -> Tensor:
    """(R, L) bool: the columns of `states` before the query."""
    column = torch.arange(states.shape[1], device=states.device)
    decoder = policy.base.config.is_encoder_decoder
    return column < (torch.ones_like(rows.last) if decoder else rows.last)[:, None]


def _with_gradient(policy: Policy) -> set[str]:
    found = {name for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return found


@contextlib.contextmanager
def _embedded(policy: Policy, rows: Rows) -> Iterator[list[Tensor]]:
    """Collects what the word embeddings give for whole rows, with gradients."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if output.shape[:2] == rows.ids.shape:
            output.retain_grad()
            found.append(output)

    words = policy.vlm.words
    handles = [
        module.register_forward_hook(keep)
        for module in policy.base.modules()
        if isinstance(module, nn.Embedding) and module.weight is words
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
