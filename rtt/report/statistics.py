"""Evaluations as arrays, and what can be said about them: intervals, paired differences, p-values, Holm's correction.

Two things could have come out otherwise: the prompts asked and the training seeds. Both are resampled, each draw taking
as many seeds and as many prompts as there are, with replacement and independently of one another (the two factors are
crossed: every seed answers every prompt). Instructions of one prompt share a response and are never resampled apart.
Comparing two arms, a draw takes the same seeds and prompts for both. The base is one policy, whatever the seed, and an
arm with one seed says nothing of others: there, prompts alone are resampled.

With S seeds a bootstrap sees (S-1)/S of their variance, so with two or three the interval is too narrow where seeds
differ more than prompts do; the seed-to-seed deviation stands beside every interval for that reason. In simulated pairs
of equal arms p < 0.05 came up in 0 to 5 % of studies with one seed or with five, and in up to 10 % with two seeds that
differ by four points on 300 prompts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rtt.config import BASE
from rtt.errors import UserError

METRICS = (
    "prompt_strict",
    "prompt_loose",
    "instruction_strict",
    "instruction_loose",
    "response_tokens",
    "truncated",
    "empty",
)
COVERAGE = (0.025, 0.975)
SIGNIFICANT = 0.05
"""A difference counts where its p-value after Holm's correction is below this."""
_ROUNDING = 1e-12  # a sum of shares that should be zero may miss it by its last bits


@dataclass(frozen=True)
class Evaluation:
    """One arm at one step on one benchmark: S seeds, P prompts, M metrics.

    Attributes:
        arm: whose it is.
        step: optimiser steps of the policy.
        seeds: (S,) training seeds, rising.
        numerators: (S, P, M) hits of a prompt, or its value.
        denominators: (P, M) instructions of a prompt for the instruction metrics, else 1.
        instructions: every (prompt_id, rubric_id), sorted.
        protocol: name and version of how answers were asked for.
        budget: most tokens of an answer; 0 where it is not known.
        judge: who decided.
    """

    arm: str
    step: int
    seeds: tuple[int, ...]
    numerators: np.ndarray
    denominators: np.ndarray
    instructions: pd.MultiIndex
    protocol: str
    budget: int
    judge: str

    @property
    def prompts(self) -> int:
        return len(self.denominators)

    def by_seed(self) -> np.ndarray:
        """(S, M) the metrics of each seed."""
        return per_seed(self.numerators, self.denominators)

    def values(self) -> np.ndarray:
        """(M,) the metrics, averaged over seeds."""
        return self.by_seed().mean(axis=0)


def evaluation(rows: pd.DataFrame) -> Evaluation:
    """Reduces rows of rtt.tables.Scores that share arm, step and benchmark. Of several answers to a prompt the mean
    counts.

    Raises:
        UserError: an instruction scored twice, seeds on different prompts, prompts with different numbers of answers,
            or answers under several protocols.
    """
    arm, benchmark, step = rows["arm"].iloc[0], rows["benchmark"].iloc[0], int(rows["step"].iloc[0])
    where = f"arm {arm}, step {step}, benchmark {benchmark}"
    ways = rows[["protocol", "budget"]].drop_duplicates()
    if len(ways) > 1:
        listed = " and ".join(f"{way.protocol} with {way.budget} tokens" for way in ways.itertuples())
        raise UserError(
            f"the answers were asked for in several ways: {listed}",
            where=where,
            todo="evaluate all under one protocol, or give each a benchmark's name of its own",
        )
    twice = rows[rows.duplicated(["seed", "prompt_id", "sample", "rubric_id"])]
    if len(twice):
        raise UserError(
            f"{len(twice)} instructions are scored twice, such as {twice['rubric_id'].iloc[0]}",
            where=where,
            todo="give each evaluation once",
        )
    seeds = tuple(sorted(int(seed) for seed in rows["seed"].unique()))
    samples = int(rows["sample"].nunique())
    scored = rows.groupby(["prompt_id", "rubric_id"], sort=True).size()
    lacking = int((scored < len(seeds) * samples).sum())
    if lacking and samples == 1:
        raise UserError(
            f"the seeds answered different prompts: {lacking} instructions are not scored for all {len(seeds)} seeds",
            where=where,
            todo="evaluate every seed on the same prompts",
        )
    if lacking:
        raise UserError(
            f"{lacking} instructions are not scored on all {samples} answers of all {len(seeds)} seeds",
            where=where,
            todo="answer every prompt equally often",
        )
    responses = rows.groupby(["seed", "prompt_id", "sample"], sort=True).agg(
        instructions=("strict", "size"),
        prompt_strict=("strict", "all"),
        prompt_loose=("loose", "all"),
        instruction_strict=("strict", "sum"),
        instruction_loose=("loose", "sum"),
        response_tokens=("tokens", "first"),
        truncated=("truncated", "first"),
        empty=("empty", "first"),
    )
    responses = responses.groupby(level=["seed", "prompt_id"], sort=True).mean()
    numerators = responses[list(METRICS)].to_numpy(float).reshape(len(seeds), -1, len(METRICS))  # (S, P, M)
    counts = responses["instructions"].to_numpy(float)[: numerators.shape[1]]  # the same for every seed
    denominators = np.ones(numerators.shape[1:])
    for metric in ("instruction_strict", "instruction_loose"):
        denominators[:, METRICS.index(metric)] = counts
    return Evaluation(
        str(arm),
        step,
        seeds,
        numerators,
        denominators,
        pd.MultiIndex.from_tuples(list(scored.index)),
        protocol=str(ways["protocol"].iloc[0]),
        budget=int(ways["budget"].iloc[0]),
        judge=", ".join(sorted(rows["judge"].unique())),
    )


def per_seed(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """(S, M) sum over sum of each seed, from (S, P, M) and (P, M)."""
    return numerators.sum(axis=1) / denominators.sum(axis=0)


def seed_deviation(by_seed: np.ndarray) -> np.ndarray:
    """(M,) sample standard deviation over the S rows; missing, not 0, with one."""
    if len(by_seed) < 2:
        return np.full(by_seed.shape[1], np.nan)
    return by_seed.std(axis=0, ddof=1)


@functools.lru_cache(maxsize=8)
def _counts(units: int, draws: int, seed: int, level: int) -> np.ndarray:
    """(draws, units) how often each unit is in each draw; `level` separates the draws of seeds from those of prompts.

    A function of its arguments alone: arms with equally many units are resampled alike, and no arm's interval depends
    on which others stand in the table. Floats, because numpy multiplies integer matrices slowly.
    """
    generator = np.random.default_rng([seed, level])
    counts = generator.multinomial(units, np.full(units, 1 / units), size=draws).astype(float)
    counts.flags.writeable = False
    return counts


def bootstrap(numerators: np.ndarray, denominators: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sum over sum, averaged over seeds, in each draw of seeds and prompts.

    Args:
        numerators: (S, P, M); seeds are resampled where S is at least 2.
        denominators: (P, M), above 0.
        draws: D, how many.
        seed: of the draws.

    Returns:
        (D, M).
    """
    prompts = _counts(len(denominators), draws, seed, 0)
    drawn = np.stack([prompts @ one for one in numerators], axis=1)  # (D, S, M)
    weights = _counts(len(numerators), draws, seed, 1) / len(numerators)
    return (weights[:, :, None] * drawn).sum(axis=1) / (prompts @ denominators)


def interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends, (M,) each, of the 95 % percentile interval of (D, M) draws."""
    low, high = np.quantile(drawn, COVERAGE, axis=0)
    return low, high


def p_values(drawn: np.ndarray) -> np.ndarray:
    """Two-sided p-values of the hypothesis that a difference is zero, (M,), from its (D, M) bootstrap draws.

    Twice the smaller of the shares of draws at or below zero and at or above zero, each with the observed sample
    counted as one more draw on that side, at most 1:  p = min(1, 2·(min(#≤0, #≥0) + 1) / (D + 1)).  It is the level at
    which the percentile interval would just touch zero, so p < 0.05 and an interval that excludes zero are the same
    statement up to a draw; it is never 0.
    """
    sides = np.minimum((drawn <= _ROUNDING).sum(axis=0), (drawn >= -_ROUNDING).sum(axis=0))
    return np.minimum(1.0, 2 * (sides + 1) / (len(drawn) + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: below 0.05 the whole family (N,) errs once at most in twenty times.

    The k-th smallest of N p-values is multiplied by N - k + 1, made no smaller than those before it, and capped at 1.
    """
    order = np.argsort(p, kind="stable")
    raised = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty(len(p))
    adjusted[order] = raised
    return adjusted


def paired_gaps(one: Evaluation, other: Evaluation, benchmark: str) -> tuple[tuple[int, ...], np.ndarray] | None:
    """The numerators of `one` minus those of `other`, prompt by prompt and seed by seed.

    Returns:
        The seeds both have, or those of the other one where one is the base, and the (S, P, M) differences; None where
        they share no seed.

    Raises:
        UserError: they were asked different instructions.
    """
    if not one.instructions.equals(other.instructions):
        raise UserError(
            f"{one.arm} and {other.arm} were not asked the same: {len(one.instructions)} and "
            f"{len(other.instructions)} instructions, {len(one.instructions.intersection(other.instructions))} "
            "of them shared",
            where=f"benchmark {benchmark}",
            todo="evaluate both arms on the same prompts",
        )
    if BASE in (one.arm, other.arm):
        seeds = other.seeds if one.arm == BASE else one.seeds
    else:
        seeds = tuple(sorted(set(one.seeds) & set(other.seeds)))
    if not seeds:
        return None
    return seeds, _of_seeds(one, seeds) - _of_seeds(other, seeds)


def _of_seeds(found: Evaluation, seeds: tuple[int, ...]) -> np.ndarray:
    """(S, P, M) numerators of these seeds; the base, one policy for all of them, stands for each."""
    if found.arm == BASE:
        return np.broadcast_to(found.numerators.mean(axis=0), (len(seeds), *found.denominators.shape))
    return found.numerators[[found.seeds.index(seed) for seed in seeds]]
