"""Answers from anywhere on a benchmark, through the command line."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from rtt.cli import main

BENCHMARK = [
    {
        "key": 7,
        "prompt": "Write without commas and say yes.",
        "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
        "kwargs": [{}, {"keywords": ["yes"]}],
    },
    {
        "key": 12,
        "prompt": "Shout.",
        "instruction_id_list": ["change_case:english_capital"],
        "kwargs": [{"num_words": None}],
    },
    {
        "key": 13,
        "prompt": "End well.",
        "instruction_id_list": ["startend:end_checker"],
        "kwargs": [{"end_phrase": "Bye."}],
    },
]
ANSWERS = [
    {"prompt": "End well.", "response": "*So long. Bye.*\nP.S. none", "model": "x"},
    {"prompt": "Write without commas and say yes.", "response": "No, yes."},
    {"prompt": "Shout.", "response": " "},
]


@pytest.fixture
def score(tmp_path, nltk_data):
    """Scores what a test changes; returns the output's path."""

    def run(benchmark=BENCHMARK, answers=ANSWERS, output="verdicts.jsonl", name="ifeval"):
        for file, rows in (("benchmark.jsonl", benchmark), ("answers.jsonl", answers)):
            text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / file).write_text(text)
        places = ["--prompts", tmp_path / "benchmark.jsonl", "--responses", tmp_path / "answers.jsonl"]
        places += ["--nltk", nltk_data, "--output", tmp_path / output]
        main(["evaluate", "score", "--benchmark", name, *map(str, places)])
        return tmp_path / output

    return run


def test_one_row_an_instruction(score, capsys):
    rows = [json.loads(line) for line in score().read_text().splitlines()]
    assert rows == [
        {"key": "7", "instruction": 0, "instruction_id": "punctuation:no_comma", "strict": False, "loose": False},
        {"key": "7", "instruction": 1, "instruction_id": "keywords:existence", "strict": True, "loose": True},
        # an empty answer fails
        {
            "key": "12",
            "instruction": 0,
            "instruction_id": "change_case:english_capital",
            "strict": False,
            "loose": False,
        },
        # without its last line and its asterisks it ends as asked
        {"key": "13", "instruction": 0, "instruction_id": "startend:end_checker", "strict": False, "loose": True},
    ]
    said = capsys.readouterr().out
    assert "3 prompts, 4 instructions; as given; judged by if-verifiable" in said
    assert "empty              0.3333" in said
    assert "truncated" not in said  # nobody knows
    for line in (
        "prompt_strict      0.0000",
        "prompt_loose       0.3333",
        "instruction_strict 0.2500",
        "instruction_loose  0.5000",
    ):
        assert line in said


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_other_forms_hold_the_same(score, suffix):
    path = score(output=f"verdicts.{suffix}")
    table = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert table["strict"].tolist() == [False, True, False, False]
    assert table["key"].astype(str).tolist() == ["7", "7", "12", "13"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": ANSWERS[:2]}, "1 of 3 prompts have no answer, such as ifeval/12"),
        ({"answers": [*ANSWERS, ANSWERS[0]]}, "ifeval/13 is answered a second time\n  where: "),
        ({"answers": [*ANSWERS, {"prompt": "Other.", "response": "x"}]}, "1 answers are to no prompt of the benchmark"),
        ({"answers": [{"prompt": "Shout."}]}, "response: Field required"),
        ({"answers": [{"prompt": "Shout.", "response": None}]}, "response: Input should be a valid string"),
        ({"answers": [7]}, "Input should be a valid dictionary"),
        ({"answers": "{"}, "not JSON"),
        ({"answers": ""}, "the file is empty"),
        ({"output": "verdicts.txt"}, "no form goes with .txt"),
        ({"benchmark": [{**BENCHMARK[1], "instruction_id_list": ["no:such"]}]}, "unknown instruction 'no:such'"),
        ({"benchmark": [{**BENCHMARK[2], "kwargs": [{"end_phrase": 7}]}]}, "prompt ifeval/13"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(score, tmp_path, changes, said):
    with pytest.raises(SystemExit) as stopped:
        score(**changes)
    assert said in str(stopped.value)
    assert not (tmp_path / "verdicts.jsonl").exists()


def test_the_line_of_a_second_answer_is_named(score):
    with pytest.raises(SystemExit) as stopped:
        score(answers=[*ANSWERS, ANSWERS[0]])
    assert "answers.jsonl, line 4" in str(stopped.value)


@pytest.mark.parametrize(("name", "count"), [("ifeval", 834), ("ifbench", 335)])
def test_whole_benchmarks(score, shared_data, name, count):
    (path,) = (shared_data / name).glob("*.jsonl")
    benchmark = path.read_text()
    prompts = [json.loads(line)["prompt"] for line in benchmark.splitlines()]
    answers = [{"prompt": prompt, "response": f"{prompt} And that is all."} for prompt in prompts]
    rows = [json.loads(line) for line in score(benchmark, answers, name=name).read_text().splitlines()]
    assert len(rows) == count
    assert 0 < sum(row["strict"] for row in rows) < count
    assert all(row["loose"] for row in rows if row["strict"])


def test_without_prompts_it_says_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["score", "--benchmark", "ifeval", "--responses", "a.jsonl", "--output", "b.jsonl"])
    assert "the prompts of ifeval are not there" in str(stopped.value)
    assert "--prompts" in str(stopped.value)
