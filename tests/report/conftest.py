"""Scores and a study to report on, made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import yaml

from rtt.config import parse_config
from rtt.tables import Scores, check_table, write_table

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"


def _scores(verdicts, arm="base", seed=0, step=0, benchmark="validation", tokens=10):
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "benchmark": benchmark,
            "prompt_id": f"p{prompt:04}",
            "rubric_id": f"p{prompt:04}/{place}",
            "kind": "punctuation:no_comma",
            "strict": verdict == "s",
            "loose": verdict in "sl",
            "sample": 0,
            "empty": False,
            "protocol": "greedy/1",
            "budget": 48,
            "judge": "if-verifiable 0.1.2",
            "groups": "{}",
            "tokens": tokens + prompt,
            "truncated": prompt == 0,
        }
        for prompt, line in enumerate(verdicts)
        for place, verdict in enumerate(line)
    ]
    return check_table(pd.DataFrame(rows), Scores, "test")


@pytest.fixture
def scores():
    """Makes rows of Scores from one list of verdicts a prompt: 's' strict, 'l' loose only, '-' neither."""
    return _scores


@pytest.fixture
def random_verdicts():
    def make(prompts, seed=0, chance=0.5):
        draw = np.random.default_rng(seed)
        return ["".join(draw.choice(["s", "-"], size=2, p=[chance, 1 - chance])) for _ in range(prompts)]

    return make


@pytest.fixture
def value():
    """The one row of a table with a metric and other values."""

    def find(found, metric, **where):
        rows = found[found["metric"] == metric]
        for column, wanted in where.items():
            rows = rows[rows[column] == wanted]
        assert len(rows) == 1
        return rows.iloc[0]

    return find


@pytest.fixture
def config():
    """The shipped configuration as a small study with three tables, and what a test changes."""

    def make(**changes):
        values = yaml.safe_load(CONFIG.read_text())
        learned = {"credit": {"relevance": "discriminator"}}
        values["arms"] = {
            "rl_csr": {},
            "rtt_csr": learned,
            "rtt_few": {"credit": {"relevance": "discriminator", "discriminator": "few"}},
            "rtt_rules": {"credit": {"relevance": "rules"}},
        }
        values["discriminator_variants"] = {"few": {"label_share": 0.1}}
        values["seeds"] = [0, 1]
        values["headline"] = ["rtt_csr", "rl_csr"]
        values["tables"] = {
            "main": ["base", "rl_csr", "rtt_csr"],
            "relevance": ["rtt_csr", "rtt_few", "rtt_rules"],
            "partition": ["rl_csr", "rtt_csr"],
        }
        values["policy"] |= {"rounds": 2, "steps_per_round": 8}
        values["evaluation"] = {
            "benchmarks": {"validation": {"each_round": True}, "ifbench": {}},
            "bootstrap_draws": 100,
        }
        return parse_config({**values, **changes}, "test")

    return make


def _quality(auprc):
    found = {
        "pairs": 12,
        "tokens": 480,
        "auprc": auprc,
        "auprc_low": 0.5,
        "auprc_high": 0.95,
        "f1": 0.8,
        "precision": None,
        "recall": 0.7,
        "ece": 0.03,
        "base_rate": 0.07,
        "baselines": {"random": {"auprc": 0.07}, "keyword": {"auprc": 0.2}},
        "per_kind": {
            "keywords:existence": {
                "pairs": 9,
                "base_rate": 0.07,
                "auprc": 0.91,
                "f1": 0.8,
                "keyword_auprc": 0.31,
                "random_auprc": 0.08,
            }
        },
    }
    return {"threshold": 0.41, "train_seconds": 90.0, "sets": {"unseen_topics": found}}


@pytest.fixture
def study_scores(config, random_verdicts):
    """All evaluations of a complete study."""
    study = config()
    frames = [_scores(random_verdicts(12, 0, 0.2), benchmark=name) for name in study.evaluation.benchmarks]
    for place, (arm, seed) in enumerate(study.runs()):
        for step in (8, 16):
            verdicts = random_verdicts(12, 100 * place + step, 0.2 + step / 40)
            frames.append(_scores(verdicts, arm, seed, step))
        frames.append(_scores(random_verdicts(12, 100 * place, 0.6), arm, seed, 16, "ifbench"))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def discriminators(tmp_path):
    paths = {}
    for name, auprc in (("full", 0.87), ("few", 0.55)):
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(_quality(auprc)))
    return paths


@pytest.fixture
def write(tmp_path, config, study_scores, discriminators):
    """Writes a report of the study, with what a test changes; returns the results folder."""
    from rtt.report.write import write_report

    def written(table=None, study=None, **changes):
        table = study_scores if table is None else table
        paths = []
        if len(table):
            paths = [tmp_path / "scores.parquet"]
            write_table(table, Scores, paths[0])
        values = {"scores": paths, "discriminators": discriminators, "left_out": [], "output": tmp_path / "results"}
        write_report(study or config(), **{**values, **changes})
        return tmp_path / "results"

    return written


@pytest.fixture(scope="module")
def demo_server(tiny_policy, tmp_path_factory):
    """A demo whose base and trained policy have the same weights."""
    from rtt.policy.checkpoints import seal
    from rtt.report.demo import Demo, make_server

    checkpoint = tmp_path_factory.mktemp("demo") / "checkpoint"
    shutil.copytree(tiny_policy, checkpoint)
    seal(checkpoint)
    server = make_server(Demo(tiny_policy, checkpoint, None, None), 0)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
