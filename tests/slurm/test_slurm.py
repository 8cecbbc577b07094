"""The smoke workflow through a real Slurm of one node: whole, with a job that is cancelled, and with one that fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
START = Path(__file__).with_name("start.sh")


def _lacking() -> str:
    """What keeps a Slurm from being started here; nothing where all is there."""
    for program in ("slurmctld", "slurmd", "munged"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's slurm-wlm and munge)"
    if Path("/etc/slurm/slurm.conf").exists():
        return "this machine has a Slurm of its own"
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed; `make test-cluster` installs it"
    return ""


pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(_lacking()), reason=_lacking() or "all is there")]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A cluster of one node, and the environment for its commands."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([START, folder], check=True)
    yield {**os.environ, "PYTHONHASHSEED": "0"}
    subprocess.run([START, "--stop", folder], check=False)


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clean clone with a study of one arm and one round on the tiny model."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    values = yaml.safe_load((folder / "config" / "smoke.yaml").read_text())
    values["sources"] |= {"policy": {"uri": "tiny:"}, "benchmarks": {}}
    values["arms"] = {"rl_csr": values["arms"]["rl_csr"]}
    values["policy"] |= {"rounds": 2, "diagnostics_every": 0}
    values["evaluation"]["benchmarks"] = {"validation": {"limit": 8, "max_tokens": 8, "each_round": True}}
    values.pop("tables", None)
    values.pop("headline", None)
    (folder / "config" / "smoke.yaml").write_text(yaml.safe_dump(values))
    return folder


def start(clone: Path, slurm: dict[str, str], *more: str) -> subprocess.Popen[str]:
    command = ["snakemake", "--cores", "all", "--profile", "slurm", "--configfile", "config/smoke.yaml"]
    command += ["--slurm-init-seconds-before-status-checks", "2", *more]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=clone, env=slurm, **options)


def jobs(slurm: dict[str, str], rule: str) -> list[str]:
    """Ids of running jobs of a rule."""
    form = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"]
    lines = subprocess.run(form, env=slurm, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[0] for line in lines if rule in line]


def cancel(slurm: dict[str, str], rule: str, running: subprocess.Popen[str]) -> str:
    """Cancels the first job of a rule that runs; returns its id."""
    for _ in range(600):
        found = jobs(slurm, rule)
        if found:
            subprocess.run(["scancel", found[0]], env=slurm, check=True)
            return found[0]
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.2)
    raise AssertionError(f"no job of {rule} ever ran")


def test_a_cancelled_job_is_tried_again(clone, slurm):
    running = start(clone, slurm)
    cancel(slurm, "train_round", running)
    said, _ = running.communicate(timeout=900)
    assert running.returncode == 0, said
    assert (clone / "results/smoke/tables/main.csv").exists()
    # all is done: nothing is submitted again
    again = start(clone, slurm, "--dry-run")
    said, _ = again.communicate(timeout=120)
    assert "Nothing to be done" in said


def test_a_job_that_stays_dead_is_reported_and_a_rerun_does_the_rest(clone, slurm):
    running = start(clone, slurm, "--retries", "0")
    cancel(slurm, "train_round", running)
    said, _ = running.communicate(timeout=900)
    assert running.returncode != 0
    assert "train_round" in said
    prompts = clone / "results/smoke/data/prompts.parquet"
    made = prompts.stat().st_mtime_ns
    again = start(clone, slurm)
    said, _ = again.communicate(timeout=900)
    assert again.returncode == 0, said
    assert prompts.stat().st_mtime_ns == made
    assert (clone / "results/smoke/tables/main.csv").exists()
