"""Checkers for constraints as MulDimIF words them: [category, subcategory, text].

A text is turned into a checkable form only where it can mean one thing and asks for nothing else; everything else is
left to a language model. Kinds are called ``muldimif:<check>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

PREFIX = "muldimif:"

Found = tuple[str, dict[str, Any]] | None
"""A check and its arguments, or None where a text is not understood for sure."""

Bounds = tuple[int | None, int | None]

_NUMBERS = {
    "zero": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
    "twenty": 20,
}
_NUMBER = rf"(\d+|{'|'.join(_NUMBERS)})"

_MOST = (
    r"(?:at most|no more than|not exceed(?:ing)?(?: a maximum of)?|(?:a )?maximum of|up to|limited to|not more than)"
)
_LEAST = r"(?:at least|no fewer than|no less than|(?:a )?minimum of|not less than)"
_BOUNDS: list[tuple[str, Callable[..., Bounds]]] = [
    (rf"between {_NUMBER} (?:and|to) {_NUMBER}", lambda a, b: (a, b)),
    (rf"(?:from )?{_NUMBER}(?: to |-|–){_NUMBER}", lambda a, b: (a, b)),
    (rf"{_MOST} {_NUMBER}", lambda n: (None, n)),
    (rf"{_LEAST} {_NUMBER}", lambda n: (n, None)),
    (rf"(?:fewer than|less than|under) {_NUMBER}", lambda n: (None, n - 1)),
    (rf"more than {_NUMBER}", lambda n: (n + 1, None)),
    (rf"exactly {_NUMBER}", lambda n: (n, n)),
]
_COMPARED = re.compile(rf"\b(?:{_MOST}|{_LEAST}|fewer than|less than|more than|under|over|exactly) {_NUMBER}\b")
_NEGATED = re.compile(r"\b(?:not|never|cannot|nor?|avoid\w*|without|instead|rather)\b|n['’]t\b", re.IGNORECASE)

# A constraint on a part of the answer, on a choice, or on an amount of something else is not one on the answer.
_PART = re.compile(
    r"\b(each|every|either|entry|entries|titles?|names?|usernames?|urls?|headings?|sections?|items?|definitions?|"
    r"labels?|captions?|points?|first|last|opening|introduction|conclusion|steps?|lines?|questions?|bullets?|"
    r"examples?|per|one of|or|unless|except|approximately|about|around|roughly|code|script|quotes?|lyrics?|"
    r"description|summary|tables?|columns?|cells?|lists?|terms?|slides?|phrases?|authors?|references?|describing|"
    r"beginning|end of)\b",
    re.IGNORECASE,
)

_QUOTED = re.compile(r"'((?:[^'\n]|(?<=\w)'(?=\w))+)'(?!\w)|\"([^\"\n]+)\"|‘([^’\n]+)’|“([^”\n]+)”")

# What a text speaks of, outside quotation marks; one that speaks of more than its checker checks asks for more.
_ASPECTS = {
    "length": re.compile(rf"{_NUMBER} (?:words?|sentences?|paragraphs?|characters?)\b", re.IGNORECASE),
    "ending": re.compile(r"\b(?:ends?|concludes?|ending)\b.{0,30}\b(?:period|full stop|mark|point)\b", re.IGNORECASE),
    "keyword": re.compile(r"\bkeywords?\b", re.IGNORECASE),
    "case": re.compile(r"capitali[sz]|\b(?:uppercase|lowercase|all caps)\b", re.IGNORECASE),
    "english": re.compile(r"\bin english\b|\bbe english\b|\bis english\b", re.IGNORECASE),
    "table": re.compile(r"\b(?:tables?|rows?|columns?)\b", re.IGNORECASE),
    "json": re.compile(r"\bjson\b", re.IGNORECASE),
    "xml": re.compile(r"\bxml\b", re.IGNORECASE),
    "quotes": re.compile(r"\bblock ?quotes?\b", re.IGNORECASE),
    "heading": re.compile(r"\bheadings?\b", re.IGNORECASE),
}


def bounds(text: str, unit: str) -> Bounds | None:
    """The one amount a text compares, as (least, most) of `unit`; None where it compares none, several, or denies it.

    Args:
        text: such as ``at most ten words``.
        unit: a regular expression for its name, such as ``words?``.
    """
    text = text.lower()
    found = []
    for pattern, read in _BOUNDS:
        for match in re.finditer(rf"\b{pattern} {unit}\b", text):
            found.append((match.start(), read(*map(_number, match.groups()))))
            text = text[: match.start()] + " " * len(match.group()) + text[match.end() :]
    if len(found) != 1 or _COMPARED.search(text) or re.search(rf"{_NUMBER} {unit}\b", text):
        return None
    start, (least, most) = found[0]
    if _NEGATED.search(text[:start]) or (least is not None and most is not None and least > most):
        return None
    return least, most


def _number(text: str) -> int:
    return _NUMBERS[text] if text in _NUMBERS else int(text)


def _limits(found: Bounds) -> dict[str, int]:
    return {name: number for name, number in zip(("least", "most"), found, strict=True) if number is not None}


def _amount(unit: str, check: str) -> Callable[[str], Found]:
    def read(text: str) -> Found:
        found = None if _PART.search(text) else bounds(text, unit)
        return None if found is None else (check, _limits(found))

    return read


def _inside(match: re.Match[str]) -> str:
    """What a match of `_QUOTED` has between its quotation marks, without a mark that belongs to the sentence around."""
    return next(filter(None, match.groups())).strip(" .,;:!?")


def _keywords(text: str) -> Found:
    """Words between quotation marks right after the word keyword, with nothing but commas and "and" between them."""
    outside = _QUOTED.sub("", text)
    if _NEGATED.search(outside) or _PART.search(outside):
        return None
    if re.search(r"\b(exclud\w+|times|once|twice|any of|such as|like|bold|italics?)\b", outside, re.IGNORECASE):
        return None
    quoted = list(_QUOTED.finditer(text))
    if not quoted or not re.search(r"\bkeywords?:?\s*\Z", text[: quoted[0].start()], re.IGNORECASE):
        return None
    between = [text[left.end() : right.start()] for left, right in pairwise(quoted)]
    if not all(re.fullmatch(r"\s*,?\s*(?:and\s+)?", gap) for gap in between):
        return None
    words = [_inside(match) for match in quoted]
    return ("keywords", {"words": words}) if all(words) else None


_MARKS = {"period": ".", "full stop": ".", "exclamation mark": "!", "exclamation point": "!", "question mark": "?"}


def _ending(text: str) -> Found:
    if _PART.search(text) or _NEGATED.search(text) or re.search(r"\b(sentences?|paragraphs?)\b", text, re.IGNORECASE):
        return None
    marks = {mark for name, mark in _MARKS.items() if re.search(rf"\b{name}\b", text, re.IGNORECASE)}
    whole = re.search(
        r"\b(?:ends?|concludes?|ending punctuation)\b.{0,30}\b(?:with|be)\b.{0,4}"
        r"\b(?:period|full stop|\w+ mark|\w+ point)\b",
        text,
        re.IGNORECASE,
    )
    return ("ending", {"mark": marks.pop()}) if whole and len(marks) == 1 else None


# A script or a summary is what was asked for, and so the whole answer; these are parts of one.
_CASED_PART = re.compile(
    r"\b(titles?|headings?|names?|usernames?|urls?|sections?|acronyms?|entries|lines?|phrases?|authors?|tables?|"
    r"labels?|keywords?|first letter|each question)\b",
    re.IGNORECASE,
)


def _case(text: str) -> Found:
    if _CASED_PART.search(text) or _NEGATED.search(text):
        return None
    lower = text.lower()
    if re.search(
        r"capitali[sz]ed letters? for each word|each word .{0,30}capitali[sz]ed|capitali[sz]ing each word", lower
    ):
        return "capitalised", {}
    if re.search(r"(?:all|entirely in|only|fully in) (?:uppercase|capital)(?: letters)?|all caps", lower):
        return "uppercase", {}
    if re.search(r"(?:all|entirely in|only) lowercase(?: letters)?", lower):
        return "lowercase", {}
    return None


def _table(text: str) -> Found:
    """How many rows (without the header) or columns; not where it says what stands in them."""
    named = (
        r":|\b(each|every|list|or|header|label\w*|titled|named|specifically|these columns|one for|one dedicated|"
        r"detailing|detail|display)\b"
    )
    units = re.findall(rf"{_NUMBER} (row|column)s?\b", text.lower())
    if len(units) != 1 or "table" not in text.lower() or _QUOTED.search(text) or re.search(named, text, re.IGNORECASE):
        return None
    unit = units[0][1]
    limits = bounds(text, f"{unit}s?")
    if limits is None:
        return None
    optional = re.search(r"\b(if|any tables?|when)\b", text, re.IGNORECASE) is not None
    return f"table_{unit}s", {**_limits(limits), "needed": not optional}


def _heading(text: str) -> Found:
    """That there is a heading of a level, with a title or without; not where it says which part it stands over."""
    if re.search(r"\b(each|every|if)\b", text, re.IGNORECASE) or _NEGATED.search(text):
        return None
    plain = re.split(r",? (?:such as|like)\b", text)[0]
    levels = bounds(plain, r"(?:different |distinct )?heading levels")
    if levels is not None:
        return (
            None
            if re.search(r"[:#'\"‘“]|\bh\d\b|\blabel", plain, re.IGNORECASE)
            else ("heading_levels", _limits(levels))
        )
    named = re.findall(r"\b(?:level (\d) heading|heading level (\d))\b", text.lower())
    quoted = list(_QUOTED.finditer(text))
    outside = _QUOTED.sub("", text)
    if len(named) != 1 or re.search(
        r"\b(headings|h\d|for|as|under|over|main|begin\w*|start\w*|preced\w*|top)\b", outside, re.IGNORECASE
    ):
        return None
    asked: dict[str, Any] = {"level": int(named[0][0] or named[0][1])}
    titled = r"\b(?:titled|called|named|with the text|title):?\s*\Z"
    if len(quoted) == 1 and re.search(titled, text[: quoted[0].start()]):
        return "heading", {**asked, "title": _inside(quoted[0])}
    return None if quoted or re.search(r"\b(titles?|titled|called|named|text)\b", outside) else ("heading", asked)


def _nesting(text: str) -> Found:
    lower = re.sub(r"nesting levels (?:must not exceed|not exceeding)", "not exceeding", text.lower())
    match = re.search(
        rf"(at least|at most|exactly|not exceed(?:ing)?|no more than) {_NUMBER}"
        r"(?: levels of nesting| nesting levels|$)",
        lower,
    )
    if match is None or not re.search("json|object", lower) or _NEGATED.search(lower[: match.start()]):
        return None
    number, how = _number(match[2]), match[1]
    return "json_nesting", _limits(
        (number if how in ("at least", "exactly") else None, None if how == "at least" else number)
    )


def _start(text: str) -> Found:
    match = re.search(
        r"\b(?:answer|response) (?:must|should) start with the (?:identifier|word|phrase)\s+\Z",
        _QUOTED.split(text)[0],
        re.IGNORECASE,
    )
    quoted = list(_QUOTED.finditer(text))
    return ("start", {"text": next(filter(None, quoted[0].groups()))}) if match and len(quoted) == 1 else None


def _quoting(text: str) -> Found:
    whole = re.search(r"\b(?:use|be formatted as|include)\b.{0,12}\bblock ?quotes?\b", text, re.IGNORECASE)
    return ("block_quote", {}) if whole and not re.search(r"\b(each|every|not|no|if)\b", text, re.IGNORECASE) else None


def _bullets(text: str) -> Found:
    return ("no_bullets", {}) if re.fullmatch(r"\W*no bullet points\W*", text, re.IGNORECASE) else None


_READERS: list[tuple[str, Callable[[str], Found], set[str]]] = [
    ("keyword", _keywords, {"keyword"}),
    ("punctuation", _ending, {"ending"}),
    ("identifier", _start, set()),
    ("english", _case, {"case"}),
    ("words", _amount("words?", "words"), {"length"}),
    ("sentences", _amount("sentences?", "sentences"), {"length"}),
    ("paragraphs", _amount("paragraphs?", "paragraphs"), {"length"}),
    ("table", _table, {"table"}),
    ("row limit", _table, {"table"}),
    ("column limit", _table, {"table"}),
    ("markdown", _heading, {"heading"}),
    ("markdown", _quoting, {"quotes"}),
    ("heading", _heading, {"heading"}),
    ("block quote", _quoting, {"quotes"}),
    ("json", _nesting, {"json"}),
    ("nesting", _nesting, {"json"}),
    ("text", _bullets, set()),
]
"""What stands in a category or subcategory, how such a text is read, and the aspects that reading covers."""


def decide(category: str, subcategory: str, text: str) -> Found:
    """The kind and the arguments of a constraint's checker; None where no checker can decide all of it for sure.

    Args:
        category: such as ``Length``.
        subcategory: such as ``Words: At most``.
        text: the constraint in words.
    """
    place = f"{category} {subcategory}".lower()
    spoken = _QUOTED.sub("", text)
    aspects = {name for name, pattern in _ASPECTS.items() if pattern.search(spoken)}
    for name, read, covered in _READERS:
        found = read(text) if name in place and aspects <= covered else None
        if found is not None:
            return PREFIX + found[0], found[1]
    return None


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Limits(_Arguments):
    least: int | None = Field(default=None, ge=0)
    most: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _some(self) -> _Limits:
        if self.least is None and self.most is None:
            raise ValueError("give least, most or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("least is above most")
        return self

    def hold(self, count: int) -> bool:
        return (self.least is None or count >= self.least) and (self.most is None or count <= self.most)


class _TableLimits(_Limits):
    needed: bool = True


_Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


class _Words(_Arguments):
    words: list[_Text] = Field(min_length=1)


class _Mark(_Arguments):
    mark: Literal[".", "!", "?"]


class _Start(_Arguments):
    text: _Text


class _Heading(_Arguments):
    level: int = Field(ge=1, le=6)
    title: _Text | None = None


def _words(response: str) -> list[str]:
    return [word for word in response.split() if any(letter.isalnum() for letter in word)]


def _sentences(response: str) -> int:
    import nltk

    return len([s for s in nltk.sent_tokenize(response) if any(letter.isalnum() for letter in s)])


def _paragraphs(response: str) -> int:
    return len([part for part in re.split(r"\n\s*\n", response) if part.strip()])


def _straight(text: str) -> str:
    """In lower case, with straight apostrophes."""
    return text.lower().replace("’", "'")


# A block of Markdown in an answer counts as Markdown; one of Python does not.
_FOREIGN = re.compile(r"^[ \t]*```(?!\s*\n|markdown\b|md\b).*?(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


def _markdown(response: str) -> str:
    """The response without code blocks in another language."""
    return _FOREIGN.sub("", response)


_DASHES = re.compile(r"\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?")


def _tables(response: str) -> list[list[str]]:
    """The Markdown tables: their lines, the header first, without the line of dashes below it."""
    lines = [line.strip() for line in _markdown(response).splitlines()]
    tables: list[list[str]] = []
    inside = False
    for above, line in zip(["", *lines], lines, strict=False):
        if "|" in above and _DASHES.fullmatch(line):
            inside = True
            tables.append([above])
        elif inside and "|" in line:
            tables[-1].append(line)
        else:
            inside = False
    return tables


def _rows(table: list[str]) -> int:
    return len(table) - 1


def _columns(table: list[str]) -> int:
    return len(re.split(r"(?<!\\)\|", table[0].strip().removeprefix("|").removesuffix("|")))


def _keep_limits(response: str, limits: _TableLimits, count: Callable[[list[str]], int]) -> bool:
    tables = _tables(response)
    return all(limits.hold(count(table)) for table in tables) and (bool(tables) or not limits.needed)


def _headings(response: str) -> list[tuple[int, str]]:
    return [
        (len(m.group(1)), m.group(2).strip(" #"))
        for m in re.finditer(r"^(#{1,6})[ \t]+(\S.*)$", _markdown(response), re.MULTILINE)
    ]


def _json_value(response: str) -> Any:
    """The JSON value a response is or has in its only code block; None where there is none."""
    blocks = re.findall(r"```(?:json)?\s*\n(.*?)```", response, re.DOTALL | re.IGNORECASE)
    for text in [response, *(blocks if len(blocks) == 1 else [])]:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            continue
    return None


def _depth(value: Any) -> int:
    """Levels of objects inside one another."""
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    return max((_depth(item) for item in value), default=0) if isinstance(value, list) else 0


_CHECKS: dict[str, tuple[type[_Arguments], Callable[[str, Any], bool]]] = {
    "keywords": (_Words, lambda response, asked: all(_straight(word) in _straight(response) for word in asked.words)),
    "ending": (_Mark, lambda response, asked: response.rstrip(" \n\"'”’*_)").endswith(asked.mark)),
    "start": (_Start, lambda response, asked: response.lstrip().startswith(asked.text)),
    "capitalised": (
        _Arguments,
        lambda response, _: all(not word.lstrip("\"'(*_[“‘#")[:1].islower() for word in _words(response)),
    ),
    "uppercase": (_Arguments, lambda response, _: response.upper() == response and any(map(str.isalpha, response))),
    "lowercase": (_Arguments, lambda response, _: response.lower() == response and any(map(str.isalpha, response))),
    "words": (_Limits, lambda response, asked: asked.hold(len(_words(response)))),
    "sentences": (_Limits, lambda response, asked: asked.hold(_sentences(response))),
    "paragraphs": (_Limits, lambda response, asked: asked.hold(_paragraphs(response))),
    "table_rows": (_TableLimits, lambda response, asked: _keep_limits(response, asked, _rows)),
    "table_columns": (_TableLimits, lambda response, asked: _keep_limits(response, asked, _columns)),
    "heading_levels": (_Limits, lambda response, asked: asked.hold(len({level for level, _ in _headings(response)}))),
    "heading": (
        _Heading,
        lambda response, asked: any(
            level == asked.level and (asked.title is None or _straight(text) == _straight(asked.title))
            for level, text in _headings(response)
        ),
    ),
    "block_quote": (
        _Arguments,
        lambda response, _: re.search(r"^[ \t]*>[ \t]*\S", _markdown(response), re.MULTILINE) is not None,
    ),
    "json_nesting": (
        _Limits,
        lambda response, asked: isinstance(value := _json_value(response), dict) and asked.hold(_depth(value)),
    ),
    "no_bullets": (
        _Arguments,
        lambda response, _: re.search(r"^[ \t]*[-*•][ \t]+\S", _markdown(response), re.MULTILINE) is None,
    ),
}


def kinds() -> frozenset[str]:
    """The kinds that have a checker here."""
    return frozenset(PREFIX + name for name in _CHECKS)


def follows(kind: str, kwargs: Mapping[str, Any], response: str) -> bool:
    """Whether the response keeps the constraint; an empty one keeps none.

    Raises:
        KeyError: an unknown kind.
        ValueError: arguments the checker does not take, or of which it could not make sense.
        LookupError: NLTK's data is not there.
    """
    model, keeps = _CHECKS[kind.removeprefix(PREFIX)]
    try:
        asked = model.model_validate(kwargs)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {what}" if place else what) from None
    return bool(response.strip()) and keeps(response, asked)
