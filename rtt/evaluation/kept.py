"""Answers kept as they come, so that an evaluation that was interrupted goes on and asks nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One response: its text, its length in tokens without the end token, and whether the budget cut it short."""

    text: str
    tokens: int
    truncated: bool


def fingerprint(known: Mapping[str, Any]) -> str:
    """Of all that answers depend on."""
    return hashlib.sha256(json.dumps(known, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Kept:
    """Answers by the place of their question, one JSON line each.

    Args:
        path: the file; one that belongs to other questions, or a last line that was cut short, is left out.
        mark: :func:`fingerprint` of the questions and of who answers.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self.path, self.answers = path, dict[int, Answer]()
        lines = _lines(path)
        if not lines or lines[0].get("mark") != mark:
            lines = [{"mark": mark}]
        for line in lines[1:]:
            place = line.pop("place")
            self.answers[place] = Answer(**line)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(map(_line, [{"mark": mark}, *map(_row, self.answers.items())])))
        partial.replace(path)

    def add(self, places: Sequence[int], answers: Sequence[Answer]) -> None:
        new = dict(zip(places, answers, strict=True))
        with self.path.open("a") as file:
            file.write("".join(_line(_row(item)) for item in new.items()))
        self.answers |= new

    def remove(self) -> None:
        """Once the answers stand where they belong."""
        self.path.unlink(missing_ok=True)


def _row(item: tuple[int, Answer]) -> dict[str, Any]:
    return {"place": item[0], **asdict(item[1])}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found
