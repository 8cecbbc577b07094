"""What breaks, broken for real in the smoke workflow: the same command again ends with the same bytes."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.cluster  # minutes

STEPS = {
    *("fetch", "prompts", "benchmark", "responses", "verdicts", "labels", "discriminator"),
    *("round 1", "round 2", "evaluate", "report", "compare"),
}


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "rtt.cli", "run", "--config", str(config), "--cores", "2"]


def study(folder: Path) -> Path:
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["results"] = str(folder / "results")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def products(config: Path) -> dict[str, str]:
    """Sums of what a study comes to; logs, costs, MLflow's own files and what names commit and time are left out."""
    results = config.parent / "results"
    wanted = [
        path
        for pattern in ("**/*.parquet", "**/*.safetensors", "**/metrics.jsonl", "tables/*.csv", "tables/*.txt")
        for path in results.glob(pattern)
        if not {"mlflow", "logs"} & set(path.relative_to(results).parts)
    ]
    return {path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in wanted}


def finish(config: Path) -> None:
    done = subprocess.run(command(config), capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    config = study(tmp_path_factory.mktemp("undisturbed"))
    finish(config)
    found = products(config)
    assert len(found) > 20
    return found


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, undisturbed) -> Path:
    """A study in which each kind of step was killed once, with all that ran, and that ended all the same."""
    config = study(tmp_path_factory.mktemp("disturbed"))
    killed: set[str] = set()
    while (step := kill_in_a_new_step(config, killed)) is not None:
        killed.add(step)
    assert killed == STEPS
    return config


def kind_of(line: list[str], config: Path) -> str | None:
    """Which kind of step of this study a command line is; None for anything else."""
    at = next((number for number, part in enumerate(line) if part.endswith("/rtt")), len(line))
    name = line[at + 1] if at + 1 < len(line) else ""
    if name == "round":
        name = f"round {line[line.index('--round') + 1]}"
    return name if name in STEPS and str(config.parent) in " ".join(line) else None


def kill_in_a_new_step(config: Path, before: set[str]) -> str | None:
    """Starts the workflow and kills it with all its jobs in a kind of step not met before; None when it got through."""
    running = psutil.Popen(command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    while running.poll() is None:
        for process in psutil.process_iter(["cmdline"]):
            kind = kind_of(process.info["cmdline"] or [], config)
            if kind is None or kind in before:
                continue
            time.sleep(1)  # into its work, or at least its imports
            for one in (running, *running.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
            running.wait()
            return kind
        time.sleep(0.05)
    assert running.returncode == 0
    return None


def test_killed_in_each_step_it_ends_with_the_same_bytes(disturbed, undisturbed):
    assert products(disturbed) == undisturbed


WRITER = """
import sys
from rtt.tracking import Tracker
run = Tracker(sys.argv[1], "faults").open(f"run {sys.argv[2]}", f"run {sys.argv[2]}", {})
for step in range(40):
    run.log_metrics({"loss": float(step)}, step)
run.finish()
"""


def test_eight_jobs_write_to_one_database(tmp_path):
    from rtt.tracking import Tracker

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(uri, "faults")
    tracker.create_experiment(tmp_path / "artifacts")
    jobs = [
        subprocess.Popen([sys.executable, "-c", WRITER, uri, str(number)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    said = [job.communicate(timeout=300)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 8, said
    client = tracker.client
    (experiment,) = [one for one in client.search_experiments() if one.name == "faults"]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 8
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "loss")
        assert sorted((metric.step, metric.value) for metric in history) == [(step, float(step)) for step in range(40)]
