"""A benchmark's own evaluator: called as a process of its own, believed only where it says what was asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from rtt.cli import main
from rtt.data.benchmarks import load_benchmark
from rtt.errors import UserError
from rtt.evaluation.evaluator import ask_evaluator
from rtt.sources import fetch

# In MulDimIF's form: check() takes its rows with the answer as the last turn, and adds a 0 or 1 for each constraint.
EVALUATION = """
def check(data):
    for item in data:
        answer = item["conversations"][-1]
        assert answer["role"] == "assistant"
        short = len(answer["content"]) < 9
        item["judges"] = [1 if kind == "Words" and short else 0 for _, kind, _ in item["constraints"]]
    return data
"""
ROWS = [
    {
        "id": str(number),
        "conversations": [{"role": "user", "content": f"Question {number}"}],
        "constraints": [["Length", "Words", "At most 3 words"], ["XML", "Number of attributes", "At most one"]],
        "constraint_pattern": "Listing",
        "difficulty": "Level 1",
    }
    for number in range(3)
]
ANSWERS = ["short", "a long one", " "]


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "evaluator"
    folder.mkdir()
    (folder / "evaluation.py").write_text(EVALUATION)
    return folder


@pytest.fixture
def prompts(tmp_path) -> pd.DataFrame:
    (tmp_path / "test.json").write_text(json.dumps(ROWS))
    return load_benchmark(tmp_path / "test.json", "muldimif")


def responses(prompts: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"response_id": f"{name}#0", "prompt_id": name, "sample": 0, "response": text, "tokens": 1, "truncated": False}
        for name, text in zip(prompts["prompt_id"], ANSWERS, strict=True)
    )


def test_its_verdicts_are_taken_and_an_empty_answer_fails(folder, prompts):
    name, given = ask_evaluator("muldimif", folder, responses(prompts), prompts)
    assert name.startswith("muldimif's evaluator ")
    assert given == {
        ("muldimif/0#0", "muldimif/0/0"): True,
        ("muldimif/0#0", "muldimif/0/1"): False,
        ("muldimif/1#0", "muldimif/1/0"): False,
        ("muldimif/1#0", "muldimif/1/1"): False,
        ("muldimif/2#0", "muldimif/2/0"): False,  # its answer is empty, whatever the evaluator says
        ("muldimif/2#0", "muldimif/2/1"): False,
    }


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import not_installed_here", "No module named 'not_installed_here'"),
        ("def check(data):\n    return [{'judges': [1]} for _ in data]", "it gave 1 verdicts on muldimif/0#0"),
        ("import os\nos._exit(0)", "it said nothing"),
    ],
)
def test_one_that_stops_or_judges_something_else_is_refused(folder, prompts, source, what):
    (folder / "evaluation.py").write_text(source)
    with pytest.raises(UserError) as caught:
        ask_evaluator("muldimif", folder, responses(prompts), prompts)
    assert what in caught.value.what


def test_a_benchmark_without_one_is_refused_by_name(folder, prompts):
    with pytest.raises(UserError, match="ifeval has no evaluator"):
        ask_evaluator("ifeval", folder, responses(prompts), prompts)
    with pytest.raises(UserError, match="the evaluator is not there"):
        ask_evaluator("muldimif", folder / "no", responses(prompts), prompts)


def test_it_is_fetched_at_a_commit(folder, tmp_path):
    def git(*line: str) -> str:
        environment = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        done = subprocess.run(["git", "-C", folder, *environment, *line], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    (folder / "evaluation.py").write_text("changed")
    git("commit", "-qam", "two")
    uri = f"git:file://{folder}@{commit}"
    fetch(uri, file="", sha256=None, destination=tmp_path / "fetched")
    assert (tmp_path / "fetched" / "evaluation.py").read_text() == EVALUATION
    assert not (tmp_path / "fetched" / ".git").exists()
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch(f"git:file://{folder}@{'0' * 40}", file="", sha256=None, destination=tmp_path / "other")
    with pytest.raises(UserError, match="not pinned to one commit"):
        fetch(f"git:file://{folder}@main", file="", sha256=None, destination=tmp_path / "other")


def test_scores_say_who_decided(folder, prompts, tmp_path, nltk_data, capsys):
    lines = [json.dumps({"prompt": f"Question {number}", "response": text}) for number, text in enumerate(ANSWERS)]
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    line = ["evaluate", "score", "--benchmark", "muldimif", "--prompts", str(tmp_path / "test.json")]
    line += ["--responses", str(tmp_path / "answers.jsonl"), "--nltk", str(nltk_data)]
    line += ["--output", str(tmp_path / "verdicts.jsonl")]
    main([*line, "--evaluator", str(folder)])
    said = capsys.readouterr().out
    assert "3 prompts, 6 instructions; as given; judged by muldimif's evaluator" in said
    assert "instruction_strict 0.1667" in said
    assert "family: Length" in said
    assert "pattern: Listing" in said
    assert "level: Level 1" in said
    # without it a prompt that nobody decides is left out and named; here that is all of them
    with pytest.raises(SystemExit, match="no prompt of muldimif can be scored"):
        main(line)
