"""The methods compared with: worked-out values, what they reduce to, and what must not matter."""

import math
import random
import statistics
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtt.credit.advantages import combine, response_advantages
from rtt.credit.peers import centred_advantages, cort_advantages, decoupled_advantages, ramp, split_rewards
from rtt.credit.rewards import response_rewards

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
MASK_TYPES = pytest.mark.parametrize("mask_type", [torch.bool, torch.int64, torch.float32])
MANY = settings(deadline=None, max_examples=60)
NAN, INF = math.nan, math.inf
ABSURD = [1e30, -1e30, NAN, INF, -INF]
ROOT2 = math.sqrt(2)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def bits(values):
    """The bit patterns, so that 0.0 and -0.0 differ."""
    return values.contiguous().view(torch.int32 if values.dtype == torch.float32 else torch.int64)


def same_bits(left, right):
    return left.dtype == right.dtype and torch.equal(bits(left), bits(right))


# --- CoRT


@BOTH
def test_cort_by_hand(dtype):
    # sigmoid(±ln 3) = 3/4, 1/4, so scores of 1/4, -1/4 and 0
    ln3 = math.log(3)
    contrast = torch.tensor([[ln3, -ln3, 0, 0], [ln3, 0, NAN, INF], [ln3, ln3, -ln3, NAN]], dtype=dtype)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]])
    response = torch.tensor([2.0, -1.0, 1.0], dtype=dtype)
    # row 0: weights 5/4 3/4 1 1, mean 1; row 1: 5/4 1, mean 9/8, so 10/9 8/9; row 2: 5/4 3/4, mean 1
    expected = torch.tensor([[2.5, 1.5, 2, 2], [-10 / 9, -8 / 9, 0, 0], [0, 1.25, 0.75, 0]], dtype=dtype)
    advantages = cort_advantages(contrast, response, mask)
    assert advantages.dtype == dtype
    torch.testing.assert_close(advantages, expected)


def test_every_coefficient_of_cort_has_its_place():
    # τ·(δ - b) = 2 · (δ - 1): ±ln 3, scores ±1/4; η·λ = 2 · 1/2, weights 5/4 3/4
    half = math.log(3) / 2
    contrast = torch.tensor([[1 + half, 1 - half, 1 - half]])
    advantages = cort_advantages(contrast, torch.ones(1), torch.ones(1, 3), eta=2, temperature=2, bias=1, ramp=0.5)
    # the mean is (5/4 + 3/4 + 3/4) / 3 = 11/12
    torch.testing.assert_close(advantages, torch.tensor([[15 / 11, 9 / 11, 9 / 11]]))
    # with η·λ of 1/2 the weights are 9/8 7/8 7/8, mean 23/24
    halved = cort_advantages(contrast, torch.ones(1), torch.ones(1, 3), eta=1, temperature=2, bias=1, ramp=0.5)
    torch.testing.assert_close(halved, torch.tensor([[27 / 23, 21 / 23, 21 / 23]]))


floats32 = st.floats(width=32, allow_nan=False)


@st.composite
def reweighings(draw, dtype=torch.float64):
    """Contrasts (B, T), response-level advantages (B,) and a mask (B, T) with holes and void rows."""
    rows, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 30.0]))
    contrast = torch.tensor([[rng.gauss(0, scale) for _ in range(tokens)] for _ in range(rows)], dtype=dtype)
    response = torch.tensor([rng.choice([-1.5, -0.25, 0.0, 0.5, 2.0]) for _ in range(rows)], dtype=dtype)
    mask = torch.tensor([[rng.random() < 0.8 for _ in range(tokens)] for _ in range(rows)])
    mask[draw(st.integers(0, rows - 1))] &= draw(st.booleans())
    return contrast, response, mask


coefficients = st.fixed_dictionaries(
    {
        "eta": st.floats(0, 2),
        "temperature": st.floats(0.01, 10),
        "bias": st.floats(-2, 2),
        "ramp": st.floats(0, 1),
    }
)


@given(drawn=reweighings(), coefficients=coefficients)
@MANY
def test_cort_is_the_formula_written_out(drawn, coefficients):
    contrast, response, mask = drawn
    eta, tau, b, rise = (coefficients[name] for name in ("eta", "temperature", "bias", "ramp"))
    expected = torch.zeros(mask.shape, dtype=torch.float64)
    for j, row in enumerate(contrast.tolist()):
        counted = [t for t in range(len(row)) if mask[j, t]]
        # sigmoid(x) - 1/2 is tanh(x/2) / 2, which does not overflow
        weight = {t: 1 + eta * rise * (math.tanh(tau * (row[t] - b) / 2) / 2) for t in counted}
        for t in counted:
            expected[j, t] = weight[t] / statistics.fmean(weight.values()) * response[j]
    torch.testing.assert_close(cort_advantages(*drawn, **coefficients), expected, rtol=1e-6, atol=1e-9)


@given(drawn=reweighings(), coefficients=coefficients)
@MANY
def test_cort_keeps_the_mean_and_the_sign_of_the_response_level_advantage(drawn, coefficients):
    _, response, mask = drawn
    advantages = cort_advantages(*drawn, **coefficients)
    torch.testing.assert_close(advantages.sum(dim=1), response * mask.sum(dim=1), rtol=1e-9, atol=1e-9)
    assert (advantages * response[:, None] >= 0).all()
    assert (advantages[~mask] == 0).all()


@given(drawn=reweighings(), coefficients=coefficients, absurd=st.sampled_from(ABSURD))
@MANY
def test_what_cort_finds_outside_the_mask_has_no_influence(drawn, coefficients, absurd):
    contrast, response, mask = drawn
    dirty = cort_advantages(torch.where(mask, contrast, absurd), response, mask, **coefficients)
    assert same_bits(dirty, cort_advantages(*drawn, **coefficients))


@given(drawn=reweighings(), coefficients=coefficients)
@MANY
def test_a_token_with_more_contrast_gets_no_less_weight(drawn, coefficients):
    contrast, _, mask = drawn
    weights = cort_advantages(contrast, torch.ones(len(contrast), dtype=torch.float64), mask, **coefficients)
    for row, counted, of in zip(weights, mask, contrast, strict=True):
        ordered = row[counted][of[counted].argsort()]
        assert (ordered.diff() >= -1e-12).all()


@pytest.mark.parametrize("zero", ["eta", "ramp"])
@given(
    response=st.lists(floats32, min_size=1, max_size=4),
    contrast=st.lists(st.sampled_from([*ABSURD, 0.3]), min_size=1, max_size=4),
    mask=st.lists(st.booleans(), min_size=4, max_size=4),
)
@MANY
def test_cort_without_eta_or_ramp_is_the_broadcast_bit_for_bit(zero, response, contrast, mask):
    a = torch.tensor(response)
    delta = torch.tensor(contrast).expand(len(response), -1)
    counted = torch.tensor(mask[: len(contrast)]).expand_as(delta)
    advantages = cort_advantages(delta, a, counted, **{zero: 0.0})
    assert same_bits(advantages, torch.where(counted, a[:, None], 0))
    assert same_bits(advantages, combine(a, torch.zeros(delta.shape), counted, weight=0.0))


@pytest.mark.parametrize(("contrast", "bias"), [(0.0, 0.0), (0.75, 0.75)])
@BOTH
def test_a_contrast_at_the_bias_is_the_broadcast_bit_for_bit(contrast, bias, dtype):
    response = torch.tensor([0.1, -0.7, -0.0, 1 / 3], dtype=dtype)
    mask = torch.arange(9) < torch.tensor([9, 7, 3, 0])[:, None]
    advantages = cort_advantages(torch.full((4, 9), contrast, dtype=dtype), response, mask, 2.0, 3.0, bias, 0.7)
    assert same_bits(advantages, torch.where(mask, response[:, None], 0))


@BOTH
def test_a_response_whose_every_weight_is_zero_has_equal_weights(dtype):
    advantages = cort_advantages(
        torch.full((1, 3), -INF, dtype=dtype), torch.tensor([0.5], dtype=dtype), torch.ones(1, 3), eta=2.0
    )
    assert torch.equal(advantages, torch.full((1, 3), 0.5, dtype=dtype))


def test_an_infinite_contrast_is_a_score_of_a_half():
    # weights 3/2 1/2 1, mean 1
    advantages = cort_advantages(torch.tensor([[INF, -INF, 0.0]]), torch.ones(1), torch.ones(1, 3))
    torch.testing.assert_close(advantages, torch.tensor([[1.5, 0.5, 1.0]]))


def test_a_counted_nan_of_the_contrast_is_not_hidden():
    advantages = cort_advantages(torch.tensor([[NAN, 1.0], [0.0, 0.0]]), torch.ones(2), torch.ones(2, 2))
    assert advantages[0].isnan().all()
    assert torch.equal(advantages[1], torch.ones(2))


@MASK_TYPES
def test_the_masks_type_does_not_matter_to_cort(mask_type):
    contrast, mask = torch.tensor([[1.0, -2.0, 5.0]]), torch.tensor([[True, True, False]])
    assert torch.equal(
        cort_advantages(contrast, torch.ones(1), mask.to(mask_type)), cort_advantages(contrast, torch.ones(1), mask)
    )


def test_cort_in_half_precision_is_computed_in_float32():
    contrast = torch.tensor([[0.3, -0.9, 2.0]], dtype=torch.bfloat16)
    advantages = cort_advantages(contrast, torch.ones(1), torch.ones(1, 3))
    assert same_bits(advantages, cort_advantages(contrast.float(), torch.ones(1), torch.ones(1, 3)))


def test_cort_leaves_its_arguments_alone_and_passes_no_gradient():
    contrast, response, mask = torch.tensor([[1.0, NAN]], requires_grad=True), torch.ones(1), torch.tensor([[1, 0]])
    kept = contrast.detach().clone()
    assert not cort_advantages(contrast, response, mask).requires_grad
    assert same_bits(contrast.detach(), kept)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_cort_on_an_empty_axis_gives_an_empty_tensor(shape):
    assert cort_advantages(torch.zeros(shape), torch.ones(shape[0]), torch.ones(shape)).shape == shape


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ({"eta": -0.1}, "eta must lie between 0 and 2, it is -0.1"),
        ({"eta": 2.1}, "eta must lie between 0 and 2, it is 2.1"),
        ({"eta": NAN}, "eta must lie between 0 and 2, it is nan"),
        ({"ramp": 1.5}, "ramp must lie between 0 and 1, it is 1.5"),
        ({"ramp": -0.5}, "ramp must lie between 0 and 1, it is -0.5"),
        ({"temperature": 0}, "temperature must be above 0 and finite, it is 0"),
        ({"temperature": INF}, "temperature must be above 0 and finite, it is inf"),
        ({"bias": NAN}, "bias must be finite, it is nan"),
    ],
)
def test_cort_refuses_coefficients_out_of_range(coefficients, message):
    with pytest.raises(ValueError, match=message):
        cort_advantages(torch.zeros(1, 2), torch.ones(1), torch.ones(1, 2), **coefficients)


@pytest.mark.parametrize(
    ("contrast", "response", "mask", "message"),
    [
        ((2, 4), (3,), (2, 4), r"response has shape \(3,\), \(2,\) was expected"),
        ((2, 4), (1,), (2, 4), r"response has shape \(1,\), \(2,\) was expected"),
        ((2, 4), (2, 1), (2, 4), r"response must have 1 dimension\(s\), it has 2"),
        ((4,), (2,), (2, 4), r"contrast must have 2 dimension\(s\), it has 1"),
        ((2, 4), (2,), (2, 1), r"completion_mask has shape \(2, 1\), \(2, 4\) was expected"),
    ],
)
def test_cort_refuses_misaligned_shapes(contrast, response, mask, message):
    with pytest.raises(ValueError, match=message):
        cort_advantages(torch.zeros(contrast), torch.ones(response), torch.ones(mask))


# --- the ramp


def test_the_ramp_is_half_a_cosine():
    # cos 0, π/4, π/2, 3π/4, π
    expected = [0, (1 - ROOT2 / 2) / 2, 0.5, (1 + ROOT2 / 2) / 2, 1, 1]
    assert [ramp(step, 4) for step in (0, 1, 2, 3, 4, 9)] == pytest.approx(expected)


@given(steps=st.integers(1, 500))
@MANY
def test_the_ramp_rises_from_exactly_zero_to_exactly_one(steps):
    values = [ramp(step, steps) for step in range(steps + 2)]
    assert values[0] == 0
    assert values[-2:] == [1, 1]
    assert all(early < late for early, late in pairwise(values[:-1]))
    assert all(a + b == pytest.approx(1) for a, b in zip(values[:-1], reversed(values[:-1]), strict=True))


@pytest.mark.parametrize("step", [0, 3])
def test_a_ramp_of_no_steps_is_one_from_the_start(step):
    assert ramp(step, 0) == 1


@pytest.mark.parametrize(("step", "steps", "name"), [(-1, 4, "step"), (0, -4, "steps")])
def test_a_negative_ramp_is_refused(step, steps, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, it is {min(step, steps)}"):
        ramp(step, steps)


# --- PAPO


@BOTH
def test_decoupled_by_hand(dtype):
    outcome = torch.tensor([1, 1, 0, 0, 1, 1, 1, NAN], dtype=dtype)
    quality = torch.tensor([0.25, 0.75, 1, NAN, 0, 1, NAN, 1], dtype=dtype)
    # group 0: outcome's mean 1/2, sample variance 1/3, so ±√3/2; quality of the passing: mean 1/2, variance 1/8, ∓1/√2
    # group 1: outcomes of three rows all 1: 0; quality 0 and 1: ∓1/√2; the row without an outcome is out of both
    a, b = math.sqrt(3) / 2, 1 / ROOT2
    expected = torch.tensor([a - 2 * b, a + 2 * b, -a, -a, -2 * b, 2 * b, 0, 0], dtype=dtype)
    advantages = decoupled_advantages(outcome, quality, 4, quality_weight=2)
    assert advantages.dtype == dtype
    torch.testing.assert_close(advantages, expected, **CLOSE)
    assert advantages[6:].tolist() == [0, 0]


two_rewards = st.integers(1, 5).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(
            st.tuples(st.sampled_from([0.0, 1.0, 1.0, NAN]), st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])),
            min_size=size,
            max_size=4 * size,
        ).map(lambda rows: rows[: len(rows) // size * size]),
    )
)


def z_scores(values):
    """Sample z-scores of a dict; 0 where there are fewer than two or no spread."""
    if len(values) < 2 or statistics.stdev(values.values()) == 0:
        return dict.fromkeys(values, 0.0)
    mean, std = statistics.fmean(values.values()), statistics.stdev(values.values())
    return {key: (value - mean) / (std + 1e-6) for key, value in values.items()}


@given(drawn=two_rewards, weight=st.sampled_from([0.0, 0.5, 3.0]))
@MANY
def test_decoupled_is_the_formula_written_out(drawn, weight):
    size, rows = drawn
    expected = []
    for start in range(0, len(rows), size):
        group = dict(enumerate(rows[start : start + size]))
        outcomes = z_scores({j: o for j, (o, _) in group.items() if not math.isnan(o)})
        qualities = z_scores({j: q for j, (o, q) in group.items() if o == 1 and not math.isnan(q)})
        expected += [outcomes.get(j, 0.0) + weight * qualities.get(j, 0.0) for j in group]
    outcome, quality = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    advantages = decoupled_advantages(outcome, quality, size, quality_weight=weight)
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))


@given(drawn=two_rewards)
@MANY
def test_decoupled_without_quality_is_plain_grpo_on_the_outcome(drawn):
    size, rows = drawn
    outcome, quality = torch.tensor(rows).unbind(dim=1)
    plain = response_advantages(outcome, size)
    assert torch.equal(decoupled_advantages(outcome, torch.full_like(quality, NAN), size), plain)
    assert torch.equal(decoupled_advantages(outcome, quality, size, quality_weight=0), plain)


@given(drawn=two_rewards)
@MANY
def test_quality_shifts_credit_among_the_passing_alone(drawn):
    size, rows = drawn
    outcome, quality = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    term = decoupled_advantages(outcome, quality, size) - response_advantages(outcome, size)
    assert (term[outcome != 1] == 0).all()
    assert term.view(-1, size).sum(dim=1).abs().max() < 1e-9


@pytest.mark.parametrize("absurd", ABSURD)
def test_the_quality_of_a_response_that_does_not_pass_has_no_influence(absurd):
    outcome = torch.tensor([1.0, 0.0, 1.0, NAN])
    dirty = decoupled_advantages(outcome, torch.tensor([0.2, absurd, 0.9, absurd]), 4)
    assert torch.equal(dirty, decoupled_advantages(outcome, torch.tensor([0.2, 0.1, 0.9, 0.3]), 4))
    assert dirty[0] < dirty[2]


@pytest.mark.parametrize(
    ("outcome", "quality"),
    [([1, 0, 0], [0.5, 1, 0]), ([1, 1, 0], [0.5, NAN, 0.1]), ([1, 1, 1], [0.3, 0.3, 0.3]), ([0, 0, 0], [0, 0.5, 1])],
)
def test_fewer_than_two_passing_qualities_that_differ_give_no_quality_term(outcome, quality):
    outcome, quality = torch.tensor(outcome, dtype=torch.float32), torch.tensor(quality)
    assert torch.equal(decoupled_advantages(outcome, quality, 3), response_advantages(outcome, 3))


def test_eps_enters_both_terms():
    # both deviations are √(1/2), and eps doubles them: ∓√2/4 each
    advantages = decoupled_advantages(
        torch.tensor([0.0, 1.0, 1.0, 1.0]), torch.tensor([NAN, NAN, 0.0, 1.0]), 2, eps=math.sqrt(0.5)
    )
    torch.testing.assert_close(advantages, torch.tensor([-1.0, 1, -1, 1]) * ROOT2 / 4)


def test_decoupled_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"quality has shape \(2,\), \(4,\) was expected"):
        decoupled_advantages(torch.ones(4), torch.ones(2), 2)
    with pytest.raises(ValueError, match=r"outcome must have 1 dimension\(s\), it has 2"):
        decoupled_advantages(torch.ones(4, 1), torch.ones(4, 1), 2)
    with pytest.raises(ValueError, match="4 rows are not a multiple of group_size 3"):
        decoupled_advantages(torch.ones(4), torch.ones(4), 3)
    with pytest.raises(ValueError, match="quality_weight must be at least 0, it is -1"):
        decoupled_advantages(torch.ones(4), torch.ones(4), 2, quality_weight=-1)


def test_split_rewards_by_hand():
    verdicts = torch.tensor([[1, 1, -1, 0.5], [1, -1, 1, 9], [9, 9, -1, 1], [1, 0.5, 9, 9], [9, 9, 9, 9]])
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    quality = torch.tensor([[0, 0, 1, 1]] * 5)
    # outcome from columns 0 and 1: all +1; one broken; none there; a graded one is not +1; nothing at all
    # quality from columns 2 and 3: (0 + 3/4) / 2; 1; (0 + 1) / 2; none there
    outcome, soft = split_rewards(verdicts, valid, quality)
    torch.testing.assert_close(outcome, torch.tensor([1, 0, NAN, 0, NAN]), equal_nan=True)
    torch.testing.assert_close(soft, torch.tensor([0.375, 1, 0.5, NAN, NAN]), equal_nan=True)


@given(seed=st.integers(0, 2**32 - 1), absurd=st.sampled_from(ABSURD))
@MANY
def test_split_rewards_reads_valid_verdicts_alone_and_each_once(seed, absurd):
    rng = random.Random(seed)
    grid = [[(rng.choice([-1, 0.5, 1.0]), rng.random() < 0.7, rng.random() < 0.5) for _ in range(4)] for _ in range(5)]
    verdicts, valid, quality = torch.tensor(grid).unbind(dim=2)
    valid, quality = valid.bool(), quality.bool()
    dirty = split_rewards(torch.where(valid, verdicts, absurd), valid, quality)
    for got, clean in zip(dirty, split_rewards(verdicts, valid, quality), strict=True):
        torch.testing.assert_close(got, clean, rtol=0, atol=0, equal_nan=True)
    # with every rubric on one side, that side is the plain reward and the other is empty
    for side, kind in ((torch.zeros_like(quality), "aon"), (torch.ones_like(quality), "csr")):
        one, other = split_rewards(verdicts, valid, side)[:: 1 if kind == "aon" else -1]
        torch.testing.assert_close(one, response_rewards(verdicts, valid, kind), rtol=0, atol=0, equal_nan=True)
        assert other.isnan().all()


def test_split_rewards_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"quality has shape \(2,\), \(3, 2\) was expected"):
        split_rewards(torch.ones(3, 2), torch.ones(3, 2), torch.ones(2))
    with pytest.raises(ValueError, match="verdict nan in row 1, rubric 0 is marked valid"):
        split_rewards(torch.tensor([[1.0], [NAN]]), torch.ones(2, 1), torch.ones(2, 1))


# --- Dr. GRPO


@BOTH
def test_centred_by_hand(dtype):
    rewards = torch.tensor([1, 0, 0.5, 0.5, 1, NAN, 0, 0.5], dtype=dtype)
    expected = torch.tensor([0.5, -0.5, 0, 0, 0.5, 0, -0.5, 0], dtype=dtype)
    assert same_bits(centred_advantages(rewards, 4), expected)


@given(
    drawn=st.integers(1, 5).flatmap(
        lambda size: st.tuples(
            st.just(size),
            st.lists(st.lists(st.none() | st.integers(0, 16), min_size=size, max_size=size), min_size=1, max_size=4),
        )
    )
)
@MANY
def test_centred_is_response_advantages_before_the_division(drawn):
    size, groups = drawn
    rewards = torch.tensor([NAN if x is None else x / 16 for group in groups for x in group], dtype=torch.float64)
    centred = centred_advantages(rewards, size)
    deviation = [
        statistics.stdev(known) if len(known := [x / 16 for x in group if x is not None]) > 1 else 0.0
        for group in groups
        for _ in group
    ]
    divided = response_advantages(rewards, size, eps=0)
    torch.testing.assert_close(centred, divided * torch.tensor(deviation, dtype=torch.float64))
    assert centred.view(-1, size).sum(dim=1).abs().max() < 1e-12
    assert (centred[rewards.isnan()] == 0).all()


@pytest.mark.parametrize(
    ("rewards", "group_size"),
    [([0.3, 0.9], 1), ([NAN, 0.7, NAN], 3), ([NAN, NAN], 2), ([0.1] * 3 + [0.7] * 3, 3), ([NAN, 0.1, 0.1, 0.1], 4)],
)
@BOTH
def test_centring_a_group_without_spread_is_exactly_zero(rewards, group_size, dtype):
    advantages = centred_advantages(torch.tensor(rewards, dtype=dtype), group_size)
    assert torch.equal(advantages, torch.zeros(len(rewards), dtype=dtype))


def test_centring_no_rows_gives_no_advantages():
    assert centred_advantages(torch.zeros(0), 8).shape == (0,)


def test_centring_leaves_the_rewards_alone():
    rewards = torch.tensor([1.0, NAN, 0.0, 0.5])
    kept = rewards.clone()
    centred_advantages(rewards, 2)
    assert same_bits(rewards, kept)


def test_centring_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="4 rows are not a multiple of group_size 3"):
        centred_advantages(torch.ones(4), 3)
    with pytest.raises(ValueError, match=r"rewards must have 1 dimension\(s\), it has 2"):
        centred_advantages(torch.ones(4, 1), 2)
