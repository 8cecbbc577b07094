"""What each arm took: time, tokens and judge calls, as the rounds recorded them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from rtt import layout
from rtt.config import Config
from rtt.policy.rollouts import read_metrics
from rtt.report.markup import note, table_of, td
from rtt.report.render import DASH
from rtt.tables import rows_of
from rtt.tracking import SHARED_VIEW, SQLITE

UI = "http://127.0.0.1:5000"
"""Where `make ui` serves MLflow."""


def arm_costs(config: Config) -> pd.DataFrame:
    """One row an arm that has trained: ``arm``, ``seeds``, and means over its seeds of ``steps``, ``seconds``,
    ``credit_seconds`` (a step), ``tokens`` (prompts and responses), ``judge_calls`` and ``judge_cost``; NaN where
    nothing recorded it.

    Read from where the rounds lie, and not handed on by the workflow: no result depends on a clock.
    """
    rows = []
    for arm, settings in config.arms.items():
        runs = [_run(config, arm, seed) for seed in (settings.seeds or config.seeds)]
        recorded = [run for run in runs if run]
        if recorded:
            rows.append({"arm": arm, "seeds": len(recorded), **_means(recorded)})
    columns = ["arm", "seeds", "steps", "seconds", "credit_seconds", "tokens", "judge_calls", "judge_cost"]
    return pd.DataFrame(rows, columns=columns)


def _run(config: Config, arm: str, seed: int) -> dict[str, float]:
    """The sums over the rounds of one arm and seed; empty where a round has none recorded."""
    costs: list[dict[str, Any]] = []
    figures: list[dict[str, Any]] = []
    for number in range(1, config.policy.rounds + 1):
        of_round, metrics = (
            Path(layout.round_file(config.results, arm, seed, number, name)) for name in (layout.COSTS, "metrics.jsonl")
        )
        if not (of_round.exists() and metrics.exists()):
            return {}
        costs += read_metrics(of_round)
        figures += read_metrics(metrics)
    total: Counter[str] = Counter()
    for line in costs:
        total.update({name: value for name, value in line.items() if name != "step"})
    calls, cost = _evaluation_judge(config, arm, seed)
    timed = [line["credit_seconds"] for line in costs if "credit_seconds" in line]
    return {
        "steps": len(costs),
        "seconds": total["seconds"] if total["seconds"] else np.nan,
        "credit_seconds": float(np.mean(timed)) if timed else np.nan,
        # counted from the first step of the first round on
        "tokens": max((line["num_tokens"] for line in figures if "num_tokens" in line), default=np.nan),
        "judge_calls": total["judge/calls"] + calls,
        "judge_cost": total["judge/cost"] + cost if "judge/cost" in total or cost else np.nan,
    }


def _evaluation_judge(config: Config, arm: str, seed: int) -> tuple[float, float]:
    """Calls and cost of the judge in the evaluations of one arm and seed."""
    calls = cost = 0.0
    for evaluation in layout.evaluations(config):
        told = Path(evaluation.scores).with_suffix(".judge.json")
        if (evaluation.arm, evaluation.seed) == (arm, seed) and told.exists():
            figures = json.loads(told.read_text())["figures"]
            calls += figures.get("calls", 0)
            cost += figures.get("cost", 0)
    return calls, cost


def _means(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def costs_section(config: Config, costs: pd.DataFrame) -> list[str]:
    """The costs, with links to each arm's runs in MLflow and to the token views of its last rounds, as seen from the
    report's folder; nothing where no arm has any recorded."""
    if costs.empty:
        return []
    lines = [
        [
            row.arm,
            td(row.seeds),
            td(_number(row.steps)),
            td(_number(row.seconds / 60, 1 if row.seconds >= 60 else 2)),
            td(_number(row.seconds / row.steps, 2)),
            td(_number(row.credit_seconds, 3)),
            td(_number(row.tokens)),
            td(_number(row.judge_calls)),
            *([td(_number(row.judge_cost, 2))] if costs["judge_cost"].notna().any() else []),
        ]
        for row in rows_of(costs)
    ]
    header = ["Arm", "Seeds", "Steps", "Minutes", "Seconds a step", "of them credit", "Tokens", "Judge calls"]
    header += ["Judge’s price"] * bool(costs["judge_cost"].notna().any())
    return [
        '<section id="costs">',
        "<h2>What it cost</h2>",
        table_of("cost-by-arm", "Training, mean over seeds", header, [("", lines)]),
        note(
            "Timed on the machine that ran it, with whatever else it did; the one thing here a repetition changes.",
            "Tokens are those of prompts and responses; judge calls are those of training and evaluation, answers from "
            "the cache not counted.",
        ),
        *_links(config, list(costs["arm"])),
        "</section>",
    ]


def _number(value: float, digits: int = 0) -> str:
    return DASH if value is None or np.isnan(value) else f"{value:,.{digits}f}"


def _links(config: Config, arms: Sequence[str]) -> list[str]:
    """Per arm: its runs in MLflow, and where its credit went."""
    experiment = experiment_address(config)
    items = []
    for arm in arms:
        wanted = quote(f'tags.arm = "{arm}"', safe="")
        links = [f'<a href="{escape(experiment)}/runs?searchFilter={wanted}">runs</a>'] if experiment else []
        for seed in config.arms[arm].seeds or config.seeds:
            view = Path(layout.round_file(config.results, arm, seed, config.policy.rounds, layout.VIEW))
            if view.exists():
                relative = quote(str(Path("..") / view.relative_to(config.results)))
                links.append(f'<a href="{relative}">seed {seed}, token by token</a>')
        if links:
            items.append(f"<li>{escape(arm)}: {', '.join(links)}</li>")
    if not items:
        return []
    served = "" if config.tracking.uri else " The links to runs work while <code>make ui</code> serves MLflow."
    if experiment:
        address = f"{escape(experiment)}/runs?viewStateShareKey={SHARED_VIEW}"
        items.insert(0, f'<li><a href="{address}">all arms side by side</a></li>')
    return [f"<p>Each arm in MLflow, and where its credit went in the last round.{served}</p>", "<ul>", *items, "</ul>"]


def experiment_address(config: Config) -> str | None:
    """The experiment's page in MLflow's UI; None where no experiment has been made, or no browser can open it."""
    made = Path(config.results, "mlflow", "experiment.json")
    try:
        experiment = json.loads(made.read_text())
        uri, identifier = str(experiment["uri"]), str(experiment["id"])
    except (OSError, ValueError, KeyError):
        return None
    if uri.startswith(SQLITE):
        uri = UI
    return f"{uri.rstrip('/')}/#/experiments/{quote(identifier)}" if uri.startswith(("http://", "https://")) else None
