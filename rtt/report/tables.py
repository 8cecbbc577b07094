"""The study's numbers: accuracies per arm and benchmark, paired differences of arms, and learning curves.

Prompts are the unit everywhere. Instructions of one prompt share a response, so they are never resampled apart; seeds
of one arm answer the same prompts, so they are averaged within a prompt first. An interval therefore says how far the
figures may move with other prompts, not with other training seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rtt.errors import UserError

METRICS = (
    "prompt_strict",
    "prompt_loose",
    "instruction_strict",
    "instruction_loose",
    "response_tokens",
    "truncated",
)
PAIRED_METRICS = ("instruction_strict", "prompt_strict")
HEADLINES = ("instruction_strict", "prompt_strict")
BASE = "base"
COVERAGE = (0.025, 0.975)


@dataclass(frozen=True)
class _Evaluation:
    """One arm at one step on one benchmark, its seeds averaged within each prompt.

    Attributes:
        numerators: (prompts, metrics) hits of a prompt, or its value, sorted by prompt.
        denominators: (prompts, metrics) instructions of a prompt for the instruction metrics, else 1.
        instructions: every (prompt_id, rubric_id), sorted.
        seeds: how many seeds were averaged.
        step: optimiser steps of the policy.
    """

    numerators: pd.DataFrame
    denominators: pd.DataFrame
    instructions: pd.MultiIndex
    seeds: int
    step: int

    def values(self) -> pd.Series:
        return self.numerators.sum() / self.denominators.sum()


def _evaluation(rows: pd.DataFrame) -> _Evaluation:
    """Reduces the rows of one (arm, step, benchmark). Raises UserError where seeds or responses do not line up."""
    arm, benchmark, step = rows["arm"].iloc[0], rows["benchmark"].iloc[0], int(rows["step"].iloc[0])
    where = f"arm {arm}, step {step}, benchmark {benchmark}"
    twice = rows[rows.duplicated(["seed", "prompt_id", "rubric_id"])]
    if len(twice):
        raise UserError(
            f"{len(twice)} instructions are scored twice, such as {twice['rubric_id'].iloc[0]}",
            where=where,
            todo="give each evaluation once, with one response a prompt",
        )
    seeds = rows["seed"].nunique()
    scored = rows.groupby(["prompt_id", "rubric_id"], sort=True).size()
    if (scored < seeds).any():
        raise UserError(
            f"the seeds answered different prompts: {int((scored < seeds).sum())} instructions are not scored for "
            f"all {seeds} seeds",
            where=where,
            todo="evaluate every seed on the same prompts",
        )
    responses = rows.groupby(["seed", "prompt_id"], sort=True).agg(
        instructions=("strict", "size"),
        prompt_strict=("strict", "all"),
        prompt_loose=("loose", "all"),
        instruction_strict=("strict", "sum"),
        instruction_loose=("loose", "sum"),
        response_tokens=("tokens", "first"),
        truncated=("truncated", "first"),
    )
    prompts = responses.astype(float).groupby("prompt_id", sort=True).mean()
    numerators = prompts[list(METRICS)]
    denominators = pd.DataFrame(1.0, index=numerators.index, columns=numerators.columns)
    for metric in ("instruction_strict", "instruction_loose"):
        denominators[metric] = prompts["instructions"]
    return _Evaluation(numerators, denominators, pd.MultiIndex.from_tuples(list(scored.index)), seeds, step)


def _last(scores: pd.DataFrame, arm: str, benchmark: str) -> _Evaluation:
    """An arm's evaluation at its last step on a benchmark, which its seeds must share."""
    rows = scores[(scores["arm"] == arm) & (scores["benchmark"] == benchmark)]
    ends = rows.groupby("seed")["step"].max()
    if ends.nunique() > 1:
        raise UserError(
            f"the seeds of {arm} end at different steps: "
            + ", ".join(f"seed {seed} at {step}" for seed, step in ends.items()),
            where=f"benchmark {benchmark}",
            todo="finish every seed, or leave out the unfinished ones",
        )
    return _evaluation(rows[rows["step"] == ends.iloc[0]])


@functools.lru_cache(maxsize=4)
def _prompt_counts(prompts: int, draws: int, seed: int) -> np.ndarray:
    """(draws, prompts) how often each prompt is in each bootstrap draw.

    A function of its arguments alone: arms with equally many prompts are resampled alike, and no arm's interval depends
    on which others stand in the table. Floats, because numpy multiplies integer matrices slowly.
    """
    counts = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=draws).astype(float)
    counts.flags.writeable = False
    return counts


def _intervals(
    numerators: pd.DataFrame, denominators: pd.DataFrame, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends, (metrics,) each: percentile bootstrap over prompts of sum over sum."""
    counts = _prompt_counts(len(numerators), draws, seed)
    drawn = (counts @ numerators.to_numpy()) / (counts @ denominators.to_numpy())
    low, high = np.quantile(drawn, COVERAGE, axis=0)
    return low, high


def accuracies(rows: pd.DataFrame) -> dict[str, float]:
    """METRICS of one evaluation, without intervals.

    Args:
        rows: rows of rtt.tables.Scores that share arm, step and benchmark; several seeds are averaged.
    """
    return {str(metric): float(value) for metric, value in _evaluation(rows).values().items()}


def main_table(scores: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every arm at its last step on every benchmark, with 95 % intervals.

    Args:
        scores: rows of rtt.tables.Scores.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        One row per (arm, benchmark, metric): arm, seeds (how many), step, benchmark, metric, value, low, high,
        n_prompts, n_instructions. Instruction metrics are micro-averages over instructions; ``truncated`` is a share,
        ``response_tokens`` a mean. Arms and benchmarks stand in the order in which they first appear.

    Raises:
        UserError: an instruction scored twice, seeds on different prompts, or seeds that end at different steps.
    """
    rows = []
    for arm in scores["arm"].unique():
        for benchmark in scores.loc[scores["arm"] == arm, "benchmark"].unique():
            last = _last(scores, arm, benchmark)
            low, high = _intervals(last.numerators, last.denominators, draws, seed)
            for place, (metric, value) in enumerate(last.values().items()):
                rows.append(
                    {
                        "arm": arm,
                        "seeds": last.seeds,
                        "step": last.step,
                        "benchmark": benchmark,
                        "metric": metric,
                        "value": value,
                        "low": low[place],
                        "high": high[place],
                        "n_prompts": len(last.numerators),
                        "n_instructions": len(last.instructions),
                    }
                )
    return pd.DataFrame(rows)


def paired_table(
    scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Differences of two arms on the same prompts, each arm at its last step.

    Args:
        scores: rows of rtt.tables.Scores.
        pairs: (arm, against); the difference is the first minus the second.
        draws: bootstrap draws, and sign flips where there are too many to try them all.
        seed: of both.

    Returns:
        One row per (pair, benchmark, PAIRED_METRICS): arm, against, benchmark, metric, value, low, high, p, n. `p` is
        two-sided, by flipping the sign of each prompt's difference; `n` counts prompts. Neither `p` nor the intervals
        are corrected for the number of rows.

    Raises:
        UserError: an arm without scores, or two arms on different benchmarks, prompts or instructions.
    """
    arms = list(scores["arm"].unique())
    rows = []
    for arm, against in pairs:
        for name in (arm, against):
            if name not in arms:
                raise UserError(f"there are no scores of the arm {name}", todo=f"choose from {', '.join(arms)}")
        for benchmark in _shared_benchmarks(scores, arm, against):
            one, other = _last(scores, arm, benchmark), _last(scores, against, benchmark)
            if not one.instructions.equals(other.instructions):
                raise UserError(
                    f"{arm} and {against} were not asked the same: {len(one.instructions)} and "
                    f"{len(other.instructions)} instructions, {len(one.instructions.intersection(other.instructions))} "
                    "of them shared",
                    where=f"benchmark {benchmark}",
                    todo="evaluate both arms on the same prompts",
                )
            gaps = one.numerators - other.numerators
            low, high = _intervals(gaps, one.denominators, draws, seed)
            values = gaps.sum() / one.denominators.sum()
            for metric in PAIRED_METRICS:
                place = gaps.columns.get_loc(metric)
                rows.append(
                    {
                        "arm": arm,
                        "against": against,
                        "benchmark": benchmark,
                        "metric": metric,
                        "value": values[metric],
                        "low": low[place],
                        "high": high[place],
                        "p": _sign_flip_p(gaps[metric].to_numpy(), draws, seed),
                        "n": len(gaps),
                    }
                )
    columns = ["arm", "against", "benchmark", "metric", "value", "low", "high", "p", "n"]
    return pd.DataFrame(rows, columns=columns)


def _shared_benchmarks(scores: pd.DataFrame, arm: str, against: str) -> list[str]:
    """The benchmarks of both arms, which must be the same ones."""
    one, other = (list(scores.loc[scores["arm"] == name, "benchmark"].unique()) for name in (arm, against))
    if odd := sorted(set(one) ^ set(other)):
        raise UserError(
            f"only one of {arm} and {against} was evaluated on {', '.join(odd)}",
            todo="evaluate both, or leave these scores out",
        )
    return one


def _sign_flip_p(gaps: np.ndarray, draws: int, seed: int) -> float:
    """Share of sign patterns whose sum is at least as far from zero: exact where `draws` patterns are enough."""
    moved = gaps[gaps != 0]
    if 2 ** len(moved) <= draws:
        signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
        counted = 0
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(moved)))
        counted = 1  # the pattern observed is one of the possible ones, so p is never 0
    far = np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9
    return float((far.sum() + counted) / (len(signs) + counted))


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
        One row per (arm, seed, step), sorted within an arm: arm, seed, step, instruction_strict, prompt_strict, low,
        high. The interval is that of the arm's instruction_strict at that step, its seeds averaged within a prompt; it
        is the same in the row of every seed. Without scores on `benchmark` the table is empty.
    """
    scores = scores[scores["benchmark"] == benchmark]
    rows = []
    for arm in [name for name in scores["arm"].unique() if name != BASE]:
        own = scores[scores["arm"] == arm]
        steps = {int(step): part for step, part in own.groupby("step", sort=True)}
        if 0 not in steps and (scores["arm"] == BASE).any():
            steps = {0: scores[scores["arm"] == BASE]} | steps
        for step, part in steps.items():
            both = _evaluation(part)
            place = both.numerators.columns.get_loc("instruction_strict")
            low, high = (ends[place] for ends in _intervals(both.numerators, both.denominators, draws, seed))
            from_base = part["arm"].iloc[0] == BASE
            for number in sorted(own["seed"].unique()):
                seen = part if from_base else part[part["seed"] == number]
                if len(seen):
                    found = accuracies(seen)
                    values = {metric: found[metric] for metric in ("instruction_strict", "prompt_strict")}
                    rows.append({"arm": arm, "seed": int(number), "step": step, **values, "low": low, "high": high})
    columns = ["arm", "seed", "step", "instruction_strict", "prompt_strict", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["arm", "seed", "step"], key=_in_order_of_appearance, ignore_index=True
    )


def _in_order_of_appearance(column: pd.Series) -> pd.Series:
    return pd.Series(pd.factorize(column)[0], index=column.index) if column.name == "arm" else column


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes beside `path` and renames; floats with six digits after the point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(table.to_csv(index=False, float_format="%.6f", lineterminator="\n"), encoding="utf-8")
    partial.replace(path)


def format_value(metric: str, value: float) -> str:
    """One digit after the point: shares in percent, tokens as they are."""
    return f"{value if metric == 'response_tokens' else 100 * value:.1f}"


def format_row(row: pd.Series) -> str:
    """``value [low, high]`` of a row of :func:`main_table`."""
    value, low, high = (format_value(row["metric"], row[end]) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _counted(rows: pd.DataFrame, metric: str) -> str:
    """``n = 64`` for the units a metric averages over, a range where the arms differ."""
    counts = rows["n_instructions" if metric.startswith("instruction") else "n_prompts"]
    low, high = counts.min(), counts.max()
    return f"n = {low}" if low == high else f"n = {low}–{high}"


def _cell(rows: pd.DataFrame, arm: str, metric: str, interval: bool = True) -> str:
    found = rows[(rows["arm"] == arm) & (rows["metric"] == metric)]
    if found.empty:
        return "–"
    return format_row(found.iloc[0]) if interval else format_value(metric, found["value"].iloc[0])


def to_markdown(table: pd.DataFrame, caption: str, metrics: Sequence[str] = HEADLINES) -> str:
    """A :func:`main_table` for people: one row per arm, one column per benchmark and metric, in percent.

    Args:
        table: as :func:`main_table` returns it.
        caption: one sentence above the table.
        metrics: which of METRICS get a column.
    """
    header, cells = ["arm"], {arm: [arm] for arm in table["arm"].unique()}
    for benchmark in table["benchmark"].unique():
        rows = table[table["benchmark"] == benchmark]
        for metric in metrics:
            header.append(f"{benchmark}, {metric.replace('_', ' ')} ({_counted(rows, metric)})")
            for arm, line in cells.items():
                line.append(_cell(rows, arm, metric))
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *cells.values()]
    return "\n".join([caption, "", *("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)])


def _escape(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def to_text(table: pd.DataFrame) -> str:
    """A :func:`main_table` for the terminal: a block per benchmark, a line per arm, accuracies in percent."""
    blocks = []
    for benchmark in table["benchmark"].unique():
        rows = table[table["benchmark"] == benchmark]
        prompts, instructions = (
            _counted(rows, metric).removeprefix("n = ") for metric in ("prompt_strict", "instruction_strict")
        )
        lines = [["arm", "seeds", "step", "instruction strict, %", "prompt strict, %", "tokens", "truncated, %"]]
        for arm in rows["arm"].unique():
            seeds, step = rows.loc[rows["arm"] == arm, ["seeds", "step"]].iloc[0]
            accuracy = [_cell(rows, arm, metric) for metric in HEADLINES]
            plain = [_cell(rows, arm, metric, interval=False) for metric in ("response_tokens", "truncated")]
            lines.append([arm, str(seeds), str(step), *accuracy, *plain])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        blocks.append(f"{benchmark} ({prompts} prompts, {instructions} instructions)")
        for name, *numbers in lines:
            padded = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
            blocks.append("  ".join(["", name.ljust(widths[0]), *padded]))
        blocks.append("")
    return "\n".join(blocks[:-1])
