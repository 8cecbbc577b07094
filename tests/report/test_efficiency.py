"""Sample efficiency: areas and first steps worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.report.efficiency import choose_target, efficiency_tables, first_reached, trapezoid_weights


def test_the_area_of_a_curve_is_its_mean_over_steps():
    # steps 0, 2, 8: trapezoids 2·(a+b)/2 + 6·(b+c)/2 over 8: weights 1/8, 4/8, 3/8
    assert trapezoid_weights([0, 2, 8]) == pytest.approx([1 / 8, 4 / 8, 3 / 8])
    assert trapezoid_weights([4, 8]) @ np.array([0.2, 0.6]) == pytest.approx(0.4)


def test_the_first_step_is_read_off_the_line_between_points():
    assert first_reached([0, 8, 16], [0.1, 0.3, 0.5], 0.4) == pytest.approx(12)
    assert first_reached([0, 8, 16], [0.1, 0.5, 0.3], 0.3) == pytest.approx(4)  # the first time, not the last
    assert first_reached([0, 8], [0.1, 0.3], 0.3) == 8
    assert first_reached([0, 8], [0.4, 0.3], 0.3) == 0


def test_a_target_never_reached_is_missing_and_not_zero():
    assert np.isnan(first_reached([0, 8, 16], [0.1, 0.3, 0.5], 0.6))
    assert np.isnan(first_reached([0, 8], [0.1, 0.3], float("nan")))


def test_the_target_is_the_headline_baseline_else_half_the_way_to_the_best():
    ends = {"base": 0.2, "rl": 0.4, "rtt": 0.6}
    assert choose_target(ends, ("rtt", "rl")) == (0.4, "final accuracy of rl")
    half = (pytest.approx(0.4), "half the way from base to rtt")
    assert choose_target(ends, None) == half
    assert choose_target(ends, ("rtt", "base")) == half  # what every arm starts from is no target
    assert choose_target(ends, ("rtt", "absent")) == half
    assert np.isnan(choose_target({"base": 0.6, "rl": 0.4}, None)[0])
    assert np.isnan(choose_target({"base": 0.6}, None)[0])


@pytest.fixture
def curves(scores):
    """Base at 0/4; rl, seed 0: 1/4 then 3/4; seed 1: 2/4 then 1/4."""
    return pd.concat(
        [
            scores(["--", "--"]),
            scores(["s-", "--"], "rl", 0, 8),
            scores(["ss", "s-"], "rl", 0, 16),
            scores(["s-", "s-"], "rl", 1, 8),
            scores(["s-", "--"], "rl", 1, 16),
        ]
    )


def test_area_and_first_step_by_seed_and_over_seeds(curves):
    finals = curves[(curves["step"] == 16) | (curves["arm"] == "base")]
    means, seeds = efficiency_tables(curves, finals)
    # areas: seed 0 (0 + 2·1/4 + 3/4)/4 = 5/16, seed 1 (0 + 2·2/4 + 1/4)/4 = 5/16
    assert seeds["area"].tolist() == pytest.approx([5 / 16, 5 / 16])
    # final mean accuracy 1/2, so the target is 1/4: seed 0 reaches it at 8, seed 1 half-way there
    assert seeds["target"].tolist() == [0.25, 0.25]
    assert seeds["steps_to_target"].tolist() == [8, 4]
    row = means.iloc[0]
    assert (row["arm"], row["seeds"], row["end"], row["reached"]) == ("rl", 2, 16, 2)
    assert row["area"] == pytest.approx(5 / 16)
    assert row["area_std"] == pytest.approx(0)
    assert row["area_low"] < row["area"] < row["area_high"]
    assert row["target_from"] == "half the way from base to rl"
    assert row["steps_to_target"] == 6
    assert row["steps_std"] == pytest.approx(np.sqrt(8))


def test_the_mean_step_is_missing_unless_every_seed_reaches_the_target(curves, scores):
    curves = pd.concat([curves, scores(["ss", "s-"], "rtt", 0, 8), scores(["ss", "s-"], "rtt", 0, 16)])
    finals = curves[(curves["step"] == 16) | (curves["arm"] == "base")]
    means, seeds = efficiency_tables(curves, finals, headline=("rl", "rtt"))  # target 3/4
    own = seeds[seeds["arm"] == "rl"]
    assert own["steps_to_target"].tolist()[0] == 16
    assert np.isnan(own["steps_to_target"].tolist()[1])
    row = means[means["arm"] == "rl"].iloc[0]
    assert row["reached"] == 1
    assert np.isnan(row["steps_to_target"])


def test_a_seed_that_stopped_early_has_no_area(curves):
    rows = curves[~((curves["seed"] == 1) & (curves["step"] == 16))]
    finals = rows[(rows["step"] == 16) | (rows["arm"] == "base")]
    means, seeds = efficiency_tables(rows, finals)
    assert seeds["area"].tolist()[0] == pytest.approx(5 / 16)
    assert np.isnan(seeds["area"].tolist()[1])
    assert means["area"].tolist() == pytest.approx([5 / 16])


def test_the_base_alone_gives_empty_tables_with_their_columns(scores):
    means, seeds = efficiency_tables(scores(["s"]), scores(["s"]))
    assert means.empty
    assert seeds.empty
    assert "area" in means
    assert "area" in seeds


def test_rounds_on_different_prompts_are_refused(scores):
    rows = pd.concat([scores(["s", "s"]), scores(["s"], "rl", 0, 8)])
    with pytest.raises(UserError, match="steps 0 and 8 of rl"):
        efficiency_tables(rows, rows)
