"""Examples of the discriminator's best and worst, in the report page."""

from __future__ import annotations

from rtt.report.examples import examples_section, visible


def example(**changes):
    return {
        "criterion": "No <commas>.",
        "response": "a, b",
        "verdict": -1.0,
        "labels": [[1, 2]],
        "tokens": [[0, 2], [2, 4]],
        "relevance": [1.0, 0.25],
        "auprc": 0.5,
    } | changes


def quality(best, worst):
    return {
        "sets": {"unseen_topics": {"per_kind": {"<kind>": {"examples": {"best": best, "worst": worst}}, "bare": {}}}}
    }


def test_tokens_have_their_colour_and_labels_their_line():
    text = "\n".join(examples_section(quality(example(), example(auprc=None, verdict=1.0))))
    assert '<span style="background:#9f78d6">a<u>,</u></span><span style="background:#e7ddf5"> b</span>' in text
    assert "<strong>Best</strong>, AUPRC 0.50: No &lt;commas&gt;. (broken)" in text
    assert "(kept)" in text
    assert "<summary>&lt;kind&gt;, unseen topics</summary>" in text
    assert "bare" not in text


def test_tokens_that_share_a_character_and_text_not_read():
    shown = example(response="é, rest", labels=[], tokens=[[0, 1], [0, 1], [1, 2]], relevance=[1, 1, 0])
    text = "\n".join(examples_section(quality(shown, example())))
    assert '<span style="background:#9f78d6">é</span><span style="background:#ffffff">,</span> rest' in text


def test_hostile_text_is_shown():
    assert visible("<b>\u202e\x00\n") == "&lt;b&gt;⟨U+202E⟩⟨U+0000⟩\n"


def test_nothing_where_none_are_recorded():
    assert examples_section({"sets": {"unseen_topics": {"per_kind": {"bare": {}}}}}) == []
