"""Quotes and where they stand: verbatim, or by rule, or nowhere; never somewhere else."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtt.relevance.locate import _plain, locate, merged, voted
from rtt.tables import _is_spans


@pytest.mark.parametrize(
    ("quote", "response", "places"),
    [
        ("tea", "tea and tea", [(0, 3), (8, 11)]),
        ("aa", "aaaa", [(0, 4)]),
        ("a", "banana", [(1, 2), (3, 4), (5, 6)]),
        ("🫖", "a 🫖 b", [(2, 3)]),
        ("Tea", "tea", []),
        ("milk", "tea", []),
        ("", "tea", []),
        ("  ", "a  b", []),
    ],
)
def test_a_verbatim_quote_is_found_wherever_it_stands(quote, response, places):
    assert locate(quote, response) == (places, bool(places))


@pytest.mark.parametrize(
    ("quote", "response", "places"),
    [
        ('it\'s "fine"', "So it’s “fine”.", [(3, 14)]),
        ("it’s", "it's", [(0, 4)]),
        ("a - b", "x a — b", [(2, 7)]),
        ("wait...", "wait… now", [(0, 5)]),
        ("one two", "one\n  two", [(0, 9)]),
        ("one two", "one\u00a0two", [(0, 7)]),
        ("one two", "one\r\ntwo", [(0, 8)]),
        ("caf\u00e9", "a cafe\u0301!", [(2, 7)]),
        ("cafe\u0301", "a caf\u00e9!", [(2, 6)]),
        ("fi", "\ufb01n", [(0, 1)]),
        ('"tea"', "hot tea", [(4, 7)]),
        ("…and tea…", "hot and tea too", [(4, 11)]),
        ("“hot”", "hot, hot", [(0, 3), (5, 8)]),
    ],
)
def test_a_quote_in_another_form_is_found_by_rule(quote, response, places):
    assert locate(quote, response) == (places, False)


@pytest.mark.parametrize(("quote", "response"), [("CAFÉ", "café"), ("tea", "t e a"), ("…", "a"), ('""', "a")])
def test_nothing_else_is_guessed(quote, response):
    assert locate(quote, response) == ([], False)


TEXTS = st.text(alphabet=st.sampled_from("aAb .,'’\"“-—…\n\r\u00a0é\u0301🫖ﬁ"), min_size=1, max_size=40)


@given(TEXTS, st.integers(0, 39), st.integers(1, 40))
def test_what_is_copied_is_found_where_it_was_copied_from(response, start, length):
    quote = response[start : start + length]
    places, verbatim = locate(quote, response)
    if not quote.strip():
        assert places == []
        return
    assert verbatim
    assert any(a <= start and start + len(quote) <= b for a, b in places)
    assert _is_spans(json.dumps(places))
    assert all(b <= len(response) for _, b in places)


@given(TEXTS, TEXTS)
def test_every_place_reads_like_the_quote(quote, response):
    places, verbatim = locate(quote, response)
    assert _is_spans(json.dumps(places))
    for start, end in places:
        piece = response[start:end]
        if verbatim:
            assert quote in piece
        else:
            wanted = {_plain(quote)[0].strip(), _plain(quote.strip().strip("\"'“”‘’«»…."))[0].strip()}
            assert any(one and one in _plain(piece)[0] for one in wanted)


@given(TEXTS)
def test_each_character_in_the_plain_form_comes_from_the_text(text):
    plain, origin = _plain(text)
    assert len(plain) == len(origin)
    assert all(0 <= start < end <= len(text) for start, end in origin)
    assert origin == sorted(origin)


SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda t: (t[0], t[0] + t[1])), max_size=6)


def covered(spans):
    return {place for start, end in spans for place in range(start, end)}


@given(SPANS)
def test_merged_spans_cover_the_same_and_are_disjoint(spans):
    found = merged(spans)
    assert covered(found) == covered(spans)
    assert _is_spans(json.dumps(found))
    assert merged(found) == found
    assert all(end < start for (_, end), (start, _) in pairwise(found))


@given(st.lists(SPANS.map(merged), min_size=1, max_size=5), st.integers(1, 5))
def test_a_character_is_labelled_when_enough_samples_quote_it(samples, votes):
    counts = [sum(place in covered(spans) for spans in samples) for place in range(30)]
    found = voted(samples, votes)
    assert covered(found) == {place for place, count in enumerate(counts) if count >= votes}
    assert covered(voted(samples, votes + 1)) <= covered(found)
    assert merged(found) == found
