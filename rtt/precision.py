"""What torch computes with in this process: threads, and linear layers at several times the speed where a processor can
multiply bfloat16 numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from transformers import PreTrainedModel

Precision = Literal["float32", "bfloat16"]
Model = TypeVar("Model", bound=nn.Module)

_asked: Precision = "float32"


def compute_with(threads: int | None, precision: Precision) -> None:
    """Sets torch's threads (None leaves them alone) and the precision of models that are opened from here on."""
    global _asked
    if threads is not None:
        torch.set_num_threads(threads)
    _asked = precision


def linear_precision() -> Precision:
    """What :func:`compute_with` was last asked for."""
    return _asked


def rounds() -> bool:
    """Whether this processor multiplies bfloat16 numbers faster than others; without AMX or AVX512-BF16 it would take
    far longer."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def prepared(model: Model) -> Model:
    """`model` with its linear layers in the precision asked for, where the processor can. On a graphics card they
    compute as any others."""
    if _asked == "bfloat16" and rounds():
        head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
        for layer in model.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = RoundingHead if layer is head else Rounding
        for block in model.modules():
            gate, up, down = (getattr(block, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
            if isinstance(gate, Rounding) and isinstance(up, Rounding) and isinstance(down, Rounding):
                gate.narrow = up.narrow = True
    return model


def keep_rounded(model: nn.Module) -> None:
    """Rounds the weights that are not trained once and not for each product, for half their memory again."""
    for layer in model.modules():
        if type(layer) is Rounding and not layer.weight.requires_grad and layer.weight.device.type == "cpu":
            layer.kept = layer.weight.detach().bfloat16()


@contextmanager
def unkept(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Without what :func:`keep_rounded` keeps of these layers, whose weights are others meanwhile."""
    before = [(layer, layer.kept) for layer in layers if isinstance(layer, Rounding)]
    for layer, _ in before:
        layer.kept = None
    try:
        yield
    finally:
        for layer, kept in before:
            layer.kept = kept


class Rounding(nn.Linear):
    """What a linear layer multiplies and what it gives is rounded to bfloat16, in both directions, and sums are made in
    single precision: as autocast does it on a graphics card.

    Attention is left as it is: its products are too small to gain from rounding, and lose a lot (torch 2.13).

    Attributes:
        narrow: what it gives stays in bfloat16, as autocast leaves it, for a layer whose output goes to another of this
            kind by way of an activation. Elsewhere what follows wants single precision.
        kept: the rounded weight, where it does not change.
    """

    narrow: bool = False
    kept: Tensor | None = None

    def forward(self, given: Tensor) -> Tensor:
        known = given.dtype in (torch.float32, torch.bfloat16) and self.weight.dtype == torch.float32
        if not known or given.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(given)
        return self.product(given)

    def product(self, given: Tensor) -> Tensor:
        weight = self.weight.bfloat16() if self.kept is None else self.kept
        return self.handed_on(linear(given.bfloat16(), weight, None if self.bias is None else self.bias.bfloat16()))

    def handed_on(self, product: Tensor) -> Tensor:
        """A product in the type that what follows wants."""
        return product if self.narrow else product.float()


class RoundingHead(Rounding):
    """As its parent, but what it gives is not rounded: logits of 16 to 32 would be by up to an eighth."""

    def product(self, given: Tensor) -> Tensor:
        return _Product.apply(given.float(), self.weight, self.bias)


LINEAR = (nn.Linear, Rounding, RoundingHead)
"""Layers that do nothing but multiply and add."""


@contextmanager
def rounding() -> Iterator[None]:
    """Products of single-precision numbers on the processor are of rounded ones inside."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Product(torch.autograd.Function):
    """given (…, I), weight (O, I), bias (O,) or None to (…, O)."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(given, weight)
        with rounding():
            return linear(given, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        given, weight = ctx.saved_tensors
        of_given, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, len(weight))
        with rounding():
            return (
                (rows @ weight).view_as(given) if of_given else None,
                rows.T @ given.reshape(len(rows), -1) if of_weight else None,
                rows.sum(dim=0) if of_bias else None,
            )
