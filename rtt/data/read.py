"""Prompts with rubrics from a file of the user's, or from HIR-16K."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from rtt.data.files import read_records
from rtt.data.hir import hir_rows
from rtt.data.own import is_own, own_rows
from rtt.data.table import Row, make_table, split_by_hash
from rtt.errors import UserError

FORMATS = ("auto", "own", "hir")


def read_prompts(
    path: Path,
    form: str = "auto",
    shares: Mapping[str, float] | None = None,
    heldout_kinds: tuple[str, ...] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Rows of rtt.tables.Prompts.

    Args:
        path: JSONL, JSON or Parquet, or a folder of them; read row by row.
        form: ``own`` (docs/data.md), ``hir``, or ``auto``, which goes by the first readable row.
        shares: split → share of the topics, of HIR-16K of the prompts, to assign splits anew; None leaves them as
            they stand.
        heldout_kinds: with `shares`, kinds of rubric whose prompts are held out.
        seed: of the assignment.

    Raises:
        UserError: an unreadable file, or all that is wrong with its rows.
    """
    path = Path(path)
    rows = _rows(path, form)
    if shares is not None:
        rows = (row if isinstance(row, UserError) else split_by_hash(row, shares, heldout_kinds, seed) for row in rows)
    return make_table(rows, path)


def _rows(path: Path, form: str) -> Iterator[Row | UserError]:
    records = read_records(path)
    if form == "auto":
        head = []
        for record in records:
            head.append(record)
            if not isinstance(record[1], UserError):
                break
        if not head:
            raise UserError("the file has no rows", where=path, todo="give one prompt a row")
        form = "own" if is_own(head[-1][1]) else "hir"
        records = chain(head, records)
    return _READERS[form](records)


_READERS: dict[str, Any] = {"own": own_rows, "hir": hir_rows}
