"""All of a study's tables, figures and the report page, from its scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rtt.config import Config, to_dict
from rtt.errors import UserError
from rtt.provenance import commit, versions
from rtt.report.figures import comparison_bars, discriminator_by_kind, learning_curves
from rtt.report.page import write_page
from rtt.report.tables import curve_table, main_table, paired_table, to_markdown, to_text, write_csv
from rtt.tables import Scores, read_table


def read_scores(paths: Sequence[Path]) -> pd.DataFrame:
    """All evaluations as one table of rtt.tables.Scores."""
    return pd.concat([read_table(path, Scores) for path in paths], ignore_index=True)


def pairs_of(arms: Sequence[str]) -> list[tuple[str, str]]:
    """The comparisons worth a row: every arm with the base, and every later arm with each earlier one."""
    return [(arm, "base") for arm in arms] + [
        (later, earlier) for place, later in enumerate(arms) for earlier in arms[:place]
    ]


def read_left_out(paths: Sequence[Path]) -> list[str]:
    """One sentence per benchmark that lost prompts."""
    notes = []
    for path in paths:
        try:
            listed = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"the list of left-out prompts cannot be read: {error}", where=path) from None
        if listed["left_out"]:
            names = listed["left_out"]
            notes.append(
                f"{listed['benchmark']}: {len(names)} of {listed['kept'] + len(names)} prompts are left out, because "
                f"their checker lacks its NLTK data ({', '.join(names)})"
            )
    return notes


def write_report(
    config: Config, *, scores: Sequence[Path], discriminator: Path | None, left_out: Sequence[Path], output: Path
) -> None:
    """Writes ``tables/``, ``figures/`` and ``report/index.html`` below `output`."""
    table = read_scores(scores)
    settings = config.evaluation
    options: dict[str, Any] = {"draws": settings.bootstrap_draws, "seed": settings.seed}
    main = main_table(table, **options)
    paired = paired_table(table, pairs_of(list(config.arms)), **options)
    curves = curve_table(table, **options)
    quality = json.loads(discriminator.read_text()) if discriminator else None
    notes = read_left_out(left_out)
    tables, figures, page = output / "tables", output / "figures", output / "report"
    for folder in (tables, figures, page):
        folder.mkdir(parents=True, exist_ok=True)
    write_csv(main, tables / "main.csv")
    write_csv(paired, tables / "paired.csv")
    write_csv(curves, tables / "curves.csv")
    caption = (
        f"Accuracy in percent with 95 % intervals by bootstrap over prompts ({settings.bootstrap_draws} draws); greedy "
        f"answers; seeds {', '.join(map(str, config.seeds))}."
    )
    (tables / "main.md").write_text("\n".join([to_markdown(main, caption), *(f"\n{note}." for note in notes)]) + "\n")
    (tables / "main.txt").write_text(to_text(main) + "\n")
    learning_curves(curves, figures / "learning_curves")
    comparison_bars(main, figures / "comparison")
    drawn = [figures / "learning_curves.svg", figures / "comparison.svg"]
    if quality:
        discriminator_by_kind(quality, figures / "discriminator")
        drawn.append(figures / "discriminator.svg")
    write_page(
        page / "index.html",
        title="Rubrics to Tokens",
        main=main,
        paired=paired,
        curves=curves,
        discriminator=quality,
        figures=drawn,
        configuration=to_dict(config),
        versions={**versions(), **commit()},
        notes=notes,
    )
