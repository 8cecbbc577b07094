"""What each arm makes of the same verdicts."""

import pytest
import torch

from rtt.config import Arm
from rtt.credit.advantages import response_advantages, token_advantages
from rtt.policy.assignment import Judged, assign, measure
from rtt.relevance.sources import RelevanceBatch
from rtt.rubrics import Rubric

KINDS = ("punctuation:no_comma", "keywords:frequency")
ABOUT = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]])  # (K, T), the same for every response


def judged() -> Judged:
    rubrics = [[Rubric(rubric_id=f"p/{k}", kind=kind, text=f"Rule {k}.") for k, kind in enumerate(KINDS)]] * 4
    verdicts = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    valid = torch.ones(4, 2, dtype=torch.bool)
    return Judged(
        rubrics,
        ["Do it. Rule 0. Rule 1."] * 4,
        ["abc"] * 4,
        verdicts,
        valid,
        torch.ones(valid.shape),
        (verdicts + 1).mean(1) / 2,
    )


MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]])


def batch(step: int = 0, log_probs=None) -> RelevanceBatch:
    one = judged()
    spans = [[(0, 1), (1, 2), (2, 3)][: int(row.sum())] for row in MASK]
    return RelevanceBatch(one.rubrics, one.prompts, one.responses, spans, 3, step, log_probs)


def given(arm: dict, step: int = 0, log_probs=None):
    source = (lambda _: ABOUT.expand(4, 2, 3)) if "credit" in arm else None
    parsed = Arm.model_validate(arm)
    return assign(parsed, judged(), measure(parsed, batch(step, log_probs), source), MASK, 4, step)


def test_an_arm_without_credit_gets_the_broadcast_response_term():
    result = given({})
    expected = response_advantages(judged().rewards, 4)
    assert torch.equal(result.advantages, expected[:, None] * MASK)
    assert result.relevance is None
    assert result.token_term.abs().sum() == 0


@pytest.mark.parametrize(
    "partition", ["intra_sample", "per_rubric", "pooled", "softmax_share", "intra_sample_released"]
)
def test_credit_adds_the_partitions_token_term(partition):
    result = given({"credit": {"relevance": "rules", "partition": partition, "weight": 0.25}})
    one = judged()
    term = token_advantages(ABOUT.expand(4, 2, 3), one.verdicts, one.valid, MASK, 4, partition=partition)
    assert term.abs().sum() > 0
    expected = (response_advantages(one.rewards, 4)[:, None] + 0.25 * term) * MASK
    torch.testing.assert_close(result.advantages, expected)
    assert torch.equal(result.token_term, term)


def test_dr_grpo_centres_and_does_not_divide():
    # rewards 1, 1/2, 1/2, 0 about their mean 1/2
    assert given({"objective": "dr_grpo"}).response_term.tolist() == [0.5, 0.0, 0.0, -0.5]


def test_papo_standardises_quality_among_the_passing_alone():
    arm = {"papo": {"quality_weight": 2.0, "quality_kinds": [KINDS[1]]}}
    # outcome (first rubric) 1 1 0 0: z = ±0.5/0.57735; quality of the two passing 1 and 0: z = ±0.5/0.70711
    high, soft = 0.5 / 0.57735, 0.5 / 0.70711
    expected = torch.tensor([high + 2 * soft, high - 2 * soft, -high, -high])
    torch.testing.assert_close(given(arm).response_term, expected, atol=1e-4, rtol=0)


def test_cort_reweights_and_its_ramp_starts_at_nothing():
    asked = []

    def log_probs(prompts):
        asked.append(prompts)
        with_all = "Rule 0." in prompts[0]
        return torch.tensor([[0.0, 2.0, -2.0]] * 4) if with_all else torch.zeros(4, 3)

    arm = {"cort": {"eta": 1.0, "ramp_steps": 8}}
    plain = given({}).advantages
    assert torch.equal(given(arm, step=0, log_probs=log_probs).advantages, plain)
    late = given(arm, step=8, log_probs=log_probs)
    row = late.advantages[0] / plain[0]
    assert row.mean() == pytest.approx(1.0)
    assert row[1] > row[0] > row[2]
    assert (late.advantages[1, 2], late.relevance) == (0, None)
    assert any("Rule 0." not in prompt for call in asked for prompt in call)
