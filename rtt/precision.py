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


def prepared(model: Model) -> Model:
    """`model` with its linear layers in the precision asked for. On a graphics card they compute as any others."""
    if _asked == "bfloat16":
        for layer in model.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = Rounding
    return model


class Rounding(nn.Linear):
    """On a processor with instructions for it (AMX, AVX512-BF16): numbers are rounded to bfloat16 before they are
    multiplied, and summed in single precision, in both directions. On others: a plain linear layer.

    Attention is left as it is: its products are too small to gain from rounding, and lose a lot (torch 2.13).
    """

    def forward(self, given: Tensor) -> Tensor:
        if given.dtype != torch.float32 or given.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(given)
        return _Product.apply(given, self.weight, self.bias)


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
