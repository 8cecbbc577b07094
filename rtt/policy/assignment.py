"""What an arm makes of the verdicts on a batch: response-level and token-level terms, and the advantages of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from rtt.config import Arm
from rtt.credit.advantages import combine, response_advantages, token_advantages
from rtt.credit.peers import centred_advantages, cort_advantages, decoupled_advantages, ramp, split_rewards
from rtt.relevance.sources import RelevanceBatch, RelevanceSource, contrast_with_all
from rtt.rubrics import Rubric


@dataclass(frozen=True)
class Judged:
    """The verdicts on a sampled batch; B responses, K rubrics at most."""

    rubrics: list[list[Rubric]]
    prompts: list[str]
    responses: list[str]
    verdicts: torch.Tensor  # (B, K) float32
    valid: torch.Tensor  # (B, K) bool
    weights: torch.Tensor  # (B, K) float32, of the rubrics
    rewards: torch.Tensor  # (B,) float32, NaN where no verdict could be given

    def replaced(self, places: Sequence[int], other: Judged, rows: Sequence[int]) -> Judged:
        """With the responses at `places` replaced by those at `rows` of another batch."""

        def swapped(mine: list, theirs: list) -> list:
            result = list(mine)
            for place, row in zip(places, rows, strict=True):
                result[place] = theirs[row]
            return result

        width = max(self.valid.shape[1], other.valid.shape[1])

        def exchanged(mine: torch.Tensor, theirs: torch.Tensor, padding: int = 0) -> torch.Tensor:
            if mine.dim() == 2:
                mine, theirs = (pad(values, (0, width - values.shape[1]), value=padding) for values in (mine, theirs))
            result = mine.clone()
            result[list(places)] = theirs[list(rows)]
            return result

        return Judged(
            swapped(self.rubrics, other.rubrics),
            swapped(self.prompts, other.prompts),
            swapped(self.responses, other.responses),
            exchanged(self.verdicts, other.verdicts),
            exchanged(self.valid, other.valid),
            exchanged(self.weights, other.weights, padding=1),
            exchanged(self.rewards, other.rewards),
        )


@dataclass(frozen=True)
class Assigned:
    """The advantages of a batch, and what they were made of."""

    response_term: torch.Tensor  # (B,)
    token_term: torch.Tensor  # (B, T), 0 for an arm without a term of its own for tokens
    advantages: torch.Tensor  # (B, T)
    relevance: torch.Tensor | None  # (B, K, T), None for an arm that does not ask for it


def measure(arm: Arm, batch: RelevanceBatch, source: RelevanceSource | None) -> torch.Tensor | None:
    """What `arm` wants to know of each token, row by row.

    Args:
        batch: responses, or one process's part of them.
        source: of relevance; None for an arm without credit.

    Returns:
        (B, K, T) relevance, or, for CoRT, (B, T) contrast; None for an arm that asks for nothing.
    """
    if arm.cort is not None:
        return contrast_with_all(batch)
    if arm.credit is None:
        return None
    assert source is not None, "an arm with credit has a source of relevance"
    return source(batch)


def assign(
    arm: Arm, judged: Judged, measured: torch.Tensor | None, mask: torch.Tensor, group_size: int, step: int
) -> Assigned:
    """The advantages `arm` gives to each token of a batch of whole groups.

    Args:
        arm: which terms there are.
        judged: the verdicts.
        measured: of all these responses, as `measure` gives it.
        mask: (B, T), 1 on tokens that count.
        group_size: G.
        step: optimiser steps taken before the batch was sampled.
    """
    device = mask.device
    response_term = response_term_of(arm, judged, group_size).to(device)
    zeros = torch.zeros(mask.shape, device=device)
    if arm.cort is not None:
        assert measured is not None
        peer = arm.cort
        advantages = cort_advantages(
            measured.to(device),
            response_term,
            mask,
            eta=peer.eta,
            temperature=peer.temperature,
            bias=peer.bias,
            ramp=ramp(step, peer.ramp_steps),
        )
        plain = combine(response_term, zeros, mask, weight=0.0)
        return Assigned(response_term, advantages - plain, advantages, None)
    credit = arm.credit
    if credit is None:
        return Assigned(response_term, zeros, combine(response_term, zeros, mask, weight=0.0), None)
    assert measured is not None
    token_term = token_advantages(
        measured.to(device),
        judged.verdicts.to(device),
        judged.valid.to(device),
        mask,
        group_size,
        partition=credit.partition,
        min_std=credit.min_std,
        weights=unequal(judged.weights.to(device)),
    )
    advantages = combine(response_term, token_term, mask, weight=credit.weight, rule=credit.rule)
    return Assigned(response_term, token_term, advantages, measured)


def unequal(weights: torch.Tensor) -> torch.Tensor | None:
    """Weights as the credit maths takes them: none where all rubrics count alike."""
    return None if (weights == 1).all() else weights


def response_term_of(arm: Arm, judged: Judged, group_size: int) -> torch.Tensor:
    """A_resp (B,): standardised within the group, centred alone (Dr. GRPO), or outcome and quality apart (PAPO)."""
    if arm.papo is not None:
        quality = torch.zeros_like(judged.valid)
        for j, row in enumerate(judged.rubrics):
            for k, rubric in enumerate(row):
                quality[j, k] = rubric.kind in arm.papo.quality_kinds
        outcome, soft = split_rewards(judged.verdicts, judged.valid, quality, weights=unequal(judged.weights))
        return decoupled_advantages(outcome, soft, group_size, quality_weight=arm.papo.quality_weight)
    if arm.objective == "dr_grpo":
        return centred_advantages(judged.rewards, group_size)
    return response_advantages(judged.rewards, group_size)
