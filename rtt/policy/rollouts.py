"""Rollouts and metrics of a round in the making: one file a step, so that a killed round keeps what it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd


class RolloutLog:
    """Writes each batch of a round to its own file below `folder`, and joins them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, rows: pd.DataFrame) -> None:
        """Records one batch; a batch sampled again after an interruption replaces the earlier one."""
        path = self.folder / f"{int(rows['step'].iloc[0]):08d}.parquet"
        partial = path.with_suffix(".partial")
        rows.to_parquet(partial, index=False)
        partial.replace(path)

    def join(self, start: int, stop: int) -> pd.DataFrame:
        """All batches sampled at steps in [start, stop)."""
        parts = [path for path in sorted(self.folder.glob("*.parquet")) if start <= int(path.stem) < stop]
        return pd.concat([pd.read_parquet(path) for path in parts], ignore_index=True)


class MetricLog:
    """One JSON line a step; a step done again after an interruption replaces the earlier line."""

    def __init__(self, path: Path, done: int) -> None:
        """Keeps the lines of steps up to `done`, drops the later ones."""
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= done] if path.exists() else []
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def add(self, step: int, values: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line cut short by a kill is left out."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
