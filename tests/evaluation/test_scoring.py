"""Scores: strict and loose by instruction, on the same prompts for every policy."""

from __future__ import annotations

import pandas as pd
import pytest

from rtt.errors import UserError
from rtt.evaluation.scoring import score_responses, subset
from rtt.rubrics import Rubric, dump_rubrics
from rtt.tables import Scores, check_table

WHO = {"arm": "rl_csr", "seed": 3, "step": 8, "benchmark": "validation"}


def prompt(prompt_id: str, *kinds: str) -> dict[str, str]:
    rubrics = [Rubric(rubric_id=f"{prompt_id}/{k}", kind=kind, text=kind) for k, kind in enumerate(kinds)]
    return {"prompt_id": prompt_id, "split": "train", "topic": "t", "prompt": "p", "rubrics": dump_rubrics(rubrics)}


def response(prompt_id: str, text: str, tokens: int = 5, truncated: bool = False) -> dict:
    return {
        "response_id": f"{prompt_id}#0",
        "prompt_id": prompt_id,
        "sample": 0,
        "response": text,
        "tokens": tokens,
        "truncated": truncated,
    }


PROMPTS = pd.DataFrame(
    [
        prompt("a", "punctuation:no_comma", "change_case:english_lowercase"),
        prompt("b", "detectable_format:title"),
    ]
)


def scored(*responses: dict) -> pd.DataFrame:
    return check_table(score_responses(pd.DataFrame(responses), PROMPTS, **WHO), Scores, "scores")


def test_one_row_per_instruction_says_who_answered_what():
    table = scored(response("b", "<<Tea>>", 4), response("a", "hot tea", 7, truncated=True))
    assert table["rubric_id"].tolist() == ["b/0", "a/0", "a/1"]
    assert table["prompt_id"].tolist() == ["b", "a", "a"]
    assert table["kind"].tolist() == [
        "detectable_format:title",
        "punctuation:no_comma",
        "change_case:english_lowercase",
    ]
    assert table["tokens"].tolist() == [4, 7, 7]
    assert table["truncated"].tolist() == [False, True, True]
    for name, value in WHO.items():
        assert set(table[name]) == {value}


def test_strict_reads_the_answer_as_it_stands_and_loose_forgives_its_first_and_last_line():
    table = scored(response("a", "Sure, here it is:\nhot tea is lovely on cold days"), response("b", "*<<Tea>>*"))
    assert table["strict"].tolist() == [False, False, True]
    assert table["loose"].tolist() == [True, True, True]
    table = scored(response("a", "one\nTea, hot\nthree"), response("b", "no title"))
    assert table["strict"].tolist() == [False, False, False]
    assert table["loose"].tolist() == [False, False, False]


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_empty_answer_fails_every_instruction(text):
    table = scored(response("a", text, 0), response("b", text, 0))
    assert len(table) == 3
    assert not table["strict"].any()
    assert not table["loose"].any()


def test_response_to_an_unknown_prompt_is_refused():
    with pytest.raises(UserError, match="1 responses belong to no prompt and 0 prompts have no response") as caught:
        scored(response("a", "tea"), response("b", "tea"), response("c", "tea"))
    assert caught.value.where == "['c']"


def test_prompt_without_a_response_is_refused():
    with pytest.raises(UserError, match="0 responses belong to no prompt and 1 prompts have no response") as caught:
        scored(response("a", "tea"))
    assert caught.value.where == "['b']"


def test_unknown_instruction_is_an_error_and_never_a_score():
    prompts = pd.DataFrame([prompt("a", "punctuation:no_comma", "tone:kind")])
    with pytest.raises(UserError, match="no rule checker for the kind 'tone:kind'"):
        score_responses(pd.DataFrame([response("a", "tea")]), prompts, **WHO)


def test_subset_is_fixed_by_limit_and_seed():
    prompts = pd.DataFrame([prompt(f"p{number:02}", "punctuation:no_comma") for number in range(40)])
    chosen = subset(prompts, 10, seed=0)["prompt_id"].tolist()
    assert chosen == subset(prompts, 10, seed=0)["prompt_id"].tolist()
    assert chosen == subset(prompts.set_index(prompts.index + 7), 10, seed=0)["prompt_id"].tolist()
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen)
    assert chosen != subset(prompts, 10, seed=1)["prompt_id"].tolist()


@pytest.mark.parametrize("limit", [None, 2, 3])
def test_no_limit_below_the_number_of_prompts_keeps_them_all(limit):
    assert subset(PROMPTS.iloc[::-1], limit, seed=0)["prompt_id"].tolist() == ["a", "b"]


def test_subset_leaves_the_prompts_as_they_were():
    prompts = PROMPTS.iloc[::-1].copy()
    subset(prompts, 1, seed=0)
    pd.testing.assert_frame_equal(prompts, PROMPTS.iloc[::-1])
