"""MulDimIF as prompts with rubrics: constraints in four families, three patterns and four levels of difficulty."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from rtt.data.files import Place
from rtt.data.own import Turn, check_turns
from rtt.data.published import load_rows
from rtt.data.table import Row
from rtt.errors import UserError
from rtt.judging.constraints import decide
from rtt.rubrics import JUDGED, Rubric

HOW = "give id, conversations, constraints, constraint_pattern and difficulty, as MulDimIF's published file does"

FAMILIES = {
    "Content": "Content",
    "Citations": "Content",
    "Punctuation": "Content",
    "References": "Content",
    "Format": "Format",
    "Json": "Format",
    "Markdown": "Format",
    "Table": "Format",
    "XML": "Format",
    "Language": "Language",
    "Length": "Length",
    "Paragraphs": "Length",
    "Sentences": "Length",
    "Words": "Length",
}
"""A constraint's category → its family. The published file has categories beyond the four of its paper."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")  # published files differ in what else they carry

    id: str | int
    conversations: list[Turn]
    constraints: list[tuple[str, str, str]] = Field(min_length=1)
    constraint_pattern: str
    difficulty: str

    @field_validator("conversations")
    @classmethod
    def _answerable(cls, turns: list[Turn]) -> list[Turn]:
        return check_turns(turns)


def load_muldimif(path: Path, name: str) -> pd.DataFrame:
    """Rows of rtt.tables.Prompts with the groups ``family``, ``type``, ``pattern`` and ``level``.

    A constraint goes to a checker where one decides it for sure, and else to a language model.

    Raises:
        UserError: file absent or empty; all malformed rows at once, by place.
    """
    return load_rows(path, _Row, partial(_make, name), HOW)


def _make(name: str, row: _Row, place: Place) -> Row | UserError:
    unknown = [category for category, _, _ in row.constraints if category not in FAMILIES]
    if unknown:
        return UserError(f"unknown category of constraint {unknown[0]!r}", where=place, todo=HOW)
    prompt_id = f"{name}/{row.id}"
    rubrics = []
    for k, constraint in enumerate(row.constraints):
        kind, kwargs = decide(*constraint) or (JUDGED, {"why": f"no checker decides {constraint[0]}, {constraint[1]}"})
        rubrics.append(Rubric(rubric_id=f"{prompt_id}/{k}", kind=kind, text=constraint[2], kwargs=kwargs))
    groups: dict[str, str | list[str]] = {
        "family": [FAMILIES[category] for category, _, _ in row.constraints],
        "type": [f"{category}: {kind}" for category, kind, _ in row.constraints],
        "pattern": row.constraint_pattern,
        "level": row.difficulty,
    }
    messages = tuple({"role": turn.role, "content": turn.content} for turn in row.conversations)
    return Row(prompt_id, name, name, messages, rubrics, str(place), kept_with=prompt_id, groups=groups)
