"""AdvancedIF as prompts with rubrics: conversations of several turns and system prompts, every rubric for a reader."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from rtt.data.files import Place
from rtt.data.own import Text, Turn, check_turns
from rtt.data.published import load_rows
from rtt.data.table import Row
from rtt.rubrics import JUDGED, Rubric

HOW = "give conversation_history, benchmark_name and prompt_metadata, as AdvancedIF's published file does"


def _parsed(value: Any) -> Any:
    """The published columns hold JSON as text, its rubrics sometimes once more."""
    while isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("it is a text that is no JSON") from None
    return value


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore")

    rubrics: list[Text] = Field(min_length=1)

    @field_validator("rubrics", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        return _parsed(value)


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")

    conversation_history: list[Turn]
    benchmark_name: Text
    prompt_metadata: _Metadata

    @field_validator("conversation_history", "prompt_metadata", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        return _parsed(value)

    @field_validator("conversation_history")
    @classmethod
    def _answerable(cls, turns: list[Turn]) -> list[Turn]:
        return check_turns(turns)


def load_advancedif(path: Path, name: str) -> pd.DataFrame:
    """Rows of rtt.tables.Prompts with the group ``aspect``; a prompt's id is its place in the file.

    Raises:
        UserError: file absent or empty; all malformed rows at once, by place.
    """
    return load_rows(path, _Row, partial(_make, name), HOW)


def _make(name: str, row: _Row, place: Place) -> Row:
    prompt_id = f"{name}/{place.number}"
    rubrics = [
        Rubric(rubric_id=f"{prompt_id}/{k}", kind=JUDGED, text=text, kwargs={"why": "the benchmark's way"})
        for k, text in enumerate(row.prompt_metadata.rubrics)
    ]
    messages = tuple({"role": turn.role, "content": turn.content} for turn in row.conversation_history)
    groups = {"aspect": row.benchmark_name}
    return Row(prompt_id, name, name, messages, rubrics, str(place), kept_with=prompt_id, groups=groups)
