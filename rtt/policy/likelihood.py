"""Log-probabilities of sampled tokens, with the vocabulary projected where such a token stands and nowhere else."""

from __future__ import annotations

import inspect
from typing import Any

import torch

MOST_LOGITS = 2**29
"""Bytes of logits that one pass may keep until its gradient is known."""


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
    scores = (logits if temperature == 1 else logits / temperature).log_softmax(dim=-1)
    found = scores.gather(-1, targets[:, columns].clamp(min=0)[..., None])[..., 0]
    with torch.no_grad():
        entropy = -torch.linalg.vecdot(scores.exp(), scores)
    nothing = torch.zeros(targets.shape, device=targets.device)
    return nothing.index_copy(1, columns, found), nothing.index_copy(1, columns, entropy)


def _columns(labels: torch.Tensor) -> torch.Tensor:
    """The positions after which a label stands in any row."""
    return (labels[:, 1:] != -100).any(dim=0).nonzero()[:, 0]
