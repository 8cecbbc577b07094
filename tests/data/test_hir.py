"""HIR-16K's four types: every rubric goes to what can decide it, and none is lost on the way."""

from __future__ import annotations

import json
import random

import nltk
import pandas as pd
import pytest

from rtt.cli import main
from rtt.data.census import census, route_of, why_judged
from rtt.data.files import read_records
from rtt.data.read import read_prompts
from rtt.errors import UserError
from rtt.judging import rules
from rtt.rubrics import JUDGED, PROGRAM, parse_rubrics

RULES = [
    ("punctuation:no_comma", {}),
    ("length_constraints:number_words", {"num_words": 50, "relation": "less than", "other": None}),
    ("keywords:existence", {"keywords": ["tea"], "language": None}),
]
CONSTRAINTS = [
    ("Length", "Words", "The answer must be at most 50 words."),
    ("Content", "Keywords", "must include the keyword 'tea'"),
    ("Language", "Chinese", "must be in Simplified Chinese"),
]
UNKNOWN = ("words:keywords_specific_position_x", {})
PROGRAMS = ["def check_following(instruction, response):\n    return 'tea' in response", None, ""]


def hir_row(number: int, draw: random.Random) -> dict:
    """A row of one of the four types, with the oddities of the published ones."""
    kind = f"type{number % 4 + 1}"
    count = draw.randint(1, 3)
    truth: dict = {}
    if kind in ("type1", "type2"):
        chosen = (
            draw.choices(RULES, k=count) if kind == "type1" else [("words:keywords_specific_position_x", {})] * count
        )
        if kind == "type2" and draw.random() < 0.7:
            chosen = [("count:word_count_range", {"min_words": 1, "max_words": 30})] * count
        truth = {
            "instruction_id_list": [name for name, _ in chosen],
            "kwargs": [kwargs or None for _, kwargs in chosen],
        }
    elif kind == "type3":
        truth = {"constraints": [list(draw.choice(CONSTRAINTS)) for _ in range(count)]}
    else:
        tags = [draw.choice(["[rule] count", "[llm] tone", "count"]) for _ in range(count)]
        truth = {"checker": tags, "functions": [draw.choice(PROGRAMS) for _ in range(count)]}
    asked = (
        {"prompt": f"Question {number}?"}
        if draw.random() < 0.7
        else {"messages": [{"role": "system", "content": "S."}, {"role": "user", "content": f"Question {number}?"}]}
    )
    return {
        "id": f"r{number}",
        **asked,
        "rubrics": [{"description": f"rubric {k} of {number}"} for k in range(count)],
        "source": kind,
        "ground_truth": json.dumps(truth) if draw.random() < 0.5 else truth,
        "other": "ignored",
    }


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    draw = random.Random(0)
    return [hir_row(number, draw) for number in range(200)]


@pytest.fixture(scope="module")
def file(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("hir") / "hir.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def table(file) -> pd.DataFrame:
    return read_prompts(file)


def test_no_rubric_is_lost(rows, table):
    whole = census(table).set_index("origin")
    assert len(table) == 200
    assert whole.loc["all", "rubrics"] == sum(len(row["rubrics"]) for row in rows)
    assert (whole[["rule", "constraint", "program", "judge"]].sum(axis=1) == whole["rubrics"]).all()
    assert whole.loc["type1", "rule"] == whole.loc["type1", "rubrics"]
    assert whole.loc["type3", "constraint"] > 0
    assert whole.loc["type4", "program"] > 0
    assert set(whole.index) == {"type1", "type2", "type3", "type4", "all"}
    texts = {rubric.text for text in table["rubrics"] for rubric in parse_rubrics(text)}
    assert texts == {rubric["description"] for row in rows for rubric in row["rubrics"]}


def test_each_rubric_goes_where_its_row_says(rows, table):
    by_id = dict(zip(table["prompt_id"], table["rubrics"], strict=True))
    for row in rows:
        rubrics = parse_rubrics(by_id[f"hir/{row['id']}"])
        truth = row["ground_truth"]
        truth = json.loads(truth) if isinstance(truth, str) else truth
        for k, rubric in enumerate(rubrics):
            if row["source"] == "type1":
                name, kwargs = truth["instruction_id_list"][k], truth["kwargs"][k] or {}
                given = {key: value for key, value in kwargs.items() if value is not None}
                assert (rubric.kind, rubric.kwargs) == (name, given)
            elif row["source"] == "type3":
                decided = truth["constraints"][k][0] != "Language"
                assert route_of(rubric) == ("constraint" if decided else "judge")
            elif row["source"] == "type4":
                program = truth["checker"][k].startswith("[rule]") and bool(truth["functions"][k])
                assert rubric.kind == (PROGRAM if program else JUDGED)


def test_what_goes_to_a_reader_is_counted_by_reason(table):
    reasons = why_judged(table)
    assert sum(reasons.values()) == census(table).set_index("origin").loc["all", "judge"]
    assert set(reasons) == {
        "no checker is called words:keywords_specific_position_x",
        "no checker decides Language, Chinese",
        "marked for a reader",
        "marked neither for a rule nor for a reader",
        "marked for a rule, and has no program",
    }


def test_conversations_of_hir_are_kept(rows, table):
    for row, messages in zip(rows, table["messages"], strict=True):
        assert json.loads(messages) == row.get("messages", [{"role": "user", "content": row.get("prompt")}])


def test_arguments_a_checker_refuses_go_to_a_reader(tmp_path):
    truth = {"instruction_id_list": ["keywords:existence"], "kwargs": [{"words": 3}]}
    row = {"prompt": "p", "rubrics": [{"description": "d"}], "source": "type1", "ground_truth": truth}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row))
    (rubric,) = parse_rubrics(read_prompts(path)["rubrics"][0])
    assert (rubric.kind, rubric.kwargs["why"]) == (JUDGED, "the checker keywords:existence refuses the arguments")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"source": "type5"}, "source"),
        ({"rubrics": []}, "rubrics"),
        ({"ground_truth": "{not json"}, "no JSON"),
        ({"ground_truth": {"instruction_id_list": ["punctuation:no_comma"] * 2}}, "1 rubrics and 2 entries"),
        ({"prompt": None}, "neither a prompt nor messages"),
        ({"prompt": " \n"}, "prompt: it is blank"),
        ({"rubrics": [{"description": " "}]}, "rubrics.0.description: it is blank"),
        (
            {"source": "type4", "ground_truth": {"checker": ["[rule] a"], "functions": ["x", "y"]}},
            "1 rubrics and 2 functions",
        ),
        ({"prompt": None, "messages": [{"role": "assistant", "content": "x"}]}, "last message"),
    ],
)
def test_a_malformed_row_of_hir_is_named(tmp_path, changes, what):
    truth = {"instruction_id_list": ["punctuation:no_comma"]}
    good = {"prompt": "p", "rubrics": [{"description": "d"}], "source": "type1", "ground_truth": truth}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **changes}))
    with pytest.raises(UserError, match=what) as caught:
        read_prompts(path)
    assert caught.value.where == f"{path}, line 2"


def test_splits_of_hir_go_by_prompt_and_not_by_type(file, table):
    shares = {"train": 0.8, "validation": 0.1, "heldout_topics": 0.1}
    split = read_prompts(file, shares=shares)
    by_type = split.groupby("topic")["split"].value_counts(normalize=True).unstack()
    assert list(by_type.index) == ["type1", "type2", "type3", "type4"]
    assert ((by_type["train"] > 0.6) & (by_type["train"] < 1)).all()
    assert split["prompt_id"].equals(table["prompt_id"])
    assert set(table["split"]) == {"train"}


def test_absent_nltk_data_sends_no_rubric_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [])
    nltk.tokenize._get_punkt_tokenizer.cache_clear()
    rules._build.cache_clear()
    truth = {"instruction_id_list": ["length_constraints:number_sentences"]}
    truth["kwargs"] = [{"num_sentences": 3, "relation": "at least"}]
    row = {"prompt": "p", "rubrics": [{"description": "d"}], "source": "type1", "ground_truth": truth}
    mine = {"prompt": "p", "rubrics": [{"text": "d", "check": {"kind": "muldimif:sentences", "kwargs": {"most": 3}}}]}
    for value, route in ((row, "rule"), (mine, "constraint")):
        path = tmp_path / f"{route}.jsonl"
        path.write_text(json.dumps(value))
        (rubric,) = parse_rubrics(read_prompts(path)["rubrics"][0])
        assert route_of(rubric) == route


def test_a_folder_and_parquet_hold_the_same(rows, tmp_path, table):
    frame = pd.DataFrame(rows)
    frame["ground_truth"] = [t if isinstance(t, str) else json.dumps(t) for t in frame["ground_truth"]]
    (tmp_path / "data").mkdir()
    frame[:100].to_parquet(tmp_path / "data" / "a.parquet")
    frame[100:].to_parquet(tmp_path / "data" / "b.parquet")
    read = read_prompts(tmp_path, form="hir")
    assert read["prompt"].tolist() == table["prompt"].tolist()
    assert [[r.kind for r in parse_rubrics(t)] for t in read["rubrics"]] == [
        [r.kind for r in parse_rubrics(t)] for t in table["rubrics"]
    ]


def test_a_large_file_is_read_row_by_row(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "rubrics": ["b"]}\nnot json\n')
    records = read_records(path)
    assert next(records)[1]["prompt"] == "a"  # before the second line has been looked at
    assert "not JSON" in str(next(records)[1])


def test_the_check_shows_what_would_be_judged_how(file, capsys):
    main(["data", "check", str(file)])
    shown = capsys.readouterr().out
    assert "200 prompts (train 200), nothing malformed" in shown
    for line in ("type4", "no checker decides Language, Chinese", "marked for a reader", "The first of each:"):
        assert line in shown
    assert "constraint (muldimif:" in shown


def test_of_many_topics_only_the_sum_is_shown(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"p {n}", "rubrics": ["a"], "topic": f"t{n}"}) for n in range(40)))
    main(["data", "check", str(path)])
    shown = capsys.readouterr().out
    assert "t7" not in shown
    assert " all" in shown


def test_the_check_of_a_bad_file_is_one_message_and_a_failure(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "rubrics": ["c"]}\n{"rubrics": ["d"]}\nnot json\n')
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(path)])
    message = str(stopped.value)
    assert message.startswith("error: 3 rows are malformed")
    assert "line 1" in message
    assert "line 3" in message
    assert "line 4: not JSON" in message
