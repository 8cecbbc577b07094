"""The study's numbers as long tables: accuracies per arm and benchmark, paired differences, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rtt.config import BASE
from rtt.errors import UserError
from rtt.report.statistics import (
    METRICS,
    Evaluation,
    bootstrap,
    evaluation,
    holm,
    interval,
    p_values,
    paired_gaps,
    per_seed,
    seed_deviation,
)

PAIRED_METRICS = ("instruction_strict", "prompt_strict")
MAIN_COLUMNS = (
    "arm",
    "seeds",
    "step",
    "benchmark",
    "metric",
    "value",
    "low",
    "high",
    "seed_std",
    "n_prompts",
    "n_instructions",
    "protocol",
    "budget",
    "judge",
)
PAIRED_COLUMNS = (
    "table",
    "arm",
    "against",
    "benchmark",
    "metric",
    "value",
    "low",
    "high",
    "p",
    "p_holm",
    "seed_std",
    "seeds",
    "n",
)
CURVE_COLUMNS = ("arm", "seed", "step", "instruction_strict", "prompt_strict", "low", "high")
DRAWS_PER_COMPARISON = 100
"""With N comparisons in a family the smallest p-value must stay below 0.05/N, or none could ever pass Holm."""


def _evaluations(finals: pd.DataFrame) -> dict[tuple[str, str], Evaluation]:
    """One for each (arm, benchmark).

    Raises UserError where the rows of one are of several steps, and where arms answered one benchmark under several
    protocols: greedy and sampled scores do not stand in one column.
    """
    found: dict[tuple[str, str], Evaluation] = {}
    asked: dict[str, Evaluation] = {}
    for (arm, benchmark), rows in finals.groupby(["arm", "benchmark"], sort=False):
        ends = rows.groupby("seed")["step"].unique()
        if rows["step"].nunique() > 1:
            raise UserError(
                f"the scores of {arm} are of different steps: "
                + ", ".join(f"seed {seed} at {', '.join(map(str, steps))}" for seed, steps in ends.items()),
                where=f"benchmark {benchmark}",
                todo="give the final scores alone",
            )
        one = found[str(arm), str(benchmark)] = evaluation(rows)
        other = asked.setdefault(str(benchmark), one)
        if (one.protocol, one.budget) != (other.protocol, other.budget):
            ways = " and ".join(f"{way.arm} under {way.protocol} with {way.budget} tokens" for way in (other, one))
            raise UserError(
                f"the answers were asked for in several ways: {ways}",
                where=f"benchmark {benchmark}",
                todo="evaluate all arms under one protocol",
            )
    return found


def accuracies(rows: pd.DataFrame) -> dict[str, float]:
    """METRICS of one evaluation, without intervals.

    Args:
        rows: rows of rtt.tables.Scores that share arm, step and benchmark; several seeds are averaged.
    """
    return dict(zip(METRICS, map(float, evaluation(rows).values()), strict=True))


def main_table(finals: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every arm on every benchmark it was evaluated on, with 95 % intervals over seeds and prompts.

    Args:
        finals: rows of rtt.tables.Scores, of one step for each arm and benchmark.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        One row per (arm, benchmark, METRICS) with MAIN_COLUMNS: ``protocol``, ``budget`` and ``judge`` say how answers
        were asked for, in how many tokens at most, and who decided. ``seeds`` counts those averaged, ``seed_std`` is
        the sample deviation between them, missing where there is one. Shares lie in [0, 1]. Arms and benchmarks stand
        in the order in which they first appear.

    Raises:
        UserError: an instruction scored twice, seeds on different prompts, or scores of several steps or protocols.
    """
    rows = []
    found = _evaluations(finals)
    for arm in finals["arm"].unique():
        for (name, benchmark), one in found.items():
            if name != arm:
                continue
            low, high = interval(bootstrap(one.numerators, one.denominators, draws, seed))
            deviation = seed_deviation(one.by_seed())
            for place, (metric, value) in enumerate(zip(METRICS, one.values(), strict=True)):
                counts = (one.prompts, len(one.instructions), one.protocol, one.budget, one.judge)
                ends = (value, low[place], high[place], deviation[place])
                rows.append((arm, len(one.seeds), one.step, benchmark, metric, *ends, *counts))
    return pd.DataFrame(rows, columns=list(MAIN_COLUMNS))


def paired_table(
    finals: pd.DataFrame, pairs: Mapping[str, Sequence[tuple[str, str]]], *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Differences of two arms on the same prompts and training seeds (rtt.report.statistics says how).

    Args:
        finals: rows of rtt.tables.Scores, of one step for each arm and benchmark.
        pairs: by table, (arm, against); the difference is the first minus the second. A pair is compared on the
            benchmarks both arms have, over the seeds both have; where there are none it has no row.
        draws: bootstrap draws; raised to DRAWS_PER_COMPARISON for each difference in the largest family.
        seed: of the bootstrap.

    Returns:
        One row per (table, pair, benchmark, PAIRED_METRICS) with PAIRED_COLUMNS. ``p`` is two-sided, from the same
        draws as the interval. ``p_holm`` is corrected for all pairs on all benchmarks of the table, metric by metric;
        the intervals are not corrected. ``seed_std`` is the sample deviation of the seeds' differences, ``seeds``
        counts those, ``n`` prompts.

    Raises:
        UserError: two arms that answered different prompts or instructions, and as :func:`main_table`.
    """
    found = _evaluations(finals)
    benchmarks = list(finals["benchmark"].unique())
    largest = max((len(set(listed)) for listed in pairs.values()), default=0) * len(benchmarks)
    draws = max(draws, DRAWS_PER_COMPARISON * largest)
    done: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    rows = []
    for table, listed in pairs.items():
        for arm, against in dict.fromkeys(listed):
            for benchmark in benchmarks:
                one, other = found.get((arm, benchmark)), found.get((against, benchmark))
                if one is None or other is None:
                    continue
                key = (arm, against, benchmark)
                if key not in done:
                    done[key] = _differences(one, other, benchmark, draws, seed)
                rows += [{"table": table, **row} for row in done[key]]
    result = pd.DataFrame(rows, columns=list(PAIRED_COLUMNS))
    for _, family in result.groupby(["table", "metric"], sort=False):
        result.loc[family.index, "p_holm"] = holm(family["p"].to_numpy(float))
    return result


def _differences(one: Evaluation, other: Evaluation, benchmark: str, draws: int, seed: int) -> list[dict[str, Any]]:
    """A pair's rows on one benchmark, a row per PAIRED_METRICS; none where the arms share no seed."""
    places = [METRICS.index(metric) for metric in PAIRED_METRICS]
    paired = paired_gaps(one, other, benchmark)
    if paired is None:
        return []
    seeds, gaps = paired[0], paired[1][:, :, places]
    denominators = one.denominators[:, places]
    by_seed = per_seed(gaps, denominators)
    drawn = bootstrap(gaps, denominators, draws, seed)
    low, high = interval(drawn)
    p, deviation = p_values(drawn), seed_deviation(by_seed)
    return [
        {
            "arm": one.arm,
            "against": other.arm,
            "benchmark": benchmark,
            "metric": metric,
            "value": by_seed[:, place].mean(),
            "low": low[place],
            "high": high[place],
            "p": p[place],
            "p_holm": np.nan,
            "seed_std": deviation[place],
            "seeds": len(seeds),
            "n": one.prompts,
        }
        for place, metric in enumerate(PAIRED_METRICS)
    ]


def differences_from(paired: pd.DataFrame, against: str) -> pd.DataFrame:
    """The rows of `paired` that compare an arm with `against`, each turned so that `against` is subtracted."""
    rows = paired[(paired["arm"] == against) | (paired["against"] == against)].copy()
    turned = rows["arm"] == against
    rows.loc[turned, ["arm", "against"]] = rows.loc[turned, ["against", "arm"]].to_numpy()
    rows.loc[turned, ["value", "low", "high"]] = -rows.loc[turned, ["value", "high", "low"]].to_numpy()
    return rows


def curve_table(
    scores: pd.DataFrame, *, benchmark: str = "validation", draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Accuracy over training on one benchmark; every trained arm starts with the base at step 0.

    Args:
        scores: rows of rtt.tables.Scores.
        benchmark: the one evaluated each round.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        One row per (arm, seed, step) with CURVE_COLUMNS, sorted within an arm. The interval is that of the arm's
        instruction_strict at that step over its seeds and prompts; it is the same in the row of every seed. Without
        scores on `benchmark` the table is empty.
    """
    instruction, prompt = METRICS.index("instruction_strict"), METRICS.index("prompt_strict")
    rows = []
    for arm, steps in curve_evaluations(scores, benchmark).items():
        trained = sorted({number for one in steps.values() if one.arm != BASE for number in one.seeds})
        for step, one in steps.items():
            low, high = interval(bootstrap(one.numerators, one.denominators, draws, seed))
            by_seed = dict(zip(one.seeds, one.by_seed(), strict=True))
            for number in trained:
                values = one.values() if one.arm == BASE else by_seed.get(number)
                if values is not None:
                    ends = (low[instruction], high[instruction])
                    rows.append((arm, number, step, values[instruction], values[prompt], *ends))
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS)).sort_values(
        ["arm", "seed", "step"], key=_in_order_of_appearance, ignore_index=True
    )


def curve_evaluations(scores: pd.DataFrame, benchmark: str) -> dict[str, dict[int, Evaluation]]:
    """By trained arm and rising step the evaluations on one benchmark, the base's at step 0 unless the arm has one."""
    scores = scores[scores["benchmark"] == benchmark]
    start = scores[scores["arm"] == BASE]
    base = {0: evaluation(start)} if len(start) else {}
    found = {}
    for arm, own in scores[scores["arm"] != BASE].groupby("arm", sort=False):
        steps = sorted(int(step) for step in own["step"].unique())
        found[str(arm)] = base | {step: evaluation(own[own["step"] == step]) for step in steps}
    return found


def _in_order_of_appearance(column: pd.Series) -> pd.Series:
    return pd.Series(pd.factorize(column)[0], index=column.index) if column.name == "arm" else column


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes beside `path` and renames; floats with six digits after the point, what is missing as nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(table.to_csv(index=False, float_format="%.6f", lineterminator="\n"), encoding="utf-8")
    partial.replace(path)
