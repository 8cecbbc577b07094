"""What `rtt watch` reads off a results folder in the making."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rtt.cli import main
from rtt.config import parse_config
from rtt.report.watch import progress

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"


@pytest.fixture
def values():
    values = yaml.safe_load(CONFIG.read_text())
    values["results"] = "results/study"
    values["policy"] |= {"rounds": 2, "steps_per_round": 4}
    return values


@pytest.fixture
def config(values):
    return parse_config(values, "test")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("results/study")
    folder.mkdir(parents=True)
    return folder


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def half_done(results):
    """rl_csr has a round and half of the next one; rtt_csr has not begun."""
    arm = results / "policies" / "rl_csr" / "seed_0"
    (arm / "round_1" / "checkpoint").mkdir(parents=True)
    lines(arm / "round_1" / "metrics.jsonl", [{"step": step, "reward": step / 10} for step in (1, 2, 3, 4)])
    lines(arm / "round_1" / "costs.jsonl", [{"step": step, "seconds": 2.0, "judge/calls": 5} for step in (1, 2, 3, 4)])
    lines(arm / ".round_2.work" / "metrics.jsonl", [{"step": 5, "reward": 0.5}, {"step": 6, "reward": 0.625}])
    (arm / ".round_2.work" / "costs.jsonl").write_text(
        '{"step": 5, "seconds": 5.0, "judge/calls": 1}\n{"step": 6, "sec'
    )
    scores = results / "evaluations" / "rl_csr" / "seed_0" / "round_1" / "validation" / "scores.parquet"
    scores.parent.mkdir(parents=True)
    pd.DataFrame({"strict": [True, False, False, False]}).to_parquet(scores)


def test_an_empty_folder_is_at_nothing(config):
    now = progress(config)
    assert now.locked is None
    assert not now.finished
    assert now.seconds_left is None
    assert now.phases["rounds"] == (0, 4)
    assert all(done == 0 for done, _ in now.phases.values())
    assert [(run.arm, run.done, run.running, run.reward) for run in now.training] == [
        ("rl_csr", 0, False, None),
        ("rtt_csr", 0, False, None),
    ]


def test_a_round_in_the_making(config, results):
    half_done(results)
    now = progress(config)
    first, second = now.training
    assert (first.done, first.total, first.running) == (6, 8, True)
    assert first.reward == 0.625
    assert first.seconds == pytest.approx((4 * 2.0 + 5.0) / 5)  # the last line is not whole yet
    assert first.judge_calls == 21
    assert first.accuracy == 0.25
    assert second.seconds is None
    # 2 and 8 steps at 2.6 s, one round at a time
    assert now.seconds_left == pytest.approx(10 * 2.6)
    assert now.phases["rounds"] == (1, 4)


def test_damaged_scores_are_not_there_yet(config, results):
    half_done(results)
    (path,) = results.glob("evaluations/**/scores.parquet")
    path.write_bytes(b"PAR1 half a file")
    assert progress(config).training[0].accuracy is None


def test_whether_somebody_runs_it(config, results):
    with (results / ".lock").open("w") as file:
        assert progress(config).locked is False
        fcntl.flock(file, fcntl.LOCK_EX)
        assert progress(config).locked is True


def test_a_study_without_a_discriminator_waits_for_none(values):
    del values["arms"]["rtt_csr"]
    assert set(progress(parse_config(values, "test")).phases) == {"data", "rounds", "evaluations", "report"}


def test_by_command(values, results, capsys):
    half_done(results)
    Path("study.yaml").write_text(yaml.safe_dump(values))
    main(["watch", "--config", "study.yaml"])  # no terminal: once
    said = capsys.readouterr().out
    assert "rounds" in said
    assert "6 of 8" in said
    assert "0.625" in said
    assert "25.0%" in said
    assert "about 1 min of training left" in said
