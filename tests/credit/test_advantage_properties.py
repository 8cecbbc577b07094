"""What holds for advantages on any ragged batch, and agreement with the formulas written out as loops."""

import math
import random
import statistics
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtt.credit.advantages import combine, response_advantages, token_advantages

SOUND = ["intra_sample", "per_rubric", "pooled", "softmax_share"]
EVERY_PARTITION = pytest.mark.parametrize("partition", [*SOUND, "intra_sample_released"])
EVERY_SOUND_PARTITION = pytest.mark.parametrize("partition", SOUND)
MANY = settings(deadline=None, max_examples=40)
ABSURD = [1e30, -1e30, math.nan, math.inf, -math.inf, 0.5]


@dataclass
class Batch:
    """The arguments of token_advantages: G `group_size`, (B, K, T), (B, K), (B, K), (B, T)."""

    group_size: int
    relevance: torch.Tensor
    verdicts: torch.Tensor
    valid: torch.Tensor
    mask: torch.Tensor

    def advantages(self, partition, **numbers):
        return token_advantages(
            self.relevance, self.verdicts, self.valid, self.mask, self.group_size, partition, **numbers
        )

    def take(self, rows):
        return replace(
            self,
            relevance=self.relevance[rows],
            verdicts=self.verdicts[rows],
            valid=self.valid[rows],
            mask=self.mask[rows],
        )

    @property
    def groups(self):
        """(B/G, G): the rows of each group."""
        return torch.arange(len(self.verdicts)).unflatten(0, (-1, self.group_size))


@st.composite
def batches(draw):
    """Ragged batches with holes in both masks, some rows and rubrics void.

    Relevances are multiples of 1/64 and verdicts of 1/4, so that both types hold every token reward exactly.
    """
    groups, group_size, rubrics, tokens = (draw(st.integers(1, most)) for most in (3, 4, 4, 7))
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    rows = groups * group_size

    def grid(choices, *shape):
        values = [rng.choice(choices) for _ in range(math.prod(shape))]
        return torch.tensor(values, dtype=torch.float64).view(shape)

    return Batch(
        group_size,
        relevance=grid([i / 64 for i in range(65)], rows, rubrics, tokens),
        verdicts=grid([-1, -1, -0.5, 0, 0.25, 1, 1], rows, rubrics),
        valid=grid([0, 1, 1, 1], rows, rubrics) * grid([0, 1, 1, 1, 1], rows, 1) == 1,
        mask=grid([0, 1, 1, 1], rows, tokens) * grid([0, 1, 1, 1, 1, 1], rows, 1) == 1,
    )


def same(left, right):
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


# --- the formulas as loops


def z_scores(values, eps, min_std, sample=False):
    """(x - mean) / (std + eps) for each key of a dict."""
    if len(values) < 2:
        return dict.fromkeys(values, 0.0)
    mean = statistics.fmean(values.values())
    std = (statistics.stdev if sample else statistics.pstdev)(values.values())
    if std < min_std:
        return dict.fromkeys(values, 0.0)
    return {key: (value - mean) / (std + eps) for key, value in values.items()}


def written_out(batch, partition, eps, min_std):
    """token_advantages entry by entry, in Python's floats."""
    w, r = batch.relevance.tolist(), batch.verdicts.tolist()
    n_rows, n_rubrics, n_tokens = batch.relevance.shape
    valid = {j: [k for k in range(n_rubrics) if batch.valid[j, k]] for j in range(n_rows)}
    tokens = {j: [t for t in range(n_tokens) if batch.mask[j, t]] for j in range(n_rows)}
    result = [[0.0] * n_tokens for _ in range(n_rows)]
    for start in range(0, n_rows, batch.group_size):
        group = range(start, start + batch.group_size)
        score = {}  # (j, k, t), or (j, t), or (j, k)
        if partition == "intra_sample":
            for j in group:
                for k in valid[j]:
                    z = z_scores({t: w[j][k][t] * r[j][k] for t in tokens[j]}, eps, min_std)
                    score.update({(j, k, t): value for t, value in z.items()})
        elif partition == "per_rubric":
            for k in range(n_rubrics):
                s = {(j, k, t): w[j][k][t] * r[j][k] for j in group if k in valid[j] for t in tokens[j]}
                score.update(z_scores(s, eps, min_std))
        elif partition == "pooled":
            s = {
                (j, t): statistics.fmean(w[j][k][t] * r[j][k] for k in valid[j])
                for j in group
                if valid[j]
                for t in tokens[j]
            }
            score = z_scores(s, eps, min_std)
        elif partition == "intra_sample_released":
            own = max((k + 1 for j in group for k in valid[j]), default=1)
            in_memory = [(j, k) for j in group for k in range(own)]
            for k in range(own):
                for j in group:
                    giver, rubric = in_memory[k * batch.group_size + j - start]
                    if k in valid[j]:
                        given = rubric in valid[giver]
                        s = {
                            t: w[giver][rubric][t] * r[giver][rubric] if given and t in tokens[giver] else 0.0
                            for t in tokens[j]
                        }
                        score.update({(j, k, t): value for t, value in z_scores(s, eps, min_std).items()})
        else:
            for k in range(n_rubrics):
                column = {(j, k): r[j][k] for j in group if k in valid[j]}
                score.update(z_scores(column, eps, min_std, sample=True))
        for j in group:
            for t in tokens[j] if valid[j] else []:
                if partition == "pooled":
                    result[j][t] = score[j, t]
                elif partition == "softmax_share":
                    total = sum(math.exp(w[j][k][t]) for k in valid[j])
                    result[j][t] = sum(score[j, k] * math.exp(w[j][k][t]) / total for k in valid[j])
                else:
                    result[j][t] = sum(score[j, k, t] for k in valid[j]) / len(valid[j])
    return result


@EVERY_PARTITION
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@given(batch=batches(), min_std=st.sampled_from([0.0, 1e-3, 0.2137]))
@settings(deadline=None, max_examples=60)
def test_token_advantages_are_the_formulas_written_out(partition, dtype, close, batch, min_std):
    expected = torch.tensor(written_out(batch, partition, 1e-6, min_std), dtype=dtype)
    typed = replace(batch, relevance=batch.relevance.to(dtype), verdicts=batch.verdicts.to(dtype))
    torch.testing.assert_close(typed.advantages(partition, min_std=min_std), expected, rtol=close, atol=close)


rewards_of_groups = st.integers(1, 5).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(st.lists(st.none() | st.integers(0, 16), min_size=size, max_size=size), min_size=1, max_size=4),
    )
)


def reward_tensor(groups, dtype=torch.float64):
    """(B,) of sixteenths, NaN for None."""
    return torch.tensor([math.nan if x is None else x / 16 for group in groups for x in group], dtype=dtype)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@given(drawn=rewards_of_groups)
@MANY
def test_response_advantages_are_the_formula_written_out(dtype, close, drawn):
    size, groups = drawn
    expected = []
    for group in groups:
        z = z_scores({j: x / 16 for j, x in enumerate(group) if x is not None}, 1e-6, 0.0, sample=True)
        expected += [z.get(j, 0.0) for j in range(size)]
    advantages = response_advantages(reward_tensor(groups, dtype), size)
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=dtype), rtol=close, atol=close)


# --- order


@EVERY_PARTITION
@given(batch=batches(), seed=st.integers(0, 999))
@MANY
def test_permuting_groups_permutes_the_result(partition, batch, seed):
    order = torch.randperm(len(batch.groups), generator=torch.Generator().manual_seed(seed))
    rows = batch.groups[order].flatten()
    same(batch.take(rows).advantages(partition), batch.advantages(partition)[rows])


@EVERY_SOUND_PARTITION
@given(batch=batches(), seed=st.integers(0, 999))
@MANY
def test_permuting_the_responses_of_a_group_permutes_the_result(partition, batch, seed):
    order = torch.randperm(batch.group_size, generator=torch.Generator().manual_seed(seed))
    rows = batch.groups[:, order].flatten()
    same(batch.take(rows).advantages(partition), batch.advantages(partition)[rows])


@EVERY_PARTITION
@given(batch=batches(), seed=st.integers(0, 999))
@MANY
def test_permuting_tokens_permutes_the_result(partition, batch, seed):
    order = torch.randperm(batch.mask.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffled = replace(batch, relevance=batch.relevance[:, :, order], mask=batch.mask[:, order])
    same(shuffled.advantages(partition), batch.advantages(partition)[:, order])


@EVERY_SOUND_PARTITION
@given(batch=batches(), seed=st.integers(0, 999))
@MANY
def test_permuting_rubrics_changes_nothing(partition, batch, seed):
    order = torch.randperm(batch.verdicts.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffled = replace(
        batch,
        relevance=batch.relevance[:, order],
        verdicts=batch.verdicts[:, order],
        valid=batch.valid[:, order],
    )
    same(shuffled.advantages(partition), batch.advantages(partition))


# --- padding


@EVERY_PARTITION
@given(batch=batches(), absurd=st.sampled_from(ABSURD), before=st.integers(0, 3), after=st.integers(0, 3))
@MANY
def test_shifting_and_widening_the_padding_changes_nothing(partition, batch, absurd, before, after):
    rubrics = (0, 2)  # two more rubrics nobody has
    padded = replace(
        batch,
        relevance=torch.nn.functional.pad(batch.relevance, (before, after, *rubrics), value=absurd),
        verdicts=torch.nn.functional.pad(batch.verdicts, rubrics, value=absurd),
        valid=torch.nn.functional.pad(batch.valid, rubrics, value=False),
        mask=torch.nn.functional.pad(batch.mask, (before, after), value=False),
    )
    expected = torch.nn.functional.pad(batch.advantages(partition), (before, after))
    same(padded.advantages(partition), expected)


@EVERY_PARTITION
@given(batch=batches(), absurd=st.sampled_from(ABSURD), min_std=st.sampled_from([0.0, 1e-3]))
@MANY
def test_nothing_outside_the_masks_matters_and_nothing_comes_out_there(partition, batch, absurd, min_std):
    counted = batch.valid[:, :, None] & batch.mask[:, None, :]
    dirty = replace(
        batch,
        relevance=torch.where(counted, batch.relevance, absurd),
        verdicts=torch.where(batch.valid, batch.verdicts, absurd),
    )
    advantages = dirty.advantages(partition, min_std=min_std)
    assert torch.equal(advantages, batch.advantages(partition, min_std=min_std))
    assert (advantages[~(batch.mask & batch.valid.any(dim=1, keepdim=True))] == 0).all()


# --- no leaks


@EVERY_PARTITION
@given(batch=batches())
@MANY
def test_groups_do_not_leak_into_one_another(partition, batch):
    # each group on its own gives what it gives among the others, which a reshape in place of a transpose breaks
    together = batch.advantages(partition)
    for rows in batch.groups:
        same(batch.take(rows).advantages(partition), together[rows])


@given(batch=batches())
@MANY
def test_responses_do_not_leak_into_one_another_in_intra_sample(batch):
    together = batch.advantages("intra_sample")
    for row in range(len(together)):
        same(replace(batch.take([row]), group_size=1).advantages("intra_sample"), together[[row]])


@given(batch=batches())
@MANY
def test_the_released_reshape_moves_nothing_in_a_group_of_one_or_with_one_rubric(batch):
    single = replace(batch, group_size=1)
    assert torch.equal(single.advantages("intra_sample_released"), single.advantages("intra_sample"))
    first = replace(batch, valid=batch.valid & (torch.arange(batch.valid.shape[1]) == 0))
    assert torch.equal(first.advantages("intra_sample_released"), first.advantages("intra_sample"))


@given(batch=batches(), min_std=st.sampled_from([0.0, 1e-3]))
@MANY
def test_intra_sample_released_is_intra_sample_of_the_literal_reshape(batch, min_std):
    # where every rubric and token counts, there is nothing to the partition but the reshape
    whole = replace(batch, valid=torch.ones_like(batch.valid), mask=torch.ones_like(batch.mask))
    rows, rubrics, tokens = whole.relevance.shape
    rewards = (whole.relevance * whole.verdicts[:, :, None]).unflatten(0, (-1, whole.group_size))
    mixed = rewards.reshape(-1, rubrics, whole.group_size, tokens).transpose(1, 2).reshape(rows, rubrics, tokens)
    literal = replace(whole, relevance=mixed, verdicts=torch.ones_like(whole.verdicts))
    same(
        whole.advantages("intra_sample_released", min_std=min_std), literal.advantages("intra_sample", min_std=min_std)
    )


@given(drawn=rewards_of_groups)
@MANY
def test_groups_do_not_leak_into_one_another_at_response_level(drawn):
    size, groups = drawn
    together = response_advantages(reward_tensor(groups), size)
    alone = [response_advantages(reward_tensor([group]), size) for group in groups]
    same(together, torch.cat(alone))


# --- what the method's formulas imply


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@given(batch=batches(), min_std=st.sampled_from([0.0, 1e-3]))
@MANY
def test_intra_sample_sums_to_zero_over_a_response(dtype, close, batch, min_std):
    typed = replace(batch, relevance=batch.relevance.to(dtype))
    assert typed.advantages("intra_sample", min_std=min_std).sum(dim=1).abs().max() < close


@given(batch=batches())
@MANY
def test_intra_sample_is_the_mean_of_the_verdicts_sign_times_the_relevances_z(batch):
    expected = torch.zeros(batch.mask.shape, dtype=torch.float64)
    for j, mask in enumerate(batch.mask):
        for k in batch.valid[j].nonzero()[:, 0].tolist():
            w = batch.relevance[j, k][mask]
            if len(w) and w.amax() > w.amin():
                z = (w - w.mean()) / w.std(correction=0)
                expected[j, mask] += batch.verdicts[j, k].sign() * z / batch.valid[j].sum()
    same(batch.advantages("intra_sample", eps=0, min_std=0), expected)


@EVERY_PARTITION
@given(batch=batches())
@MANY
def test_flipping_every_verdict_flips_the_result(partition, batch):
    flipped = replace(batch, verdicts=-batch.verdicts)
    same(flipped.advantages(partition), -batch.advantages(partition))


@pytest.mark.parametrize("partition", ["intra_sample", "per_rubric", "pooled"])
@given(batch=batches(), scale=st.floats(1e-3, 1))
@MANY
def test_scaling_the_relevance_changes_nothing_without_eps_and_floor(partition, batch, scale):
    scaled = replace(batch, relevance=batch.relevance * scale)
    # a spread that is nothing but the scale's rounding is not one: hence a floor, far below any other spread here
    floor = 1e-12
    same(scaled.advantages(partition, eps=0, min_std=floor), batch.advantages(partition, eps=0, min_std=floor))


@EVERY_PARTITION
@given(batch=batches())
@MANY
def test_the_same_batch_gives_the_same_bits(partition, batch):
    assert torch.equal(batch.advantages(partition), batch.advantages(partition))


@given(drawn=rewards_of_groups, shift=st.integers(-8, 8), scale=st.sampled_from([0.25, 2, 8]))
@MANY
def test_response_advantages_ignore_scale_and_shift_and_sum_to_zero(drawn, shift, scale):
    size, groups = drawn
    rewards = reward_tensor(groups)
    advantages = response_advantages(rewards, size, eps=0)
    same(response_advantages(rewards * scale + shift, size, eps=0), advantages)
    assert advantages.view(-1, size).sum(dim=1).abs().max() < 1e-9
    assert (advantages[rewards.isnan()] == 0).all()


# --- combining

floats32 = st.floats(width=32, allow_nan=False)


@pytest.mark.parametrize("rule", ["add", "mix"])
@given(
    response=st.lists(floats32, min_size=1, max_size=4),
    token=st.lists(floats32, min_size=1, max_size=4),
    mask=st.lists(st.booleans(), min_size=4, max_size=4),
)
@MANY
def test_weight_zero_is_the_broadcast_bit_for_bit_under_the_mask(rule, response, token, mask):
    a, b = torch.tensor(response), torch.tensor(token).expand(len(response), -1)
    counted = torch.tensor(mask[: len(token)]).expand_as(b)
    combined = combine(a, b, counted, 0.0, rule)
    expected = torch.where(counted, a[:, None].view(torch.int32), 0)
    assert torch.equal(combined.view(torch.int32), expected)


@given(
    response=st.floats(-10, 10), token=st.floats(-10, 10), weight=st.floats(0, 1), rule=st.sampled_from(["add", "mix"])
)
@MANY
def test_combine_is_its_rule(response, token, weight, rule):
    combined = combine(
        torch.tensor([response], dtype=torch.float64),
        torch.tensor([[token, token]], dtype=torch.float64),
        torch.tensor([[1, 0]]),
        weight,
        rule,
    )
    share = 1 if rule == "add" else 1 - weight
    same(combined, torch.tensor([[share * response + weight * token, 0]], dtype=torch.float64))
