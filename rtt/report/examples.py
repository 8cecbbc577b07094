"""Responses as the discriminator saw them, in the report page: what it does best and worst, by kind of rubric."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rtt.report.markup import note
from rtt.report.render import DASH

RELEVANT = (159, 120, 214)
"""The colour of relevance 1; white is 0. Black text is readable on both."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Text, escaped, with characters that could hide or reorder what stands around them shown by number."""
    return escape(_HIDDEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text))


def examples_section(quality: Mapping[str, Any]) -> list[str]:
    """For each kind the pair the discriminator did best and worst on; nothing where none are recorded."""
    lines: list[str] = []
    for name, found in quality["sets"].items():
        for kind, own in found["per_kind"].items():
            shown = own.get("examples") or {}
            if not shown:
                continue
            lines += ["<details>", f"<summary>{escape(str(kind))}, {escape(name.replace('_', ' '))}</summary>"]
            for which in ("best", "worst"):
                lines += _example(which, shown[which])
            lines.append("</details>")
    if not lines:
        return []
    return [
        '<h3 id="examples">Its best and its worst, by kind</h3>',
        note(
            "Darker tokens are more relevant to the rubric, says the discriminator; underlined is what the labels say.",
            "Best and worst are meant by the area under the precision-recall curve of the one response.",
        ),
        *lines,
    ]


def _example(which: str, example: Mapping[str, Any]) -> list[str]:
    area = DASH if example["auprc"] is None else f"{example['auprc']:.2f}"
    kept = "kept" if example["verdict"] > 0 else "broken"
    return [
        f"<p><strong>{which.capitalize()}</strong>, AUPRC {area}: {visible(example['criterion'])} ({kept})</p>",
        f'<p class="tokens" dir="auto">{_tokens(example)}</p>',
    ]


def _tokens(example: Mapping[str, Any]) -> str:
    """The response, each token in the colour of its relevance, labelled characters underlined."""
    response, parts, place = example["response"], [], 0
    for (start, end), relevance in zip(example["tokens"], example["relevance"], strict=True):
        start = max(start, place)  # tokens that share a character each have it whole
        if end <= start:
            continue
        parts.append(visible(response[place:start]))
        inside = "".join(
            f"<u>{visible(response[a:b])}</u>" if marked else visible(response[a:b])
            for a, b, marked in _cut(start, end, example["labels"])
        )
        parts.append(f'<span style="background:{_colour(relevance)}">{inside}</span>')
        place = end
    return "".join([*parts, visible(response[place:])])


def _cut(start: int, end: int, labels: Sequence[Sequence[int]]) -> list[tuple[int, int, bool]]:
    """[start, end) in pieces that lie in one of the sorted, disjoint labels or in none."""
    pieces, place = [], start
    for low, high in labels:
        low, high = max(low, place), min(high, end)
        if low >= high:
            continue
        if low > place:
            pieces.append((place, low, False))
        pieces.append((low, high, True))
        place = high
    return [*pieces, (place, end, False)] if place < end else pieces


def _colour(relevance: float) -> str:
    red, green, blue = (round(255 + (full - 255) * min(1.0, max(0.0, relevance))) for full in RELEVANT)
    return f"#{red:02x}{green:02x}{blue:02x}"
