"""Tables of the report page: accuracies, differences, sample efficiency, curves and the discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from rtt.report.markup import note, table_of, td
from rtt.report.render import DASH, Layout, asked, auprc_cell, format_value, has_paper, p_text, paper_cell, span
from rtt.report.statistics import SIGNIFICANT
from rtt.tables import rows_of

COLUMNS = {
    "instruction_strict": "Instructions, strict (%)",
    "prompt_strict": "Prompts, strict (%)",
    "instruction_loose": "Instructions, loose (%)",
    "prompt_loose": "Prompts, loose (%)",
    "response_tokens": "Tokens a response",
    "truncated": "Cut short (%)",
}


def points(share: Any) -> str:
    """A signed difference in percentage points."""
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def accuracy_table(table: pd.DataFrame, layout: Layout) -> str:
    """Every arm of a table on every benchmark, a dash where there are no scores."""
    paper = has_paper(table, "instruction_strict") or has_paper(table, "prompt_strict")
    header = ["Arm", "Seeds", "Steps", *["AUPRC, discriminator"] * layout.auprc, *COLUMNS.values()]
    header += ["Paper (%)"] * paper
    groups = []
    for benchmark in layout.benchmarks:
        rows = table[table["benchmark"] == benchmark]
        lines = []
        for arm in layout.arms:
            own = rows[rows["arm"] == arm].set_index("metric")
            cells = [td(span(own["seeds"])), td(span(own["step"]))]
            cells += [td(auprc_cell(table, arm))] * layout.auprc
            cells += [_accuracy(own, metric) for metric in COLUMNS]
            if paper:
                known = [paper_cell(rows, arm, metric) for metric in ("instruction_strict", "prompt_strict")]
                cells.append(td(next((cell for cell in known if cell != DASH), DASH)))
            lines.append([arm, *cells])
        counts = f"{span(rows['n_prompts'])} prompts, {span(rows['n_instructions'])} instructions"
        groups.append((f"{benchmark}: {counts}; {asked(rows)}", lines))
    return table_of(f"accuracy-{layout.name}", "Every arm at its last step", header, groups)


def _accuracy(own: pd.DataFrame, metric: str) -> str:
    """A figure over its interval and, with several seeds, the deviation between them."""
    if metric not in own.index:
        return td(DASH)
    [row] = rows_of(own.loc[[metric]])
    if metric == "truncated" and "empty" in own.index:  # of no interest in detail while both are small
        [blank] = rows_of(own.loc[["empty"]])
        return td(format_value(metric, row.value), f"{format_value('empty', blank.value)} empty")
    value, low, high = (format_value(metric, end) for end in (row.value, row.low, row.high))
    spread = "" if pd.isna(row.seed_std) else f"; seeds ±{format_value(metric, row.seed_std)}"
    return td(value, f"{low} to {high}{spread}")


def difference_table(paired: pd.DataFrame, name: str) -> str:
    """The differences of one table's pairs, starred where Holm's p is below SIGNIFICANT."""
    metrics = list(paired["metric"].unique())
    groups = []
    for (arm, against), pair in paired.groupby(["arm", "against"], sort=False):
        lines = []
        for benchmark, rows in pair.groupby("benchmark", sort=False):
            found = {row.metric: row for row in rows_of(rows)}
            cells = []
            for metric in metrics:
                row = found.get(metric)
                cells += [td(DASH)] * 3 if row is None else _difference(row)
            lines.append([str(benchmark), *cells, td(rows["seeds"].iloc[0]), td(rows["n"].iloc[0])])
        groups.append((f"{arm} − {against}", lines))
    header = ["Benchmark"]
    for metric in metrics:
        header += [COLUMNS[metric].replace("(%)", "(points)"), "p", "p, Holm"]
    return table_of(f"differences-{name}", "First arm minus second", [*header, "Seeds", "Prompts"], groups)


def _difference(row: Any) -> list[str]:
    star = " *" if row.p_holm < SIGNIFICANT else ""
    return [
        td(points(row.value) + star, f"{points(row.low)} to {points(row.high)}"),
        *(td(p_text(p).removeprefix("p = ").removeprefix("p ")) for p in (row.p, row.p_holm)),
    ]


def groups_section(groups: pd.DataFrame) -> list[str]:
    """Strict instruction accuracy by what benchmarks break scores down by; nothing where none does."""
    if groups.empty:
        return []
    arms = list(groups["arm"].unique())
    blocks = []
    for (benchmark, group), rows in groups.groupby(["benchmark", "group"], sort=False):
        lines = []
        for value, own in rows.groupby("value", sort=False):
            figures = dict(zip(own["arm"], own["instruction_strict"], strict=True))
            cells = [td(f"{100 * figures[arm]:.1f}" if arm in figures else DASH) for arm in arms]
            lines.append([str(value), td(own["n_instructions"].iloc[0]), *cells])
        blocks.append((f"{benchmark}, by {group}", lines))
    caption = "Strict instruction accuracy in percent, over the instructions of each group"
    return [
        '<section id="groups">',
        "<h2>By group</h2>",
        table_of("groups-table", caption, ["Group", "Instructions", *arms], blocks),
        "</section>",
    ]


def efficiency_section(efficiency: pd.DataFrame) -> list[str]:
    """How fast each arm learns; nothing without curves."""
    if efficiency.empty:
        return []
    target, origin = efficiency[["target", "target_from"]].iloc[0]
    aim = DASH if pd.isna(target) else f"{100 * target:.1f} %"
    lines = []
    for row in rows_of(efficiency):
        area, low, high, spread, steps, deviation = (
            DASH if pd.isna(value) else f"{scale * value:.1f}"
            for value, scale in (
                (row.area, 100),
                (row.area_low, 100),
                (row.area_high, 100),
                (row.area_std, 100),
                (row.steps_to_target, 1),
                (row.steps_std, 1),
            )
        )
        seeds = "" if spread == DASH else f"; seeds ±{spread}"
        area_cell = td(area) if area == DASH else td(area, f"{low} to {high}{seeds}")
        steps_cell = td(steps, "" if deviation == DASH else f"seeds ±{deviation}")
        lines.append([row.arm, td(row.seeds), td(row.end), area_cell, steps_cell, td(f"{row.reached} of {row.seeds}")])
    header = ["Arm", "Seeds", "Steps", "Mean accuracy on the way (%)", "Steps to the target", "Seeds that reach it"]
    return [
        '<section id="efficiency">',
        "<h2>Sample efficiency</h2>",
        table_of(
            "sample-efficiency", f"Strict instruction accuracy on validation; target {aim}", header, [("", lines)]
        ),
        note(
            "Mean accuracy on the way is the area under the validation curve divided by its steps.",
            "Steps to the target are read off the line between evaluations, and missing unless every seed reaches it.",
        ),
        f"<p>The target: {escape(origin)}.</p>",
        "</section>",
    ]


def curves_table(curves: pd.DataFrame, name: str) -> str:
    """Mean accuracy over seeds of each arm at each step."""
    arms = list(curves["arm"].unique())
    lines = []
    for step, rows in curves.groupby("step", sort=True):
        cells = []
        for arm in arms:
            own = rows[rows["arm"] == arm]
            if own.empty:
                cells.append(td(DASH))
            else:
                mean, low, high = 100 * own[["instruction_strict", "low", "high"]].mean()
                cells.append(td(f"{mean:.1f}", f"{low:.1f} to {high:.1f}"))
        lines.append([str(step), *cells])
    caption = "Strict instruction accuracy on validation in percent, mean over seeds"
    return table_of(f"curves-{name}", caption, ["Steps", *arms], [("", lines)])


def figure_text(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def discriminator_section(discriminator: Mapping[str, Any] | None) -> list[str]:
    """How good the discriminator `full` is, over all and by kind of rubric."""
    lines = ['<section id="discriminator">', "<h2>The discriminator</h2>"]
    if not discriminator:
        return [*lines, "<p>There are no figures of a discriminator.</p>", "</section>"]
    sets = discriminator["sets"]
    seconds = discriminator.get("train_seconds")
    took = "" if seconds is None else f"Trained in {seconds / 60:.1f} minutes. "
    summary, kinds = [], []
    for name, found in sets.items():
        ends = (found.get("auprc_low"), found.get("auprc_high"))
        interval = "" if None in ends else f"{ends[0]:.2f} to {ends[1]:.2f}"
        baselines = [found["baselines"][baseline]["auprc"] for baseline in ("keyword", "random")]
        rest = [found[measure] for measure in ("f1", "precision", "recall", "ece", "base_rate")]
        summary.append(
            [
                name.replace("_", " "),
                td(found["pairs"]),
                td(found["tokens"]),
                td(figure_text(found["auprc"]), interval),
                *(td(figure_text(value)) for value in [*baselines, *rest]),
            ]
        )
        rows = [
            [
                kind,
                td(own["pairs"]),
                *(td(figure_text(own[m])) for m in ("auprc", "keyword_auprc", "random_auprc", "base_rate")),
            ]
            for kind, own in found["per_kind"].items()
        ]
        kinds.append((f"{name.replace('_', ' ')}: {len(rows)} kinds", rows))
    auprc = ["AUPRC", "AUPRC, keyword", "AUPRC, random"]
    header = ["Set", "Pairs", "Tokens", *auprc, "F1", "Precision", "Recall", "Calibration error", "Relevant tokens"]
    return [
        *lines,
        f"<p>{took}Tokens count as relevant from {discriminator['threshold']:.2f}.</p>",
        table_of("sets", "Unseen topics and kinds", header, [("", summary)]),
        table_of("kinds", "By kind of rubric", ["Kind", "Pairs", *auprc, "Relevant tokens"], kinds),
        note(
            "AUPRC is the area under the precision-recall curve over tokens.",
            "The baseline keyword marks words that the rubric’s text has too; random scores at random.",
            "Relevant tokens is their share.",
            "A dash stands where a figure is undefined, for want of a relevant token.",
        ),
        "</section>",
    ]
