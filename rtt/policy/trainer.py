"""RTT-GRPO: TRL's GRPO trainer with advantages that differ from token to token."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import add_fused_lm_head

from rtt.attention import sees_all
from rtt.config import Arm, Policy
from rtt.credit.rewards import response_rewards
from rtt.judging.cases import Judge
from rtt.judging.verdicts import verdict_arrays, weight_array
from rtt.policy.assignment import Assigned, Judged, assign, measure, unequal
from rtt.policy.diagnostics import divergence, relevance_entropy, unrelated_text
from rtt.policy.likelihood import can_project, project
from rtt.policy.resampling import LEFT, groups_without_spread, replace_rows
from rtt.policy.rollouts import RolloutLog
from rtt.policy.sampling import draw_quickly
from rtt.policy.sharing import ROW, generate, in_order, pack, unpack
from rtt.precision import keep_rounded
from rtt.processes import gathered, is_first, on_first, rank
from rtt.relevance.offsets import token_spans
from rtt.relevance.sources import RelevanceBatch, RelevanceSource
from rtt.rubrics import parse_rubrics

_log = logging.getLogger(__name__)

DRIFT = "sampling/sampling_logp_difference/mean"
"""TRL's figure of how far vLLM and the trainer disagree on sampled tokens."""


class RubricReward:
    """TRL's reward function: judges each response, keeps the verdicts, returns the response-level reward.

    The verdicts kept are those of all processes; the rewards returned are this one's.
    """

    __name__ = "rubrics"

    def __init__(self, arm: Arm, judge: Judge) -> None:
        self.arm, self.judge = arm, judge
        self.judged: Judged | None = None

    def __call__(self, prompts: list, completions: list, rubrics: list[str], **_: Any) -> list[float | None]:
        parsed = [parse_rubrics(text) for text in gathered(rubrics)]
        conversations = gathered(prompts)
        asked = [prompt[-1]["content"] for prompt in conversations]
        responses = [completion[0]["content"] for completion in gathered(completions)]
        found = on_first(lambda: verdict_arrays(parsed, responses, conversations, self.judge))
        verdicts, valid = map(torch.from_numpy, found)
        weights = torch.from_numpy(weight_array(parsed))
        rewards = response_rewards(verdicts, valid, self.arm.reward, self.arm.beta, weights=unequal(weights))
        self.judged = Judged(parsed, asked, responses, verdicts, valid, weights, rewards)
        first = rank() * len(completions)
        own = rewards[first : first + len(completions)]
        return [None if np.isnan(reward) else reward for reward in own.tolist()]


class RTTGRPOTrainer(GRPOTrainer):
    """GRPO with A[j, t] in place of the broadcast A_resp[j] (docs/method.md).

    Overrides `_generate_and_score_completions`: the parent samples and calls the reward function; then the advantages
    in the batch, (B,), are replaced by ours, (B, T). The loss, the buffers and everything else are inherited. An arm
    without a term of its own for tokens gets the broadcast response-level advantage.

    Where the model allows, responses to one prompt share the passes over it (rtt.policy.sharing): the same figures for
    less.

    With several processes each samples, measures and learns from its own rows, in the order of the processes. The first
    judges for all. Verdicts, relevance and masks of the whole batch are known to all, so that means and deviations run
    over the whole group wherever its rows lie.

    Args:
        arm: reward, objective and credit.
        policy: how often to resample and to measure.
        judge: who gives the verdicts; asked by the first process alone.
        relevance: the source of relevance; None for an arm without credit.
        rollouts: where each batch is recorded.
        start: the model the run began with, to measure the divergence from it; None where the model is an adapter,
            whose start is the model without it.
    """

    def __init__(
        self,
        *args: Any,
        arm: Arm,
        policy: Policy,
        judge: Judge,
        relevance: RelevanceSource | None,
        rollouts: RolloutLog,
        start: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        config: GRPOConfig = kwargs["args"]
        refuse_unproven(config)
        self.arm, self.policy, self.relevance, self.rollouts, self.start = arm, policy, relevance, rollouts, start
        self.reward = RubricReward(arm, judge)
        self.examples: Dataset = kwargs["train_dataset"]
        kwargs["reward_funcs"] = self.reward
        super().__init__(*args, **kwargs)
        assert config.num_generations is not None  # TRL fills it in
        self.group_size = config.num_generations
        self._seed_sampling(config)
        # Where weights lie in parts, every process has to make the same passes, whatever prompts it has.
        whole = self.accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        model: Any = self.accelerator.unwrap_model(self.model)
        if whole:
            keep_rounded(model)
        self.sharing = policy.share_prompts and whole and sees_all(self.model)
        if self.sharing:
            model.generate = partial(self._sampled, model)  # the parent calls it with nothing but these arguments
        if start is not None:
            add_fused_lm_head(start.to(self.accelerator.device).eval(), temperature=self.temperature)
        self.unrelated = unrelated_text(self.processing_class)

    def _seed_sampling(self, config: GRPOConfig) -> None:
        """Gives each process, of each seed, random numbers of its own.

        TRL counts processes up from the seed, so that process 1 of seed 0 would draw as process 0 of seed 1; and vLLM,
        when it starts inside the process, sets a seed that does not depend on ours at all. Processes that hold one
        model together have to draw alike.
        """
        processes = self.accelerator.num_processes
        if processes > 1 or config.use_vllm:
            together = config.vllm_tensor_parallel_size if config.use_vllm and config.vllm_mode == "colocate" else 1
            set_seed(config.seed * processes + self.accelerator.process_index // together)

    def _sampled(self, model: Any, **given: Any) -> torch.Tensor:
        """As :func:`generate`, in the precision of the loss; by itself, an adapter's base would be in another."""
        with self.accelerator.autocast():
            return generate(model, **given, draw=draw_quickly)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As the parent's, which shuffles a batch before it splits it; here a part holds whole groups where it can."""
        before: Any = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        parts: Any = self._buffered_inputs
        if not self.sharing or parts is before:
            return inputs
        ordered: Any = in_order(parts)
        self._buffered_inputs = ordered
        return ordered[self._step % len(parts)]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        inputs, batch, judged = self._sample(inputs)
        mask = batch["completion_mask"]
        own = self._own(len(mask))
        started = time.perf_counter()
        spans = [
            token_spans(self.processing_class, ids[keep.bool()].tolist(), text)
            for ids, keep, text in zip(batch["completion_ids"], mask, judged.responses[own], strict=True)
        ]
        about = RelevanceBatch(
            rubrics=judged.rubrics[own],
            prompts=judged.prompts[own],
            responses=judged.responses[own],
            spans=spans,
            length=mask.shape[1],
            step=self.state.global_step,
            log_probs=lambda prompts: self._log_probs(prompts, [row["prompt"][:-1] for row in inputs], batch),
            width=judged.valid.shape[1],
            first=own.start,
        )
        measured = measure(self.arm, about, self.relevance)
        if measured is not None:
            measured = self._of_all(measured)
        whole_mask = self._of_all(mask)
        assigned = assign(self.arm, judged, measured, whole_mask, self.group_size, self.state.global_step)
        batch["advantages"] = assigned.advantages[own, : mask.shape[1]]
        batch[ROW] = torch.arange(len(mask))
        self._note(judged, assigned, whole_mask, time.perf_counter() - started)
        if self.policy.diagnostics_every and self.state.global_step % self.policy.diagnostics_every == 0:
            self._measure(batch)
        answered, spans = gathered([row["prompt_id"] for row in inputs]), gathered(spans)
        if is_first():
            self.rollouts.add(rollout_rows(self.state.global_step, answered, judged, spans, assigned))
        return batch

    def _own(self, count: int) -> slice:
        """Where this process's `count` rows stand in the whole batch."""
        return slice(self.accelerator.process_index * count, (self.accelerator.process_index + 1) * count)

    def _of_all(self, rows: torch.Tensor, left: bool = False, fill: int = 0) -> torch.Tensor:
        """The rows of all processes, their last axis padded to the longest; `rows` itself where there is one process.

        Args:
            rows: as many in every process.
            left: whether to pad on the left.
            fill: what to pad with.
        """
        if self.accelerator.num_processes == 1:
            return rows
        if rows.dtype == torch.bool:  # which accelerate turns into integers, but only in the process that pads
            return self._of_all(rows.int(), left, fill).bool()
        rows = rows.to(self.accelerator.device)
        if rows.dim() > 1:
            rows = self.accelerator.pad_across_processes(rows, dim=rows.dim() - 1, pad_index=fill, pad_first=left)
        return self.accelerator.gather(rows.contiguous())

    def _sample(self, inputs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any], Judged]:
        """A sampled and judged batch; with DAPO, groups without spread make room for groups of other prompts."""
        batch, judged = self._sample_once(inputs)
        tries = self.policy.dapo_tries if self.arm.objective == "dapo" else 1
        for attempt in range(1, tries):
            flat = groups_without_spread(judged.rewards, self.group_size)
            if not flat:
                break
            fresh = self._other_prompts(self._even(len(flat)), attempt)
            count = len(fresh) // self.accelerator.num_processes
            more, found = self._sample_once(fresh[self._own(count)])
            flat_again = set(groups_without_spread(found.rewards, self.group_size))
            useful = [group for group in range(len(fresh) // self.group_size) if group not in flat_again][: len(flat)]
            places = [row for group in flat[: len(useful)] for row in self._rows(group)]
            rows = [row for group in useful for row in self._rows(group)]
            if rows:
                batch = self._replaced(batch, more, places, rows)
                judged = judged.replaced(places, found, rows)
                inputs = list(inputs)
                own = self._own(len(inputs))
                for place, row in zip(places, rows, strict=True):
                    if own.start <= place < own.stop:
                        inputs[place - own.start] = fresh[row]
        return inputs, batch, judged

    def _even(self, groups: int) -> int:
        """The next number of groups whose rows can be dealt out evenly to the processes."""
        processes = self.accelerator.num_processes
        step = processes // math.gcd(processes, self.group_size)
        return -(-groups // step) * step

    def _replaced(
        self, batch: dict[str, Any], more: dict[str, Any], places: list[int], rows: list[int]
    ) -> dict[str, Any]:
        """This process's part of the batch, with rows of another in the places that are its own."""
        pad_id = self._tokenizer.pad_token_id
        whole = {
            key: self._of_all(value, key in LEFT, pad_id if key.endswith("_ids") else 0)
            if isinstance(value, torch.Tensor) and value.dim()
            else value
            for key, value in more.items()
        }
        own = self._own(len(batch["completion_mask"]))
        mine = {
            place - own.start: row for place, row in zip(places, rows, strict=True) if own.start <= place < own.stop
        }
        merged = replace_rows(batch, whole, list(mine), list(mine.values()), pad_id)
        return {**merged, "num_items_in_batch": self.accelerator.gather(merged["completion_mask"].sum()).sum()}

    def _sample_once(self, inputs: list[dict[str, Any]]) -> tuple[dict[str, Any], Judged]:
        batch = super()._generate_and_score_completions(inputs)
        self._warn_of_drift()
        judged = self.reward.judged
        assert judged is not None  # the parent has just called the reward function
        return batch, judged

    def _warn_of_drift(self) -> None:
        """Says so when vLLM and the trainer disagree on what was sampled."""
        found = self._metrics["train"].get(DRIFT)
        if self.policy.vllm is None or not found:
            return
        limit = self.policy.vllm.drift_limit
        self._metrics["train"]["sampling/drift_alarm"].append(float(found[-1] > limit))
        if found[-1] > limit and is_first():
            _log.warning(
                "step %d: vLLM and the trainer differ by %.3f in a sampled token's log-probability, on average; "
                "policy.vllm.drift_limit is %.3f. Their versions, precision or settings do not fit together.",
                *(self.state.global_step, found[-1], limit),
            )

    def _rows(self, group: int) -> range:
        return range(group * self.group_size, (group + 1) * self.group_size)

    def _other_prompts(self, count: int, attempt: int) -> list[dict[str, Any]]:
        """Inputs of `count` groups, drawn by seed, step and attempt alone, so that a resumed run draws the same."""
        draw = random.Random(f"{self.args.seed}/{self.state.global_step}/{attempt}")
        chosen = draw.sample(range(len(self.examples)), count)
        return [dict(self.examples[index]) for index in chosen for _ in range(self.group_size)]

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Without gradients and without dropout."""
        model: Any = self.model
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            model.train(training)

    def _log_probs(
        self, prompts: Sequence[str], before: Sequence[list[dict[str, str]]], batch: dict[str, Any]
    ) -> torch.Tensor:
        """(B, T): the policy's log-probability of each sampled token, had the last user message been another."""
        asked = [[*turns, {"role": "user", "content": prompt}] for turns, prompt in zip(before, prompts, strict=True)]
        ids, _, _ = self._tokenize_prompts(asked)
        width = max(map(len, ids))
        pad_id, device = self._tokenizer.pad_token_id, batch["completion_ids"].device
        left = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in ids], device=device)
        seen = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
        with self._still():
            return self._scored(self.model, left, seen, batch)

    def _scored(
        self, model: Any, prompt_ids: torch.Tensor, prompt_mask: torch.Tensor, batch: dict[str, Any]
    ) -> torch.Tensor:
        ids = torch.cat([prompt_ids, batch["completion_ids"]], dim=1)
        mask = torch.cat([prompt_mask, batch["completion_mask"]], dim=1)
        rows = self.args.per_device_train_batch_size
        return self._get_per_token_logps_and_entropies(model, ids, mask, batch["completion_ids"].shape[1], rows)[0]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """As the parent's, in packed rows."""
        if not self.sharing or compute_aux_loss:
            return super()._get_per_token_logps_and_entropies(
                *(model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss),
                **kwargs,
            )
        log_probs, entropies = [], []
        for ids, mask in zip(
            *(tensor.split(batch_size or len(tensor)) for tensor in (input_ids, attention_mask)), strict=True
        ):
            (prompt, response), (prompt_mask, counted) = (
                (tensor[:, :-logits_to_keep], tensor[:, -logits_to_keep:]) for tensor in (ids, mask)
            )
            dtype = self.accelerator.unwrap_model(model).dtype
            packed = pack(prompt, prompt_mask, response, counted, dtype=dtype)
            with self.accelerator.autocast():
                if can_project(self.accelerator.unwrap_model(model), packed.inputs["labels"]):
                    found, entropy = project(model, packed.inputs, self.temperature)
                else:
                    output = model(**packed.inputs, fused_lm_head=True)
                    found, entropy = output.log_probs, output.entropy
            log_probs.append(unpack(found, packed.places, counted))
            if compute_entropy:
                entropies.append(unpack(entropy, packed.places, counted))
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _measure(self, batch: dict[str, Any]) -> None:
        """Divergence from the start on this batch, and the loss on text no prompt is about."""
        prompt = batch["prompt_ids"], batch["prompt_mask"]
        counted = batch["completion_mask"].bool()
        with self._still():
            now = self._scored(self.model, *prompt, batch)
            if self.start is not None:
                before = self._scored(self.start, *prompt, batch)
            else:
                with self.accelerator.unwrap_model(self.model).disable_adapter():
                    before = self._scored(self.model, *prompt, batch)
            text = self.unrelated.to(now.device)
            loss = -self._get_per_token_logps_and_entropies(self.model, text, torch.ones_like(text), text.shape[1] - 1)[
                0
            ].mean()
        now, before, counted = map(self._of_all, (now, before, counted))
        self._metrics["train"]["diagnostics/kl_to_start"].append(divergence(now[counted], before[counted]))
        self._metrics["train"]["diagnostics/unrelated_loss"].append(loss.item())

    def _note(self, judged: Judged, assigned: Assigned, mask: torch.Tensor, seconds: float) -> None:
        """Adds this batch's figures to the ones TRL logs."""
        counted = mask.bool()
        flat = groups_without_spread(judged.rewards, self.group_size)
        passed = (judged.verdicts > 0) & judged.valid
        flipped = torch.sign(assigned.advantages) * torch.sign(assigned.response_term)[:, None] < 0
        figures = {
            "instruction_accuracy": (passed.sum() / judged.valid.sum().clamp(min=1)).item(),
            "prompt_accuracy": (passed | ~judged.valid).all(dim=1)[judged.valid.any(dim=1)].float().mean().item(),
            "missing_verdicts": judged.rewards.isnan().float().mean().item(),
            "groups_without_spread": len(flat) * self.group_size / len(judged.rewards),
            "token_advantage": assigned.token_term[counted].abs().mean().item(),
            "sign_differs": flipped[counted].float().mean().item(),
            "credit_seconds": seconds,
        }
        if assigned.relevance is not None:
            figures["relevance_entropy"] = relevance_entropy(assigned.relevance.cpu(), judged.valid, mask.cpu())
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


def rollout_rows(
    step: int,
    answered: Sequence[str],
    judged: Judged,
    spans: Sequence[Sequence[tuple[int, int]]],
    assigned: Assigned,
) -> pd.DataFrame:
    """The batch as rows of rtt.tables.Rollouts; `answered` are the prompts' ids."""
    relevance, advantages = assigned.relevance, assigned.advantages
    rows = []
    for j, prompt_id in enumerate(answered):
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
                "prompt_id": prompt_id,
                "response": judged.responses[j],
                "verdicts": json.dumps(verdicts),
                "reward": judged.rewards[j].item(),
                "response_advantage": assigned.response_term[j].item(),
                "token_spans": json.dumps([list(span) for span in spans[j]]),
                "relevance": json.dumps(by_rubric),
                "token_advantages": json.dumps([round(value, 6) for value in assigned.token_term[j, :count].tolist()]),
                "advantages": json.dumps([round(value, 6) for value in advantages[j, :count].tolist()]),
            }
        )
    return pd.DataFrame(rows)
