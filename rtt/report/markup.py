"""Pieces of HTML the report page is put together from; whatever is not our own words is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing that is not in it."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #5c5c5c; --line: #d4d4d4; --band: #f3f5f7;
  --accent: #0059a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a9afb6; --line: #3a3f45;
  --band: #20242a; --accent: #7cc0f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
a { color: var(--accent); }
nav ul { padding-left: 1.2rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; }
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
.tokens { background: #fff; color: #1b1b1b; padding: .4rem .7rem; white-space: pre-wrap; line-height: 1.75;
  unicode-bidi: isolate; }
.tokens u { text-decoration-thickness: 2px; text-underline-offset: 3px; }
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


def note(*sentences: str) -> str:
    """A paragraph beside a table, of our own words only: nothing is escaped."""
    return f'<p class="note">{" ".join(sentences)}</p>'


def bullets(items: Sequence[str]) -> list[str]:
    return ["<ul>", *(f"<li>{escape(item)}</li>" for item in items), "</ul>"]


def breakable(name: str) -> str:
    """A name, escaped, that a narrow column may break after a colon or an underscore."""
    return re.sub(r"([:_])(?=\w)", r"\1<wbr>", escape(name))


def table_of(
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
        f'<div class="scroll" role="group" aria-labelledby="{name}" tabindex="0">',
        "<table>",
        f'<caption id="{name}">{escape(caption)}</caption>',
        "<thead><tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header) + "</tr></thead>",
    ]
    for heading, rows in groups:
        lines.append("<tbody>")
        if heading:
            lines.append(f'<tr><th scope="rowgroup" colspan="{len(header)}"><span>{escape(heading)}</span></th></tr>')
        for first, *cells in rows:
            lines.append(f'<tr><th scope="row">{breakable(first)}</th>{"".join(cells)}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>", "</div>"])


def td(text: object, below: str = "", text_column: bool = False) -> str:
    small = f"<small>{escape(below)}</small>" if below else ""
    return f"<td{' class=text' if text_column else ''}>{escape(str(text))}{small}</td>"
