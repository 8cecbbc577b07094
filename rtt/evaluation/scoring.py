"""Scores of responses on checkable prompts, instruction by instruction."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rtt.config import Protocol
from rtt.errors import UserError
from rtt.judging.cases import Judge
from rtt.judging.routing import route
from rtt.judging.rules import RULE, check, checker_of
from rtt.judging.verdicts import cases_of
from rtt.tables import rows_of

AS_GIVEN = "as given"
"""The protocol of answers that somebody else made."""

Given = Mapping[tuple[str, str], bool]
"""Verdicts of a benchmark's own evaluator: (response, rubric) → kept."""

_log = logging.getLogger(__name__)


def subset(prompts: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """The fixed subset named by (`limit`, `seed`): the same prompts for every policy, sorted by id."""
    ordered = prompts.sort_values("prompt_id", ignore_index=True)
    if limit is None or limit >= len(ordered):
        return ordered
    return ordered.sample(n=limit, random_state=seed).sort_values("prompt_id", ignore_index=True)


def score_responses(
    responses: pd.DataFrame,
    prompts: pd.DataFrame,
    *,
    arm: str,
    seed: int,
    step: int,
    benchmark: str,
    protocol: Protocol | None = None,
    judge: Judge | None = None,
    evaluator: tuple[str, Given] | None = None,
) -> pd.DataFrame:
    """One row of rtt.tables.Scores per (response, instruction).

    An empty answer fails every instruction; an unknown instruction is an error, never a score. What no rule checker
    decides goes to `judge`: kept is a verdict above 0, strict and loose alike. A verdict it could not give leaves no
    row, and how many there are is logged as a warning.

    Args:
        protocol: how the answers were asked for; None where somebody else made them.
        evaluator: the name of a benchmark's own evaluator and its verdicts, in place of checkers and judge.

    Raises:
        UserError: a response whose prompt is not among `prompts`, or a prompt without a response.
    """
    by_id = prompts.set_index("prompt_id")
    unknown, unanswered = set(responses["prompt_id"]) - set(by_id.index), set(by_id.index) - set(responses["prompt_id"])
    if unknown or unanswered:
        raise UserError(
            f"{len(unknown)} responses belong to no prompt and {len(unanswered)} prompts have no response",
            where=sorted(unknown | unanswered)[:3],
            todo="score responses with the prompts they were made from",
        )
    places, cases = cases_of(responses, prompts)
    judged = [case for case in cases if route(case.rubric) != RULE and evaluator is None]
    if judged and judge is None:
        raise UserError(
            f"{len(judged)} rubric(s) have no rule checker, such as {judged[0].rubric.text[:60]!r}",
            where=f"benchmark {benchmark}",
            todo="score them with a judge",
        )
    verdicts = iter(judge.judge(judged) if judge is not None and judged else [])
    by_response = {row.response_id: row for row in rows_of(responses)}
    groups = groups_of(prompts)
    rows, missing = [], 0
    for (response_id, prompt_id, _, _), case in zip(places, cases, strict=True):
        response, rubric = by_response[response_id], case.rubric
        if evaluator is not None:
            name, given = evaluator
            strict = loose = given[response_id, rubric.rubric_id]
        elif route(rubric) == RULE:
            name = checker_of(rubric.kind)
            strict, loose = check(rubric.kind, rubric.kwargs, case.response, case.prompt)
        else:
            verdict = next(verdicts)
            if verdict.missing:
                missing += 1
                continue
            name, strict = verdict.judge, verdict.value > 0
            loose = strict
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "step": step,
                "benchmark": benchmark,
                "prompt_id": prompt_id,
                "rubric_id": rubric.rubric_id,
                "kind": rubric.kind,
                "strict": strict,
                "loose": loose,
                "sample": response.sample,
                "tokens": response.tokens,
                "truncated": response.truncated,
                "empty": not response.response.strip(),
                "protocol": AS_GIVEN if protocol is None else protocol.label,
                "budget": 0 if protocol is None else protocol.max_tokens,
                "judge": name,
                "groups": groups.get(rubric.rubric_id, "{}"),
            }
        )
    if missing:
        _log.warning(
            "%d of %d verdicts on %s are missing; they are left out of its scores", missing, len(cases), benchmark
        )
    return pd.DataFrame(rows)


def groups_of(prompts: pd.DataFrame) -> dict[str, str]:
    """Rubric id → JSON object of what its score is broken down by; empty where the benchmark has nothing such."""
    if "groups" not in prompts:
        return {}
    found = {}
    for row in rows_of(prompts):
        values: dict[str, Any] = json.loads(row.groups)
        for place, rubric in enumerate(json.loads(row.rubrics)):
            own = {name: value[place] if isinstance(value, list) else value for name, value in values.items()}
            found[rubric["rubric_id"]] = json.dumps(own, sort_keys=True, ensure_ascii=False)
    return found
