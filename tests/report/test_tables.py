"""Tables of the report: accuracies, intervals, paired differences and curves, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.report.statistics import METRICS
from rtt.report.tables import (
    PAIRED_COLUMNS,
    accuracies,
    curve_table,
    differences_from,
    main_table,
    paired_table,
    write_csv,
)


def test_instruction_level_is_the_micro_average_and_prompt_level_needs_every_instruction(scores):
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
        "empty": 0,
    }
    assert dict(zip(table["metric"], table["value"], strict=True)) == pytest.approx(wanted)
    assert list(table["metric"]) == list(METRICS)
    assert set(table["n_prompts"]) == {3}
    assert set(table["n_instructions"]) == {6}


def test_accuracies_are_the_values_of_the_main_table(scores):
    rows = scores(["s", "sl", "--l"])
    table = main_table(rows)
    assert accuracies(rows) == pytest.approx(dict(zip(table["metric"], table["value"], strict=True)))


def test_interval_contains_the_value_and_lies_within_the_possible(scores, value, random_verdicts):
    table = main_table(scores(random_verdicts(40)))
    shares = table[table["metric"] != "response_tokens"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert (shares["low"] >= 0).all()
    assert (shares["high"] <= 1).all()
    assert value(table, "prompt_strict")["high"] > value(table, "prompt_strict")["low"]


def test_interval_of_two_prompts_has_the_ends_of_the_draws(scores, value):
    # two prompts, "s" (1 of 1) and "---" (0 of 3): a draw gives 1/1, 1/4 or 0/6 with chances 1/4, 1/2, 1/4
    row = value(main_table(scores(["s", "---"])), "instruction_strict")
    assert (row["low"], row["value"], row["high"]) == (0.0, 0.25, 1.0)


def test_bootstrap_keeps_the_instructions_of_a_prompt_together(scores, value):
    # 30 prompts all right, 30 all wrong, 3 instructions each: the deviation of the mean is 0.5/sqrt(60), not /sqrt(180)
    row = value(main_table(scores(["sss", "---"] * 30)), "instruction_strict")
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(60), rel=0.1)


def test_more_prompts_narrow_the_interval(scores, value, random_verdicts):
    few, many = (value(main_table(scores(random_verdicts(count))), "instruction_strict") for count in (20, 500))
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


def test_same_seed_same_table_other_seed_other_interval(scores, random_verdicts):
    rows = scores(random_verdicts(30))
    pd.testing.assert_frame_equal(main_table(rows, seed=1), main_table(rows, seed=1))
    assert not main_table(rows, seed=1)["low"].equals(main_table(rows, seed=2)["low"])


def test_order_of_rows_does_not_matter(scores, random_verdicts):
    rows = scores(random_verdicts(30))
    pd.testing.assert_frame_equal(main_table(rows), main_table(rows.sample(frac=1, random_state=0)))


def test_the_interval_holds_seeds_and_prompts_alike(scores, value):
    # prompts do not differ, seeds do: right everywhere, wrong everywhere; a draw of two seeds gives 0, 1/2 or 1
    rows = pd.concat([scores(["s"] * 10, "rl", seed=0, step=8), scores(["-"] * 10, "rl", seed=1, step=8)])
    row = value(main_table(rows), "prompt_strict")
    assert (row["seeds"], row["value"], row["low"], row["high"]) == (2, 0.5, 0.0, 1.0)
    assert row["seed_std"] == pytest.approx(np.sqrt(0.5))  # of 0 and 1
    assert row["n_prompts"] == 10


def test_one_seed_has_no_deviation(scores):
    assert main_table(scores(["s", "-"]))["seed_std"].isna().all()


def test_a_row_given_twice_is_refused(scores):
    rows = scores(["s", "s-"])
    with pytest.raises(UserError, match="3 instructions are scored twice"):
        main_table(pd.concat([rows, rows]))


def test_seeds_on_different_prompts_are_refused(scores):
    rows = pd.concat([scores(["s", "s"], "rl", seed=0, step=8), scores(["s"], "rl", seed=1, step=8)])
    with pytest.raises(UserError, match="different prompts"):
        main_table(rows)


def test_scores_of_several_steps_are_refused(scores):
    rows = pd.concat([scores(["s"], "rl", seed=0, step=8), scores(["s"], "rl", seed=1, step=16)])
    with pytest.raises(UserError, match="seed 0 at 8, seed 1 at 16"):
        main_table(rows)


def test_paired_difference_of_one_seed(scores, value):
    # per prompt, instructions: rtt 1/1, 2/2, 1/3, rl 0/1, 1/2, 0/3: +1 each, 3/6
    rows = pd.concat([scores(["-", "s-", "---"], "rl", step=8), scores(["s", "ss", "s--"], "rtt", step=8)])
    table = paired_table(rows, {"main": [("rtt", "rl")]}, draws=999)
    row = value(table, "instruction_strict")
    assert list(table) == list(PAIRED_COLUMNS)
    assert row["value"] == pytest.approx(0.5)
    assert row["low"] == pytest.approx(1 / 3)  # three times the prompt of three instructions
    assert row["high"] == 1.0  # three times the prompt of one
    assert row["p"] == pytest.approx(2 / 1000)  # no draw is at or below zero
    assert (row["seeds"], row["n"]) == (1, 3)
    assert np.isnan(row["seed_std"])
    # prompts fully met: 2/3 against 0/3; a draw of three misses both in 1/27, so p is near 2/27
    assert value(table, "prompt_strict")["value"] == pytest.approx(2 / 3)
    assert value(table, "prompt_strict")["p"] == pytest.approx(2 / 27, abs=0.03)


def test_paired_difference_over_shared_seeds(scores, value):
    # rtt gains both prompts with seed 0, none with seed 1; rl's seed 2 has no partner
    rows = pd.concat(
        [
            *(scores(verdicts, "rtt", seed, 8) for seed, verdicts in enumerate((["s", "s"], ["-", "-"]))),
            *(scores(["-", "-"], "rl", seed, 8) for seed in (0, 1, 2)),
        ]
    )
    row = value(paired_table(rows, {"main": [("rtt", "rl")]}, draws=4000), "instruction_strict")
    assert (row["seeds"], row["n"]) == (2, 2)
    assert (row["value"], row["low"], row["high"]) == (0.5, 0.0, 1.0)
    assert row["seed_std"] == pytest.approx(np.sqrt(0.5))
    assert row["p"] == pytest.approx(2 / 4, abs=0.05)  # both drawn seeds are the second one in a quarter of the draws


def test_holm_corrects_over_all_pairs_and_benchmarks_of_a_table(scores, value):
    good, bad, half = ["s"] * 20, ["-"] * 20, ["s", "-"] * 10
    rows = pd.concat(
        [
            scores(verdicts, arm, step=8, benchmark=benchmark)
            for arm, verdicts in (("a", bad), ("b", bad), ("c", good), ("d", half))
            for benchmark in ("validation", "ifbench")
        ]
    )
    pairs = {"main": [("b", "a"), ("c", "a")], "few": [("c", "a")]}
    table = paired_table(rows, pairs, draws=999)
    # four comparisons: two with the smallest p there is, two with 1
    assert value(table, "instruction_strict", table="main", arm="c", benchmark="ifbench")["p"] == pytest.approx(0.002)
    for benchmark in ("validation", "ifbench"):
        row = value(table, "instruction_strict", table="main", arm="c", benchmark=benchmark)
        assert row["p_holm"] == pytest.approx(4 * 0.002)
        assert value(table, "instruction_strict", table="main", arm="b", benchmark=benchmark)["p_holm"] == 1
        # a table of its own is a family of its own
        assert value(table, "instruction_strict", table="few", benchmark=benchmark)["p_holm"] == pytest.approx(
            2 * 0.002
        )


def test_draws_are_raised_until_a_difference_can_pass_holm(scores):
    arms = [f"arm_{place}" for place in range(30)]
    rows = pd.concat([scores(["-"] * 20), *(scores(["s"] * 20, arm, step=8) for arm in arms)])
    table = paired_table(rows, {"main": [(arm, "base") for arm in arms]}, draws=100)
    assert (table["p_holm"] < 0.05).all()  # with 100 draws p could not be below 2/101, times 30


def test_paired_interval_is_narrower_than_the_difference_of_independent_ones(scores, value, random_verdicts):
    verdicts = random_verdicts(100)
    better = ["s" * len(line) if place < 10 else line for place, line in enumerate(verdicts)]
    rows = pd.concat([scores(verdicts, "rl", step=8), scores(better, "rtt", step=8)])
    gap = value(paired_table(rows, {"main": [("rtt", "rl")]}), "instruction_strict")
    alone = value(main_table(rows), "instruction_strict", arm="rtt")
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    # independent arms would give about √2 times the width of one alone
    assert gap["high"] - gap["low"] < 0.8 * (alone["high"] - alone["low"])


def test_paired_difference_turns_its_sign_with_the_pair(scores, random_verdicts):
    rows = pd.concat([scores(random_verdicts(30, arm, 0.4), str(arm), seed, 8) for arm in (1, 2) for seed in (0, 1)])
    there, back = (paired_table(rows, {"main": [pair]}) for pair in [("1", "2"), ("2", "1")])
    assert there["value"].tolist() == (-back["value"]).tolist()
    assert there["low"].to_numpy() == pytest.approx(-back["high"].to_numpy())
    assert there["p"].tolist() == back["p"].tolist()
    turned = differences_from(back, "2")
    assert turned[["arm", "against", "value", "low", "high"]].equals(there[["arm", "against", "value", "low", "high"]])


def test_equal_arms_give_no_difference_and_p_one(scores, value, random_verdicts):
    rows = pd.concat([scores(random_verdicts(30), arm, step=8) for arm in ("rl", "rtt")])
    row = value(paired_table(rows, {"main": [("rtt", "rl")]}), "instruction_strict")
    assert (row["value"], row["low"], row["high"], row["p"]) == (0.0, 0.0, 0.0, 1.0)


def test_a_pair_is_compared_where_both_were_evaluated(scores):
    rows = pd.concat(
        [
            scores(["s"], "rl", step=8),
            scores(["s"], "rtt", step=8),
            scores(["s"], "rtt", step=8, benchmark="ifbench"),
        ]
    )
    table = paired_table(rows, {"main": [("rtt", "rl"), ("absent", "rl")]})
    assert set(zip(table["arm"], table["benchmark"], strict=True)) == {("rtt", "validation")}


def test_no_pairs_give_an_empty_table_with_its_columns(scores):
    table = paired_table(scores(["s"]), {"main": []})
    assert table.empty
    assert list(table) == list(PAIRED_COLUMNS)


def test_curves_start_with_the_base_for_every_arm_and_seed(scores):
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


def test_an_arm_with_its_own_start_keeps_it(scores):
    rows = pd.concat([scores(["-"]), scores(["s"], "rl", step=0), scores(["s"], "rl", step=8)])
    assert curve_table(rows)["instruction_strict"].tolist() == [1.0, 1.0]


def test_curves_without_validation_are_empty_with_columns(scores):
    table = curve_table(scores(["s"], "rl", step=8, benchmark="ifbench"))
    assert table.empty
    assert "instruction_strict" in table


def test_csv_reads_back(scores, random_verdicts, tmp_path):
    table = main_table(scores(random_verdicts(12)))
    write_csv(table, tmp_path / "deep" / "main.csv")
    again = pd.read_csv(tmp_path / "deep" / "main.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False, atol=1e-6)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["main.csv"]


def sampled(scores, answers):
    """Rows of several answers to each prompt, one list of verdicts an answer."""
    return pd.concat([scores(verdicts).assign(sample=number) for number, verdicts in enumerate(answers)])


def test_of_several_answers_the_mean_counts(scores, value):
    # prompt 0: 1 of 2 and 2 of 2 instructions; prompt 1: 0 of 1 and 0 of 1, the second answer empty
    rows = sampled(scores, [["s-", "-"], ["ss", "-"]])
    rows.loc[(rows["sample"] == 1) & (rows["prompt_id"] == "p0001"), "empty"] = True
    table = main_table(rows)
    assert value(table, "instruction_strict")["value"] == pytest.approx((1.5 + 0) / 3)
    assert value(table, "prompt_strict")["value"] == pytest.approx((0.5 + 0) / 2)
    assert value(table, "empty")["value"] == pytest.approx((0 + 0.5) / 2)
    assert value(table, "prompt_strict")["n_prompts"] == 2
    assert value(table, "instruction_strict")["n_instructions"] == 3


def test_prompts_answered_unequally_often_are_refused(scores):
    rows = sampled(scores, [["s", "s"], ["s", "s"]])
    with pytest.raises(UserError, match="1 instructions are not scored on all 2 answers"):
        main_table(rows[~((rows["sample"] == 1) & (rows["prompt_id"] == "p0001"))])


def test_one_column_holds_answers_under_one_protocol(scores):
    greedy, other = scores(["s"]), scores(["s"], "rl_csr", 0, 8).assign(protocol="paper/1", budget=4096)
    with pytest.raises(UserError, match="base under greedy/1 with 48 tokens and rl_csr under paper/1 with 4096"):
        main_table(pd.concat([greedy, other]))
    with pytest.raises(UserError, match="greedy/1 with 48 tokens and greedy/1 with 96 tokens"):
        main_table(pd.concat([scores(["s"]), scores(["s"], seed=1).assign(budget=96)]))


def test_the_table_says_how_answers_were_asked_for_and_who_judged(scores):
    rows = scores(["s", "-"]).assign(judge=["b 2", "a 1"])
    table = main_table(rows)
    assert set(zip(table["protocol"], table["budget"], table["judge"], strict=True)) == {("greedy/1", 48, "a 1, b 2")}
