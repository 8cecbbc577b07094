"""Sampling at less cost: a cache with room to grow; on a processor, an adapter that costs nothing and weights laid out
for few rows; on a graphics card, weights rounded once and not for each token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from rtt.precision import LINEAR, Rounding, RoundingHead, rounding, unkept

Draw = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""One place in each row of (R, V) shares; the rows' numbers among all of the batch; and how many these are."""

PACKED_BYTES = 2**32
"""Weights that :func:`packed` copies, at most."""

PART = 256
"""Words that :func:`draw_quickly` takes together first: one sum takes a fraction of the time of all sums so far."""

ENDED = 1 / 8
"""Share of the rows that have to have ended before :func:`decode` goes on without them, since that moves the cache."""


class _Room(DynamicLayer):
    """Keys and values with room for those to come: a new token is written in place, where its parent copies all.

    Args:
        keys, values: (B, heads, tokens and room for more, size). When that is full it grows as its parent does.
        filled: how many tokens are there.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, filled: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._whole = (keys, values)
        self.keys, self.values = (whole[..., :filled, :] for whole in self._whole)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self._fits(end):
            return super().update(key_states, value_states, *args, **kwargs)
        for whole, new in zip(self._whole, (key_states, value_states), strict=True):
            whole[..., start:end, :] = new
        self.keys, self.values = (whole[..., :end, :] for whole in self._whole)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Goes on with some of the rows, which move up, so that they need no memory of their own."""
        end = self.get_seq_length()
        if len(indices) > len(self._whole[0]) or not self._fits(end):
            super().batch_select_indices(indices)
            return
        for whole, held in zip(self._whole, _held(self), strict=True):
            whole[: len(indices), :, :end] = held[indices]
        self._whole = (self._whole[0][: len(indices)], self._whole[1][: len(indices)])
        self.keys, self.values = (whole[..., :end, :] for whole in self._whole)

    def _fits(self, end: int) -> bool:
        """Whether what the layer holds is still where its room is, and there is room for as many tokens."""
        return all(
            end <= whole.shape[-2] and held.data_ptr() == whole.data_ptr() and len(held) == len(whole)
            for held, whole in zip(_held(self), self._whole, strict=True)
        )


def _held(layer: DynamicLayer) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.keys is not None, "the layer is filled"
    assert layer.values is not None
    return layer.keys, layer.values


@dataclass(frozen=True)
class Part:
    """Keys and values for some rows of a larger cache.

    Attributes:
        cache: of layers that see all tokens.
        places: for each of its rows, which rows of the whole it is for.
        skipped: its first tokens that are not meant.
        ends: for each row of the whole in `places`, the place after its last token; None is the last of all.
    """

    cache: DynamicCache
    places: Sequence[Sequence[int]]
    skipped: int = 0
    ends: Sequence[int] | None = None


def gathered(parts: Iterable[Part], rows: int, filled: int, room: int) -> DynamicCache:
    """One cache, with room for `room` tokens more, of its parts.

    Args:
        parts: asked for one by one, so that none has to stay; a later one covers what an earlier one left in its place.
            What none is for holds zeros, and what stands there the mask has to hide.
        rows: of the whole.
        filled: tokens of the longest.
    """
    layers: list[_Room] = []
    whole = DynamicCache()
    for part in parts:
        own = [number for number, targets in enumerate(part.places) for _ in targets]
        targets = [row for some in part.places for row in some]
        for number, layer in enumerate(part.cache.layers):
            assert isinstance(layer, DynamicLayer)
            held = _held(layer)
            if number == len(layers):
                empty = [one.new_zeros(rows, one.shape[1], filled + room, one.shape[3]) for one in held]
                layers.append(_Room(empty[0], empty[1], filled))
            for into, one in zip(_held(layers[number]), held, strict=True):
                meant = one[:, :, part.skipped :]
                count = meant.shape[2]
                if part.ends is None:
                    into[targets, :, filled - count :] = meant[own]
                    continue
                for row, source, end in zip(targets, own, part.ends, strict=True):
                    into[row, :, end - count : end] = meant[source]
    whole.layers = list(layers)
    return whole


def repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """A cache of its own, of `rows` times the one row of another; empty if that is."""
    copies = DynamicCache()
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, DynamicLayer)
        if layer.is_initialized:
            keys, values = (one.expand(rows, -1, -1, -1) for one in _held(layer))
            copies.update(keys, values, number)
    return copies


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """With the weights of a LoRA adapter added to the model's, and exactly the old ones afterwards; but for layers that
    :func:`packed` has laid out, with theirs.

    Two small products a layer and token are saved. Costs a second copy of the adapted weights meanwhile, and so only
    where memory is the processor's. An adapter with dropout stays as it is.
    """
    with ExitStack() as layers:
        for layer in _adapted(model):
            if "forward" not in layer.__dict__:
                layers.enter_context(_sum(layer))
        yield


@contextmanager
def _sum(layer: Any) -> Iterator[None]:
    """With the weight of a LoRA layer's adapter added to the layer's own."""
    base = layer.get_base_layer()
    before = base.weight.data
    try:
        base.weight.data = before.clone()
        layer.merge()
        with unkept([base]):
            yield
    finally:
        if layer.lora_variant or any(layer.lora_bias.values()):
            layer.unmerge()
        layer.merged_adapters.clear()  # unmerging would compute again what was added
        base.weight.data = before  # and what it subtracts is rounded


def _adapted(model: Any) -> list[Any]:
    """The layers whose adapter can be merged; none if any cannot."""
    if not hasattr(model, "peft_config") or model.device.type != "cpu":
        return []
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    dropouts = [drop for layer in layers for drop in layer.lora_dropout.values()]
    plain = all(isinstance(drop, torch.nn.Identity) or drop.p == 0 for drop in dropouts)
    return layers if plain and not any(layer.merged or layer.disable_adapters for layer in layers) else []


@contextmanager
def packed(model: Any, rows: int) -> Iterator[None]:
    """With the weights of linear layers as oneDNN wants them, to multiply as few rows with as a token a response gives,
    and those of an adapter added to them.

    A plain product lays the weights out anew for every token. Costs a second copy of them meanwhile, and so only on a
    processor, in single precision, without gradients, without autocast and up to `PACKED_BYTES`. Products differ by
    rounding.

    Args:
        rows: as many as are expected at once; any number can be multiplied.
    """
    around = {id(layer.get_base_layer()): layer for layer in _adapted(model)}
    changed: list[Any] = []
    try:
        for layer in _packable(model):
            adapted = around.get(id(layer))
            with nullcontext() if adapted is None else _sum(adapted):  # one by one, so that no two copies are needed
                product = _laid_out(layer, rows)
            for module in (layer,) if adapted is None else (layer, adapted):
                module.__dict__["forward"] = product
                changed.append(module)
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)


def _laid_out(layer: torch.nn.Linear, rows: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the layer gives as it is now, with its weight laid out."""
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach().clone()
    if type(layer) is Rounding:
        weight, bias = weight.bfloat16(), None if bias is None else bias.bfloat16()
    return partial(_product, layer=layer, bias=bias, weight=torch.ops.mkldnn._reorder_linear_weight(weight, rows))


def _product(
    given: torch.Tensor, *, layer: torch.nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    if type(layer) is Rounding:
        return layer.handed_on(torch.ops.mkldnn._linear_pointwise(given.bfloat16(), weight, bias, "none", [], ""))
    with rounding() if type(layer) is RoundingHead else nullcontext():
        return torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")


def _packable(model: Any) -> list[torch.nn.Linear]:
    """The linear layers that can be packed; none where it cannot be done or takes too much memory."""
    usable = hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    if not usable or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return []
    layers = [
        layer
        for layer in model.modules()
        if type(layer) in LINEAR
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and "forward" not in layer.__dict__
    ]
    return layers if sum(layer.weight.nbytes for layer in layers) <= PACKED_BYTES else []


@contextmanager
def rounded(model: Any) -> Iterator[None]:
    """With the weights of linear layers rounded as autocast rounds them, which without gradients does so in every pass.

    Does nothing where there is no autocast. Costs a copy of the weights in half the bits meanwhile. Embeddings stay,
    and an output layer that shares theirs: what runs between layers is in single precision, as it is in training.
    """
    kind = model.device.type
    embeddings = model.get_input_embeddings().weight
    layers = [
        layer
        for layer in model.modules()
        if type(layer) in LINEAR
        and layer.weight.dtype == torch.float32
        and layer.weight is not embeddings
        and torch.is_autocast_enabled(kind)
    ]
    before = [layer.weight.data for layer in layers]
    try:
        for layer, weight in zip(layers, before, strict=True):
            layer.weight.data = weight.to(torch.get_autocast_dtype(kind))
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.weight.data = weight


def decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    *,
    draw: Draw,
    **known: Any,
) -> torch.Tensor:
    """The loop of `model.generate` (its ``custom_generate``) for a model that needs nothing but these, on a processor.
    Rows that have ended are left out by and by.

    Args:
        input_ids: (B, P), padded on the left.
        draw: how words are drawn.
        known: the ``cache`` of all but the last of them, and the ``attention_mask`` (B, P), None where all are seen.

    Returns:
        (B, P + T).
    """
    seen, cache = known["attention_mask"], known["cache"]
    if seen is None:
        seen = torch.ones_like(input_ids)
    pad = generation_config.pad_token_id or 0
    count, start = input_ids.shape
    written = input_ids.new_full((count, start + (generation_config.max_new_tokens or 0)), pad)
    written[:, :start] = input_ids
    end = start
    rows = torch.arange(count)  # those that `input_ids`, `seen` and the cache still hold
    going_on = torch.ones(count, dtype=torch.bool)
    while going_on.any():
        if going_on.sum() <= (1 - ENDED) * len(rows):
            kept = going_on.nonzero()[:, 0]
            rows, input_ids, seen, going_on = (each[kept] for each in (rows, input_ids, seen, going_on))
            cache.batch_select_indices(kept)
        logits = model(
            input_ids=input_ids[:, -1:],
            attention_mask=seen,
            position_ids=seen.sum(dim=1, keepdim=True) - 1,
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        scores = logits_processor(input_ids, logits.float())
        shares = scores.softmax(dim=-1) if generation_config.do_sample else None
        word = scores.argmax(dim=-1) if shares is None else draw(shares, rows, count)
        word = torch.where(going_on, word, pad)
        written[rows, end] = word
        end += 1
        input_ids = torch.cat([input_ids, word[:, None]], dim=1)
        seen = torch.cat([seen, seen.new_ones(len(word), 1)], dim=1)
        going_on = going_on & ~stopping_criteria(input_ids, None)
    return written[:, :end]


def draw(shares: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """One place in each row of (R, V) shares that sum to 1, as transformers draws it: equal seeds give equal tokens.

    Args:
        rows: (R,), numbers of these rows among all of the batch, for which random numbers are drawn too.
        count: rows of the batch.
    """
    if len(rows) < count:
        shares = shares.new_ones(count, shares.shape[1]).index_copy(0, rows, shares)
    return torch.multinomial(shares, num_samples=1)[:, 0][rows if len(rows) < count else slice(None)]


def draw_quickly(shares: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """As :func:`draw`, to about 1e-6, with one random number a row, where torch draws one for every place: with 49,152
    words and 64 rows that is a quarter of sampling."""
    shares = torch.nn.functional.pad(shares, (0, -shares.shape[1] % PART)) if shares.shape[1] % PART else shares
    parts = shares.unflatten(1, (-1, PART))
    reached = parts.sum(dim=2).cumsum(dim=1)
    goal = torch.rand(count, 1, dtype=shares.dtype)[rows] * reached[:, -1:]
    part = torch.searchsorted(reached, _below(goal, reached), right=True)
    before = reached.gather(1, (part - 1).clamp(min=0)).masked_fill(part == 0, 0)
    inside = before + parts[torch.arange(len(parts)), part[:, 0]].cumsum(dim=1)
    return (part * PART + torch.searchsorted(inside, _below(goal, inside), right=True))[:, 0]


def _below(goal: torch.Tensor, reached: torch.Tensor) -> torch.Tensor:
    """A goal that was rounded up to the whole would be beyond the last place."""
    whole = reached[:, -1:]
    return goal.minimum(whole.nextafter(torch.zeros_like(whole)))
