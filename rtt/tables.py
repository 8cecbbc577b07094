"""The contract between steps: one pandera model per Parquet table, checked lazily at each step's edge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series
from pydantic import ValidationError

from rtt.errors import UserError
from rtt.rubrics import parse_rubrics

SPLITS = ["train", "validation", "heldout_topics", "heldout_kinds"]
"""Of prompts that are made or a user's own; a benchmark's prompts have its name."""
LABEL_SPLITS = ["train", "development", "unseen_topics", "unseen_kinds"]


def _is_rubrics(text: str) -> bool:
    try:
        return len(parse_rubrics(text)) > 0
    except ValidationError:
        return False


def _is_messages(text: str) -> bool:
    """A JSON list of messages with role and content, the last of them the user's."""
    try:
        messages = json.loads(text)
        roles = [message["role"] for message in messages]
        contents = [message["content"] for message in messages]
    except (ValueError, TypeError, KeyError):
        return False
    known = set(roles) <= {"system", "user", "assistant"}
    return bool(roles) and known and roles[-1] == "user" and all(isinstance(content, str) for content in contents)


def _is_groups(text: str) -> bool:
    """A JSON object of texts, or of lists of texts."""
    try:
        values = json.loads(text).values()
    except (ValueError, AttributeError):
        return False
    return all(isinstance(one, str) for value in values for one in (value if isinstance(value, list) else [value]))


def _is_spans(text: str) -> bool:
    """A JSON list of [start, end) pairs, sorted, disjoint and not empty."""
    try:
        spans = json.loads(text)
        edges = [edge for start, end in spans for edge in (start, end)]
    except (ValueError, TypeError):
        return False
    if not isinstance(spans, list) or any(type(edge) is not int for edge in edges):
        return False
    rising = all(a <= b for a, b in pairwise(edges))
    return rising and all(0 <= start < end for start, end in spans)


class _Table(pa.DataFrameModel):
    class Config:
        strict = True
        coerce = False


class Prompts(_Table):
    """Prompts with their rubrics; one row a prompt."""

    prompt_id: Series[str] = pa.Field(unique=True, str_length={"min_value": 1})
    split: Series[str] = pa.Field(str_matches="^[a-z][a-z0-9_]*$", description="one of SPLITS, or a benchmark")
    topic: Series[str]
    prompt: Series[str] = pa.Field(str_length={"min_value": 1}, description="the last user message")
    rubrics: Series[str]
    messages: Series[str] | None = pa.Field(description="JSON list of messages that ends with `prompt`")
    groups: Series[str] | None = pa.Field(
        description="JSON object, what a benchmark breaks its scores down by: a text, or a list of one a rubric"
    )

    @pa.check("rubrics", element_wise=True, name="rubrics_parse")
    def _rubrics_parse(cls, text: str) -> bool:
        return _is_rubrics(text)

    @pa.check("messages", element_wise=True, name="messages_parse")
    def _messages_parse(cls, text: str) -> bool:
        return _is_messages(text)

    @pa.check("groups", element_wise=True, name="groups_parse")
    def _groups_parse(cls, text: str) -> bool:
        return _is_groups(text)


class Responses(_Table):
    """Responses of one policy; one row a response, `sample` counts the responses to a prompt."""

    response_id: Series[str] = pa.Field(unique=True)
    prompt_id: Series[str]
    sample: Series[int] = pa.Field(ge=0)
    response: Series[str]
    tokens: Series[int] = pa.Field(ge=0)
    truncated: Series[bool]


class Verdicts(_Table):
    """One verdict per (response, rubric): in [-1, 1], or missing with the reason why."""

    response_id: Series[str]
    prompt_id: Series[str]
    rubric_id: Series[str]
    kind: Series[str]
    verdict: Series[float] = pa.Field(ge=-1, le=1, nullable=True)
    judge: Series[str]
    reason: Series[str] = pa.Field(description="why a verdict is missing, else empty")

    @pa.dataframe_check(name="missing_has_a_reason")
    def _missing_has_a_reason(cls, table: pd.DataFrame) -> pd.Series:
        return table["verdict"].isna() == (table["reason"] != "")

    @pa.dataframe_check(name="one_verdict_per_pair")
    def _one_verdict_per_pair(cls, table: pd.DataFrame) -> pd.Series:
        return ~table.duplicated(["response_id", "rubric_id"])


class Labels(_Table):
    """Which characters of a response a rubric is about; one row a (response, rubric) pair."""

    response_id: Series[str]
    prompt_id: Series[str]
    rubric_id: Series[str]
    kind: Series[str]
    split: Series[str] = pa.Field(isin=LABEL_SPLITS)
    criterion: Series[str]
    response: Series[str]
    verdict: Series[float] = pa.Field(ge=-1, le=1)
    spans: Series[str] = pa.Field(description="JSON list of [start, end) character offsets, sorted and disjoint")
    annotator: Series[str]

    @pa.check("spans", element_wise=True, name="spans_parse")
    def _spans_parse(cls, text: str) -> bool:
        return _is_spans(text)

    @pa.dataframe_check(name="spans_lie_in_the_response")
    def _spans_lie_in_the_response(cls, table: pd.DataFrame) -> pd.Series:
        ends = table["spans"].map(
            lambda text: max((end for _, end in json.loads(text)), default=0) if _is_spans(text) else 0
        )
        return ends <= table["response"].str.len()


class Rollouts(_Table):
    """What a round trained on; one row a sampled response."""

    step: Series[int] = pa.Field(ge=0, description="optimiser steps done when it was sampled")
    row: Series[int] = pa.Field(ge=0, description="place in the generation batch; a group's rows are neighbours")
    prompt_id: Series[str]
    response: Series[str]
    verdicts: Series[str] = pa.Field(description="JSON object, rubric id to verdict or null")
    reward: Series[float] = pa.Field(ge=0, le=1, nullable=True)
    response_advantage: Series[float]
    token_spans: Series[str] = pa.Field(description="JSON list of [start, end) characters per counted token")
    relevance: Series[str] = pa.Field(description="JSON object, rubric id to one number per counted token")
    token_advantages: Series[str] = pa.Field(description="JSON list, the token-level term of each counted token")
    advantages: Series[str] = pa.Field(description="JSON list, the advantage of each counted token, terms combined")


class Scores(_Table):
    """One row per (response, instruction) of an evaluation."""

    arm: Series[str]
    seed: Series[int] = pa.Field(ge=0)
    step: Series[int] = pa.Field(ge=0)
    benchmark: Series[str]
    prompt_id: Series[str]
    rubric_id: Series[str]
    kind: Series[str]
    strict: Series[bool]
    loose: Series[bool]
    sample: Series[int] = pa.Field(ge=0)
    tokens: Series[int] = pa.Field(ge=0)
    truncated: Series[bool]
    blank: Series[bool] = pa.Field(alias="empty", description="whether there is nothing in the answer but white space")
    protocol: Series[str] = pa.Field(description="name and version of how answers were asked for")
    budget: Series[int] = pa.Field(ge=0, description="most tokens of an answer; 0 where it is not known")
    judge: Series[str] = pa.Field(description="who decided, with the version of a checker")
    groups: Series[str] = pa.Field(description="JSON object, what the benchmark breaks its scores down by")

    @pa.dataframe_check(name="strict_implies_loose")
    def _strict_implies_loose(cls, table: pd.DataFrame) -> pd.Series:
        return ~table["strict"] | table["loose"]


def rows_of(table: pd.DataFrame) -> Iterator[Any]:
    """The rows, columns as attributes. The types a schema has checked are not known to a type checker."""
    return table.itertuples(index=False)


def _problems(cases: pd.DataFrame) -> list[str]:
    """One line per problem out of pandera's failure cases, which repeat a dataframe check for every column."""
    lines = []
    whole = cases["schema_context"] == "DataFrameSchema"
    for check, group in cases[whole].groupby("check", sort=False):
        if check in ("column_in_dataframe", "column_in_schema"):
            fault = "is missing" if check == "column_in_dataframe" else "is not known"
            lines += [f"column {name}: it {fault}" for name in group["failure_case"]]
        else:
            found = group["index"].dropna().drop_duplicates()
            lines.append(f"{check} failed for {len(found)} row(s): {_rows(found)}")
    for (column, rule), group in cases[~whole].groupby(["column", "check"], sort=False):
        found = group["index"].dropna()
        place = f" in rows {_rows(found)}" if len(found) else ""
        example = str(group["failure_case"].iloc[0])[:80]
        lines.append(f"column {column}: {rule} failed for {len(group)} value(s){place}, such as {example!r}")
    return lines


def _rows(index: pd.Series) -> str:
    return ", ".join(str(int(i)) for i in index.head(5))


def check_table(table: pd.DataFrame, model: type[_Table], where: object) -> pd.DataFrame:
    """Validates lazily, so that one failure lists every problem. Raises UserError naming `where`."""
    if table.empty:
        raise UserError(
            f"the table {model.__name__} has no rows",
            where=where,
            todo="check the step that wrote it; an empty table is never right",
        )
    try:
        return model.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise UserError(
            f"the table {model.__name__} is malformed:\n  " + "\n  ".join(_problems(error.failure_cases)),
            where=where,
            todo="correct these rows, or delete the file and run the step that writes it again",
        ) from None


def read_table(path: Path, model: type[_Table]) -> pd.DataFrame:
    """Reads and validates a Parquet table. Raises UserError when it is absent, unreadable or malformed."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError("the table is not there", where=path, todo="run the step that writes it first") from None
    except Exception as error:  # pyarrow raises many types for a damaged file
        raise UserError(
            f"the table cannot be read: {error}",
            where=path,
            todo="delete the file and run the step that writes it again",
        ) from None
    return check_table(table, model, path)


def write_table(table: pd.DataFrame, model: type[_Table], path: Path) -> None:
    """Validates, then writes beside `path` and renames, so that a failed write leaves the old file as it was."""
    checked = check_table(table, model, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        checked.to_parquet(partial, index=False)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
