"""The report page, opened from disk in a real browser."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def page(write, discriminators, open_page):
    """Opens a report whose discriminator has examples, one of them hostile."""
    hostile = "</p><script>document.title='owned'</script>\u202e"
    example = {
        "criterion": "Use no commas.",
        "response": f"a, b {hostile}",
        "verdict": -1.0,
        "labels": [[1, 2]],
        "tokens": [[0, 2], [2, 4]],
        "relevance": [1.0, 0.1],
        "auprc": 0.5,
    }
    quality = json.loads(discriminators["full"].read_text())
    quality["sets"]["unseen_topics"]["per_kind"]["keywords:existence"]["examples"] = {"best": example, "worst": example}
    discriminators["full"].write_text(json.dumps(quality))
    path = write() / "report" / "index.html"
    return lambda **size: open_page(path.as_uri(), ready="main", **size)


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_to_fault(page, accessible, width, scheme):
    shown = page(width=width, height=900)
    shown.emulate_media(color_scheme=scheme)
    for details in shown.locator("details").all():
        details.evaluate("box => box.open = true")
    accessible(shown)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.title() == "Rubrics to Tokens"


def test_it_prints_what_is_folded_away(page):
    shown = page()
    shown.emulate_media(media="print")
    assert shown.locator("pre code").is_visible()
    assert shown.locator(".tokens").first.is_visible()
