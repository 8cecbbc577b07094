"""Where products lie, and what a study that stopped half-way says of itself."""

from pathlib import Path

import pytest
import yaml

from rtt import layout
from rtt.config import load_config, parse_config
from rtt.report.partial import NOT_RUN, find_products, why_missing

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
    values = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    values["arms"]["rtt_csr"]["seeds"] = [3, 4]
    return parse_config({**values, "results": str(tmp_path)}, "test")


def test_curves_need_every_round_and_the_rest_the_last_one(config):
    found = [(e.arm, e.seed, e.number, e.benchmark) for e in layout.evaluations(config)]
    assert len(found) == len(set(found)) == 4 + 3 * (1 + 4)
    assert ("rtt_csr", 4, 1, "validation") in found
    assert ("rtt_csr", 4, 1, "ifbench") not in found
    assert ("rtt_csr", 4, 2, "ifbench") in found
    assert ("rtt_csr", 0, 2, "validation") not in found


def test_the_study_has_one_run_for_every_arm_and_seed():
    study = load_config(ROOT / "config" / "study" / "ci.yaml")
    assert len(study.runs()) == len(set(study.runs())) == 22 + 2 * 2
    for arm in study.headline or ():
        assert [seed for name, seed in study.runs() if name == arm] == [0, 1]


def write(path: str, text: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_what_is_missing_is_named_with_the_message_of_the_step_that_failed(config):
    every = list(layout.evaluations(config))
    for evaluation in every:
        if (evaluation.arm, evaluation.seed) != ("rtt_csr", 4):
            write(evaluation.scores)
    write(
        layout.round_log(config.results, "rtt_csr", 4, 1), "loading\nerror: no space is left on the disk\n  where: x\n"
    )
    scores, metrics, _, missing = find_products(config)
    assert len(scores) == len(every) - 5
    assert metrics == []
    assert {(gap["arm"], gap["seed"]) for gap in missing} == {("rtt_csr", 4)}
    assert {gap["why"] for gap in missing} == {"no space is left on the disk"}
    assert missing[0]["what"] == "round 1 on validation"


def test_the_discriminators_failure_explains_the_arms_that_wait_for_it(config):
    write(layout.discriminator_log(config.results, "full"), "error: nothing to train on\n")
    gaps = find_products(config)[3]
    assert {gap["why"] for gap in gaps if gap["arm"] == "rtt_csr"} == {"nothing to train on"}
    assert {gap["why"] for gap in gaps if gap["arm"] in ("base", "rl_csr")} == {NOT_RUN}


def test_a_step_that_was_killed_is_told_by_its_last_words(tmp_path):
    log = tmp_path / "a.log"
    assert why_missing([log]) == NOT_RUN
    log.write_text("  3%|#\r 50%|##\n\n")
    assert why_missing([log]) == "it stopped before it was done; its last words: 50%|##"
    log.write_text("")
    assert why_missing([log]) == "it stopped without a word"
