"""The comparison of all arms in MLflow: final figures on each arm's run, tables and figures on one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rtt import layout
from rtt.config import Config, to_dict
from rtt.errors import UserError
from rtt.policy.rollouts import read_metrics
from rtt.report.outputs import report_outputs, tables_of
from rtt.report.results import read_scores
from rtt.report.tables import accuracies
from rtt.tables import rows_of
from rtt.tracking import Rounds, Tracker, flatten


def log_comparison(config: Config, uri: str, *, scores: Sequence[Path], output: Path, data: Path) -> str:
    """Logs every evaluation to its arm's run, and the comparison to a run of its own.

    Args:
        uri: MLflow tracking URI.
        scores: tables of scores.
        output: the folder `rtt report` wrote ``tables/``, ``figures/`` and ``report/`` to.
        data: the table of prompts; its digest becomes a tag.

    Returns:
        The id of the comparison's run.
    """
    table = read_scores(scores)
    tracker = Tracker(uri, config.tracking.experiment)
    rounds = Rounds(tracker, config, data)
    send_missing(config, rounds)
    for (arm, seed), rows in table.groupby(["arm", "seed"], sort=True):
        run = rounds.arm(str(arm), int(str(seed)), anew=False)
        for step in sorted(rows["step"].unique()):
            for benchmark, part in rows[rows["step"] == step].groupby("benchmark"):
                figures = {f"eval/{benchmark}/{name}": value for name, value in accuracies(part).items()}
                run.log_metrics(figures, int(step))
        run.log_inputs({"evaluation": data}, {})
        for path in last_responses(config, str(arm), int(str(seed))):
            run.log_artifact(path, f"responses/{path.parent.name}")
        run.finish()
    comparison = tracker.open("comparison", "comparison", {**rounds.tags, "level": "comparison"})
    comparison.log_params(flatten(to_dict(config)))
    for row in rows_of(_tables(config, output)):
        comparison.log_metrics({f"{row.arm}/{row.benchmark}/{row.metric}": row.value}, int(row.step))
    for relative in report_outputs(config):
        comparison.log_artifact(output / relative, str(Path(relative).parent))
    comparison.finish()
    return comparison.run_id


def send_missing(config: Config, rounds: Rounds) -> None:
    """Sends the figures of rounds that MLflow lacks: its server was gone while they trained, or its database is new."""
    for arm, seed in config.runs():
        for number in range(1, config.policy.rounds + 1):
            path = Path(layout.round_file(config.results, arm, seed, number, "metrics.jsonl"))
            if path.exists():
                rounds.complete(arm, seed, number, {int(line.pop("step")): line for line in read_metrics(path)})


def last_responses(config: Config, arm: str, seed: int) -> list[Path]:
    """The responses of an arm's last round on every benchmark, as far as they are there."""
    last = max(evaluation.number for evaluation in layout.evaluations(config) if evaluation.arm == arm)
    paths = [
        Path(evaluation.scores).with_name("responses.parquet")
        for evaluation in layout.evaluations(config)
        if (evaluation.arm, evaluation.seed, evaluation.number) == (arm, seed, last)
    ]
    return [path for path in paths if path.exists()]


def _tables(config: Config, output: Path) -> pd.DataFrame:
    """The rows of all tables of arms, an arm that stands in several of them once."""
    paths = [output / "tables" / f"{name}.csv" for name in tables_of(config)]
    absent = [path for path in [*paths, *(output / name for name in report_outputs(config))] if not path.exists()]
    if absent:
        raise UserError(
            "the report lacks a file", where=absent[0], todo="run `rtt report` with the same --config first"
        )
    found = [pd.read_csv(path) for path in paths]
    return pd.concat(found, ignore_index=True).drop_duplicates(["arm", "benchmark", "metric"])
