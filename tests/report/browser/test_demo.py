"""The demo's page in a real browser, served by a real server with a tiny policy."""

from __future__ import annotations

import pytest


@pytest.fixture
def address(demo_server):
    return f"http://127.0.0.1:{demo_server.server_address[1]}/"


def ask(page):
    page.fill("#tokens", "12")
    page.click("#ask")
    page.wait_for_selector("#ask:enabled")


def test_both_answer_side_by_side(open_page, address, accessible):
    page = open_page(address)
    page.click("#add")
    page.fill("#rubrics li:nth-child(3) input.text", "Stay <b>friendly</b>.")
    accessible(page)
    ask(page)
    assert page.locator("article h2").all_text_contents() == ["base (cut short)", "trained (cut short)"]
    first = page.locator("article").first.locator("li").all_text_contents()
    assert [text.split()[0] for text in first] == ["1", "2", "3"]
    assert first[2] == "3 missing: no language model is configured to judge it"
    texts = page.locator("article .response").all_text_contents()
    assert texts[0] == texts[1]  # the same weights
    page.select_option("#rubric", "2")
    assert page.locator("#rubric option:checked").text_content() == "3. Stay <b>friendly</b>."
    accessible(page)


def test_a_mistake_is_told_where_it_is_made(open_page, address):
    page = open_page(address)
    page.fill("#rubrics li:nth-child(2) .arguments", "{")
    ask(page)
    assert page.locator("#status").text_content() == "the arguments of rubric 2 are no JSON"
    assert page.locator("#status").get_attribute("class") == "error"


def test_rubrics_are_added_and_removed(open_page, address):
    page = open_page(address)
    page.click("[aria-label='Remove rubric 1']")
    page.select_option("#rubrics select", "keywords:existence")
    assert "keywords" in page.locator("#rubrics .arguments").input_value()
    page.select_option("#rubrics select", "judge")
    assert not page.locator("#rubrics .arguments").is_visible()
