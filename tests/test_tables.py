"""Tables: one failure lists every problem, and what was written before a failure stays."""

from __future__ import annotations

import resource
from pathlib import Path

import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.tables import Labels, Prompts, Responses, Scores, Verdicts, check_table, read_table, write_table

RUBRICS = '[{"rubric_id": "tea/0/0", "kind": "punctuation:no_comma", "text": "Use no comma.", "kwargs": {}}]'
PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["tea/0", "tea/1"],
        "split": "train",
        "topic": "tea",
        "prompt": "Describe tea.",
        "rubrics": RUBRICS,
    }
)
VERDICTS = pd.DataFrame(
    {
        "response_id": ["tea/0#0", "tea/0#1"],
        "prompt_id": "tea/0",
        "rubric_id": "tea/0/0",
        "kind": "punctuation:no_comma",
        "verdict": [1.0, float("nan")],
        "judge": "rule",
        "reason": ["", "ValueError: no sentence"],
    }
)
LABELS = pd.DataFrame(
    {
        "response_id": ["tea/0#0"],
        "prompt_id": "tea/0",
        "rubric_id": "tea/0/0",
        "kind": "punctuation:no_comma",
        "split": "train",
        "criterion": "Use no comma.",
        "response": "Hot, wet",
        "verdict": -1.0,
        "spans": "[[3, 4], [4, 8]]",
        "annotator": "rule",
    }
)
SCORES = pd.DataFrame(
    {
        "arm": ["base"],
        "seed": 0,
        "step": 0,
        "benchmark": "validation",
        "prompt_id": "tea/0",
        "rubric_id": "tea/0/0",
        "kind": "punctuation:no_comma",
        "strict": False,
        "loose": True,
        "sample": 0,
        "empty": False,
        "protocol": "greedy/1",
        "budget": 48,
        "judge": "if-verifiable 0.1.2",
        "groups": "{}",
        "tokens": 3,
        "truncated": False,
    }
)


def problems(table: pd.DataFrame, model: type) -> list[str]:
    """The lines between what was wrong and where."""
    with pytest.raises(UserError) as caught:
        check_table(table, model, "here.parquet")
    first, *lines = caught.value.what.splitlines()
    assert first == f"the table {model.__name__} is malformed:"
    assert caught.value.where == "here.parquet"
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("table", "model"), [(PROMPTS, Prompts), (VERDICTS, Verdicts), (LABELS, Labels), (SCORES, Scores)]
)
def test_right_table_passes_unchanged(table, model):
    pd.testing.assert_frame_equal(check_table(table, model, "here"), table)


def test_one_failure_lists_every_problem():
    wrong = PROMPTS.assign(split=["train", "Dev"], prompt=["", "Describe tea."], rubrics=[RUBRICS, "[]"], mood="calm")
    found = problems(wrong.drop(columns="topic"), Prompts)
    assert sorted(line.split(":")[0] for line in found) == [
        "column mood",
        "column prompt",
        "column rubrics",
        "column split",
        "column topic",
    ]
    assert any("in rows 1, such as 'Dev'" in line for line in found)


def test_every_missing_and_unknown_column_is_named():
    found = problems(PROMPTS.drop(columns=["topic", "prompt"]).assign(mood="calm", age=3), Prompts)
    assert sorted(found) == [
        "column age: it is not known",
        "column mood: it is not known",
        "column prompt: it is missing",
        "column topic: it is missing",
    ]


def test_missing_verdict_needs_a_reason_and_a_given_one_has_none():
    assert problems(VERDICTS.assign(reason=["", ""]), Verdicts) == ["missing_has_a_reason failed for 1 row(s): 1"]
    assert problems(VERDICTS.assign(reason="why"), Verdicts) == ["missing_has_a_reason failed for 1 row(s): 0"]


def test_second_verdict_on_a_pair_is_refused():
    assert problems(VERDICTS.assign(response_id="tea/0#0"), Verdicts) == ["one_verdict_per_pair failed for 1 row(s): 1"]


def test_span_beyond_the_response_is_refused():
    assert problems(LABELS.assign(spans="[[3, 9]]"), Labels) == ["spans_lie_in_the_response failed for 1 row(s): 0"]


@pytest.mark.parametrize(
    "spans", ["nonsense", "3", "{}", "[[2, 1]]", "[[1, 1]]", "[[3, 5], [4, 6]]", "[[-1, 2]]", "[[0, 1.5]]", "[[0]]"]
)
def test_spans_that_are_no_sorted_disjoint_pairs_are_one_problem(spans):
    (line,) = problems(LABELS.assign(spans=spans), Labels)
    assert line.startswith("column spans: spans_parse failed for 1 value(s) in rows 0")


def test_strict_without_loose_is_refused():
    assert problems(SCORES.assign(strict=True, loose=False), Scores) == ["strict_implies_loose failed for 1 row(s): 0"]


@pytest.mark.parametrize("rubrics", ["", "[]", "{}", '[{"kind": "k"}]', RUBRICS.replace('"kwargs"', '"arguments"')])
def test_rubrics_that_do_not_parse_are_refused(rubrics):
    (line,) = problems(PROMPTS.assign(rubrics=rubrics), Prompts)
    assert line.startswith("column rubrics: rubrics_parse failed for 2 value(s)")


def test_repeated_id_is_refused():
    (line,) = problems(PROMPTS.assign(prompt_id="tea/0"), Prompts)
    assert line.startswith("column prompt_id: field_uniqueness failed")


def test_values_are_never_turned_into_another_type():
    (line,) = problems(SCORES.assign(seed=0.0), Scores)
    assert line.startswith("column seed: dtype('int64') failed")


def test_empty_table_is_refused():
    with pytest.raises(UserError, match="the table Prompts has no rows"):
        check_table(PROMPTS.iloc[:0], Prompts, "here")


def test_written_table_is_read_back(tmp_path: Path):
    path = tmp_path / "deep" / "prompts.parquet"
    write_table(PROMPTS, Prompts, path)
    pd.testing.assert_frame_equal(read_table(path, Prompts), PROMPTS)
    assert [file.name for file in path.parent.iterdir()] == ["prompts.parquet"]


def test_wrong_table_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "prompts.parquet"
    write_table(PROMPTS, Prompts, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="column topic: it is missing"):
        write_table(PROMPTS.drop(columns="topic"), Prompts, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_that_breaks_off_leaves_the_old_file_and_no_partial(tmp_path: Path):
    path = tmp_path / "prompts.parquet"
    path.write_bytes(b"the old table")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # the system refuses the write in its middle
    try:
        with pytest.raises(OSError, match="File too large"):
            write_table(PROMPTS, Prompts, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"the old table"
    assert list(tmp_path.iterdir()) == [path]


def test_rename_that_fails_leaves_no_partial(tmp_path: Path):
    taken = tmp_path / "table.parquet"
    taken.mkdir()
    with pytest.raises(OSError, match=r"table\.parquet"):
        write_table(PROMPTS, Prompts, taken)
    assert list(tmp_path.iterdir()) == [taken]


def test_absent_and_damaged_files_are_told_apart(tmp_path: Path):
    with pytest.raises(UserError, match="the table is not there"):
        read_table(tmp_path / "absent.parquet", Responses)
    damaged = tmp_path / "damaged.parquet"
    write_table(PROMPTS, Prompts, damaged)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(UserError, match="the table cannot be read"):
        read_table(damaged, Prompts)
