"""MulDimIF and AdvancedIF: what is read of their files, who decides, and what is refused by place."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rtt.data.benchmarks import NO_READER, load_benchmark, split_scorable
from rtt.errors import UserError
from rtt.evaluation.scoring import groups_of
from rtt.rubrics import JUDGED, parse_rubrics

WORDS = ["Length", "Words", "The response must contain no more than 150 words"]
XML = ["XML", "Number of attributes", "Each XML element must have no more than three attributes"]


def muldimif(**changes) -> dict:
    row = {
        "id": "100",
        "conversations": [{"role": "user", "content": "What is tea?"}],
        "constraints": [WORDS, XML],
        "constraint_pattern": "Listing",
        "difficulty": "Level 2",
    }
    return {**row, **changes}


def advancedif(**changes) -> dict:
    turns = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Name a river."},
    ]
    row = {
        "conversation_history": json.dumps(turns),
        "benchmark_name": "system_steerability_v2",
        # the published rubrics are sometimes JSON in JSON
        "prompt_metadata": json.dumps({"rubrics": json.dumps(["Is it one word?", "Is it a river?"])}),
    }
    return {**row, **changes}


def write(path: Path, *rows: dict) -> Path:
    path.write_text(json.dumps(list(rows), indent=1))
    return path


def test_muldimif_is_read_with_its_groups(tmp_path):
    table = load_benchmark(write(tmp_path / "muldimif.jsonl", muldimif()), "muldimif")
    (row,) = table.itertuples()
    assert (row.prompt_id, row.split, row.prompt) == ("muldimif/100", "muldimif", "What is tea?")
    words, xml = parse_rubrics(row.rubrics)
    assert words.kind.startswith("muldimif:")
    assert xml.kind == JUDGED  # no checker of ours reads XML
    groups = {name: json.loads(text) for name, text in groups_of(table).items()}
    common = {"pattern": "Listing", "level": "Level 2"}
    assert groups["muldimif/100/0"] == {**common, "family": "Length", "type": "Length: Words"}
    assert groups["muldimif/100/1"] == {**common, "family": "Format", "type": "XML: Number of attributes"}


def test_what_nobody_decides_is_left_out_with_the_reason(tmp_path):
    rows = [muldimif(), muldimif(id="101", constraints=[WORDS])]
    table = load_benchmark(write(tmp_path / "m.json", *rows), "muldimif")
    kept, left_out = split_scorable(table, has_tagger=True, has_reader=False)
    assert kept["prompt_id"].tolist() == ["muldimif/101"]
    assert left_out == {"muldimif/100": NO_READER}
    assert len(split_scorable(table, has_tagger=True, has_reader=True)[0]) == 2


def test_the_published_muldimif_is_read_whole(shared_data):
    table = load_benchmark(shared_data / "muldimif" / "test.json", "muldimif")
    assert len(table) == 1200
    groups = pd.DataFrame([json.loads(text) for text in groups_of(table).values()])
    assert len(groups) == 4180
    assert set(groups["family"]) == {"Content", "Format", "Language", "Length"}
    assert set(groups["pattern"]) == {"Example", "Incorporation", "Listing"}
    assert set(groups["level"]) == {f"Level {number}" for number in range(1, 5)}
    kept, left_out = split_scorable(table, has_tagger=True, has_reader=False)
    assert (len(kept), len(left_out)) == (544, 656)


def test_advancedif_is_read_as_conversations_for_a_reader(tmp_path):
    table = load_benchmark(write(tmp_path / "advancedif.jsonl", advancedif(), advancedif()), "advancedif")
    assert table["prompt_id"].tolist() == ["advancedif/1", "advancedif/2"]
    assert [turn["role"] for turn in json.loads(table["messages"][0])] == ["system", "user", "assistant", "user"]
    rubrics = parse_rubrics(table["rubrics"][0])
    assert [(one.kind, one.text) for one in rubrics] == [(JUDGED, "Is it one word?"), (JUDGED, "Is it a river?")]
    assert json.loads(groups_of(table)["advancedif/2/1"]) == {"aspect": "system_steerability_v2"}


def test_advancedif_is_read_from_parquet_whatever_its_name(tmp_path):
    pd.DataFrame([advancedif()]).to_parquet(tmp_path / "advancedif.jsonl")
    assert len(load_benchmark(tmp_path / "advancedif.jsonl", "advancedif")) == 1


@pytest.mark.parametrize(
    ("name", "row", "what"),
    [
        ("muldimif", muldimif(constraints=[]), "constraints: List should have at least 1 item"),
        ("muldimif", muldimif(constraints=[["Tone", "Warm", "Be warm."]]), "unknown category of constraint 'Tone'"),
        ("muldimif", muldimif(conversations=[{"role": "assistant", "content": "x"}]), "the last message must be"),
        ("muldimif", {"id": 1}, "conversations: Field required"),
        ("advancedif", advancedif(prompt_metadata="{"), "prompt_metadata: it is a text that is no JSON"),
        ("advancedif", advancedif(prompt_metadata="{}"), "prompt_metadata.rubrics: Field required"),
        ("advancedif", advancedif(benchmark_name=" "), "benchmark_name: it is blank"),
    ],
)
def test_a_malformed_row_is_refused_by_place(tmp_path, name, row, what):
    good = muldimif(id="0") if name == "muldimif" else advancedif()
    path = write(tmp_path / "rows.json", good, row)
    with pytest.raises(UserError) as caught:
        load_benchmark(path, name)
    assert what in caught.value.what
    assert str(caught.value.where) == f"{path}, row 2"
