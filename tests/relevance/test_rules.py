"""Relevance by rule: the exact characters on hand-made answers, and that editing just those turns the verdict."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rtt.errors import UserError
from rtt.judging.rules import follows, use_nltk_data
from rtt.relevance.rules import LABELLED_KINDS, label

NLTK_DATA = Path(__file__).parents[2] / "../shared/data/nltk_data"

pytestmark = pytest.mark.skipif(not NLTK_DATA.is_dir(), reason="no NLTK data in shared/data/nltk_data")


@pytest.fixture(autouse=True, scope="module")
def _nltk_data():
    use_nltk_data(NLTK_DATA)


def _marked(response, spans):
    """The response with ‹ and › around each span, so that an expectation can be read."""
    for start, end in reversed(spans):
        response = f"{response[:start]}‹{response[start:end]}›{response[end:]}"
    return response


LOWER = "the quiet town wakes early. then i walk to the harbour! it is still dark"
EXISTENCE = {"keywords": ["tea", "milk"]}
FREQUENCY = {"keyword": " tea ", "frequency": 2}
LETTERS = {"letter": "O", "let_frequency": 2}
TWO = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "tea"}

# kind, arguments, whether the rubric is kept, the response with its labelled characters in ‹ ›
MARKED = [
    ("punctuation:no_comma", {}, False, "Tea‹,› milk‹,,› bread，"),
    ("punctuation:no_comma", {}, True, "Tea; milk."),
    ("keywords:existence", EXISTENCE, True, "‹Tea› and ‹milk›, s‹tea›m"),
    ("keywords:existence", EXISTENCE, False, "Tea and honey"),
    ("keywords:forbidden_words", {"forbidden_words": ["bad", "very bad"]}, False, "A badge is ‹very BAD›, (‹bad›)"),
    ("keywords:forbidden_words", {"forbidden_words": ["bad"]}, True, "A badge"),
    ("keywords:frequency", FREQUENCY | {"relation": "at least"}, True, "‹Tea›, ‹tea› and s‹tea›m"),
    ("keywords:frequency", FREQUENCY | {"relation": "at least"}, False, "Tea and milk"),
    ("keywords:frequency", FREQUENCY | {"relation": "less than"}, False, "‹Teatea›"),
    ("keywords:frequency", FREQUENCY | {"relation": "less than"}, True, "Milk"),
    ("keywords:letter_frequency", LETTERS | {"let_relation": "at least"}, True, "‹O›h n‹o›"),
    ("keywords:letter_frequency", LETTERS | {"let_relation": "less than"}, True, "No, never."),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 3, "let_relation": "less than"},
        False,
        "‹##› a ‹#›b",
    ),
    (
        "change_case:english_lowercase",
        {},
        True,
        "‹t›he quiet town wakes early. ‹t›hen ‹i› walk to the harbour! ‹i›t is\n\n3) ‹n›ow, i.e. right now... ‹s›o",
    ),
    ("change_case:english_lowercase", {}, False, "‹T›he quiet ‹TOWN› wakes. ‹ǅ›"),
    ("change_case:english_lowercase", {}, False, "das ist ein schöner tag am meer."),
    (
        "change_case:english_capital",
        {},
        True,
        "‹THE› QUIET TOWN WAKES EARLY. ‹THEN› I WALK TO THE HARBOUR!\n‹IT› IS STILL DARK",
    ),
    ("change_case:english_capital", {}, False, "T‹he› QUIET ‹town› ‹ǅ›"),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        True,
        '"‹BIG›" ‹TEA›.',
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        False,
        "A-b BIG Tea",
    ),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, False, "‹CAN'T›"),
    ("detectable_format:title", {}, True, "‹<<Tea>>›\nText << >>"),
    ("detectable_format:title", {}, False, "<Tea>\nText << >>"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, True, "İ bye.\n\n‹P. S. Tea›\nMore"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, True, "Bye. ‹p.p.s tea›"),
    ("detectable_content:postscript", {"postscript_marker": "Note:"}, True, "Bye.\n‹NOTE: tea›"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, False, "Bye. PS ‹tea.›\n"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, True, "‹[name]› of ‹[]› (x) [a\nb]"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, False, "[name] of town"),
    ("startend:end_checker", {"end_phrase": "That is all. "}, True, 'Tea. "‹THAT is all.›"\n'),
    ("startend:end_checker", {"end_phrase": "i̇n"}, True, "Tea ‹İN›"),
    ("startend:end_checker", {"end_phrase": "That is all."}, False, "Tea. That is ‹all. Good bye!›\n"),
    ("startend:end_checker", {"end_phrase": "That is all."}, False, "‹Tea›"),
    ("startend:quotation", {}, True, ' ‹"›Tea‹"›\n'),
    ("startend:quotation", {}, False, '"Tea‹.› '),
    ("startend:quotation", {}, False, '‹T›ea"'),
    ("startend:quotation", {}, False, "‹“›Tea‹”›"),
    ("startend:quotation", {}, False, '‹"›'),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}, True, "List:\n\n  ‹* o›ne\n‹- t›wo\n‹-›\n** no"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, False, "* *One*"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 0}, True, "1. one"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, True, "‹*one*› and ‹**two**› *\n* ** **"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, False, "*one*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part ", "num_sections": 2},
        True,
        "‹Part 1›\nTea\n\n‹Part2›\nMilk\nPart B",
    ),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, False, "Part 1\nPART 2"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, True, "One, two ‹three four.›\n"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, False, "One, ‹two.› "),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        False,
        "One, two ‹three: it's me.›\n",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, True, "One ‹two.›"),
    ("length_constraints:number_words", {"num_words": 0, "relation": "at least"}, True, "(‹One two.›"),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        True,
        "One... Two‹.› Three‹!?› fou‹r›",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        False,
        "It is 3.5 Tea‹.›",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        False,
        'He said "tea‹.›" I Inc‹.› He left‹.› “Yes‹.›”\nEnd‹.›',
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, True, "One\n‹***›\nTwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, False, "One\n\nTwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, False, "One‹***›Two ‹***› Three"),
    ("length_constraints:nth_paragraph_first_word", TWO, True, 'One‹\n\n›"‹Tea›", then'),
    ("length_constraints:nth_paragraph_first_word", TWO, False, "One\n\n‹Milk›, tea"),
    ("length_constraints:nth_paragraph_first_word", TWO, False, "One‹\n\n›Tea‹\n\n›Three"),
    ("length_constraints:nth_paragraph_first_word", TWO, False, "One‹\n\nTwo\n\n›Three"),
    ("length_constraints:nth_paragraph_first_word", TWO, False, "One\n\n‹...› tea"),
    ("length_constraints:nth_paragraph_first_word", TWO, False, "Tea\ntea"),
    ("combination:two_responses", {}, True, "Tea\n‹******›\nMilk"),
    ("combination:two_responses", {}, False, "Tea‹******›Milk ‹******› Water"),
    ("combination:two_responses", {}, False, "Tea"),
    ("detectable_format:constrained_response", {}, True, "Well. ‹My answer is yes.›"),
    ("detectable_format:constrained_response", {}, False, "My answer is perhaps."),
    ("detectable_format:json_format", {}, True, '```json\n‹{›"a": 1‹}›\n```\n'),
    ("detectable_format:json_format", {}, False, '‹H›ere: {"a": 1}'),
    ("detectable_format:json_format", {}, False, '{"a": 1} ‹t›hat is it'),
    ("detectable_format:json_format", {}, False, '{"a": ‹1›'),
    ("detectable_format:json_format", {}, False, "‹``````›"),
]


def _unmarked(text):
    """The inverse of _marked."""
    spans, plain, start = [], "", 0
    for character in text:
        if character == "‹":
            start = len(plain)
        elif character == "›":
            spans.append((start, len(plain)))
        else:
            plain += character
    return plain, spans


@pytest.mark.parametrize(("kind", "kwargs", "kept", "marked"), MARKED)
def test_exactly_the_responsible_characters_are_labelled(kind, kwargs, kept, marked):
    response, spans = _unmarked(marked)
    assert follows(kind, kwargs, response) == kept
    assert _marked(response, label(kind, kwargs, response)) == marked
    assert label(kind, kwargs, response) == spans


def test_examples_cover_every_labelled_kind_kept_and_broken():
    assert {(kind, kept) for kind, _, kept, _ in MARKED} == {
        (kind, kept) for kind in LABELLED_KINDS for kept in (True, False)
    }


@pytest.mark.parametrize("kind", ["punctuation:no_coma", "language:response_language", "count:numbers"])
def test_kind_without_a_rule_is_refused(kind):
    with pytest.raises(UserError, match=kind):
        label(kind, {}, "tea")


@pytest.mark.parametrize("response", ["", "tea"])
def test_arguments_the_checker_refuses_are_refused(response):
    with pytest.raises(UserError, match="keywords:frequency"):
        label("keywords:frequency", {"keyword": "tea"}, response)


# Generated responses. Pieces rather than free text, so that marks of every kind meet each other often.

WORDS = [
    "the",
    "Harbour",
    "tea",
    "BAD",
    "I",
    "it's",
    "naïve",
    "3.5",
    "U.S.",
    "He",
    "Inc.",
    "X-RAY",
    "CAN'T",
    "中文",
    "Part 1",
]
MARKS = [
    " ",
    " ",
    ", ",
    ". ",
    "\n",
    "\n\n",
    "! ",
    "?",
    "...",
    "[",
    "]",
    "(",
    "*",
    "**",
    "***",
    "******",
    "<<",
    ">>",
    "P.S.",
]
ODD = [
    '"',
    "'",
    "“",
    ".”",
    "- ",
    "* ",
    "😀",
    "e\u0301",
    "ß",
    "ǅ",
    "İ",
    "\u00a0",
    "\u2028",
    "_",
    "My answer is no.",
    "{",
    "1]",
]
pieces = st.lists(st.sampled_from(WORDS + MARKS + ODD), max_size=25).map("".join)
spoken = pieces.filter(str.strip)
plain_words = st.lists(st.sampled_from(["tea", "milk", "harbour", "Boats", "wait"]), min_size=1, max_size=8).map(
    " ".join
)
quick = settings(max_examples=60, deadline=None)


def _replaced(response, spans, by):
    """The response with each labelled character replaced by `by`, a string or a function of the character."""
    parts, at = [], 0
    for start, end in spans:
        parts += [response[at:start], *(by(c) if callable(by) else by for c in response[start:end])]
        at = end
    return "".join([*parts, response[at:]])


@quick
@given(response=st.one_of(st.text(max_size=60), pieces))
def test_spans_lie_in_the_response_sorted_disjoint_and_not_empty(response):
    for kind, kwargs in {(kind, repr(kwargs)): (kind, kwargs) for kind, kwargs, *_ in MARKED}.values():
        spans = label(kind, kwargs, response)
        assert all(0 <= start < end <= len(response) for start, end in spans)
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        assert spans == [] or response.strip()


# One occurrence is enough to keep these: kept exactly when something is labelled, and blanking it breaks them.
PRESENCE = [
    ("keywords:existence", {"keywords": ["tea"]}),
    ("keywords:frequency", {"keyword": "tea", "frequency": 1, "relation": "at least"}),
    ("keywords:letter_frequency", {"letter": "i", "let_frequency": 1, "let_relation": "at least"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "at least"}),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 1}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:title", {}),
]

# One occurrence breaks these: broken exactly when something is labelled, and blanking it keeps them.
ABSENCE = [
    ("punctuation:no_comma", {}),
    ("keywords:forbidden_words", {"forbidden_words": ["bad", "the"]}),
    ("keywords:frequency", {"keyword": "tea", "frequency": 1, "relation": "less than"}),
    ("keywords:letter_frequency", {"letter": "i", "let_frequency": 1, "let_relation": "less than"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "less than"}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 0}),
]


@quick
@given(response=spoken)
@pytest.mark.parametrize(("kind", "kwargs"), PRESENCE)
def test_what_must_be_there_is_labelled_and_blanking_it_breaks_the_rubric(kind, kwargs, response):
    # The checker pairs the asterisks of a longer run one way only; blanking that pair lets them pair another way.
    assume(kind != "detectable_format:number_highlighted_sections" or "***" not in response)
    spans = label(kind, kwargs, response)
    assert follows(kind, kwargs, response) == bool(spans)
    # Line ends, because other characters between the asterisks around a highlight would be another highlight.
    assert not follows(kind, kwargs, _replaced(response, spans, "\n"))


@quick
@given(response=spoken)
@pytest.mark.parametrize(("kind", "kwargs"), ABSENCE)
def test_what_must_not_be_there_is_labelled_and_blanking_it_keeps_the_rubric(kind, kwargs, response):
    spans = label(kind, kwargs, response)
    assert follows(kind, kwargs, response) == (not spans)
    assert follows(kind, kwargs, _replaced(response, spans, "#"))


COUNTED = [
    ("keywords:frequency", "frequency", {"keyword": "tea"}, "relation"),
    ("keywords:letter_frequency", "let_frequency", {"letter": "e"}, "let_relation"),
]


@quick
@given(response=spoken, number=st.integers(2, 4))
@pytest.mark.parametrize(("kind", "name", "kwargs", "relation"), COUNTED)
def test_what_is_counted_is_labelled_only_where_it_is_enough_or_too_much(
    kind, name, kwargs, relation, response, number
):
    response += "tea"
    at_least, less_than = ({**kwargs, name: number, relation: words} for words in ("at least", "less than"))
    enough = follows(kind, at_least, response)
    assert bool(label(kind, at_least, response)) == enough
    assert label(kind, less_than, response) == label(kind, at_least, response)


@quick
@given(response=spoken)
@pytest.mark.parametrize(
    ("kind", "kwargs", "filler"), [(*case, "#") for case in PRESENCE[:3] + ABSENCE[:1]] + [(*ABSENCE[1], " ")]
)
def test_text_outside_the_labels_does_not_matter(kind, kwargs, filler, response):
    spans = label(kind, kwargs, response)
    labelled = {i for start, end in spans for i in range(start, end)}
    others = "".join(c if i in labelled else filler for i, c in enumerate(response))
    # A blank answer fails everything, and forbidden words leave nothing but white space here.
    assert follows(kind, kwargs, others + ".") == follows(kind, kwargs, response)


# Letter case. Real English with random capitals, because the checkers also ask langdetect.

ENGLISH = "the quiet town wakes before sunrise. then i walk to the harbour, and it is still dark."
flips = st.lists(st.booleans(), min_size=len(ENGLISH), max_size=len(ENGLISH))


@quick
@given(flips=flips)
def test_lowering_the_labelled_capitals_keeps_all_lowercase(flips):
    response = "".join(c.upper() if flip else c for c, flip in zip(ENGLISH, flips, strict=True))
    spans = label("change_case:english_lowercase", {}, response)
    assert follows("change_case:english_lowercase", {}, response) == (response == ENGLISH)
    assert _replaced(response, spans, str.lower if response != ENGLISH else str) == ENGLISH


@quick
@given(flips=flips)
def test_raising_the_labelled_small_letters_keeps_all_capitals(flips):
    response = "".join(c.upper() if flip else c for c, flip in zip(ENGLISH, flips, strict=True))
    assume(response != ENGLISH.upper())
    spans = label("change_case:english_capital", {}, response)
    assert _replaced(response, spans, str.upper) == ENGLISH.upper()
    assert follows("change_case:english_capital", {}, ENGLISH.upper())


@pytest.mark.parametrize(
    ("kind", "response", "other_case"),
    [
        ("change_case:english_lowercase", ENGLISH, str.upper),
        ("change_case:english_capital", ENGLISH.upper(), str.lower),
    ],
)
def test_any_labelled_letter_in_the_other_case_breaks_a_kept_letter_case(kind, response, other_case):
    assert follows(kind, {}, response)
    spans = label(kind, {}, response)
    assert len(spans) > 1
    for span in spans:
        assert not follows(kind, {}, _replaced(response, [span], other_case))


# Beginning and end.

ENDING = {"end_phrase": "That is all."}


@quick
@given(response=spoken)
def test_writing_the_phrase_over_the_labelled_ending_keeps_it(response):
    assume(not follows("startend:end_checker", ENDING, response))
    [(start, end)] = label("startend:end_checker", ENDING, response)
    assert follows("startend:end_checker", ENDING, response[:start] + "That is all." + response[end:])


@quick
@given(response=pieces, close=st.sampled_from(["", '"', '"" ', "\n\n"]))
def test_another_word_over_the_labelled_phrase_breaks_the_ending(response, close):
    response = response + "THAT is all." + close
    [(start, end)] = label("startend:end_checker", ENDING, response)
    assert response[start:end] == "THAT is all."
    assert not follows("startend:end_checker", ENDING, response[:start] + "Bye" + response[end:])


@quick
@given(response=spoken)
def test_quotation_marks_at_the_labelled_edges_keep_the_quotation(response):
    spans = label("startend:quotation", {}, response)
    if follows("startend:quotation", {}, response):
        assert not follows("startend:quotation", {}, _replaced(response, spans[:1], "#"))
        assert not follows("startend:quotation", {}, _replaced(response, spans[-1:], "#"))
    else:
        assert follows("startend:quotation", {}, _replaced(response, spans, '""'))


@quick
@given(response=pieces)
def test_blanking_a_postscript_or_adding_one_at_the_label_turns_the_verdict(response):
    kind, kwargs = "detectable_content:postscript", {"postscript_marker": "P.S."}
    assume(response.strip())
    spans = label(kind, kwargs, response)
    if follows(kind, kwargs, response):
        assert not follows(kind, kwargs, _replaced(response, spans, "#"))
    else:
        assert follows(kind, kwargs, response[: spans[-1][1]] + "\n\nP.S. Tea")


# Lengths and parts.

capitalised = plain_words.map(lambda words: "Then " + words)
sentence_ends = st.sampled_from([". ", "! ", "?\n", "?! ", '." ', "!) "])


@quick
@given(response=spoken, number=st.integers(1, 5))
@pytest.mark.parametrize("relation", ["at least", "less than"])
def test_cutting_or_going_on_at_the_label_turns_the_length(relation, number, response):
    kind, kwargs = "length_constraints:number_words", {"num_words": number, "relation": relation}
    [(start, end)] = label(kind, kwargs, response)
    kept = follows(kind, kwargs, response)
    reached = kept == (relation == "at least")
    edited = response[:start] + "..." if reached else response[:end] + " tea" * number
    assert follows(kind, kwargs, edited) != kept


@quick
@given(sentences=st.lists(st.tuples(capitalised, sentence_ends), min_size=2, max_size=5))
@pytest.mark.parametrize("relation", ["at least", "less than"])
def test_commas_for_the_labelled_sentence_ends_leave_one_sentence(relation, sentences):
    kind, kwargs = "length_constraints:number_sentences", {"num_sentences": 2, "relation": relation}
    response = "".join(words + end for words, end in sentences)
    spans = label(kind, kwargs, response)
    assert len(spans) == len(sentences)
    assert follows(kind, kwargs, response) == (relation == "at least")
    assert follows(kind, kwargs, _replaced(response, spans, ",")) == (relation != "at least")


@quick
@given(response=spoken)
def test_capital_words_are_those_the_checker_counts(response):
    import nltk

    kwargs = {"capital_frequency": 1, "capital_relation": "at least"}
    spans = label("change_case:capital_word_frequency", kwargs, response)
    capitals = [word for word in nltk.word_tokenize(response) if word.isupper()]
    assert "".join(response[start:end] for start, end in spans) == "".join(capitals)


@quick
@given(response=spoken)
def test_each_sentence_the_checker_counts_has_its_end_labelled(response):
    from if_verifiable.ifeval import instructions_util

    spans = label("length_constraints:number_sentences", {"num_sentences": 1, "relation": "at least"}, response)
    sentences = list(instructions_util._get_sentence_tokenizer().span_tokenize(response))
    assert instructions_util.count_sentences(response) == len(sentences)
    labelled = {i for start, end in spans for i in range(start, end)}
    for start, end in sentences:
        last = max(i for i in labelled if start <= i < end)
        assert last == end - 1 or (response[last] in ".!?" and not response[last + 1 : end].strip("\"'”’)]*_"))


@quick
@given(response=spoken)
@example(response="***")
@example(response="tea *** milk")
@example(response="*** tea *** milk ***")
def test_blanking_the_labelled_dividers_leaves_one_paragraph(response):
    kind = "length_constraints:number_paragraphs"
    spans = label(kind, {"num_paragraphs": 1}, response)
    blanked = _replaced(response, spans, "#")
    assert follows(kind, {"num_paragraphs": 1}, blanked)
    assert not follows(kind, {"num_paragraphs": 2}, blanked)
    # A broken rubric that asks for more paragraphs than there are is broken by what is missing.
    kept = follows(kind, {"num_paragraphs": 2}, response)
    enough = len(re.findall(r"\*\*\*", response)) > 1
    assert label(kind, {"num_paragraphs": 2}, response) == (spans if kept or enough else [])


@quick
@given(response=spoken)
def test_blanking_the_labelled_dividers_leaves_one_response(response):
    spans = label("combination:two_responses", {}, response)
    assert not follows("combination:two_responses", {}, _replaced(response, spans, "#"))
    assert bool(spans) == ("******" in response)


@quick
@given(paragraphs=st.lists(plain_words, min_size=2, max_size=2), quote=st.sampled_from(["", '"', "'"]))
def test_the_labelled_first_word_decides(paragraphs, quote):
    kind = "length_constraints:nth_paragraph_first_word"
    response = "\n\n".join([paragraphs[0], quote + paragraphs[1]])
    kept = follows(kind, TWO, response)
    start, end = label(kind, TWO, response)[-1]
    other = response[:start] + ("water" if kept else "Tea") + response[end:]
    assert follows(kind, TWO, other) != kept


@quick
@given(paragraphs=st.lists(st.just("tea"), min_size=3, max_size=5))
def test_joining_paragraphs_at_the_labelled_breaks_mends_their_number(paragraphs):
    kind = "length_constraints:nth_paragraph_first_word"
    response = "\n\n".join(paragraphs)
    spans = label(kind, TWO, response)
    assert not follows(kind, TWO, response)
    assert follows(kind, TWO, _replaced(response, spans[1:], "\t"))


json_texts = st.recursive(
    st.integers() | st.text(max_size=3) | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@quick
@given(
    content=st.lists(json_texts, max_size=3), fences=st.sampled_from([("", ""), ("```json\n", "\n```"), ("```", "```")])
)
def test_json_stops_being_json_at_the_label(content, fences):
    import json

    kind = "detectable_format:json_format"
    response = fences[0] + json.dumps(content) + fences[1]
    assert follows(kind, {}, response)
    first, last = label(kind, {}, response)[0][0], label(kind, {}, response)[-1][1]
    assert response[first:last] == json.dumps(content)
    assert not follows(kind, {}, response[:first] + response[first + 1 :])

    chatty = json.dumps(content) + "\nThat is the list."
    [(start, end)] = label(kind, {}, chatty)
    assert not follows(kind, {}, chatty)
    assert follows(kind, {}, chatty[:start])
    assert chatty[start:end] == "T"
