"""RTT-GRPO: TRL's GRPO trainer with advantages that differ from token to token."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from trl import GRPOConfig, GRPOTrainer

from rtt.config import Arm
from rtt.credit.advantages import combine, response_advantages, token_advantages
from rtt.credit.rewards import response_rewards
from rtt.judging.verdicts import verdict_arrays
from rtt.policy.rollouts import RolloutLog
from rtt.relevance.offsets import char_to_token_relevance, token_spans
from rtt.relevance.sources import RelevanceSource
from rtt.rubrics import Rubric, parse_rubrics


@dataclass
class Judged:
    """The verdicts of the batch the trainer has just sampled."""

    rubrics: list[list[Rubric]]
    responses: list[str]
    verdicts: torch.Tensor  # (B, K) float32
    valid: torch.Tensor  # (B, K) bool
    rewards: torch.Tensor  # (B,) float32, NaN where no verdict could be given


class RubricReward:
    """TRL's reward function: judges each response, keeps the verdicts, returns the response-level reward."""

    __name__ = "rubrics"

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.judged: Judged | None = None

    def __call__(self, prompts: list, completions: list, rubrics: list[str], **_: Any) -> list[float | None]:
        parsed = [parse_rubrics(text) for text in rubrics]
        responses = [completion[0]["content"] for completion in completions]
        values, valid_array = verdict_arrays(parsed, responses, [prompt[-1]["content"] for prompt in prompts])
        verdicts, valid = torch.from_numpy(values), torch.from_numpy(valid_array)
        rewards = response_rewards(verdicts, valid, self.arm.reward, self.arm.beta)
        self.judged = Judged(parsed, responses, verdicts, valid, rewards)
        return [None if np.isnan(reward) else reward for reward in rewards.tolist()]


class RTTGRPOTrainer(GRPOTrainer):
    """GRPO with A[j, t] in place of the broadcast A_resp[j] (docs/method.md).

    Overrides `_generate_and_score_completions` alone: the parent samples and calls the reward function; then the
    advantages in the batch, (B,), are replaced by ours, (B, T). The loss, the buffers and everything else are
    inherited. An arm without a credit section gets the broadcast response-level advantage.

    Args:
        arm: reward and credit.
        relevance: the source of relevance; None for an arm without credit.
        rollouts: where each batch is recorded.
    """

    def __init__(
        self, *args: Any, arm: Arm, relevance: RelevanceSource | None, rollouts: RolloutLog, **kwargs: Any
    ) -> None:
        config: GRPOConfig = kwargs["args"]
        refuse_unproven(config)
        self.arm, self.relevance, self.rollouts = arm, relevance, rollouts
        self.reward = RubricReward(arm)
        kwargs["reward_funcs"] = self.reward
        super().__init__(*args, **kwargs)
        assert config.num_generations is not None  # TRL fills it in
        self.group_size = config.num_generations
        if self.accelerator.num_processes > 1:
            raise ValueError(
                f"{self.accelerator.num_processes} processes: token advantages are proven with one process only"
            )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        judged = self.reward.judged
        assert judged is not None  # the parent has just called the reward function
        mask = batch["completion_mask"]
        device = mask.device
        response_term = response_advantages(judged.rewards, self.group_size).to(device)
        spans = [
            token_spans(self.processing_class, ids[keep.bool()].tolist(), text)
            for ids, keep, text in zip(batch["completion_ids"], mask, judged.responses, strict=True)
        ]
        started = time.perf_counter()
        credit = self.arm.credit
        if credit is None:
            relevance = None
            token_term = torch.zeros(mask.shape, device=device)
            advantages = combine(response_term, token_term, mask, weight=0.0)
        else:
            assert self.relevance is not None
            relevance = relevance_tensor(self.relevance, judged.rubrics, judged.responses, spans, mask.shape[1])
            token_term = token_advantages(
                relevance.to(device),
                judged.verdicts.to(device),
                judged.valid.to(device),
                mask,
                self.group_size,
                partition=credit.partition,
                min_std=credit.min_std,
            )
            advantages = combine(response_term, token_term, mask, weight=credit.weight, rule=credit.rule)
        batch["advantages"] = advantages
        self._note(judged, response_term, token_term, advantages, mask, time.perf_counter() - started)
        self.rollouts.add(
            rollout_rows(self.state.global_step, inputs, judged, response_term, spans, relevance, advantages)
        )
        return batch

    def _note(
        self,
        judged: Judged,
        response_term: torch.Tensor,
        token_term: torch.Tensor,
        advantages: torch.Tensor,
        mask: torch.Tensor,
        seconds: float,
    ) -> None:
        """Adds this batch's figures to the ones TRL logs."""
        counted = mask.bool()
        groups = judged.rewards.view(-1, self.group_size)
        spread = groups.nan_to_num(nan=-1.0)
        passed = (judged.verdicts > 0) & judged.valid
        flipped = (torch.sign(advantages) * torch.sign(response_term)[:, None] < 0)[counted]
        figures = {
            "instruction_accuracy": (passed.sum() / judged.valid.sum().clamp(min=1)).item(),
            "prompt_accuracy": (passed | ~judged.valid).all(dim=1)[judged.valid.any(dim=1)].float().mean().item(),
            "missing_verdicts": judged.rewards.isnan().float().mean().item(),
            "groups_without_spread": (spread.amax(1) == spread.amin(1)).float().mean().item(),
            "token_advantage": token_term[counted].abs().mean().item(),
            "sign_differs": flipped.float().mean().item(),
            "credit_seconds": seconds,
        }
        for name, value in figures.items():
            self._metrics["train"][f"rubrics/{name}"].append(value)


def refuse_unproven(config: GRPOConfig) -> None:
    """Raises ValueError for TRL settings that are not proven with advantages of shape (B, T)."""
    refused = {
        "loss_type": config.loss_type not in ("grpo", "dr_grpo", "dapo"),
        "importance_sampling_level": config.importance_sampling_level != "token",
        "use_liger_kernel": config.use_liger_kernel,
        "off_policy_mask_threshold": config.off_policy_mask_threshold is not None,
    }
    for name, bad in refused.items():
        if bad:
            raise ValueError(f"{name}={getattr(config, name)!r} is not proven with token-level advantages")


def relevance_tensor(
    source: RelevanceSource,
    rubrics: Sequence[Sequence[Rubric]],
    responses: Sequence[str],
    spans: Sequence[Sequence[tuple[int, int]]],
    length: int,
) -> torch.Tensor:
    """Relevance of each token to each rubric, (B, K, T) float32 in [0, 1], 0 in padding."""
    width = max(len(row) for row in rubrics)
    result = torch.zeros(len(responses), width, length)
    places = [(j, k) for j, row in enumerate(rubrics) for k in range(len(row))]
    characters = source([(rubrics[j][k], responses[j]) for j, k in places])
    for (j, k), values in zip(places, characters, strict=True):
        tokens = char_to_token_relevance(values, spans[j])
        result[j, k, : len(tokens)] = torch.from_numpy(np.asarray(tokens, dtype=np.float32))
    return result


def rollout_rows(
    step: int,
    inputs: Sequence[dict[str, Any]],
    judged: Judged,
    response_term: torch.Tensor,
    spans: Sequence[Sequence[tuple[int, int]]],
    relevance: torch.Tensor | None,
    advantages: torch.Tensor,
) -> pd.DataFrame:
    """The batch as rows of rtt.tables.Rollouts."""
    rows = []
    for j, row in enumerate(inputs):
        count = len(spans[j])
        by_rubric = (
            {}
            if relevance is None
            else {
                rubric.rubric_id: [round(value, 4) for value in relevance[j, k, :count].tolist()]
                for k, rubric in enumerate(judged.rubrics[j])
            }
        )
        verdicts = {
            rubric.rubric_id: judged.verdicts[j, k].item() if judged.valid[j, k] else None
            for k, rubric in enumerate(judged.rubrics[j])
        }
        rows.append(
            {
                "step": step,
                "row": j,
                "prompt_id": row["prompt_id"],
                "response": judged.responses[j],
                "verdicts": json.dumps(verdicts),
                "reward": judged.rewards[j].item(),
                "response_advantage": response_term[j].item(),
                "token_spans": json.dumps([list(span) for span in spans[j]]),
                "relevance": json.dumps(by_rubric),
                "advantages": json.dumps([round(value, 6) for value in advantages[j, :count].tolist()]),
            }
        )
    return pd.DataFrame(rows)
