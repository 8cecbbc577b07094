"""Diagnostics worked out by hand."""

import math

import pytest
import torch
from transformers import AutoTokenizer

from rtt.policy.diagnostics import divergence, relevance_entropy, unrelated_text


def test_divergence_of_equal_policies_is_zero_and_is_never_negative():
    now = torch.tensor([-1.0, -0.5, -3.0])
    assert divergence(now, now) == 0
    # gap ln 2: 2 - ln 2 - 1; gap -ln 2: 1/2 + ln 2 - 1; their mean is 1/4
    gaps = torch.tensor([math.log(2), -math.log(2)])
    assert divergence(torch.zeros(2), gaps) == pytest.approx(0.25)


def test_entropy_is_one_for_even_relevance_and_zero_for_a_single_token():
    even, single = torch.full((1, 1, 4), 0.3), torch.tensor([[[0.0, 0.7, 0.0, 0.0]]])
    mask, valid = torch.ones(1, 4, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    assert relevance_entropy(even, valid, mask) == pytest.approx(1.0)
    assert relevance_entropy(single, valid, mask) == pytest.approx(0.0)
    both = torch.cat([even, single], dim=1)
    assert relevance_entropy(both, torch.ones(1, 2, dtype=torch.bool), mask) == pytest.approx(0.5)


def test_entropy_passes_over_padding_missing_verdicts_and_rubrics_without_relevance():
    relevance = torch.tensor([[[0.5, 0.5, 0.9], [1.0, 0.0, 0.9], [0.0, 0.0, 0.9]]])
    mask, valid = torch.tensor([[1, 1, 0]]), torch.tensor([[True, False, True]])
    assert relevance_entropy(relevance, valid, mask) == pytest.approx(1.0)
    assert math.isnan(relevance_entropy(relevance, torch.zeros(1, 3, dtype=torch.bool), mask))


def test_unrelated_text_is_one_row_of_some_hundred_tokens(tiny_policy):
    ids = unrelated_text(AutoTokenizer.from_pretrained(tiny_policy))
    assert ids.shape[0] == 1
    assert 300 < ids.shape[1] < 2048
