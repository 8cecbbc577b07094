"""The measures of the discriminator, worked out by hand on scores that are known."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from rtt.relevance.discriminator import Encoded
from rtt.relevance.quality import at_threshold, auprc, calibration_error, evaluate_discriminator


class Known:
    """Stands for a discriminator with one token a character; a character's score is in `scores`, else 0.1."""

    threshold = 0.5

    def __init__(self, scores):
        self.scores = scores

    def encode(self, pairs):
        encoded = []
        for _, response in pairs:
            ids = [ord(char) for char in response]
            encoded.append(Encoded(ids, [0] * len(ids), 0, [(i, i + 1) for i in range(len(ids))], 0))
        return encoded

    def token_relevance(self, encoded):
        return [np.array([self.scores.get(chr(i), 0.1) for i in pair.ids], dtype=np.float32) for pair in encoded]


def row(response_id, kind, split, criterion, response, spans):
    return {
        "response_id": response_id,
        "prompt_id": "p",
        "rubric_id": "p/0",
        "kind": kind,
        "split": split,
        "criterion": criterion,
        "response": response,
        "verdict": 1.0,
        "spans": json.dumps(spans),
        "annotator": "rules",
    }


@pytest.fixture
def labels():
    return pd.DataFrame(
        [
            row("a", "keyword", "unseen_topics", "Use cat.", "a cat!", [[2, 5]]),
            row("a", "comma", "unseen_topics", "No commas.", "a,b,", [[1, 2], [3, 4]]),
            row("b", "comma", "unseen_topics", "No commas.", "ab", []),
            row("b", "title", "unseen_topics", "A title.", "xyz", []),
            row("c", "new", "unseen_kinds", "Shout.", "x!", [[1, 2]]),
            row("d", "keyword", "train", "Use cat.", "cat", [[0, 3]]),
        ]
    )


def measure(labels, scores=None, **changes):
    return evaluate_discriminator(Known(scores or {",": 0.9, "c": 0.8, "a": 0.7}), labels, **changes)


def test_measures_of_a_set_are_over_all_its_tokens(labels):
    result = measure(labels)
    topics = result["sets"]["unseen_topics"]
    assert result["threshold"] == 0.5
    assert (topics["pairs"], topics["tokens"]) == (4, 15)
    assert topics["base_rate"] == pytest.approx(5 / 15)
    # From 0.5 on: two commas, the c, and four a of which the one in "cat" is labelled.
    assert topics["precision"] == pytest.approx(4 / 7)
    assert topics["recall"] == pytest.approx(4 / 5)
    assert topics["f1"] == pytest.approx(8 / 12)
    # Recall by falling score: 2/5 at precision 1 (commas), 1/5 at 1 (c), 1/5 at 4/7 (a), 1/5 at 5/15 (the rest).
    assert topics["auprc"] == pytest.approx(3 / 5 + 1 / 5 * 4 / 7 + 1 / 5 * 5 / 15)


def test_measures_by_kind(labels):
    kinds = measure(labels)["sets"]["unseen_topics"]["per_kind"]
    assert list(kinds) == ["comma", "keyword", "title"]
    assert kinds["comma"]["pairs"] == 2
    assert kinds["comma"]["base_rate"] == pytest.approx(2 / 6)
    assert kinds["comma"]["auprc"] == pytest.approx(1)
    assert kinds["comma"]["f1"] == pytest.approx(4 / 6)  # both commas, and two a wrongly
    assert kinds["comma"]["keyword_auprc"] == pytest.approx(2 / 6), "a constant score has the base rate"
    assert kinds["keyword"]["keyword_auprc"] == pytest.approx(1)


def test_what_cannot_be_computed_is_missing_and_not_zero(labels):
    title = measure(labels)["sets"]["unseen_topics"]["per_kind"]["title"]
    expected = {"pairs": 1, "base_rate": 0.0, "auprc": None, "f1": None, "keyword_auprc": None, "random_auprc": None}
    assert title.pop("examples")["best"]["auprc"] is None
    assert title == expected


def test_the_best_and_the_worst_pair_of_a_kind(labels):
    """By average precision: once "a,b," has its commas first and so precision 1, once b comes before them."""
    more = pd.concat(
        [labels, pd.DataFrame([row("e", "comma", "unseen_topics", "No commas.", "b,b", [[1, 2]])])], ignore_index=True
    )
    found = evaluate_discriminator(Known({",": 0.9, "b": 0.2}), more)
    assert found["sets"]["unseen_topics"]["per_kind"]["comma"]["examples"]["best"]["auprc"] == 1
    worse = evaluate_discriminator(Known({",": 0.5, "b": 0.9, "a": 0.1}), more)
    examples = worse["sets"]["unseen_topics"]["per_kind"]["comma"]["examples"]
    assert examples["best"] == {
        "criterion": "No commas.",
        "response": "a,b,",
        "verdict": 1.0,
        "labels": [[1, 2], [3, 4]],
        "tokens": [[0, 1], [1, 2], [2, 3], [3, 4]],
        "relevance": [0.1, 0.5, 0.9, 0.5],
        "auprc": pytest.approx(2 / 3),  # b first, then both commas at once
    }
    assert examples["worst"]["response"] == "b,b"
    assert examples["worst"]["auprc"] == pytest.approx(1 / 3)


def test_a_set_without_pairs_is_missing_and_not_zero(labels):
    kinds = measure(labels[labels["split"] == "unseen_topics"])["sets"]["unseen_kinds"]
    nothing = {"auprc": None, "f1": None}
    assert kinds == {
        "pairs": 0,
        "tokens": 0,
        **dict.fromkeys(["base_rate", "auprc", "auprc_low", "auprc_high", "f1", "precision", "recall", "ece"]),
        "baselines": {"random": nothing, "keyword": nothing},
        "per_kind": {},
    }


def test_baselines_ignore_the_discriminator(labels):
    one, two = (measure(labels, scores)["sets"]["unseen_topics"]["baselines"] for scores in (None, {"a": 1.0}))
    assert one == two
    # The keyword baseline finds the three letters of "cat" and neither comma.
    assert one["keyword"]["f1"] == pytest.approx(2 * 3 / (3 + 5))
    assert one["keyword"]["auprc"] == pytest.approx(3 / 5 + 2 / 5 * 5 / 15)


def test_the_random_baseline_has_the_base_rate_and_is_seeded():
    long = pd.DataFrame([row(str(i), "k", "unseen_topics", "x", "ab" * 50, [[0, 20]]) for i in range(100)])
    first = measure(long, draws=1)["sets"]["unseen_topics"]["baselines"]["random"]
    assert first["auprc"] == pytest.approx(0.2, abs=0.02)
    assert first == measure(long, draws=1)["sets"]["unseen_topics"]["baselines"]["random"]
    assert first != measure(long, draws=1, seed=1)["sets"]["unseen_topics"]["baselines"]["random"]


def test_the_interval_is_over_responses_and_holds_the_estimate(labels):
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abc,"), size=12)) for _ in range(60)]
    many = pd.DataFrame(
        [
            row(
                str(i),
                "k",
                "unseen_topics",
                "x",
                t,
                [[j, j + 1] for j in range(12) if t[j] == "," or draw.random() < 0.1],
            )
            for i, t in enumerate(texts)
        ]
    )
    topics = measure(many)["sets"]["unseen_topics"]
    assert topics["auprc_low"] < topics["auprc"] < topics["auprc_high"]
    assert topics["auprc_high"] - topics["auprc_low"] < 0.3
    assert topics == measure(many)["sets"]["unseen_topics"]
    # All tokens of one response are drawn together: from a single response nothing can vary.
    alone = measure(many.assign(response_id="one"))["sets"]["unseen_topics"]
    assert alone["auprc_low"] == pytest.approx(alone["auprc"]) == pytest.approx(alone["auprc_high"])


def test_weighted_auprc_is_that_of_repeated_tokens():
    draw = np.random.default_rng(0)
    labels, scores, weights = draw.integers(0, 2, 50), draw.random(50), draw.integers(0, 4, 50)
    repeated = average_precision_score(np.repeat(labels, weights), np.repeat(scores, weights))
    assert auprc(labels, scores, weights) == pytest.approx(repeated)
    assert auprc(labels, scores, weights * (1 - labels)) is None


def test_calibration_error_by_hand():
    scores = np.array([0.05, 0.05, 1.0, 0.95])
    labels = np.array([0.0, 1.0, 1.0, 1.0])
    # Lowest bin: mean score 0.05 against a share of 0.5; highest: 0.975 against 1.
    assert calibration_error(labels, scores) == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
    assert calibration_error(np.zeros(0), np.zeros(0)) is None


def test_precision_without_a_predicted_token_is_missing():
    result = at_threshold(np.array([1.0, 0.0]), np.array([0.1, 0.2]), 0.5)
    assert result == {"f1": 0.0, "precision": None, "recall": 0.0}
