"""Tables for people: Markdown, LaTeX and plain text."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from rtt.report.render import (
    Layout,
    difference_text,
    escape_latex,
    reference_notes,
    to_latex,
    to_markdown,
    to_text,
)
from rtt.report.tables import main_table, paired_table


@pytest.fixture
def table():
    """A table of arms from rows of Scores, with nothing known beside it."""

    def make(rows, **columns):
        known = {"paper_value": np.nan, "paper_source": None, "discriminator_auprc": np.nan}
        return main_table(rows).assign(**{**known, **columns})

    return make


def layout(arms, benchmarks=("validation",), **more):
    return Layout("main", arms, benchmarks, "All of it.", **more)


def test_markdown_has_a_row_per_arm_and_a_column_per_benchmark_and_metric(scores, table):
    rows = pd.concat([scores(["s", "---"]), scores(["s", "s--"], "a|b", step=8), scores(["s"], benchmark="ifbench")])
    lines = to_markdown(table(rows), layout(["base", "a|b", "c"], ["validation", "ifbench"])).splitlines()
    assert lines[:2] == ["All of it.", ""]
    assert lines[2] == (
        "| arm | seeds | validation, instruction strict (n = 4) | validation, prompt strict (n = 2) "
        "| ifbench, instruction strict (n = 1) | ifbench, prompt strict (n = 1) |"
    )
    assert lines[3] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert lines[4] == (
        "| base | 1 | 25.0 [0.0, 100.0] | 50.0 [0.0, 100.0] | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] |"
    )
    assert lines[5] == "| a\\|b | 1 | 50.0 [33.3, 100.0] | 50.0 [0.0, 100.0] | – | – |"
    assert lines[6] == "| c | – | – | – | – | – |"  # an arm without scores has dashes, never 0
    asked = "greedy/1, at most 48 tokens; judged by if-verifiable 0.1.2"
    assert lines[7:] == [
        "",
        f"validation: {asked}; 50.0 % cut short; 0.0 % empty.",
        "",
        f"ifbench: {asked}; 100.0 % cut short; 0.0 % empty.",
    ]


def test_markdown_says_when_arms_answered_unequally_many(scores, table):
    rows = pd.concat([scores(["s", "s"]), scores(["s", "s", "s"], "rl", step=8)])
    assert "(n = 2–3)" in to_markdown(table(rows), layout(["base", "rl"]))


def test_notes_stand_below_the_table(scores, table):
    text = to_markdown(table(scores(["s"])), layout(["base"], notes=["rl is missing"], sources=["paper, x"]))
    assert text.endswith("0.0 % empty.\n\nrl is missing.\n\npaper, x.\n")


def test_a_figure_of_the_paper_has_a_column_of_its_own(scores, table):
    rows = table(scores(["s"]), paper_value=0.3469, paper_source="somewhere")
    header, _, row = to_markdown(rows, layout(["base"])).splitlines()[2:5]
    assert header.endswith("| validation (paper) |")
    assert row.endswith("| 34.69 |")
    # stated for one metric alone, the column names it
    rows.loc[rows["metric"] != "prompt_strict", "paper_value"] = np.nan
    assert "| validation (paper, prompt strict) |" in to_markdown(rows, layout(["base"]))
    assert "paper" not in to_markdown(table(scores(["s"])), layout(["base"]))


def test_reported_figures_come_with_their_source_and_the_caveat(scores, table):
    rows = table(scores(["s"]), paper_value=0.3469, paper_source="somewhere")
    assert reference_notes(rows, "No comparison.") == ["paper, validation, base: 34.69 (somewhere)", "No comparison"]
    assert reference_notes(table(scores(["s"])), "No comparison.") == []


def test_auprc_has_a_column_where_the_layout_asks_for_it(scores, table):
    rows = table(scores(["s"]), discriminator_auprc=0.874)
    assert "0.87" in to_markdown(rows, layout(["base"], auprc=True))
    assert "0.87" not in to_markdown(rows, layout(["base"]))


def test_latex_is_escaped(scores, table):
    assert escape_latex("a_b 95 % & #1 {x} $5 ~ ^ \\ – <") == (
        r"a\_b 95 \% \& \#1 \{x\} \$5 \textasciitilde{} \textasciicircum{} \textbackslash{} -- $<$"
    )
    assert escape_latex("“a’s”\n→ é 漢\x1b") == "``a's'' $\\to$ é ??"
    rows = pd.concat([scores(["s", "-"], benchmark="heldout_topics"), scores(["s", "s"], "rl_csr", 0, 8)])
    text = to_latex(
        table(rows, paper_value=0.5),
        layout(["base", "rl_csr"], ["heldout_topics", "validation"], notes=["100 % of a_b"]),
    )
    assert text.count(r"\% empty. 100 \% of a\_b.}") == 2  # notes stand below each of the two
    for special in "_%&#":
        for line in text.splitlines():
            unescaped = re.findall(rf"(?<!\\){re.escape(special)}", re.sub(r"\\label\{[^}]*\}", "", line))
            assert not unescaped or special == "&", line


def test_latex_has_a_table_per_metric_whose_rows_are_complete(scores, table):
    rows = pd.concat([scores(["s", "-"]), scores(["s", "s"], "rl_csr", 0, 8)])
    text = to_latex(table(rows, discriminator_auprc=0.87), layout(["base", "rl_csr", "sft"], auprc=True))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count("{") == text.count("}")
    assert [rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [True] * 3
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:main", "tab:main-prompt-strict"]
    assert r"\caption{Instruction strict. All of it.}" in text
    [columns] = set(re.findall(r"\\begin\{tabular\}\{(\w+)\}", text))
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") + 1 for line in body} == {len(columns)} == {4}
    assert r"    rl\_csr & 1 & 0.87 & 100.0 {\tiny [100.0, 100.0]} \\" in body
    assert r"    sft & -- & -- & -- \\" in body
    assert "n = 2" in text


def test_text_lines_up_and_fits_a_terminal(scores, table, random_verdicts):
    rows = pd.concat([scores(random_verdicts(9)), scores(random_verdicts(9), "rtt_csr", step=24)])
    told = layout(["base", "rtt_csr", "absent"], notes=["absent is missing"], sources=["paper"])
    lines = to_text(table(rows), told).splitlines()
    assert lines[0] == (
        "validation (9 prompts, 18 instructions; greedy/1, at most 48 tokens; judged by if-verifiable 0.1.2)"
    )
    assert len({len(line) for line in lines[1:5]}) == 1
    assert len(lines[1]) <= 110
    assert lines[2].split()[:3] == ["base", "1", "0"]
    assert lines[3].split()[:3] == ["rtt_csr", "1", "24"]
    assert lines[4].split() == ["absent", *["–"] * 7]
    assert lines[5:] == ["", "absent is missing."]  # the terminal shows no figures of others


def test_the_headline_difference_is_told_with_holms_p(scores):
    rows = pd.concat([scores(["-"] * 20, "rl", 0, 8), scores(["s"] * 20, "rtt", 0, 8)])
    paired = paired_table(rows, {"main": [("rtt", "rl")]}, draws=9999)
    assert difference_text(paired, ("rtt", "rl"), "main").splitlines() == [
        "rtt minus rl, points [95 % interval], p after Holm's correction",
        "  validation, instruction strict: +100.0 [+100.0, +100.0], p < 0.001 (1 seed, 20 prompts)",
        "  validation, prompt strict: +100.0 [+100.0, +100.0], p < 0.001 (1 seed, 20 prompts)",
    ]
    assert difference_text(paired, ("rl", "base"), "main") == ""
