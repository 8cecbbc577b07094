"""A small study through a real Slurm of one node, with jobs out of memory, cancelled, and out of time."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
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
    """A clean clone with a study of one arm on the tiny model."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    values = yaml.safe_load((folder / "config" / "smoke.yaml").read_text())
    values["sources"] |= {"policy": {"uri": "tiny:"}, "benchmarks": {}}
    values["arms"] = {"rl_csr": values["arms"]["rl_csr"]}
    values["policy"] |= {"rounds": 1, "diagnostics_every": 0}
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


def end_job(
    slurm: dict[str, str], rule: str, running: subprocess.Popen[str], command: list[str], *not_these: str
) -> str:
    """Calls `command`, with the id put in, on the first job of a rule that runs and is none of some; returns its id."""
    for _ in range(900):
        found = [job for job in jobs(slurm, rule) if job not in not_these]
        if found:
            subprocess.run([part.format(found[0]) for part in command], env=slurm, check=True)
            return found[0]
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.2)
    raise AssertionError(f"no job of {rule} ever ran")


def hold_up(step: str, clone: Path) -> None:
    """Stops the process of a step where it stands."""
    for _ in range(300):
        for process in psutil.process_iter(["cmdline", "cwd"]):
            line = process.info["cmdline"] or []
            if process.info["cwd"] == str(clone) and any(part.endswith("/rtt") for part in line) and step in line:
                process.suspend()
                return
        time.sleep(0.1)
    raise AssertionError(f"no step {step} ever ran")


def state(slurm: dict[str, str], job: str) -> str:
    line = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    return subprocess.run(line, env=slurm, capture_output=True, text=True, check=True).stdout.strip()


def test_jobs_out_of_memory_cancelled_and_out_of_time(clone, slurm):
    # out of memory, and not to be tried again: reported, with the rest of the graph done
    running = start(clone, slurm, "--retries", "0", "--set-resources", "train_round:mem_mb=300")
    said, _ = running.communicate(timeout=900)
    assert running.returncode != 0
    assert "Error in rule train_round" in said
    log = re.search(r"\S+/slurm_logs/rule_train_round/\S+\.log", said)
    assert log is not None, said
    assert "memory limit" in Path(log.group()).read_text()
    results = clone / "results/smoke"
    assert not list(results.glob("policies/*/*/round_1/checkpoint"))
    done = ("data/prompts.parquet", "evaluations/base/validation/scores.parquet")
    made = {name: (results / name).stat().st_mtime_ns for name in done}

    # the same command again: cancelled, tried again, out of time, and tried again
    running = start(clone, slurm)
    cancelled = end_job(slurm, "train_round", running, ["scancel", "{}"])
    overdue = end_job(
        slurm, "train_round", running, ["scontrol", "update", "JobId={}", "TimeLimit=00:00:01"], cancelled
    )
    hold_up("round", clone)  # Slurm looks for jobs out of time every half minute
    said, _ = running.communicate(timeout=900)
    assert running.returncode == 0, said
    assert state(slurm, cancelled) == "CANCELLED"
    assert state(slurm, overdue) == "TIMEOUT"
    assert said.count("Trying to restart job") == 2
    assert (results / "tables/main.csv").exists()
    assert {name: (results / name).stat().st_mtime_ns for name in done} == made

    # all is done: nothing is submitted again
    said, _ = start(clone, slurm, "--dry-run").communicate(timeout=120)
    assert "Nothing to be done" in said
