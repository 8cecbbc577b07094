"""A table of arms for people: Markdown, LaTeX and plain text, all from the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rtt.tables import rows_of

HEADLINES = ("instruction_strict", "prompt_strict")
DASH = "–"
AUPRC = "discriminator_auprc"


@dataclass(frozen=True)
class Layout:
    """What a table of arms shows, also where there are no scores.

    Attributes:
        name: of the table; its label in LaTeX.
        arms: rows, in order.
        benchmarks: columns, in order.
        caption: plain text under or over the table; says seeds and draws.
        notes: one sentence each, without a full stop, on what is missing.
        sources: the same on figures reported by others.
        auprc: whether the table has the column of the discriminator's AUPRC.
    """

    name: str
    arms: Sequence[str]
    benchmarks: Sequence[str]
    caption: str
    notes: Sequence[str] = ()
    sources: Sequence[str] = ()
    auprc: bool = False


def format_value(metric: str, value: float) -> str:
    """One digit after the point: shares in percent, tokens as they are."""
    return f"{value if metric == 'response_tokens' else 100 * value:.1f}"


def format_row(row: pd.Series) -> str:
    """``value [low, high]`` of a row of :func:`rtt.report.tables.main_table`."""
    value, low, high = (format_value(row["metric"], row[end]) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def span(counts: pd.Series) -> str:
    """A count, a range where it differs, a dash where there is none."""
    if counts.empty:
        return DASH
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low}–{high}"


def asked(rows: pd.DataFrame) -> str:
    """``greedy/1, at most 96 tokens; judged by if-verifiable 0.1.2`` for the rows of one benchmark."""
    if rows.empty:
        return DASH
    one = rows.iloc[0]
    budget = f", at most {one['budget']} tokens" if one["budget"] else ""
    judges = sorted({judge for text in rows["judge"].unique() for judge in text.split(", ")})
    return f"{one['protocol']}{budget}; judged by {', '.join(judges)}"


def counted(rows: pd.DataFrame, metric: str) -> str:
    """``n = 64`` for the units a metric averages over."""
    own = rows[rows["metric"] == metric]
    return f"n = {span(own['n_instructions' if metric.startswith('instruction') else 'n_prompts'])}"


def cell(rows: pd.DataFrame, arm: str, metric: str, interval: bool = True) -> str:
    """One figure of one benchmark's rows; a dash, never 0, where the arm has none."""
    found = rows[(rows["arm"] == arm) & (rows["metric"] == metric)]
    if found.empty:
        return DASH
    return format_row(found.iloc[0]) if interval else format_value(metric, found["value"].iloc[0])


def paper_cell(rows: pd.DataFrame, arm: str, metric: str) -> str:
    """The figure reported by others, in percent; a dash where none is known."""
    found = rows.loc[(rows["arm"] == arm) & (rows["metric"] == metric), "paper_value"].dropna()
    return DASH if found.empty else f"{100 * found.iloc[0]:.2f}"


def seeds_cell(table: pd.DataFrame, arm: str) -> str:
    return span(table.loc[table["arm"] == arm, "seeds"])


def auprc_cell(table: pd.DataFrame, arm: str) -> str:
    found = table.loc[table["arm"] == arm, AUPRC].dropna()
    return DASH if found.empty else f"{found.iloc[0]:.2f}"


def has_paper(rows: pd.DataFrame, metric: str) -> bool:
    return bool(rows.loc[rows["metric"] == metric, "paper_value"].notna().any())


def _columns(table: pd.DataFrame, layout: Layout, metrics: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Heading, what it counts and the cells by arm of each column after the arms' names."""
    columns = [("seeds", "", [seeds_cell(table, arm) for arm in layout.arms])]
    if layout.auprc:
        columns.append(("discriminator AUPRC", "unseen topics", [auprc_cell(table, arm) for arm in layout.arms]))
    for benchmark in layout.benchmarks:
        rows = table[table["benchmark"] == benchmark]
        for metric in metrics:
            heading = f"{benchmark}, {metric.replace('_', ' ')}"
            columns.append((heading, counted(rows, metric), [cell(rows, arm, metric) for arm in layout.arms]))
        columns += _paper_columns(rows, layout, benchmark, metrics)
    return columns


def _paper_columns(
    rows: pd.DataFrame, layout: Layout, benchmark: str, metrics: Sequence[str]
) -> list[tuple[str, str, list[str]]]:
    """One column of reported figures for a benchmark, or one a metric where they differ by metric."""
    found = {metric: [paper_cell(rows, arm, metric) for arm in layout.arms] for metric in metrics}
    known = {metric: cells for metric, cells in found.items() if set(cells) != {DASH}}
    if len(known) == len(metrics) and len(set(map(tuple, known.values()))) == 1:
        return [(benchmark, "paper", next(iter(known.values())))]
    return [(benchmark, f"paper, {metric.replace('_', ' ')}", cells) for metric, cells in known.items()]


def reference_notes(table: pd.DataFrame, note: str) -> list[str]:
    """Where the column "paper" comes from, and why it is no comparison; nothing without such figures."""
    known = table.dropna(subset=["paper_value"]).drop_duplicates(["benchmark", "arm", "paper_source"])
    lines = [
        f"paper, {row.benchmark}, {row.arm}: {100 * row.paper_value:.2f} ({row.paper_source})" for row in rows_of(known)
    ]
    return [*lines, note.strip().removesuffix(".")] if lines else []


def to_markdown(table: pd.DataFrame, layout: Layout, metrics: Sequence[str] = HEADLINES) -> str:
    """One row per arm, one column per benchmark and metric, in percent; notes below.

    Args:
        table: as rtt.report.tables.arms_table returns it.
        layout: which rows and columns.
        metrics: which of METRICS get a column.
    """
    columns = _columns(table, layout, metrics)
    header = ["arm", *(f"{heading} ({below})" if below else heading for heading, below, _ in columns)]
    lines = [header, ["---", *["---:"] * len(columns)]]
    lines += [[arm, *(cells[place] for *_, cells in columns)] for place, arm in enumerate(layout.arms)]
    body = ["| " + " | ".join(_markdown(text) for text in line) + " |" for line in lines]
    notes = [*protocol_notes(table, layout), *layout.notes, *layout.sources]
    return "\n".join([layout.caption, "", *body, *(f"\n{note}." for note in notes)]) + "\n"


def protocol_notes(table: pd.DataFrame, layout: Layout) -> list[str]:
    """How the answers on each benchmark were asked for, and which shares of them are cut short or empty."""
    notes = []
    for benchmark in layout.benchmarks:
        rows = table[(table["benchmark"] == benchmark) & table["arm"].isin(layout.arms)]
        if len(rows):
            shares = [
                f"{span((100 * own).round(1))} % {name}"
                for metric, name in (("truncated", "cut short"), ("empty", "empty"))
                if len(own := rows.loc[rows["metric"] == metric, "value"])
            ]
            notes.append(f"{benchmark}: {'; '.join([asked(rows), *shares])}")
    return notes


def _markdown(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "→": r"$\to$",
    "−": "$-$",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
}


def escape_latex(text: str) -> str:
    """Text LaTeX prints as it is; a sign its standard fonts lack becomes a question mark and does not stop it."""
    known = {sign: _LATEX.get(sign, sign if " " <= sign < "\u0180" else "?") for sign in set(text)}
    return "".join(known[sign] for sign in " ".join(text.split()))


def to_latex(table: pd.DataFrame, layout: Layout, metrics: Sequence[str] = HEADLINES) -> str:
    """One ``table`` per metric, for a document with the package booktabs; one row per arm, a column per benchmark.

    The first has the label ``tab:<name>``, a further one ``tab:<name>-<metric>``. Arguments as :func:`to_markdown`.
    """
    return "\n".join(_latex_table(table, layout, metric, metric == metrics[0]) for metric in metrics)


def _latex_table(table: pd.DataFrame, layout: Layout, metric: str, first: bool) -> str:
    columns = _columns(table, layout, [metric])
    named = metric.replace("_", " ")
    heads = [escape_latex(heading.removesuffix(f", {named}")) for heading, *_ in columns]
    belows = [escape_latex(below.removesuffix(f", {named}")) for _, below, _ in columns]
    listed = [*protocol_notes(table, layout), *layout.notes, *layout.sources]
    notes = " ".join(f"{escape_latex(note)}." for note in listed)
    label = f"tab:{layout.name}" if first else f"tab:{layout.name}-{metric.replace('_', '-')}"
    body = [
        " & ".join([escape_latex(arm), *(_latex_cell(cells[place]) for *_, cells in columns)]) + r" \\"
        for place, arm in enumerate(layout.arms)
    ]
    return "\n".join(
        [
            r"\begin{table}[tbp]",
            r"  \centering",
            rf"  \caption{{{escape_latex(named.capitalize())}. {escape_latex(layout.caption)}}}",
            rf"  \label{{{label}}}",
            r"  \scriptsize",
            r"  \setlength{\tabcolsep}{3pt}",
            rf"  \begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"    \toprule",
            "    " + " & ".join(["arm", *heads]) + r" \\",
            "    " + " & ".join(["", *belows]) + r" \\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            *([rf"  \par\smallskip\parbox{{\linewidth}}{{{notes}}}"] if notes else []),
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(text: str) -> str:
    """The interval smaller than its value, so that four benchmarks fit between the margins."""
    value, bracket, ends = text.partition(" [")
    return f"{escape_latex(value)} {{\\tiny [{ends}}}" if bracket else escape_latex(value)


def to_text(table: pd.DataFrame, layout: Layout) -> str:
    """For the terminal: a block per benchmark, a line per arm, accuracies in percent, notes below."""
    blocks = []
    for benchmark in layout.benchmarks:
        rows = table[table["benchmark"] == benchmark]
        lines = [
            ["arm", "seeds", "step", "instruction strict, %", "prompt strict, %", "tokens", "cut short, %", "empty, %"]
        ]
        for arm in layout.arms:
            own = rows[rows["arm"] == arm]
            accuracy = [cell(rows, arm, metric) for metric in HEADLINES]
            plain = [cell(rows, arm, metric, interval=False) for metric in ("response_tokens", "truncated", "empty")]
            lines.append([arm, span(own["seeds"]), span(own["step"]), *accuracy, *plain])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        counts = f"{span(rows['n_prompts'])} prompts, {span(rows['n_instructions'])} instructions"
        blocks.append(f"{benchmark} ({counts}; {asked(rows)})")
        for name, *numbers in lines:
            padded = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
            blocks.append("  ".join(["", name.ljust(widths[0]), *padded]))
        blocks.append("")
    return "\n".join([*blocks[:-1], *(f"\n{note}." for note in layout.notes)]) + "\n"


def difference_text(paired: pd.DataFrame, pair: tuple[str, str], table: str) -> str:
    """The pair's differences in points, a line per benchmark and metric; empty where the pair was not compared."""
    rows = paired[(paired["table"] == table) & (paired["arm"] == pair[0]) & (paired["against"] == pair[1])]
    if rows.empty:
        return ""
    lines = [f"{pair[0]} minus {pair[1]}, points [95 % interval], p after Holm's correction"]
    for row in rows_of(rows):
        ends = ", ".join(f"{100 * end:+.1f}" for end in (row.low, row.high))
        name = f"{row.benchmark}, {row.metric.replace('_', ' ')}"
        of = f"{row.seeds} seed{'s' * (row.seeds > 1)}, {row.n} prompts"
        lines.append(f"  {name}: {100 * row.value:+.1f} [{ends}], {p_text(row.p_holm)} ({of})")
    return "\n".join(lines) + "\n"


def p_text(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
