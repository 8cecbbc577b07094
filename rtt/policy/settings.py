"""Our settings as TRL and PEFT read them, and the prompts as a data set."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig

from rtt.config import Arm, Policy, Vllm
from rtt.errors import UserError
from rtt.judging.cases import Message
from rtt.judging.verdicts import conversations_of
from rtt.processes import count
from rtt.tables import rows_of

_log = logging.getLogger(__name__)


def rows_at_once(policy: Policy) -> tuple[int, int]:
    """Rows in one pass of one process, and passes in an optimiser step.

    Raises:
        UserError: the processes cannot share the batch evenly.
    """
    processes = count()
    share, left = divmod(policy.batch_size, processes)
    micro = policy.micro_batch_size or share
    if left or share % micro:
        raise UserError(
            f"{processes} processes with policy.micro_batch_size {policy.micro_batch_size} cannot share "
            f"policy.batch_size {policy.batch_size} evenly",
            where=policy.accelerate or "the launcher",
            todo="let batch_size be a multiple of processes times micro_batch_size",
        )
    return micro, share // micro


def vllm_settings(vllm: Vllm | None) -> dict[str, Any]:
    """How vLLM samples, in TRL's words.

    The correction for what vLLM and the trainer disagree on is token by token: vLLM's log-probabilities are those of
    the distribution that top-p and top-k leave, the trainer's those of the whole. A token's quotient is then what they
    leave of the whole, close to 1; the product over a response, TRL's default, would be close to 0 for a long one.
    """
    if vllm is None:
        return {"use_vllm": False}
    settings: dict[str, Any] = {
        "use_vllm": True,
        "vllm_mode": vllm.mode,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 2.0,
        "vllm_importance_sampling_clip_min": None,
    }
    if vllm.mode == "server":
        return {**settings, "vllm_server_base_url": vllm.server_url}
    return {
        **settings,
        "vllm_gpu_memory_utilization": vllm.memory_share,
        "vllm_tensor_parallel_size": vllm.tensor_parallel,
        "vllm_enable_sleep_mode": vllm.sleep,
        "vllm_max_model_length": vllm.longest,
    }


def grpo_settings(policy: Policy, arm: Arm, seed: int, work: Path) -> GRPOConfig:
    """TRL's settings for ours; every one that matters is set here, none is left to a default that may move."""
    micro, accumulation = rows_at_once(policy)
    return GRPOConfig(
        output_dir=str(work),
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        fp16=False,
        max_steps=policy.total_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=accumulation,
        num_generations=policy.group_size,
        num_iterations=policy.num_iterations,
        learning_rate=arm.learning_rate or policy.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=policy.warmup_steps,
        weight_decay=policy.weight_decay,
        max_grad_norm=policy.max_grad_norm,
        gradient_checkpointing=policy.gradient_checkpointing,
        max_completion_length=policy.generation.max_tokens,
        temperature=policy.generation.temperature,
        top_p=policy.generation.top_p,
        top_k=policy.generation.top_k,
        loss_type=arm.objective,
        importance_sampling_level="token",
        scale_rewards="none" if arm.objective == "dr_grpo" else "group",
        epsilon=policy.epsilon_low,
        epsilon_high=policy.epsilon_high,
        beta=policy.beta,
        mask_truncated_completions=False,
        shuffle_dataset=True,
        logging_steps=1,
        save_strategy="no",  # the callback says when
        save_total_limit=2,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=False,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        disable_dropout=False,
        **vllm_settings(policy.vllm),
    )


def lora_settings(policy: Policy) -> LoraConfig | None:
    if policy.lora is None:
        return None
    targets = policy.lora.targets
    return LoraConfig(
        r=policy.lora.rank,
        lora_alpha=policy.lora.alpha,
        lora_dropout=policy.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def training_set(prompts: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, longest: int | None = None) -> Dataset:
    """The prompts of the split train as TRL reads them: messages, with the rubrics beside.

    Args:
        prompts: rows of rtt.tables.Prompts.
        tokenizer: counts the tokens of a prompt.
        longest: tokens; longer prompts are left out, with a warning that counts them. None keeps all.

    Raises:
        UserError: no prompt is left.
    """
    rows = prompts[prompts["split"] == "train"]
    if rows.empty:
        raise UserError("no prompt has the split train", where="prompts", todo="check prompts.splits")
    messages = conversations_of(rows)
    if longest is not None:
        fits = [_tokens(tokenizer, messages[prompt_id]) <= longest for prompt_id in rows["prompt_id"]]
        if not any(fits):
            raise UserError(
                f"every training prompt has more than {longest} tokens",
                where="prompts",
                todo="raise policy.longest_prompt",
            )
        if not all(fits):
            _log.warning(
                "%d of %d training prompts are left out: longer than %d tokens", fits.count(False), len(fits), longest
            )
        rows = rows[fits]
    return Dataset.from_list(
        [
            {"prompt": list(messages[row.prompt_id]), "prompt_id": row.prompt_id, "rubrics": row.rubrics}
            for row in rows_of(rows)
        ]
    )


def _tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> int:
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
