import random
import re

import pytest

from rtt.data.kinds import HELDOUT_KINDS, KINDS, compatible, find_conflict
from rtt.judging import rules
from rtt.rubrics import Rubric

WORDS = ["vinegar", "water", "boil", "rinse", "kettle", "limescale"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

CAPITAL, LOWER = "change_case:english_capital", "change_case:english_lowercase"
CAPITAL_WORDS = "change_case:capital_word_frequency"
COMMA, QUOTATION, END = "punctuation:no_comma", "startend:quotation", "startend:end_checker"
EXISTENCE, FREQUENCY, FORBIDDEN = "keywords:existence", "keywords:frequency", "keywords:forbidden_words"
LETTER = "keywords:letter_frequency"
TITLE, POSTSCRIPT = "detectable_format:title", "detectable_content:postscript"
BULLETS, HIGHLIGHTS = "detectable_format:number_bullet_lists", "detectable_format:number_highlighted_sections"
PARAGRAPHS, SECTIONS = "length_constraints:number_paragraphs", "detectable_format:multiple_sections"
N_WORDS, N_SENTENCES = "length_constraints:number_words", "length_constraints:number_sentences"


def rubrics(*pairs):
    return [Rubric(rubric_id=f"p/{k}", kind=kind, text="-", kwargs=kwargs) for k, (kind, kwargs) in enumerate(pairs)]


def letter(letter, relation, count):
    return LETTER, {"letter": letter, "let_frequency": count, "let_relation": relation}


def often(word, count):
    return FREQUENCY, {"keyword": word, "frequency": count, "relation": "at least"}


def capital_words(relation, count):
    return CAPITAL_WORDS, {"capital_frequency": count, "capital_relation": relation}


def words(relation, count):
    return N_WORDS, {"num_words": count, "relation": relation}


def sentences(relation, count):
    return N_SENTENCES, {"num_sentences": count, "relation": relation}


def draws(kind, count=300):
    rng = random.Random(kind.name)
    return [(kwargs := kind.draw(rng, WORDS), kind.text(rng, kwargs)) for _ in range(count)]


def test_the_kinds_are_known_checkers():
    assert len(KINDS) >= 18
    assert set(KINDS) <= rules.kinds()
    assert set(HELDOUT_KINDS) < set(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_is_worded_in_several_short_imperatives(kind):
    assert len(set(kind.texts)) >= 3
    for _, text in draws(kind):
        assert len(text.split()) <= 20, text
        assert text[0].isupper()
        assert text.endswith((".", '"')), text
        assert "{" not in text


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_wording_says_what_the_arguments_say(kind):
    for kwargs, text in draws(kind):
        for name, value in kwargs.items():
            if isinstance(value, int):
                times = {"2": "twice"}.get(str(value), "-")
                number = NUMBERS[value] if value < len(NUMBERS) else "-"
                assert re.search(rf"\b({value}|{number}|{times})\b", text), (kwargs, text)
            elif name.endswith("relation"):
                lower = re.search(r"at least|no fewer than", text) is not None
                assert lower == (value == "at least"), (kwargs, text)
                assert lower or re.search(r"fewer than|less than", text), (kwargs, text)
            else:
                for word in value if isinstance(value, list) else [value]:
                    assert word in text, (kwargs, text)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_checker_takes_the_arguments_and_makes_none_up(kind, nltk_data):
    rules.use_nltk_data(nltk_data)
    for kwargs, _ in draws(kind, 30):
        rules.follows(kind.name, kwargs, "A plain answer.")  # refuses arguments that are bad or would be drawn


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_drawing_is_decided_by_the_generator_alone(kind):
    assert draws(kind, 20) == draws(kind, 20)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(COMMA, {}), (COMMA, {})], "twice"),
        ([(CAPITAL, {}), (LOWER, {})], "excludes"),
        ([(CAPITAL, {}), capital_words("less than", 2)], "excludes"),
        ([(LOWER, {}), capital_words("at least", 2)], "excludes"),
        ([(CAPITAL, {}), (SECTIONS, {"section_spliter": "Part", "num_sections": 2})], "excludes"),
        ([(QUOTATION, {}), (END, {"end_phrase": "See you soon."})], "excludes"),
        ([(QUOTATION, {}), (POSTSCRIPT, {"postscript_marker": "P.S."})], "excludes"),
        ([(POSTSCRIPT, {"postscript_marker": "P.S."}), (END, {"end_phrase": "See you soon."})], "excludes"),
        ([(TITLE, {}), (QUOTATION, {})], "excludes"),
        ([(BULLETS, {"num_bullets": 2}), (PARAGRAPHS, {"num_paragraphs": 2})], "excludes"),
        ([(BULLETS, {"num_bullets": 2}), (HIGHLIGHTS, {"num_highlights": 1})], "excludes"),
        ([(COMMA, {}), (END, {"end_phrase": "Easy, is it not?"})], "has a comma"),
        ([(EXISTENCE, {"keywords": ["boil"]}), (FORBIDDEN, {"forbidden_words": ["boil"]})], "the word 'boil'"),
        (
            [often("boil", 2), (FORBIDDEN, {"forbidden_words": ["water", "boil"]})],
            "the word 'boil'",
        ),
        (
            [(EXISTENCE, {"keywords": ["boil"]}), often("boil", 2)],
            "the word 'boil'",
        ),
        ([(FORBIDDEN, {"forbidden_words": ["soon"]}), (END, {"end_phrase": "See you soon."})], "forbidden word 'soon'"),
        (
            [(FORBIDDEN, {"forbidden_words": ["part"]}), (SECTIONS, {"section_spliter": "Part", "num_sections": 2})],
            "forbidden word 'part'",
        ),
        (
            [(EXISTENCE, {"keywords": ["bubble"]}), letter("b", "less than", 3)],
            "'b' 3 times",
        ),
        (
            [often("boil", 2), letter("b", "less than", 2)],
            "'b' 2 times",
        ),
        (
            [(POSTSCRIPT, {"postscript_marker": "P.P.S"}), letter("p", "less than", 2)],
            "'p' 2 times",
        ),
        (
            [(END, {"end_phrase": "Good luck with it!"}), letter("u", "less than", 1)],
            "'u' 1 times",
        ),
        (
            [words("less than", 20), sentences("at least", 4)],
            "take 20 words",
        ),
        ([words("less than", 15), (BULLETS, {"num_bullets": 3})], "take 17 words"),
        (
            [words("less than", 20), (SECTIONS, {"section_spliter": "Part", "num_sections": 3})],
            "take 23 words",
        ),
        ([sentences("less than", 2), (END, {"end_phrase": "See you soon."})], "2 sentences"),
        ([sentences("less than", 3), (BULLETS, {"num_bullets": 3})], "3 sentences"),
        (
            [sentences("less than", 3), (POSTSCRIPT, {"postscript_marker": "P.S."})],
            "3 sentences",
        ),
        (
            [(POSTSCRIPT, {"postscript_marker": "P.S."}), capital_words("less than", 1)],
            "1 words in capitals",
        ),
    ],
)
def test_contradictions_are_rejected_whatever_their_order(pairs, reason):
    assert reason in find_conflict(rubrics(*pairs))
    assert not compatible(rubrics(*pairs))
    assert not compatible(rubrics(*reversed(pairs)))
    assert not compatible(rubrics((EXISTENCE, {"keywords": ["plum"]}), *pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        [(COMMA, {}), (END, {"end_phrase": "See you soon."})],
        [(LOWER, {}), (END, {"end_phrase": "See you soon."})],
        [(LOWER, {}), (POSTSCRIPT, {"postscript_marker": "P.S."})],
        [(EXISTENCE, {"keywords": ["boil"]}), (FORBIDDEN, {"forbidden_words": ["boiling"]})],
        [(FORBIDDEN, {"forbidden_words": ["boil"]}), (EXISTENCE, {"keywords": ["boiling"]})],
        [(EXISTENCE, {"keywords": ["boil"]}), letter("b", "less than", 2)],
        [(EXISTENCE, {"keywords": ["bubble"]}), letter("b", "at least", 2)],
        [words("at least", 25), sentences("less than", 2)],
        [sentences("less than", 4), (BULLETS, {"num_bullets": 3})],
        [(BULLETS, {"num_bullets": 3}), (END, {"end_phrase": "See you soon."}), (TITLE, {})],
    ],
)
def test_near_misses_are_accepted(pairs):
    assert find_conflict(rubrics(*pairs)) == ""
    assert compatible(rubrics(*pairs))


def test_a_kind_outside_the_registry_is_refused():
    with pytest.raises(KeyError, match="json_format"):
        compatible(rubrics(("detectable_format:json_format", {})))
