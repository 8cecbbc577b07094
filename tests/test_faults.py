"""What breaks, broken for real in a small study: the same command again ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def command(config: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "rtt.cli",
        "run",
        "--config",
        str(config),
        "--cores",
        "2",
        *(("--", *more) if more else ()),
    ]


def study(folder: Path, **changes: object) -> Path:
    """One arm and two benchmarks, in two rounds of two steps."""
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["results"] = str(folder / "results")
    values["arms"] = {"rtt_csr": values["arms"]["rtt_csr"]}
    values["labels"] |= {"train_prompts": 12, "unseen_topics_prompts": 4, "unseen_kinds_prompts": 4}
    small = {"limit": 6, "max_tokens": 12}
    values["evaluation"] |= {
        "benchmarks": {"validation": small | {"each_round": True}, "ifbench": small},
        "bootstrap_draws": 100,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def results(config: Path) -> Path:
    return config.parent / "results"


def products(config: Path) -> dict[str, str]:
    """Sums of what a study comes to; logs, costs, MLflow's own files and what names commit and time are left out."""
    folder = results(config)
    wanted = [
        path
        for pattern in ("**/*.parquet", "**/*.safetensors", "**/metrics.jsonl", "tables/*.csv", "tables/*.txt")
        for path in folder.glob(pattern)
        if not {"mlflow", "logs"} & set(path.relative_to(folder).parts)
    ]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in wanted}


def start(config: Path, *more: str) -> tuple[psutil.Popen, Path]:
    """The workflow under way, and the file with what it says."""
    said = config.with_name("said.txt")
    with said.open("w") as file:
        return psutil.Popen(command(config, *more), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT), said


def finish(config: Path, *more: str) -> str:
    done = subprocess.run(command(config, *more), capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The configuration of a study that ran without a fault."""
    config = study(tmp_path_factory.mktemp("undisturbed"))
    finish(config)
    assert len(products(config)) > 15
    return config


@pytest.fixture
def copy(undisturbed, tmp_path) -> Callable[..., Path]:
    """A copy of that study without some of its products."""

    def make(*removed: str, **changes: object) -> Path:
        config = study(tmp_path, **changes)
        shutil.copytree(results(undisturbed), results(config), dirs_exist_ok=True)
        for name in removed:
            path = results(config) / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return config

    return make


ROUND_2 = "policies/rtt_csr/seed_0/round_2"
SCORED_2 = "evaluations/rtt_csr/seed_0/round_2"


def steps(config: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The steps of this study that run now, by kind."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        at = next((number for number, part in enumerate(line) if part.endswith("/rtt")), len(line))
        kind = line[at + 1] if at + 1 < len(line) else ""
        if kind == "round":
            kind = f"round {line[line.index('--round') + 1]}"
        if kind in STEPS and str(config.parent) in " ".join(line):
            yield kind, process


def test_killed_in_each_kind_of_step_it_ends_with_the_same_bytes(undisturbed, tmp_path):
    config = study(tmp_path)
    running, said = start(config, "--retries", "1")
    killed: set[str] = set()
    while running.poll() is None:
        for kind, process in steps(config):
            with suppress(psutil.NoSuchProcess):
                # into its work, or at least its imports
                if kind not in killed and time.time() - process.create_time() > 0.7:
                    process.kill()
                    killed.add(kind)
        time.sleep(0.05)
    assert running.returncode == 0, said.read_text()[-4000:]
    assert killed == STEPS
    assert said.read_text().count("Trying to restart job") == len(STEPS)
    assert products(config) == products(undisturbed)


def test_killed_as_a_whole_in_a_round_the_same_command_ends_with_the_same_bytes(undisturbed, copy):
    config = copy(ROUND_2, SCORED_2, "tables")
    running, _ = start(config)
    checkpoints = results(config) / ROUND_2
    while not list(checkpoints.parent.glob(f".{checkpoints.name}.work/checkpoint-*")):
        assert running.poll() is None
        time.sleep(0.02)
    for one in (running, *running.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    running.wait()
    assert not (checkpoints / "checkpoint").exists()
    finish(config)
    assert products(config) == products(undisturbed)


def test_deleted_outputs_are_made_again_where_something_needs_them(undisturbed, copy):
    config = copy("labels", f"{SCORED_2}/ifbench/scores.parquet", "tables/main.csv")
    finish(config)
    # nothing needs the labels any more, and nothing was made again for their sake
    whole = products(undisturbed)
    assert products(config) == {name: told for name, told in whole.items() if not name.startswith("labels/")} != whole
    assert "Nothing to be done" in finish(config)


def test_a_clock_set_back_by_a_day(undisturbed, copy):
    """What was made before it was set back is of tomorrow."""
    config = copy(ROUND_2, SCORED_2, "tables")
    tomorrow = time.time() + 86400
    for path in sorted(results(config).rglob("*"), reverse=True):
        os.utime(path, (tomorrow, tomorrow))
    finish(config)
    assert products(config) == products(undisturbed)
    assert "Nothing to be done" in finish(config)


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[None]:
    line = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    line += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    server = psutil.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            assert server.poll() is None
            time.sleep(0.2)
        yield
    finally:
        for one in (*server.children(recursive=True), server):
            one.kill()
        server.wait()


def test_an_mlflow_server_that_goes_and_comes_back(undisturbed, copy, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = copy(ROUND_2, SCORED_2, "tables", tracking={"experiment": "faults", "uri": uri})
    with mlflow_server(tmp_path, port):
        running, said = start(config)
        log = results(config) / "policies/rtt_csr/seed_0/.round_2.work/metrics.jsonl"
        while not (log.exists() and log.read_text()):
            assert running.poll() is None, said.read_text()
            time.sleep(0.02)
    # it is gone now: training and scoring go on, and only the comparison, which is MLflow's alone, is refused
    assert running.wait(timeout=600) != 0
    assert "MLflow cannot be used" in (results(config) / "logs/log_comparison.log").read_text()
    assert products(config) == products(undisturbed)
    with mlflow_server(tmp_path, port):
        again = finish(config)
        assert "2 of 2 steps (100%) done" in again, "more than the comparison ran again"
        # round 1 trained with another MLflow: this one gets it from its files, as it gets what it missed of round 2
        from rtt.tracking import Tracker

        tracker = Tracker(uri, "faults")
        for key, wanted in (("", {1, 2, 3, 4}), ("/round_1", {1, 2}), ("/round_2", {3, 4})):
            assert tracker.find(f"rtt_csr/seed_0{key}").steps("train/loss") == wanted


def test_a_disk_that_fills_up_in_a_round(undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", disk], check=True)

    made = results(undisturbed)
    checkpoint = sum(path.stat().st_size for path in (made / ROUND_2 / "checkpoint").rglob("*"))
    try:
        mount(f"size={checkpoint * 3 // 2}")  # one checkpoint, not two
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system cannot be mounted here")
    line = [sys.executable, "-m", "rtt.cli", "round", "--config", str(made / "config.yaml"), "--arm", "rtt_csr"]
    line += ["--seed", "0", "--round", "2", "--prompts", made / "data/prompts.parquet", "--nltk", made / "models/nltk"]
    line += ["--policy", made / "models/policy", "--discriminator", made / "discriminators/full/model"]
    line += ["--start", made / "policies/rtt_csr/seed_0/round_1/checkpoint", "--output", disk / "round_2"]
    try:
        full = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        assert full.returncode == 1
        assert "error: no space is left on the disk" in full.stderr
        assert "Traceback" not in full.stderr
        assert not (disk / "round_2/checkpoint").exists()
        mount("remount", "size=1g")
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        for name in ("checkpoint/adapter_model.safetensors", "metrics.jsonl", "rollouts.parquet"):
            assert (disk / "round_2" / name).read_bytes() == (made / ROUND_2 / name).read_bytes(), name
    finally:
        subprocess.run(["umount", disk], check=True)


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
