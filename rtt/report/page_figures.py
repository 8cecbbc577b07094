"""Figures of the report page, embedded, each with a caption and an alternative text that tells what it shows."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from rtt.errors import UserError
from rtt.report.render import DASH
from rtt.report.sections import points
from rtt.report.statistics import SIGNIFICANT
from rtt.tables import rows_of

METRIC = "instruction_strict"


def embedded(path: Path, caption: str, alternative: str) -> list[str]:
    """A figure's elements. Raises UserError where its file cannot be read."""
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise UserError(f"the figure cannot be read: {error}", where=path, todo="draw it first") from None
    # as an image and not as elements: ids of several figures cannot meet, and no script inside one can run
    return [
        "<figure>",
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alternative)}">',
        f"<figcaption>{escape(caption)}</figcaption>",
        "</figure>",
    ]


def curves_described(curves: pd.DataFrame) -> tuple[str, str]:
    """Caption and alternative text of learning curves."""
    ends = []
    for arm, rows in curves.groupby("arm", sort=False):
        mean = rows.groupby("step")[METRIC].mean()
        ends.append(
            f"{arm} goes from {mean.iloc[0]:.1%} at step {mean.index[0]} to {mean.iloc[-1]:.1%} at step "
            f"{mean.index[-1]}"
        )
    return (
        "Strict instruction accuracy on validation over training; every arm starts as the base.",
        "Line chart of validation instruction accuracy over optimiser steps: "
        + ("; ".join(ends) or "no arm has scores")
        + ".",
    )


def bars_described(table: pd.DataFrame) -> tuple[str, str]:
    """Caption and alternative text of the bars of accuracies."""
    bars = [f"{row.benchmark}, {row.arm} {row.value:.1%}" for row in rows_of(table[table["metric"] == METRIC])]
    return (
        "Strict instruction accuracy after training, by benchmark.",
        "Bar chart of instruction accuracy: " + "; ".join(bars) + ".",
    )


def differences_described(rows: pd.DataFrame, against: str) -> tuple[str, str]:
    """Caption and alternative text of differences that all subtract `against`."""
    listed = [
        f"{row.benchmark}, {row.arm} {points(row.value)}{' (significant)' if row.p_holm < SIGNIFICANT else ''}"
        for row in rows_of(rows[rows["metric"] == METRIC])
    ]
    return (
        f"Points of strict instruction accuracy above {against}; filled where significant after Holm’s correction.",
        f"Dot plot of differences from {against}: " + ("; ".join(listed) or "no arm was compared") + ".",
    )


def kinds_described(discriminator: Mapping[str, Any]) -> tuple[str, str]:
    """Caption and alternative text of the discriminator by kind."""
    sets = []
    for name, found in discriminator["sets"].items():
        over_all = DASH if found["auprc"] is None else f"{found['auprc']:.2f}"
        sets.append(f"{name.replace('_', ' ')}, {len(found['per_kind'])} kinds, {over_all} over all")
    return (
        "How well the discriminator finds the tokens a rubric is about, by kind of rubric, beside two baselines.",
        "Dot plot of the discriminator’s area under the precision-recall curve: "
        + ("; ".join(sets) or "no figures")
        + ". The table of kinds holds the figures.",
    )
