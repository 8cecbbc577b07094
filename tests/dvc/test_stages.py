"""DVC's stages on a small study: what is done stays done, a change reruns what depends on it, a pull needs no rerun."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = ["data", "labels", "discriminator", "policies", "evaluation", "tables"]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("dvc") is None, reason="dvc is not installed; `make test-cluster` installs it"),
]


def call(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": "0", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def small(whole: dict, other: dict) -> dict:
    """`other` laid over `whole`: every key the stages name stays there."""
    return {
        **whole,
        **{
            key: small(whole[key], value) if isinstance(value, dict) and isinstance(whole.get(key), dict) else value
            for key, value in other.items()
        },
    }


def clone(source: Path, destination: Path) -> Path:
    call(source, "git", "clone", "-q", str(source), str(destination))
    call(destination, "git", "config", "user.email", "test@example.invalid")
    call(destination, "git", "config", "user.name", "test")
    return destination


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A clone with a small configuration in place of the default, reproduced once, with a local remote."""
    folder = clone(ROOT, tmp_path_factory.mktemp("dvc") / "study")
    path = folder / "config" / "config.yaml"
    values = small(yaml.safe_load(path.read_text()), yaml.safe_load((folder / "config" / "smoke.yaml").read_text()))
    values["results"] = "results"
    values["sources"] |= {"policy": {"uri": "tiny:"}, "benchmarks": {}}
    values["policy"] |= {"rounds": 1, "micro_batch_size": 8, "diagnostics_every": 0}
    values["evaluation"]["benchmarks"] = {"validation": values["evaluation"]["benchmarks"]["validation"]}
    path.write_text(yaml.safe_dump(values))
    call(folder, "dvc", "remote", "add", "-d", "store", str(folder.parent / "store"))
    call(folder, "dvc", "repro")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "small")
    return folder


def ran(text: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in text]


def test_done_is_done(study):
    assert ran(call(study, "dvc", "repro")) == []


def test_after_a_pull_elsewhere_nothing_reruns(study, tmp_path):
    call(study, "dvc", "push")
    elsewhere = clone(study, tmp_path / "elsewhere")
    call(elsewhere, "dvc", "pull")
    assert ran(call(elsewhere, "dvc", "repro")) == []
    assert "Nothing to be done" in call(elsewhere, "snakemake", "--cores", "all", "--dry-run", "--", "tables")
    # MLflow's database is no stage's, so the comparison is logged anew; nothing is made again for it
    said = call(elsewhere, "snakemake", "--cores", "all")
    assert "2 of 2 steps (100%) done" in said
    assert "rule log_comparison:" in said or "Rule: log_comparison" in said


def hashes(folder: Path) -> dict[str, str]:
    """What dvc.lock says of every product."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def test_a_second_clone_comes_to_the_same_hashes(study, tmp_path):
    elsewhere = clone(study, tmp_path / "elsewhere")
    first = hashes(elsewhere)
    (elsewhere / "dvc.lock").unlink()
    assert ran(call(elsewhere, "dvc", "repro")) == STAGES
    second = hashes(elsewhere)
    assert set(first) == set(second)
    # the page names what it cost, and a clock decides that
    assert [path for path in first if first[path] != second[path]] in ([], ["results/report"])


def products(folder: Path) -> dict[str, int]:
    """When what does not depend on an arm's weight was written."""
    kept = [path for name in ("data", "labels", "policies/rl_csr") for path in (folder / "results" / name).rglob("*.*")]
    return {str(path): path.stat().st_mtime_ns for path in kept if path.is_file()}


def test_another_weight_reruns_policies_evaluation_and_tables_alone(study):
    """As an experiment, which puts the weight into the configuration and then is a `dvc repro`."""
    before = products(study)
    assert len(before) > 5
    said = call(study, "dvc", "exp", "run", "-S", "arms.rtt_csr.credit.weight=0.75")
    assert ran(said) == ["policies", "evaluation", "tables"]
    assert products(study) == before, "the other arm was trained again"
    assert yaml.safe_load((study / "config/config.yaml").read_text())["arms"]["rtt_csr"]["credit"]["weight"] == 0.75
    assert "rtt_csr.validation.instruction_strict" in call(study, "dvc", "metrics", "show", "--md")
