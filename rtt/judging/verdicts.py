"""Verdicts of many responses at once: as a table, and as the padded arrays the credit maths takes."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rtt.errors import UserError
from rtt.judging.cases import Case, Judge, Message, Verdict
from rtt.rubrics import Rubric, parse_rubrics
from rtt.tables import Verdicts, check_table, rows_of

_log = logging.getLogger(__name__)

Place = tuple[str, str, str, str]
"""Response, prompt, rubric and kind of a verdict."""


def judge_responses(responses: pd.DataFrame, prompts: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """Rows of rtt.tables.Verdicts: one verdict per (response, rubric), in the order of :func:`cases_of`.

    Raises:
        UserError: a response to an unknown prompt, or whatever stops the judge.
    """
    places, cases = cases_of(responses, prompts)
    return verdict_table(places, judge.judge(cases))


def cases_of(responses: pd.DataFrame, prompts: pd.DataFrame) -> tuple[list[Place], list[Case]]:
    """What there is to judge, in the order of the responses and of their prompts' rubrics; and where each belongs.

    Args:
        responses: rows of rtt.tables.Responses.
        prompts: rows of rtt.tables.Prompts.

    Raises:
        UserError: a response to an unknown prompt.
    """
    unknown = sorted(set(responses["prompt_id"]) - set(prompts["prompt_id"]))
    if unknown:
        raise UserError(
            f"{len(unknown)} prompt(s) have responses but no rubrics, such as {unknown[0]!r}",
            where="column prompt_id of the responses",
            todo="judge the responses with the prompts they were sampled for",
        )
    rubrics = {id_: parse_rubrics(text) for id_, text in zip(prompts["prompt_id"], prompts["rubrics"], strict=True)}
    conversations = conversations_of(prompts)
    places, cases = [], []
    for row in rows_of(responses):
        messages = conversations[row.prompt_id]
        for rubric in rubrics[row.prompt_id]:
            places.append((row.response_id, row.prompt_id, rubric.rubric_id, rubric.kind))
            cases.append(Case(rubric, row.response, messages[-1]["content"], messages))
    return places, cases


def verdict_table(places: Sequence[Place], verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Rows of rtt.tables.Verdicts. How many are missing, and why, is logged as a warning."""
    rows = [
        (*place, verdict.value, verdict.judge, verdict.reason) for place, verdict in zip(places, verdicts, strict=True)
    ]
    names = ["response_id", "prompt_id", "rubric_id", "kind", "verdict", "judge", "reason"]
    table = check_table(pd.DataFrame(rows, columns=names), Verdicts, "verdicts")
    missing = table[table["verdict"].isna()]
    if len(missing):
        why = Counter(missing["kind"] + ", " + missing["reason"].str.split(":").str[0])
        listing = "; ".join(f"{count} x {cause}" for cause, count in why.most_common(5))
        _log.warning("%d of %d verdicts are missing: %s", len(missing), len(table), listing)
    return table


def conversations_of(prompts: pd.DataFrame) -> dict[str, tuple[Message, ...]]:
    """Prompt id → the messages before the response; one user message where the table has no column `messages`."""
    if "messages" in prompts:
        return {
            id_: tuple(json.loads(text)) for id_, text in zip(prompts["prompt_id"], prompts["messages"], strict=True)
        }
    return {
        id_: ({"role": "user", "content": text},)
        for id_, text in zip(prompts["prompt_id"], prompts["prompt"], strict=True)
    }


def verdict_arrays(
    rubrics: Sequence[Sequence[Rubric]],
    responses: Sequence[str],
    conversations: Sequence[Sequence[Message]],
    judge: Judge,
) -> tuple[np.ndarray, np.ndarray]:
    """Judges every rubric of every response.

    Args:
        rubrics: one list of rubrics per response.
        responses: B responses.
        conversations: the messages each answers, the user's last.
        judge: who decides.

    Returns:
        `verdicts` (B, K) float32 in [-1, 1] and `valid` (B, K) bool, K the longest list of rubrics. A verdict nobody
        could give has `valid` False, as has padding; its value is 0 and means nothing.
    """
    width = max(len(row) for row in rubrics)
    verdicts = np.zeros((len(responses), width), dtype=np.float32)
    valid = np.zeros((len(responses), width), dtype=bool)
    places, cases = [], []
    for j, (row, response, messages) in enumerate(zip(rubrics, responses, conversations, strict=True)):
        for k, rubric in enumerate(row):
            places.append((j, k))
            cases.append(Case(rubric, response, messages[-1]["content"], tuple(messages)))
    for (j, k), verdict in zip(places, judge.judge(cases), strict=True):
        if not verdict.missing:
            verdicts[j, k], valid[j, k] = verdict.value, True
    return verdicts, valid


def weight_array(rubrics: Sequence[Sequence[Rubric]]) -> np.ndarray:
    """The rubrics' weights, (B, K) float32; 1 in the padding."""
    weights = np.ones((len(rubrics), max(len(row) for row in rubrics)), dtype=np.float32)
    for j, row in enumerate(rubrics):
        weights[j, : len(row)] = [rubric.weight for rubric in row]
    return weights
