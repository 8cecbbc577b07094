"""Our settings as TRL and PEFT read them, and the prompts as a data set."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig

from rtt.config import Arm, Policy
from rtt.errors import UserError
from rtt.judging.verdicts import conversations_of
from rtt.tables import rows_of


def grpo_settings(policy: Policy, arm: Arm, seed: int, work: Path) -> GRPOConfig:
    """TRL's settings for ours; every one that matters is set here, none is left to a default that may move."""
    micro = policy.micro_batch_size or policy.batch_size
    accumulation = policy.batch_size // micro
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
        gradient_checkpointing=False,
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


def training_set(prompts: pd.DataFrame) -> Dataset:
    """The prompts of the split train as TRL reads them: messages, with the rubrics beside."""
    rows = prompts[prompts["split"] == "train"]
    if rows.empty:
        raise UserError("no prompt has the split train", where="prompts", todo="check prompts.splits")
    messages = conversations_of(rows)
    return Dataset.from_list(
        [
            {"prompt": list(messages[row.prompt_id]), "prompt_id": row.prompt_id, "rubrics": row.rubrics}
            for row in rows_of(rows)
        ]
    )
