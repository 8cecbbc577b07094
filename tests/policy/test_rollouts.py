"""Rollouts and metrics: what was done again replaces what was there, and a line cut short costs itself alone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rtt.policy.rollouts import MetricLog, RolloutLog, read_metrics


def batch(step: int, text: str = "answer") -> pd.DataFrame:
    return pd.DataFrame({"step": step, "row": [0, 1], "response": [f"{text} {step}/0", f"{text} {step}/1"]})


def test_batches_are_joined_in_the_order_of_their_steps(tmp_path: Path):
    log = RolloutLog(tmp_path / "deep" / "rollouts")
    for step in (10, 9, 100):
        log.add(batch(step))
    pd.testing.assert_frame_equal(log.join(0, 101), pd.concat([batch(9), batch(10), batch(100)], ignore_index=True))


def test_batch_sampled_again_replaces_the_earlier_one(tmp_path: Path):
    log = RolloutLog(tmp_path)
    log.add(batch(1, "first"))
    log.add(batch(2))
    log.add(batch(1, "second"))
    assert log.join(0, 3)["response"].tolist() == ["second 1/0", "second 1/1", "answer 2/0", "answer 2/1"]


def test_only_the_steps_asked_for_are_joined(tmp_path: Path):
    log = RolloutLog(tmp_path)
    for step in range(6):
        log.add(batch(step))
    assert log.join(2, 4)["step"].tolist() == [2, 2, 3, 3]


def test_batch_cut_short_while_it_was_written_is_not_joined(tmp_path: Path):
    log = RolloutLog(tmp_path)
    log.add(batch(1))
    (tmp_path / "00000002.partial").write_bytes(b"PAR1")
    assert RolloutLog(tmp_path).join(0, 9)["step"].tolist() == [1, 1]


def test_batch_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path):
    log = RolloutLog(tmp_path)
    log.add(batch(1))
    with pytest.raises(Exception, match="mixed"):
        log.add(batch(1, "second").assign(mixed=[1, "two"]))
    assert log.join(0, 9)["response"].tolist() == ["answer 1/0", "answer 1/1"]


def test_metrics_are_read_back_in_order(tmp_path: Path):
    log = MetricLog(tmp_path / "metrics.jsonl", done=0)
    log.add(1, {"loss": 0.5})
    log.add(2, {"loss": 0.25, "reward": 1})
    assert read_metrics(log.path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "reward": 1}]


def test_lines_after_the_step_it_goes_on_from_are_dropped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": step / 10}) + "\n" for step in range(1, 5)))
    log = MetricLog(path, done=2)
    log.add(3, {"loss": 9.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(1, 0.1), (2, 0.2), (3, 9.0)]


def test_last_line_cut_short_is_left_out_and_written_anew(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}]
    MetricLog(path, done=2).add(2, {"loss": 0.25})
    assert path.read_text() == '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'
