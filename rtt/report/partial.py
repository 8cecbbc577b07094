"""What an unfinished study has so far, and why the rest is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtt import layout
from rtt.config import Config

NOT_RUN = "it has not run yet"


def find_products(config: Config) -> tuple[list[Path], list[Path], list[Path], list[dict[str, Any]]]:
    """Scores, discriminators' figures and lists of left-out prompts that lie below the results folder.

    Returns:
        Their paths, and for each evaluation that is not there a dictionary of ``arm``, ``seed``, ``what`` (round and
        benchmark) and ``why``, read from the log of the step that failed.
    """
    scores, missing = [], []
    for evaluation in layout.evaluations(config):
        path = Path(evaluation.scores)
        if path.exists():
            scores.append(path)
        else:
            what = f"round {evaluation.number} on {evaluation.benchmark}"
            why = why_missing([Path(log) for log in evaluation.logs])
            missing.append({"arm": evaluation.arm, "seed": evaluation.seed, "what": what, "why": why})
    metrics = [Path(layout.discriminator_metrics(config.results, name)) for name in config.discriminators()]
    left_out = sorted(Path(config.results, "data", "benchmarks").glob("*.left_out.json"))
    return scores, [path for path in metrics if path.exists()], left_out, missing


def why_missing(logs: list[Path]) -> str:
    """The message of the step that stopped: the last of these logs that exists, from its line ``error:`` on."""
    written = [log for log in logs if log.exists()]
    if not written:
        return NOT_RUN
    lines = [line.strip() for line in written[-1].read_text(errors="replace").replace("\r", "\n").splitlines()]
    said = [line for line in lines if line]
    starts = [place for place, line in enumerate(said) if line.startswith("error:")]
    if starts:
        return said[starts[-1]].removeprefix("error:").strip()
    return f"it stopped before it was done; its last words: {said[-1][:160]}" if said else "it stopped without a word"
