"""Verdicts as a table and as padded arrays: padding and verdicts nobody could give never count."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.judging.cases import Case, Verdict
from rtt.judging.routing import Router, open_judge
from rtt.judging.rules import Rules, judge_one
from rtt.judging.verdicts import judge_responses, verdict_arrays, weight_array
from rtt.rubrics import JUDGED, PROGRAM, Rubric, dump_rubrics, parse_rubrics
from rtt.tables import Prompts, Responses, Verdicts, check_table

P = [{"role": "user", "content": "p"}]

NO_COMMA = Rubric(rubric_id="a/0", kind="punctuation:no_comma", text="No comma.")
LOWERCASE = Rubric(rubric_id="a/1", kind="change_case:english_lowercase", text="Lower case.")
TEA = Rubric(rubric_id="a/2", kind="keywords:existence", text='Say "tea".', kwargs={"keywords": ["tea"]})


QUOTES = Rubric(rubric_id="a/3", kind="format:quote_unquote", text="Explain every quotation.")
TRIPPED = "..."  # on an answer of nothing but dots that checker raises, so nobody can give a verdict


def test_each_rubric_of_each_response_is_judged_at_its_place():
    verdicts, valid = verdict_arrays(
        [[NO_COMMA, TEA], [NO_COMMA, TEA], [TEA, NO_COMMA]],
        ["Hot tea.", "Hot, wet.", "Hot, wet tea."],
        [P] * 3,
        Rules(),
    )
    assert verdicts.tolist() == [[1, 1], [-1, -1], [1, -1]]
    assert valid.all()
    assert (verdicts.dtype, valid.dtype) == (np.float32, np.bool_)


def test_padding_is_not_valid_and_worth_nothing():
    verdicts, valid = verdict_arrays([[TEA], [NO_COMMA, TEA], []], ["coffee", "tea", "milk"], [P] * 3, Rules())
    assert valid.tolist() == [[True, False], [True, True], [False, False]]
    assert verdicts.tolist() == [[-1, 0], [1, 1], [0, 0]]


def test_verdict_nobody_could_give_is_not_valid():
    verdicts, valid = verdict_arrays([[NO_COMMA, QUOTES, TEA], [QUOTES]], [TRIPPED, "No quotation."], [P] * 2, Rules())
    assert valid.tolist() == [[True, False, True], [True, False, False]]
    assert verdicts[0].tolist() == [1, 0, -1]
    assert not np.isnan(verdicts).any()
    assert judge_one(QUOTES, TRIPPED, "p").missing


def test_empty_response_follows_nothing_and_that_is_a_verdict():
    verdicts, valid = verdict_arrays([[NO_COMMA, LOWERCASE]], [" \n"], [P], Rules())
    assert verdicts.tolist() == [[-1, -1]]
    assert valid.all()


def test_unknown_kind_is_an_error_that_names_the_rubric():
    unknown = Rubric(rubric_id="a/9", kind="tone:kind", text="Be kind.")
    with pytest.raises(UserError, match="no rule checker for the kind 'tone:kind'") as caught:
        verdict_arrays([[NO_COMMA, unknown]], ["tea"], [P], Rules())
    assert caught.value.where == "rubric a/9"


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="argument 2"):
        verdict_arrays([[TEA], [TEA]], ["tea"], [P, P], Rules())


TITLE = Rubric(rubric_id="q/0", kind="detectable_format:title", text="A title.")


def _tables(answers, rubrics):
    prompts = pd.DataFrame(
        {
            "prompt_id": list(rubrics),
            "split": "train",
            "topic": "tea",
            "prompt": "Tell me about tea.",
            "rubrics": [dump_rubrics(items) for items in rubrics.values()],
        }
    )
    responses = pd.DataFrame(
        {
            "response_id": [f"r{i}" for i in range(len(answers))],
            "prompt_id": [prompt_id for prompt_id, _ in answers],
            "sample": list(range(len(answers))),
            "response": [answer for _, answer in answers],
            "tokens": 1,
            "truncated": False,
        }
    )
    return check_table(responses, Responses, "test"), check_table(prompts, Prompts, "test")


def test_one_verdict_per_response_and_rubric_in_order(caplog):
    answers = [("q", "<<T>>"), ("p", "Tea, milk."), ("p", "Tea."), ("q", ""), ("p", "")]
    with caplog.at_level(logging.WARNING, logger="rtt.judging.verdicts"):
        table = judge_responses(*_tables(answers, {"p": [NO_COMMA, QUOTES], "q": [TITLE]}), Rules())
    check_table(table, Verdicts, "test")
    assert list(zip(table["response_id"], table["rubric_id"], table["verdict"], strict=True)) == [
        ("r0", "q/0", 1.0),
        ("r1", "a/0", -1.0),
        ("r1", "a/3", 1.0),
        ("r2", "a/0", 1.0),
        ("r2", "a/3", 1.0),
        ("r3", "q/0", -1.0),
        ("r4", "a/0", -1.0),
        ("r4", "a/3", -1.0),
    ]
    assert set(table["judge"]) == {"rule"}
    assert set(table["reason"]) == {""}
    assert not caplog.records


def test_checker_that_trips_leaves_a_missing_verdict_and_is_counted(caplog):
    with caplog.at_level(logging.WARNING, logger="rtt.judging.verdicts"):
        table = judge_responses(*_tables([("p", "..."), ("p", "Tea")], {"p": [NO_COMMA, QUOTES]}), Rules())
    assert table["verdict"].tolist()[0] == 1.0
    assert math.isnan(table["verdict"].tolist()[1])
    assert table["verdict"].tolist()[2:] == [1.0, 1.0]
    assert table["reason"].tolist() == ["", "IndexError: string index out of range", "", ""]
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 4 verdicts are missing: 1 x format:quote_unquote, IndexError"
    ]


def test_response_to_an_unknown_prompt_is_refused():
    responses, prompts = _tables([("p", "Tea"), ("z", "Tea")], {"p": [NO_COMMA]})
    with pytest.raises(UserError, match="'z'"):
        judge_responses(responses, prompts, Rules())


def test_bad_rubric_is_named():
    bad = Rubric(rubric_id="p/7", kind="punctuation:no_coma", text="No commas.")
    with pytest.raises(UserError, match="no_coma") as caught:
        judge_responses(*_tables([("p", "Tea")], {"p": [bad]}), Rules())
    assert caught.value.where == "rubric p/7"


def test_progress_bar_is_quiet_when_not_in_a_terminal(capsys):
    judge_responses(*_tables([("p", "Tea")], {"p": [NO_COMMA]}), Rules())
    assert capsys.readouterr().err == ""


class Says:
    """A judge that says one thing about every case and remembers the cases."""

    def __init__(self, value):
        self.value, self.seen = value, []

    def judge(self, cases):
        self.seen += cases
        return [Verdict(self.value, "says") for _ in cases]


KIND = Rubric(rubric_id="b/0", kind=JUDGED, text="Be kind.", weight=3)
SHORT = Rubric(rubric_id="b/1", kind=PROGRAM, text="Be short.", kwargs={"source": "…"})


def test_each_rubric_goes_to_its_judge_and_the_verdicts_come_back_in_order():
    model, program = Says(0.5), Says(-1.0)
    router = Router({"rule": Rules, PROGRAM: lambda: program, JUDGED: lambda: model})
    cases = [Case(rubric, "Tea, hot.", "p") for rubric in (KIND, NO_COMMA, SHORT, KIND, TEA)]
    assert [verdict.value for verdict in router.judge(cases)] == [0.5, -1, -1, 0.5, 1]
    assert [case.rubric.rubric_id for case in model.seen] == ["b/0", "b/0"]
    assert [case.rubric.rubric_id for case in program.seen] == ["b/1"]


def test_a_judge_is_opened_once_and_only_when_it_is_needed():
    opened = []
    router = Router({"rule": lambda: opened.append("rule") or Rules(), JUDGED: lambda: opened.append("model")})
    for _ in range(2):
        router.judge([Case(TEA, "Tea.", "p")])
    assert opened == ["rule"]


def test_a_rubric_for_a_model_that_is_not_configured_is_named():
    with pytest.raises(UserError, match="needs a language model") as caught:
        open_judge(None).judge([Case(KIND, "Tea.", "p")])
    assert "b/0" in caught.value.where


def test_the_judge_sees_the_whole_conversation():
    judge = Says(1.0)
    turns = [{"role": "system", "content": "Be brief."}, *P]
    verdict_arrays([[KIND]], ["Tea."], [turns], judge)
    (case,) = judge.seen
    assert (case.prompt, case.messages) == ("p", tuple(turns))


def test_weights_stand_where_their_rubrics_do():
    assert weight_array([[KIND, TEA], [TEA], []]).tolist() == [[3, 1], [1, 1], [1, 1]]
    assert weight_array([[TEA]]).dtype == np.float32


def test_a_weight_survives_the_table():
    text = dump_rubrics([KIND, TEA])
    assert [rubric.weight for rubric in parse_rubrics(text)] == [3, 1]
    assert text.count("weight") == 1
