"""Rows of a user's or a published data set, one at a time: JSONL, JSON or Parquet, a file or a folder of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtt.errors import UserError

SUFFIXES = (".jsonl", ".json", ".parquet")

BATCH = 256
"""Rows of a Parquet file held at once."""


@dataclass(frozen=True)
class Place:
    """Where a row stands: a file, and the number, from 1, of its line or row."""

    file: Path
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


def read_records(path: Path) -> Iterator[tuple[Place, Any]]:
    """Where each row stands, and its value; a line that is not JSON has as value the UserError that says so.

    Raises:
        UserError: no such file, no file of a known kind in the folder, an empty or unreadable file.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        if not files:
            raise UserError("the folder holds no data", where=path, todo=f"put {', '.join(SUFFIXES)} files into it")
    for file in files:
        if file.suffix == ".parquet":
            yield from _parquet(file)
        elif file.suffix == ".json":
            yield from _json(file)
        else:
            yield from _lines(file)


def read_sniffed(path: Path) -> Iterator[tuple[Place, Any]]:
    """As :func:`read_records`, going by what a file holds and not by its name, which a fetched file does not keep."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror}", where=path, todo="correct the path") from None
    yield from _parquet(path) if head == b"PAR1" else _json(path)


def _lines(file: Path) -> Iterator[tuple[Place, Any]]:
    for number, value in _json_lines(file):
        yield Place(file, "line", number), value


def _parquet(file: Path) -> Iterator[tuple[Place, Any]]:
    import pyarrow.parquet as pq

    try:
        parts = pq.ParquetFile(file)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise UserError(f"the file cannot be read: {error}", where=file, todo="give a whole Parquet file") from None
    number = 0
    for batch in parts.iter_batches(batch_size=BATCH):
        for value in batch.to_pylist():
            number += 1
            yield Place(file, "row", number), _without_nulls(value)
    if not number:
        raise UserError("the file has no rows", where=file, todo="give one prompt a row")


def _without_nulls(value: Any) -> Any:
    """Arrow fills the fields a row leaves out with nulls; here they are left out again."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _json(file: Path) -> Iterator[tuple[Place, Any]]:
    """A list of rows; a file whose first line is an object is read as one of an object a line."""
    _, first = next(_json_lines(file))
    if isinstance(first, dict):
        yield from _lines(file)
        return
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=file, todo="give one list of rows, or one object a line") from None
    for number, value in enumerate(values if isinstance(values, list) else [values], start=1):
        yield Place(file, "row", number), value


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number, from 1, and value of each line of a JSONL file that is not blank.

    Raises:
        UserError: file absent, not UTF-8 text, or without a value; a line that is not JSON, by its number.
    """
    for number, value in _json_lines(path):
        if isinstance(value, UserError):
            raise value
        yield number, value


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The same, with an error as the value of a line that is not JSON."""
    empty = True
    try:
        with Path(path).open(encoding="utf-8-sig", newline="\n") as file:  # strings may hold other line ends
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                empty = False
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as error:
                    value = UserError(
                        f"not JSON: {error.msg} at column {error.colno}",
                        where=f"{path}, line {number}",
                        todo="write one whole JSON object on each line",
                    )
                yield number, value
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror}", where=path, todo="correct the path") from None
    except UnicodeDecodeError:
        raise UserError("the file is not UTF-8 text", where=path, todo="give a JSONL file in UTF-8") from None
    if empty:
        raise UserError("the file is empty", where=path, todo="give one JSON object a line")
