"""Several processes come to what one comes to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from rtt.credit.advantages import PARTITIONS

ROOT = Path(__file__).parents[2]
TWO = ROOT / "config" / "accelerate" / "two_processes_cpu.yaml"
CREDIT = {"relevance": "rules", "rule": "add", "weight": 0.5}
ARMS = {
    "rl_csr": {},
    **{name: {"credit": {**CREDIT, "partition": name}} for name in PARTITIONS},
    "random": {"credit": {**CREDIT, "relevance": "random"}},
    "contrast": {"credit": {**CREDIT, "relevance": "contrast"}},
    "cort": {"cort": {"ramp_steps": 1}},
    "dapo": {"objective": "dapo", "reward": "aon", "credit": CREDIT},  # with this reward, groups give way to others
}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["arms"] = ARMS
    # 12 rows in groups of 4: of the second group two rows lie in the first process and two in the second
    values["policy"] |= {"rounds": 1, "steps_per_round": 3, "batch_size": 12, "group_size": 4, "learning_rate": 1e-2}
    values["policy"] |= {"micro_batch_size": 3, "diagnostics_every": 2}
    path = tmp_path_factory.mktemp("processes") / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def trained(config, prompts, tiny_policy, nltk_data) -> dict[int, Path]:
    """What one process and what two made of the same given responses."""
    launchers = {
        1: [sys.executable],
        2: [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())],
    }
    places = {}
    for count, launcher in launchers.items():
        places[count] = config.parent / str(count)
        line = [str(Path(__file__).with_name("scripted.py")), config, prompts, tiny_policy, nltk_data, places[count]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
        done = subprocess.run(
            [*launcher, *map(str, line), *ARMS], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert len(list((places[count] / "rl_csr").glob("metrics_*"))) == count  # so many there really were
    return places


@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_give_the_update_of_one(trained, arm):
    one, two = (torch.load(trained[count] / arm / "weights.pt") for count in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        # A step moves a weight by up to the learning rate, 1e-2; sums in another order are told apart by far less, but
        # where a gradient is hardly more than what rounding leaves, which AdamW makes as large as any other.
        difference = (two[name] - value).abs()
        assert (difference > 1e-4).float().mean() < 0.01
        assert difference.max() < 2e-3
    moved = max(value.abs().max() for name, value in one.items() if "lora_B" in name)  # they start at 0
    assert moved > 1e-3


@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_give_each_token_the_advantage_of_one(trained, arm):
    one, two = (pd.read_parquet(trained[count] / arm / "rollouts.parquet") for count in (1, 2))
    assert len(one) == 36
    exact = ["step", "row", "prompt_id", "response", "verdicts", "reward", "token_spans"]
    pd.testing.assert_frame_equal(two[exact], one[exact])
    tolerance = 1e-3 if arm in ("contrast", "cort") else 1e-6  # the policy's own figures enter there
    for name in ("advantages", "token_advantages"):
        for mine, theirs in zip(one[name].map(yaml.safe_load), two[name].map(yaml.safe_load), strict=True):
            torch.testing.assert_close(torch.tensor(theirs), torch.tensor(mine), rtol=tolerance, atol=tolerance)
    assert one["reward"].groupby([one["step"], one["row"] // 4]).nunique().max() > 1  # there is something to learn


def test_groups_gave_way_to_others(trained):
    kept, replaced = (pd.read_parquet(trained[2] / arm / "rollouts.parquet")["prompt_id"] for arm in ("rl_csr", "dapo"))
    assert (kept != replaced).any()
