"""How far labels by a language model agree with labels by rule, character by character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtt.relevance.locate import Span


@dataclass(frozen=True)
class Labelled:
    """One pair with both labels."""

    kind: str
    length: int
    rules: Sequence[Span]
    model: Sequence[Span]


def _counts(pair: Labelled) -> np.ndarray:
    """Characters labelled by both, by the model alone, by the rules alone, by none."""
    masks = []
    for spans in (pair.rules, pair.model):
        mask = np.zeros(pair.length, dtype=bool)
        for start, end in spans:
            mask[start:end] = True
        masks.append(mask)
    rules, model = masks
    return np.array([(rules & model).sum(), (~rules & model).sum(), (rules & ~model).sum(), (~rules & ~model).sum()])


def measures(counts: np.ndarray) -> dict[str, float | None]:
    """Precision, recall and F1 of the model against the rules, intersection over union, Cohen's kappa.

    Args:
        counts: (4,), characters labelled by both, the model alone, the rules alone, none.

    Returns:
        None for what is undefined: nothing labelled by the one, or by either, or no room for chance.
    """
    both, model, rules, none = (float(count) for count in counts)
    whole = both + model + rules + none
    precision = both / (both + model) if both + model else None
    recall = both / (both + rules) if both + rules else None
    union = both + model + rules
    agreed = (both + none) / whole if whole else 0.0
    p, q = ((both + model) / whole, (both + rules) / whole) if whole else (0.0, 0.0)
    chance = p * q + (1 - p) * (1 - q)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * both / (2 * both + model + rules) if union else None,
        "iou": both / union if union else None,
        "kappa": (agreed - chance) / (1 - chance) if whole and chance != 1 else None,
    }


def agreement(pairs: Sequence[Labelled], draws: int = 1000, seed: int = 0) -> dict[str, dict[str, float | int | None]]:
    """Agreement over all pairs and per kind, over the characters of all pairs together.

    Returns:
        ``all`` and each kind → n pairs, the `measures`, and f1_low and f1_high, a 95 % interval by bootstrap over
        pairs.
    """
    random = np.random.default_rng(seed)
    groups = {"all": list(pairs)}
    for pair in pairs:
        groups.setdefault(pair.kind, []).append(pair)
    found: dict[str, dict[str, float | int | None]] = {}
    for name, members in groups.items():
        counts = np.array([_counts(pair) for pair in members]).reshape(-1, 4)
        drawn = random.integers(0, max(1, len(members)), size=(draws if members else 0, len(members)))
        scores = [f1 for rows in drawn if (f1 := measures(counts[rows].sum(axis=0))["f1"]) is not None]
        low, high = (float(x) for x in np.quantile(scores, [0.025, 0.975])) if scores else (None, None)
        found[name] = {"n": len(members), **measures(counts.sum(axis=0)), "f1_low": low, "f1_high": high}
    return found
