"""Advantages of the methods compared with: CoRT, PAPO (also RDAN) and Dr. GRPO (docs/method.md, "Peers").

Letters as in `rtt.credit.advantages`: G responses to one prompt, B rows (a multiple of G, group-contiguous), K rubrics,
T completion tokens. A mask's 1 (or True) means the entry counts; what lies outside a mask, NaN and infinity included,
has no influence. A reward that is NaN is none: its row leaves the group and gets advantage 0.
"""

from __future__ import annotations

import math

import torch

from rtt.credit.advantages import require_at_least_zero, require_groups, response_advantages
from rtt.credit.rewards import as_floating, read_verdicts, require_dims, require_shape, response_rewards


def cort_advantages(
    contrast: torch.Tensor,
    response: torch.Tensor,
    completion_mask: torch.Tensor,
    eta: float = 1.0,
    temperature: float = 1.0,
    bias: float = 0.0,
    ramp: float = 1.0,
) -> torch.Tensor:
    """A[j, t] = weight[j, t] · A_resp[j], weights of mean 1 over a response (CoRT, arXiv 2607.25659).

    score = sigmoid(τ·(δ - b)) - 1/2; weight = 1 + η·λ·score, divided by its mean over the response's tokens.

    Args:
        contrast: (B, T), δ, any real number; floating. Takes no part in automatic differentiation.
        response: (B,), A_resp.
        completion_mask: (B, T), 1 on tokens that count; bool, integer or floating.
        eta: η in [0, 2]; above 2 a weight could become negative.
        temperature: τ, above 0.
        bias: b.
        ramp: λ in [0, 1], see :func:`ramp`.

    Returns:
        (B, T), exactly 0 outside `completion_mask`. A_resp, broadcast, bit for bit, where `eta` or `ramp` is 0. A
        response whose every weight is 0 (η = 2 and δ far below b throughout) has equal weights, hence A_resp too. A
        NaN in `contrast` that does count is not hidden: it makes its whole response NaN.

    Raises:
        ValueError: shapes that do not fit, or a number out of range.
    """
    if not 0 <= eta <= 2:
        raise ValueError(f"eta must lie between 0 and 2, it is {eta}")
    if not 0 <= ramp <= 1:
        raise ValueError(f"ramp must lie between 0 and 1, it is {ramp}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, it is {temperature}")
    if not math.isfinite(bias):
        raise ValueError(f"bias must be finite, it is {bias}")
    contrast, response = as_floating(contrast.detach()), as_floating(response)
    tokens = completion_mask.bool()
    require_dims("response", response, 1)
    require_dims("contrast", contrast, 2)
    require_shape("response", response, contrast.shape[:1], "contrast", contrast)
    require_shape("completion_mask", tokens, contrast.shape, "contrast", contrast)
    dtype = torch.promote_types(contrast.dtype, response.dtype)
    plain = response.to(dtype)[:, None].expand_as(contrast)
    if eta * ramp == 0:
        return torch.where(tokens, plain, 0)  # without a score, so that an infinite or missing one cannot matter
    score = torch.sigmoid(temperature * (contrast.to(dtype).masked_fill(~tokens, bias) - bias)) - 0.5
    weight = torch.where(tokens, 1 + eta * ramp * score, 0)
    mean = weight.sum(dim=1, keepdim=True) / tokens.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(tokens, torch.where(mean == 0, 1, weight / mean) * plain, 0)


def ramp(step: int, steps: int) -> float:
    """λ of :func:`cort_advantages`: half a cosine, (1 - cos(π·step/steps)) / 2, from 0 at step 0 to 1 at `steps`.

    It starts and ends without a slope. CoRT says "smooth" and no more as far as we know; the curve is our choice.

    Args:
        step: optimiser steps taken, at least 0.
        steps: length of the rise, at least 0; 0 gives 1 from the start.

    Returns:
        λ in [0, 1]: exactly 0 at step 0 of a rise, exactly 1 at its end and after.

    Raises:
        ValueError: a negative number.
    """
    require_at_least_zero(step=step, steps=steps)
    return 1.0 if step >= steps else (1 - math.cos(math.pi * step / steps)) / 2


def decoupled_advantages(
    outcome: torch.Tensor,
    quality: torch.Tensor,
    group_size: int,
    quality_weight: float = 1.0,
    eps: float = 1e-6,
) -> torch.Tensor:
    """A[j] = z(outcome, all of j's group) + q · z(quality, the passing of j's group) (PAPO, also RDAN, 2603.26535).

    z is `response_advantages`: the sample deviation, over the rows that have the number.

    Args:
        outcome: (B,), 1 where a response passes and less where it does not; NaN where it has no reward.
        quality: (B,), any real number; NaN where a response has none. It is read where the outcome is exactly 1.
        group_size: G.
        quality_weight: q, at least 0; 0 gives the outcome's term alone.
        eps: keeps the quotients finite; at least 0.

    Returns:
        (B,). The quality term is exactly 0 for a response that does not pass or has no quality, and in a group with
        fewer than two that have; a row without an outcome is exactly 0.

    Raises:
        ValueError: shapes that do not fit, B not a multiple of G, or a number out of range.
    """
    outcome, quality = as_floating(outcome), as_floating(quality)
    require_dims("outcome", outcome, 1)
    require_shape("quality", quality, outcome.shape, "outcome", outcome)
    require_at_least_zero(quality_weight=quality_weight)
    passing = torch.where(outcome == 1, quality, torch.nan)
    term = response_advantages(passing, group_size, eps)
    return response_advantages(outcome, group_size, eps) + quality_weight * term


def centred_advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """A[j] = R[j] - mean R over j's group, without a division by the deviation (Dr. GRPO).

    Args:
        rewards: (B,), NaN where a row has no reward.
        group_size: G.

    Returns:
        (B,). Exactly 0 for a row without a reward (it does not enter the mean), in a group with fewer than two
        rewards, and in a group whose rewards are all equal.

    Raises:
        ValueError: B is not a multiple of G.
    """
    rewards = as_floating(rewards)
    require_dims("rewards", rewards, 1)
    require_groups(len(rewards), group_size)
    groups = rewards.detach().unflatten(0, (len(rewards) // group_size, group_size))
    known = ~groups.isnan()
    count = known.sum(dim=1, keepdim=True).clamp(min=1)
    centred = torch.where(known, groups, 0)
    for _ in range(2):  # the second time takes off what the first mean was rounded by, as in response_advantages
        centred = torch.where(known, centred - centred.sum(dim=1, keepdim=True) / count, 0)
    return centred.flatten()


def split_rewards(
    verdicts: torch.Tensor, valid: torch.Tensor, quality: torch.Tensor, *, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """PAPO's two rewards: outcome, all or nothing over the hard rubrics; quality, the mean over the soft ones.

    Args:
        verdicts: (B, K), r in [-1, 1]; floating, or integer and then taken as float32.
        valid: (B, K), 1 where r is a real verdict; bool, integer or floating.
        quality: (B, K), 1 where a rubric is about soft quality; bool, integer or floating.
        weights: (B, K), of the rubrics in the mean, as in `response_rewards`.

    Returns:
        outcome (B,), ``aon`` over valid rubrics that are not about quality, NaN for a row that has none; and quality
        (B,), ``csr`` over valid rubrics that are, NaN for a row that has none (`rtt.credit.rewards.response_rewards`).

    Raises:
        ValueError: shapes that do not fit, or a valid verdict that is not finite.
    """
    verdicts, valid = read_verdicts(verdicts, valid)
    soft = quality.bool()
    require_shape("quality", soft, verdicts.shape, "verdicts", verdicts)
    outcome = response_rewards(verdicts, valid & ~soft, "aon")
    return outcome, response_rewards(verdicts, valid & soft, "csr", weights=weights)
