"""Where a quoted piece of a response stands in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

Span = tuple[int, int]

_ALIKE = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‐‑‒–—−", "-"),
        "…": "...",
    }
)
"""Typographic variants a model may write for one another. Letter case is never folded: rubrics are about it."""

_WRAPPING = "\"'“”‘’«»…."
"""What a model may put around a quote, or at its ends for what it left out."""


def locate(quote: str, response: str) -> tuple[list[Span], bool]:
    """All places of a quote, as [start, end) characters of the response, sorted and disjoint; and whether verbatim.

    A quote that does not stand there as it is, is looked for again by rule: other forms of the same characters (Unicode
    NFKC, quotation marks, dashes, the ellipsis), runs of whitespace as one space; then without the quotation marks and
    dots around it. Nothing else is guessed, and an unlocated quote has no place.
    """
    if not quote.strip():
        return [], False
    places = _all(quote, response)
    if places:
        return places, True
    plain, origin = _plain(response)
    for wanted in dict.fromkeys((_plain(quote)[0].strip(), _plain(quote.strip().strip(_WRAPPING))[0].strip())):
        if wanted:
            found = [(origin[start][0], origin[end - 1][1]) for start, end in _all(wanted, plain)]
            if found:
                return merged(found), False
    return [], False


def _all(part: str, text: str) -> list[Span]:
    """Every place of `part`, also where it overlaps itself, merged."""
    return merged((m.start(), m.start() + len(part)) for m in re.finditer(f"(?={re.escape(part)})", text))


def _plain(text: str) -> tuple[str, list[Span]]:
    """`text` in one form of its characters, and for each of them the span it comes from."""
    letters: list[str] = []
    origin: list[Span] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and unicodedata.combining(text[end]):  # a letter with its accents is one
            end += 1
        form = unicodedata.normalize("NFKC", text[start:end]).translate(_ALIKE)
        if form.isspace():
            if letters and letters[-1] == " ":
                origin[-1] = (origin[-1][0], end)
            else:
                letters.append(" ")
                origin.append((start, end))
        else:
            letters += form
            origin += [(start, end)] * len(form)
        start = end
    return "".join(letters), origin


def merged(spans: Iterable[Span]) -> list[Span]:
    """Sorted; overlapping and touching spans made one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def voted(samples: Sequence[Sequence[Span]], votes: int) -> list[Span]:
    """The characters that at least `votes` of the samples cover.

    Args:
        samples: spans of each sample, disjoint within it.
        votes: at least 1.
    """
    steps = sorted(
        (place, change) for spans in samples for start, end in spans for place, change in ((start, 1), (end, -1))
    )
    found: list[Span] = []
    height, begun = 0, None
    for place, change in steps:
        before, height = height, height + change
        if before < votes <= height:
            begun = place
        elif height < votes <= before and begun is not None and begun < place:
            found.append((begun, place))
    return merged(found)
