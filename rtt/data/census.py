"""What would be judged how: rubrics by origin and by what decides them."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from rtt.judging import constraints
from rtt.rubrics import JUDGED, PROGRAM, Rubric, parse_rubrics
from rtt.tables import rows_of

ROUTES = ("rule", "constraint", "program", "judge")


def route_of(rubric: Rubric) -> str:
    """One of `ROUTES`: IFEval's and IFBench's checkers, MulDimIF's, the rubric's own program, a language model."""
    if rubric.kind in (JUDGED, PROGRAM):
        return rubric.kind
    return "constraint" if rubric.kind in constraints.kinds() else "rule"


def census(prompts: pd.DataFrame, by: str = "topic") -> pd.DataFrame:
    """Rubrics of each origin by route.

    Args:
        prompts: rows of rtt.tables.Prompts.
        by: the column that names the origin; of HIR-16K the topic is the type.

    Returns:
        One row an origin and one for all, columns origin, prompts, rubrics and the routes.
    """
    counts: dict[str, Counter[str]] = {}
    for row in rows_of(prompts):
        one = counts.setdefault(getattr(row, by), Counter())
        one["prompts"] += 1
        for rubric in parse_rubrics(row.rubrics):
            one["rubrics"] += 1
            one[route_of(rubric)] += 1
    whole: Counter[str] = sum(counts.values(), Counter())
    names = ("prompts", "rubrics", *ROUTES)
    return pd.DataFrame(
        [{"origin": origin, **{name: one[name] for name in names}} for origin, one in [*counts.items(), ("all", whole)]]
    )


def why_judged(prompts: pd.DataFrame) -> Counter[str]:
    """Why rubrics go to a language model, and how many."""
    return Counter(
        str(rubric.kwargs.get("why", "no check given"))
        for row in rows_of(prompts)
        for rubric in parse_rubrics(row.rubrics)
        if rubric.kind == JUDGED
    )


def first_of_each(prompts: pd.DataFrame) -> dict[str, Rubric]:
    """Route → the first rubric that goes there."""
    found: dict[str, Rubric] = {}
    for row in rows_of(prompts):
        for rubric in parse_rubrics(row.rubrics):
            found.setdefault(route_of(rubric), rubric)
    return found
