"""What of a study there is, what is missing, and which pairs are compared."""

from __future__ import annotations

import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.report.study import check_scores, final_scores, gap_notes, pairs_of, read_gaps


def lost(arm="rtt_csr", seed=1, what="training", why="out of memory"):
    return {"arm": arm, "seed": seed, "what": what, "why": why}


def without(table, arm, seed=None, **where):
    gone = table["arm"] == arm
    for column, wanted in {"seed": seed, **where}.items():
        if wanted is not None:
            gone &= table[column] == wanted
    return table[~gone]


def sentences(table, study, *missing):
    return [text for _, text in gap_notes(final_scores(table, study), study, read_gaps(missing, study))]


def test_a_complete_study_lacks_nothing(config, study_scores):
    check_scores(study_scores, config())
    assert sentences(study_scores, config()) == []


def test_final_scores_are_those_of_the_last_step(config, study_scores):
    finals = final_scores(study_scores, config())
    assert set(zip(finals["arm"] == "base", finals["step"], strict=True)) == {(True, 0), (False, 16)}


def test_a_policy_that_stopped_early_has_no_final_scores(config, study_scores):
    table = without(study_scores, "rtt_csr", 1, step=16)
    finals = final_scores(table, config())
    assert set(finals.loc[finals["arm"] == "rtt_csr", "seed"]) == {0}
    assert sentences(table, config(), lost()) == [
        "rtt_csr, seed 1: training is missing: out of memory",
        "rtt_csr is shown on validation, ifbench over seed 0, of 2",
    ]


def test_what_several_seeds_lack_for_one_reason_is_told_once(config):
    gaps = [
        *(lost("rl_csr", seed, what, "it has\n  not run yet.") for seed in (0, 1) for what in ("round 1", "round 2")),
        lost("rl_csr", 2, "round 2", "it broke"),
        lost("base", 0, "ifbench", "it broke"),
    ]
    told = gap_notes(pd.DataFrame(columns=["arm", "benchmark", "seed"]), config(), read_gaps(gaps, config()))
    assert [sentence for _, sentence in told][:3] == [
        "rl_csr, seeds 0, 1: round 1, round 2 are missing: it has not run yet",
        "rl_csr, seed 2: round 2 is missing: it broke",
        "base: ifbench is missing: it broke",
    ]


def test_what_is_missing_without_a_reason_is_found(config, study_scores):
    table = without(without(study_scores, "rl_csr", 0, benchmark="ifbench"), "base", benchmark="ifbench")
    assert sentences(table, config()) == [
        "base: no final scores on ifbench",
        "rl_csr, seed 0: no final scores on ifbench",
        "rl_csr is shown on ifbench over seed 1, of 2",
    ]


def test_an_arm_lost_with_every_seed_is_told_once(config, study_scores):
    told = sentences(without(study_scores, "rtt_few"), config(), lost("rtt_few", None, "training", "no discriminator"))
    assert told == ["rtt_few: training is missing: no discriminator"]


@pytest.mark.parametrize(
    ("gap", "message"),
    [
        (lost(arm="rtt"), "has no arm rtt"),
        ({**lost(), "reason": "none"}, r"reason: Extra inputs"),
        ({"arm": "rtt_csr", "seed": 0, "what": "training"}, "why: Field required"),
    ],
)
def test_a_gap_described_wrongly_is_refused(config, gap, message):
    with pytest.raises(UserError, match=message):
        read_gaps([gap], config())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"arm": "rtt"}, "has no arm rtt"),
        ({"seed": 9}, "has no seed 9 of rl_csr"),
        ({"step": 24}, "scores of step 24, and training ends at step 16"),
        ({"benchmark": "ifeval"}, "has no benchmark ifeval"),
    ],
)
def test_scores_that_contradict_the_configuration_are_refused(config, study_scores, scores, row, message):
    odd = scores(["s"], **{"arm": "rl_csr", "seed": 0, "step": 16, "benchmark": "ifbench", **row})
    with pytest.raises(UserError, match=message):
        check_scores(pd.concat([study_scores, odd]), config())


def test_small_tables_compare_each_with_each_and_large_ones_with_the_first(config):
    arms = {f"arm_{place}": {} for place in range(9)}
    five, seven = tuple(list(arms)[:3]), ("base", *list(arms)[:6])
    study = config(arms=arms, tables={"main": seven, "peers": five}, headline=("arm_1", "arm_0"))
    pairs = pairs_of(study)
    assert pairs["peers"] == [("arm_1", "arm_0"), ("arm_2", "arm_0"), ("arm_2", "arm_1")]
    assert pairs["main"] == [*((arm, "base") for arm in seven[1:]), ("arm_1", "arm_0")]


def test_the_headline_pair_keeps_its_direction(config):
    study = config(tables={"main": ("base", "rtt_csr", "rl_csr")})
    assert pairs_of(study)["main"] == [("rtt_csr", "base"), ("rl_csr", "base"), ("rtt_csr", "rl_csr")]
