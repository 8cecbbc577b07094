"""Every made prompt can be satisfied: a response is put together from its rubrics and the real checkers accept it."""

import functools
import itertools
import json
import re
from collections.abc import Iterator

import pytest

from rtt.data.kinds import HELDOUT_KINDS
from rtt.data.prompts import make_prompts
from rtt.judging import rules
from rtt.rubrics import Rubric, parse_rubrics

SPLITS = {"train": 0.7, "validation": 0.12, "heldout_topics": 0.18}

# Plain English without any of the letters a rubric counts (b c d f g k l m p u v w y), so that it disturbs no count.
FILLER = (
    (
        "this is the one that she has there in the rest it is as the other is not at ten so then he is here "
        "and there are these in that to the area or a tenth is on the one at her that is no error"
    )
    .replace("and ", "")
    .split()
)
RICH = {
    "b": "baby", "c": "cycle", "d": "added", "f": "fifty", "g": "going", "k": "kick", "l": "all", "m": "more",
    "p": "people", "u": "us", "v": "very", "w": "we", "y": "you",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nltk(nltk_data):
    rules.use_nltk_data(nltk_data)


@functools.cache
def checker(kind: str, kwargs: str):
    rules.kinds()  # imports the registry without downloading anything and seeds langdetect
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

    built = INSTRUCTION_DICT[kind](kind)
    built.build_description(**json.loads(kwargs))
    return built


def passes(rubric: Rubric, response: str) -> bool:
    return checker(rubric.kind, json.dumps(rubric.kwargs, sort_keys=True)).check_following(response)


def compose(rubrics: list[Rubric]) -> Iterator[str]:
    """Candidate responses: what the rubrics need, filled up with plain words, in so many sentences and that layout."""
    wants = {rubric.kind: rubric.kwargs for rubric in rubrics}
    forbidden = wants.get("keywords:forbidden_words", {}).get("forbidden_words", [])
    filler = [word for word in FILLER if word not in forbidden]

    pieces = list(wants.get("keywords:existence", {}).get("keywords", []))
    if often := wants.get("keywords:frequency"):
        pieces += [often["keyword"]] * often["frequency"]
    letter = wants.get("keywords:letter_frequency")
    if letter and letter["let_relation"] == "at least":
        word = RICH[letter["letter"]]
        pieces += [word] * -(-letter["let_frequency"] // word.count(letter["letter"]))
    capitals = wants.get("change_case:capital_word_frequency")
    if capitals and capitals["capital_relation"] == "at least":
        pieces += ["THE"] * capitals["capital_frequency"]
    pieces += ["[site]"] * wants.get("detectable_content:number_placeholders", {}).get("num_placeholders", 0)
    marked = wants.get("detectable_format:number_highlighted_sections", {}).get("num_highlights", 0)
    pieces += ["*hint*"] * marked

    for length in (14, 20, 26, 8, 34):
        for sentences in (3, 2, 1, 4):
            for start in (0, 7, 23):
                body = (filler[start:] + filler)[: max(length - len(pieces), sentences)]
                for i, piece in enumerate(pieces):  # spread evenly, so that the text stays English
                    body.insert(1 + i * (len(body) + 1) // (len(pieces) + 1), piece)
                cuts = [len(body) * k // sentences for k in range(sentences + 1)]
                chunks = [" ".join(body[a:b]) + "." for a, b in itertools.pairwise(cuts)]
                text = lay_out([chunk[0].upper() + chunk[1:] for chunk in chunks], wants)
                if text:
                    yield finish(text, wants)


def lay_out(chunks: list[str], wants: dict) -> str:
    """The sentences in the layout asked for; "" when there are too few of them."""
    if bullets := wants.get("detectable_format:number_bullet_lists", {}).get("num_bullets"):
        intro, items = chunks[: len(chunks) - bullets], chunks[len(chunks) - bullets :]
        lines = [" ".join(intro), *(f"* {item}" for item in items)]
        return "\n".join(lines) if len(chunks) >= bullets else ""
    paragraphs = wants.get("length_constraints:number_paragraphs", {}).get("num_paragraphs")
    sections = wants.get("detectable_format:multiple_sections", {}).get("num_sections")
    count = paragraphs or sections or 1
    if len(chunks) < count:
        return ""
    parts = [" ".join(chunks[: len(chunks) - count + 1]), *chunks[len(chunks) - count + 1 :]]
    if sections:
        name = wants["detectable_format:multiple_sections"]["section_spliter"]
        parts = [f"{name} {k}\n{part}" for k, part in enumerate(parts, start=1)]
    return ("\n***\n" if paragraphs else "\n").join(parts)


def finish(text: str, wants: dict) -> str:
    if "detectable_format:title" in wants:
        text = f"<<here>>\n{text}"
    if "detectable_content:postscript" in wants:
        text += f"\n{wants['detectable_content:postscript']['postscript_marker']} it is so"
    if "startend:end_checker" in wants:
        text += f"\n{wants['startend:end_checker']['end_phrase']}"
    if "startend:quotation" in wants:
        text = f'"{text}"'
    if "change_case:english_lowercase" in wants:
        text = text.lower()
    if "change_case:english_capital" in wants:
        text = text.upper()
    return text


def unsatisfied(prompts) -> list[str]:
    """Ids of the prompts for which no candidate passes; each combination of rubrics is tried once."""
    missing = []
    seen = set()
    for prompt_id, text in zip(prompts["prompt_id"], prompts["rubrics"], strict=True):
        rubrics = parse_rubrics(text)
        combination = json.dumps([(rubric.kind, rubric.kwargs) for rubric in rubrics], sort_keys=True)
        if combination in seen:
            continue
        seen.add(combination)
        slow_last = sorted(rubrics, key=lambda rubric: rubric.kind.startswith("change_case:english"))
        if not any(all(passes(rubric, response) for rubric in slow_last) for response in compose(rubrics)):
            missing.append(prompt_id)
    return missing


def test_every_default_prompt_can_be_satisfied():
    prompts = make_prompts(2400, 0, HELDOUT_KINDS, SPLITS)
    assert unsatisfied(prompts) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_prompts_of_other_held_out_kinds_can_be_satisfied(seed):
    """Here the kinds held out by default stand beside all others."""
    prompts = make_prompts(600, seed, ["punctuation:no_comma", "detectable_format:title"], SPLITS)
    assert unsatisfied(prompts) == []


def test_the_builder_cannot_satisfy_a_contradiction():
    """Otherwise the tests above would show nothing."""
    pairs = [("punctuation:no_comma", {}), ("startend:end_checker", {"end_phrase": "Take care, and keep smiling."})]
    rubrics = [Rubric(rubric_id=f"p/{k}", kind=kind, text="-", kwargs=kwargs) for k, (kind, kwargs) in enumerate(pairs)]
    candidates = list(compose(rubrics))
    assert candidates
    assert not any(all(passes(rubric, response) for rubric in rubrics) for response in candidates)


def test_the_filler_has_none_of_the_counted_letters():
    assert not re.search("[" + "".join(RICH) + "]", " ".join(FILLER))
