"""Scores by what a benchmark breaks them down by: constraint family, pattern, difficulty, aspect."""

from __future__ import annotations

import json

import pandas as pd

from rtt.report.statistics import METRICS, evaluation

COLUMNS = ("arm", "benchmark", "group", "value", *METRICS[:4], "n_prompts", "n_instructions")


def group_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, benchmark, group and value, with COLUMNS; empty where no benchmark has groups.

    A prompt counts in a group with those of its instructions that belong to it: followed when all of these are.

    Args:
        scores: rows of rtt.tables.Scores, of one step for each arm and benchmark; seeds are averaged.
    """
    rows = []
    for (arm, benchmark), own in scores[scores["groups"] != "{}"].groupby(["arm", "benchmark"], sort=False):
        known = own["groups"].map(json.loads)
        for group in dict.fromkeys(name for values in known for name in values):
            of = known.map(lambda values, group=group: values.get(group))
            for value in sorted(of.dropna().unique()):
                one = evaluation(own[of == value])
                figures = one.values()[:4]
                rows.append((arm, benchmark, group, value, *figures, one.prompts, len(one.instructions)))
    return pd.DataFrame(rows, columns=list(COLUMNS))
