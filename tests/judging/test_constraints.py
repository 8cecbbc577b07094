"""Constraints as MulDimIF words them: read where they can mean one thing, checked by hand-made answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtt.errors import UserError
from rtt.judging import constraints, rules
from rtt.judging.constraints import bounds, decide, follows

TABLE = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"

READ = [
    ("Length", "Words", "The answer must be at most 50 words.", "words", {"most": 50}),
    ("Length", "Words", "contain at least ten words", "words", {"least": 10}),
    ("Length", "Words: Range", "between 50 to 100 words", "words", {"least": 50, "most": 100}),
    ("Length", "Words", "fewer than 20 words", "words", {"most": 19}),
    ("Length", "Words", "more than 20 words", "words", {"least": 21}),
    ("Length", "Sentences", "exactly 3 sentences", "sentences", {"least": 3, "most": 3}),
    ("Length", "Sentences: At least", "must include at least one sentence", "sentences", {"least": 1}),
    ("Length", "Paragraphs", "between 3 to 5 paragraphs", "paragraphs", {"least": 3, "most": 5}),
    ("Content", "Keywords", "must include the keyword 'Berlin'.", "keywords", {"words": ["Berlin"]}),
    ("Content", "Keywords", "the keywords 'a', 'b' and \"c d\"", "keywords", {"words": ["a", "b", "c d"]}),
    ("Content", "Keywords", "the keyword 'children's rights'", "keywords", {"words": ["children's rights"]}),
    ("Content", "Keywords", "the keyword 'British humor.'", "keywords", {"words": ["British humor"]}),
    ("Content", "Punctuation", "it should conclude with a period", "ending", {"mark": "."}),
    ("Content", "Punctuation", "The response must end with an exclamation mark", "ending", {"mark": "!"}),
    ("Content", "Identifiers", "The answer must start with the identifier 'List:'", "start", {"text": "List:"}),
    ("Language", "English", "use capitalized letters for each word", "capitalised", {}),
    ("Language", "English: All Uppercase", "in all uppercase letters", "uppercase", {}),
    ("Language", "English", "written entirely in lowercase letters", "lowercase", {}),
    (
        *("Format", "Table", "if a table is used, it must have no more than 3 columns"),
        *("table_columns", {"most": 3, "needed": False}),
    ),
    ("Table", "Row limit", "a table with exactly 1 row", "table_rows", {"least": 1, "most": 1, "needed": True}),
    ("Markdown", "Heading levels", "at least two heading levels", "heading_levels", {"least": 2}),
    ("Format", "Markdown", "a level 2 heading titled 'Overview'", "heading", {"level": 2, "title": "Overview"}),
    ("Format", "Markdown", "be formatted as a block quote in Markdown", "block_quote", {}),
    ("Format", "Json", "Object nesting levels must not exceed 3", "json_nesting", {"most": 3}),
    ("Format", "Markdown", 'a level 2 heading titled "Odds."', "heading", {"level": 2, "title": "Odds"}),
    ("Format", "Markdown", "a heading level 2 title: 'Zeus'", "heading", {"level": 2, "title": "Zeus"}),
    ("Format", "Markdown", "a level 2 heading in Markdown format", "heading", {"level": 2}),
    ("Length", "Words", "does not exceed a maximum of 50 words", "words", {"most": 50}),
    ("Length", "Words", "at least zero words", "words", {"least": 0}),
    ("Format", "Text", "No bullet points", "no_bullets", {}),
]


@pytest.mark.parametrize(("category", "subcategory", "text", "check", "kwargs"), READ)
def test_a_text_that_can_mean_one_thing_is_read(category, subcategory, text, check, kwargs):
    assert decide(category, subcategory, text) == (f"muldimif:{check}", kwargs)


@pytest.mark.parametrize(
    ("category", "subcategory", "text"),
    [
        ("Length", "Words", "Each definition is limited to a maximum of 15 words"),
        ("Length", "Words", "the name must contain at most three words"),
        ("Length", "Words", "at least 10 words and at most 2 sentences of 5 words"),
        ("Length", "Words", "about 50 words"),
        ("Length", "Words", "be concise"),
        ("Length", "Words", "between 20 and 10 words"),
        ("Length", "Words", "must not contain more than 50 words"),
        ("Length", "Words", "It shouldn't have fewer than 50 words"),
        ("Length", "Words", "The table must contain at most 300 words"),
        ("Length", "Words", "at least 5 words and end with a period"),
        ("Length", "Sentences", "at least 3 and at most 5 sentences"),
        ("Length", "Sentences", "at most 50 words and at least 3 sentences"),
        ("Length", "Paragraphs", "spread over 3 paragraphs"),
        ("Content", "Keywords", "do not include the keyword 'tea'"),
        ("Content", "Keywords", "includes the keyword 'tea' and avoids the keyword 'milk'"),
        ("Content", "Keywords", "include the keyword 'tea' and mention its finder 'Shennong'"),
        ("Content", "Keywords", "include the keyword 'tea' in the title"),
        ("Content", "Punctuation", "the table concludes with a period"),
        ("Content", "Punctuation", "be written in all uppercase letters, and end with a period"),
        ("Language", "English", "the URL is written in all uppercase letters"),
        ("Language", "English", "be in English, with each word capitalized"),
        ("Language", "English", "each word in the table entries is capitalized"),
        ("Content", "Keywords", "include the keyword 'tea' at least 3 times"),
        ("Content", "Keywords", "include the keyword tea"),
        ("Content", "Punctuation", "Each sentence must end with a period"),
        ("Content", "Punctuation", "must not end with a period"),
        ("Content", "Punctuation", "end with a period or a question mark"),
        ("Language", "English", "the title is capitalized"),
        ("Language", "Chinese", "must be in Simplified Chinese"),
        ("Table", "Row limit", "no more than 3 rows and 2 columns in the table"),
        ("Table", "Row limit", "The list should not exceed five rows"),
        ("Table", "Row limit", "a table with a maximum of 4 rows, including the header row"),
        ("Table", "Column limit", "a table with exactly 2 columns: Brand and Price"),
        ("Markdown", "Heading levels", "exactly two heading levels: H1 and H2"),
        ("Format", "Markdown", "begin with a level 2 heading"),
        ("Format", "Markdown", "a level 2 heading for the title"),
        ("Format", "Markdown", "be formatted as a level 2 heading"),
        ("Markdown", "Heading levels", "a level 2 heading for the title and a level 3 heading for the rest"),
        ("Format", "Blurb", "resemble a short blurb"),
        ("Tone", "Friendly", "stay friendly"),
    ],
)
def test_a_text_that_may_mean_something_else_is_left_to_a_reader(category, subcategory, text):
    assert decide(category, subcategory, text) is None


# check, arguments, answers that keep it, answers that break it
ANSWERS = [
    ("words", {"least": 2, "most": 3}, ["one two", "one - two three"], ["one", "a b c d", "one --"]),
    ("sentences", {"least": 2}, ["One. Two!", "Is it? Yes. No."], ["Only one.", "No end"]),
    ("paragraphs", {"most": 2}, ["a", "a\nb\n\nc", "a\n \n\nb"], ["a\n\nb\n\nc"]),
    ("keywords", {"words": ["Tea", "c d"]}, ["hot TEA, c d", "teapot c d"], ["tea", "c d", "tea c  d"]),
    ("keywords", {"words": ["mover's"]}, ["the Mover’s"], ["movers"]),
    ("ending", {"mark": "."}, ["Yes.", "Yes. \n", '"Yes."', "*Yes.*"], ["Yes", "Yes!", "Yes. No"]),
    ("start", {"text": "List:"}, ["List: a", "\nList:"], ["A List:", "list: a"]),
    ("capitalised", {}, ["One Two", "One 2 Three", '"One" (Two)', "É Là"], ["One two", "one"]),
    ("uppercase", {}, ["ONE, 2!"], ["One", "123"]),
    ("lowercase", {}, ["one, 2!"], ["One", "123"]),
    (
        *("table_rows", {"least": 2, "most": 2, "needed": True}),
        *([TABLE, f"Text\n\n{TABLE}\n\nmore | text"], ["no table", TABLE + "\n| 5 | 6 |", "| a |\n| 1 |\n| 2 |"]),
    ),
    ("table_columns", {"most": 2, "needed": False}, [TABLE, "none"], ["a|b|c\n-|-|-\n1|2|3", "|a|b||\n|-|-|-|\n"]),
    ("heading_levels", {"least": 2}, ["# a\n## b"], ["# a\n# b", "#a\n##b", "a", "# a\n```python\n## b\n```"]),
    (
        *("heading", {"level": 2, "title": "Overview"}),
        *(["## Overview\ntext", "# A\n##  overview ##"], ["# Overview", "## Other", "Overview\n---"]),
    ),
    ("heading", {"level": 1}, ["# any", "```markdown\n# any\n```"], ["## any", "# \n"]),
    ("block_quote", {}, ["> said", "Text\n  > said"], ["a > b", ">"]),
    (
        *("json_nesting", {"least": 2, "most": 2}),
        *(
            ['{"a": {"b": 1}}', 'See:\n```json\n{"a": [{"b": 1}]}\n```'],
            ['{"a": 1}', '{"a": {"b": {}}}', "none", "[1]"],
        ),
    ),
    ("no_bullets", {}, ["plain - text"], ["- a", "text\n* b", "• c"]),
]


@pytest.mark.parametrize(("check", "kwargs", "kept", "broken"), ANSWERS)
def test_answers_are_checked(check, kwargs, kept, broken, request):
    if check == "sentences":
        rules.use_nltk_data(request.getfixturevalue("nltk_data"))
    kind = f"muldimif:{check}"
    assert {answer: follows(kind, kwargs, answer) for answer in [*kept, *broken]} == {
        **dict.fromkeys(kept, True),
        **dict.fromkeys(broken, False),
    }
    assert not follows(kind, kwargs, " \n")
    assert rules.follows(kind, kwargs, kept[0])
    assert rules.check(kind, kwargs, broken[0]) == (False, False)


def test_every_kind_has_answers_and_is_known_to_the_rules():
    assert {f"muldimif:{check}" for check, *_ in ANSWERS} == constraints.kinds()
    assert constraints.kinds() < rules.kinds()


@pytest.mark.parametrize(
    ("check", "kwargs", "what"),
    [
        ("words", {"number": 3}, "number"),
        ("words", {}, "give least, most or both"),
        ("words", {"most": "ten"}, "most"),
        ("words", {"least": 9, "most": 2}, "least is above most"),
        ("keywords", {"words": "tea"}, "words"),
        ("keywords", {"words": ["tea", " "]}, "words.1"),
        ("ending", {"mark": ";"}, "mark"),
        ("heading", {"level": "2"}, "level"),
        ("lowercase", {"words": ["a"]}, "words"),
    ],
)
def test_arguments_a_checker_does_not_take_are_refused(check, kwargs, what):
    with pytest.raises(UserError, match=what) as caught:
        rules.follows(f"muldimif:{check}", kwargs, "one two three")
    assert f"muldimif:{check}" in caught.value.what
    with pytest.raises(UserError, match=what):
        rules.require_arguments(f"muldimif:{check}", kwargs)


def test_absent_nltk_data_is_said_and_refuses_no_arguments(monkeypatch):
    import nltk
    from if_verifiable.ifeval import instructions_util

    monkeypatch.setattr(nltk.data, "path", [])
    # An earlier test in this process may have had the tokenizers read.
    nltk.tokenize._get_punkt_tokenizer.cache_clear()
    instructions_util._get_sentence_tokenizer.cache_clear()
    sentences = {"num_sentences": 2, "relation": "at least"}
    for kind, kwargs in (("muldimif:sentences", {"most": 3}), ("length_constraints:number_sentences", sentences)):
        rules._build.cache_clear()
        with pytest.raises(UserError, match="needs NLTK data"):
            rules.follows(kind, kwargs, "One. Two.")
        rules.require_arguments(kind, kwargs)
    with pytest.raises(UserError, match="draw it at random"):
        rules.require_arguments("length_constraints:number_sentences", {"relation": "at least"})


WAYS = {
    "at least {n} words": lambda count, n: count >= n,
    "at most {n} words": lambda count, n: count <= n,
    "no more than {n} words": lambda count, n: count <= n,
    "exactly {n} words": lambda count, n: count == n,
    "fewer than {n} words": lambda count, n: count < n,
    "more than {n} words": lambda count, n: count > n,
}


@given(st.sampled_from(sorted(WAYS)), st.integers(1, 30), st.integers(1, 30))
def test_a_length_means_what_its_words_say(way, asked, length):
    kind, kwargs = decide("Length", "Words", f"The answer must have {way.format(n=asked)}")
    assert follows(kind, kwargs, " ".join(["word"] * length)) == WAYS[way](length, asked)


@given(st.text())
def test_no_text_trips_the_readers(text):
    for place in (("Length", "Words"), ("Content", "Keywords"), ("Format", "Markdown Table Json")):
        decide(*place, text)


def test_two_amounts_of_one_unit_are_none():
    assert bounds("at least 10 words, at most 20 words", "words?") is None
    assert bounds("at least 10 words of 20 words", "words?") is None


def test_most_of_the_benchmarks_constraints_are_decided(shared_data: Path):
    rows = json.loads((shared_data / "muldimif" / "test.json").read_text())
    texts = [constraint for row in rows for constraint in row["constraints"]]
    found = [decide(*constraint) for constraint in texts]
    assert len(rows) == 1200
    assert sum(one is not None for one in found) / len(texts) > 0.7
    for one in found:
        if one is not None:
            rules.require_arguments(*one)
