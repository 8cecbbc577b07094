"""What of a study there is: final evaluations, what is missing of them, and the pairs of arms to compare.

A run that failed leaves a gap, and a gap is reported: its seed is left out, its arm is shown over the seeds it has.
Scores that contradict the configuration are an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from rtt.config import BASE, Config
from rtt.errors import UserError
from rtt.report.outputs import MAIN, tables_of

ALL_PAIRS = 6
"""Arms up to which a table compares each with each, and not only with its first."""


class Gap(BaseModel):
    """Something a study should have and has not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    seed: int | None = None
    """None where it concerns every seed."""
    what: str
    """Such as ``training`` or ``evaluation on ifbench``."""
    why: str


def read_gaps(missing: Sequence[Mapping[str, Any]], config: Config) -> list[Gap]:
    """Raises UserError for a gap that is malformed or of an arm the configuration does not have."""
    gaps = []
    for number, values in enumerate(missing):
        try:
            gap = Gap.model_validate(dict(values))
        except ValidationError as error:
            problem = error.errors()[0]
            raise UserError(
                f"what is missing is described wrongly: {'.'.join(map(str, problem['loc']))}: {problem['msg']}",
                where=f"missing[{number}]",
                todo="give arm, seed, what and why",
            ) from None
        if gap.arm not in (BASE, *config.arms):
            raise _unknown_arm(gap.arm, config)
        gaps.append(gap)
    return gaps


def _unknown_arm(arm: str, config: Config) -> UserError:
    known = ", ".join((BASE, *config.arms))
    return UserError(f"the configuration has no arm {arm}", where=f"arm {arm}", todo=f"choose from {known}")


def check_scores(scores: pd.DataFrame, config: Config) -> None:
    """Raises UserError for scores of an arm, seed, step or benchmark the configuration does not have."""
    runs = set(config.runs())
    for (arm, seed), rows in scores[scores["arm"] != BASE].groupby(["arm", "seed"], sort=False):
        if arm not in config.arms:
            raise _unknown_arm(str(arm), config)
        if (arm, seed) not in runs:
            raise UserError(f"the configuration has no seed {seed} of {arm}", where=f"arm {arm}, seed {seed}")
        if rows["step"].max() > config.policy.total_steps:
            raise UserError(
                f"{arm} has scores of step {rows['step'].max()}, and training ends at step {config.policy.total_steps}",
                where=f"arm {arm}, seed {seed}",
                todo="give the scores of one study alone",
            )
    if unknown := [name for name in scores["benchmark"].unique() if name not in config.evaluation.benchmarks]:
        raise UserError(f"the configuration has no benchmark {unknown[0]}", where=f"benchmark {unknown[0]}")


def final_scores(scores: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The rows of the base and of policies at the configuration's last step; one that stopped early is left out."""
    return scores[(scores["arm"] == BASE) | (scores["step"] == config.policy.total_steps)]


def gap_notes(finals: pd.DataFrame, config: Config, gaps: Sequence[Gap]) -> list[tuple[str, str]]:
    """An arm and a sentence for whatever is missing, declared or found, and for each arm shown over fewer seeds.

    Args:
        finals: as :func:`final_scores` returns them.
        gaps: what is known to be missing, and why.
    """
    notes = _declared(gaps)
    explained = {(gap.arm, gap.seed) for gap in gaps}
    have = set(finals[["arm", "benchmark", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    bases = {(BASE, name) for arm, name, _ in have if arm == BASE}
    for arm in (BASE, *config.arms):
        wanted = [0] if arm == BASE else list(config.arms[arm].seeds or config.seeds)
        lacking: dict[tuple[int, ...], list[str]] = {}
        shown: dict[tuple[int, ...], list[str]] = {}
        for name in config.evaluation.benchmarks:
            absent = [seed for seed in wanted if (arm, name, seed) not in have and (arm, name) not in bases]
            if found := [seed for seed in absent if not {(arm, seed), (arm, None)} & explained]:
                lacking.setdefault(tuple(found), []).append(name)
            if absent and (rest := [seed for seed in wanted if seed not in absent]):
                shown.setdefault(tuple(rest), []).append(name)
        for seeds, names in lacking.items():
            whose = arm if arm == BASE else f"{arm}, {_seeds(seeds)}"
            notes.append((arm, f"{whose}: no final scores on {', '.join(names)}"))
        for seeds, names in shown.items():
            notes.append((arm, f"{arm} is shown on {', '.join(names)} over {_seeds(seeds)}, of {len(wanted)}"))
    return notes


def _declared(gaps: Sequence[Gap]) -> list[tuple[str, str]]:
    """An arm and a sentence for each story: what a run lacks for one reason, told once for all seeds that share it."""
    lacking: dict[tuple[str, int | None, str], list[str]] = {}
    for gap in gaps:
        lacking.setdefault((gap.arm, gap.seed, " ".join(gap.why.split()).removesuffix(".")), []).append(gap.what)
    stories: dict[tuple[str, tuple[str, ...], str], list[int]] = {}
    for (arm, seed, why), found in lacking.items():
        seeds = stories.setdefault((arm, tuple(dict.fromkeys(found)), why), [])
        if seed is not None and arm != BASE:
            seeds.append(seed)
    notes = []
    for (arm, whats, why), seeds in stories.items():
        whose = f"{arm}, {_seeds(seeds)}" if seeds else arm
        notes.append((arm, f"{whose}: {', '.join(whats)} {'is' if len(whats) == 1 else 'are'} missing: {why}"))
    return notes


def _seeds(seeds: Sequence[int]) -> str:
    """``seed 0`` or ``seeds 0, 2``."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def pairs_of(config: Config) -> dict[str, list[tuple[str, str]]]:
    """The (arm, against) to compare in each table.

    Every arm after the first with the first; each with each, later with earlier, in a table of at most ALL_PAIRS arms;
    and the headline pair in `main`, in its own direction.
    """
    pairs = {}
    for name, arms in tables_of(config).items():
        firsts = len(arms) if len(arms) <= ALL_PAIRS else 1
        found = [(arm, earlier) for place, arm in enumerate(arms) for earlier in arms[: min(place, firsts)]]
        if name == MAIN and config.headline:
            if config.headline[::-1] in found:
                found[found.index(config.headline[::-1])] = config.headline
            elif config.headline not in found:
                found.append(config.headline)
        pairs[name] = found
    return pairs
