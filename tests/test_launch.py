"""A round in several processes, as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from rtt.errors import UserError
from rtt.launch import launch, read_settings

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "config" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_accelerate_reads_what_is_shipped(path):
    settings = load_config_from_file(str(path))
    assert settings.num_processes == read_settings(path)["num_processes"]
    assert settings.num_machines == 1


@pytest.mark.parametrize("text", ["[]", "num_processes: none", "num_processes: 0", "a: [", "distributed_type: FSDP"])
def test_a_malformed_configuration_is_refused_by_name(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        read_settings(path)
    assert str(path) in str(refused.value)


def test_an_absent_configuration_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")


def test_deepspeed_that_is_not_installed_is_named():
    with pytest.raises(UserError, match="deepspeed is not installed"):
        launch(ROOT / "config" / "accelerate" / "zero2.yaml", ["round"])


def test_a_mistake_in_two_processes_is_told_once(tmp_path, tiny_policy, nltk_data):
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["policy"]["accelerate"] = str(ROOT / "config" / "accelerate" / "two_processes_cpu.yaml")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    line = [
        sys.executable,
        "-m",
        "rtt.cli",
        "round",
        "--config",
        config,
        "--arm",
        "rl_csr",
        "--seed",
        "0",
        "--round",
        "2",
    ]
    line += ["--prompts", tmp_path / "none.parquet", "--nltk", nltk_data, "--policy", tiny_policy]
    line += ["--start", tmp_path / "none", "--output", tmp_path / "round"]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("error: the checkpoint is not there") == 1, done.stderr
    assert "Traceback" not in done.stderr
