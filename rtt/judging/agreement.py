"""How far two judges say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtt.judging.cases import Verdict


def kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Cohen's kappa of two lists of yes and no; None where chance alone would agree always, or there is no pair.

    Args:
        first: (N,) bool.
        second: (N,) bool.
    """
    if len(first) == 0:
        return None
    agreed = float((first == second).mean())
    p, q = float(first.mean()), float(second.mean())
    chance = p * q + (1 - p) * (1 - q)
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def agreement(
    first: Sequence[Verdict], second: Sequence[Verdict], draws: int = 2000, seed: int = 0
) -> dict[str, float | int | None]:
    """Cohen's kappa over the pairs that have two verdicts, kept (above 0) against not.

    Returns:
        n, agreed (share), kappa, and kappa_low and kappa_high: a 95 % interval by bootstrap over pairs. None where
        undefined.
    """
    both = [(a.value > 0, b.value > 0) for a, b in zip(first, second, strict=True) if not (a.missing or b.missing)]
    pairs = np.array(both, dtype=bool).reshape(-1, 2)
    random = np.random.default_rng(seed)
    chosen = random.integers(0, max(1, len(pairs)), size=(draws if len(pairs) else 0, len(pairs)))
    found = [value for rows in chosen if (value := kappa(*pairs[rows].T)) is not None]
    low, high = (float(x) for x in np.quantile(found, [0.025, 0.975])) if found else (None, None)
    return {
        "n": len(pairs),
        "agreed": float((pairs[:, 0] == pairs[:, 1]).mean()) if len(pairs) else None,
        "kappa": kappa(*pairs.T),
        "kappa_low": low,
        "kappa_high": high,
    }
