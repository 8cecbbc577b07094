"""Labels by a language model: what it is asked, what is made of its answers, and how far they agree with the rules."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rtt.config import Annotator
from rtt.errors import UserError
from rtt.judging.requests import Reply
from rtt.relevance.agreement import Labelled, agreement, measures
from rtt.relevance.quotes import Pair, annotate, question, read_quotes

RESPONSE = "Hot tea, cold tea. No milk."


class Scripted:
    """Answers questions as a test says: criterion and sample to a text, or None for no answer."""

    def __init__(self, script):
        self.script, self.asked = script, []

    def ask(self, requests, title="questions"):
        self.asked += requests
        texts = [self.script(request.messages[1]["content"], request.sample) for request in requests]
        return [Reply(text, "" if text is not None else "status 500") for text in texts]


def quotes(*found):
    return json.dumps({"quotes": list(found)})


def test_quotes_become_spans():
    asks = Scripted(lambda content, sample: quotes("tea", "No  milk", "coffee"))
    (spans,), figures = annotate([Pair("Mention tea.", RESPONSE, 1.0)], asks, Annotator())
    assert spans == [(4, 7), (14, 17), (19, 26)]
    assert figures.flat() == {
        "pairs": 1,
        "pairs_missing": 0,
        "replies": 1,
        "quotes_verbatim": 1,
        "quotes_by_rule": 1,
        "quotes_dropped": 1,
    }


def test_the_criterion_and_the_verdict_come_after_the_response_and_the_prompt_is_not_shown():
    asked = question(Pair("Mention milk.", RESPONSE, -1.0), 3)
    shown = asked.messages[1]["content"]
    assert shown.index(RESPONSE) < shown.index("Mention milk.") < shown.index("The response breaks it.")
    assert (asked.sample, asked.task) == (3, "quotes/1")
    assert "do not trust" in asked.messages[0]["content"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"quotes": ["a", "b"]}', ["a", "b"]),
        ('{"quotes": []}', []),
        ('```json\n{"quotes": ["a"]}\n```', ["a"]),
        ('{"quotes": "a"}', None),
        ('{"quotes": [1]}', None),
        ('{"quote": ["a"]}', None),
        ('["a"]', None),
        ("a", None),
    ],
)
def test_only_an_answer_in_the_form_asked_for_counts(text, found):
    assert read_quotes(text) == found


def test_an_empty_list_is_an_answer_and_an_unreadable_one_is_missing():
    answers = {"one": quotes(), "two": "none of it", "three": None}
    asks = Scripted(
        lambda content, sample: next(text for name, text in answers.items() if f"Criterion:\n{name}" in content)
    )
    labels, figures = annotate([Pair(name, RESPONSE, 1.0) for name in answers], asks, Annotator(missing_limit=1.0))
    assert labels == [[], None, None]
    assert figures.missing == 2
    assert dict(figures.unreadable) == {"unreadable quotes": 1, "status 500": 1}


def test_several_answers_are_merged_by_vote_and_unreadable_ones_do_not_vote():
    answers = [quotes("Hot tea"), quotes("tea, cold"), quotes("tea"), "?"]
    asks = Scripted(lambda content, sample: answers[sample])
    pair = Pair("Mention tea.", RESPONSE, 1.0)
    # "tea" in first place is quoted by 3, in second by 1; the rest of the first two quotes by 1 each.
    (most,), _ = annotate([pair], asks, Annotator(samples=4))
    assert most == [(4, 7)]
    (any_,), _ = annotate([pair], asks, Annotator(samples=4, votes=1))
    assert any_ == [(0, 13), (14, 17)]
    (all_,), _ = annotate([pair], asks, Annotator(samples=4, votes=4))
    assert all_ == [(4, 7)]


def test_too_many_pairs_without_labels_stop_the_run_and_say_why():
    asks = Scripted(lambda content, sample: None if "two" in content else quotes())
    pairs = [Pair(name, RESPONSE, 1.0) for name in ("one", "two")]
    with pytest.raises(UserError, match="1 of 2 pairs got no labels") as caught:
        annotate(pairs, asks, Annotator(missing_limit=0.4))
    assert "1 x status 500" in caught.value.what


def test_agreement_by_hand():
    # 10 characters: both 2, the model alone 1, the rules alone 3, none 4.
    pair = Labelled("k", 10, rules=[(0, 5)], model=[(3, 6)])
    found = agreement([pair])["all"]
    assert (found["n"], found["precision"], found["recall"]) == (1, 2 / 3, 2 / 5)
    assert found["f1"] == pytest.approx(4 / 8)
    assert found["iou"] == pytest.approx(2 / 6)
    chance = 0.3 * 0.5 + 0.7 * 0.5
    assert found["kappa"] == pytest.approx((0.6 - chance) / (1 - chance))
    assert (found["f1_low"], found["f1_high"]) == (0.5, 0.5)


def test_agreement_is_told_by_kind_and_over_all():
    pairs = [Labelled("a", 4, [(0, 2)], [(0, 2)]), Labelled("b", 4, [(0, 2)], [(2, 4)]), Labelled("b", 4, [], [])]
    found = agreement(pairs)
    assert {name: (one["n"], one["f1"]) for name, one in found.items()} == {
        "all": (3, 0.5),
        "a": (1, 1.0),
        "b": (2, 0.0),
    }
    assert found["all"]["f1_low"] <= 0.5 <= found["all"]["f1_high"]


def test_what_is_undefined_is_none():
    nothing = measures(np.array([0, 0, 0, 5]))
    assert nothing == dict.fromkeys(("precision", "recall", "f1", "iou", "kappa"))
    assert agreement([])["all"]["n"] == 0
