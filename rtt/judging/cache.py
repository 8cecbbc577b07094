"""Answers of language models, kept for good: nothing is asked twice, and tables are made again without the model."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rtt.errors import UserError
from rtt.judging.requests import Request

PATIENCE = 60.0
"""Seconds to wait for another process that writes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, text TEXT NOT NULL
) WITHOUT ROWID
"""


def key_of(request: Request, model: str, parameters: dict[str, Any]) -> str:
    """What an answer depends on. Not the address: the same model elsewhere is the same model."""
    known = {"model": model, "parameters": parameters, **asdict(request)}
    return hashlib.sha256(json.dumps(known, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Cache:
    """A SQLite file of answers that several processes may use at once.

    Raises:
        UserError: the file is no such cache, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            self._share()
            self.connection.execute(_TABLE)
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._broken(error) from None

    def _share(self) -> None:
        """Turns on the write-ahead log. While another process does so, SQLite refuses at once instead of waiting."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def get(self, key: str) -> str | None:
        try:
            row = self.connection.execute("SELECT text FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._broken(error) from None
        return None if row is None else row[0]

    def put(self, key: str, task: str, model: str, text: str) -> None:
        """Keeps an answer; one that is there already stays, so that a table never changes under its reader."""
        try:
            self.connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", (key, task, model, text))
        except sqlite3.DatabaseError as error:
            raise self._broken(error) from None

    def __len__(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM replies").fetchone()[0])

    def close(self) -> None:
        """Closes the file; the write-ahead log beside it is folded into it, so that it can be shipped alone."""
        self.connection.close()

    def _broken(self, error: Exception) -> UserError:
        if _is_busy(error):
            return UserError(
                f"the cache of answers is held by another process: {error}",
                where=self.path,
                todo="wait for that process, or end it; answers are kept",
            )
        return UserError(
            f"the cache of answers cannot be used: {error}",
            where=self.path,
            todo="put back a sound copy, or move the file away: a new one is made, and everything is asked again",
        )


def _is_busy(error: Exception) -> bool:
    # The low byte is the kind of error, the rest its variety.
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
