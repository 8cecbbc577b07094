"""Interrupted, an evaluation goes on where it was; thoughts and templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtt.config import Generation, Protocol
from rtt.evaluation import generation
from rtt.evaluation.generation import generate, open_policy
from rtt.evaluation.kept import Answer, Kept
from rtt.evaluation.local import Continuous, Local
from rtt.evaluation.templates import render, template_record, without_thoughts
from rtt.precision import compute_with

PROMPTS = ["Describe tea.", "Write a letter " * 12, "Hi", "Name three rivers, please.", "Say hello to the town " * 6]
SAMPLED = Protocol(name="sampled", samples=2, temperature=1.0, max_tokens=6)
CONVERSATIONS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]


def local(tiny_policy: Path, place: Path, protocol: Protocol = SAMPLED, seed: int = 0) -> Local:
    return Local(tiny_policy, None, protocol, seed, batch_size=3, kept=place)


def test_answers_come_back_and_those_of_other_questions_do_not(tmp_path):
    path = tmp_path / "deep" / "kept.jsonl"
    Kept(path, "a").add([3, 1], [Answer("x\n", 2, False), Answer("é", 1, True)])
    path.write_text(path.read_text() + '{"place": 4, "te')  # cut short
    again = Kept(path, "a")
    assert again.answers == {3: Answer("x\n", 2, False), 1: Answer("é", 1, True)}
    again.add([4], [Answer("", 0, False)])
    assert set(Kept(path, "a").answers) == {1, 3, 4}
    assert Kept(path, "b").answers == {}
    assert Kept(path, "a").answers == {}


@pytest.mark.parametrize("after", [1, 2])
def test_interrupted_sampling_ends_as_undisturbed_and_asks_nothing_twice(tiny_policy, tmp_path, monkeypatch, after):
    whole = local(tiny_policy, tmp_path / "whole.jsonl").answer(CONVERSATIONS, "x")
    assert len(whole) == 10
    calls = []
    plain = generation.sharing.generate

    def counted(model, **more):
        calls.append(len(more["input_ids"]))
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return plain(model, **more)

    monkeypatch.setattr(generation.sharing, "generate", counted)
    with pytest.raises(KeyboardInterrupt):
        local(tiny_policy, tmp_path / "kept.jsonl").answer(CONVERSATIONS, "x")
    rest = local(tiny_policy, tmp_path / "kept.jsonl")
    assert rest.answer(CONVERSATIONS, "x") == whole
    assert sum(calls) == 10 + calls[after]  # the batch that was cut off, and no other, was sampled again
    rest.done()
    assert not (tmp_path / "kept.jsonl").exists()


def test_each_batch_draws_anew(tiny_policy, tmp_path):
    six = SAMPLED.model_copy(update={"samples": 6})  # two batches of three answers to one prompt
    answers = local(tiny_policy, tmp_path / "kept.jsonl", six).answer(CONVERSATIONS[:1], "x")
    assert answers[:3] != answers[3:]


def test_another_seed_or_protocol_begins_anew(tiny_policy, tmp_path):
    place = tmp_path / "kept.jsonl"
    first = local(tiny_policy, place).answer(CONVERSATIONS, "x")
    assert local(tiny_policy, place, seed=1).answer(CONVERSATIONS, "x") != first
    assert local(tiny_policy, place).answer(CONVERSATIONS, "x") == first
    longer = SAMPLED.model_copy(update={"max_tokens": 7})
    assert max(one.tokens for one in local(tiny_policy, place, longer).answer(CONVERSATIONS, "x")) == 7


def test_another_precision_begins_anew_and_stands_in_the_record(tiny_policy, tmp_path, monkeypatch):
    asked = []
    plain = generation.sharing.generate
    monkeypatch.setattr(
        generation.sharing, "generate", lambda model, **more: (asked.append(1), plain(model, **more))[1]
    )
    place = tmp_path / "kept.jsonl"
    try:
        for precision, calls in (("float32", 4), ("bfloat16", 8), ("bfloat16", 8)):
            compute_with(None, precision)
            again = local(tiny_policy, place)
            again.answer(CONVERSATIONS, "x")
            assert (len(asked), again.record()["linear_precision"]) == (calls, precision)
    finally:
        compute_with(None, "float32")


def test_greedy_answers_are_those_of_a_plain_call(tiny_policy, tmp_path):
    model, tokenizer = open_policy(tiny_policy, None)
    settings = Generation(max_tokens=6, temperature=0, batch_size=3)
    kept = local(tiny_policy, tmp_path / "kept.jsonl", Protocol(max_tokens=6)).answer(CONVERSATIONS, "x")
    assert kept == generate(model, tokenizer, PROMPTS, settings, seed=0)


@pytest.mark.parametrize("protocol", [Protocol(max_tokens=6), SAMPLED], ids=["greedy", "sampled"])
def test_continuous_batching_answers_the_same_questions(tiny_policy, tmp_path, protocol):
    continuous = Continuous(tiny_policy, None, protocol, 0)
    answers = continuous.answer(CONVERSATIONS, "x")
    assert continuous.record()["generator"].endswith("continuous batching")
    assert len(answers) == len(PROMPTS) * protocol.samples
    assert all(one.tokens == 6 and one.truncated for one in answers)
    if protocol.temperature == 0:
        assert answers == local(tiny_policy, tmp_path / "kept.jsonl", protocol).answer(CONVERSATIONS, "x")
    else:
        assert len({one.text for one in answers}) > len(PROMPTS)


def test_the_record_says_who_answered_and_how_the_prompt_was_written(tiny_policy, tmp_path):
    record = local(tiny_policy, tmp_path / "kept.jsonl").record()
    assert record["generator"].startswith("transformers 5")
    assert len(record["model"]["policy"]) == 16
    assert record["chat_template"]["thinking"] == "the template has no switch"
    assert "…" in record["chat_template"]["example"]


SWITCHED = "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking %}<think>{% else %}<no>{% endif %}"


@pytest.mark.parametrize(("thinking", "ends", "said"), [(True, "<think>", "on"), (False, "<no>", "off")])
def test_a_template_with_a_switch_is_told(tiny_policy, thinking, ends, said):
    _, tokenizer = open_policy(tiny_policy, None)
    tokenizer.chat_template = SWITCHED
    assert render(tokenizer, CONVERSATIONS[0], thinking) == PROMPTS[0] + ends
    assert template_record(tokenizer, thinking)["thinking"] == said


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        (" as it is \n", " as it is \n"),
        ("<think>\nhm\n</think>\n\nso", "so"),
        ("hm\n</think>so", "so"),  # the template wrote the opening mark
        ("<think>a</think>b</think>c", "c"),
        ("\n<think>without end", ""),
        ("about <think> tags", "about <think> tags"),
    ],
)
def test_thoughts_are_no_part_of_an_answer(text, answer):
    assert without_thoughts(text) == answer
