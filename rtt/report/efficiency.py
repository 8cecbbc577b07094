"""How fast an arm learns: the area under its validation curve, and the step at which it reaches a given accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rtt.config import BASE
from rtt.errors import UserError
from rtt.report.statistics import METRICS, Evaluation, bootstrap, evaluation, interval, per_seed, seed_deviation
from rtt.report.tables import curve_evaluations

METRIC = "instruction_strict"
_PLACE = METRICS.index(METRIC)
SEED_COLUMNS = ("arm", "seed", "end", "area", "target", "steps_to_target")
COLUMNS = (
    "arm",
    "seeds",
    "end",
    "area",
    "area_low",
    "area_high",
    "area_std",
    "target",
    "target_from",
    "reached",
    "steps_to_target",
    "steps_std",
)


def trapezoid_weights(steps: Sequence[float]) -> np.ndarray:
    """(N,) weights, summing to 1, with which a curve's mean over its steps is a weighted sum of its values.

    They are the trapezoid rule's, divided by the span of the N rising steps, N at least 2.
    """
    gaps = np.diff(np.asarray(steps, dtype=float))
    return (np.append(gaps, 0.0) + np.insert(gaps, 0, 0.0)) / (2 * gaps.sum())


def first_reached(steps: Sequence[float], values: Sequence[float], target: float) -> float:
    """The first step at which the line through the points reaches `target`; missing (NaN) where it never does."""
    for place, (step, value) in enumerate(zip(steps, values, strict=True)):
        if value >= target:
            if place == 0:
                return float(step)
            before, start = values[place - 1], steps[place - 1]
            return float(start + (target - before) / (value - before) * (step - start))
    return float("nan")


def choose_target(ends: Mapping[str, float], headline: tuple[str, str] | None) -> tuple[float, str]:
    """The accuracy to reach, and where it comes from; NaN and the reason where there is none.

    Args:
        ends: final mean validation accuracy by arm, the base among them if it was evaluated.
        headline: the study's pair, its baseline second.

    Returns:
        The headline baseline's final accuracy, unless that is the base or has none: then half the way from the base to
        the best arm.
    """
    if headline and headline[1] != BASE and headline[1] in ends:
        return ends[headline[1]], f"final accuracy of {headline[1]}"
    trained = {arm: value for arm, value in ends.items() if arm != BASE}
    if BASE not in ends or not trained:
        return float("nan"), "no base and trained arm to take it from"
    best = max(trained, key=lambda arm: trained[arm])
    if trained[best] <= ends[BASE]:
        return float("nan"), f"no arm is better than {BASE}"
    return (ends[BASE] + trained[best]) / 2, f"half the way from {BASE} to {best}"


def efficiency_tables(
    scores: pd.DataFrame,
    finals: pd.DataFrame,
    *,
    headline: tuple[str, str] | None = None,
    benchmark: str = "validation",
    draws: int = 2000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sample efficiency on one benchmark, per arm and per seed. Accuracy is that of instructions, strict.

    Args:
        scores: rows of rtt.tables.Scores, of every step.
        finals: those of finished policies; a seed that did not finish has no area, for its curve is shorter.
        headline: the study's pair.
        benchmark: the one evaluated each round.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        By arm, COLUMNS: ``area`` is the area under the curve from step 0 to ``end`` divided by those steps, a mean
        accuracy in [0, 1], with its 95 % interval over seeds and prompts and the deviation between seeds; ``reached``
        counts the seeds whose curve reaches ``target``; ``steps_to_target`` is their mean where every seed does, else
        missing, for the mean over the fastest alone would flatter. And by (arm, seed), SEED_COLUMNS.
    """
    last = finals[finals["benchmark"] == benchmark]
    ends = {str(arm): float(evaluation(rows).values()[_PLACE]) for arm, rows in last.groupby("arm", sort=False)}
    target, origin = choose_target(ends, headline)
    finished = {(str(arm), int(number)) for arm, number in zip(last["arm"], last["seed"], strict=True)}
    rows, curves = [], []
    for arm, steps in curve_evaluations(scores, benchmark).items():
        own = _curves(steps, arm)
        whole = [curve for curve in own if len(curve.steps) > 1 and (arm, curve.seed) in finished]
        reached = [first_reached(curve.steps, curve.values, target) for curve in own]
        areas = {curve.seed: curve.area() for curve in whole}
        curves += [
            (arm, curve.seed, curve.steps[-1], areas.get(curve.seed, np.nan), target, step)
            for curve, step in zip(own, reached, strict=True)
        ]
        area = _mean_area(whole, draws, seed)
        all_steps = pd.Series(reached if not np.isnan(reached).any() else [], dtype=float)
        spread = (all_steps.mean(), all_steps.std(ddof=1))
        count = int(np.isfinite(reached).sum())
        rows.append((arm, len(own), max(curve.steps[-1] for curve in own), *area, target, origin, count, *spread))
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(curves, columns=list(SEED_COLUMNS))


@dataclass(frozen=True)
class _Curve:
    """A seed's validation curve: T rising steps, hits (T, P) and instructions (P,) by prompt."""

    seed: int
    steps: tuple[int, ...]
    hits: np.ndarray
    instructions: np.ndarray

    @property
    def values(self) -> list[float]:
        return list(self.hits.sum(axis=1) / self.instructions.sum())

    def mean_hits(self) -> np.ndarray:
        """(P,) hits of a prompt, averaged over the steps by the trapezoid rule."""
        return trapezoid_weights(self.steps) @ self.hits

    def area(self) -> float:
        return float(self.mean_hits().sum() / self.instructions.sum())


def _curves(steps: Mapping[int, Evaluation], arm: str) -> list[_Curve]:
    """An arm's curves, one a seed. Raises UserError where its steps were evaluated on different prompts."""
    evaluations = list(steps.values())
    for one in evaluations[1:]:
        if not one.instructions.equals(evaluations[0].instructions):
            raise UserError(
                f"steps {evaluations[0].step} and {one.step} of {arm} were evaluated on different prompts",
                where=f"arm {arm}",
                todo="evaluate every round on the same prompts",
            )
    curves, counts = [], evaluations[0].denominators[:, _PLACE]
    for seed in sorted({seed for one in evaluations if one.arm != BASE for seed in one.seeds}):
        points = {
            step: one.numerators[:, :, _PLACE].mean(axis=0)
            if one.arm == BASE
            else one.numerators[one.seeds.index(seed), :, _PLACE]
            for step, one in steps.items()
            if one.arm == BASE or seed in one.seeds
        }
        curves.append(_Curve(seed, tuple(points), np.stack(list(points.values())), counts))
    return curves


def _mean_area(curves: Sequence[_Curve], draws: int, seed: int) -> tuple[float, float, float, float]:
    """Mean area over seeds, its interval and the deviation between seeds; all missing without a finished curve."""
    if not curves:
        return (float("nan"),) * 4
    hits = np.stack([curve.mean_hits() for curve in curves])[:, :, None]  # (S, P, 1)
    instructions = curves[0].instructions[:, None]
    by_seed = per_seed(hits, instructions)
    low, high = interval(bootstrap(hits, instructions, draws, seed))
    return float(by_seed.mean()), float(low[0]), float(high[0]), float(seed_deviation(by_seed)[0])
