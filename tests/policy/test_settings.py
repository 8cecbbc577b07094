"""Our settings as TRL reads them."""

from __future__ import annotations

import logging
from collections import defaultdict
from types import SimpleNamespace

import pandas as pd
import pytest

from rtt.config import Arm, Policy, Vllm
from rtt.errors import UserError
from rtt.policy.pretrained import load_tokenizer
from rtt.policy.settings import grpo_settings, rows_at_once, training_set
from rtt.policy.trainer import DRIFT, RTTGRPOTrainer
from rtt.tables import Prompts, read_table


def processes(monkeypatch, count: int) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(count))


def test_the_batch_is_shared_among_processes_and_passes(monkeypatch):
    policy = Policy(batch_size=512, group_size=8, micro_batch_size=4)
    assert rows_at_once(policy) == (4, 128)
    processes(monkeypatch, 8)
    assert rows_at_once(policy) == (4, 16)
    assert rows_at_once(policy.model_copy(update={"micro_batch_size": None})) == (64, 1)


def test_one_batch_of_responses_is_sampled_at_a_time_and_learned_from_whole(tmp_path):
    settings = grpo_settings(Policy(batch_size=16, group_size=8, micro_batch_size=4), Arm(), 3, tmp_path)
    assert (settings.per_device_train_batch_size, settings.gradient_accumulation_steps) == (4, 4)
    assert settings.generation_batch_size == 16


@pytest.mark.parametrize(("count", "micro"), [(3, 4), (16, 64), (7, None)])
def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch, count, micro):
    processes(monkeypatch, count)
    with pytest.raises(UserError, match="cannot share"):
        rows_at_once(Policy(batch_size=512, group_size=8, micro_batch_size=micro))


def test_vllm_is_corrected_token_by_token(tmp_path, monkeypatch):
    policy = Policy(vllm=Vllm(memory_share=0.4, sleep=True, longest=6144, tensor_parallel=2))
    settings = grpo_settings(policy, Arm(), 3, tmp_path)
    assert (settings.use_vllm, settings.vllm_mode) == (True, "colocate")
    assert settings.vllm_importance_sampling_correction
    assert settings.vllm_importance_sampling_mode == "token_truncate"
    assert settings.vllm_importance_sampling_clip_max == 2.0
    assert (settings.vllm_gpu_memory_utilization, settings.vllm_enable_sleep_mode) == (0.4, True)
    assert (settings.vllm_max_model_length, settings.vllm_tensor_parallel_size) == (6144, 2)
    server = grpo_settings(Policy(vllm=Vllm(mode="server", server_url="http://node:8000")), Arm(), 3, tmp_path)
    assert (server.vllm_mode, server.vllm_server_base_url) == ("server", "http://node:8000")
    assert not grpo_settings(Policy(), Arm(), 3, tmp_path).use_vllm


@pytest.mark.parametrize("section", [{"mode": "server"}, {"mode": "colocate", "server_url": "http://node:8000"}])
def test_an_address_belongs_to_a_server_alone(section):
    with pytest.raises(ValueError, match="server_url"):
        Vllm.model_validate(section)


@pytest.mark.parametrize(("difference", "alarm"), [(0.04, 0.0), (0.06, 1.0)])
def test_drift_between_vllm_and_the_trainer_is_told(caplog, difference, alarm):
    metrics = {"train": defaultdict(list, {DRIFT: [9.0, difference]})}  # an earlier step's does not count
    trainer = SimpleNamespace(policy=Policy(vllm=Vllm()), state=SimpleNamespace(global_step=7), _metrics=metrics)
    with caplog.at_level(logging.WARNING):
        RTTGRPOTrainer._warn_of_drift(trainer)
    assert metrics["train"]["sampling/drift_alarm"] == [alarm]
    assert ("step 7" in caplog.text) == bool(alarm)


def test_prompts_that_are_too_long_are_left_out_and_counted(prompts, tiny_policy, caplog):
    table, tokenizer = read_table(prompts, Prompts), load_tokenizer(tiny_policy)
    lengths = pd.Series(
        [
            len(
                tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True).input_ids
            )
            for text in table["prompt"]
        ]
    )
    limit = int(lengths.median())
    with caplog.at_level(logging.WARNING):
        kept = training_set(table, tokenizer, limit)
    assert list(kept["prompt_id"]) == list(table["prompt_id"][(lengths <= limit).to_numpy()])
    assert 0 < len(kept) < len(table)
    assert f"{len(table) - len(kept)} of {len(table)} training prompts are left out" in caplog.text
    assert len(training_set(table, tokenizer)) == len(table)
    with pytest.raises(UserError, match="more than 3 tokens"):
        training_set(table, tokenizer, 3)
