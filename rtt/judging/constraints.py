"""Checkers for constraints as MulDimIF words them: [category, subcategory, text].

A text is turned into a checkable form only where it can mean one thing; everything else is left to a language model.
Kinds are called ``muldimif:<check>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

PREFIX = "muldimif:"

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

# A constraint on a part of the answer, on a choice, or on an amount of something else is not one on the answer.
_PART = re.compile(
    r"\b(each|every|either|entry|entries|title|name|names|headings?|sections?|items?|definitions?|labels?|captions?|"
    r"points?|first|last|opening|introduction|conclusion|step|steps|line|lines|question|questions|bullet|example|"
    r"examples|per|one of|or|unless|except|approximately|about|around|roughly|code|script|quote|quotes|lyrics?|"
    r"description|summary)\b",
    re.IGNORECASE,
)

_BOUNDS: list[tuple[str, Callable[..., Bounds]]] = [
    (rf"between {_NUMBER} (?:and|to) {_NUMBER}", lambda a, b: (a, b)),
    (rf"(?:from )?{_NUMBER}(?: to |-|–){_NUMBER}", lambda a, b: (a, b)),
    (
        rf"(?:at most|no more than|not exceed(?:ing)?|(?:a )?maximum of|up to|limited to|not more than) {_NUMBER}",
        lambda n: (None, n),
    ),
    (rf"(?:at least|no fewer than|no less than|(?:a )?minimum of|not less than) {_NUMBER}", lambda n: (n, None)),
    (rf"(?:fewer than|less than|under) {_NUMBER}", lambda n: (None, n - 1)),
    (rf"(?:more than|over) {_NUMBER}", lambda n: (n + 1, None)),
    (rf"exactly {_NUMBER}", lambda n: (n, n)),
]


def bounds(text: str, unit: str) -> Bounds | None:
    """The one amount of `unit` a text asks for, as (least, most); None where it names none, or several."""
    found = []
    text = text.lower()
    for pattern, read in _BOUNDS:
        for match in re.finditer(rf"\b{pattern} {unit}\b", text):
            found.append((match.start(), read(*(_NUMBERS.get(part) or int(part) for part in match.groups()))))
            text = text[: match.start()] + " " * len(match.group()) + text[match.end() :]
    if len(found) != 1 or re.search(rf"{_NUMBER} {unit}\b", text):
        return None
    least, most = found[0][1]
    return None if least is not None and most is not None and least > most else (least, most)


def _amount(unit: str, check: str) -> Callable[[str], tuple[str, dict[str, Any]] | None]:
    def read(text: str) -> tuple[str, dict[str, Any]] | None:
        found = None if _PART.search(text) else bounds(text, unit)
        return None if found is None else (check, {"least": found[0], "most": found[1]})

    return read


_QUOTED = re.compile(r"'((?:[^'\n]|(?<=\w)'(?=\w))+)'(?!\w)|\"([^\"\n]+)\"|‘([^’\n]+)’|“([^”\n]+)”")


def _keywords(text: str) -> tuple[str, dict[str, Any]] | None:
    """Words between quotation marks after the word keyword; not where some of them are to be left out or counted."""
    start = re.search(r"\bkeywords?\b", text, re.IGNORECASE)
    if start is None or re.search(
        r"\b(not|no|avoid|exclude|without|times|once|twice|or|either|any of)\b", text, re.IGNORECASE
    ):
        return None
    if _PART.search(_QUOTED.sub("", text)):
        return None
    words = [next(filter(None, groups)).strip(" .,;:!?") for groups in _QUOTED.findall(text, start.end())]
    words = [word for word in words if word]
    return ("keywords", {"words": words}) if words else None


_MARKS = {"period": ".", "full stop": ".", "exclamation mark": "!", "exclamation point": "!", "question mark": "?"}


def _ending(text: str) -> tuple[str, dict[str, Any]] | None:
    marks = {mark for name, mark in _MARKS.items() if re.search(rf"\b{name}\b", text, re.IGNORECASE)}
    whole = re.search(
        r"\b(?:ends?|concludes?|ending punctuation)\b.{0,30}\b(?:with|be)\b.{0,4}"
        r"\b(?:period|full stop|\w+ mark|\w+ point)\b",
        text,
        re.IGNORECASE,
    )
    if (
        len(marks) != 1
        or whole is None
        or _PART.search(text)
        or re.search(r"\bsentences?\b|\bnot\b", text, re.IGNORECASE)
    ):
        return None
    return "ending", {"mark": marks.pop()}


def _case(text: str) -> tuple[str, dict[str, Any]] | None:
    lower = text.lower()
    if re.search(r"\b(title|heading|headings|name|names|section|acronym|first letter of the|not)\b", lower):
        return None
    if re.search(
        r"capitali[sz]ed letters? for each word|each word .{0,30}capitali[sz]ed|capitali[sz]ing each word", lower
    ):
        return "capitalised", {}
    if re.search(r"(?:all|entirely in|only|fully in) (?:uppercase|capital)(?: letters)?|all caps", lower):
        return "uppercase", {}
    if re.search(r"(?:all|entirely in|only) lowercase(?: letters)?", lower):
        return "lowercase", {}
    return None


def _table(text: str) -> tuple[str, dict[str, Any]] | None:
    found = [(unit, bounds(text, unit.rstrip("s") + "s?")) for unit in ("rows", "columns")]
    known = [(unit, limits) for unit, limits in found if limits is not None]
    counted = [unit for unit, _ in found if re.search(rf"{_NUMBER} {unit.rstrip('s')}", text.lower())]
    if (
        len(known) != 1
        or len(counted) > 1
        or re.search(r"\b(each|every|list|or)\b", text, re.IGNORECASE)
        or "table" not in text.lower()
    ):
        return None
    ((unit, (least, most)),) = known
    optional = re.search(r"\b(if|any tables?|when)\b", text, re.IGNORECASE) is not None
    return f"table_{unit}", {"least": least, "most": most, "needed": not optional}


def _heading(text: str) -> tuple[str, dict[str, Any]] | None:
    lower = text.lower()
    if re.search(r"\b(each|every|if|not)\b", lower):
        return None
    levels = bounds(text, r"(?:\w+ )?heading levels")
    if levels is not None:
        return "heading_levels", {"least": levels[0], "most": levels[1]}
    named = re.findall(r"\blevel (\d) heading|\bheading level (\d)\b", lower)
    if len(named) != 1 or re.search(r"\bheadings\b|\bh\d\b", lower):
        return None
    titled = re.search(r"\b(?:titled|called|named)\b", text, re.IGNORECASE)
    quoted = _QUOTED.search(text, titled.end()) if titled else None
    if titled and quoted is None:
        return None
    title = next(filter(None, quoted.groups())) if quoted else None
    return "heading", {"level": int(named[0][0] or named[0][1]), "title": title}


def _nesting(text: str) -> tuple[str, dict[str, Any]] | None:
    lower = (
        text.lower()
        .replace("nesting levels must not exceed", "not exceeding")
        .replace("nesting levels not exceeding", "not exceeding")
    )
    match = re.search(
        rf"(at least|at most|exactly|not exceed(?:ing)?|no more than) {_NUMBER}"
        r"(?: levels of nesting| nesting levels|$)",
        lower,
    )
    if match is None or not re.search("json|object", lower):
        return None
    number = _NUMBERS.get(match.group(2)) or int(match.group(2))
    how = match.group(1)
    return "json_nesting", {
        "least": number if how in ("at least", "exactly") else None,
        "most": None if how == "at least" else number,
    }


def _start(text: str) -> tuple[str, dict[str, Any]] | None:
    match = re.search(
        r"\b(?:answer|response) (?:must|should) start with the (?:identifier|word|phrase)\s", text, re.IGNORECASE
    )
    quoted = _QUOTED.search(text, match.end() - 1) if match else None
    return ("start", {"text": next(filter(None, quoted.groups()))}) if quoted else None


def _quoting(text: str) -> tuple[str, dict[str, Any]] | None:
    whole = re.search(r"\b(?:use|be formatted as|include)\b.{0,12}\bblock ?quotes?\b", text, re.IGNORECASE)
    return ("block_quote", {}) if whole and not re.search(r"\b(each|every|not|no|if)\b", text, re.IGNORECASE) else None


def _bullets(text: str) -> tuple[str, dict[str, Any]] | None:
    return ("no_bullets", {}) if re.fullmatch(r"\W*no bullet points\W*", text, re.IGNORECASE) else None


_READERS: dict[str, tuple[Callable[[str], tuple[str, dict[str, Any]] | None], ...]] = {
    "keyword": (_keywords,),
    "punctuation": (_ending,),
    "identifier": (_start,),
    "english": (_case,),
    "words": (_amount("words?", "words"),),
    "sentences": (_amount("sentences?", "sentences"),),
    "paragraphs": (_amount("paragraphs?", "paragraphs"),),
    "table": (_table,),
    "row limit": (_table,),
    "column limit": (_table,),
    "markdown": (_heading, _quoting),
    "heading": (_heading,),
    "block quote": (_quoting,),
    "json": (_nesting,),
    "nesting": (_nesting,),
    "text": (_bullets,),
}
"""What stands in a category or subcategory, and how such a text is read; the first reading counts."""


def decide(category: str, subcategory: str, text: str) -> tuple[str, dict[str, Any]] | None:
    """The kind and the arguments of a constraint's checker; None where no checker can decide it for sure.

    Args:
        category: such as ``Length``.
        subcategory: such as ``Words: At most``.
        text: the constraint in words.
    """
    place = f"{category} {subcategory}".lower()
    for name, readers in _READERS.items():
        if name in place:
            for read in readers:
                found = read(text)
                if found is not None:
                    return PREFIX + found[0], found[1]
    return None


def _within(count: int, least: int | None, most: int | None) -> bool:
    return (least is None or count >= least) and (most is None or count <= most)


def _words(response: str) -> list[str]:
    return [word for word in response.split() if any(letter.isalnum() for letter in word)]


def _sentences(response: str) -> int:
    import nltk

    return len([s for s in nltk.sent_tokenize(response) if any(letter.isalnum() for letter in s)])


def _paragraphs(response: str) -> int:
    return len([part for part in re.split(r"\n\s*\n", response) if part.strip()])


_DASHES = re.compile(r"\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?")


def _tables(response: str) -> list[list[str]]:
    """The Markdown tables: their lines, the header first, without the line of dashes below it."""
    lines = [line.strip() for line in response.splitlines()]
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


def _columns(line: str) -> int:
    return len(re.split(r"(?<!\\)\|", line.strip().strip("|")))


def _headings(response: str) -> list[tuple[int, str]]:
    return [
        (len(m.group(1)), m.group(2).strip(" #")) for m in re.finditer(r"^(#{1,6})\s+(.*)$", response, re.MULTILINE)
    ]


def _json_value(response: str) -> Any:
    """The JSON value a response is or has in its only code block; None where there is none."""
    blocks = re.findall(r"```(?:json)?\s*\n(.*?)```", response, re.DOTALL | re.IGNORECASE)
    for text in [response, *(blocks if len(blocks) == 1 else [])]:
        try:
            return json.loads(text)
        except ValueError:
            continue
    return None


def _depth(value: Any) -> int:
    """Levels of objects inside one another."""
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    return max((_depth(item) for item in value), default=0) if isinstance(value, list) else 0


def _table_count(
    response: str, count: Callable[[list[str]], int], least: int | None, most: int | None, needed: bool
) -> bool:
    tables = _tables(response)
    return all(_within(count(table), least, most) for table in tables) and (bool(tables) or not needed)


_CHECKS: dict[str, Callable[..., bool]] = {
    "keywords": lambda response, words: all(word.lower() in response.lower() for word in words),
    "ending": lambda response, mark: response.rstrip(" \n\"'”’*_)").endswith(mark),
    "start": lambda response, text: response.lstrip().startswith(text),
    "capitalised": lambda response: all(not word.lstrip("\"'(*_[“‘#")[:1].islower() for word in _words(response)),
    "uppercase": lambda response: response.upper() == response and any(c.isalpha() for c in response),
    "lowercase": lambda response: response.lower() == response and any(c.isalpha() for c in response),
    "words": lambda response, least=None, most=None: _within(len(_words(response)), least, most),
    "sentences": lambda response, least=None, most=None: _within(_sentences(response), least, most),
    "paragraphs": lambda response, least=None, most=None: _within(_paragraphs(response), least, most),
    "table_rows": lambda response, least=None, most=None, needed=True: _table_count(
        response, lambda t: len(t) - 1, least, most, needed
    ),
    "table_columns": lambda response, least=None, most=None, needed=True: _table_count(
        response, lambda t: _columns(t[0]), least, most, needed
    ),
    "heading_levels": lambda response, least=None, most=None: _within(
        len({level for level, _ in _headings(response)}), least, most
    ),
    "heading": lambda response, level, title=None: any(
        found == level and (title is None or text.lower() == title.lower()) for found, text in _headings(response)
    ),
    "block_quote": lambda response: re.search(r"^\s*>\s*\S", response, re.MULTILINE) is not None,
    "json_nesting": lambda response, least=None, most=None: (
        isinstance(value := _json_value(response), dict) and _within(_depth(value), least, most)
    ),
    "no_bullets": lambda response: re.search(r"^\s*[-*•]\s+\S", response, re.MULTILINE) is None,
}


def kinds() -> frozenset[str]:
    """The kinds that have a checker here."""
    return frozenset(PREFIX + name for name in _CHECKS)


def follows(kind: str, kwargs: Mapping[str, Any], response: str) -> bool:
    """Whether the response keeps the constraint; an empty one keeps none.

    Raises:
        KeyError: an unknown kind.
        TypeError: arguments the checker does not take.
    """
    kept = _CHECKS[kind.removeprefix(PREFIX)](response, **kwargs)  # also on an empty one: it refuses bad arguments
    return kept and bool(response.strip())
