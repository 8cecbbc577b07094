"""The report: one HTML file that needs neither network nor scripts, for a screen of any width and for paper."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rtt.errors import UserError
from rtt.report.tables import BASE, format_value
from rtt.tables import rows_of

QUESTION = (
    "Does a policy follow more instructions when each verdict is charged to the tokens its rubric is about, than when "
    "the same reward is given to the whole response?"
)
OPEN_QUESTION = "How do the arms compare in the share of instructions their answers follow?"
HOW_TO_READ = (
    "Points are differences of strict instruction accuracy on the same prompts.",
    "A difference counts where its interval, by bootstrap over prompts, excludes zero.",
    "The intervals are not corrected for their number.",
)
ONE_SEED = "There is one training seed: how far another would move these figures is not measured."
SEVERAL_SEEDS = "Training seeds are averaged; the intervals do not hold the spread between them."
COLUMNS = {
    "instruction_strict": "Instructions, strict (%)",
    "prompt_strict": "Prompts, strict (%)",
    "instruction_loose": "Instructions, loose (%)",
    "prompt_loose": "Prompts, loose (%)",
    "response_tokens": "Tokens a response",
    "truncated": "Cut short (%)",
}
DASH = "–"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing that is not in it."""
ROUNDING = 1e-9  # an interval that ends at zero does not exclude it, whatever the sum's last bit

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #5c5c5c; --line: #d4d4d4; --band: #f3f5f7;
  --accent: #0059a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a9afb6; --line: #3a3f45;
  --band: #20242a; --accent: #7cc0f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p, li { max-width: 44rem; }
.question { font-size: 1.1rem; color: var(--soft); margin-top: 0; }
.answer { border-left: .3rem solid var(--accent); background: var(--band); padding: .25rem 1rem; max-width: 46rem; }
.answer ul { margin: 0 0 1rem; padding-left: 1.2rem; }
.note, figcaption, small { color: var(--soft); }
.note, figcaption { font-size: .875rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--line); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
th[scope=row] { font-weight: 400; min-width: 8rem; }
th[scope=rowgroup] { background: var(--band); }
th[scope=rowgroup] span { position: sticky; left: .7rem; }
td { white-space: nowrap; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td small { display: block; }
figure { margin: 1.5rem 0; }
figure img { display: block; width: 32rem; max-width: 100%; height: auto; background: #fff; border-radius: .25rem; }
pre { overflow-x: auto; background: var(--band); padding: .75rem 1rem; font-size: .8125rem; line-height: 1.45; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 40rem) { h1 { font-size: 1.4rem; } th, td { padding: .3rem .45rem; }
  th[scope=row] { min-width: 5.5rem; } }
@media print { :root { --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --band: #f3f3f3; --accent: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } .scroll, pre { overflow: visible; }
  pre { white-space: pre-wrap; } table { font-size: 8pt; } th, td { padding: .2rem .35rem; }
  figure, tr, .answer { break-inside: avoid; } h2, caption { break-after: avoid; } figure img { width: 11cm; }
  details::details-content { display: block; content-visibility: visible; height: auto; } }
"""


def write_page(
    destination: Path,
    *,
    title: str,
    main: pd.DataFrame,
    paired: pd.DataFrame,
    curves: pd.DataFrame,
    discriminator: Mapping[str, Any] | None,
    figures: Sequence[Path],
    configuration: Mapping[str, Any],
    versions: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Writes the report beside `destination` and renames; the same input gives the same bytes.

    Args:
        destination: the HTML file.
        title: of the study.
        main: as rtt.report.tables.main_table returns it.
        paired: as rtt.report.tables.paired_table returns it; the answer is read from it.
        curves: as rtt.report.tables.curve_table returns it.
        discriminator: the figures of rtt.relevance.quality, or None where no arm uses a discriminator.
        figures: SVG files, embedded in this order.
        configuration: the resolved configuration; its ``arms`` say which pairs ask the question.
        versions: package or commit by name.
        notes: what was left out, one sentence each.

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
            *_answer_section(paired, main, configuration),
            *_main_section(main),
            *_paired_section(paired),
            *_figure_section(figures, main, curves, discriminator),
            *_discriminator_section(discriminator),
            *_notes_section(notes),
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
    """The rows of `paired` that ask the study's question: an arm with token-level credit against the same reward
    without, in that direction, whichever way the pair is listed. Empty where the configuration has no such pair."""
    settings = configuration.get("arms") or {}
    with_credit = {name: bool(arm.get("credit")) for name, arm in settings.items()}
    reward = {name: repr(sorted((k, v) for k, v in arm.items() if k != "credit")) for name, arm in settings.items()}
    rows = paired[paired["arm"].isin(reward) & paired["against"].isin(reward)]
    turned = rows["against"].map(with_credit).eq(True)
    asked = rows["arm"].map(with_credit).eq(True).ne(turned) & rows["arm"].map(reward).eq(rows["against"].map(reward))
    rows, turned = rows[asked].copy(), turned[asked]
    rows.loc[turned, ["arm", "against"]] = rows.loc[turned, ["against", "arm"]].to_numpy()
    rows.loc[turned, ["value", "low", "high"]] = -rows.loc[turned, ["value", "high", "low"]].to_numpy()
    return rows


def answers(rows: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Per pair of `rows` one plain sentence on strict instruction accuracy, and the difference on each benchmark.

    A difference counts as such where its interval excludes zero; else the sentence says that none is shown.
    """
    found = []
    rows = rows[rows["metric"] == "instruction_strict"]
    for (arm, against), pair in rows.groupby(["arm", "against"], sort=False):
        higher, lower = pair["low"] > ROUNDING, pair["high"] < -ROUNDING
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
            f"{row.benchmark}: {_points(row.value)} points, 95 % interval {_points(row.low)} to {_points(row.high)} "
            f"({_p(row.p)}, {row.n} prompts)"
            for row in rows_of(pair)
        ]
        found.append((f"{arm} {', and '.join(parts)}.", details))
    return found


def _p(value: Any) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _points(share: Any) -> str:
    """A signed difference in percentage points."""
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _answer_section(paired: pd.DataFrame, main: pd.DataFrame, configuration: Mapping[str, Any]) -> list[str]:
    asked = question_pairs(paired, configuration)
    rows = paired if asked.empty else asked
    lines = [
        f'<p class="question">{QUESTION if len(asked) else OPEN_QUESTION}</p>',
        '<section class="answer" aria-label="Answer">',
    ]
    for sentence, details in answers(rows):
        lines += [f"<p><strong>{escape(sentence)}</strong></p>", *_list(details)]
    if rows.empty:
        lines.append("<p>No pair of arms was compared, so these scores hold no answer.</p>")
    one_seed = main.loc[main["arm"] != BASE, "seeds"].min() == 1
    caveats = [*HOW_TO_READ, ONE_SEED if one_seed else SEVERAL_SEEDS] if len(rows) else []
    return [*lines, "</section>", _note(*caveats)]


def _note(*sentences: str) -> str:
    """A paragraph beside a table, of our own words only: nothing is escaped."""
    return f'<p class="note">{" ".join(sentences)}</p>'


def _list(items: Sequence[str]) -> list[str]:
    return ["<ul>", *(f"<li>{escape(item)}</li>" for item in items), "</ul>"]


def _breakable(name: str) -> str:
    """A name, escaped, that a narrow column may break after a colon or an underscore."""
    return re.sub(r"([:_])(?=\w)", r"\1<wbr>", escape(name))


def _table(
    name: str, caption: str, header: Sequence[str], groups: Iterable[tuple[str, Sequence[Sequence[str]]]]
) -> str:
    """A table in a box that scrolls sideways.

    Args:
        name: id of the caption, unique on the page.
        caption: plain text.
        header: plain text of the columns.
        groups: heading (plain text, may be empty) and rows; a row's first cell, plain text, becomes its heading; the
            others are ``td`` elements.
    """
    lines = [
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0">',
        "<table>",
        f'<caption id="{name}">{escape(caption)}</caption>',
        "<thead><tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header) + "</tr></thead>",
    ]
    for heading, rows in groups:
        lines.append("<tbody>")
        if heading:
            lines.append(f'<tr><th scope="rowgroup" colspan="{len(header)}"><span>{escape(heading)}</span></th></tr>')
        for first, *cells in rows:
            lines.append(f'<tr><th scope="row">{_breakable(first)}</th>{"".join(cells)}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>", "</div>"])


def _td(text: object, below: str = "", text_column: bool = False) -> str:
    small = f"<small>{escape(below)}</small>" if below else ""
    return f"<td{' class=text' if text_column else ''}>{escape(str(text))}{small}</td>"


def _main_section(main: pd.DataFrame) -> list[str]:
    groups = []
    for benchmark in main["benchmark"].unique():
        rows = main[main["benchmark"] == benchmark]
        lines = []
        for arm in rows["arm"].unique():
            own = rows[rows["arm"] == arm].set_index("metric")
            cells = [_td(own["seeds"].iloc[0]), _td(own["step"].iloc[0])]
            for metric in COLUMNS:
                if metric in own.index:
                    value, low, high = (format_value(metric, own.loc[metric, end]) for end in ("value", "low", "high"))
                    cells.append(_td(value, f"{low} to {high}"))
                else:
                    cells.append(_td(DASH))
            lines.append([arm, *cells])
        prompts, instructions = (
            "–".join(str(count) for count in sorted(set(rows[column]))) for column in ("n_prompts", "n_instructions")
        )
        groups.append((f"{benchmark}: {prompts} prompts, {instructions} instructions", lines))
    return [
        "<section>",
        "<h2>Accuracy after training</h2>",
        _table(
            "accuracy",
            "Every arm at its last step, greedy answers",
            ["Arm", "Seeds", "Steps", *COLUMNS.values()],
            groups,
        ),
        _note(
            "Below each figure stands its 95 % interval, by bootstrap over prompts.",
            "Instruction accuracy averages over instructions; prompt accuracy asks for all instructions of a prompt.",
            "Loose scoring forgives wrappings around the answer.",
            "Where all prompts have the same result the interval has no width, which is no certainty.",
        ),
        "</section>",
    ]


def _paired_section(paired: pd.DataFrame) -> list[str]:
    if paired.empty:
        return []
    metrics = list(paired["metric"].unique())
    groups = []
    for (arm, against), pair in paired.groupby(["arm", "against"], sort=False):
        lines = []
        for benchmark, rows in pair.groupby("benchmark", sort=False):
            found = {row.metric: row for row in rows_of(rows)}
            cells = []
            for metric in metrics:
                row = found.get(metric)
                cells += [_td(DASH), _td(DASH)] if row is None else _difference(row)
            lines.append([str(benchmark), *cells, _td(rows["n"].iloc[0])])
        groups.append((f"{arm} − {against}", lines))
    header = ["Benchmark"]
    for metric in metrics:
        header += [COLUMNS[metric].replace("(%)", "(points)"), "p"]
    return [
        "<section>",
        "<h2>Differences on the same prompts</h2>",
        _table("differences", "First arm minus second", [*header, "Prompts"], groups),
        _note(
            "* The 95 % interval excludes zero.",
            "p is two-sided, by flipping the sign of each prompt’s difference.",
            "Neither is corrected for the number of comparisons.",
        ),
        "</section>",
    ]


def _difference(row: Any) -> list[str]:
    star = " *" if row.low > ROUNDING or row.high < -ROUNDING else ""
    return [
        _td(_points(row.value) + star, f"{_points(row.low)} to {_points(row.high)}"),
        _td(_p(row.p).removeprefix("p = ").removeprefix("p ")),
    ]


def _figure_section(
    figures: Sequence[Path], main: pd.DataFrame, curves: pd.DataFrame, discriminator: Mapping[str, Any] | None
) -> list[str]:
    lines = ["<section>", "<h2>Figures</h2>"]
    for path in figures:
        try:
            data = base64.b64encode(path.read_bytes()).decode()
        except OSError as error:
            raise UserError(f"the figure cannot be read: {error}", where=path, todo="draw it first") from None
        caption, alternative = _described(path.stem, main, curves, discriminator)
        # as an image and not as elements: ids of several figures cannot meet, and no script inside one can run
        lines += [
            "<figure>",
            f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alternative)}">',
            f"<figcaption>{escape(caption)}</figcaption>",
            "</figure>",
        ]
    if len(curves):
        lines += ["<details>", "<summary>Learning curves as a table</summary>", _curves_table(curves), "</details>"]
    return [*lines, "</section>"] if len(lines) > 2 else []


def _described(
    stem: str, main: pd.DataFrame, curves: pd.DataFrame, discriminator: Mapping[str, Any] | None
) -> tuple[str, str]:
    """Caption and alternative text of a figure, by its file's name."""
    if stem == "learning_curves":
        ends = []
        for arm, rows in curves.groupby("arm", sort=False):
            mean = rows.groupby("step")["instruction_strict"].mean()
            steps = (mean.index[0], mean.index[-1])
            ends.append(
                f"{arm} goes from {mean.iloc[0]:.1%} at step {steps[0]} to {mean.iloc[-1]:.1%} at step {steps[1]}"
            )
        return (
            "Strict instruction accuracy on validation over training; every arm starts as the base.",
            "Line chart of validation instruction accuracy over optimiser steps: " + "; ".join(ends) + ".",
        )
    if stem == "comparison":
        rows = main[main["metric"] == "instruction_strict"]
        bars = [f"{row.benchmark}, {row.arm} {row.value:.1%}" for row in rows_of(rows)]
        return (
            "Strict instruction accuracy after training, by benchmark.",
            "Bar chart of instruction accuracy: " + "; ".join(bars) + ".",
        )
    if stem == "discriminator" and discriminator:
        sets = [
            f"{name.replace('_', ' ')}, {len(found['per_kind'])} kinds, {_figure(found['auprc'])} over all"
            for name, found in discriminator["sets"].items()
        ]
        return (
            "How well the discriminator finds the tokens a rubric is about, by kind of rubric, beside two baselines.",
            "Dot plot of the discriminator’s area under the precision-recall curve: " + "; ".join(sets) + ". The table "
            "of kinds holds the figures.",
        )
    name = stem.replace("_", " ")
    return f"{name.capitalize()}.", f"Figure: {name}."


def _curves_table(curves: pd.DataFrame) -> str:
    arms = list(curves["arm"].unique())
    lines = []
    for step, rows in curves.groupby("step", sort=True):
        cells = []
        for arm in arms:
            own = rows[rows["arm"] == arm]
            if own.empty:
                cells.append(_td(DASH))
            else:
                mean, low, high = 100 * own[["instruction_strict", "low", "high"]].mean()
                cells.append(_td(f"{mean:.1f}", f"{low:.1f} to {high:.1f}"))
        lines.append([str(step), *cells])
    caption = "Strict instruction accuracy on validation in percent, mean over seeds"
    return _table("curves", caption, ["Steps", *arms], [("", lines)])


def _figure(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _discriminator_section(discriminator: Mapping[str, Any] | None) -> list[str]:
    lines = ["<section>", "<h2>The discriminator</h2>"]
    if not discriminator:
        return [*lines, "<p>No arm takes its relevance from a discriminator.</p>", "</section>"]
    sets = discriminator["sets"]
    minutes = discriminator["train_seconds"] / 60
    summary, kinds = [], []
    for name, found in sets.items():
        ends = (found.get("auprc_low"), found.get("auprc_high"))
        interval = "" if None in ends else f"{ends[0]:.2f} to {ends[1]:.2f}"
        baselines = [found["baselines"][baseline]["auprc"] for baseline in ("keyword", "random")]
        rest = [found[measure] for measure in ("f1", "precision", "recall", "ece", "base_rate")]
        summary.append(
            [
                name.replace("_", " "),
                _td(found["pairs"]),
                _td(found["tokens"]),
                _td(_figure(found["auprc"]), interval),
                *(_td(_figure(value)) for value in [*baselines, *rest]),
            ]
        )
        rows = [
            [
                kind,
                _td(own["pairs"]),
                *(_td(_figure(own[m])) for m in ("auprc", "keyword_auprc", "random_auprc", "base_rate")),
            ]
            for kind, own in found["per_kind"].items()
        ]
        kinds.append((f"{name.replace('_', ' ')}: {len(rows)} kinds", rows))
    auprc = ["AUPRC", "AUPRC, keyword", "AUPRC, random"]
    header = ["Set", "Pairs", "Tokens", *auprc, "F1", "Precision", "Recall", "Calibration error", "Relevant tokens"]
    return [
        *lines,
        f"<p>Trained in {minutes:.1f} minutes. Tokens count as relevant from {discriminator['threshold']:.2f}.</p>",
        _table("sets", "Unseen topics and kinds", header, [("", summary)]),
        _table("kinds", "By kind of rubric", ["Kind", "Pairs", *auprc, "Relevant tokens"], kinds),
        _note(
            "AUPRC is the area under the precision-recall curve over tokens.",
            "The baseline keyword marks words that the rubric’s text has too; random scores at random.",
            "Relevant tokens is their share.",
            "A dash stands where a figure is undefined, for want of a relevant token.",
        ),
        "</section>",
    ]


def _notes_section(notes: Sequence[str]) -> list[str]:
    listed = _list(notes) if notes else ["<p>Nothing.</p>"]
    return ["<section>", "<h2>What was left out</h2>", *listed, "</section>"]


def _origin_section(configuration: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    plain = json.loads(json.dumps(configuration, default=str))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    rows = [[str(name), _td(version, text_column=True)] for name, version in versions.items()]
    return [
        "<section>",
        "<h2>How it was made</h2>",
        "<p>Every run, with its curves, parameters and files, is in MLflow: <code>make ui</code> opens it.</p>",
        "<details>",
        "<summary>Configuration</summary>",
        f'<pre tabindex="0"><code>{escape(text)}</code></pre>',
        "</details>",
        _table("versions", "Versions", ["Name", "Version"], [("", rows)]),
        "</section>",
    ]
