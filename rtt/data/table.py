"""From rows of any source to the table of prompts: ids, splits, messages, and everything wrong at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from rtt.errors import UserError
from rtt.judging.cases import Message
from rtt.rubrics import Rubric, dump_rubrics, parse_rubrics
from rtt.tables import Prompts, check_table

SHOWN = 10
"""Problems shown at most."""


@dataclass(frozen=True)
class Row:
    """A prompt with its rubrics, wherever it comes from.

    Attributes:
        messages: the conversation, the user's message last.
        where: file and line it stands in.
        kept_with: rows that agree in this stay in one split.
        groups: what a benchmark breaks its scores down by; a text, or one a rubric.
    """

    prompt_id: str
    split: str
    topic: str
    messages: tuple[Message, ...]
    rubrics: list[Rubric]
    where: str
    kept_with: str
    groups: Mapping[str, str | list[str]] = field(default_factory=dict)


def make_table(rows: Iterable[Row | UserError], name: object) -> pd.DataFrame:
    """Rows of rtt.tables.Prompts; with a column `messages` when some prompt has more than one.

    Raises:
        UserError: all that is wrong with the rows, up to `SHOWN` of them; ids that stand twice.
    """
    good: list[Row] = []
    bad: list[UserError] = []
    seen: dict[str, str] = {}
    for row in rows:
        if isinstance(row, UserError):
            bad.append(row)
        elif row.prompt_id in seen:
            what = f"the id {row.prompt_id!r} stands in {seen[row.prompt_id]} too"
            bad.append(UserError(what, where=row.where, todo="give each prompt an id of its own, or none"))
        else:
            seen[row.prompt_id] = row.where
            good.append(row)
    if bad:
        raise together(bad)
    table = pd.DataFrame(
        {
            "prompt_id": [row.prompt_id for row in good],
            "split": [row.split for row in good],
            "topic": [row.topic for row in good],
            "prompt": [row.messages[-1]["content"] for row in good],
            "rubrics": [dump_rubrics(row.rubrics) for row in good],
        }
    )
    if any(len(row.messages) > 1 for row in good):
        table["messages"] = [json.dumps(list(row.messages), ensure_ascii=False) for row in good]
    if any(row.groups for row in good):
        table["groups"] = [json.dumps(row.groups, ensure_ascii=False, sort_keys=True) for row in good]
    return check_table(table, Prompts, name)


def together(problems: list[UserError]) -> UserError:
    """Several problems as one message."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"{one.where}: {one.what}" for one in problems[:SHOWN]]
    more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return UserError(
        f"{len(problems)} rows are malformed:\n    " + "\n    ".join([*lines, *more]),
        where=problems[0].where,
        todo=problems[0].todo,
    )


def split_by_hash(row: Row, shares: Mapping[str, float], heldout_kinds: Iterable[str], seed: int) -> Row:
    """The row in a split that depends on what it is kept with, the shares and the seed alone.

    A prompt with a rubric of a held-out kind goes to ``heldout_kinds``.
    """
    if {rubric.kind for rubric in row.rubrics} & set(heldout_kinds):
        return replace(row, split="heldout_kinds")
    digest = hashlib.sha256(f"{seed}/{row.kept_with}".encode()).digest()
    place, above = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for name, share in shares.items():
        above += share
        if place < above:
            return replace(row, split=name)
    return replace(row, split=next(iter(shares)))


def cap_rubrics(table: pd.DataFrame, most: int) -> tuple[pd.DataFrame, int]:
    """The first `most` rubrics of each training prompt, and how many were left out. Other splits keep theirs: a score
    counts every instruction."""
    whole = [parse_rubrics(text) for text in table["rubrics"]]
    kept = [
        rubrics[:most] if split == "train" else rubrics for rubrics, split in zip(whole, table["split"], strict=True)
    ]
    dropped = sum(map(len, whole)) - sum(map(len, kept))
    return table.assign(rubrics=[dump_rubrics(rubrics) for rubrics in kept]), dropped
