"""How good the discriminator is on topics and on rubric kinds it was not trained on, beside two baselines.

Everything is counted over the response tokens the discriminator reads. What cannot be computed is None, never 0: no
precision without a predicted token, no recall, F1 or precision-recall curve without a relevant one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from rtt.relevance.discriminator import Discriminator, shared_words
from rtt.relevance.offsets import Span, char_to_token_relevance, spans_to_chars
from rtt.relevance.training import token_targets
from rtt.tables import rows_of

SETS = ("unseen_topics", "unseen_kinds")
BASELINES = ("random", "keyword")
BINS = 15


@dataclass(frozen=True)
class _Tokens:
    """All tokens of some pairs: labels in {0, 1}, scores in [0, 1] by scorer, and each token's response and kind."""

    labels: np.ndarray
    scores: dict[str, np.ndarray]
    response: np.ndarray
    kind: np.ndarray
    pairs: list[_Pair]


@dataclass(frozen=True)
class _Pair:
    """One labelled pair: where its tokens lie in the response, and their labels and scores."""

    row: Any
    spans: Sequence[Span]
    labels: np.ndarray
    scores: np.ndarray


def evaluate_discriminator(
    discriminator: Discriminator,
    labels: pd.DataFrame,
    *,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures the discriminator on the splits unseen_topics and unseen_kinds.

    Args:
        labels: rows of rtt.tables.Labels.
        draws: bootstrap draws, of responses, behind the 95 % interval of AUPRC.
        seed: of the bootstrap and of the random baseline.

    Returns:
        ``threshold`` and ``sets``; per set ``pairs``, ``tokens``, ``base_rate``, ``auprc`` with
        ``auprc_low`` and ``auprc_high``, ``f1``, ``precision`` and ``recall`` at the threshold, ``ece`` (expected
        calibration error), ``baselines`` (``random``: uniform scores; ``keyword``: tokens of words that the criterion
        has too; each with ``auprc`` and ``f1`` at 0.5) and ``per_kind``.
    """
    sets = {}
    for name in SETS:
        rows = labels[labels["split"] == name]
        tokens = _score(discriminator, rows, np.random.default_rng(seed))
        labelled, scores = tokens.labels, tokens.scores["discriminator"]
        low, high = _bootstrap(tokens, draws, np.random.default_rng(seed))
        sets[name] = {
            "pairs": len(rows),
            "tokens": len(labelled),
            "base_rate": _rate(labelled),
            "auprc": auprc(labelled, scores),
            "auprc_low": low,
            "auprc_high": high,
            **at_threshold(labelled, scores, discriminator.threshold),
            "ece": calibration_error(labelled, scores),
            "baselines": {
                baseline: {
                    "auprc": auprc(labelled, tokens.scores[baseline]),
                    "f1": at_threshold(labelled, tokens.scores[baseline], 0.5)["f1"],
                }
                for baseline in BASELINES
            },
            "per_kind": {
                str(kind): {
                    "pairs": len(own),
                    **_of_kind(tokens, str(kind), discriminator.threshold),
                    "examples": _examples([pair for pair in tokens.pairs if pair.row.kind == kind]),
                }
                for kind, own in rows.groupby("kind")
            },
        }
    return {"threshold": discriminator.threshold, "sets": sets}


def _score(discriminator: Discriminator, rows: pd.DataFrame, draw: np.random.Generator) -> _Tokens:
    encoded, targets = token_targets(discriminator, rows)
    counts = [len(target) for target in targets]
    keyword = [
        char_to_token_relevance(spans_to_chars(shared_words(criterion, response), len(response)), pair.spans)
        for criterion, response, pair in zip(rows["criterion"], rows["response"], encoded, strict=True)
    ]
    relevance = discriminator.token_relevance(encoded)
    pairs = [
        _Pair(row, pair.spans, target, scores)
        for row, pair, target, scores in zip(rows_of(rows), encoded, targets, relevance, strict=True)
    ]
    return _Tokens(
        labels=_join(targets),
        scores={
            "discriminator": _join(relevance),
            "random": draw.random(sum(counts)),
            "keyword": _join(keyword),
        },
        response=np.repeat(rows["response_id"].to_numpy(dtype=object), counts),
        kind=np.repeat(rows["kind"].to_numpy(dtype=object), counts),
        pairs=pairs,
    )


def _examples(pairs: Sequence[_Pair]) -> dict[str, Any]:
    """The pair the discriminator did best on and the one it did worst on: by average precision, then by cross-entropy.
    Pairs without a relevant token have no precision and are no examples, unless there are no others."""
    telling = [pair for pair in pairs if pair.labels.any()] or [pair for pair in pairs if len(pair.labels)]
    ordered = sorted(telling, key=lambda pair: (auprc(pair.labels, pair.scores) or 0.0, -_cross_entropy(pair)))
    return {"best": _example(ordered[-1]), "worst": _example(ordered[0])} if ordered else {}


def _cross_entropy(pair: _Pair) -> float:
    chance = np.where(pair.labels > 0, pair.scores, 1 - pair.scores)
    return float(-np.log(np.clip(chance, 1e-6, 1)).mean())


def _example(pair: _Pair) -> dict[str, Any]:
    return {
        "criterion": pair.row.criterion,
        "response": pair.row.response,
        "verdict": pair.row.verdict,
        "labels": json.loads(pair.row.spans),
        "tokens": [list(span) for span in pair.spans],
        "relevance": [round(float(score), 3) for score in pair.scores],
        "auprc": auprc(pair.labels, pair.scores),
    }


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _of_kind(tokens: _Tokens, kind: str, threshold: float) -> dict[str, float | None]:
    own = tokens.kind == kind
    labels, scores = tokens.labels[own], tokens.scores["discriminator"][own]
    return {
        "base_rate": _rate(labels),
        "auprc": auprc(labels, scores),
        "f1": at_threshold(labels, scores, threshold)["f1"],
        **{f"{name}_auprc": auprc(labels, tokens.scores[name][own]) for name in BASELINES},
    }


def _rate(labels: np.ndarray) -> float | None:
    return float(labels.mean()) if len(labels) else None


def auprc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Area under the precision-recall curve as average precision; None without a relevant token (of any weight)."""
    counted = labels if weights is None else labels * weights
    return float(average_precision_score(labels, scores, sample_weight=weights)) if counted.any() else None


def at_threshold(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float | None]:
    """``f1``, ``precision`` and ``recall`` when scores from `threshold` count as relevant; None where undefined."""
    chosen, relevant = scores >= threshold, labels > 0
    hits, predicted, actual = int((chosen & relevant).sum()), int(chosen.sum()), int(relevant.sum())
    return {
        "f1": 2 * hits / (predicted + actual) if actual else None,
        "precision": hits / predicted if predicted else None,
        "recall": hits / actual if actual else None,
    }


def calibration_error(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Mean distance of the score from the share of relevant tokens, over 15 equal bins; None without tokens."""
    if not len(labels):
        return None
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=scores - labels, minlength=BINS)  # per bin, tokens times (mean score - share)
    return float(np.abs(gaps).sum() / len(labels))


def _bootstrap(tokens: _Tokens, draws: int, draw: np.random.Generator) -> tuple[float | None, float | None]:
    """The 2.5 % and 97.5 % quantiles of AUPRC over draws of responses; draws without a relevant token are left out."""
    names, owner = np.unique(tokens.response.astype(str), return_inverse=True)
    if not len(names):
        return None, None
    values = []
    for _ in range(draws):
        weights = np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names))[owner]
        value = auprc(tokens.labels, tokens.scores["discriminator"], weights)
        if value is not None:
            values.append(value)
    if not values:
        return None, None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
