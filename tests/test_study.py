"""The whole chain on a tiny study, as a user runs it: one arm fails, the others' table comes out and says so."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FEW = {"limit": 4, "max_tokens": 8}


def run(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtt.cli", "run", "--config", str(config), "--cores", "2"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def config(tmp_path_factory, nltk_data) -> Path:
    """Two arms of which one needs a discriminator deeper than the model there is."""
    folder = tmp_path_factory.mktemp("study")
    values = {
        "base": "config/smoke.yaml",
        "results": str(folder / "results"),
        "sources": {
            "nltk": {"uri": f"file:{nltk_data}", "file": "", "sha256": None},
            "benchmarks": {"ifbench": None},
        },
        "prompts": {"count": 120},
        "labels": {"train_prompts": 12, "unseen_topics_prompts": 3, "unseen_kinds_prompts": 3, "samples": 1},
        "policy": {"rounds": 1, "steps_per_round": 2, "group_size": 2, "batch_size": 4, "learning_rate": 1e-2},
        "arms": {
            "rtt_csr": None,
            "rtt_rules": {"credit": {"relevance": "rules"}},
            "rtt_deep": {"credit": {"discriminator": "deep"}},
        },
        "discriminator_variants": {"deep": {"layers": 6}},
        "evaluation": {
            "benchmarks": {"heldout_topics": None, "heldout_kinds": None, "ifbench": None, "validation": FEW}
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_one_arm_fails_and_the_table_of_the_others_says_why_until_it_is_mended(config):
    results = config.parent / "results"
    failed = run(config)
    assert failed.returncode != 0
    assert "the backbone has 4 layers, and the first 6 are to be kept" in failed.stdout + failed.stderr
    assert "the workflow stopped; what was finished is kept" in failed.stderr
    page = (results / "tables" / "main.md").read_text()
    assert "rtt_deep" in page
    assert "the backbone has 4 layers" in page
    assert {row["arm"] for row in csv.DictReader((results / "tables" / "main.csv").open())} == {
        "base",
        "rl_csr",
        "rtt_rules",
    }
    kept = files(results, "policies/*/seed_0/round_1/checkpoint/adapter_model.safetensors")
    assert len(kept) == 2

    values = yaml.safe_load(config.read_text())
    values["discriminator_variants"]["deep"]["layers"] = 2
    config.write_text(yaml.safe_dump(values))
    mended = run(config)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "the backbone has 4 layers" not in (results / "tables" / "main.md").read_text()
    assert "rtt_deep" in mended.stdout
    now = files(results, "policies/*/seed_0/round_1/checkpoint/adapter_model.safetensors")
    assert {name: now[name] for name in kept} == kept
    assert len(now) == 3

    again = run(config)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_mistake_in_the_configuration_is_refused_before_anything_runs(config, tmp_path):
    values = yaml.safe_load(config.read_text())
    values["arms"]["rtt_rules"]["credit"]["weight"] = 1.5
    values["results"] = str(tmp_path / "never")
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(values))
    for command in (
        ["-m", "rtt.cli", "run", "--config", str(path)],
        ["-m", "snakemake", "--cores", "1", "--nolock", "--configfile", str(path)],
    ):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode != 0
        assert "arms.rtt_rules.credit.weight: Input should be less than or equal to 1" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "never").exists()
