"""Sampling at less cost: a cache with room to grow; on a processor, an adapter that costs nothing and weights laid out
for few rows; on a graphics card, weights rounded once and not for each token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

PACKED_BYTES = 2**32
"""Weights that :func:`packed` copies, at most."""


class _Room(DynamicLayer):
    """Keys and values with room for those to come: a new token is written in place, where its parent copies all.

    Args:
        filled: the layer it takes the place of.
        tokens: how many more it has room for. After that it grows as its parent does.
    """

    def __init__(self, filled: DynamicLayer, tokens: int) -> None:
        super().__init__()
        keys, values = _held(filled)
        self.lazy_initialization(keys, values)
        self._whole = [_with_room(held, tokens) for held in (keys, values)]
        self.keys, self.values = (whole[..., : filled.get_seq_length(), :] for whole in self._whole)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        fits = all(
            end <= whole.shape[-2] and held.data_ptr() == whole.data_ptr() and len(held) == len(whole)
            for held, whole in zip(_held(self), self._whole, strict=True)
        )
        if not fits:
            return super().update(key_states, value_states, *args, **kwargs)
        for whole, new in zip(self._whole, (key_states, value_states), strict=True):
            whole[..., start:end, :] = new
        self.keys, self.values = (whole[..., :end, :] for whole in self._whole)
        return self.keys, self.values


def _held(layer: DynamicLayer) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.keys is not None, "the layer is filled"
    assert layer.values is not None
    return layer.keys, layer.values


def _with_room(held: torch.Tensor, tokens: int) -> torch.Tensor:
    whole = held.new_empty(*held.shape[:-2], held.shape[-2] + tokens, held.shape[-1])
    whole[..., : held.shape[-2], :] = held
    return whole


def make_room(cache: DynamicCache, tokens: int) -> None:
    """Gives every filled layer that sees all tokens room for `tokens` more."""
    cache.layers = [
        _Room(layer, tokens) if type(layer) is DynamicLayer and layer.is_initialized else layer
        for layer in cache.layers
    ]


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """With the weights of a LoRA adapter added to the model's, and exactly the old ones afterwards.

    Two small products a layer and token are saved. Costs a second copy of the adapted weights meanwhile, and so only
    where memory is the processor's. An adapter with dropout stays as it is.
    """
    layers = _adapted(model)
    if not layers:
        yield
        return
    before = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer, weight in zip(layers, before, strict=True):
            layer.get_base_layer().weight.data = weight.clone()
            layer.merge()
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            if layer.merged:
                layer.unmerge()
            layer.get_base_layer().weight.data = weight  # what unmerging subtracts is rounded


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
    """With the weights of linear layers as oneDNN wants them, to multiply as few rows with as a token a response gives.

    A plain product lays the weights out anew for every token. Costs a second copy of them meanwhile, and so only on a
    processor, in single precision, without gradients, without autocast and up to `PACKED_BYTES`. Products differ by
    rounding.

    Args:
        rows: as many as are expected at once; any number can be multiplied.
    """
    layers = _packable(model)
    try:
        for layer in layers:
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
            layer.__dict__["forward"] = partial(_product, weight=weight, bias=layer.bias)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _product(given: torch.Tensor, *, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")


def _packable(model: Any) -> list[torch.nn.Linear]:
    """The linear layers that can be packed; none where it cannot be done or takes too much memory."""
    usable = hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    if not usable or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return []
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear
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
        if type(layer) is torch.nn.Linear
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
