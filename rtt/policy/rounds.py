"""One round of RTT-GRPO: K optimiser steps that start where the round before stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOConfig

from rtt.config import Arm, Config, Policy, to_dict, write_config
from rtt.errors import UserError
from rtt.policy.checkpoints import digest, last_sealed, seal, verify
from rtt.policy.pretrained import load_policy, load_tokenizer
from rtt.policy.rollouts import MetricLog, RolloutLog, read_metrics
from rtt.policy.trainer import RTTGRPOTrainer
from rtt.relevance.sources import open_relevance
from rtt.tables import Prompts, Rollouts, read_table, rows_of, write_table
from rtt.tracking import Run

ACCURACY = "rubrics/instruction_accuracy"


class _Pace(TrainerCallback):
    """Stops at the round's last step, seals every checkpoint and records the figures of each step."""

    def __init__(self, last_step: int, every: int, metrics: MetricLog, run: Run) -> None:
        self.last_step, self.every, self.metrics, self.run = last_step, every, metrics, run

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop = state.global_step >= self.last_step
        control.should_save = control.should_training_stop or state.global_step % self.every == 0
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        _strip_clock(folder)
        seal(folder)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        figures = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in figures:
            self.metrics.add(state.global_step, figures)
            self.run.log_metrics({f"train/{name}": value for name, value in figures.items()}, state.global_step)


def _strip_clock(folder: Path) -> None:
    """Removes what differs between equal runs (timings, the work folder's own settings) from a checkpoint."""
    (folder / "training_args.bin").unlink(missing_ok=True)
    (folder / "README.md").unlink(missing_ok=True)
    state_file = folder / "trainer_state.json"
    state = json.loads(state_file.read_text())
    state["log_history"] = []
    state_file.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")


def grpo_settings(policy: Policy, seed: int, work: Path) -> GRPOConfig:
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
        learning_rate=policy.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=policy.warmup_steps,
        weight_decay=policy.weight_decay,
        max_grad_norm=policy.max_grad_norm,
        gradient_checkpointing=False,
        max_completion_length=policy.generation.max_tokens,
        temperature=policy.generation.temperature,
        top_p=policy.generation.top_p,
        top_k=policy.generation.top_k,
        loss_type="grpo",
        importance_sampling_level="token",
        scale_rewards="group",
        epsilon=policy.epsilon_low,
        epsilon_high=policy.epsilon_high,
        beta=policy.beta,
        mask_truncated_completions=False,
        shuffle_dataset=True,
        logging_steps=1,
        save_strategy="no",  # the callback says when
        save_total_limit=2,
        report_to="none",
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
    return Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": row.prompt}], "prompt_id": row.prompt_id, "rubrics": row.rubrics}
            for row in rows_of(rows)
        ]
    )


def _fingerprint(config: Config, arm: Arm, seed: int, inputs: list[Path | None]) -> str:
    """What a work folder must share with the round that goes on in it."""
    known = {
        "policy": to_dict(config.policy),
        "arm": to_dict(arm),
        "seed": seed,
        "inputs": [None if path is None else digest(path) for path in inputs],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _open_work(work: Path, fingerprint: str) -> Path | None:
    """Empties a work folder left by other settings; returns the checkpoint to go on from, if there is one."""
    mark = work / "fingerprint"
    if work.exists() and (not mark.exists() or mark.read_text() != fingerprint):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)
    return last_sealed(work)


def run_round(
    config: Config,
    *,
    arm_name: str,
    seed: int,
    round_number: int,
    prompts_file: Path,
    policy_folder: Path,
    start: Path | None,
    discriminator: Path | None,
    output: Path,
    run: Run,
) -> dict[str, Any]:
    """Trains one round and writes checkpoint, rollouts, metrics and the resolved configuration to `output`.

    A killed round leaves its checkpoints in a work folder beside `output`; the same call goes on from the newest whole
    one and ends with the same weights, byte for byte.

    Args:
        round_number: 1 for the first; it ends at optimiser step ``round_number × steps_per_round``.
        start: checkpoint folder of the round before; None for the first.
        discriminator: needed by an arm whose relevance is learned.

    Returns:
        The round's last step, its seconds of training, and the instruction accuracy of what it sampled.

    Raises:
        UserError: unknown arm, missing or damaged checkpoint.
    """
    if arm_name not in config.arms:
        raise UserError(f"no arm is called {arm_name}", where="--arm", todo=f"choose from {sorted(config.arms)}")
    arm, policy = config.arms[arm_name], config.policy
    if start is not None:
        verify(start)
    prompts = read_table(prompts_file, Prompts)
    first, last = (round_number - 1) * policy.steps_per_round, round_number * policy.steps_per_round
    work = output.parent / f".{output.name}.work"
    learned = arm.credit is not None and arm.credit.relevance == "discriminator"
    inputs = [prompts_file, policy_folder / "model.safetensors", start, discriminator if learned else None]
    resume = _open_work(work, _fingerprint(config, arm, seed, inputs)) or start
    done = int(json.loads((resume / "trainer_state.json").read_text())["global_step"]) if resume else 0

    torch.set_num_threads(policy.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    rollouts = RolloutLog(work / "rollouts")
    metrics = MetricLog(work / "metrics.jsonl", done)
    relevance = None if arm.credit is None else open_relevance(arm.credit.relevance, discriminator)
    trainer = RTTGRPOTrainer(
        model=load_policy(policy_folder),
        processing_class=load_tokenizer(policy_folder),
        args=grpo_settings(policy, seed, work),
        train_dataset=training_set(prompts),
        peft_config=lora_settings(policy),
        callbacks=[_Pace(last, policy.checkpoint_every, metrics, run)],
        arm=arm,
        relevance=relevance,
        rollouts=rollouts,
    )
    if done < last:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    rows = rollouts.join(first, last)
    output.mkdir(parents=True, exist_ok=True)
    write_table(rows, Rollouts, output / "rollouts.parquet")
    shutil.copyfile(work / "metrics.jsonl", output / "metrics.jsonl")
    write_config(config, output / "config.yaml")
    finished = work / f"checkpoint-{last}"
    verify(finished)
    shutil.rmtree(output / "checkpoint", ignore_errors=True)
    finished.rename(output / "checkpoint")
    shutil.rmtree(work)
    lines = read_metrics(output / "metrics.jsonl")
    return {
        "step": last,
        "seconds": sum(line.get("step_time", 0.0) for line in lines),
        # Only the first of several updates on one batch carries the batch's figures.
        "accuracy": fmean(line[ACCURACY] for line in lines if line.get(ACCURACY) is not None),
    }
