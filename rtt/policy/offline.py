"""Offline baselines: SFT and DPO on responses that the start policy gave once and that were judged once.

Both learn from the tokens the policy could have sampled: the prompt as the chat template renders it for generation, the
response encoded by itself, and the end token only where the response really ended. TRL's own preparation renders prompt
and response together, which goes wrong in three ways: a template's line break after the end token would be learned; a
response that begins with a line break can merge with the prompt's last token; and a response cut short by the token
budget would be given an end it never had.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from rtt.config import Arm, Config
from rtt.credit.rewards import response_rewards
from rtt.errors import UserError
from rtt.judging.cases import Message
from rtt.judging.verdicts import conversations_of
from rtt.policy.pretrained import load_policy, load_tokenizer, require_chat_template
from rtt.policy.settings import lora_settings
from rtt.processes import count
from rtt.rubrics import parse_rubrics
from rtt.tables import rows_of

IGNORED = -100
"""Label of a token that has no part in the loss."""

log = logging.getLogger(__name__)


def judged(
    responses: pd.DataFrame,
    verdicts: pd.DataFrame,
    reward: str,
    beta: float,
    weights: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Each response's reward, as the arms that learn online reckon it.

    Args:
        responses: rows of rtt.tables.Responses.
        verdicts: rows of rtt.tables.Verdicts on them.
        reward: ``csr``, ``aon`` or ``mix``.
        beta: share of ``aon`` in ``mix``.
        weights: rubric id → weight, where it is not 1.

    Returns:
        The responses with a column ``reward`` in [0, 1], sorted by prompt_id and sample; without those that nobody
        could give a verdict on.

    Raises:
        UserError: a verdict on a response that is not there.
    """
    place = pd.Series(range(len(responses)), index=responses["response_id"])
    unknown = sorted(set(verdicts["response_id"]) - set(place.index))
    if unknown:
        raise UserError(
            f"{len(unknown)} response(s) with verdicts are not there, such as {unknown[0]!r}",
            where="column response_id of the verdicts",
            todo="give the verdicts that belong to these responses",
        )
    given = verdicts[verdicts["verdict"].notna()]
    rows, columns = given["response_id"].map(place).to_numpy(int), given.groupby("response_id").cumcount().to_numpy()
    values = np.zeros((len(responses), columns.max(initial=0) + 1))  # (B, K)
    valid = np.zeros(values.shape, dtype=bool)
    values[rows, columns], valid[rows, columns] = given["verdict"], True
    counted = np.ones(values.shape)
    counted[rows, columns] = [(weights or {}).get(rubric, 1.0) for rubric in given["rubric_id"]]
    tensors = torch.from_numpy(values), torch.from_numpy(valid)
    rewards = response_rewards(*tensors, reward, beta, weights=torch.from_numpy(counted))
    # Equal verdicts in another order may differ in the last digits of their mean, and that is no preference.
    table = responses.assign(reward=rewards.numpy().round(9))
    return table.dropna(subset=["reward"]).sort_values(["prompt_id", "sample"], ignore_index=True)


def best_per_prompt(table: pd.DataFrame, prompts: pd.DataFrame) -> Dataset:
    """For each prompt its best response, of equals the one of the lowest sample number.

    Args:
        table: what `judged` returns.
        prompts: rows of rtt.tables.Prompts.

    Returns:
        prompt_id, prompt and completion (messages), ended (whether the response came to its end), by prompt_id.

    Raises:
        UserError: no response is left, or one answers no prompt of the split train.
    """
    asked = _asked(table, prompts)
    ordered = table.sort_values(["prompt_id", "sample"], ignore_index=True)
    best = ordered.loc[ordered.groupby("prompt_id")["reward"].idxmax()]  # the first of equals
    return Dataset.from_list(
        [
            {
                "prompt_id": row.prompt_id,
                "prompt": list(asked[row.prompt_id]),
                "completion": _answer(row.response),
                "ended": not row.truncated,
            }
            for row in rows_of(best)
        ]
    )


def preference_pairs(table: pd.DataFrame, prompts: pd.DataFrame) -> tuple[Dataset, int]:
    """For each prompt its best response against its worst, of equals the ones of the lowest sample number.

    Args:
        table: what `judged` returns.
        prompts: rows of rtt.tables.Prompts.

    Returns:
        prompt_id, prompt, chosen and rejected (messages), chosen_ended and rejected_ended, by prompt_id; and how many
        prompts were left out because all their responses are equally good.

    Raises:
        UserError: no pair is left, or a response answers no prompt of the split train.
    """
    asked = _asked(table, prompts)
    ordered = table.sort_values(["prompt_id", "sample"], ignore_index=True)
    groups = ordered.groupby("prompt_id")["reward"]
    best, worst = ordered.loc[groups.idxmax()], ordered.loc[groups.idxmin()]
    pairs = [
        {
            "prompt_id": chosen.prompt_id,
            "prompt": list(asked[chosen.prompt_id]),
            "chosen": _answer(chosen.response),
            "rejected": _answer(rejected.response),
            "chosen_ended": not chosen.truncated,
            "rejected_ended": not rejected.truncated,
        }
        for chosen, rejected in zip(rows_of(best), rows_of(worst), strict=True)
        if chosen.reward > rejected.reward
    ]
    if not pairs:
        raise UserError(
            f"each of {len(best)} prompt(s) has equally good responses only: there is nothing to prefer",
            where="verdicts",
            todo="raise offline.prompts or offline.samples, or take the reward csr, which tells more responses apart",
        )
    return Dataset.from_list(pairs), len(best) - len(pairs)


def _answer(content: str) -> list[Message]:
    return [{"role": "assistant", "content": content}]


def _asked(table: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, tuple[Message, ...]]:
    """Prompt id to messages, for the split train; an offline arm must not learn from prompts it is tested on."""
    if table.empty:
        raise UserError("no response has a verdict", where="verdicts", todo="judge the responses again")
    train = prompts[prompts["split"] == "train"]
    unknown = sorted(set(table["prompt_id"]) - set(train["prompt_id"]))
    if unknown:
        raise UserError(
            f"{len(unknown)} prompt(s) that were answered are not of the split train, such as {unknown[0]!r}",
            where="column prompt_id of the responses",
            todo="give responses to training prompts, with the prompts that belong to them",
        )
    return conversations_of(train)


def offline_examples(
    arm: Arm, prompts: pd.DataFrame, responses: pd.DataFrame, verdicts: pd.DataFrame
) -> tuple[Dataset, dict[str, int]]:
    """What an arm learns from.

    Returns:
        The data set of `best_per_prompt` or `preference_pairs`; and counts: ``examples``, ``prompts_without_spread``
        (dpo alone leaves such out) and ``responses_without_verdict``.

    Raises:
        UserError: tables that do not belong together, or nothing to learn from.
    """
    weights = {rubric.rubric_id: rubric.weight for text in prompts["rubrics"] for rubric in parse_rubrics(text)}
    table = judged(responses, verdicts, arm.reward, arm.beta, weights)
    if arm.method == "dpo":
        examples, equal = preference_pairs(table, prompts)
    else:
        examples, equal = best_per_prompt(table, prompts), 0
    counts = {
        "examples": len(examples),
        "prompts_without_spread": equal,
        "responses_without_verdict": len(responses) - len(table),
    }
    return examples, counts


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> list[int]:
    """Token ids of a prompt, up to where the policy begins to answer; as generation encodes it.

    Raises:
        UserError: the tokenizer has no chat template.
    """
    require_chat_template(tokenizer)
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_response(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], ended: bool) -> list[int]:
    """Token ids of a response, with the end token if it came to its end."""
    ids = tokenizer(messages[0]["content"], add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id] if ended else ids


def encode_best(tokenizer: PreTrainedTokenizerBase, examples: Dataset, longest: int) -> Dataset:
    """`best_per_prompt` as SFTTrainer reads it: input_ids, and labels that ignore the prompt.

    Raises:
        UserError: an example has more than `longest` tokens.
    """
    rows = []
    for row in _rows(examples):
        prompt = encode_prompt(tokenizer, row["prompt"])
        completion = encode_response(tokenizer, row["completion"], row["ended"])
        rows.append({"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion})
    _refuse_long(examples, [len(row["input_ids"]) for row in rows], longest)
    return Dataset.from_list(rows)


def encode_pairs(tokenizer: PreTrainedTokenizerBase, examples: Dataset, longest: int) -> Dataset:
    """`preference_pairs` as DPOTrainer's collator reads them: prompt_ids, chosen_ids, rejected_ids.

    Raises:
        UserError: a prompt with one of its responses has more than `longest` tokens.
    """
    rows = [
        {
            "prompt_ids": encode_prompt(tokenizer, row["prompt"]),
            "chosen_ids": encode_response(tokenizer, row["chosen"], row["chosen_ended"]),
            "rejected_ids": encode_response(tokenizer, row["rejected"], row["rejected_ended"]),
        }
        for row in _rows(examples)
    ]
    lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    _refuse_long(examples, lengths, longest)
    return Dataset.from_list(rows)


def _rows(examples: Dataset) -> list[dict[str, Any]]:
    return examples.to_list()


def _refuse_long(examples: Dataset, lengths: Sequence[int], longest: int) -> None:
    """Nothing is ever cut off: an example that does not fit is an error."""
    length, prompt_id = max(zip(lengths, examples["prompt_id"], strict=True))
    if length > longest:
        raise UserError(
            f"prompt {prompt_id} with its response has {length} tokens, the policy takes {longest}",
            where="responses",
            todo="leave this prompt out, or sample shorter responses (policy.generation.max_tokens)",
        )


class _Figures(Trainer):
    """Logs what the online arms log too: ``step_time``, the seconds of a step's forward and backward pass.

    Leaves out TRL's count of tokens, which begins anew in each process: a step's figures, the time apart, do not tell
    whether the round was interrupted.
    """

    _metrics: dict[str, Any]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        started = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self._metrics["train"]["step_time"].append(time.perf_counter() - started)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self._metrics["train"].pop("num_tokens", None)
        super().log(logs, start_time)


class BestTrainer(_Figures, SFTTrainer):
    """SFT on examples that are encoded already, which TRL takes as they are. The loss is inherited."""


class PairTrainer(_Figures, DPOTrainer):
    """DPO on pairs that are encoded already. The loss is inherited."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def _share(config: Config) -> int:
    """Examples a step for each of the processes. Raises UserError where they cannot share them evenly."""
    share, left = divmod(config.offline.batch_size, count())
    if left:
        raise UserError(
            f"{count()} processes cannot share offline.batch_size {config.offline.batch_size} evenly",
            where=config.policy.accelerate or "the launcher",
            todo="let batch_size be a multiple of the processes",
        )
    return share


def common_settings(config: Config, arm: Arm, seed: int, work: Path) -> dict[str, Any]:
    """What both trainers share with one another and, wherever it has the same meaning, with grpo_settings."""
    policy = config.policy
    return {
        "output_dir": str(work),
        "seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available(),
        "fp16": False,
        "max_steps": policy.total_steps,
        "per_device_train_batch_size": _share(config),
        "gradient_accumulation_steps": 1,
        "learning_rate": arm.learning_rate or policy.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": policy.warmup_steps,
        "weight_decay": policy.weight_decay,
        "max_grad_norm": policy.max_grad_norm,
        "gradient_checkpointing": policy.gradient_checkpointing,
        "train_sampling_strategy": "random",  # a new order each pass, from the seed
        "dataloader_drop_last": False,  # the last batch of a pass may be smaller; no example is left out
        "max_length": None,  # nothing is cut off; see _refuse_long
        "pad_to_multiple_of": None,
        "padding_free": False,
        "logging_steps": 1,
        "save_strategy": "no",  # the callback says when
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": False,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
    }


def sft_settings(config: Config, arm: Arm, seed: int, work: Path) -> SFTConfig:
    """TRL's settings for ours; every one that matters is set here or in common_settings."""
    return SFTConfig(
        **common_settings(config, arm, seed, work),
        loss_type="nll",
        packing=False,
        shuffle_dataset=False,  # the sampler does
        completion_only_loss=None,  # the labels say what counts
        assistant_only_loss=False,
    )


def dpo_settings(config: Config, arm: Arm, seed: int, work: Path) -> DPOConfig:
    """TRL's settings for ours; every one that matters is set here or in common_settings."""
    return DPOConfig(
        **common_settings(config, arm, seed, work),
        loss_type=["sigmoid"],
        beta=config.offline.dpo_beta,
        label_smoothing=0.0,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        sync_ref_model=False,
        precompute_ref_log_probs=False,
        disable_dropout=False,
    )


def offline_trainer(
    config: Config,
    arm: Arm,
    seed: int,
    work: Path,
    policy_folder: Path,
    prompts: pd.DataFrame,
    responses: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    callbacks: Sequence[TrainerCallback],
) -> Trainer:
    """The trainer of an arm with the method sft or dpo, ready for ``train(resume_from_checkpoint=...)``.

    DPO's reference is the start in `policy_folder`, after a resume too: the policy without its adapter, or, where all
    weights are trained, a second model of its own.

    Args:
        work: where the trainer writes checkpoints, when a callback says so.
        policy_folder: the start, a transformers folder.
        prompts: rows of rtt.tables.Prompts.
        responses: rows of rtt.tables.Responses, of the start to prompts of the split train.
        verdicts: rows of rtt.tables.Verdicts on them.

    Raises:
        UserError: tables that do not belong together, nothing to learn from, an example too long for the policy.
        ValueError: the arm's method is neither sft nor dpo.
    """
    if arm.method not in ("sft", "dpo"):
        raise ValueError(f"method {arm.method!r} does not learn offline")
    examples, counts = offline_examples(arm, prompts, responses, verdicts)
    log.info("%s learns from %s", arm.method, ", ".join(f"{name} {count}" for name, count in counts.items()))
    model, tokenizer = load_policy(policy_folder), load_tokenizer(policy_folder)
    encode: Callable[..., Dataset] = encode_best if arm.method == "sft" else encode_pairs
    common: dict[str, Any] = {
        "model": model,
        "processing_class": tokenizer,
        "train_dataset": encode(tokenizer, examples, model.config.max_position_embeddings),
        "peft_config": lora_settings(config.policy),
        "callbacks": list(callbacks),
    }
    if arm.method == "sft":
        return BestTrainer(args=sft_settings(config, arm, seed, work), **common)
    reference = None if config.policy.lora else load_policy(policy_folder)
    return PairTrainer(args=dpo_settings(config, arm, seed, work), ref_model=reference, **common)
