"""The checkable kinds of rubric that made prompts use: how each is worded, drawn, and what it cannot stand beside.

Every kind is one of IFEval's and keeps IFEval's name and arguments, so its checker judges it. Each is worded in several
ways, so that a discriminator has to read the criterion instead of knowing a template by heart. The sizes asked for suit
answers of some 15 to 35 words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rtt.rubrics import Rubric

HELDOUT_KINDS = (
    "detectable_content:number_placeholders",
    "length_constraints:number_paragraphs",
    "change_case:capital_word_frequency",
    "detectable_format:multiple_sections",
)
"""The kinds no training prompt has by default."""

END_PHRASES = (
    "Hope that helps.",
    "That is all for now.",
    "Good luck with it!",
    "Let me know how it goes.",
    "Have a lovely day.",
    "Thanks for reading.",
    "See you soon.",
    "Tell me what you think.",
    "Simple as that.",
    "Now it is your turn.",
    "What would you do?",
    "Take care, and keep smiling.",
    "Easy, is it not?",
    "Give it a try today!",
)

# Letters whose count an answer can vary, with the count to expect in 30 words of plain English.
LETTERS = {"b": 2, "c": 4, "d": 5, "f": 3, "g": 3, "k": 1, "l": 5, "m": 3, "p": 3, "u": 4, "v": 1, "w": 3, "y": 3}

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_RELATIONS = {"at least": ("at least", "no fewer than"), "less than": ("fewer than", "less than")}

# Words that must stay free for the answer itself when a response has an upper limit of words.
_SPARE_WORDS = 8

Kwargs = dict[str, Any]


@dataclass(frozen=True)
class Needs:
    """What any response that follows a rubric holds; upper limits of other rubrics are compared with it.

    Attributes:
        texts: pieces that stand in it literally, letter case aside; one that is needed twice is given twice.
        words: words it takes besides those of `texts`.
        sentences: sentences it takes besides the one every answer has.
    """

    texts: tuple[str, ...] = ()
    words: int = 0
    sentences: int = 0


@dataclass(frozen=True)
class Kind:
    """One checkable kind of rubric.

    Attributes:
        name: IFEval's name of the checker.
        texts: wordings of the criterion, with the places `fields` fills.
        draw: draws the checker's arguments, given the topic's words.
        fields: the values of the places in `texts`, given the arguments; may vary the wording.
        needs: what a response that follows it must hold, given the arguments.
    """

    name: str
    texts: tuple[str, ...]
    draw: Callable[[random.Random, Sequence[str]], Kwargs] = lambda rng, words: {}
    fields: Callable[[random.Random, Kwargs], dict[str, str]] = lambda rng, kwargs: {}
    needs: Callable[[Kwargs], Needs] = lambda kwargs: Needs()

    def text(self, rng: random.Random, kwargs: Kwargs) -> str:
        """The criterion in words: one imperative sentence of at most 20 words."""
        return rng.choice(self.texts).format(**self.fields(rng, kwargs))


# Wording.


def _number(rng: random.Random, number: int) -> str:
    return rng.choice((str(number), _NUMBERS[number])) if number < len(_NUMBERS) else str(number)


def _amount(rng: random.Random, number: int, noun: str) -> str:
    return f"{_number(rng, number)} {noun}" + ("" if number == 1 else "s")


def _times(rng: random.Random, number: int) -> str:
    return rng.choice(("twice", "two times")) if number == 2 else _amount(rng, number, "time")


def _bound(rng: random.Random, relation: str) -> str:
    return rng.choice(_RELATIONS[relation])


def _minimum(rng: random.Random, number: int, noun: str) -> str:
    bound = "at least" if number == 1 else _bound(rng, "at least")  # "no fewer than one" is not how people talk
    return f"{bound} {_amount(rng, number, noun)}"


def _quoted(words: Sequence[str], joint: str) -> str:
    return f" {joint} ".join(f'"{word}"' for word in words)


def _noun(words: Sequence[str]) -> str:
    return "word" if len(words) == 1 else "words"


# Arguments.


def _draw_words(rng: random.Random, words: Sequence[str]) -> list[str]:
    return sorted(rng.sample(list(words), rng.choice((1, 2))))


def _draw_letter(rng: random.Random, words: Sequence[str]) -> Kwargs:
    letter = rng.choice(sorted(LETTERS))
    return {
        "letter": letter,
        "let_frequency": max(2, LETTERS[letter] + rng.choice((0, 1))),
        "let_relation": rng.choice(sorted(_RELATIONS)),
    }


def _draw_number_words(rng: random.Random, words: Sequence[str]) -> Kwargs:
    relation = rng.choice(sorted(_RELATIONS))
    return {"num_words": rng.choice((15, 20, 25) if relation == "at least" else (20, 25, 30, 35)), "relation": relation}


_KINDS = (
    Kind(
        name="keywords:existence",
        texts=(
            "Include the {noun} {words} in the response.",
            "Make sure that {words} can be found in the text.",
            "Work the {noun} {words} into the answer.",
            "Mention {words} somewhere.",
            "The answer has to contain {words}.",
        ),
        draw=lambda rng, words: {"keywords": _draw_words(rng, words)},
        fields=lambda rng, kwargs: {"noun": _noun(kwargs["keywords"]), "words": _quoted(kwargs["keywords"], "and")},
        needs=lambda kwargs: Needs(texts=tuple(kwargs["keywords"])),
    ),
    Kind(
        name="keywords:frequency",
        texts=(
            'Use the word "{word}" {bound} {times}.',
            'Let the word "{word}" appear {bound} {times} in the response.',
            'Say "{word}" {bound} {times} in the answer.',
            'Repeat "{word}" so that it stands in the text {bound} {times}.',
        ),
        draw=lambda rng, words: {
            "keyword": rng.choice(list(words)),
            "frequency": rng.choice((2, 2, 3)),
            "relation": "at least",
        },
        fields=lambda rng, kwargs: {
            "word": kwargs["keyword"],
            "bound": _bound(rng, kwargs["relation"]),
            "times": _times(rng, kwargs["frequency"]),
        },
        needs=lambda kwargs: Needs(texts=(kwargs["keyword"],) * kwargs["frequency"]),
    ),
    Kind(
        name="keywords:forbidden_words",
        texts=(
            "Do not use the {noun} {words}.",
            "Avoid the {noun} {words}.",
            "Leave out the {noun} {words}.",
            "Write the answer without saying {words}.",
            "Never mention {words} in the response.",
        ),
        draw=lambda rng, words: {"forbidden_words": _draw_words(rng, words)},
        fields=lambda rng, kwargs: {
            "noun": _noun(kwargs["forbidden_words"]),
            "words": _quoted(kwargs["forbidden_words"], "or"),
        },
    ),
    Kind(
        name="keywords:letter_frequency",
        texts=(
            'Use the letter "{letter}" {bound} {times}.',
            'Let the letter "{letter}" occur {bound} {times} in the response.',
            'Write the text so that it has the letter "{letter}" {bound} {times}.',
            'Have the letter "{letter}" in the answer {bound} {times}.',
        ),
        draw=_draw_letter,
        fields=lambda rng, kwargs: {
            "letter": kwargs["letter"],
            "bound": _bound(rng, kwargs["let_relation"]),
            "times": _times(rng, kwargs["let_frequency"]),
        },
        needs=lambda kwargs: Needs(words=kwargs["let_frequency"] // 2 if kwargs["let_relation"] == "at least" else 0),
    ),
    Kind(
        name="punctuation:no_comma",
        texts=(
            "Do not use any commas.",
            "Write without commas.",
            "Keep the whole response free of commas.",
            "Avoid the comma altogether.",
            "There must be no comma in the text.",
        ),
    ),
    Kind(
        name="change_case:english_lowercase",
        texts=(
            "Write everything in lowercase English letters.",
            "Use no capital letters at all, and answer in English.",
            "Keep the entire English text in small letters.",
            "Answer in English with lowercase letters only.",
        ),
    ),
    Kind(
        name="change_case:english_capital",
        texts=(
            "Write everything in capital letters, in English.",
            "Answer in English and put the whole text in uppercase.",
            "Use only capital letters for your English answer.",
            "Set every letter of the English response in capitals.",
        ),
    ),
    Kind(
        name="change_case:capital_word_frequency",
        texts=(
            "Write {bound} {amount} entirely in capital letters.",
            "Let the response have {bound} {amount} in all capitals.",
            "Use {bound} {amount} spelled wholly in uppercase.",
            "Put {bound} {amount} of the text in full capitals.",
        ),
        draw=lambda rng, words: {
            "capital_frequency": rng.randint(2, 4),
            "capital_relation": rng.choice(sorted(_RELATIONS)),
        },
        fields=lambda rng, kwargs: {
            "bound": _bound(rng, kwargs["capital_relation"]),
            "amount": _amount(rng, kwargs["capital_frequency"], "word"),
        },
        needs=lambda kwargs: Needs(
            words=kwargs["capital_frequency"] if kwargs["capital_relation"] == "at least" else 0
        ),
    ),
    Kind(
        name="detectable_format:title",
        texts=(
            "Give the response a title in double angle brackets, like <<My Title>>.",
            "Add a title wrapped in << and >>.",
            "Put a heading of the form <<title>> on the answer.",
            "Include a title between double angle brackets, such as <<A Good Start>>.",
        ),
        needs=lambda kwargs: Needs(words=2),
    ),
    Kind(
        name="detectable_format:number_highlighted_sections",
        texts=(
            "Highlight {amount} with asterisks, like *this*.",
            "Put {amount} between single asterisks, as in *these words*.",
            "Mark {amount} as *highlighted* in markdown.",
            "Set {amount} in markdown emphasis, such as *important part*.",
        ),
        draw=lambda rng, words: {"num_highlights": rng.randint(1, 2)},
        fields=lambda rng, kwargs: {"amount": _minimum(rng, kwargs["num_highlights"], "phrase")},
        needs=lambda kwargs: Needs(words=kwargs["num_highlights"]),
    ),
    Kind(
        name="detectable_content:number_placeholders",
        texts=(
            "Leave {amount} in square brackets, such as [name].",
            "Include {amount} to fill in, written like [place].",
            "Put {amount} of the form [item] into the text.",
            "Use {amount} in brackets, for example [day].",
        ),
        draw=lambda rng, words: {"num_placeholders": rng.randint(1, 3)},
        fields=lambda rng, kwargs: {"amount": _minimum(rng, kwargs["num_placeholders"], "placeholder")},
        needs=lambda kwargs: Needs(words=kwargs["num_placeholders"]),
    ),
    Kind(
        name="detectable_format:number_bullet_lists",
        texts=(
            "Give exactly {amount}, each on a line that starts with *.",
            "Use a list of exactly {amount} in markdown, such as * like this.",
            "Include exactly {amount}, each on its own line after an asterisk.",
            "Write exactly {amount} and start each line with an asterisk.",
        ),
        draw=lambda rng, words: {"num_bullets": rng.randint(2, 3)},
        fields=lambda rng, kwargs: {"amount": _amount(rng, kwargs["num_bullets"], "bullet point")},
        needs=lambda kwargs: Needs(words=3 * kwargs["num_bullets"], sentences=kwargs["num_bullets"] - 1),
    ),
    Kind(
        name="length_constraints:number_paragraphs",
        texts=(
            "Write exactly {amount} and separate them with ***.",
            "Divide the answer into {amount} with the markdown divider *** between them.",
            "Let the response have {amount}, with a line of *** between them.",
            "Use *** as the divider between exactly {amount}.",
        ),
        draw=lambda rng, words: {"num_paragraphs": rng.randint(2, 3)},
        fields=lambda rng, kwargs: {"amount": _amount(rng, kwargs["num_paragraphs"], "paragraph")},
        needs=lambda kwargs: Needs(words=3 * kwargs["num_paragraphs"], sentences=kwargs["num_paragraphs"] - 1),
    ),
    Kind(
        name="detectable_format:multiple_sections",
        texts=(
            'Write {amount} and begin them with "{name} 1", "{name} 2" and so on.',
            'Divide the response into {amount}, each opened by "{name}" and its number.',
            'Mark the start of each of {amount} with "{name} X", X being its number.',
            'Use {amount} headed "{name} 1", "{name} 2" and onward.',
        ),
        draw=lambda rng, words: {
            "section_spliter": rng.choice(("Part", "Section", "Step")),
            "num_sections": rng.randint(2, 3),
        },
        fields=lambda rng, kwargs: {
            "name": kwargs["section_spliter"],
            "amount": _amount(rng, kwargs["num_sections"], "section"),
        },
        needs=lambda kwargs: Needs(
            texts=(kwargs["section_spliter"],) * kwargs["num_sections"],
            words=4 * kwargs["num_sections"],  # its number and three words of content
            sentences=kwargs["num_sections"] - 1,
        ),
    ),
    Kind(
        name="length_constraints:number_words",
        texts=(
            "Use {bound} {amount}.",
            "Let the response be {bound} {amount} long.",
            "The whole answer should have {bound} {amount}.",
            "Write {bound} {amount} in all.",
        ),
        draw=_draw_number_words,
        fields=lambda rng, kwargs: {
            "bound": _bound(rng, kwargs["relation"]),
            "amount": _amount(rng, kwargs["num_words"], "word"),
        },
    ),
    Kind(
        name="length_constraints:number_sentences",
        texts=(
            "Use {bound} {amount}.",
            "Answer in {bound} {amount}.",
            "Write {bound} {amount} in total.",
            "The response must have {bound} {amount}.",
        ),
        draw=lambda rng, words: {"num_sentences": rng.randint(2, 4), "relation": rng.choice(sorted(_RELATIONS))},
        fields=lambda rng, kwargs: {
            "bound": _bound(rng, kwargs["relation"]),
            "amount": _amount(rng, kwargs["num_sentences"], "sentence"),
        },
        needs=lambda kwargs: Needs(words=3 * kwargs["num_sentences"] if kwargs["relation"] == "at least" else 0),
    ),
    Kind(
        name="detectable_content:postscript",
        texts=(
            'Add a postscript at the end that starts with "{marker}"',
            'Close with a postscript introduced by "{marker}"',
            'After the main text, write a postscript beginning with "{marker}"',
            'Put a last remark marked "{marker}" below the answer.',
        ),
        draw=lambda rng, words: {"postscript_marker": rng.choice(("P.S.", "P.P.S"))},
        fields=lambda rng, kwargs: {"marker": kwargs["postscript_marker"]},
        # The sentence counter takes the marker for a sentence of its own.
        needs=lambda kwargs: Needs(texts=(kwargs["postscript_marker"],), words=3, sentences=2),
    ),
    Kind(
        name="startend:quotation",
        texts=(
            "Wrap the entire response in double quotation marks.",
            "Begin and end the answer with a double quotation mark.",
            "Put double quotes around the whole text.",
            "Enclose everything you write in double quotation marks.",
        ),
    ),
    Kind(
        name="startend:end_checker",
        texts=(
            'End with the exact words "{phrase}"',
            'Finish the response with "{phrase}" and nothing after it.',
            'Let the very last words be "{phrase}"',
            'Close with the phrase "{phrase}" and stop there.',
        ),
        draw=lambda rng, words: {"end_phrase": rng.choice(END_PHRASES)},
        fields=lambda rng, kwargs: {"phrase": kwargs["end_phrase"]},
        needs=lambda kwargs: Needs(texts=(kwargs["end_phrase"],), sentences=1),
    ),
)

KINDS = {kind.name: kind for kind in _KINDS}
"""Every kind by its name, in the order in which a prompt names its criteria: content first, the ending last."""

# Kinds that cannot, or cannot sensibly, stand in one prompt, whatever their arguments. Each set: at most one of them.
_EXCLUSIVE = (
    # Letter case. A section's name starts with a capital letter and the checker minds the case.
    {
        "change_case:english_lowercase",
        "change_case:english_capital",
        "change_case:capital_word_frequency",
    },
    {"change_case:english_lowercase", "detectable_format:multiple_sections"},
    {"change_case:english_capital", "detectable_format:multiple_sections"},
    # The last characters of a response belong to one of them.
    {"startend:end_checker", "startend:quotation", "detectable_content:postscript"},
    # A title stands outside the quotation.
    {"startend:quotation", "detectable_format:title"},
    # One layout for so short an answer.
    {
        "detectable_format:number_bullet_lists",
        "length_constraints:number_paragraphs",
        "detectable_format:multiple_sections",
    },
    # Asterisks with two meanings: "* *Rinse* it" has no highlight to the checker, and "*Rinse* it" is a bullet to it.
    {"detectable_format:number_highlighted_sections", "detectable_format:number_bullet_lists"},
    {"detectable_format:number_highlighted_sections", "length_constraints:number_paragraphs"},
    # As IFEval has it.
    {"detectable_format:number_highlighted_sections", "detectable_format:multiple_sections"},
    {"length_constraints:number_sentences", "length_constraints:number_paragraphs"},
)
_CONFLICTS = frozenset(frozenset(pair) for kinds in _EXCLUSIVE for pair in combinations(sorted(kinds), 2))


def find_conflict(rubrics: Sequence[Rubric]) -> str:
    """Why no response can sensibly follow all of these rubrics, or "" when one can.

    Args:
        rubrics: the rubrics of one prompt, each of a kind in ``KINDS``, with arguments as `Kind.draw` gives them.

    Raises:
        KeyError: a kind that is not in ``KINDS``.
    """
    needs = [KINDS[rubric.kind].needs(rubric.kwargs) for rubric in rubrics]
    for first, second in combinations(rubrics, 2):
        if first.kind == second.kind:
            return f"{first.kind} is given twice"
        if frozenset((first.kind, second.kind)) in _CONFLICTS:
            return f"{first.kind} excludes {second.kind}"

    keywords = [word for rubric in rubrics for word in _keywords(rubric)]
    for word in keywords:
        if keywords.count(word) > 1:
            return f"two rubrics are about the word {word!r}"

    whole = Needs(
        texts=tuple(text for need in needs for text in need.texts),
        words=sum(need.words for need in needs),
        sentences=sum(need.sentences for need in needs),
    )
    return next((reason for rubric in rubrics if (reason := _broken_limit(rubric, whole))), "")


def compatible(rubrics: Sequence[Rubric]) -> bool:
    """Whether one response can follow all of these rubrics; see :func:`find_conflict`."""
    return not find_conflict(rubrics)


def _keywords(rubric: Rubric) -> list[str]:
    """The words a rubric asks for or forbids; each may be some rubric's only once in a prompt."""
    kwargs = rubric.kwargs
    single = [kwargs["keyword"]] if "keyword" in kwargs else []
    return [word.lower() for word in [*single, *kwargs.get("keywords", []), *kwargs.get("forbidden_words", [])]]


def _broken_limit(rubric: Rubric, needs: Needs) -> str:
    """Which upper limit of `rubric` the needs of all the prompt's rubrics together pass, or ""."""
    kwargs, texts = rubric.kwargs, needs.texts
    match rubric.kind:
        case "punctuation:no_comma":
            return next((f"{text!r} has a comma" for text in texts if "," in text), "")
        case "keywords:forbidden_words":
            for word in kwargs["forbidden_words"]:
                for text in texts:
                    if re.search(rf"\b{re.escape(word)}\b", text, flags=re.IGNORECASE):
                        return f"{text!r} holds the forbidden word {word!r}"
        case "keywords:letter_frequency" if kwargs["let_relation"] == "less than":
            count = sum(text.lower().count(kwargs["letter"]) for text in texts)
            if count >= kwargs["let_frequency"]:
                return f"the needed texts have the letter {kwargs['letter']!r} {count} times"
        case "change_case:capital_word_frequency" if kwargs["capital_relation"] == "less than":
            count = sum(piece.isupper() for text in texts for piece in text.split())
            if count >= kwargs["capital_frequency"]:
                return f"the needed texts have {count} words in capitals"
        case "length_constraints:number_words" if kwargs["relation"] == "less than":
            count = needs.words + sum(len(re.findall(r"\w+", text)) for text in texts) + _SPARE_WORDS
            if count >= kwargs["num_words"]:
                return f"the other rubrics take {count} words"
        case "length_constraints:number_sentences" if kwargs["relation"] == "less than":
            count = 1 + needs.sentences
            if count >= kwargs["num_sentences"]:
                return f"the other rubrics take {count} sentences"
    return ""
