"""Scores of responses on checkable prompts, instruction by instruction."""

from __future__ import annotations

import pandas as pd

from rtt.errors import UserError
from rtt.judging.rules import check
from rtt.rubrics import parse_rubrics
from rtt.tables import rows_of


def subset(prompts: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """The fixed subset named by (`limit`, `seed`): the same prompts for every policy, sorted by id."""
    ordered = prompts.sort_values("prompt_id", ignore_index=True)
    if limit is None or limit >= len(ordered):
        return ordered
    return ordered.sample(n=limit, random_state=seed).sort_values("prompt_id", ignore_index=True)


def score_responses(
    responses: pd.DataFrame, prompts: pd.DataFrame, *, arm: str, seed: int, step: int, benchmark: str
) -> pd.DataFrame:
    """One row of rtt.tables.Scores per (response, instruction).

    An empty answer fails every instruction; an unknown instruction is an error, never a score.

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
    rows = []
    for response in rows_of(responses):
        prompt = by_id.loc[response.prompt_id]
        for rubric in parse_rubrics(prompt["rubrics"]):
            strict, loose = check(rubric.kind, rubric.kwargs, response.response, prompt["prompt"])
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "step": step,
                    "benchmark": benchmark,
                    "prompt_id": response.prompt_id,
                    "rubric_id": rubric.rubric_id,
                    "kind": rubric.kind,
                    "strict": strict,
                    "loose": loose,
                    "tokens": response.tokens,
                    "truncated": response.truncated,
                }
            )
    return pd.DataFrame(rows)
