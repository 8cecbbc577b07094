"""How far a study is, read from what lies in its results folder: nothing has to be asked of the run itself."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import pandas as pd

from rtt import layout
from rtt.config import BASE, Config
from rtt.policy.rollouts import read_metrics

if TYPE_CHECKING:
    from rich.console import RenderableType

VALIDATION = "validation"
RECENT = 10
"""Steps whose time tells how long the next ones take."""


@dataclass(frozen=True)
class Training:
    """One arm and seed.

    Attributes:
        done: optimiser steps.
        total: steps in all rounds.
        running: a round of it is in the making, or was when the run was stopped.
        reward: mean of the last step sampled; None before the first, or where nothing is sampled.
        seconds: a step, by the latest ones; None before the first.
        judge_calls: so far.
        accuracy: strict instruction accuracy on validation of the last round evaluated; None before the first.
    """

    arm: str
    seed: int
    done: int
    total: int
    running: bool
    reward: float | None
    seconds: float | None
    judge_calls: int
    accuracy: float | None


@dataclass(frozen=True)
class Progress:
    """A study at one moment.

    Attributes:
        locked: a `rtt run` holds the results; None where that cannot be told.
        phases: name → products there are, and products there will be.
        training: every arm and seed.
        start: accuracy of the start policy on validation.
    """

    locked: bool | None
    phases: dict[str, tuple[int, int]]
    training: list[Training] = field(default_factory=list)
    start: float | None = None

    @property
    def finished(self) -> bool:
        return all(done == total for done, total in self.phases.values())

    @property
    def seconds_left(self) -> float | None:
        """Of training, if as many rounds as now go on side by side; None before the first step."""
        known = [run.seconds for run in self.training if run.seconds]
        if not known:
            return None
        left = sum((run.total - run.done) * (run.seconds or median(known)) for run in self.training)
        return left / max(1, sum(run.running for run in self.training))


def progress(config: Config) -> Progress:
    """Reads how far a study is. What is being written while it is read counts as not there yet."""
    results = config.results
    benchmarks = [f"{results}/data/benchmarks/{name}.parquet" for name in config.sources.benchmarks]
    rounds = [
        layout.round_file(results, arm, seed, number, "checkpoint")
        for arm, seed in config.runs()
        for number in range(1, config.policy.rounds + 1)
    ]
    phases = {
        "data": _there([f"{results}/data/prompts.parquet", *benchmarks]),
        "labels": _there(f"{results}/labels/{name}.parquet" for name in ("responses", "verdicts", "labels")),
        "discriminators": _there(layout.discriminator_metrics(results, name) for name in config.discriminators()),
        "rounds": _there(rounds),
        "evaluations": _there(evaluation.scores for evaluation in layout.evaluations(config)),
        "report": _there([f"{results}/report/index.html", f"{results}/mlflow/comparison.json"]),
    }
    if not config.discriminators():
        del phases["labels"], phases["discriminators"]
    return Progress(
        locked=_is_locked(Path(results)),
        phases=phases,
        training=[_training(config, arm, seed) for arm, seed in config.runs()],
        start=_accuracy(Path(layout.base_file(results, VALIDATION, layout.SCORES))),
    )


def _there(paths: Iterable[str]) -> tuple[int, int]:
    found = [Path(path).exists() for path in paths]
    return sum(found), len(found)


def _is_locked(results: Path) -> bool | None:
    try:
        with (results / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _training(config: Config, arm: str, seed: int) -> Training:
    done, running, rewards = 0, False, []
    seconds: list[float] = []
    calls, accuracy = 0.0, None
    for number in range(1, config.policy.rounds + 1):
        folder = Path(layout.round_file(config.results, arm, seed, number, ""))
        finished, work = (folder / "checkpoint").exists(), folder.parent / f".{folder.name}.work"
        place = folder if finished else work
        if place == work and work.exists():
            running = True
        lines, costs = _lines(place / "metrics.jsonl"), _lines(place / layout.COSTS)
        done = number * config.policy.steps_per_round if finished else max([done, *(line["step"] for line in lines)])
        rewards += [line["reward"] for line in lines if line.get("reward") is not None]
        seconds += [line["seconds"] for line in costs if "seconds" in line]
        calls += sum(line.get("judge/calls", 0) for line in costs)
        scores = Path(layout.evaluation_file(config.results, arm, seed, number, VALIDATION, layout.SCORES))
        accuracy = _accuracy(scores) if scores.exists() else accuracy
    return Training(
        arm=arm,
        seed=seed,
        done=done,
        total=config.policy.rounds * config.policy.steps_per_round,
        running=running,
        reward=rewards[-1] if rewards else None,
        seconds=fmean(seconds[-RECENT:]) if seconds else None,
        judge_calls=round(calls),
        accuracy=accuracy,
    )


def _lines(path: Path) -> list[dict]:
    try:
        return read_metrics(path)
    except OSError:  # not there, or moved away while we looked
        return []


def _accuracy(scores: Path) -> float | None:
    try:
        return float(pd.read_parquet(scores, columns=["strict"])["strict"].mean())
    except (OSError, ValueError):  # not there, or not whole yet; pyarrow's errors are ValueErrors
        return None


def shown(now: Progress, title: str) -> RenderableType:
    """The progress as rich draws it."""
    from rich.console import Group
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    phases = Table.grid(padding=(0, 2))
    for name, (done, total) in now.phases.items():
        phases.add_row(name, ProgressBar(total=max(1, total), completed=done, width=30), f"{done} of {total}")
    runs = Table(title=None, pad_edge=False)
    columns = ("arm", "seed", "step", "reward", "validation", "s a step", "judge calls")
    for column in columns:
        runs.add_column(column, justify="left" if column == "arm" else "right", no_wrap=True)
    if now.start is not None:
        runs.add_row(BASE, "", "0", "", f"{now.start:.1%}", "", "")
    for run in now.training:
        step = f"{run.done} of {run.total}"
        runs.add_row(
            escape(run.arm),
            str(run.seed),
            f"[bold]▶ {step}[/]" if run.running and now.locked is not False else step,
            _text(run.reward, ".3f"),
            _text(run.accuracy, ".1%"),
            _text(run.seconds, ".1f"),
            str(run.judge_calls) if run.judge_calls else "",
        )
    return Group(f"[bold]{escape(title)}[/]  {_state(now)}", "", phases, "", runs)


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _state(now: Progress) -> str:
    if now.finished:
        return "done"
    left = now.seconds_left
    training = "" if not left else f", about {_duration(left)} of training left"
    return {True: "running", False: "not running", None: "not started"}[now.locked] + training


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


def watch(config: Config, title: str, every: float, once: bool) -> None:
    """Draws the progress until the study is done or the user has seen enough; once where nobody watches a terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    now = progress(config)
    if once or not console.is_terminal:
        console.print(shown(now, title))
        return
    with Live(shown(now, title), console=console, auto_refresh=False) as live:
        while not now.finished:
            time.sleep(every)
            now = progress(config)
            live.update(shown(now, title), refresh=True)
