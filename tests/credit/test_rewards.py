"""Response-level rewards, against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtt.credit.rewards import response_rewards

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
NAN, INF = math.nan, math.inf

# row 0 passes everything, row 1 half, row 2 nothing, row 3 is graded
VERDICTS = [[1, 1, 1, 1], [1, -1, 1, -1], [-1, -1, -1, -1], [1, 0.5, 0, -0.5]]
# (r + 1) / 2 of row 3: 1, 0.75, 0.5, 0.25, which add up to 2.5
CSR = [1, 0.5, 0, 2.5 / 4]
AON = [1, 0, 0, 0]


def verdicts_and_valid(dtype=torch.float32):
    verdicts = torch.tensor(VERDICTS, dtype=dtype)
    return verdicts, torch.ones(verdicts.shape, dtype=torch.bool)


@BOTH
@pytest.mark.parametrize(("kind", "expected"), [("aon", AON), ("csr", CSR)])
def test_aon_and_csr_by_hand(kind, expected, dtype):
    rewards = response_rewards(*verdicts_and_valid(dtype), kind)
    torch.testing.assert_close(rewards, torch.tensor(expected, dtype=dtype))


@BOTH
def test_mix_weighs_aon_by_beta(dtype):
    rewards = response_rewards(*verdicts_and_valid(dtype), "mix", beta=0.2)
    # 0.2 · aon + 0.8 · csr
    torch.testing.assert_close(rewards, torch.tensor([1, 0.4, 0, 0.5], dtype=dtype))


def test_mix_has_beta_one_half_by_default():
    rewards = response_rewards(*verdicts_and_valid(), "mix")
    torch.testing.assert_close(rewards, torch.tensor([1, 0.25, 0, 0.3125]))


@pytest.mark.parametrize(("beta", "kind"), [(0.0, "csr"), (1.0, "aon")])
def test_mix_ends_in_csr_and_aon(beta, kind):
    verdicts, valid = verdicts_and_valid()
    assert torch.equal(
        response_rewards(verdicts, valid, "mix", beta=beta),
        response_rewards(verdicts, valid, kind),
    )


def test_one_rubric_just_short_of_plus_one_is_not_all():
    assert response_rewards(torch.tensor([[1, 0.999]]), torch.ones(1, 2), "aon").tolist() == [0]


@pytest.mark.parametrize("absurd", [1e30, -1e30, NAN, INF, -INF])
@pytest.mark.parametrize(("kind", "expected"), [("aon", [1, 0]), ("csr", [1, 0.5]), ("mix", [1, 0.25])])
def test_an_invalid_verdict_has_no_influence(kind, expected, absurd):
    verdicts = torch.tensor([[1, absurd, 1], [absurd, 1, -1]])
    valid = torch.tensor([[1, 0, 1], [0, 1, 1]])
    assert response_rewards(verdicts, valid, kind).tolist() == expected


@pytest.mark.parametrize("kind", ["aon", "csr", "mix"])
def test_a_row_without_a_valid_verdict_has_no_reward(kind):
    verdicts = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    rewards = response_rewards(verdicts, torch.tensor([[True, True], [False, False]]), kind)
    assert rewards[0] == 1
    assert rewards[1].isnan()


def test_no_rubrics_at_all_is_no_reward():
    rewards = response_rewards(torch.zeros(2, 0), torch.zeros(2, 0), "csr")
    assert rewards.shape == (2,)
    assert rewards.isnan().all()


@BOTH
@pytest.mark.parametrize("kind", ["aon", "csr", "mix"])
def test_the_type_follows_the_verdicts(kind, dtype):
    assert response_rewards(*verdicts_and_valid(dtype), kind).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bfloat16])
def test_verdicts_of_another_type_are_taken_as_float32(dtype):
    rewards = response_rewards(torch.tensor([[1, -1, -1]], dtype=dtype), torch.ones(1, 3), "csr")
    torch.testing.assert_close(rewards, torch.tensor([1 / 3]))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.float64])
def test_valid_may_have_any_type(dtype):
    valid = torch.tensor([[1, 0, 1]], dtype=dtype)
    rewards = response_rewards(torch.tensor([[1.0, -1.0, -1.0]]), valid, "csr")
    assert rewards.dtype == torch.float32
    assert rewards.tolist() == [0.5]


def test_arguments_are_left_alone():
    verdicts, valid = torch.tensor([[1.0, NAN]]), torch.tensor([[1.0, 0.0]])
    kept = verdicts.clone(), valid.clone()
    for kind in ("aon", "csr", "mix"):
        response_rewards(verdicts, valid, kind)
    torch.testing.assert_close((verdicts, valid), kept, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
def test_a_valid_verdict_must_be_a_number(broken):
    with pytest.raises(ValueError, match=r"row 1, rubric 2 is marked valid"):
        response_rewards(torch.tensor([[1, 1, 1], [1, 1, broken]]), torch.ones(2, 3), "aon")


def test_misaligned_valid_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"valid has shape \(2, 4\), \(2, 3\) was expected"):
        response_rewards(torch.zeros(2, 3), torch.ones(2, 4), "csr")


def test_verdicts_must_be_a_matrix():
    with pytest.raises(ValueError, match=r"verdicts must have 2 dimension\(s\), it has 1"):
        response_rewards(torch.zeros(3), torch.ones(3), "csr")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind 'all' is none of aon, csr, mix"):
        response_rewards(*verdicts_and_valid(), "all")


@pytest.mark.parametrize("beta", [-0.1, 1.1, NAN])
def test_beta_outside_its_range_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta must lie between 0 and 1, it is {beta}"):
        response_rewards(*verdicts_and_valid(), "mix", beta=beta)


@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32) | st.just(1.0), st.booleans()), min_size=1, max_size=9),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=100)
def test_rewards_are_ordered_bounded_and_blind_to_the_order_of_rubrics(pairs, beta, random):
    def rewards(rows):
        verdicts, valid = (torch.tensor([list(column)]) for column in zip(*rows, strict=True))
        return {kind: response_rewards(verdicts, valid, kind, beta).item() for kind in ("aon", "mix", "csr")}

    before, after = rewards(pairs), rewards(random.sample(pairs, len(pairs)))
    if any(valid for _, valid in pairs):
        assert 0 <= before["aon"] <= before["mix"] + 1e-6
        assert before["mix"] <= before["csr"] + 1e-6
        assert max(before.values()) <= 1  # exactly, since the table of rollouts holds rewards to it
        assert after == pytest.approx(before, abs=1e-6)
    else:
        assert all(math.isnan(reward) for reward in before.values())


# Weights.


@BOTH
def test_csr_is_a_weighted_mean(dtype):
    verdicts = torch.tensor([[1, -1, 0, 1e30], [-1, NAN, NAN, NAN], [1, 1, 1, 1]], dtype=dtype)
    valid = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    weights = torch.tensor([[3, 1, 2, NAN], [5, -1, 0, INF], [0, 0, 0, 0]], dtype=dtype)
    rewards = response_rewards(verdicts, valid, "csr", weights=weights)
    # (3·1 + 1·0 + 2·0.5) / 6
    torch.testing.assert_close(rewards, torch.tensor([4 / 6, 0, NAN], dtype=dtype), equal_nan=True)


def test_all_or_nothing_does_not_weigh():
    verdicts, valid = verdicts_and_valid()
    weights = torch.tensor([1.0, 2, 3, 4]).expand(verdicts.shape)
    assert torch.equal(
        response_rewards(verdicts, valid, "aon", weights=weights), response_rewards(verdicts, valid, "aon")
    )
    mixed = response_rewards(verdicts, valid, "mix", weights=weights)
    # row 1: half of (1 + 3) / 10; row 3: half of (1·1 + 2·0.75 + 3·0.5 + 4·0.25) / 10
    torch.testing.assert_close(mixed, torch.tensor([1, 0.2, 0, 0.25]))


@given(st.floats(1e-3, 1e3))
def test_equal_weights_change_nothing(weight):
    verdicts, valid = verdicts_and_valid(torch.float64)
    weights = torch.full(verdicts.shape, weight, dtype=torch.float64)
    torch.testing.assert_close(
        response_rewards(verdicts, valid, "csr", weights=weights), response_rewards(verdicts, valid, "csr")
    )


@pytest.mark.parametrize("bad", [0.0, -1.0, NAN, INF])
def test_a_weight_that_is_not_positive_is_refused(bad):
    verdicts, valid = verdicts_and_valid()
    weights = torch.ones(verdicts.shape)
    weights[1, 2] = bad
    with pytest.raises(ValueError, match="row 1, rubric 2"):
        response_rewards(verdicts, valid, "csr", weights=weights)
    valid[1, 2] = False
    assert response_rewards(verdicts, valid, "csr", weights=weights).isfinite().all()


def test_weights_must_have_the_shape_of_the_verdicts():
    with pytest.raises(ValueError, match=r"weights has shape \(4, 3\)"):
        response_rewards(*verdicts_and_valid(), "csr", weights=torch.ones(4, 3))
