"""Qwen3-VL's layers for training on a CPU: rows without padding, plain products that compile well.

The text before the picture runs once, a picture's tokens once, and of a row only its own tokens,
one row after another without padding. Keys and values alone are needed of what nobody reads in the
last layer, so its queries, output and MLP run for the action query, or for the words before each
answer's. Layers are functions of their weights and are compiled one by one, so all of a kind share
one compiled form. Sizes are symbols in it: what a batch gives does not depend on those before it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy

_VARIANTS: Final = 64
"""Compiled forms that one function may take: with and without gradients, of one row or several."""


class _Parts(NamedTuple):
    """The functions that do the work, compiled or not."""

    block: Callable[..., Tensor]
    layer: Callable[..., Tensor]
    last: Callable[..., Tensor]


_PACKED: WeakKeyDictionary[Policy, _Parts] = WeakKeyDictionary()


class _Moves(NamedTuple):
    """Where entries go between a packed and a padded order.

    Attributes:
        pad: (N * S,) the packed place of each padded one; 0 where there is none.
        packed: (C,) the padded place of each packed one.
        real: (N * S,) bool, whether a padded place has a packed one.
        every: (C,) bool, all True.
    """

    pad: Tensor
    packed: Tensor
    real: Tensor
    every: Tensor

    def unpack(self, x: Tensor) -> Tensor:
        """(C, ...) to (N * S, ...); what stands where there is nothing must not matter."""
        return _take(x, self.pad, self.packed, self.every)

    def repack(self, x: Tensor) -> Tensor:
        """(N * S, ...) to (C, ...)."""
        return _take(x, self.packed, self.pad, self.real)


class _Take(torch.autograd.Function):
    """`x[index]`, whose gradient is picked too instead of added up place by place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, used: Tensor) -> Tensor:
        ctx.save_for_backward(back, used)
        return x[index]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        back, used = ctx.saved_tensors
        picked = gradients[0][back]
        return picked * used.view(-1, *[1] * (picked.ndim - 1)).to(picked.dtype), None, None, None


def _take(x: Tensor, index: Tensor, back: Tensor, used: Tensor) -> Tensor:
    taken: Tensor = _Take.apply(x, index, back, used)
    return taken


class _Sizes(NamedTuple):
    """P tokens before the picture, B pictures of T tokens, and room for R rows of S tokens each."""

    prefix: int
    pictures: int
    tokens: int
    rows: int
    length: int


class _Layout(NamedTuple):
    """How a batch is laid out, the same for every layer.

    Attributes:
        sizes: of all.
        moves: of rows' own tokens.
        cos: (P + B * T + C, 1, d / 2) of the rotary positions.
        sin: likewise.
        eps: of the norms.
        dtype: of products.
    """

    sizes: _Sizes
    moves: _Moves
    cos: Tensor
    sin: Tensor
    eps: float
    dtype: torch.dtype


class _Reading(NamedTuple):
    """The M tokens whose states somebody reads, at most Q a row.

    Attributes:
        moves: between the M tokens and Q places a row.
        taking: how they are taken from rows' own tokens, see `_take`.
        positions: (N, Q) the place of each in its row.
    """

    moves: _Moves
    taking: tuple[Tensor, Tensor, Tensor]
    positions: Tensor


class _Weights(NamedTuple):
    """Of one layer of the language model."""

    before: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    query_norm: Tensor
    key_norm: Tensor
    output: Tensor
    after: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: Any) -> "_Weights":
        """Of a decoder layer."""
        own, mlp = layer.self_attn, layer.mlp
        return cls(
            layer.input_layernorm.weight,
            own.q_proj.weight,
            own.k_proj.weight,
            own.v_proj.weight,
            own.q_norm.weight,
            own.k_norm.weight,
            own.o_proj.weight,
            layer.post_attention_layernorm.weight,
            mlp.gate_proj.weight,
            mlp.up_proj.weight,
            mlp.down_proj.weight,
        )


class _Memory(NamedTuple):
    """Keys and values, each pair in the order in which queries meet it.

    Attributes:
        prefix: (P, H, d).
        picture: (B * H, P + T, d), of the prefix and each picture.
        own: (B * R * H, S, d), of rows' own tokens.
    """

    prefix: tuple[Tensor, Tensor]
    picture: tuple[Tensor, Tensor]
    own: tuple[Tensor, Tensor]


def why_not_packed(policy: Policy) -> str | None:
    """Why a policy cannot train with these layers, or None if it can."""
    if policy.device.type != "cpu":
        return "they are for a CPU"
    config: Any = policy.base.config
    if type(policy.base) is not Qwen3VLModel:
        return f"they are written for qwen3-vl, not {policy.vlm.family.name}"
    vision, text = config.vision_config, config.text_config
    if text.num_key_value_heads != text.num_attention_heads:
        return "heads share keys"
    if text.num_hidden_layers < 2:
        return "the language model has a single layer"
    if text.attention_bias or text.attention_dropout:
        return "attention has biases or dropout"
    if (vision.hidden_act, text.hidden_act) != ("gelu_pytorch_tanh", "silu"):
        return "activations differ"
    if any(p.dtype != torch.float32 for p in policy.base.parameters()):
        return "weights are not float32"
    return None


def compiling(variants: int) -> AbstractContextManager[None]:
    """How layers are compiled one by one, in one process or in several.

    Where several train, torch would cut what it compiles at places where gradients are sent; a
    layer is smaller than that, and one with symbols for sizes fails there (torch 2.13).

    Args:
        variants: compiled forms of one piece of code, at most.
    """
    import torch._dynamo  # takes a second

    settings = {"recompile_limit": variants, "optimize_ddp": False}
    context: AbstractContextManager[None] = torch._dynamo.config.patch(settings)
    return context


@contextmanager
def packed_layers(policy: Policy, compiled: bool = False) -> Iterator[None]:
    """Trains with these layers while it lasts; what needs no gradient takes the model's own.

    Args:
        policy: one for which `why_not_packed` gives None.
        compiled: whether they are compiled, which takes a minute.
    """
    import torch.fx.experimental._config

    wrap: Callable[..., Any] = partial(torch.compile, dynamic=True) if compiled else _as_it_is
    parts = _Parts(wrap(_block), wrap(_layer), wrap(_last_layer))
    blocks = list(policy.base.visual.blocks)
    for block in blocks:
        block.forward = partial(_block_forward, block, parts.block)
    _PACKED[policy] = parts
    try:
        with (
            compiling(_VARIANTS),
            # Sizes that are equal in the first batch by chance are not the same size.
            torch.fx.experimental._config.patch(use_duck_shape=False),  # type: ignore[attr-defined]
        ):
            yield
    finally:
        del _PACKED[policy]
        for block in blocks:
            del block.forward


def is_packed(policy: Policy) -> bool:
    """Whether rows of this policy go through `packed_states` now."""
    return policy in _PACKED and torch.is_grad_enabled()


def packed_states(
    policy: Policy, features: Features, rows: Rows, image_index: Tensor, column: int
) -> Tensor:
    """Last hidden states (R, L - column, D), float32, where somebody reads them; 0 elsewhere.

    They are read at the action query, and at the token before each one of an answer.

    Args:
        policy: inside `packed_layers`.
        features: of B pictures.
        rows: R rows.
        image_index: (R,) the picture of each.
        column: of the first token after the picture.
    """
    parts, base = _PACKED[policy], policy.base
    model = base.language_model
    pictures, tokens, width = features.tokens.shape
    own = rows.attention[:, column:].bool()
    slot, most = _slots(image_index)
    owner, place = own.nonzero(as_tuple=True)
    sizes = _Sizes(column - tokens, pictures, tokens, most, own.shape[1])
    cos, sin = _turns(policy, rows, column, sizes, (owner, place))
    layout = _Layout(
        sizes,
        _moves(slot[owner] * sizes.length + place, pictures * most * sizes.length),
        cos,
        sin,
        float(base.config.text_config.rms_norm_eps),
        _product_type(),
    )
    read = rows.is_query[:, column:].clone()
    read[:, :-1] |= rows.is_answer[:, column + 1 :]
    ids = torch.cat([rows.ids[0, : sizes.prefix], rows.ids[:, column:][own]])
    words = base.get_input_embeddings()(ids[None])[0]
    with torch.autocast("cpu", enabled=False):
        x = torch.cat(
            [
                words[: sizes.prefix].float(),
                features.tokens.reshape(-1, width).float(),
                words[sizes.prefix :].float(),
            ]
        )
        for number, layer in enumerate(model.layers[:-1]):
            x = parts.layer(x, layout, _Weights.of(layer))
            _tell(layer, x[sizes.prefix + pictures * tokens :], own)
            if number < len(features.deepstack):
                level = features.deepstack[number].reshape(-1, width)
                before, seen, after = x.split([sizes.prefix, len(level), len(owner)])
                x = torch.cat([before, seen + level, after])
        last = _Weights.of(model.layers[-1])
        found = parts.last(x, layout, last, _reading(read, own, slot, sizes), model.norm.weight)
        states = found.new_zeros(*own.shape, width)
        return states.index_put(read.nonzero(as_tuple=True), found)


def _reading(read: Tensor, own: Tensor, slot: Tensor, sizes: _Sizes) -> _Reading:
    """The tokens that are read.

    Args:
        read: (R, S) bool, which.
        own: (R, S) bool, which places hold a token.
        slot: (R,) of each row.
        sizes: of all.
    """
    reader, position = read.nonzero(as_tuple=True)
    reads = int(read.sum(1).max())
    places = sizes.pictures * sizes.rows * reads
    nth = read.cumsum(1)[reader, position] - 1
    moves = _moves(slot[reader] * reads + nth, places)
    index = own.flatten().cumsum(0)[reader * sizes.length + position] - 1
    is_read = torch.zeros(int(own.sum()), dtype=torch.bool)
    is_read[index] = True
    where = torch.zeros(places, dtype=torch.long)
    where[moves.packed] = position
    taking = (index, is_read.cumsum(0).sub(1).clamp(min=0), is_read)
    return _Reading(moves, taking, where.view(-1, reads))


def _tell(layer: nn.Module, own_states: Tensor, own: Tensor) -> None:
    """Lets who listens to a layer hear rows as the model itself would have computed them."""
    if layer._forward_hooks:
        padded = own_states.new_zeros(*own.shape, own_states.shape[-1])
        padded = padded.index_put(own.nonzero(as_tuple=True), own_states)
        for hook in layer._forward_hooks.values():
            hook(layer, (), padded)


def _slots(image_index: Tensor) -> tuple[Tensor, int]:
    """A slot for each row among as many for every picture, and how many these are."""
    order = image_index.argsort(stable=True)
    ordered = image_index[order]
    nth = torch.arange(len(ordered)) - torch.searchsorted(ordered, ordered)
    most = int(nth.max()) + 1
    return torch.empty_like(order).index_put((order,), ordered * most + nth), most


def _moves(packed: Tensor, places: int) -> _Moves:
    pad = torch.zeros(places, dtype=torch.long)
    pad[packed] = torch.arange(len(packed))
    real = torch.zeros(places, dtype=torch.bool)
    real[packed] = True
    return _Moves(pad, packed, real, torch.ones(len(packed), dtype=torch.bool))


def _turns(
    policy: Policy, rows: Rows, column: int, sizes: _Sizes, own: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (P + B * T + C, 1, d / 2) of the rotary positions."""
    owner, place = own
    positions = policy.vlm.family.inputs(rows, policy.base.config)["position_ids"]
    picture = positions[:, 0, sizes.prefix : column].repeat(1, sizes.pictures)
    everywhere = torch.cat(
        [positions[:, 0, : sizes.prefix], picture, positions[:, owner, column + place]], 1
    )
    found = policy.base.language_model.rotary_emb(torch.zeros(1), everywhere[:, None])
    cos, sin = (table[0, :, None, : table.shape[-1] // 2].contiguous() for table in found)
    return cos, sin


def _product_type() -> torch.dtype:
    """What products are computed in: where autocast is on, its type."""
    on = torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if on else torch.float32


def _as_it_is(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return function


def _block_forward(
    block: Any,
    function: Callable[..., Tensor],
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    **further: Any,
) -> Tensor:
    """In the place of a vision block's forward: B pictures of T patches, (B * T, D)."""
    if not torch.is_grad_enabled():
        plain: Tensor = type(block).forward(
            block, hidden_states, cu_seqlens, position_embeddings, **further
        )
        return plain
    pictures = len(cu_seqlens) - 1
    tokens = len(hidden_states) // pictures
    cos, sin = (table[:tokens, None, : table.shape[1] // 2] for table in position_embeddings)
    parts = (
        block.norm1,
        block.attn.qkv,
        block.attn.proj,
        block.norm2,
        block.mlp.linear_fc1,
        block.mlp.linear_fc2,
    )
    weights = [tensor for part in parts for tensor in (part.weight, part.bias)]
    dtype = _product_type()
    with torch.autocast("cpu", enabled=False):
        x = hidden_states.unflatten(0, (pictures, tokens))
        heads, eps = block.attn.num_heads, block.norm1.eps
        return function(x, cos, sin, heads, eps, dtype, *weights).flatten(0, 1)


def _block(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    eps: float,
    dtype: torch.dtype,
    *weights: Tensor,
) -> Tensor:
    """A vision block over (B, T, D), in the type of x."""
    scale1, shift1, wide, wide_bias, out, out_bias = weights[:6]
    scale2, shift2, up, up_bias, down, down_bias = weights[6:]
    pictures, tokens, width = x.shape
    d = width // heads

    def by_head(z: Tensor) -> Tensor:
        return z.transpose(1, 2).reshape(pictures * heads, tokens, d)

    normed = F.layer_norm(x.float(), (width,), scale1, shift1, eps).to(dtype)
    q, k, v = (
        F.linear(normed, wide.to(dtype), wide_bias.to(dtype))
        .view(pictures, tokens, 3, heads, d)
        .unbind(2)
    )
    q = by_head((_rotated(q.float(), cos, sin) * d**-0.5).to(dtype))
    k = by_head(_rotated(k.float(), cos, sin).to(dtype))
    shares = torch.bmm(q, k.transpose(1, 2)).float().softmax(-1).to(dtype)
    found = torch.bmm(shares, by_head(v)).view(pictures, heads, tokens, d)
    found = found.transpose(1, 2).reshape(pictures, tokens, width)
    x = (x + F.linear(found, out.to(dtype), out_bias.to(dtype))).to(x.dtype)
    normed = F.layer_norm(x.float(), (width,), scale2, shift2, eps).to(dtype)
    inner = _gelu(F.linear(normed, up.to(dtype), up_bias.to(dtype)).float()).to(dtype)
    return (x + F.linear(inner, down.to(dtype), down_bias.to(dtype))).to(x.dtype)


def _layer(x: Tensor, layout: _Layout, w: _Weights) -> Tensor:
    """A layer over the prefix, the pictures and rows' own tokens, (P + B * T + C, D) float32."""
    prefix, pictures, tokens, _, length = layout.sizes
    moves, eps, dtype = layout.moves, layout.eps, layout.dtype
    d = w.query_norm.shape[0]
    normed = _normed(x, w.before, eps).to(dtype)
    wide = torch.cat([w.query, w.key, w.value]).to(dtype)
    q, k, v = F.linear(normed, wide).view(len(x), 3, -1, d).unbind(1)
    heads = q.shape[1]
    q = (_rotated(_normed(q, w.query_norm, eps), layout.cos, layout.sin) * d**-0.5).to(dtype)
    k = _rotated(_normed(k, w.key_norm, eps), layout.cos, layout.sin).to(dtype)
    memory = _memory(k, v, layout)
    first, seen, own = q.split([prefix, pictures * tokens, len(x) - prefix - pictures * tokens])

    key, value = memory.prefix
    scores = torch.bmm(first.transpose(0, 1), key.permute(1, 2, 0)).float()
    shares = (scores + _later(prefix, 0)).softmax(-1).to(dtype)
    first = torch.bmm(shares, value.transpose(0, 1)).transpose(0, 1).reshape(prefix, -1)

    key, value = memory.picture
    seen = seen.view(pictures, tokens, heads, d).transpose(1, 2).reshape(-1, tokens, d)
    scores = torch.bmm(seen, key.transpose(1, 2)).float()
    shares = (scores + _later(tokens, prefix)).softmax(-1).to(dtype)
    seen = torch.bmm(shares, value).view(pictures, heads, tokens, d)
    seen = seen.transpose(1, 2).reshape(pictures * tokens, -1)

    positions = torch.arange(length).view(1, length)
    own = moves.repack(_attend(moves.unpack(own), memory, positions, layout))
    found = torch.cat([first, seen, own])
    return _mlp(x + F.linear(found, w.output.to(dtype)), w, layout)


def _last_layer(x: Tensor, layout: _Layout, w: _Weights, reading: _Reading, norm: Tensor) -> Tensor:
    """The last layer and the norm after it, for the tokens that are read alone.

    Args:
        x: see `_layer`.
        layout: of the batch.
        w: weights of the layer.
        reading: what is read.
        norm: weight of the final norm.

    Returns:
        (M, D) float32.
    """
    moves, taking, positions = reading
    sizes, eps, dtype = layout.sizes, layout.eps, layout.dtype
    d = w.query_norm.shape[0]
    start = sizes.prefix + sizes.pictures * sizes.tokens
    parts = [start, len(x) - start]
    normed = _normed(x, w.before, eps).to(dtype)
    k, v = F.linear(normed, torch.cat([w.key, w.value]).to(dtype)).view(len(x), 2, -1, d).unbind(1)
    k = _rotated(_normed(k, w.key_norm, eps), layout.cos, layout.sin).to(dtype)
    memory = _memory(k, v, layout)
    q = F.linear(_take(normed.split(parts)[1], *taking), w.query.to(dtype)).view(
        len(taking[0]), -1, d
    )
    cos, sin = (table.split(parts)[1][taking[0]] for table in (layout.cos, layout.sin))
    q = (_rotated(_normed(q, w.query_norm, eps), cos, sin) * d**-0.5).to(dtype)
    found = _attend(moves.unpack(q), memory, positions, layout)
    own = _take(x.split(parts)[1], *taking)
    own = own + F.linear(moves.repack(found), w.output.to(dtype))
    return _normed(_mlp(own, w, layout), norm, eps)


def _memory(k: Tensor, v: Tensor, layout: _Layout) -> _Memory:
    """Keys and values (P + B * T + C, H, d) as they are attended to."""
    prefix, pictures, tokens, rows, length = layout.sizes
    heads, d = k.shape[1:]
    parts = [prefix, pictures * tokens, len(k) - prefix - pictures * tokens]

    def of(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, seen, own = z.split(parts)
        shown = [first.expand(pictures, -1, -1, -1), seen.view(pictures, tokens, heads, d)]
        picture = torch.cat(shown, 1).transpose(1, 2).reshape(-1, prefix + tokens, d)
        padded = layout.moves.unpack(own).view(pictures * rows, length, heads, d)
        return first, picture, padded.transpose(1, 2).reshape(-1, length, d)

    keys, values = of(k), of(v)
    return _Memory((keys[0], values[0]), (keys[1], values[1]), (keys[2], values[2]))


def _attend(q: Tensor, memory: _Memory, positions: Tensor, layout: _Layout) -> Tensor:
    """What Q queries a row find in their picture and in their own row up to themselves.

    Args:
        q: (B * R * Q, H, d).
        memory: keys and values.
        positions: (B * R, Q) or (1, Q) place of each query in its row.
        layout: of the batch.

    Returns:
        (B * R * Q, H * d).
    """
    _, pictures, _, rows, length = layout.sizes
    dtype, queries = layout.dtype, positions.shape[1]
    heads, d = q.shape[1:]
    q = q.view(pictures, rows, queries, heads, d)
    key, value = memory.picture
    shown = q.permute(0, 3, 1, 2, 4).reshape(pictures * heads, rows * queries, d)
    seen = torch.bmm(shown, key.transpose(1, 2)).view(pictures, heads, rows, queries, -1).float()
    own_key, own_value = memory.own
    within = q.transpose(2, 3).reshape(-1, queries, d)
    said = (
        torch.bmm(within, own_key.transpose(1, 2))
        .view(pictures, rows, heads, queries, length)
        .float()
    )
    hidden = torch.arange(length) > positions[..., None]
    hidden = hidden.expand(pictures * rows, queries, length)
    said = said.masked_fill(hidden.view(pictures, rows, 1, queries, length), -torch.inf)
    said = said.transpose(1, 2)
    top = torch.maximum(seen.amax(-1, True), said.amax(-1, True)).detach()
    seen, said = (seen - top).exp(), (said - top).exp()
    share = 1 / (seen.sum(-1, True) + said.sum(-1, True))
    seen = (seen * share).to(dtype).view(pictures * heads, rows * queries, -1)
    said = (said * share).transpose(1, 2).to(dtype).reshape(-1, queries, length)
    from_picture = torch.bmm(seen, value).view(pictures, heads, rows, queries, d)
    from_row = torch.bmm(said, own_value).view(pictures, rows, heads, queries, d)
    found = from_picture.permute(0, 2, 3, 1, 4) + from_row.transpose(2, 3)
    return found.reshape(pictures * rows * queries, heads * d)


def _mlp(x: Tensor, w: _Weights, layout: _Layout) -> Tensor:
    dtype = layout.dtype
    both = F.linear(_normed(x, w.after, layout.eps).to(dtype), torch.cat([w.gate, w.up]).to(dtype))
    gate, up = both.chunk(2, -1)
    inner = (F.silu(gate.float()) * up.float()).to(dtype)
    return x + F.linear(inner, w.down.to(dtype))


def _later(queries: int, before: int) -> Tensor:
    """(Q, before + Q) added to scores: -inf for what stands after a query."""
    late = torch.arange(before + queries) > torch.arange(before, before + queries)[:, None]
    return torch.where(late, -torch.inf, 0.0)


def _normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _gelu(x: Tensor) -> Tensor:
    """Gelu with tanh, where 0.5 (1 + tanh u) is written sigmoid(2 u), which takes one exponent."""
    return x * torch.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
