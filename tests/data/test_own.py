"""A user's own prompts: what is read, and what is refused by file and line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rtt.cli import main
from rtt.data.read import read_prompts
from rtt.errors import UserError
from rtt.rubrics import JUDGED, PROGRAM, parse_rubrics
from rtt.tables import Prompts, read_table

ROOT = Path(__file__).parents[2]


def own(**changes):
    rubric = {"kind": "keywords:existence", "text": "Mention tea.", "kwargs": {"keywords": ["tea"]}}
    return {"prompt": "Write about tea.", "rubrics": [rubric], **changes}


def rubric(**changes):
    return own(rubrics=[{"kind": "punctuation:no_comma", "text": "No commas.", **changes}])


def test_own_prompts_are_read(tmp_path):
    path = tmp_path / "mine.jsonl"
    lines = [json.dumps(own()), "", json.dumps(own(prompt="A\u2028B", topic="drinks", split="validation")), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    table = read_prompts(path)
    Prompts.validate(table)
    assert table["prompt_id"].tolist() == ["mine/0001", "mine/0003"]
    assert table["topic"].tolist() == ["mine/0001", "drinks"]
    assert table["split"].tolist() == ["train", "validation"]
    [read] = parse_rubrics(table["rubrics"][0])
    assert read.model_dump(exclude={"weight"}) == {
        "rubric_id": "mine/0001/0",
        "kind": "keywords:existence",
        "text": "Mention tea.",
        "kwargs": {"keywords": ["tea"]},
    }


def test_arguments_of_own_rubrics_that_are_none_are_left_out(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(rubric(kind="keywords:existence", kwargs={"keywords": ["tea"], "language": None})))
    assert parse_rubrics(read_prompts(path)["rubrics"][0])[0].kwargs == {"keywords": ["tea"]}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('{"prompt": "a", ', "not JSON"),
        ("[1, 2]", "the row"),
        ({"rubrics": own()["rubrics"]}, "prompt"),
        (own(prompt=""), "prompt"),
        (own(rubrics=[]), "rubrics"),
        ({"prompt": "a"}, "rubrics"),
        (own(rubric="Mention tea."), "rubric"),
        (own(rubrics=[{"kind": "punctuation:no_comma"}]), "rubrics.0.text"),
        (own(split="test"), "unknown split 'test'"),
        (rubric(kind="punctuation:no_coma"), "unknown rubric kind 'punctuation:no_coma'"),
        (rubric(kwargs={"letter": "a"}), "letter"),
        (rubric(kind="keywords:existence"), "missing"),
        (rubric(kind="keywords:existence", kwargs={"keywords": ["tea("]}), r"tea\("),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, row, what):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(own()) + "\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    with pytest.raises(UserError, match=what) as caught:
        read_prompts(path)
    assert caught.value.where == f"{path}, line 2"
    assert caught.value.todo


@pytest.mark.parametrize(("content", "what"), [(b"", "empty"), (b"\n \n", "empty"), (b"\xff\xfe\x00", "not UTF-8")])
def test_a_file_without_prompts_is_refused(tmp_path, content, what):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        read_prompts(path)
    assert caught.value.where == str(path)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl")


def written(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


TURN = {"role": "user", "content": "x"}
PROGRAM_TEXT = "def check_following(instruction, response):\n    return True"


def test_a_rubric_may_be_a_text_a_weighted_text_or_bring_its_check(tmp_path):
    rubrics = [
        "The tone stays friendly.",
        {"text": "It is short.", "weight": 2.5},
        {"text": "No commas.", "check": {"kind": "punctuation:no_comma"}},
        {"text": "It runs.", "check": {"program": PROGRAM_TEXT}},
        {"text": "At most 5 words.", "check": {"kind": "muldimif:words", "kwargs": {"least": None, "most": 5}}},
    ]
    found = parse_rubrics(read_prompts(written(tmp_path, {"prompt": "Hi.", "rubrics": rubrics}))["rubrics"][0])
    assert [rubric.kind for rubric in found] == [JUDGED, JUDGED, "punctuation:no_comma", PROGRAM, "muldimif:words"]
    assert [rubric.weight for rubric in found] == [1, 2.5, 1, 1, 1]
    assert found[4].kwargs == {"most": 5}
    assert found[3].kwargs == {"source": PROGRAM_TEXT, "instruction": "Hi."}


def test_conversations_are_kept_and_single_messages_need_no_column(tmp_path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And now?"},
    ]
    table = read_prompts(written(tmp_path, {"prompt": turns, "rubrics": ["a"]}, {"prompt": "One.", "rubrics": ["b"]}))
    assert table["prompt"].tolist() == ["And now?", "One."]
    assert json.loads(table["messages"][0]) == turns
    assert json.loads(table["messages"][1]) == [{"role": "user", "content": "One."}]
    assert "messages" not in read_prompts(written(tmp_path, {"prompt": turns[1:2], "rubrics": ["a"]}))


def test_parquet_is_read_like_jsonl(tmp_path):
    rows = [
        {"prompt": "Hi.", "rubrics": [{"text": "a", "weight": 2.0}, {"text": "b", "weight": None}], "id": "x"},
        {"prompt": "Yes.", "rubrics": [{"text": "c", "weight": None}], "id": "y"},
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    table = read_prompts(tmp_path / "mine.parquet")
    assert table["prompt_id"].tolist() == ["x", "y"]
    assert [rubric.weight for rubric in parse_rubrics(table["rubrics"][0])] == [2, 1]
    (tmp_path / "mine.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "mine.parquet")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, "role"),
        ({"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "last message"),
        ({"prompt": [TURN, {"role": "system", "content": "y"}, TURN]}, "first"),
        ({"rubrics": [{"text": "a", "weight": 0}]}, "weight"),
        ({"rubrics": [{"text": "a", "weight": -1}]}, "weight"),
        ({"rubrics": [""]}, "text"),
        ({"rubrics": [" "]}, "rubrics.0.text: it is blank"),
        ({"prompt": " "}, "prompt: it is blank"),
        ({"prompt": [{"role": "user", "content": " "}]}, "prompt.0.content: it is blank"),
        ({"id": " "}, "id: it is blank"),
        ({"rubrics": [{"text": "a", "check": {"program": "x = 1"}}]}, "does not define check_following"),
        ({"rubrics": [{"text": "a", "check": {}}]}, "either a kind or a program"),
        ({"rubrics": [{"text": "a", "check": {"kind": "tone:kind"}}]}, "unknown rubric kind"),
        ({"rubrics": [{"text": "a", "check": {"kind": "muldimif:words", "kwargs": {"number": 3}}}]}, "number"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, changes, what):
    path = written(tmp_path, own(), {**own(), **changes})
    with pytest.raises(UserError, match=what) as caught:
        read_prompts(path)
    assert caught.value.where == f"{path}, line 2"


def test_everything_wrong_is_told_at_once_up_to_ten_rows(tmp_path):
    path = written(tmp_path, own(), *[{"prompt": "x"}] * 12, own(id="a"), own(id="a"))
    with pytest.raises(UserError, match="13 rows are malformed") as caught:
        read_prompts(path)
    assert caught.value.what.count("rubrics: Field required") == 10
    assert "and 3 more" in caught.value.what
    assert f"{path}, line 11" in caught.value.what


def test_json_is_a_list_of_rows_or_an_object_a_line(tmp_path):
    path = tmp_path / "mine.json"
    for text in (json.dumps([own(id=7), own()], indent=1), f"{json.dumps(own(id=7))}\n{json.dumps(own())}"):
        path.write_text(text)
        assert read_prompts(path)["prompt_id"].tolist() == ["7", "mine/0002"]
    path.write_text(json.dumps([own()], indent=1)[:-4])
    with pytest.raises(UserError, match="not JSON"):
        read_prompts(path)


def test_the_format_is_told_by_the_first_line_that_can_be_read(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('not json\n{"prompt": "p", "rubrics": [{"description": "d"}], "source": "x", "ground_truth": {}}')
    with pytest.raises(UserError, match="2 rows") as caught:
        read_prompts(path)
    assert "line 2: source" in str(caught.value)  # read as HIR-16K


def test_an_id_that_stands_twice_is_refused(tmp_path):
    path = written(tmp_path, own(id="a"), own(id="b"), own(id="a"))
    with pytest.raises(UserError, match="line 1 too") as caught:
        read_prompts(path)
    assert caught.value.where == f"{path}, line 3"


def test_splits_go_by_topic_and_seed_and_held_out_kinds_go_apart(tmp_path):
    rows = [own(topic=f"topic {n % 60}") for n in range(300)] + [{**rubric(), "topic": "topic 1"} for _ in range(5)]
    shares = {"train": 0.7, "validation": 0.1, "heldout_topics": 0.2}
    path = written(tmp_path, *rows)
    table = read_prompts(path, shares=shares, heldout_kinds=("punctuation:no_comma",))
    assert (table["split"][300:] == "heldout_kinds").all()
    by_topic = table[:300].groupby("topic")["split"].nunique()
    assert (by_topic == 1).all()
    counts = table[:300]["split"].value_counts(normalize=True)
    assert 0.5 < counts["train"] < 0.9
    assert set(counts.index) == set(shares)
    again = read_prompts(path, shares=shares, heldout_kinds=("punctuation:no_comma",))
    assert again["split"].equals(table["split"])
    assert not read_prompts(path, shares=shares, seed=1)["split"].equals(table["split"])


def test_own_prompts_come_into_the_workflow_by_configuration(tmp_path):
    path = written(tmp_path, *[own(topic=f"topic {n}") for n in range(40)], {**rubric(), "topic": "x"})
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["sources"]["prompts"] = {"uri": f"file:{path}"}
    values["prompts"]["heldout_kinds"] = ["punctuation:no_comma"]
    values["results"] = str(tmp_path / "results")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    source, table = tmp_path / "results" / "data" / "source", tmp_path / "results" / "data" / "prompts.parquet"
    main(["fetch", "prompts", "--config", str(config), "--output", str(source)])
    main(["prompts", "--config", str(config), "--input", str(source), "--split", "--output", str(table)])
    prompts = read_table(table, Prompts)
    assert len(prompts) == 41
    assert set(prompts["split"]) == {"train", "validation", "heldout_topics", "heldout_kinds"}
    dry = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--configfile", str(config), "--nolock"]
    shown = subprocess.run(
        [*dry, "--forcerun", "fetch_prompts", "--directory", str(ROOT)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "fetch_prompts" in shown.stdout + shown.stderr


def test_training_prompts_keep_their_first_rubrics_and_others_all(tmp_path):
    rubrics = [{"text": f"Rule {number}."} for number in range(3)]
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text(
        "".join(json.dumps(own(rubrics=rubrics, split=split)) + "\n" for split in ("train", "validation"))
    )
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["prompts"]["max_rubrics"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    output = tmp_path / "prompts.parquet"
    line = ["prompts", "--config", str(tmp_path / "config.yaml"), "--input", str(prompts), "--output", str(output)]
    main(line)
    kept = [[one.text for one in parse_rubrics(text)] for text in read_table(output, Prompts)["rubrics"]]
    assert kept == [["Rule 0.", "Rule 1."], ["Rule 0.", "Rule 1.", "Rule 2."]]
