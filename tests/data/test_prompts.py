import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtt.data.kinds import HELDOUT_KINDS, KINDS, compatible
from rtt.data.prompts import load_topics, make_prompts, without_rubrics
from rtt.errors import UserError
from rtt.rubrics import parse_rubrics
from rtt.tables import Prompts

SPLITS = {"train": 0.7, "validation": 0.12, "heldout_topics": 0.18}
FEW_HELDOUT = {"train": 0.98, "validation": 0.01, "heldout_topics": 0.01}
LENGTHS = {"length_constraints:number_words", "length_constraints:number_sentences"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prompts():
    table = make_prompts(2400, 0, HELDOUT_KINDS, SPLITS)
    return table.assign(parsed=table["rubrics"].map(parse_rubrics))


def test_the_default_gives_every_prompt_asked_for(prompts):
    Prompts.validate(prompts.drop(columns="parsed"), lazy=True)
    assert len(prompts) == 2400
    assert not prompts["prompt"].duplicated().any()
    assert prompts["split"].value_counts()["heldout_kinds"] == 240


def test_topics_are_shared_out_by_their_shares(prompts):
    topics = {split: set(group["topic"]) for split, group in prompts.groupby("split")}
    assert [len(topics[name]) for name in SPLITS] == [140, 24, 36]  # of 200
    assert not topics["train"] & topics["validation"]
    assert not (topics["train"] | topics["validation"]) & topics["heldout_topics"]
    assert topics["heldout_kinds"] <= topics["heldout_topics"]


def test_held_out_kinds_are_in_their_split_and_nowhere_else(prompts):
    for split, group in prompts.groupby("split"):
        kinds = {rubric.kind for rubrics in group["parsed"] for rubric in rubrics}
        assert kinds == (set(HELDOUT_KINDS) if split == "heldout_kinds" else set(KINDS) - set(HELDOUT_KINDS))


def test_prompts_have_one_to_four_compatible_rubrics_of_different_kinds(prompts):
    for split, group in prompts.groupby("split"):
        sizes = Counter(group["parsed"].map(len))
        most = 2 if split == "heldout_kinds" else 4
        assert sorted(sizes) == list(range(1, most + 1))
        assert min(sizes.values()) > 0.15 * len(group)
    assert prompts["parsed"].map(compatible).all()
    assert prompts["parsed"].map(lambda rubrics: len({rubric.kind for rubric in rubrics}) == len(rubrics)).all()


def test_kinds_are_used_about_equally_often_in_every_split(prompts):
    for _, group in prompts.groupby("split"):
        used = Counter(rubric.kind for rubrics in group["parsed"] for rubric in rubrics)
        assert max(used.values()) - min(used.values()) <= 6


def test_wordings_and_arguments_vary(prompts):
    for kind in KINDS:
        texts = {rubric.text for rubrics in prompts["parsed"] for rubric in rubrics if rubric.kind == kind}
        assert len(texts) >= 4, kind


def test_the_prompt_holds_its_task_and_every_criterion(prompts):
    tasks = {topic.slug: topic.task for topic in load_topics()}
    for row in prompts.itertuples():
        assert tasks[row.topic] in row.prompt
        assert all(rubric.text in row.prompt for rubric in row.parsed)


def test_only_prompts_without_a_length_rubric_ask_for_brevity(prompts):
    hints = ("two or three", "Two or three", "Keep it short", "Be brief", "A short answer", "Make it brief")
    for row in prompts.itertuples():
        has_length = any(rubric.kind in LENGTHS for rubric in row.parsed)
        assert any(hint in row.prompt for hint in hints) != has_length, row.prompt


def test_words_come_from_the_prompts_own_topic(prompts):
    words = {topic.slug: set(topic.words) for topic in load_topics()}
    for row in prompts.itertuples():
        for rubric in row.parsed:
            named = [*rubric.kwargs.get("keywords", []), *rubric.kwargs.get("forbidden_words", [])]
            assert set(named) <= words[row.topic]


def test_ids_name_the_topic_and_the_place(prompts):
    train = prompts[prompts["split"] == "train"]
    assert (train["prompt_id"] == train["topic"] + train.groupby("topic").cumcount().map("/{:04d}".format)).all()
    for row in prompts.itertuples():
        assert [rubric.rubric_id for rubric in row.parsed] == [f"{row.prompt_id}/{k}" for k in range(len(row.parsed))]


def test_a_larger_count_begins_with_the_same_prompts(prompts):
    smaller = make_prompts(400, 0, HELDOUT_KINDS, SPLITS)
    for split, group in smaller.groupby("split"):
        start = prompts[prompts["split"] == split].head(len(group))
        assert group["prompt"].tolist() == start["prompt"].tolist()
        assert group["prompt_id"].tolist() == start["prompt_id"].tolist()


def test_the_seed_and_nothing_else_decides():
    first = make_prompts(200, 3, HELDOUT_KINDS, SPLITS)
    again = make_prompts(200, 3, list(reversed(HELDOUT_KINDS)), dict(reversed(SPLITS.items())))
    other = make_prompts(200, 4, HELDOUT_KINDS, SPLITS)
    assert first.equals(again)
    assert not first["prompt"].equals(other["prompt"])
    assert set(first.loc[first["split"] == "train", "topic"]) != set(other.loc[other["split"] == "train", "topic"])


def test_the_hash_seed_does_not_matter():
    script = (
        "import hashlib; from rtt.data.kinds import HELDOUT_KINDS; from rtt.data.prompts import make_prompts;"
        f"table = make_prompts(200, 3, HELDOUT_KINDS, {SPLITS});"
        "print(hashlib.sha256(table.to_json().encode()).hexdigest())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    first, second = (run.communicate(timeout=120)[0].strip() for run in runs)
    assert len(first) == 64
    assert first == second


def test_one_kind_can_be_held_out():
    table = make_prompts(600, 0, ["punctuation:no_comma"], SPLITS)
    heldout = table[table["split"] == "heldout_kinds"]["rubrics"].map(parse_rubrics)
    assert all([rubric.kind for rubric in rubrics] == ["punctuation:no_comma"] for rubrics in heldout)


@pytest.mark.parametrize(
    ("count", "kinds", "splits", "what", "where"),
    [
        (200, ["punctuation:no_coma"], SPLITS, "no_coma", "prompts.heldout_kinds"),
        (200, [], SPLITS, "no rubric kind", "prompts.heldout_kinds"),
        (200, list(KINDS), SPLITS, "all 19", "prompts.heldout_kinds"),
        (200, HELDOUT_KINDS, {"train": 0.8, "validation": 0.2}, "shares", "prompts.splits"),
        (200, HELDOUT_KINDS, {}, "shares", "prompts.splits"),
        (200, HELDOUT_KINDS, {**SPLITS, "train": 0.8}, "shares", "prompts.splits"),
        (200, HELDOUT_KINDS, {"train": 1.2, "validation": -0.2, "heldout_topics": 0.0}, "shares", "prompts.splits"),
        (200, HELDOUT_KINDS, {"train": 0.9, "validation": 0.099, "heldout_topics": 0.001}, "topics", "prompts.splits"),
        (3, HELDOUT_KINDS, SPLITS, "3 prompts are too few", "prompts.count"),
        (0, HELDOUT_KINDS, SPLITS, "0 prompts are too few", "prompts.count"),
        (20_000, ["punctuation:no_comma"], FEW_HELDOUT, "no further one", "prompts.count"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(count, kinds, splits, what, where, monkeypatch):
    if count == 20_000:  # the split of the held-out kind is what runs out; the others need not be made for that
        monkeypatch.setattr("rtt.data.prompts.HELDOUT_KINDS_SHARE", 0.99)
    with pytest.raises(UserError, match=what) as caught:
        make_prompts(count, 0, kinds, splits)
    assert caught.value.where == where
    assert caught.value.todo


def test_an_unknown_held_out_kind_is_told_the_known_ones():
    with pytest.raises(UserError) as caught:
        make_prompts(200, 0, ["punctuation:no_coma"], SPLITS)
    assert all(kind in caught.value.todo for kind in KINDS)


# Prompts without their rubrics.

LEADS = ("Follow these rules:", "Please mind the following:", "Requirements:", "Keep to these points:")
EMPTY_LINE = re.compile(r"^\s*(?:[-*]|\d+\.)?\s*$", re.MULTILINE)


def written(layout, task, criteria):
    """A prompt as made prompts are written; the task alone where there are no criteria."""
    if not criteria:
        return task
    if layout in LAYOUTS_OF_ONE_LINE:
        return task + LAYOUTS_OF_ONE_LINE[layout] + " ".join(criteria)
    marks = ["- " if layout == "dashes" else f"{k}. " for k in range(1, len(criteria) + 1)]
    return "\n".join([task, "", "Requirements:", *(mark + text for mark, text in zip(marks, criteria, strict=True))])


LAYOUTS_OF_ONE_LINE = {
    "same line": " ",
    "next line": "\n",
    "next paragraph": "\n\n",
    "own paragraph": "\n\nKeep to these points: ",
}
CRITERIA = [
    "Use no commas.",
    'End with "Easy, is it not?" and stop.',
    "Write 2. sentences + [one] (more)?",
    "Mention tea.",
    "1. Number nothing.",
    "- Be brief.",
]


@given(
    layout=st.sampled_from([*LAYOUTS_OF_ONE_LINE, "dashes", "numbers"]),
    criteria=st.permutations(CRITERIA).flatmap(lambda order: st.integers(1, 6).map(lambda size: order[:size])),
    kept=st.lists(st.booleans(), min_size=6, max_size=6),
    task=st.sampled_from(["Write about tea.", "Here: list 2. things  - or 3.\n\n  Indented.  Twice  spaced."]),
)
@settings(deadline=None, max_examples=300)
def test_what_is_left_is_as_if_written_without_the_criteria(layout, criteria, kept, task):
    left = [text for text, keep in zip(criteria, kept, strict=False) if keep]
    gone = [text for text, keep in zip(criteria, kept, strict=False) if not keep]
    assert without_rubrics(written(layout, task, criteria), gone) == written(layout, task, left)


@pytest.fixture(scope="module")
def few_prompts():
    table = make_prompts(400, 0, HELDOUT_KINDS, SPLITS)
    return table.assign(texts=table["rubrics"].map(lambda text: [rubric.text for rubric in parse_rubrics(text)]))


def test_a_made_prompt_without_its_rubrics_is_its_task(few_prompts):
    tasks = {topic.slug: topic.task for topic in load_topics()}
    for row in few_prompts.itertuples():
        left = without_rubrics(row.prompt, row.texts)
        assert tasks[row.topic] in left
        assert row.prompt.startswith(left)
        assert not any(text in left for text in (*row.texts, *LEADS))
        assert not EMPTY_LINE.search(left), left
        assert left == left.strip()


def test_a_made_prompt_without_one_rubric_has_all_the_others(few_prompts):
    tasks = {topic.slug: topic.task for topic in load_topics()}
    for row in few_prompts.itertuples():
        for text in row.texts:
            others = [other for other in row.texts if other != text]
            left = without_rubrics(row.prompt, [text])
            assert text not in left
            assert tasks[row.topic] in left
            assert all(other in left for other in others)
            assert any(lead in left for lead in LEADS) == (bool(others) and any(lead in row.prompt for lead in LEADS))
            body = left.split("\n\n", 1)[-1]
            assert not EMPTY_LINE.search(body), left
            numbers = [int(number) for number in re.findall(r"^(\d+)\. ", left, re.MULTILINE)]
            assert numbers == list(range(1, len(numbers) + 1))
            # taking out the rest as well comes to the same as taking out all at once
            assert without_rubrics(left, others) == without_rubrics(row.prompt, row.texts)


def test_no_criteria_leave_a_prompt_as_it_is():
    assert without_rubrics("  Say  hi. \n", []) == "  Say  hi. \n"


@pytest.mark.parametrize(
    ("prompt", "texts", "left"),
    [
        ("Say hi. Mention tea. Use no commas.", ["Mention tea"], "Say hi. Use no commas."),
        ("Say hi.\n* Mention tea;\n* use no commas", ["Mention tea"], "Say hi.\n* use no commas"),
        ("Mention tea. Say hi.", ["Mention tea."], "Say hi."),
        ("Mention tea.", ["Mention tea."], ""),
        ("Be calm. Say hi. Be calm.", ["Be calm."], "Say hi."),
        ("Do use teaspoons. Reuse tea. Now use tea.", ["use tea"], "Do use teaspoons. Reuse tea. Now"),
        ("Say hi.\n\n\nAnd  bye. Mention tea.", ["Mention tea."], "Say hi.\n\n\nAnd  bye."),
        ("Hi. Use tea. Use tea and milk.", ["Use tea", "Use tea and milk"], "Hi."),
        ("Say hi.\n\nMention tea.\n\nThank you.", ["Mention tea."], "Say hi.\n\nThank you."),
        ("Say hi.\n\nRequirements:\n- Mention tea.\n\nThank you.", ["Mention tea."], "Say hi.\n\nThank you."),
        ("Say hi.\n\nRequirements:\n- Tea.\n\n- Milk.", ["Tea."], "Say hi.\n\nRequirements:\n\n- Milk."),
        ("1. Tea.\n2. Milk.\n   Warm.\n3. Jam.\n\n5. Bun.", ["Tea."], "1. Milk.\n   Warm.\n2. Jam.\n\n4. Bun."),
        ("1. Tea.\n2. Milk.\nThen:\n3. Jam.", ["Tea."], "1. Milk.\nThen:\n3. Jam."),
        ("1. Tea.\n2. Milk.\n1. Jam.\n2. Bun.", ["Tea."], "1. Milk.\n1. Jam.\n2. Bun."),
        ("3) Tea.\n4) Milk.\n5) Jam.", ["Milk."], "3) Tea.\n4) Jam."),
        ("Hi.\n- Say:\n  one\n  two\n- Bye.", ["Say:\n  one\n  two"], "Hi.\n- Bye."),
    ],
)
def test_criteria_leave_a_users_own_prompt_too(prompt, texts, left):
    assert without_rubrics(prompt, texts) == left


@pytest.mark.parametrize("text", ["Mention milk.", "Mention te", "", "  "])
def test_a_criterion_that_is_not_in_its_prompt_is_refused(text):
    with pytest.raises(UserError, match="does not stand in its prompt") as caught:
        without_rubrics("Say hi. Mention tea.", ["Mention tea.", text])
    assert repr(text) in caught.value.what
    assert "Say hi. Mention tea." in caught.value.where
    assert caught.value.todo
