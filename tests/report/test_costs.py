"""What arms cost, worked out by hand from what rounds recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from rtt.config import parse_config
from rtt.report.costs import arm_costs, costs_section, experiment_address

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"


@pytest.fixture
def config(tmp_path):
    values = yaml.safe_load(CONFIG.read_text())
    values["results"], values["seeds"] = "results/study", [0, 1]
    values["policy"]["rounds"] = 2
    return parse_config(values, "test")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(arm, seed, number, costs, tokens):
    folder = Path(f"results/study/policies/{arm}/seed_{seed}/round_{number}")
    folder.mkdir(parents=True)
    for name, lines in (("costs.jsonl", costs), ("metrics.jsonl", [{"num_tokens": count} for count in tokens])):
        text = "".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines, 1))
        (folder / name).write_text(text)


def test_sums_over_rounds_and_means_over_seeds(config):
    for seed, seconds in ((0, 10.0), (1, 20.0)):
        record("rtt_csr", seed, 1, [{"seconds": seconds, "credit_seconds": 1.0, "judge/calls": 3}] * 2, [100, 200])
        record("rtt_csr", seed, 2, [{"seconds": seconds, "credit_seconds": 2.0, "judge/calls": 1}] * 2, [300, 500])
    (told := Path("results/study/evaluations/rtt_csr/seed_1/round_2/validation/scores.judge.json")).parent.mkdir(
        parents=True
    )
    told.write_text(json.dumps({"figures": {"calls": 10, "cost": 0.5}, "second": None}))
    (row,) = arm_costs(config).to_dict("records")
    assert row == {
        "arm": "rtt_csr",
        "seeds": 2,
        "steps": 4,
        "seconds": 60.0,  # 40 and 80
        "credit_seconds": 1.5,
        "tokens": 500,  # counted from the start on
        "judge_calls": 13.0,  # 8 each, and 10 of one evaluation
        "judge_cost": pytest.approx(np.nan, nan_ok=True),  # one seed has no price
    }


def test_an_arm_with_a_round_missing_has_no_costs(config):
    record("rl_csr", 0, 1, [{"seconds": 1.0}], [1])
    assert arm_costs(config).empty
    assert costs_section(config, arm_costs(config)) == []


def test_missing_is_a_dash(config):
    for number in (1, 2):
        record("rl_csr", 0, number, [{}], [7])
    text = "\n".join(costs_section(config, arm_costs(config)))
    assert "<td>–</td>" in text or "<td>—</td>" in text
    assert "nan" not in text


def test_links_lead_to_views_and_to_the_arms_runs(config):
    for number in (1, 2):
        record("rtt_csr", 1, number, [{"seconds": 1.0}], [7])
    Path("results/study/policies/rtt_csr/seed_1/round_2/view.html").write_text("x")
    Path("results/study/mlflow").mkdir()
    made = Path("results/study/mlflow/experiment.json")
    made.write_text(json.dumps({"uri": "sqlite:///results/study/mlflow/mlflow.db", "name": "n", "id": "7"}))
    text = "\n".join(costs_section(config, arm_costs(config)))
    assert '"../policies/rtt_csr/seed_1/round_2/view.html"' in text
    assert "http://127.0.0.1:5000/#/experiments/7/runs?searchFilter=tags.arm%20%3D%20%22rtt_csr%22" in text
    made.write_text(json.dumps({"uri": "https://mlflow.example/", "name": "n", "id": "7"}))
    assert experiment_address(config) == "https://mlflow.example/#/experiments/7"
    made.write_text(json.dumps({"uri": "databricks", "name": "n", "id": "7"}))
    assert experiment_address(config) is None
    made.write_text("{")
    assert experiment_address(config) is None
