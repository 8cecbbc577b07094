"""Scores by group, with values worked out by hand."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from rtt.report.groups import COLUMNS, group_table


def test_a_prompt_counts_in_a_group_with_its_instructions_of_that_group(scores):
    rows = scores(["s-", "ss", "l"]).copy()
    groups = [
        {"family": "Length", "level": "1"},  # followed
        {"family": "Format", "level": "1"},  # not
        {"family": "Length", "level": "2"},  # followed, both
        {"family": "Length", "level": "2"},
        {"family": "Format", "level": "1"},  # loosely
    ]
    rows["groups"] = [json.dumps(one) for one in groups]
    table = group_table(rows).set_index(["group", "value"])
    assert list(group_table(rows)) == list(COLUMNS)
    figures = ["prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose"]
    wanted = {
        ("family", "Format"): [0, 1 / 2, 0, 1 / 2],
        ("family", "Length"): [1, 1, 1, 1],
        ("level", "1"): [0, 1 / 2, 1 / 3, 2 / 3],
        ("level", "2"): [1, 1, 1, 1],
    }
    for place, values in wanted.items():
        assert list(table.loc[place, figures]) == pytest.approx(values), place
    assert table.loc[("level", "1"), ["n_prompts", "n_instructions"]].tolist() == [2, 3]


def test_benchmarks_without_groups_have_no_rows(scores):
    assert group_table(scores(["s"])).empty
    both = pd.concat([scores(["s"]), scores(["s"], benchmark="muldimif").assign(groups='{"family": "Length"}')])
    assert set(group_table(both)["benchmark"]) == {"muldimif"}
