"""Advantages against tensors worked out by hand, and what the entry points refuse."""

import math

import pytest
import torch

from rtt.credit.advantages import combine, response_advantages, token_advantages
from rtt.credit.rewards import response_rewards

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
PARTITIONS = ["intra_sample", "per_rubric", "pooled", "softmax_share", "intra_sample_released"]
EVERY_PARTITION = pytest.mark.parametrize("partition", PARTITIONS)
MASK_TYPES = pytest.mark.parametrize("mask_type", [torch.bool, torch.int64, torch.float32, torch.float64])
NAN, INF = math.nan, math.inf
ROOT2, ROOT5 = math.sqrt(2), math.sqrt(5)
# ε = 1e-6 beside deviations of about 1/2 moves a score by a few millionths
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def bits(values):
    """The bit patterns, so that 0.0 and -0.0 differ."""
    return values.contiguous().view(torch.int32 if values.dtype == torch.float32 else torch.int64)


# --- response level


@BOTH
def test_response_advantages_by_hand(dtype):
    rewards = torch.tensor([1, 0, 1, 0, 0, 1, 0.5, 0.5], dtype=dtype)
    # group 0: mean 1/2, sample variance 4 · (1/4) / 3 = 1/3; so ±(1/2) · √3
    # group 1: mean 1/2, sample variance 2 · (1/4) / 3 = 1/6; so ∓(1/2) · √6, 0, 0
    a, b = math.sqrt(3) / 2, math.sqrt(6) / 2
    expected = torch.tensor([a, -a, a, -a, -b, b, 0, 0], dtype=dtype)
    torch.testing.assert_close(response_advantages(rewards, 4), expected, **CLOSE)


@BOTH
def test_a_row_without_a_reward_leaves_its_group(dtype):
    # of 1, 0 and 1/2: mean 1/2, sample variance (1/4 + 1/4) / 2 = 1/4, deviation 1/2
    advantages = response_advantages(torch.tensor([1, NAN, 0, 0.5], dtype=dtype), 4)
    torch.testing.assert_close(advantages, torch.tensor([1, 0, -1, 0], dtype=dtype), **CLOSE)
    assert advantages[1] == 0


def test_eps_is_added_to_the_deviation():
    # deviation of 0 and 1: √(1/2); eps = √(1/2) doubles it
    advantages = response_advantages(torch.tensor([0.0, 1.0]), 2, eps=math.sqrt(0.5))
    torch.testing.assert_close(advantages, torch.tensor([-ROOT2 / 4, ROOT2 / 4]))


@pytest.mark.parametrize(
    ("rewards", "group_size"),
    [
        ([0.3, 0.9], 1),  # singletons
        ([NAN, 0.7, NAN], 3),  # one reward
        ([NAN, NAN], 2),  # none
        ([0.1] * 3 + [0.7] * 3, 3),  # no spread, though 0.1 + 0.1 + 0.1 divided by 3 is not 0.1
        ([NAN, 0.1, 0.1, 0.1], 4),
    ],
)
@pytest.mark.parametrize("eps", [0.0, 1e-6])
@BOTH
def test_a_group_without_spread_is_exactly_zero(rewards, group_size, eps, dtype):
    advantages = response_advantages(torch.tensor(rewards, dtype=dtype), group_size, eps)
    assert torch.equal(advantages, torch.zeros(len(rewards), dtype=dtype))


def test_no_rows_give_no_advantages():
    assert response_advantages(torch.zeros(0), 8).shape == (0,)


def test_rewards_are_left_alone():
    rewards = torch.tensor([1.0, NAN, 0.0, 0.5])
    kept = rewards.clone()
    response_advantages(rewards, 2)
    torch.testing.assert_close(rewards, kept, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("rows", "group_size"), [(5, 2), (4, 3), (4, 8), (4, 0), (4, -2)])
def test_rows_must_be_whole_groups(rows, group_size):
    message = f"{rows} rows are not a multiple of group_size {group_size}"
    with pytest.raises(ValueError, match=message):
        response_advantages(torch.zeros(rows), group_size)
    with pytest.raises(ValueError, match=message):
        token_advantages(
            torch.zeros(rows, 1, 2), torch.ones(rows, 1), torch.ones(rows, 1), torch.ones(rows, 2), group_size
        )


def test_rewards_must_be_a_vector():
    with pytest.raises(ValueError, match=r"rewards must have 1 dimension\(s\), it has 2: \(4, 1\)"):
        response_advantages(torch.zeros(4, 1), 2)


def test_a_negative_eps_is_refused():
    with pytest.raises(ValueError, match="eps must be at least 0, it is -1e-06"):
        response_advantages(torch.zeros(2), 2, eps=-1e-6)


# --- token level, one worked example a partition


def call(relevance, verdicts, valid, mask, group_size, partition, dtype=torch.float32, **settings):
    """token_advantages of nested lists."""
    return token_advantages(
        torch.tensor(relevance, dtype=dtype),
        torch.tensor(verdicts, dtype=dtype),
        torch.tensor(valid),
        torch.tensor(mask),
        group_size,
        partition,
        **settings,
    )


@BOTH
def test_intra_sample_by_hand(dtype):
    advantages = call(
        [[[0, 1, 0, 1], [1, 1, 0, 0]], [[0, 0.5, 1, 9], [0, 0, 0, 9]]],
        [[1, -1], [0.5, 1]],
        [[1, 1], [1, 0]],
        [[1, 1, 1, 1], [1, 1, 1, 0]],
        2,
        "intra_sample",
        dtype,
    )
    # row 0: s = 0 1 0 1, mean 1/2, deviation 1/2, z = -1 1 -1 1; s = -1 -1 0 0, z = -1 -1 1 1; the mean of both
    # row 1, three tokens: s = 0 1/4 1/2, mean 1/4, variance (1/16 + 1/16) / 3, z = ∓√(3/2)
    a = math.sqrt(1.5)
    torch.testing.assert_close(advantages, torch.tensor([[-1, 0, 0, 1], [-a, 0, a, 0]], dtype=dtype), **CLOSE)


@BOTH
def test_per_rubric_by_hand(dtype):
    advantages = call(
        [[[1, 0], [1, 0]], [[1, 0], [9, 9]]],
        [[1, 1], [-1, 1]],
        [[1, 1], [1, 0]],
        [[1, 1], [1, 1]],
        2,
        "per_rubric",
        dtype,
    )
    # rubric 0, four tokens: s = 1 0 -1 0, mean 0, variance 2/4, z = √2 0 -√2 0
    # rubric 1, valid in row 0 alone: s = 1 0, z = 1 -1
    expected = torch.tensor([[(ROOT2 + 1) / 2, -1 / 2], [-ROOT2, 0]], dtype=dtype)
    torch.testing.assert_close(advantages, expected, **CLOSE)


@BOTH
def test_pooled_by_hand(dtype):
    advantages = call(
        [[[1, 0], [0.5, 0.5]], [[0.75, 0.25], [9, 9]], [[1, 1], [1, 1]]],
        [[1, 1], [-1, 1], [1, 1]],
        [[1, 1], [1, 0], [0, 0]],
        [[1, 1], [1, 1], [1, 1]],
        3,
        "pooled",
        dtype,
    )
    # mean of s over valid rubrics: 3/4 1/4 | -3/4 -1/4 | row 2 has none and does not enter
    # mean 0, variance (2 · 9/16 + 2 · 1/16) / 4 = 5/16, so 3/4 · 4/√5 and 1/4 · 4/√5
    a, b = 3 / ROOT5, 1 / ROOT5
    torch.testing.assert_close(advantages, torch.tensor([[a, b], [-a, -b], [0, 0]], dtype=dtype), **CLOSE)


@BOTH
def test_softmax_share_by_hand(dtype):
    log2 = math.log(2)
    advantages = call(
        [[[log2, 0], [0, 0], [9, 9]], [[0, log2], [0, 0], [1, 1]]],
        [[1, -1, 1], [-1, 1, 1]],
        [[1, 1, 0], [1, 1, 1]],
        [[1, 1], [1, 1]],
        2,
        "softmax_share",
        dtype,
    )
    # verdicts 1 -1: mean 0, sample variance 2, z = ±1/√2; rubric 1 the other way round; rubric 2 has one verdict: 0
    # row 0, two rubrics: e^w = 2 1 | 1 1, shares 2/3 1/2 | 1/3 1/2; (2/3 - 1/3) / √2 and 0
    # row 1, three rubrics: e^w = 1 2 | 1 1 | e e; shares of rubrics 0 and 1 in tokens 0 and 1: (1 1) / (2 + e) and
    # (2 1) / (3 + e); (-1 + 1) / √2 = 0 and (-2 + 1) / (3 + e) / √2
    expected = [[1 / 3 / ROOT2, 0], [0, -1 / (3 + math.e) / ROOT2]]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=dtype), **CLOSE)


@BOTH
def test_intra_sample_released_by_hand(dtype):
    advantages = call(
        [
            [[0, 1, 0, 1], [1, 1, 0, 0]],
            [[1, 0, 0, 1], [0, 1, 1, 0]],
            [[0, 0.5, 1, 9], [9] * 4],
            [[1, 1, 0, 9], [9] * 4],
        ],
        [[1, -1], [1, 1], [1, 1], [-1, 1]],
        [[1, 1], [1, 1], [1, 0], [1, 0]],
        [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]],
        2,
        "intra_sample_released",
        dtype,
    )
    # s of the first group's rows in memory: (0, 0) 0 1 0 1; (0, 1) -1 -1 0 0; (1, 0) 1 0 0 1; (1, 1) 0 1 1 0
    # read as (rubric, response): rubric 0 of responses 0 and 1 gets the first two, rubric 1 the others, so
    # response 0 gets 0 1 0 1 and 1 0 0 1: z = -1 1 -1 1 and 1 -1 -1 1, mean 0 0 -1 1
    # response 1 gets -1 -1 0 0 and 0 1 1 0: z = -1 -1 1 1 and -1 1 1 -1, mean -1 0 1 0
    # the second group's prompt has one rubric, though the cube is padded to two: as intra_sample
    a, b = math.sqrt(1.5), ROOT2 / 2
    expected = [[0, 0, -1, 1], [-1, 0, 1, 0], [-a, 0, a, 0], [-b, -b, 2 * b, 0]]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=dtype), **CLOSE)


def test_intra_sample_released_counts_zeros_where_the_getter_is_longer_and_for_missing_verdicts():
    advantages = call(
        [[[0, 1, 9, 9], [1, 0, 9, 9]], [[1, 1, 0, 0], [9, 9, 9, 9]]],
        [[1, 1], [1, 9]],
        [[1, 1], [1, 0]],
        [[1, 1, 0, 0], [1, 1, 1, 1]],
        2,
        "intra_sample_released",
    )
    # response 1 gets (0, 1) for its one valid rubric: 1 0 and, past the giver's end, 0 0: mean 1/4, deviation √3/4
    # response 0 gets (0, 0) for rubric 0, 0 1, z = -1 1, and (1, 0) for rubric 1, 1 1 in its two tokens: no spread
    c = 1 / math.sqrt(3)
    expected = torch.tensor([[-0.5, 0.5, 0, 0], [3 * c, -c, -c, -c]])
    torch.testing.assert_close(advantages, expected, **CLOSE)
    # with one valid row fewer to give, rubric 0 of response 1 comes from a missing verdict and is nothing but zeros
    missing = call(
        [[[0, 1], [9, 9]], [[1, 0], [0, 1]]],
        [[1, 9], [1, 1]],
        [[1, 0], [1, 1]],
        [[1, 1]] * 2,
        2,
        "intra_sample_released",
    )
    # response 0 gets (0, 0): z = -1 1; response 1 gets (0, 1), missing, and (1, 1): the mean of 0 0 and -1 1
    torch.testing.assert_close(missing, torch.tensor([[-1, 1], [-0.5, 0.5]]), **CLOSE)


def test_intra_sample_is_the_default():
    arguments = torch.tensor([[[0.0, 1.0]], [[0.5, 0.0]]]), torch.ones(2, 1), torch.ones(2, 1), torch.ones(2, 2), 2
    assert torch.equal(token_advantages(*arguments), token_advantages(*arguments, "intra_sample", 1e-6, 1e-3))


# --- token level, what must not matter


def ragged():
    """Two groups of two; padded tokens at either end and in between, an invalid pair, a padded rubric, a void row."""
    generator = torch.Generator().manual_seed(5)
    relevance = torch.rand(4, 3, 6, generator=generator)
    verdicts = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
    valid = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    mask = torch.tensor([[0, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]).bool()
    return relevance, verdicts, valid, mask


@pytest.mark.parametrize("absurd", [1e30, -1e30, NAN, INF, -INF])
@EVERY_PARTITION
@BOTH
def test_what_lies_in_padding_has_no_influence(partition, absurd, dtype):
    relevance, verdicts, valid, mask = ragged()
    relevance, verdicts = relevance.to(dtype), verdicts.to(dtype)
    clean = token_advantages(relevance, verdicts, valid, mask, 2, partition, min_std=0)
    assert (clean[:2][mask[:2]] != 0).any()
    dirty = token_advantages(
        torch.where(valid[:, :, None] & mask[:, None, :], relevance, absurd),
        torch.where(valid, verdicts, absurd),
        valid,
        mask,
        2,
        partition,
        min_std=0,
    )
    assert torch.equal(bits(dirty), bits(clean))
    assert torch.equal(dirty[~mask], torch.zeros_like(dirty[~mask]))


@EVERY_PARTITION
def test_a_row_without_a_valid_rubric_is_exactly_zero(partition):
    assert torch.equal(token_advantages(*ragged(), 2, partition, min_std=0)[3], torch.zeros(6))


@EVERY_PARTITION
@MASK_TYPES
def test_masks_may_have_any_type(partition, mask_type):
    relevance, verdicts, valid, mask = ragged()
    assert torch.equal(
        token_advantages(relevance, verdicts, valid.to(mask_type), mask.to(mask_type), 2, partition),
        token_advantages(relevance, verdicts, valid, mask, 2, partition),
    )


@EVERY_PARTITION
@BOTH
def test_the_type_follows_the_relevance(partition, dtype):
    relevance, verdicts, valid, mask = ragged()
    for other in (torch.float32, torch.float64, torch.int64):
        assert token_advantages(relevance.to(dtype), verdicts.to(other), valid, mask, 2, partition).dtype == dtype


@EVERY_PARTITION
def test_half_precision_is_computed_in_float32(partition):
    relevance, verdicts, valid, mask = ragged()
    rounded = relevance.to(torch.bfloat16)
    advantages = token_advantages(rounded, verdicts, valid, mask, 2, partition)
    assert torch.equal(advantages, token_advantages(rounded.float(), verdicts, valid, mask, 2, partition))


@EVERY_PARTITION
def test_arguments_are_left_alone(partition):
    arguments = ragged()
    kept = [argument.clone() for argument in arguments]
    token_advantages(*arguments, 2, partition)
    for argument, copy in zip(arguments, kept, strict=True):
        assert torch.equal(argument, copy)


@EVERY_PARTITION
def test_memory_layout_has_no_influence(partition):
    relevance, verdicts, valid, mask = ragged()
    strided = relevance.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not strided.is_contiguous()
    advantages = token_advantages(strided, verdicts.t().contiguous().t(), valid, mask, 2, partition)
    torch.testing.assert_close(advantages, token_advantages(relevance, verdicts, valid, mask, 2, partition))


@EVERY_PARTITION
def test_no_gradient_reaches_the_relevance(partition):
    relevance, verdicts, valid, mask = ragged()
    assert not token_advantages(relevance.requires_grad_(), verdicts, valid, mask, 2, partition).requires_grad


@EVERY_PARTITION
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_an_empty_axis_gives_zeros(partition, shape):
    rows, rubrics, tokens = shape
    advantages = token_advantages(
        torch.zeros(shape), torch.ones(rows, rubrics), torch.ones(rows, rubrics), torch.ones(rows, tokens), 2, partition
    )
    assert torch.equal(advantages, torch.zeros(rows, tokens))


def test_a_counted_nan_is_not_hidden():
    relevance, verdicts, valid, mask = ragged()
    relevance[0, 0, 1] = NAN
    advantages = token_advantages(relevance, verdicts, valid, mask, 2)
    assert advantages[0][mask[0]].isnan().all()
    assert advantages[1:].isfinite().all()


# --- token level, partitions without a deviation


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric", "pooled"])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_a_partition_of_one_token_is_exactly_zero(partition, eps):
    # each row of a group of one counts one token
    advantages = call(
        [[[0.2, 0.9, 0.4]], [[0.7, 0.1, 0.3]]],
        [[1], [-1]],
        [[1], [1]],
        [[0, 1, 0], [1, 0, 0]],
        1,
        partition,
        eps=eps,
        min_std=0,
    )
    assert torch.equal(advantages, torch.zeros(2, 3))


@EVERY_PARTITION
def test_a_singleton_group_keeps_only_what_its_tokens_tell_apart(partition):
    # s = 0 1, z = -1 1; the verdicts of one response tell nothing
    advantages = call([[[0, 1]]], [[1]], [[1]], [[1, 1]], 1, partition)
    expected = [[0, 0]] if partition == "softmax_share" else [[-1, 1]]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float32), **CLOSE)


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric", "pooled"])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
@BOTH
def test_constant_relevance_is_exactly_zero(partition, eps, dtype):
    # lengths and values whose sum, divided by the length, mostly rounds to another value
    for length in (3, 7, 49, 1001):
        for value in (0.1, 0.3, 0.7, 1 / 3):
            advantages = token_advantages(
                torch.full((2, 3, length), value, dtype=dtype),
                torch.full((2, 3), -1.0, dtype=dtype),
                torch.ones(2, 3),
                torch.ones(2, length),
                2,
                partition,
                eps=eps,
                min_std=0,
            )
            assert torch.equal(advantages, torch.zeros(2, length, dtype=dtype))


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_verdicts_share_out_nothing(eps):
    advantages = call(
        [[[0.2, 0.9]], [[0.7, 0.1]], [[0, 1]]],
        [[0.1]] * 3,
        [[1]] * 3,
        [[1, 1]] * 3,
        3,
        "softmax_share",
        eps=eps,
        min_std=0,
    )
    assert torch.equal(advantages, torch.zeros(3, 2))


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric", "pooled"])
def test_a_deviation_below_min_std_gives_zero(partition):
    # s = 1/2 ± 2^-11 in both rows, so the deviation of every partition is 2^-11, about 0.00049
    step = 2.0**-11
    arguments = ([[[0.5 - step, 0.5 + step]]] * 2, [[1]] * 2, [[1]] * 2, [[1, 1]] * 2, 2, partition)
    assert torch.equal(call(*arguments), torch.zeros(2, 2))
    assert torch.equal(call(*arguments, min_std=step * 1.01), torch.zeros(2, 2))
    z = step / (step + 1e-6)
    expected = torch.tensor([[-z, z]] * 2)
    torch.testing.assert_close(call(*arguments, min_std=step * 0.99), expected)
    torch.testing.assert_close(call(*arguments, min_std=0), expected)


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric", "pooled"])
@pytest.mark.parametrize(("step", "kept"), [(0.00099, False), (0.00101, True)])
def test_min_std_is_a_thousandth_by_default(partition, step, kept):
    advantages = call([[[0.5 - step, 0.5 + step]]] * 2, [[1]] * 2, [[1]] * 2, [[1, 1]] * 2, 2, partition)
    assert advantages.ne(0).all() if kept else advantages.eq(0).all()


def test_softmax_share_holds_the_verdicts_deviation_against_min_std():
    # verdicts 1 and 1 - 2^-10: sample deviation 2^-10 / √2, about 0.00069
    arguments = ([[[0, 1]]] * 2, [[1], [1 - 2.0**-10]], [[1]] * 2, [[1, 1]] * 2, 2, "softmax_share")
    assert torch.equal(call(*arguments), torch.zeros(2, 2))
    deviation = 2.0**-10 / ROOT2
    z = 2.0**-11 / (deviation + 1e-6)
    torch.testing.assert_close(call(*arguments, min_std=deviation * 0.99), torch.tensor([[z, z], [-z, -z]]))


def test_min_std_is_held_against_the_token_reward_not_the_relevance():
    # w = 0 1 has deviation 1/2, but s = 0 0.001 has 0.0005
    arguments = ([[[0, 1]]], [[0.001]], [[1]], [[1, 1]], 1, "intra_sample")
    assert torch.equal(call(*arguments), torch.zeros(1, 2))
    torch.testing.assert_close(call(*arguments, min_std=4e-4, eps=0), torch.tensor([[-1.0, 1.0]]))


def test_a_silenced_rubric_still_counts_in_the_mean():
    # rubric 0 gives -1 1, rubric 1 is constant and gives 0 0; their mean is half of rubric 0
    advantages = call([[[0, 1], [0.5, 0.5]]], [[1, 1]], [[1, 1]], [[1, 1]], 1, "intra_sample")
    torch.testing.assert_close(advantages, torch.tensor([[-0.5, 0.5]]), **CLOSE)


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric", "pooled"])
def test_a_long_response_keeps_its_digits_in_float32(partition):
    # 1/2 and 1/2 + 2^-9 in turns: the deviation is 2^-10, whose square, 9.5e-7, is lost beside a mean square of 1/4
    relevance = torch.full((2, 1, 65536), 0.5)
    relevance[:, :, ::2] += 2.0**-9
    advantages = token_advantages(
        relevance, torch.ones(2, 1), torch.ones(2, 1), torch.ones(2, 65536), 2, partition, eps=0, min_std=0
    )
    expected = torch.where(torch.arange(65536) % 2 == 0, 1.0, -1.0).expand(2, -1)
    torch.testing.assert_close(advantages, expected, rtol=1e-5, atol=0)


def test_few_relevant_tokens_in_a_long_response_still_sum_to_zero_in_float32():
    # as a discriminator gives it: nearly 0 throughout, nearly 1 on one token
    relevance = torch.linspace(0.0005, 0.0006, 4096).repeat(2, 3, 1)
    relevance[:, :, 7] = 1
    advantages = token_advantages(relevance, torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 4096), 2)
    assert advantages[0, 7] > 60  # √4095, about 64
    assert advantages.double().sum(dim=1).abs().max() < 1e-4


# --- token level, refusals


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("relevance", (4, 6), r"relevance must have 3 dimension\(s\), it has 2"),
        ("relevance", (4, 2, 6), r"verdicts has shape \(4, 3\), \(4, 2\) was expected"),
        ("relevance", (6, 3, 6), r"verdicts has shape \(4, 3\), \(6, 3\) was expected"),
        ("verdicts", (4, 2), r"valid has shape \(4, 3\), \(4, 2\) was expected"),
        ("verdicts", (4,), r"verdicts must have 2 dimension\(s\), it has 1"),
        ("valid", (2, 3), r"valid has shape \(2, 3\), \(4, 3\) was expected"),
        ("completion_mask", (4, 5), r"completion_mask has shape \(4, 5\), \(4, 6\) was expected"),
        ("completion_mask", (4, 1, 6), r"completion_mask has shape \(4, 1, 6\), \(4, 6\) was expected"),
    ],
)
@EVERY_PARTITION
def test_misaligned_shapes_are_refused_with_both(partition, name, shape, message):
    arguments = dict(zip(("relevance", "verdicts", "valid", "completion_mask"), ragged(), strict=True))
    arguments[name] = torch.ones(shape)
    with pytest.raises(ValueError, match=message):
        token_advantages(**arguments, group_size=2, partition=partition)


def test_an_unknown_partition_is_refused():
    with pytest.raises(
        ValueError, match="partition 'group' is none of intra_sample, per_rubric, pooled, softmax_share"
    ):
        token_advantages(*ragged(), 2, "group")


@pytest.mark.parametrize("name", ["eps", "min_std"])
@pytest.mark.parametrize("value", [-1.0, NAN])
def test_a_negative_floor_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, it is {value}"):
        token_advantages(*ragged(), 2, **{name: value})


def test_a_valid_verdict_must_be_a_number():
    relevance, verdicts, valid, mask = ragged()
    verdicts[1, 0] = NAN
    with pytest.raises(ValueError, match="verdict nan in row 1, rubric 0 is marked valid"):
        token_advantages(relevance, verdicts, valid, mask, 2)


# --- combining


@BOTH
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("add", [[2 + 0.25 * 4, 2 + 0.25 * -4], [-1 + 0.25 * 8, 0]]),
        ("mix", [[0.75 * 2 + 0.25 * 4, 0.75 * 2 + 0.25 * -4], [0.75 * -1 + 0.25 * 8, 0]]),
    ],
)
def test_combine_by_hand(rule, expected, dtype):
    combined = combine(
        torch.tensor([2, -1], dtype=dtype),
        torch.tensor([[4, -4], [8, 5]], dtype=dtype),
        torch.tensor([[1, 1], [1, 0]]),
        0.25,
        rule,
    )
    assert combined.dtype == dtype
    assert combined.tolist() == expected


def test_combine_adds_half_by_default():
    combined = combine(torch.tensor([1.0]), torch.tensor([[4.0]]), torch.ones(1, 1))
    assert combined.tolist() == [[1 + 0.5 * 4]]


@pytest.mark.parametrize("rule", ["add", "mix"])
@BOTH
def test_weight_zero_is_the_broadcast_bit_for_bit(rule, dtype):
    response = torch.tensor([0.1, -0.0, 0.0, -1e-42], dtype=dtype)
    token = torch.tensor([-0.0, 0.0, 1e30, -3, INF, NAN], dtype=dtype).expand(4, -1)
    combined = combine(response, token, torch.ones(4, 6), 0.0, rule)
    assert torch.equal(bits(combined), bits(response[:, None].expand(4, 6)))


def test_mix_with_weight_one_is_the_token_term():
    token = torch.tensor([[0.25, -3.0]])
    assert torch.equal(combine(torch.tensor([7.0]), token, torch.ones(1, 2), 1.0, "mix"), token)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rule", ["add", "mix"])
@pytest.mark.parametrize("absurd", [NAN, INF, 1e30])
@MASK_TYPES
def test_combine_is_exactly_zero_outside_the_mask(rule, weight, absurd, mask_type):
    mask = torch.tensor([[1, 0, 1]], dtype=mask_type)
    combined = combine(torch.tensor([2.0]), torch.tensor([[1.0, absurd, 1.0]]), mask, weight, rule)
    assert bits(combined)[0, 1] == 0
    assert (combined[0, [0, 2]] != 0).all()


def test_combine_leaves_its_arguments_alone():
    response, token, mask = torch.tensor([2.0]), torch.tensor([[1.0, 3.0]]), torch.tensor([[1, 0]])
    for weight in (0.0, 0.5):
        combine(response, token, mask, weight).add_(1)  # what comes back is not a view of what went in
    assert (response.tolist(), token.tolist(), mask.tolist()) == ([2], [[1, 3]], [[1, 0]])


@pytest.mark.parametrize("weight", [-0.01, 1.5, NAN])
def test_a_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ValueError, match=f"weight must lie between 0 and 1, it is {weight}"):
        combine(torch.zeros(1), torch.zeros(1, 2), torch.ones(1, 2), weight)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule 'times' is none of add, mix"):
        combine(torch.zeros(1), torch.zeros(1, 2), torch.ones(1, 2), rule="times")


@pytest.mark.parametrize(
    ("response", "token", "mask", "message"),
    [
        ((3,), (2, 4), (2, 4), r"response has shape \(3,\), \(2,\) was expected"),
        ((1,), (2, 4), (2, 4), r"response has shape \(1,\), \(2,\) was expected"),
        ((2, 1), (2, 4), (2, 4), r"response must have 1 dimension\(s\), it has 2"),
        ((2,), (2,), (2, 4), r"token must have 2 dimension\(s\), it has 1"),
        ((2,), (2, 4), (2, 1), r"completion_mask has shape \(2, 1\), \(2, 4\) was expected"),
    ],
)
def test_combine_refuses_misaligned_shapes(response, token, mask, message):
    with pytest.raises(ValueError, match=message):
        combine(torch.zeros(response), torch.zeros(token), torch.ones(mask))


# --- reductions to plain GRPO


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_equal_token_weights_give_plain_grpo(weight):
    _, verdicts, valid, mask = ragged()
    response = response_advantages(response_rewards(verdicts, valid, "csr"), 2)
    token = token_advantages(torch.full((4, 3, 6), 0.1), verdicts, valid, mask, 2)
    assert torch.equal(combine(response, token, mask, weight), response[:, None] * mask)


def test_sharing_out_one_rubric_is_plain_grpo():
    # with one rubric every share is 1, and (r + 1) / 2 standardises to what r does
    relevance, verdicts, _, mask = ragged()
    valid = torch.ones(4, 1)
    verdicts = torch.tensor([[1.0], [-1.0], [0.5], [1.0]])
    token = token_advantages(relevance[:, :1], verdicts, valid, mask, 4, "softmax_share")
    response = response_advantages(response_rewards(verdicts, valid, "csr"), 4)
    torch.testing.assert_close(token, response[:, None] * mask, **CLOSE)


# Weights of rubrics.

# One response, two rubrics kept, three tokens that count and one that does not.
WEIGHTED = (
    [[[1.0, 0.0, 0.0, 1e30], [0.0, 0.0, 1.0, NAN]], [[0.0, 1.0, 0.0, INF], [1.0, 0.0, 0.0, -1e30]]],
    [[1.0, 1.0], [-1.0, 1.0]],
    [[1, 1], [1, 1]],
    [[1, 1, 1, 0], [1, 1, 1, 0]],
)


@BOTH
def test_the_token_term_is_a_weighted_mean_over_rubrics(dtype):
    weights = torch.tensor([[3, 1], [1, 1]], dtype=dtype)
    found = call(*WEIGHTED, 1, "intra_sample", dtype, weights=weights)
    # z of (1, 0, 0) is (√2, -1/√2, -1/√2)
    high, low = math.sqrt(2), -1 / math.sqrt(2)
    first = [(3 * high + low) / 4, low, (3 * low + high) / 4, 0]
    second = [(-low + high) / 2, (-high + low) / 2, (-low + low) / 2, 0]
    torch.testing.assert_close(found, torch.tensor([first, second], dtype=dtype), atol=1e-5, rtol=0)


@BOTH
def test_softmax_share_scales_a_rubric_by_its_weight(dtype):
    found = call(*WEIGHTED, 2, "softmax_share", dtype, weights=torch.tensor([[3, 1], [3, 1]], dtype=dtype))
    # rubric 0 has verdicts (1, -1): ±1/√2 by the sample deviation, times 3/4·2; rubric 1 has no spread and gives 0
    score, e = 1.5 / math.sqrt(2), math.e
    first = [score * e / (e + 1), score * 0.5, score / (e + 1), 0]
    second = [-score / (e + 1), -score * e / (e + 1), -score * 0.5, 0]
    torch.testing.assert_close(found, torch.tensor([first, second], dtype=dtype), atol=1e-5, rtol=0)


@EVERY_PARTITION
def test_equal_weights_are_no_weights(partition):
    plain = call(*WEIGHTED, 2, partition, torch.float64)
    weighted = call(*WEIGHTED, 2, partition, torch.float64, weights=torch.full((2, 2), 7.0, dtype=torch.float64))
    torch.testing.assert_close(weighted, plain)


@EVERY_PARTITION
def test_only_the_ratio_of_weights_counts(partition):
    weights = torch.tensor([[0.5, 2.0], [0.5, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(
        call(*WEIGHTED, 2, partition, torch.float64, weights=weights),
        call(*WEIGHTED, 2, partition, torch.float64, weights=weights * 10),
    )


@EVERY_PARTITION
@BOTH
def test_how_many_groups_are_worked_on_at_once_changes_nothing(monkeypatch, partition, dtype):
    relevance, verdicts, valid, mask = (torch.cat([part, part.flip(0)[:2]]) for part in ragged())  # three groups
    given = relevance.to(dtype), verdicts.to(dtype), valid, mask, 2, partition
    whole = token_advantages(*given, min_std=0)
    for block in (1, 2 * relevance[0].numel(), 5 * relevance[0].numel()):  # one group, one, two and the rest
        monkeypatch.setattr("rtt.credit.advantages.BLOCK", block)
        torch.testing.assert_close(token_advantages(*given, min_std=0), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric"])
def test_rubrics_read_again_less_their_mean_come_out_as_in_double_precision(partition):
    # the first lies far from 0 for its deviation, the second does not, the third does in one row of each group alone
    draw = torch.Generator().manual_seed(2)
    relevance = torch.rand(4, 3, 500, generator=draw) * torch.tensor([1e-3, 1.0, 1.0])[:, None]
    relevance[:, 0] += 0.9
    relevance[::2, 2] = relevance[::2, 2] * 1e-3 + 0.5
    mask = torch.arange(500) < torch.tensor([500, 300, 77, 2])[:, None]
    verdicts = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 0.5, 1.0]]).repeat(2, 1)
    given = verdicts, torch.ones(4, 3), mask, 2, partition
    found = token_advantages(relevance, *given, min_std=0)
    exact = token_advantages(relevance.double(), *given, min_std=0)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-5)
