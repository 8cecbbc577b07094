"""`rtt run`: the whole workflow under one lock, and a summary of where its results are."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rtt import layout
from rtt.config import FULL, Config, load_config
from rtt.errors import UserError


@contextmanager
def _only_one(results: Path) -> Iterator[None]:
    """Refuses a second run on the same results.

    The lock is the operating system's and goes when the process does: a killed run never leaves it behind, which
    Snakemake's own lock files would.
    """
    results.mkdir(parents=True, exist_ok=True)
    with (results / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another run is writing to these results",
                where=results,
                todo="wait for it, or give this one another folder under results",
            ) from None
        # Snakemake inherits the lock, so that it still keeps others away when it outlives a killed `rtt run`.
        os.set_inheritable(file.fileno(), True)
        yield


def settle_pulled(results: Path, workflow: Path) -> bool:
    """Gives all products the same time when they were pulled into a clone in which Snakemake has run nothing yet.

    `dvc pull` writes files in any order, and Snakemake takes a file older than what it was made from for outdated.

    Args:
        results: results folder of the configuration.
        workflow: folder with ``dvc.lock`` and, where something has run, ``.snakemake/metadata``.

    Returns:
        Whether the times were set.
    """
    lock, metadata = workflow / "dvc.lock", workflow / ".snakemake" / "metadata"
    if not lock.exists() or f"path: {results}/" not in lock.read_text() or any(metadata.glob("*")):
        return False
    now = time.time()
    for path in sorted(results.rglob("*"), reverse=True):  # a folder after what it holds
        os.utime(path, (now, now))
    return True


def settle_future(results: Path) -> float:
    """Brings the times of all products back when some lie in the future: the clock was set back since they were made.

    Snakemake fails every step whose inputs are newer than its new output. The order of the products stays.

    Returns:
        By how many seconds.
    """
    paths = sorted(results.rglob("*"), reverse=True)  # a folder after what it holds
    times = {path: path.stat().st_mtime for path in paths if path.exists()}
    ahead = max(times.values(), default=0) - time.time()
    if ahead < 1:
        return 0.0
    for path, made in times.items():
        os.utime(path, (made - ahead, made - ahead))
    return ahead


def run_workflow(config_file: Path, cores: str, more: Sequence[str]) -> int:
    """Runs Snakemake on `config_file` and prints the main table and where everything is.

    Returns:
        Snakemake's exit status.
    """
    config = load_config(config_file)
    results = Path(config.results)
    started = time.monotonic()
    with _only_one(results):
        command = [sys.executable, "-m", "snakemake", "--configfile", str(config_file), "--cores", cores, "--nolock"]
        status = subprocess.run([*command, *more], close_fds=False, check=False).returncode
    if status == 0 and (results / "tables" / "main.txt").exists():
        print(summary(config, time.monotonic() - started))
    elif status != 0:
        print(
            f"\nerror: the workflow stopped; what was finished is kept, and the same command goes on from there"
            f"\n  where: {results}/logs",
            file=sys.stderr,
        )
    return status


def summary(config: Config, seconds: float) -> str:
    """The main table and the paths a reader wants next."""
    results = Path(config.results)
    lines = ["", (results / "tables" / "main.txt").read_text().rstrip(), ""]
    places = {
        "table": results / "tables" / "main.csv",
        "figure": results / "figures" / "learning_curves.svg",
        "report": results / "report" / "index.html",
        "MLflow": f"make ui{'' if config.results == 'results' else f' RESULTS={results}'}, then http://127.0.0.1:5000",
    }
    quality_file = Path(layout.discriminator_metrics(config.results, FULL))
    if quality_file.exists():
        quality = json.loads(quality_file.read_text())
        figures = {name: one["auprc"] for name, one in quality["sets"].items()}
        sets = ", ".join(f"{name} {'none' if value is None else f'{value:.3f}'}" for name, value in figures.items())
        costs = quality_file.with_name(layout.DISCRIMINATOR_COSTS)
        took = f"; trained in {json.loads(costs.read_text())['train_seconds']:.0f} s" if costs.exists() else ""
        lines.append(f"discriminator, AUPRC: {sets}{took}")
    lines += [f"{name + ':':8} {place}" for name, place in places.items()]
    lines.append(f"done in {seconds / 60:.1f} minutes")
    return "\n".join(lines)
