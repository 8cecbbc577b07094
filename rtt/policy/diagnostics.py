"""Figures that say how a policy changes beside its reward."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import torch

UNRELATED = "unrelated.txt"


def unrelated_text(tokenizer: Any) -> torch.Tensor:
    """Token ids (1, N) of a plain text that no prompt is about; its loss shows what training costs elsewhere."""
    text = files("rtt.policy").joinpath(UNRELATED).read_text(encoding="utf-8").strip()
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


def divergence(now: torch.Tensor, before: torch.Tensor) -> float:
    """Mean estimate of KL(now || before) a token, at least 0, from log-probabilities of tokens sampled from `now`.

    Args:
        now: (N,) log-probabilities under the policy.
        before: (N,) of the same tokens under the start.

    Returns:
        The mean of exp(before - now) - (before - now) - 1, in nats: unbiased, and never negative.
    """
    gap = before - now
    return (gap.exp() - gap - 1).mean().item()


def relevance_entropy(relevance: torch.Tensor, valid: torch.Tensor, mask: torch.Tensor) -> float:
    """How widely relevance is spread: 0 is one token, 1 all tokens alike; the mean over (response, rubric).

    Args:
        relevance: (B, K, T), w in [0, 1].
        valid: (B, K), True where there is a verdict.
        mask: (B, T), 1 on tokens that count.

    Returns:
        The entropy of w divided by its sum, over the logarithm of the number of tokens. NaN when there is no
        (response, rubric) with a verdict, some relevance and at least two tokens.
    """
    weights = relevance * mask[:, None, :]
    total = weights.sum(dim=2, keepdim=True)
    share = weights / total.clamp(min=1e-12)
    entropy = -torch.xlogy(share, share).sum(dim=2)
    tokens = mask.sum(dim=1)[:, None].expand_as(entropy)
    counted = valid & (total[:, :, 0] > 0) & (tokens > 1)
    return (entropy[counted] / tokens[counted].log()).mean().item()
