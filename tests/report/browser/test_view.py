"""The token view, opened from disk in a real browser."""

from __future__ import annotations

import pytest

from rtt.cli import main


@pytest.fixture
def view(results, open_page):
    """Opens the view of both rounds."""
    path = results / "view.html"
    main(["view", str(results / "policies"), "--output", str(path)])
    return lambda **size: open_page(path.as_uri(), **size)


def text(page, selector):
    return page.locator(selector).first.text_content()


def colours(page):
    """Background of each token of the first response."""
    return page.eval_on_selector_all(
        "article:first-of-type .token", "tokens => tokens.map(token => token.style.backgroundColor)"
    )


def test_it_opens_on_the_first_group_and_counts_them_all(view):
    page = view()
    assert text(page, "#count") == "4 of 4 groups"
    assert text(page, "main h2") == "rtt_csr seed 0, round 1, step 2"
    assert page.locator("article").count() == 4
    assert page.locator("article").first.locator(".verdict").all_text_contents() == ["1 broken", "2 broken"]


def test_the_colour_follows_quantity_and_rubric(view):
    page = view()
    page.keyboard.press("1")
    first, second, *_ = colours(page)
    assert first == "rgb(169, 134, 218)"  # 0.9 of the way from white to (159, 120, 214)
    assert second == "rgb(245, 242, 251)"  # a tenth
    page.keyboard.press("2")
    assert colours(page)[0] == ""  # relevance 0 has no colour
    page.check("input[value=token_level]")
    first, second, *_ = colours(page)
    assert first == "rgb(74, 148, 219)"  # 0.75, the largest there is
    assert second == "rgb(250, 216, 182)"  # -0.25, a third of the way to orange
    page.check("input[value=response_level]")
    assert set(colours(page)) == {"rgb(240, 138, 36)"}  # -0.5 throughout


def test_the_numbers_stand_beside_a_token_pointed_at(view):
    page = view()
    page.locator("article .token").first.hover()
    rows = page.locator("#tip dt").all_text_contents(), page.locator("#tip dd").all_text_contents()
    assert dict(zip(*rows, strict=True)) == {
        "relevance to 1": "0.900",
        "relevance to 2": "0.000",
        "response-level": "−0.500",
        "token-level": "0.750",
        "combined": "0.250",
    }


def test_rule_labels_are_underlined_to_the_character(view):
    page = view()
    page.keyboard.press("1")
    assert page.locator("article:first-of-type .marked").all_text_contents() == [","]
    page.keyboard.press("2")
    assert page.locator("article:first-of-type .marked").all_text_contents() == ["sorry"]
    assert page.locator("article").first.locator(".response").text_content() == "I am sorry, really number 0\nand done"


def test_filters_hide_what_does_not_match(view):
    page = view()
    page.select_option("select[name=verdict]", "missing")
    assert text(page, "#count") == "2 of 4 groups"
    assert page.locator("article").count() == 2  # two of four got no verdict
    page.select_option("select[name=round]", "2")
    assert text(page, "#count") == "1 of 4 groups"
    assert text(page, "main h2") == "rtt_csr seed 0, round 2, step 4"
    page.select_option("select[name=kind]", "keywords:existence")
    assert text(page, "#count") == "0 of 4 groups: nothing matches"
    page.select_option("select[name=verdict]", "broken")
    assert page.locator("article").count() == 1
    assert page.locator("main input[name=rubric]:checked").get_attribute("value") == "1"  # the rubric of that kind


def test_the_keyboard_moves_and_stays_out_of_lists(view):
    page = view()
    page.keyboard.press("ArrowRight")
    assert page.locator("[aria-current=true]").get_attribute("data-position") == "1"
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")  # there is none before the first
    assert page.locator("[aria-current=true]").get_attribute("data-position") == "0"
    page.keyboard.press("c")
    assert page.locator("input[name=quantity]:checked").get_attribute("value") == "response_level"
    page.focus("select[name=round]")
    page.keyboard.press("ArrowRight")
    assert page.locator("[aria-current=true]").get_attribute("data-position") == "0"


def test_hostile_text_shows_as_text(view):
    page = view()
    page.keyboard.press("ArrowRight")
    assert page.title() == "Where credit goes"
    assert page.locator("main img, main script, main a").count() == 0
    for place in (".prompt", "article .response"):
        shown = text(page, place)
        assert "</script><script>document.title = 'owned'</script><img src=x onerror=" in shown
        assert "⟨U+202E⟩ltr⟨U+202C⟩ ⟨U+0000⟩⟨U+001B⟩[31m &lt;b&gt; 😀 'quoted' ${1+1} {{1+1}}" in shown
    assert "Stay friendly <b>always</b>." in text(page, "main fieldset")
    # 😀 is one character of two units: the tokens after it would be off by one
    assert page.locator("article:first-of-type .token").all_text_contents()[-2:] == ["${1+1} ", "{{1+1}}"]


@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_to_fault_for_those_who_cannot_see_or_point(view, accessible, width):
    page = view(width=width, height=800)
    for value in ("relevance", "combined"):
        page.check(f"input[value={value}]")
        accessible(page)


def test_it_fits_a_phone(view):
    page = view(width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_looks_as_before(view, looks_as_before):
    page = view()
    page.check("input[value=combined]")
    looks_as_before(page, "view")
