"""Overlap of training prompts with benchmarks, on texts whose n-grams can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rtt.cli import main
from rtt.data.contamination import ngrams, overlaps, without
from rtt.rubrics import Rubric, dump_rubrics
from rtt.tables import Prompts, check_table, read_table, write_table

ROOT = Path(__file__).parents[2]


def table(*texts: str, split: str = "train", name: str = "p") -> pd.DataFrame:
    rubrics = [Rubric(rubric_id="x/0", kind="punctuation:no_comma", text="No commas.")]
    rows = [
        {"prompt_id": f"{name}/{k}", "split": split, "topic": "t", "prompt": text, "rubrics": dump_rubrics(rubrics)}
        for k, text in enumerate(texts)
    ]
    return check_table(pd.DataFrame(rows), Prompts, "test")


BENCH = table("Write a short poem about the cold sea.", "Name three rivers.", split="ifeval", name="ifeval")


def test_ngrams_ignore_case_punctuation_and_space():
    assert ngrams("Write a  SHORT poem!", 3) == {("write", "a", "short"), ("a", "short", "poem")}
    assert ngrams("Two words", 3) == {("two", "words")}
    assert ngrams(" … ", 3) == set()


def test_the_share_is_that_of_the_prompts_own_ngrams():
    # 7 words have 5 trigrams; "write a short", "a short poem", "short poem about" and "poem about the" are shared
    found = overlaps(table("write a short poem about the sun", "Nothing of the kind."), {"ifeval": BENCH}, 3)
    (row,) = found.itertuples()
    assert (row.prompt_id, row.benchmark_prompt_id, row.split) == ("p/0", "ifeval/0", "train")
    assert row.share == pytest.approx(4 / 5)
    assert row.shared == "a short poem"


def test_the_closest_prompt_of_each_benchmark_is_named():
    both = table("a b c d", "x b c d e", split="ifbench", name="ifbench")
    found = overlaps(table("b c d e"), {"ifbench": both}, 2)
    assert found[["benchmark_prompt_id", "share"]].values.tolist() == [["ifbench/1", 1.0]]


def test_only_training_prompts_go():
    prompts = pd.concat(
        [table("Name three rivers", "b"), table("name three rivers", split="validation", name="v")], ignore_index=True
    )
    found = overlaps(prompts, {"ifeval": BENCH}, 8)
    assert set(found["prompt_id"]) == {"p/0", "v/0"}
    assert without(prompts, found, 0.5)["prompt_id"].tolist() == ["p/1", "v/0"]
    assert len(without(prompts, found[:0], 0.5)) == 3


@given(st.lists(st.text(alphabet="ab ,.A", min_size=1), min_size=1, max_size=5), st.integers(1, 4))
def test_a_prompt_that_is_the_benchmarks_is_found_whole(texts, size):
    known = [text if text.strip() else "a" for text in texts]
    bench = table(*known, split="ifeval", name="ifeval")
    found = overlaps(table(*(text.upper() for text in known)), {"ifeval": bench}, size)
    wanted = {f"p/{k}" for k, text in enumerate(known) if ngrams(text, size)}
    assert set(found["prompt_id"]) == wanted
    assert (found["share"] == 1).all()


def test_the_made_prompts_and_the_published_benchmark_by_command(tmp_path, shared_data, nltk_data, capsys):
    bench = tmp_path / "ifeval.parquet"
    line = ["benchmark", "--name", "ifeval", "--input", str(shared_data / "ifeval/input_data.jsonl")]
    main([*line, "--nltk", str(nltk_data), "--output", str(bench), "--left-out", str(tmp_path / "left.json")])
    published = read_table(bench, Prompts)
    mine = published.head(3).assign(split="train", prompt_id=["a/0", "a/1", "a/2"])
    write_table(pd.concat([mine, table("Something else entirely")], ignore_index=True), Prompts, tmp_path / "p.parquet")
    values = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    line = ["contamination", "--config", str(tmp_path / "config.yaml"), "--prompts", str(tmp_path / "p.parquet")]
    line += ["--benchmarks", str(bench), "--output", str(tmp_path / "contamination.csv")]
    main(line)
    found = pd.read_csv(tmp_path / "contamination.csv")
    assert found["prompt_id"].tolist() == ["a/0", "a/1", "a/2"]
    assert (found["share"] == 1).all()
    assert "3 of 4 training prompts share 8 words in a row with ifeval" in capsys.readouterr().out


def test_overlapping_prompts_are_left_out_where_the_configuration_says_so(tmp_path, capsys):
    own = [
        {"prompt": text, "rubrics": [{"kind": "punctuation:no_comma", "text": "No commas."}]}
        for text in ("NAME three rivers!", "Name a lake.")
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    write_table(BENCH, Prompts, tmp_path / "ifeval.parquet")
    values = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    line = ["prompts", "--config", str(tmp_path / "config.yaml"), "--input", str(tmp_path / "mine.jsonl")]
    line += ["--against", str(tmp_path / "ifeval.parquet"), "--output", str(tmp_path / "p.parquet")]
    for share, kept in ((None, 2), (0.5, 1)):
        values["prompts"]["contamination"] = {"words": 8, "remove_from": share}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        main(line)
        assert len(read_table(tmp_path / "p.parquet", Prompts)) == kept
    assert "1 training prompts are left out" in capsys.readouterr().out
