"""What others reported, with its source, to stand beside our figures and never among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rtt.errors import UserError

REFERENCES = Path(__file__).resolve().parents[2] / "config" / "reference_results.yaml"
ACCURACIES = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")
NOT_STATED = "not stated"
Text = Annotated[str, Field(min_length=1)]


class Reference(BaseModel):
    """One reported figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: Text
    """As our configuration names it."""
    arm: Text
    """The arm of ours whose method it is."""
    metric: Literal["prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose", "not stated"]
    value: float = Field(ge=0, le=100)
    """Percent."""
    setting: Text
    """Backbone and decoding, as far as they are stated."""
    source: Text

    def described(self) -> str:
        metric = "metric not stated" if self.metric == NOT_STATED else self.metric.replace("_", " ")
        return f"{self.source}; {self.setting}; {metric}"


class References(BaseModel):
    """The file of reported figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    note: Text
    """Why they are no comparison."""
    results: tuple[Reference, ...]

    @model_validator(mode="after")
    def _each_once(self) -> References:
        keys = [(one.benchmark, one.arm, one.metric) for one in self.results]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{' '.join(twice[0])} is given twice; keep one source")
        return self


def read_references(path: Path = REFERENCES) -> References:
    """Raises UserError for a file that cannot be read, and lists every wrong or unknown key by its place."""
    try:
        return References.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the reported figures cannot be read: {error}", where=path, todo="correct the path") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError(
            "the reported figures are malformed:\n  " + "\n  ".join(lines),
            where=path,
            todo="give benchmark, arm, metric, value in percent, setting and source of each",
        ) from None


def with_references(table: pd.DataFrame, references: References) -> pd.DataFrame:
    """A :func:`rtt.report.tables.main_table` with ``paper_value``, a share as ``value`` is, and ``paper_source``.

    Both are missing where nothing is known. A figure whose metric is not stated stands in the rows of every accuracy,
    for it may be any of them, unless another figure states that row's metric.
    """
    known: dict[tuple[str, str, str], Reference] = {}
    for one in sorted(references.results, key=lambda one: one.metric != NOT_STATED):
        for metric in ACCURACIES if one.metric == NOT_STATED else (one.metric,):
            known[one.benchmark, one.arm, metric] = one
    keys = zip(table["benchmark"], table["arm"], table["metric"], strict=True)
    found: list[Any] = [known.get(key) for key in keys]
    return table.assign(
        paper_value=np.array([one.value / 100 if one else np.nan for one in found], dtype=float),
        paper_source=pd.Series([one.described() if one else None for one in found], index=table.index, dtype="str"),
    )
