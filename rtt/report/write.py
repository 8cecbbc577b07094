"""All of a study's tables, figures and the report page, from its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtt.config import Config, to_dict
from rtt.provenance import commit, versions
from rtt.report.costs import arm_costs, costs_section
from rtt.report.figures import comparison_bars, difference_plot, discriminator_by_kind, learning_curves
from rtt.report.outputs import (
    MAIN,
    METRICS,
    OTHER_TABLES,
    curves_stem,
    differences_stem,
    draws_kinds,
    figure_stems,
    tables_of,
)
from rtt.report.page import write_page
from rtt.report.reference import REFERENCES, read_references
from rtt.report.render import difference_text, to_latex, to_markdown, to_text
from rtt.report.results import Results, collect, read_discriminators, read_left_out, read_scores
from rtt.report.tables import differences_from, write_csv
from rtt.tables import rows_of


def write_report(
    config: Config,
    *,
    scores: Sequence[Path],
    discriminators: Mapping[str, Path],
    left_out: Sequence[Path],
    missing: Sequence[Mapping[str, Any]] = (),
    output: Path,
    references: Path = REFERENCES,
) -> None:
    """Writes the files of :func:`rtt.report.outputs.report_outputs` below `output`, whatever is missing.

    Args:
        config: the study's configuration.
        scores: tables of scores, one an evaluation.
        discriminators: by name, the figures of each discriminator.
        left_out: lists of benchmark prompts that are not scored.
        missing: what should be there and is not, each with ``arm``, ``seed`` (None for every seed), ``what``, ``why``.
        output: the results folder.
        references: figures reported by others.

    Raises:
        UserError: a file that cannot be read, or scores that contradict the configuration or one another.
    """
    qualities = read_discriminators(discriminators, config)
    results = collect(
        config, read_scores(scores), qualities, read_references(references), read_left_out(left_out), missing
    )
    write_tables(config, results, output / "tables")
    draw_figures(config, results, output / "figures")
    write_page(
        output / "report" / "index.html",
        title="Rubrics to Tokens",
        results=results,
        figures={stem: output / "figures" / f"{stem}.svg" for stem in figure_stems(config)},
        configuration=to_dict(config),
        versions={**versions(), **commit()},
        costs=costs_section(config, arm_costs(config)),
    )


def write_tables(config: Config, results: Results, folder: Path) -> None:
    """Every table as CSV, those of arms also as Markdown and LaTeX, and `main` as plain text and as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in results.tables.items():
        write_csv(table, folder / f"{name}.csv")
        (folder / f"{name}.md").write_text(to_markdown(table, results.layouts[name]), encoding="utf-8")
        (folder / f"{name}.tex").write_text(to_latex(table, results.layouts[name]), encoding="utf-8")
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows_of(results.tables[MAIN].dropna(subset=["value"])):
        metrics.setdefault(row.arm, {}).setdefault(row.benchmark, {})[row.metric] = round(row.value, 6)
    (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    for name in OTHER_TABLES:
        write_csv(getattr(results, name), folder / f"{name}.csv")
    text = to_text(results.tables[MAIN], results.layouts[MAIN])
    if config.headline and (below := difference_text(results.paired, config.headline, MAIN)):
        text += f"\n{below}"
    (folder / f"{MAIN}.txt").write_text(text, encoding="utf-8")


def draw_figures(config: Config, results: Results, folder: Path) -> None:
    """Learning curves and differences of every table, accuracies of `main`, and the discriminator by rubric kind."""
    for name, arms in tables_of(config).items():
        learning_curves(results.curves[results.curves["arm"].isin(arms)], folder / curves_stem(name))
        own = results.paired[results.paired["table"] == name]
        difference_plot(differences_from(own, arms[0]), arms[0], folder / differences_stem(name))
    comparison_bars(results.tables[MAIN], folder / "comparison")
    if draws_kinds(config):
        discriminator_by_kind(results.quality or {"sets": {}}, folder / "discriminator")
