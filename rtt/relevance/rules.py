"""Relevance by rule: which characters of a response kept or broke a checkable rubric.

One principle decides every kind: the labelled characters are those an edit would have to touch to turn the verdict.

- *Something that must be there* (keyword, title, ending): where it is. If it is missing, the place where it should
  have stood, for kinds that name one (the last words, the outermost characters), else nothing.
- *Something that must not be there* (comma, forbidden word): where it is; nothing where it is absent.
- *Letter case*: the letters that have the wrong one; where the rule is kept, the letters that usually have another.
- *Something that is counted* (placeholders, bullets, capital words): everything that counts where it is enough or too
  much, because no single one of it is the one too many. Nothing where it is too little or little enough: what is there
  did not break the one nor keep the other, and charging it with the verdict would push the wrong way.
- *Length in words or sentences*: where the limit is reached and all that follows, or where the response stopped.

Positions come from the patterns the checkers use, so that labels and verdicts agree. A token is labelled when any of
its characters is, so a span holds no more than the characters that matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from rtt.errors import UserError
from rtt.judging.rules import follows

Span = tuple[int, int]
Labeller = Callable[[dict[str, Any], str, bool], list[Span]]
"""(kwargs, response with some text in it, whether the rubric is kept) to spans in any order, possibly overlapping."""

_SENTENCE_END = re.compile(r"([.!?…]+)[\"'”’)\]*_]*\Z")
_WORD = re.compile(r"\w+")
_MARKER = re.compile(r"[*-](?:[^\S\n]*\S)?")


def label(kind: str, kwargs: dict[str, Any], response: str) -> list[Span]:
    """The characters of `response` that kept or broke a rubric, as sorted, disjoint, non-empty [start, end) spans.

    Args:
        kind: one of ``LABELLED_KINDS``.
        kwargs: the checker's arguments.
        response: any text; a blank one has no labels.

    Raises:
        UserError: a kind no rule labels, or arguments its checker refuses.
        Exception: whatever the checker raises on this response; it then has no verdict to explain.
    """
    if kind not in _LABELLERS:
        raise UserError(
            f"no rule tells which characters of a response the kind {kind!r} is about",
            todo="label this rubric with the LLM annotator, or leave it out; LABELLED_KINDS lists those with a rule",
        )
    kept = follows(kind, kwargs, response)
    return _merged(_LABELLERS[kind](kwargs, response, kept)) if response.strip() else []


def _merged(spans: list[Span]) -> list[Span]:
    """Sorted, without empty ones, and with those that overlap or touch made one."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


# Helpers: spans of matches, of characters, and of the end of a response.


def _matches(pattern: str, text: str, flags: int = 0) -> list[Span]:
    return [match.span() for match in re.finditer(pattern, text, flags)]


def _trimmed(text: str, span: Span) -> Span:
    """The span without white space at its ends, which several patterns take along."""
    inside = text[span[0] : span[1]]
    return span[0] + len(inside) - len(inside.lstrip()), span[0] + len(inside.rstrip())


def _characters(text: str, wanted: Callable[[str], bool]) -> list[Span]:
    return [(i, i + 1) for i, character in enumerate(text) if wanted(character)]


def _last_words(text: str, count: int = 1) -> list[Span]:
    """One span over the last `count` pieces between white space, punctuation included; fewer if there are fewer."""
    pieces = _matches(r"\S+", text)[-count:]
    return [(pieces[0][0], pieces[-1][1])]


def _lowered(text: str) -> tuple[str, list[int]]:
    """``text.lower()``, and for each of its characters the index it came from: 'İ' becomes two characters."""
    return text.lower(), [i for i, character in enumerate(text) for _ in character.lower()]


def _at_least(find: Labeller, relation: str = "relation") -> Labeller:
    """Labels what is counted where there is enough of it ("at least", kept) or too much ("less than", broken)."""

    def labeller(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
        return find(kwargs, response, kept) if kept == (kwargs.get(relation, "at least") == "at least") else []

    return labeller


def _exactly(find: Labeller, number: str) -> Labeller:
    """Labels what is counted where there is as much of it as asked for, or more."""

    def labeller(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
        found = find(kwargs, response, kept)
        return found if kept or len(found) >= kwargs[number] else []

    return labeller


# Words and letters.


def _commas(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    return _matches(r"\,", response)


def _keywords(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """Every occurrence when all keywords are there; when one is missing, the others are not to blame."""
    if not kept:
        return []
    return [span for keyword in kwargs["keywords"] for span in _matches(keyword, response, re.IGNORECASE)]


def _forbidden_words(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    words = kwargs["forbidden_words"]
    return [span for word in words for span in _matches(r"\b" + word + r"\b", response, re.IGNORECASE)]


def _keyword_occurrences(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    return _matches(kwargs["keyword"].strip(), response, re.IGNORECASE)


def _letter_occurrences(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    letter = kwargs["letter"].lower()
    return _characters(response, lambda character: letter in character.lower())


# Letter case.


def _no_capitals(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """Broken: each capital. Kept: the letters that ordinary spelling would have made capitals.

    Labelling every letter of a response that keeps the rule would say nothing about any of them; the choice shows at
    the start of a sentence and in the pronoun "i". Lowercase text that is not English breaks the rule as a whole, and
    no part of it more than another.
    """
    if kept:
        return _sentence_starts(response) + _matches(r"\bi\b(?!\.\w)", response)
    return _characters(response, lambda character: character.isupper() or character.istitle())


def _all_capitals(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """Broken: each letter that is not a capital. Kept: the first word of each sentence.

    There, for the same reason as above, the response chooses between "The" and "THE"; the rest only goes on.
    """
    if kept:
        starts = _sentence_starts(response)
        return [match.span() for start, _ in starts if (match := _WORD.match(response, start))]
    return _characters(
        response, lambda character: character.islower() or (character.istitle() and not character.isupper())
    )


def _sentence_starts(text: str) -> list[Span]:
    """The first letter of the text, and after each new line or sentence end; none where it has no letter case."""
    spans = []
    ended, due = False, True  # a sentence end was read; white space came after it
    for i, character in enumerate(text):
        if character.isalpha():
            if due and character.lower() != character.upper():
                spans.append((i, i + 1))
            ended, due = False, False
        elif character == "\n" or (ended and character.isspace()):
            due = True
        elif character in ".!?…":
            ended = not re.match(r"\.\w\.", text[max(i - 2, 0) : i + 1])  # "i.e." ends no sentence
        elif character not in "\"'”’)]*_":  # closing marks may stand between the end and the white space
            ended = False
    return spans


def _capital_words(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """Words in capitals as NLTK's tokenizer splits them. Its tokens cover all but white space, in order."""
    import nltk

    spans, at = [], 0
    for token in nltk.word_tokenize(response):
        while response[at].isspace():
            at += 1
        # Only quotation marks come back changed, and they are never capitals.
        end = at + (len(token) if response.startswith(token, at) else 1 if response[at] == '"' else 2)
        if token.isupper():
            spans.append((at, end))
        at = end
    return spans


# Marks and parts.


def _titles(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    spans = _matches(r"<<[^\n]+>>", response)
    return [(start, end) for start, end in spans if response[start:end].lstrip("<").rstrip(">").strip()]


def _postscript(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """The postscript from its marker to the end of the line; when there is none, where the response ended without."""
    if not kept:
        return _last_words(response)
    marker = kwargs["postscript_marker"].strip()
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    lowered, origins = _lowered(response)
    found = _matches(patterns.get(marker, r"\s*" + marker.lower() + r".*$"), lowered, re.MULTILINE)
    spans = [_trimmed(lowered, span) for span in found]
    return [(origins[start], origins[end - 1] + 1) for start, end in spans if start < end]


def _placeholders(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    return _matches(r"\[.*?\]", response)


def _bullets(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """Each bullet's marker through the first character of its text."""
    spans = _matches(r"^\s*\*[^\*].*$", response, re.MULTILINE) + _matches(r"^\s*-.*$", response, re.MULTILINE)
    found = [_MARKER.match(response, _trimmed(response, span)[0]) for span in spans]
    return [match.span() for match in found if match]


def _highlights(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    single, double = _matches(r"\*[^\n\*]*\*", response), _matches(r"\*\*[^\n\*]*\*\*", response)
    return [(start, end) for start, end in single + double if response[start:end].strip("*").strip()]


def _section_headings(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    found = _matches(r"\s?" + kwargs["section_spliter"].strip() + r"\s?\d+\s?", response)
    return [_trimmed(response, span) for span in found]


def _paragraph_dividers(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    return [_trimmed(response, span) for span in _matches(r"\s?\*\*\*\s?", response)]


def _response_dividers(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    return _matches(r"\*{6}", response)


def _options(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    return _matches(r"My answer is (?:yes|no|maybe)\.", response)


def _json(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """Kept: the outermost characters of the JSON text. Broken: the character at which it stops being JSON."""
    start, end = whole = _trimmed(response, (0, len(response)))
    text = response[start:end]
    for prefix in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(prefix)
    start = end - len(text)
    start, end = _trimmed(response, (start, start + len(text.removesuffix("```"))))
    if start >= end:  # fences around nothing
        return [whole]
    if kept:
        return [(start, start + 1), (end - 1, end)]
    try:
        json.loads(response[start:end])
    except json.JSONDecodeError as error:
        stop = min(start + error.pos, end - 1)  # it may miss something after the last character
        return [(stop, stop + 1)]
    except ValueError:  # an integer with more digits than Python converts; it does not say where
        pass
    return [(start, end)]


def _first_word_of_paragraph(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """The word and the blank lines that set the number of paragraphs; when broken, whichever of the two is wrong."""
    breaks = _matches(r"\n\n", response)
    edges = [0, *(edge for span in breaks for edge in span), len(response)]
    paragraphs = [_trimmed(response, span) for span in zip(edges[::2], edges[1::2], strict=True)]
    number = sum(start < end for start, end in paragraphs)
    position = kwargs["nth_paragraph"] - 1
    word: list[Span] = []
    is_right = False
    if position < number and paragraphs[position][0] < paragraphs[position][1]:
        # As the checker reads it: without quotation marks before it, up to the first punctuation mark.
        start, end = paragraphs[position]
        match = re.match(r"""'*"*([^\s.,?!'"]+)""", response[start:end])
        is_right = match is not None and match[1].lower() == kwargs["first_word"].lower()
        first, last = match.span(1) if match else _matches(r"\S+", response[start:end])[0]
        word = [(start + first, start + last)]
    if kept:
        return word + breaks
    return ([] if is_right else word) + ([] if number == kwargs["num_paragraphs"] else breaks)


# Beginning and end.


def _ending(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """The phrase at the end; when another text stands there, as many of its last words as the phrase has."""
    phrase = kwargs["end_phrase"].strip().lower()
    if not kept:
        return _last_words(response, len(phrase.split()))
    unquoted = response.strip().strip('"')
    lowered, origins = _lowered(unquoted)
    if not phrase:
        return []
    start = response.find(unquoted)
    return [(start + origins[len(lowered) - len(phrase)], start + origins[-1] + 1)]


def _quotation(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """The first and the last character; when broken, the one that should have been a quotation mark."""
    start, end = _trimmed(response, (0, len(response)))
    edges = [(start, start + 1), (end - 1, end)]
    if kept or end - start == 1:
        return edges
    return [edge for edge in edges if response[edge[0]] != '"']


# Lengths.


def _length_in_words(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """From the word with which the number is reached to the end; when it is not reached, the end."""
    import nltk

    reached = kept == (kwargs["relation"] == "at least")
    if not reached:
        return _last_words(response)
    # NLTK's own tokenizer, as it knows newer letters than the standard library.
    words = list(nltk.tokenize.RegexpTokenizer(r"\w+").span_tokenize(response))
    # A number of 0 is reached before the first word.
    return [(words[max(int(kwargs["num_words"]) - 1, 0)][0], len(response.rstrip()))] if words else []


def _sentence_ends(kwargs: dict[str, Any], response: str, kept: bool) -> list[Span]:
    """The punctuation that ends each sentence, or its last character if none does; sentences as Punkt divides them.

    Where the number is not reached, the last of them: there the response stopped.
    """
    from if_verifiable.ifeval import instructions_util

    spans = []
    for start, end in instructions_util._get_sentence_tokenizer().span_tokenize(response):
        mark = _SENTENCE_END.search(response, start, end)
        spans.append(mark.span(1) if mark else (end - 1, end))
    reached = kept == (kwargs["relation"] == "at least")
    return spans if reached else spans[-1:]


_LABELLERS: dict[str, Labeller] = {
    "change_case:capital_word_frequency": _at_least(_capital_words, "capital_relation"),
    "change_case:english_capital": _all_capitals,
    "change_case:english_lowercase": _no_capitals,
    "combination:two_responses": _response_dividers,
    "detectable_content:number_placeholders": _at_least(_placeholders),
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": _options,
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _at_least(_section_headings),
    "detectable_format:number_bullet_lists": _exactly(_bullets, "num_bullets"),
    "detectable_format:number_highlighted_sections": _at_least(_highlights),
    "detectable_format:title": _titles,
    "keywords:existence": _keywords,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:frequency": _at_least(_keyword_occurrences),
    "keywords:letter_frequency": _at_least(_letter_occurrences, "let_relation"),
    "length_constraints:nth_paragraph_first_word": _first_word_of_paragraph,
    "length_constraints:number_paragraphs": _exactly(_paragraph_dividers, "num_paragraphs"),
    "length_constraints:number_sentences": _sentence_ends,
    "length_constraints:number_words": _length_in_words,
    "punctuation:no_comma": _commas,
    "startend:end_checker": _ending,
    "startend:quotation": _quotation,
}

LABELLED_KINDS = frozenset(_LABELLERS)
