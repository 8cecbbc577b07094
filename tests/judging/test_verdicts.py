"""Verdicts as padded arrays: padding and verdicts nobody could give never count."""

from __future__ import annotations

import numpy as np
import pytest

from rtt.errors import UserError
from rtt.judging.rules import judge_one
from rtt.judging.verdicts import verdict_arrays
from rtt.rubrics import Rubric

NO_COMMA = Rubric(rubric_id="a/0", kind="punctuation:no_comma", text="No comma.")
LOWERCASE = Rubric(rubric_id="a/1", kind="change_case:english_lowercase", text="Lower case.")
TEA = Rubric(rubric_id="a/2", kind="keywords:existence", text='Say "tea".', kwargs={"keywords": ["tea"]})


QUOTES = Rubric(rubric_id="a/3", kind="format:quote_unquote", text="Explain every quotation.")
TRIPPED = "..."  # on an answer of nothing but dots that checker raises, so nobody can give a verdict


def test_each_rubric_of_each_response_is_judged_at_its_place():
    verdicts, valid = verdict_arrays(
        [[NO_COMMA, TEA], [NO_COMMA, TEA], [TEA, NO_COMMA]], ["Hot tea.", "Hot, wet.", "Hot, wet tea."], ["p"] * 3
    )
    assert verdicts.tolist() == [[1, 1], [-1, -1], [1, -1]]
    assert valid.all()
    assert (verdicts.dtype, valid.dtype) == (np.float32, np.bool_)


def test_padding_is_not_valid_and_worth_nothing():
    verdicts, valid = verdict_arrays([[TEA], [NO_COMMA, TEA], []], ["coffee", "tea", "milk"], ["p"] * 3)
    assert valid.tolist() == [[True, False], [True, True], [False, False]]
    assert verdicts.tolist() == [[-1, 0], [1, 1], [0, 0]]


def test_verdict_nobody_could_give_is_not_valid():
    verdicts, valid = verdict_arrays([[NO_COMMA, QUOTES, TEA], [QUOTES]], [TRIPPED, "No quotation."], ["p"] * 2)
    assert valid.tolist() == [[True, False, True], [True, False, False]]
    assert verdicts[0].tolist() == [1, 0, -1]
    assert not np.isnan(verdicts).any()
    assert np.isnan(judge_one(QUOTES, TRIPPED, "p")[0])


def test_empty_response_follows_nothing_and_that_is_a_verdict():
    verdicts, valid = verdict_arrays([[NO_COMMA, LOWERCASE]], [" \n"], ["p"])
    assert verdicts.tolist() == [[-1, -1]]
    assert valid.all()


def test_unknown_kind_is_an_error_that_names_the_rubric():
    unknown = Rubric(rubric_id="a/9", kind="tone:kind", text="Be kind.")
    with pytest.raises(UserError, match="no rule checker for the kind 'tone:kind'") as caught:
        verdict_arrays([[NO_COMMA, unknown]], ["tea"], ["p"])
    assert caught.value.where == "rubric a/9"


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="argument 2"):
        verdict_arrays([[TEA], [TEA]], ["tea"], ["p", "p"])
