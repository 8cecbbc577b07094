"""What torch computes with in this process: threads, and linear layers at several times the speed where a processor can
multiply bfloat16 numbers."""

from __future__ import annotations

from collections.abc import Iterator
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
    return model


class Rounding(nn.Linear):
    """What a linear layer multiplies and what it gives is rounded to bfloat16, in both directions, and sums are made in
    single precision: as autocast does it on a graphics card.

    Attention is left as it is: its products are too small to gain from rounding, and lose a lot (torch 2.13).
    """

    def forward(self, given: Tensor) -> Tensor:
        if given.dtype != torch.float32 or given.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(given)
        return self.product(given)

    def product(self, given: Tensor) -> Tensor:
        weight, bias = self.weight.bfloat16(), None if self.bias is None else self.bias.bfloat16()
        return linear(given.bfloat16(), weight, bias).float()


class RoundingHead(Rounding):
    """As its parent, but what it gives is not rounded: logits of 16 to 32 would be by up to an eighth."""

    def product(self, given: Tensor) -> Tensor:
        return _Product.apply(given, self.weight, self.bias)


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
