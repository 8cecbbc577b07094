"""Rows of a published file: each validated, all that is wrong told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pandas as pd
from pydantic import BaseModel, ValidationError

from rtt.data.files import Place, read_sniffed
from rtt.data.own import problem
from rtt.data.table import Row, make_table
from rtt.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def load_rows(
    path: Path, model: type[Model], make: Callable[[Model, Place], Row | UserError], todo: str
) -> pd.DataFrame:
    """Rows of rtt.tables.Prompts, each made by `make` from a row that fits `model`.

    Raises:
        UserError: file absent or empty; all malformed rows at once, by place.
    """

    def rows() -> Iterator[Row | UserError]:
        for place, value in read_sniffed(path):
            if isinstance(value, UserError):
                yield value
                continue
            try:
                yield make(model.model_validate(value), place)
            except ValidationError as error:
                yield UserError(problem(error), where=place, todo=todo)

    return make_table(rows(), path)
