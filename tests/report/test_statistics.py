"""Intervals, p-values and Holm's correction, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.report.statistics import (
    METRICS,
    bootstrap,
    evaluation,
    holm,
    interval,
    p_values,
    paired_gaps,
    per_seed,
    seed_deviation,
)

STRICT = METRICS.index("instruction_strict")


def one_metric(rows):
    """(S, P, 1) numerators and denominators of 1."""
    numerators = np.array(rows, dtype=float)[:, :, None]
    return numerators, np.ones((numerators.shape[1], 1))


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    # sorted 0.01, 0.02, 0.03, 0.6: times 4, 3, 2, 1 give 0.04, 0.06, 0.06, 0.6
    assert holm(np.array([0.03, 0.01, 0.6, 0.02])) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    # 0.03·2 = 0.06 is below 0.025·3 = 0.075 before it, so it is raised to it; 0.9·1 stays
    assert holm(np.array([0.025, 0.03, 0.9])) == pytest.approx([0.075, 0.075, 0.9])
    assert holm(np.array([0.5, 0.6])) == pytest.approx([1.0, 1.0])


def test_p_counts_the_rarer_side_twice_and_the_sample_itself():
    drawn = np.array([[1.0]] * 97 + [[-1.0]] * 2)  # 2 of 99 at or below zero: 2·(2+1)/(99+1)
    assert p_values(drawn) == pytest.approx([0.06])
    assert p_values(-drawn) == pytest.approx([0.06])
    assert p_values(np.ones((99, 1))) == pytest.approx([0.02])  # never 0
    assert p_values(np.zeros((99, 1))) == pytest.approx([1.0])
    assert p_values(np.full((99, 1), 1e-17)) == pytest.approx([1.0])  # a sum's last bits are no difference


def test_an_interval_is_the_quantiles_of_the_draws():
    low, high = interval(np.arange(1001, dtype=float)[:, None])
    assert (low[0], high[0]) == (25, 975)


def test_one_seed_resamples_prompts_alone():
    # prompts 0 and 1: a draw of two gives 0, 1/2 or 1 with chances 1/4, 1/2, 1/4
    drawn = bootstrap(*one_metric([[0, 1]]), 4000, 0)[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_two_seeds_are_resampled_beside_the_prompts():
    # each seed is the same on every prompt, so prompts add nothing: both seeds 0, one of each, or both 1
    drawn = bootstrap(*one_metric([[0, 0, 0], [1, 1, 1]]), 4000, 0)[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_seeds_and_prompts_are_drawn_independently():
    # value = seed · prompt with seeds 0, 1 and prompts 0, 1: the mean is (mean of seeds)·(mean of prompts)
    drawn = bootstrap(*one_metric([[0, 0], [0, 1]]), 8000, 0)[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 1]
    # both factors in {0, 1/2, 1} with chances 1/4, 1/2, 1/4: 0 in 7/16, 1/4 in 4/16, 1/2 in 4/16, 1 in 1/16
    assert counts / 8000 == pytest.approx([7 / 16, 1 / 4, 1 / 4, 1 / 16], abs=0.02)


def test_the_same_seed_gives_the_same_draws():
    rows = one_metric(np.random.default_rng(0).random((3, 20)))
    assert (bootstrap(*rows, 50, 7) == bootstrap(*rows, 50, 7)).all()
    assert (bootstrap(*rows, 50, 7) != bootstrap(*rows, 50, 8)).any()


def test_deviation_between_seeds_is_the_sample_one_and_missing_for_one_seed():
    assert seed_deviation(np.array([[0.1], [0.2], [0.6]]))[0] == pytest.approx(np.sqrt(0.07))
    assert np.isnan(seed_deviation(np.array([[0.1]]))[0])


def test_an_evaluation_keeps_its_seeds_apart(scores):
    rows = pd.concat([scores(["s-", "s"], "rl", seed, 8) for seed in (3, 1)] + [scores(["ss", "-"], "rl", 2, 8)])
    found = evaluation(rows.sample(frac=1, random_state=0))
    assert found.seeds == (1, 2, 3)
    assert found.numerators[:, :, STRICT].tolist() == [[1, 1], [2, 0], [1, 1]]
    assert found.denominators[:, STRICT].tolist() == [2, 1]
    assert found.values()[METRICS.index("prompt_strict")] == pytest.approx(0.5)


def test_a_pair_is_compared_over_the_seeds_both_have(scores):
    one = evaluation(pd.concat([scores(["s", v], "rtt", seed, 8) for seed, v in ((0, "-"), (1, "s"), (2, "s"))]))
    other = evaluation(pd.concat([scores([v, "-"], "rl", seed, 8) for seed, v in ((1, "-"), (2, "s"), (5, "s"))]))
    seeds, gaps = paired_gaps(one, other, "validation")
    assert seeds == (1, 2)
    # seed 1: both prompts gained; seed 2: the second alone
    assert gaps[:, :, STRICT].tolist() == [[1, 1], [0, 1]]
    assert per_seed(gaps, one.denominators)[:, STRICT].tolist() == [1, 0.5]


def test_without_a_shared_seed_there_is_no_comparison(scores):
    one, other = (evaluation(scores(["s"], arm, seed, 8)) for arm, seed in (("rtt", 0), ("rl", 1)))
    assert paired_gaps(one, other, "validation") is None


def test_the_base_stands_for_every_seed_of_the_other_arm(scores):
    base = evaluation(scores(["s", "-"], seed=0))
    arm = evaluation(pd.concat([scores(["s", "s"], "rl", 4, 8), scores(["-", "s"], "rl", 7, 8)]))
    seeds, gaps = paired_gaps(arm, base, "validation")
    assert seeds == (4, 7)
    assert gaps[:, :, STRICT].tolist() == [[0, 1], [-1, 1]]
    seeds, back = paired_gaps(base, arm, "validation")
    assert seeds == (4, 7)
    assert (back == -gaps).all()


def test_other_prompts_are_refused(scores):
    one, other = evaluation(scores(["s", "s"], "rl", 0, 8)), evaluation(scores(["s", "s", "s"], "rtt", 0, 8))
    with pytest.raises(UserError, match="3 and 2 instructions, 2 of them shared"):
        paired_gaps(other, one, "validation")
