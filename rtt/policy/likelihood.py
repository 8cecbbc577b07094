"""Log-probabilities of sampled tokens, with the vocabulary projected where such a token stands and nowhere else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

MOST_LOGITS = 2**29
"""Bytes of logits that one pass may keep until its gradient is known."""

PART = 2**23
"""Bytes of logits that are made shares of at once."""


def can_project(model: Any, labels: torch.Tensor) -> bool:
    """Whether :func:`project` is the cheaper way: on the processor, where TRL's fused head projects every position and
    does so again for the gradient; and while the logits fit.

    Args:
        model: a causal language model, with or without an adapter.
        labels: (R, L), -100 where no figure is asked for.
    """
    if labels.device.type != "cpu":
        return False
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    size = labels.shape[0] * len(_columns(labels)) * base.config.get_text_config().vocab_size * 4
    return size <= MOST_LOGITS and "logits_to_keep" in inspect.signature(type(base).forward).parameters


def project(model: Any, inputs: dict[str, torch.Tensor], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each labelled token, given those before it.

    Args:
        model: called with `inputs` but for the labels.
        inputs: with labels (R, L), -100 where no figure is asked for.
        temperature: what logits are divided by.

    Returns:
        Two of (R, L - 1), for the tokens 1 … L - 1 of each row; what stands where there is no label means nothing. The
        entropy takes no part in automatic differentiation.
    """
    columns = _columns(inputs["labels"])
    targets = inputs["labels"][:, 1:]
    read = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**read, logits_to_keep=columns, use_cache=False).logits.float()
    found, entropy = _Scores.apply(logits, targets[:, columns].clamp(min=0), temperature)
    nothing = torch.zeros(targets.shape, device=targets.device)
    return nothing.index_copy(1, columns, found), nothing.index_copy(1, columns, entropy)


def _columns(labels: torch.Tensor) -> torch.Tensor:
    """The positions after which a label stands in any row."""
    return (labels[:, 1:] != -100).any(dim=0).nonzero()[:, 0]


class _Scores(torch.autograd.Function):
    """logits (R, S, V), targets (R, S) and a temperature to log-probabilities and entropies (R, S), the latter without
    a gradient.

    By some rows at a time, whose distributions go from one use to the next in the processor's cache. Between loss and
    gradient there are only the logits, where differentiating each step keeps and makes five tensors as large.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(logits, targets)
        ctx.temperature = temperature
        found, entropy = (logits.new_empty(targets.shape) for _ in range(2))
        flat = found.view(-1), entropy.view(-1)
        for part, scores, target in _in_parts(logits, targets, temperature):
            flat[0][part] = scores.gather(1, target[:, None])[:, 0]
            flat[1][part] = -torch.linalg.vecdot(scores.exp(), scores)
        ctx.mark_non_differentiable(entropy)
        return found, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Of a row: its own gradient times (1 at the target, 0 elsewhere, minus the shares), over the temperature."""
        logits, targets = ctx.saved_tensors
        of_logits = logits.new_empty(logits.shape)
        of_rows = gradient.reshape(-1, 1) / ctx.temperature
        for part, scores, target in _in_parts(logits, targets, ctx.temperature):
            given = of_rows[part]
            into = torch.mul(scores.exp_(), -given, out=of_logits.view(-1, logits.shape[-1])[part])
            into.scatter_add_(1, target[:, None], given)
        return of_logits, None, None


def _in_parts(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Rows of (…, V) logits as slices of them all, their logarithms of shares, and their targets."""
    rows, goals = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    size = max(1, PART // (rows.shape[1] * rows.element_size()))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        given = rows[part] if temperature == 1 else rows[part] / temperature
        yield part, given.log_softmax(dim=1), goals[part]
