"""Out of domain by a real lm-eval on a task of our own; the table from values counted by hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from rtt.cli import main
from rtt.config import BASE
from rtt.errors import UserError
from rtt.evaluation.domain import TaskScores, read_record
from rtt.report.domain import domain_table

ROOT = Path(__file__).parents[2]


def record(path: Path, values: list[float], metric: str = "acc") -> Path:
    examples = {f"t/{number}": value for number, value in enumerate(values)}
    path.write_text(json.dumps({"tasks": {"t": {"metric": metric, "examples": examples}}}))
    return path


def test_the_change_is_that_of_the_same_examples(tmp_path):
    base = record(tmp_path / "base.json", [1, 0, 0, 1])
    better = record(tmp_path / "arm.json", [1, 1, 0, 1])
    table = domain_table({(BASE, 0): base, ("rtt", 2): better})
    first, second = table.itertuples()
    assert (first.arm, first.value, first.n) == (BASE, 0.5, 4)
    assert np.isnan([first.change, first.change_low, first.change_high]).all()
    assert (second.arm, second.seed, second.value, second.change) == ("rtt", 2, 0.75, 0.25)
    assert second.low < 0.75 < second.high
    # a draw of 4 of the pairs' differences 0, 1, 0, 0 is never below 0, and above 0.75 in fewer than 1 of 40
    assert second.change_low == 0
    assert second.change_high == 0.75
    same = domain_table({(BASE, 0): base, ("same", 0): base}).iloc[1]
    assert (same["change"], same["change_low"], same["change_high"]) == (0, 0, 0)


@pytest.mark.parametrize(("values", "metric"), [([1, 0, 0], "acc"), ([1, 0, 0, 1], "exact_match")])
def test_policies_that_were_not_asked_the_same_are_refused(tmp_path, values, metric):
    records = {
        (BASE, 0): record(tmp_path / "b.json", [1, 0, 0, 1]),
        ("a", 0): record(tmp_path / "a.json", values, metric),
    }
    with pytest.raises(UserError, match="not asked the same on t"):
        domain_table(records)


def test_a_file_that_is_no_record_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="the record cannot be read"):
        read_record(tmp_path / "x.json")


@pytest.fixture
def rivers(tmp_path) -> Path:
    """A configuration with a task whose examples lie beside it."""
    rows = [{"question": f"Is river {number} long?", "label": number % 2} for number in range(6)]
    (tmp_path / "rivers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "rivers",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rivers.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["yes", "no"],
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "rivers.yaml").write_text(yaml.safe_dump(task))
    values = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    values["evaluation"]["domain"] = {"tasks": ["rivers"], "limit": 5, "task_folder": str(tmp_path / "tasks")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


@pytest.mark.cluster  # it comes with an extra
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (the extra `domain`)")
def test_lm_eval_asks_the_policy(rivers, tiny_policy, capsys):
    base = rivers / "base.json"
    line = ["domain", "--config", str(rivers / "config.yaml"), "--policy", str(tiny_policy), "--output", str(base)]
    main(line)
    scores = read_record(base)["rivers"]
    assert set(scores.examples) == {f"rivers/{number}" for number in range(5)}
    assert isinstance(scores, TaskScores)
    mean = sum(scores.examples.values()) / 5
    assert f"rivers: acc {mean:.4f}, n = 5" in capsys.readouterr().out
    arm = rivers / "rtt" / "seed_0" / "round_1" / "domain.json"
    arm.parent.mkdir(parents=True)
    arm.write_text(base.read_text())
    line = ["domain-table", "--config", str(rivers / "config.yaml"), "--base", str(base), "--records", str(arm)]
    main([*line, "--output", str(rivers / "domain.csv")])
    assert pd.read_csv(rivers / "domain.csv")["arm"].tolist() == ["base", "rtt"]


@pytest.mark.cluster
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (the extra `domain`)")
def test_a_task_nobody_knows_is_told(rivers, tiny_policy):
    values = yaml.safe_load((rivers / "config.yaml").read_text())
    values["evaluation"]["domain"]["tasks"] = ["lakes"]
    (rivers / "config.yaml").write_text(yaml.safe_dump(values))
    line = ["domain", "--config", str(rivers / "config.yaml"), "--policy", str(tiny_policy)]
    with pytest.raises(SystemExit, match=r"lm-eval stopped: .*lakes"):
        main([*line, "--output", str(rivers / "base.json")])
    assert not (rivers / "base.json").exists()
