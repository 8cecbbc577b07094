"""Every source gives (B, K, T), and nothing where nothing counts."""

import math
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtt.config import Credit
from rtt.credit.peers import cort_advantages
from rtt.errors import UserError
from rtt.relevance.sources import (
    ConstantRelevance,
    ContrastRelevance,
    Flipped,
    LearnedRelevance,
    RandomRelevance,
    RelevanceBatch,
    RuleRelevance,
    contrast_with_all,
    counted,
    open_relevance,
)
from rtt.rubrics import Rubric

MANY = settings(deadline=None, max_examples=40)


def rubric(kind, text, **kwargs):
    return Rubric(rubric_id="p/0", kind=kind, text=text, kwargs=kwargs)


COMMAS = rubric("punctuation:no_comma", "Use no commas.")
TEA = rubric("keywords:existence", "Mention tea.", keywords=["tea"])
QUOTES = rubric("startend:quotation", "Put it in quotes.")


def batch(**changes):
    """Two responses: four tokens and an end-of-message token of no characters; two tokens. Padded to six."""
    values = {
        "rubrics": [[COMMAS, TEA], [QUOTES]],
        "prompts": ["Say hello. Use no commas. Mention tea.", "Say hi. Put it in quotes."],
        "responses": ["Hi, tea, ok", '"hi"'],
        #    Hi , _tea ,_ok <end>        "hi "
        "spans": [[(0, 2), (2, 3), (3, 7), (7, 11), (11, 11)], [(0, 3), (3, 4)]],
        "length": 6,
    }
    return RelevanceBatch(**{**values, **changes})


COUNTED = torch.tensor([[[1, 1, 1, 1, 1, 0]] * 2, [[1, 1, 0, 0, 0, 0], [0] * 6]]).bool()


class Asked:
    """A policy that adds up what it finds in a message, with NaN at tokens that do not count; keeps the messages."""

    def __init__(self, values, dtype=torch.float32):
        self.values, self.dtype, self.messages = values, dtype, []

    def __call__(self, messages):
        self.messages.append(messages)
        found = [sum(value for text, value in self.values.items() if text in message) for message in messages]
        log_probs = torch.tensor(found)[:, None] + torch.arange(6.0) * torch.tensor(found)[:, None] - 20
        return torch.where(COUNTED[:, 0], log_probs, math.nan).to(self.dtype)


POLICY = {"no commas": 0.5, "tea": -0.25, "quotes": 1.0, "Say hello": 3.0}


@pytest.fixture(scope="module")
def discriminator(tiny_policy, tmp_path_factory):
    from rtt.relevance.discriminator import Discriminator

    folder = tmp_path_factory.mktemp("discriminator") / "tiny"
    torch.manual_seed(0)
    Discriminator.from_backbone(tiny_policy, layers=1, bidirectional=True, max_length=64).save(folder)
    return folder


# --- what holds for every source

SOURCES = ["rules", "discriminator", "random", "constant", "contrast"]


@pytest.mark.parametrize("flip_share", [0.0, 0.5])
@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_numbers_in_range_and_zero_in_padding(name, flip_share, discriminator):
    source = open_relevance(Credit(relevance=name, flip_share=flip_share), discriminator, seed=1)
    relevance = source(batch(log_probs=Asked(POLICY)))
    assert relevance.shape == (2, 2, 6)
    assert relevance.dtype == torch.float32
    assert relevance.device.type == "cpu"
    assert (relevance[~COUNTED] == 0).all()
    assert ((relevance >= 0) & (relevance <= 1)).all()
    assert (relevance[COUNTED] > 0).any()


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_takes_a_batch_without_a_token_or_a_rubric(name, discriminator):
    source = open_relevance(Credit(relevance=name, flip_share=0.5), discriminator, seed=1)
    tokenless = batch(spans=[[], []], length=0, log_probs=lambda messages: torch.zeros(2, 0))
    assert source(tokenless).shape == (2, 2, 0)
    assert source(batch(rubrics=[[], []], log_probs=Asked(POLICY))).shape == (2, 0, 6)


@pytest.mark.parametrize("name", SOURCES)
def test_no_source_touches_the_global_generators(name, discriminator):
    source = open_relevance(Credit(relevance=name, flip_share=0.5), discriminator, seed=1)

    def states():
        return random.getstate(), torch.get_rng_state().tolist(), [str(part) for part in np.random.get_state()]

    before = states()
    first = source(batch(log_probs=Asked(POLICY)))
    assert states() == before
    random.seed(5)
    torch.manual_seed(5)
    np.random.seed(5)
    assert torch.equal(source(batch(log_probs=Asked(POLICY))), first)


def test_torch_is_not_imported_with_the_sources():
    script = "import sys, rtt.relevance.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


def test_what_counts_are_a_prompts_own_rubrics_and_a_responses_own_tokens():
    assert torch.equal(counted(batch()), COUNTED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ["one"]}, "'rubrics': 2, 'prompts': 1"),
        ({"spans": [[]] * 3}, "'spans': 3"),
        ({"length": 4}, "5 spans, and length is 4"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        batch(**changes)


# --- sources that read text


def test_rule_relevance_by_hand():
    # commas at 2 and 7: tokens 1 and 3; tea at 4..7: token 2; the quotation marks are in both tokens of "hi"
    expected = torch.tensor([[[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]], [[1, 1, 0, 0, 0, 0], [0] * 6]])
    assert torch.equal(RuleRelevance()(batch()), expected.float())


def test_learned_relevance_is_the_discriminators_at_each_token(discriminator):
    source = LearnedRelevance(discriminator)
    relevance = source(batch())
    for j, k, text, response in ((0, 0, COMMAS.text, 0), (0, 1, TEA.text, 0), (1, 0, QUOTES.text, 1)):
        [characters] = source.discriminator.relevance([(text, batch().responses[response])])
        for t, (start, end) in enumerate(batch().spans[j]):
            expected = max(characters[start:end], default=0)
            assert relevance[j, k, t].item() == pytest.approx(expected, abs=1e-6)
    assert relevance[0, 0, 4] == 0  # no characters, though it counts
    assert not torch.equal(relevance[0, 0], relevance[0, 1])


# --- controls


def test_constant_relevance_is_one_at_every_token_that_counts():
    assert torch.equal(ConstantRelevance()(batch()), COUNTED.float())


def test_random_relevance_is_uniform_and_differs_from_place_to_place():
    rows = 8
    wide = batch(
        rubrics=[[COMMAS, TEA, QUOTES]] * rows,
        prompts=["p"] * rows,
        responses=["r"] * rows,
        spans=[[(0, 1)] * 500] * rows,
        length=500,
    )
    draws = torch.cat([RandomRelevance(seed)(replace(wide, step=step)) for seed in (0, 1) for step in (0, 1)])
    values = draws.flatten()
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean().item() == pytest.approx(0.5, abs=0.01)
    assert values.var().item() == pytest.approx(1 / 12, abs=0.002)
    # 96 independent rows of 500: the correlation of two has a deviation of 0.045, and there are 4,560 pairs
    correlations = torch.corrcoef(draws.flatten(0, 1)).fill_diagonal_(0)
    assert correlations.abs().max() < 0.25
    assert values.unique().numel() > 0.99 * values.numel()


@given(seed=st.integers(0, 2**32), step=st.integers(0, 10**6), before=st.integers(0, 3), longer=st.integers(0, 3))
@MANY
def test_a_draw_depends_on_its_own_place_alone(seed, step, before, longer):
    source = RandomRelevance(seed)
    expected = source(batch(step=step))
    for earlier in range(before):
        source(batch(step=earlier))
    # more padding, more rubrics in the other row, more tokens in this one
    grown = batch(
        step=step,
        rubrics=[[COMMAS, TEA], [QUOTES, TEA, COMMAS]],
        spans=[batch().spans[0] + [(11, 11)] * longer, batch().spans[1]],
        length=9,
    )
    relevance = source(grown)
    assert torch.equal(relevance[0, :2, :5], expected[0, :, :5])
    assert torch.equal(relevance[1, 0, :2], expected[1, 0, :2])


def test_flips_turn_the_drawn_share_of_counted_tokens_and_nothing_else():
    rows = 40
    wide = batch(
        rubrics=[[COMMAS, TEA]] * rows,
        prompts=["p"] * rows,
        responses=["r"] * rows,
        spans=[[(0, 1)] * 50] * rows,
        length=60,
    )
    source = RandomRelevance(3)
    clean, flipped = source(wide), Flipped(source, 0.3, seed=3)(wide)
    changed = flipped != clean
    assert torch.equal(flipped[changed], 1 - clean[changed])
    assert changed[:, :, :50].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not changed[:, :, 50:].any()
    # which are flipped does not follow from what was drawn as relevance with the same seed
    assert clean[changed].mean().item() == pytest.approx(0.5, abs=0.03)


def test_flips_of_a_larger_share_include_those_of_a_smaller_one():
    few, more = (Flipped(ConstantRelevance(), share, seed=2)(batch()) for share in (0.3, 0.7))
    assert ((few == 0) <= (more == 0)).all()
    assert not torch.equal(few, more)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_share_and_the_whole_share_are_exact(share):
    clean = RuleRelevance()(batch())
    expected = torch.where(COUNTED, 1 - clean, 0) if share else clean
    assert torch.equal(Flipped(RuleRelevance(), share, seed=0)(batch()), expected)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        Flipped(ConstantRelevance(), share, seed=0)


# --- the policy's own contrast


def test_contrast_relevance_by_hand():
    policy = Asked(POLICY)
    relevance = ContrastRelevance()(batch(log_probs=policy))
    # a message's value v gives v·(t + 1) at token t; without rubric k it is less by that rubric's own
    t = torch.arange(1.0, 7)
    expected = torch.zeros(2, 2, 6)
    expected[0] = torch.stack([torch.sigmoid(0.5 * t), torch.sigmoid(-0.25 * t)])
    expected[1, 0] = torch.sigmoid(t)
    torch.testing.assert_close(relevance, torch.where(COUNTED, expected, 0))
    assert policy.messages == [
        ["Say hello. Use no commas. Mention tea.", "Say hi. Put it in quotes."],
        ["Say hello. Mention tea.", "Say hi."],
        ["Say hello. Use no commas.", "Say hi. Put it in quotes."],
    ]


def test_temperature_and_bias_of_the_contrast_have_their_places():
    source = open_relevance(Credit(relevance="contrast", temperature=4.0, bias=0.25), None, seed=0)
    relevance = source(batch(log_probs=Asked(POLICY)))
    # at the first token δ is 0.5, -0.25 and 1
    expected = [1 / (1 + math.exp(-4 * (delta - 0.25))) for delta in (0.5, -0.25, 1)]
    assert relevance[[0, 0, 1], [0, 1, 0], 0].tolist() == pytest.approx(expected)


def test_the_contrast_with_all_takes_every_rubric_out():
    policy = Asked(POLICY)
    contrast = contrast_with_all(batch(log_probs=policy))
    t = torch.arange(1.0, 7)
    expected = torch.where(COUNTED[:, 0], torch.stack([0.25 * t, t]), 0)
    torch.testing.assert_close(contrast, expected)
    assert contrast.dtype == torch.float32
    assert policy.messages[1] == ["Say hello.", "Say hi."]


def test_a_policy_that_does_not_read_the_rubrics_gives_plain_grpo_under_cort():
    contrast = contrast_with_all(batch(log_probs=Asked({"Say hello": 3.0})))
    response, mask = torch.tensor([0.7, -0.7]), COUNTED[:, 0]
    assert torch.equal(cort_advantages(contrast, response, mask, eta=2.0), torch.where(mask, response[:, None], 0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_log_probabilities_does_not_matter(dtype):
    # every value here is exact in half precision
    relevance = ContrastRelevance()(batch(log_probs=Asked(POLICY, dtype)))
    assert relevance.dtype == torch.float32
    torch.testing.assert_close(relevance, ContrastRelevance()(batch(log_probs=Asked(POLICY))))


@pytest.mark.parametrize("ask", [ContrastRelevance(), contrast_with_all])
def test_a_contrast_says_what_it_lacks(ask):
    with pytest.raises(ValueError, match="the batch has no log_probs"):
        ask(batch())
    with pytest.raises(ValueError, match=r"the shape \(2, 5\), \(2, 6\) was expected"):
        ask(batch(log_probs=lambda messages: torch.zeros(2, 5)))
    with pytest.raises(UserError, match="does not stand in its prompt"):
        ask(batch(prompts=["Say hello.", "Say hi."], log_probs=Asked(POLICY)))


# --- opening


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rules", RuleRelevance),
        ("random", RandomRelevance),
        ("constant", ConstantRelevance),
        ("contrast", ContrastRelevance),
    ],
)
def test_a_source_is_opened_by_its_name(name, kind):
    assert type(open_relevance(Credit(relevance=name), None, seed=0)) is kind
    flipped = open_relevance(Credit(relevance=name, flip_share=0.25), None, seed=7)
    assert isinstance(flipped, Flipped)
    assert (type(flipped.source), flipped.share, flipped.seed) == (kind, 0.25, 7)


def test_the_seed_reaches_what_is_drawn():
    random_ones = [open_relevance(Credit(relevance="random"), None, seed)(batch()) for seed in (0, 0, 1)]
    assert torch.equal(random_ones[0], random_ones[1])
    assert not torch.equal(random_ones[0], random_ones[2])


def test_a_missing_discriminator_is_asked_for():
    with pytest.raises(UserError, match="none was given") as caught:
        open_relevance(Credit(), None, seed=0)
    assert caught.value.where == "--discriminator"
    assert caught.value.todo
