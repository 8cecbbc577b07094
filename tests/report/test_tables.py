"""Tables of the report: accuracies, intervals, paired differences and curves, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.report.tables import (
    METRICS,
    accuracies,
    curve_table,
    main_table,
    paired_table,
    to_markdown,
    to_text,
    write_csv,
)
from rtt.tables import Scores, check_table


def scores(verdicts, arm="base", seed=0, step=0, benchmark="validation", tokens=10):
    """Rows of Scores from one list of verdicts a prompt: 's' strict, 'l' loose only, '-' neither."""
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
            "tokens": tokens + prompt,
            "truncated": prompt == 0,
        }
        for prompt, line in enumerate(verdicts)
        for place, verdict in enumerate(line)
    ]
    return check_table(pd.DataFrame(rows), Scores, "test")


def value(table, metric, **where):
    rows = table[table["metric"] == metric]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return rows.iloc[0]


def random_verdicts(prompts, seed=0):
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(["s", "-"], size=draw.integers(1, 4))) for _ in range(prompts)]


def test_instruction_level_is_the_micro_average_and_prompt_level_needs_every_instruction():
    # hits 1 of 1, 1 of 2, 0 of 3: 2/6 of the instructions (the mean of the prompts' shares would be 1/2), 1/3 prompts;
    # loosely 1 of 1, 2 of 2, 1 of 3: 4/6 and 2/3
    table = main_table(scores(["s", "sl", "--l"]))
    wanted = {
        "prompt_strict": 1 / 3,
        "prompt_loose": 2 / 3,
        "instruction_strict": 2 / 6,
        "instruction_loose": 4 / 6,
        "response_tokens": 11.0,  # 10, 11, 12, once a response and not once an instruction
        "truncated": 1 / 3,
    }
    assert dict(zip(table["metric"], table["value"], strict=True)) == pytest.approx(wanted)
    assert list(table["metric"]) == list(METRICS)
    assert set(table["n_prompts"]) == {3}
    assert set(table["n_instructions"]) == {6}


def test_accuracies_are_the_values_of_the_main_table():
    rows = scores(["s", "sl", "--l"])
    table = main_table(rows)
    assert accuracies(rows) == pytest.approx(dict(zip(table["metric"], table["value"], strict=True)))


def test_interval_contains_the_value_and_lies_within_the_possible():
    table = main_table(scores(random_verdicts(40)))
    shares = table[table["metric"] != "response_tokens"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert (shares["low"] >= 0).all()
    assert (shares["high"] <= 1).all()
    assert value(table, "prompt_strict")["high"] > value(table, "prompt_strict")["low"]


def test_interval_of_two_prompts_has_the_ends_of_the_draws():
    # two prompts, "s" (1 of 1) and "---" (0 of 3): a draw gives 1/1, 1/4 or 0/6 with chances 1/4, 1/2, 1/4
    row = value(main_table(scores(["s", "---"])), "instruction_strict")
    assert (row["low"], row["value"], row["high"]) == (0.0, 0.25, 1.0)


def test_bootstrap_keeps_the_instructions_of_a_prompt_together():
    # 30 prompts all right, 30 all wrong, 3 instructions each: the deviation of the mean is 0.5/sqrt(60), not /sqrt(180)
    row = value(main_table(scores(["sss", "---"] * 30)), "instruction_strict")
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(60), rel=0.1)


def test_more_prompts_narrow_the_interval():
    few, many = (value(main_table(scores(random_verdicts(count))), "instruction_strict") for count in (20, 500))
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


def test_same_seed_same_table_other_seed_other_interval():
    rows = scores(random_verdicts(30))
    pd.testing.assert_frame_equal(main_table(rows, seed=1), main_table(rows, seed=1))
    assert not main_table(rows, seed=1)["low"].equals(main_table(rows, seed=2)["low"])


def test_order_of_rows_does_not_matter():
    rows = scores(random_verdicts(30))
    pd.testing.assert_frame_equal(main_table(rows), main_table(rows.sample(frac=1, random_state=0)))


def test_seeds_are_averaged_within_a_prompt_before_resampling():
    # every prompt is right with one seed and wrong with the other: 1/2 each, so no draw of prompts can differ
    rows = pd.concat([scores(["s", "-"] * 5, "rl", seed=0, step=8), scores(["-", "s"] * 5, "rl", seed=1, step=8)])
    row = value(main_table(rows), "prompt_strict")
    assert (row["seeds"], row["value"], row["low"], row["high"]) == (2, 0.5, 0.5, 0.5)
    assert row["n_prompts"] == 10


def test_only_the_last_step_of_each_benchmark_counts():
    rows = pd.concat(
        [
            scores(["-", "-"], "rl", step=8),
            scores(["s", "s"], "rl", step=16),
            scores(["s", "-"], "rl", step=24, benchmark="ifbench"),
        ]
    )
    table = main_table(rows)
    row = value(table, "prompt_strict", benchmark="validation")
    assert (row["step"], row["value"]) == (16, 1.0)
    assert value(table, "prompt_strict", benchmark="ifbench")["step"] == 24


def test_a_row_given_twice_is_refused():
    rows = scores(["s", "s-"])
    with pytest.raises(UserError, match="3 instructions are scored twice"):
        main_table(pd.concat([rows, rows]))


def test_seeds_on_different_prompts_are_refused():
    rows = pd.concat([scores(["s", "s"], "rl", seed=0, step=8), scores(["s"], "rl", seed=1, step=8)])
    with pytest.raises(UserError, match="different prompts"):
        main_table(rows)


def test_seeds_that_end_at_different_steps_are_refused():
    rows = pd.concat([scores(["s"], "rl", seed=0, step=8), scores(["s"], "rl", seed=1, step=16)])
    with pytest.raises(UserError, match="seed 0 at 8, seed 1 at 16"):
        main_table(rows)


def test_paired_difference_and_its_exact_p():
    # per prompt, instructions: rtt 1/1, 2/2, 1/3, rl 0/1, 1/2, 0/3: +1 each, 3/6; all of 2^3 sign patterns: p = 2/8
    rows = pd.concat([scores(["-", "s-", "---"], "rl", step=8), scores(["s", "ss", "s--"], "rtt", step=8)])
    table = paired_table(rows, [("rtt", "rl")])
    row = value(table, "instruction_strict")
    assert row["value"] == pytest.approx(0.5)
    assert row["p"] == 0.25
    assert row["n"] == 3
    assert row["low"] == pytest.approx(1 / 3)  # three times the prompt of three instructions
    assert row["high"] == 1.0  # three times the prompt of one
    # prompts fully met: 2/3 against 0/3, two prompts moved: p = 2/4
    assert value(table, "prompt_strict")["value"] == pytest.approx(2 / 3)
    assert value(table, "prompt_strict")["p"] == 0.5


def test_paired_interval_is_narrower_than_the_difference_of_independent_ones():
    verdicts = random_verdicts(100)
    better = ["s" * len(line) if place < 10 else line for place, line in enumerate(verdicts)]
    rows = pd.concat([scores(verdicts, "rl", step=8), scores(better, "rtt", step=8)])
    gap = value(paired_table(rows, [("rtt", "rl")]), "instruction_strict")
    alone = value(main_table(rows), "instruction_strict", arm="rtt")
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    # independent arms would give about √2 times the width of one alone
    assert gap["high"] - gap["low"] < 0.8 * (alone["high"] - alone["low"])


def test_paired_difference_turns_its_sign_with_the_pair():
    rows = pd.concat([scores(random_verdicts(30), arm, step=8) for arm in ("rl", "rtt")])
    rows.loc[rows["arm"] == "rtt", ["strict", "loose"]] = True
    there, back = (paired_table(rows, [pair]) for pair in [("rtt", "rl"), ("rl", "rtt")])
    assert there["value"].tolist() == (-back["value"]).tolist()
    assert there["low"].to_numpy() == pytest.approx(-back["high"].to_numpy())
    assert there["p"].tolist() == back["p"].tolist()
    assert (there["value"] > 0).all()


def test_equal_arms_give_no_difference_and_p_one():
    rows = pd.concat([scores(random_verdicts(30), arm, step=8) for arm in ("rl", "rtt")])
    row = value(paired_table(rows, [("rtt", "rl")]), "instruction_strict")
    assert (row["value"], row["low"], row["high"], row["p"]) == (0.0, 0.0, 0.0, 1.0)


def test_many_consistent_differences_give_a_small_p_that_is_never_zero():
    rows = pd.concat([scores(["-"] * 40, "rl", step=8), scores(["s"] * 40, "rtt", step=8)])
    assert value(paired_table(rows, [("rtt", "rl")], draws=999), "prompt_strict")["p"] == 1 / 1000


def test_sampled_p_is_near_the_binomial_one():
    # 20 prompts moved, 14 up and 6 down: two-sided sign test 2·P(X ≥ 14) = 0.1153
    rows = pd.concat([scores(["-"] * 14 + ["s"] * 6, "rl", step=8), scores(["s"] * 14 + ["-"] * 6, "rtt", step=8)])
    assert value(paired_table(rows, [("rtt", "rl")]), "prompt_strict")["p"] == pytest.approx(0.1153, abs=0.02)


def test_pairs_compare_one_base_with_several_seeds():
    rows = pd.concat([scores(["-", "-"]), *(scores(["s", v], "rl", seed=s, step=8) for s, v in enumerate("s-"))])
    assert value(paired_table(rows, [("rl", "base")]), "prompt_strict")["value"] == 0.75


def test_pairs_on_different_prompts_are_refused():
    rows = pd.concat([scores(["s", "s"], "rl", step=8), scores(["s", "s", "s"], "rtt", step=8)])
    with pytest.raises(UserError, match="3 and 2 instructions, 2 of them shared"):
        paired_table(rows, [("rtt", "rl")])


def test_pairs_on_different_benchmarks_are_refused():
    rows = pd.concat(
        [
            scores(["s"], "rl", step=8),
            scores(["s"], "rtt", step=8),
            scores(["s"], "rtt", step=8, benchmark="ifbench"),
        ]
    )
    with pytest.raises(UserError, match="evaluated on ifbench"):
        paired_table(rows, [("rtt", "rl")])


def test_pair_of_an_unknown_arm_is_refused():
    with pytest.raises(UserError, match="no scores of the arm rtt") as caught:
        paired_table(scores(["s"]), [("rtt", "base")])
    assert "base" in caught.value.todo


def test_no_pairs_give_an_empty_table_with_its_columns():
    table = paired_table(scores(["s"]), [])
    assert table.empty
    assert list(table)[:3] == ["arm", "against", "benchmark"]


def test_curves_start_with_the_base_for_every_arm_and_seed():
    rows = pd.concat(
        [
            scores(["s", "--"]),
            scores(["s", "s-"], "rtt", seed=0, step=8),
            scores(["s", "ss"], "rtt", seed=1, step=8),
            scores(["-", "--"], "rl", seed=0, step=8),
            scores(["s"], "rl", seed=0, step=8, benchmark="ifbench"),
        ]
    )
    table = curve_table(rows)
    seen = table[["arm", "seed", "step", "instruction_strict", "prompt_strict"]].to_numpy().tolist()
    assert seen == [
        ["rtt", 0, 0, pytest.approx(1 / 3), 0.5],
        ["rtt", 0, 8, pytest.approx(2 / 3), 0.5],
        ["rtt", 1, 0, pytest.approx(1 / 3), 0.5],
        ["rtt", 1, 8, 1.0, 1.0],
        ["rl", 0, 0, pytest.approx(1 / 3), 0.5],
        ["rl", 0, 8, 0.0, 0.0],
    ]
    both = table[(table["arm"] == "rtt") & (table["step"] == 8)]
    assert both["low"].nunique() == both["high"].nunique() == 1
    assert (both["low"] <= both["instruction_strict"].mean()).all()
    assert (both["high"] >= both["instruction_strict"].mean()).all()


def test_an_arm_with_its_own_start_keeps_it():
    rows = pd.concat([scores(["-"]), scores(["s"], "rl", step=0), scores(["s"], "rl", step=8)])
    assert curve_table(rows)["instruction_strict"].tolist() == [1.0, 1.0]


def test_curves_without_validation_are_empty_with_columns():
    table = curve_table(scores(["s"], "rl", step=8, benchmark="ifbench"))
    assert table.empty
    assert "instruction_strict" in table


def test_csv_reads_back(tmp_path):
    table = main_table(scores(random_verdicts(12)))
    write_csv(table, tmp_path / "deep" / "main.csv")
    again = pd.read_csv(tmp_path / "deep" / "main.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False, atol=1e-6)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["main.csv"]


def test_markdown_has_a_row_per_arm_and_a_column_per_benchmark_and_metric():
    rows = pd.concat([scores(["s", "---"]), scores(["s", "s--"], "a|b", step=8), scores(["s"], benchmark="ifbench")])
    lines = to_markdown(main_table(rows), "All of it.").splitlines()
    assert lines[:2] == ["All of it.", ""]
    assert lines[2] == (
        "| arm | validation, instruction strict (n = 4) | validation, prompt strict (n = 2) "
        "| ifbench, instruction strict (n = 1) | ifbench, prompt strict (n = 1) |"
    )
    assert lines[3] == "| --- | ---: | ---: | ---: | ---: |"
    assert lines[4] == (
        "| base | 25.0 [0.0, 100.0] | 50.0 [0.0, 100.0] | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] |"
    )
    assert lines[5] == "| a\\|b | 50.0 [33.3, 100.0] | 50.0 [0.0, 100.0] | – | – |"
    assert len(lines) == 6


def test_markdown_says_when_arms_answered_unequally_many():
    rows = pd.concat([scores(["s", "s"]), scores(["s", "s", "s"], "rl", step=8)])
    assert "(n = 2–3)" in to_markdown(main_table(rows), "")


def test_text_lines_up_and_fits_a_terminal():
    rows = pd.concat([scores(random_verdicts(9)), scores(random_verdicts(9), "rtt_csr", step=24)])
    lines = to_text(main_table(rows)).splitlines()
    assert lines[0].startswith("validation (9 prompts, ")
    assert len({len(line) for line in lines[1:]}) == 1
    assert len(lines[1]) <= 100
    assert lines[2].split()[:3] == ["base", "1", "0"]
    assert lines[3].split()[:3] == ["rtt_csr", "1", "24"]
