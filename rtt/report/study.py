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

    def sentence(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.arm}{seed}: {self.what} is missing: {self.why}"


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
        last = _last_step(config, str(arm))
        if last is not None and rows["step"].max() > last:
            raise UserError(
                f"{arm} has scores of step {rows['step'].max()}, and its training ends at step {last}",
                where=f"arm {arm}, seed {seed}",
                todo="give the scores of one study alone",
            )
    if unknown := [name for name in scores["benchmark"].unique() if name not in config.evaluation.benchmarks]:
        raise UserError(f"the configuration has no benchmark {unknown[0]}", where=f"benchmark {unknown[0]}")


def _last_step(config: Config, arm: str) -> int | None:
    """Steps of a finished training; None where the configuration leaves them to the data."""
    return config.policy.total_steps if config.arms[arm].method == "grpo" else None


def final_scores(scores: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The rows of the base and of finished policies, a policy that stopped early left out.

    An arm's policy is finished at the configuration's last step; sft and dpo, whose steps depend on their data, where
    the arm's furthest seed is.
    """
    ends = {BASE: 0}
    for arm, rows in scores[scores["arm"] != BASE].groupby("arm", sort=False):
        last = _last_step(config, str(arm))
        ends[str(arm)] = int(rows["step"].max()) if last is None else last
    return scores[scores["step"] == scores["arm"].map(ends)]


def gap_notes(finals: pd.DataFrame, config: Config, gaps: Sequence[Gap]) -> list[tuple[str, str]]:
    """An arm and a sentence for whatever is missing, declared or found, and for each arm shown over fewer seeds.

    Args:
        finals: as :func:`final_scores` returns them.
        gaps: what is known to be missing, and why.
    """
    notes = list(dict.fromkeys((gap.arm, gap.sentence()) for gap in gaps))
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
