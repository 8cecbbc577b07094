"""The report: one HTML file that needs neither network nor scripts, for a screen of any width and for paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rtt.config import BASE
from rtt.report.examples import examples_section
from rtt.report.markup import POLICY, STYLE, bullets, note, table_of, td
from rtt.report.outputs import MAIN, curves_stem, differences_stem
from rtt.report.page_figures import (
    bars_described,
    curves_described,
    differences_described,
    embedded,
    kinds_described,
)
from rtt.report.render import Layout, p_text
from rtt.report.results import Results
from rtt.report.sections import (
    accuracy_table,
    curves_table,
    difference_table,
    discriminator_section,
    efficiency_section,
    groups_section,
    points,
)
from rtt.report.statistics import SIGNIFICANT
from rtt.report.tables import differences_from
from rtt.tables import rows_of

QUESTION = (
    "Does a policy follow more instructions when each verdict is charged to the tokens its rubric is about, than when "
    "the same reward is given to the whole response?"
)
OPEN_QUESTION = "How do the arms compare in the share of instructions their answers follow?"
HOW_TO_READ = (
    "Points are differences of strict instruction accuracy on the same prompts and training seeds.",
    f"A difference counts where its p-value, corrected by Holm for the main table, is below {SIGNIFICANT}.",
    "The intervals are not corrected.",
)
ONE_SEED = "There is one training seed: how far another would move these figures is not measured."
SEVERAL_SEEDS = "Intervals and p-values hold the spread between training seeds as well as that between prompts."


def write_page(
    destination: Path,
    *,
    title: str,
    results: Results,
    figures: Mapping[str, Path],
    configuration: Mapping[str, Any],
    versions: Mapping[str, str],
    costs: Sequence[str] = (),
) -> None:
    """Writes the report beside `destination` and renames; the same input gives the same bytes.

    Args:
        destination: the HTML file.
        title: of the study.
        results: everything it shows; the answer is read from its paired differences in the table `main`.
        figures: SVG files to embed, by the names rtt.report.outputs gives them.
        configuration: the resolved configuration; ``headline``, else ``arms``, say which pairs ask the question.
        versions: package or commit by name.
        costs: the section :func:`rtt.report.costs.costs_section` makes.

    Raises:
        UserError: a figure that cannot be read.
    """
    text = "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            f"<h1>{escape(title)}</h1>",
            *_answer_section(results, configuration),
            *_gaps_section(results),
            *_contents(results),
            *(line for name in results.tables for line in _table_section(name, results, figures)),
            *groups_section(results.groups),
            *efficiency_section(results.efficiency),
            *discriminator_section(results.quality),
            *(embedded(figures["discriminator"], *kinds_described(results.quality)) if results.quality else []),
            *(examples_section(results.quality) if results.quality else []),
            *costs,
            *_left_out_section(results),
            *_origin_section(configuration, versions),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(destination.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(destination)


def question_pairs(paired: pd.DataFrame, configuration: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of `paired` that ask the study's question: its headline; without one, every arm with token-level credit
    against the same reward without, in that direction. Empty where the configuration has no such pair."""
    if headline := configuration.get("headline"):
        rows = differences_from(paired, headline[1])
        return rows[rows["arm"] == headline[0]]
    settings = configuration.get("arms") or {}
    with_credit = {name for name, arm in settings.items() if arm.get("credit")}
    rest = {name: repr(sorted((k, v) for k, v in arm.items() if k != "credit")) for name, arm in settings.items()}
    asked = [
        rows[rows["arm"].isin([name for name in with_credit if rest[name] == rest[against]])]
        for against in settings
        if against not in with_credit
        for rows in [differences_from(paired, against)]
    ]
    return pd.concat(asked) if asked else paired.iloc[:0]


def answers(rows: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Per pair of `rows` one plain sentence on strict instruction accuracy, and the difference on each benchmark.

    A difference counts as such where its p-value after Holm's correction is below SIGNIFICANT; else the sentence says
    that none is shown.
    """
    found = []
    rows = rows[rows["metric"] == "instruction_strict"]
    for (arm, against), pair in rows.groupby(["arm", "against"], sort=False):
        significant = pair["p_holm"] < SIGNIFICANT
        higher, lower = significant & (pair["value"] > 0), significant & (pair["value"] < 0)
        parts = [
            f"{phrase} {against} on {counted.sum()} of {len(pair)} benchmarks"
            for phrase, counted in (
                ("follows more instructions than", higher),
                ("follows fewer instructions than", lower),
                ("shows no clear difference from", ~(higher | lower)),
            )
            if counted.any()
        ]
        details = [
            f"{row.benchmark}: {points(row.value)} points, 95 % interval {points(row.low)} to {points(row.high)} "
            f"(Holm’s {p_text(row.p_holm)}; {row.seeds} seed{'s' * (row.seeds > 1)}, {row.n} prompts)"
            for row in rows_of(pair)
        ]
        found.append((f"{arm} {', and '.join(parts)}.", details))
    return found


def _answer_section(results: Results, configuration: Mapping[str, Any]) -> list[str]:
    paired = results.paired[results.paired["table"] == MAIN]
    asked = question_pairs(paired, configuration)
    rows = paired if asked.empty else asked
    lines = [
        f'<p class="question">{QUESTION if len(asked) else OPEN_QUESTION}</p>',
        '<section class="answer" aria-label="Answer">',
    ]
    for sentence, details in answers(rows):
        lines += [f"<p><strong>{escape(sentence)}</strong></p>", *bullets(details)]
    if rows.empty:
        lines.append("<p>No pair of arms was compared, so these scores hold no answer.</p>")
    caveats = [*HOW_TO_READ, ONE_SEED if rows["seeds"].min() == 1 else SEVERAL_SEEDS] if len(rows) else []
    return [*lines, "</section>", note(*caveats)]


def _gaps_section(results: Results) -> list[str]:
    """What is missing, near the top, for every figure below depends on it; nothing in a complete study."""
    if not results.gaps:
        return []
    return [
        '<section id="missing">',
        "<h2>What is missing</h2>",
        "<p>A dash stands for what is missing; arms are shown over the seeds they have.</p>",
        *bullets(results.gaps),
        "</section>",
    ]


def _heading(name: str) -> str:
    return "Accuracy after training" if name == MAIN else f"Table: {name.replace('_', ' ')}"


def _contents(results: Results) -> list[str]:
    """Links to the sections of a study with several tables."""
    if len(results.tables) < 2:
        return []
    links = [(f"table-{name}", _heading(name)) for name in results.tables]
    links += [("groups", "By group")] * (not results.groups.empty)
    links += [("efficiency", "Sample efficiency")] * (not results.efficiency.empty)
    links += [("discriminator", "The discriminator"), ("origin", "How it was made")]
    listed = [f'<li><a href="#{place}">{escape(text)}</a></li>' for place, text in links]
    return ['<nav aria-label="Contents">', "<ul>", *listed, "</ul>", "</nav>"]


def _table_section(name: str, results: Results, figures: Mapping[str, Path]) -> list[str]:
    """A table of arms with its figures and differences; the differences of a table beside `main` are folded away."""
    layout, table = results.layouts[name], results.tables[name]
    lines = [f'<section id="table-{name}">', f"<h2>{escape(_heading(name))}</h2>", accuracy_table(table, layout)]
    lines.append(
        note(
            "Below each figure stands its 95 % interval, by bootstrap over prompts and, where there are several, seeds;"
            " ± is the standard deviation between seeds.",
            "Instruction accuracy averages over instructions; prompt accuracy asks for all instructions of a prompt.",
            "Loose scoring forgives wrappings around the answer.",
            "Where all prompts have the same result the interval has no width, which is no certainty.",
        )
        if name == MAIN
        else note("Columns as in the first table.")
    )
    told = [*layout.notes, *layout.sources]
    lines += bullets(told) if told else []
    curves = results.curves[results.curves["arm"].isin(layout.arms)]
    lines += _figures(name, layout, results, curves, figures)
    if len(curves):
        lines += ["<details>", "<summary>Learning curves as a table</summary>", curves_table(curves, name)]
        lines.append("</details>")
    paired = results.paired[results.paired["table"] == name]
    if len(paired):
        summary = "Differences on the same prompts and seeds"
        inner = [
            difference_table(paired, name),
            note(
                f"* p is below {SIGNIFICANT} after Holm’s correction for all pairs and benchmarks of this table.",
                "p is two-sided, from the same bootstrap draws as the interval; the intervals are not corrected.",
            ),
        ]
        opening = "<details open>" if name == MAIN else "<details>"
        lines += [opening, f"<summary>{summary}</summary>", *inner, "</details>"]
    return [*lines, "</section>"]


def _figures(
    name: str, layout: Layout, results: Results, curves: pd.DataFrame, figures: Mapping[str, Path]
) -> list[str]:
    lines = embedded(figures[curves_stem(name)], *curves_described(curves))
    if name == MAIN:
        lines += embedded(figures["comparison"], *bars_described(results.tables[name]))
    against = layout.arms[0] if layout.arms else BASE
    rows = differences_from(results.paired[results.paired["table"] == name], against)
    return lines + embedded(figures[differences_stem(name)], *differences_described(rows, against))


def _left_out_section(results: Results) -> list[str]:
    listed = bullets(results.left_out) if results.left_out else ["<p>Nothing.</p>"]
    return ["<section>", "<h2>Prompts left out</h2>", *listed, "</section>"]


def _origin_section(configuration: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    plain = json.loads(json.dumps(configuration, default=str))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    rows = [[str(name), td(version, text_column=True)] for name, version in versions.items()]
    return [
        '<section id="origin">',
        "<h2>How it was made</h2>",
        "<p>Every run, with its curves, parameters and files, is in MLflow: <code>make ui</code> opens it.</p>",
        "<details>",
        "<summary>Configuration</summary>",
        f'<pre tabindex="0"><code>{escape(text)}</code></pre>',
        "</details>",
        table_of("versions", "Versions", ["Name", "Version"], [("", rows)]),
        "</section>",
    ]
