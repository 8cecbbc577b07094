"""The labelled corpus: whose responses are labelled, and that no split learns from another."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from rtt.config import Labels as Settings
from rtt.data.prompts import make_prompts
from rtt.errors import UserError
from rtt.relevance.corpus import choose_prompts, each, label_corpus, label_splits
from rtt.rubrics import Rubric, dump_rubrics, parse_rubrics
from rtt.tables import Labels, check_table

SETTINGS = Settings(train_prompts=30, unseen_topics_prompts=6, unseen_kinds_prompts=4, development_share=0.25, seed=1)


@pytest.fixture(scope="module")
def prompts() -> pd.DataFrame:
    shares = {"train": 0.6, "validation": 0.2, "heldout_topics": 0.2}
    return make_prompts(200, 0, ["detectable_content:number_placeholders"], shares)


@pytest.fixture(scope="module")
def chosen(prompts: pd.DataFrame) -> pd.DataFrame:
    return choose_prompts(prompts, SETTINGS)


@pytest.fixture(scope="module")
def responses(chosen: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "response_id": chosen["prompt_id"] + "#0",
            "prompt_id": chosen["prompt_id"],
            "sample": 0,
            "response": [f"Answer number {i}." for i in range(len(chosen))],
            "tokens": 4,
            "truncated": False,
        }
    )


@pytest.fixture(scope="module")
def verdicts(chosen: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (f"{row.prompt_id}#0", row.prompt_id, rubric.rubric_id, rubric.kind, 1.0 - 2 * (k % 2), "rule", "")
        for row in chosen.itertuples()
        for k, rubric in enumerate(parse_rubrics(row.rubrics))
    ]
    names = ["response_id", "prompt_id", "rubric_id", "kind", "verdict", "judge", "reason"]
    return pd.DataFrame(rows, columns=names)


def first_two(kind: str, kwargs: dict, response: str) -> list[tuple[int, int]]:
    return [(0, 1), (1, 2)]


def test_each_split_gives_as_many_prompts_as_are_asked_for(prompts, chosen):
    assert chosen["split"].value_counts().to_dict() == {"train": 30, "validation": 6, "heldout_kinds": 4}
    assert chosen["prompt_id"].is_monotonic_increasing
    assert set(chosen["prompt_id"]) <= set(prompts["prompt_id"])


def test_choice_depends_on_the_seed_and_on_nothing_else(prompts, chosen):
    pd.testing.assert_frame_equal(choose_prompts(prompts, SETTINGS), chosen)
    other = choose_prompts(prompts, SETTINGS.model_copy(update={"seed": 2}))
    assert set(other["prompt_id"]) != set(chosen["prompt_id"])


def test_more_prompts_than_a_split_has_are_refused(prompts):
    there = int((prompts["split"] == "validation").sum())
    settings = SETTINGS.model_copy(update={"unseen_topics_prompts": there + 1})
    with pytest.raises(UserError, match=f"{there + 1} prompts of the split validation .* there are {there}"):
        choose_prompts(prompts, settings)


def test_development_topics_are_a_share_of_the_training_topics_and_none_of_the_others(chosen):
    splits = label_splits(chosen, SETTINGS)
    topics: dict[str, set[str]] = {}
    for row in chosen.itertuples():
        topics.setdefault(splits[row.prompt_id], set()).add(row.topic)
    assert set(topics) == {"train", "development", "unseen_topics", "unseen_kinds"}
    assert not topics["development"] & topics["train"]
    training = len(topics["development"] | topics["train"])
    assert len(topics["development"]) == round(0.25 * training)
    assert not topics["unseen_topics"] & (topics["development"] | topics["train"])


def test_at_least_one_topic_is_kept_for_development(chosen):
    splits = label_splits(chosen, SETTINGS.model_copy(update={"development_share": 1e-6}))
    assert "development" in splits.values()


def test_other_splits_keep_their_role_whatever_their_topic(chosen):
    splits = label_splits(chosen, SETTINGS)
    roles = {"validation": "unseen_topics", "heldout_kinds": "unseen_kinds"}
    kept = chosen[chosen["split"].isin(roles)]
    assert [splits[prompt_id] for prompt_id in kept["prompt_id"]] == [roles[split] for split in kept["split"]]


def test_every_judged_pair_becomes_one_label(prompts, responses, verdicts):
    labels, missing = label_corpus(responses, verdicts, prompts, SETTINGS, each(first_two), "hand")
    check_table(labels, Labels, "labels")
    assert missing == {"without_verdict": 0, "without_labels": 0}
    assert labels["rubric_id"].tolist() == verdicts["rubric_id"].tolist()
    assert labels["verdict"].tolist() == verdicts["verdict"].tolist()
    assert set(labels["spans"]) == {"[[0, 1], [1, 2]]"}
    assert set(labels["annotator"]) == {"hand"}
    texts = {r.rubric_id: r.text for text in prompts["rubrics"] for r in parse_rubrics(text)}
    assert labels["criterion"].tolist() == [texts[rubric_id] for rubric_id in labels["rubric_id"]]
    answers = responses.set_index("response_id")["response"]
    assert labels["response"].tolist() == answers[labels["response_id"]].tolist()


def test_annotator_gets_each_rubrics_own_arguments():
    prompts = pd.DataFrame(
        {
            "prompt_id": ["a", "b"],
            "split": "train",
            "topic": ["x", "y"],
            "prompt": "p",
            "rubrics": [
                dump_rubrics([Rubric(rubric_id=f"{name}/0", kind="k", text="t", kwargs={"word": name})])
                for name in ("a", "b")
            ],
        }
    )
    responses = pd.DataFrame({"response_id": ["a#0", "b#0"], "prompt_id": ["a", "b"], "response": ["has a", "has b"]})
    verdicts = pd.DataFrame(
        {
            "response_id": ["b#0", "a#0"],
            "prompt_id": ["b", "a"],
            "rubric_id": ["b/0", "a/0"],
            "kind": "k",
            "verdict": [1.0, -1.0],
        }
    )

    def where(kind: str, kwargs: dict, response: str) -> list[tuple[int, int]]:
        return [(response.rindex(kwargs["word"]), len(response))]

    labels, _ = label_corpus(responses, verdicts, prompts, SETTINGS, each(where), "hand")
    assert labels["response"].tolist() == ["has b", "has a"]
    assert labels["spans"].map(json.loads).tolist() == [[[4, 5]], [[4, 5]]]


def test_pairs_without_a_verdict_are_left_out_and_counted(prompts, responses, verdicts):
    holes = verdicts.assign(verdict=verdicts["verdict"].where(verdicts.index >= 3))
    labels, missing = label_corpus(responses, holes, prompts, SETTINGS, each(first_two), "hand")
    assert missing == {"without_verdict": 3, "without_labels": 0}
    assert labels["rubric_id"].tolist() == verdicts["rubric_id"].tolist()[3:]


@pytest.mark.parametrize("column", ["rubric_id", "response_id", "prompt_id"])
def test_verdict_on_something_unknown_is_refused_by_name(prompts, responses, verdicts, column):
    wrong = verdicts.copy()
    wrong.loc[2, column] = "nobody/0"
    with pytest.raises(UserError, match=f"1 verdict\\(s\\) have an unknown {column}, such as 'nobody/0'") as caught:
        label_corpus(responses, wrong, prompts, SETTINGS, each(first_two), "hand")
    assert caught.value.where == f"column {column} of the verdicts"


def test_corpus_without_training_prompts_is_refused(prompts, responses, verdicts):
    others = prompts.loc[prompts["split"] != "train", "prompt_id"]
    kept, judged = (table[table["prompt_id"].isin(others)] for table in (responses, verdicts))
    with pytest.raises(UserError, match="no response answers a prompt of the split train"):
        label_corpus(kept, judged, prompts, SETTINGS, each(first_two), "hand")
