"""Out-of-domain benchmarks by `lm-eval`: whether training on instructions cost anything elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtt.config import Domain
from rtt.errors import UserError
from rtt.evaluation.generation import open_policy
from rtt.policy.pretrained import save_policy


@dataclass(frozen=True)
class TaskScores:
    """One task's main metric: its name, and the value of each example in order."""

    metric: str
    examples: dict[str, float]


def run_tasks(policy: Path, checkpoint: Path | None, settings: Domain, seed: int) -> tuple[dict[str, TaskScores], str]:
    """Has `lm-eval` ask the policy, adapter merged in, all tasks, in a process of its own.

    Returns:
        By task its scores; and the version of `lm-eval`.

    Raises:
        UserError: `lm-eval` is not installed, or stops.
    """
    with tempfile.TemporaryDirectory(prefix="rtt-domain-") as work:
        merged, output = Path(work) / "policy", Path(work) / "output"
        model, tokenizer = open_policy(policy, checkpoint)
        save_policy(model.cpu(), tokenizer, merged)
        line = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
        line += ["--model_args", f"pretrained={merged},dtype={settings.dtype}"]
        line += ["--tasks", ",".join(settings.tasks), "--apply_chat_template", "--log_samples"]
        line += ["--batch_size", str(settings.batch_size), "--seed", str(seed), "--output_path", str(output)]
        line += ["--limit", str(settings.limit)] if settings.limit else []
        line += ["--include_path", settings.task_folder] if settings.task_folder else []
        # Every source is a file by now but these, which lm-eval fetches itself.
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(
                f"lm-eval stopped: {_last_words(done.stderr)}",
                where="evaluation.domain",
                todo="install it with `pip install -c constraints.txt -e '.[domain]'`; its tasks come from the hub, or "
                "from evaluation.domain.task_folder",
            )
        (told,) = output.rglob("results_*.json")
        results = json.loads(told.read_text())
        return {task: _read_task(task, results, told.parent) for task in settings.tasks}, results["lm_eval_version"]


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _read_task(task: str, results: dict[str, Any], folder: Path) -> TaskScores:
    """A task's first metric that stands beside its examples; a task of several parts keeps them apart by name."""
    parts = results["group_subtasks"].get(task) or [task]
    examples: dict[str, float] = {}
    metric = ""
    for part in parts:
        (samples,) = folder.glob(f"samples_{part}_*.jsonl")
        for line in samples.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            metric = metric or row["metrics"][0]
            # A task that reads an answer in several ways has a row for each; the last one listed counts, for all alike.
            examples[f"{part}/{row['doc_id']}"] = float(row[metric])
    return TaskScores(metric, examples)


def as_record(found: dict[str, TaskScores], version: str, settings: Domain) -> dict[str, Any]:
    return {
        "lm_eval": version,
        "settings": settings.model_dump(mode="json"),
        "tasks": {task: {"metric": one.metric, "examples": one.examples} for task, one in found.items()},
    }


def read_record(path: Path) -> dict[str, TaskScores]:
    """The scores of a record. Raises UserError for a file that is none."""
    try:
        tasks = json.loads(path.read_text())["tasks"]
        return {task: TaskScores(one["metric"], one["examples"]) for task, one in tasks.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the record cannot be read: {error}", where=path, todo="run `rtt domain` again") from None


def common(base: TaskScores, other: TaskScores, task: str) -> Sequence[str]:
    """The examples both were asked. Raises UserError where they differ."""
    if set(base.examples) != set(other.examples) or base.metric != other.metric:
        raise UserError(
            f"the policies were not asked the same on {task}: {len(base.examples)} and {len(other.examples)} examples, "
            f"by {base.metric} and {other.metric}",
            where="evaluation.domain",
            todo="evaluate both with the same settings",
        )
    return sorted(base.examples)
