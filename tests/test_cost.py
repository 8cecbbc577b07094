"""What a step costs, worked out by hand for a model of a few numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from rtt.config import load_config
from rtt.cost import Machine, Reader, Shape, Work, estimate, memory, operations, peak, questions, reader_of, seconds
from rtt.errors import UserError

SHAPE = Shape(layers=2, hidden=4, inner=6, heads=2, kv_heads=1, head_size=2, vocabulary=10, tied=True)
WORK = Work(responses=8, group=4, rubrics=3, prompt=6, response=10, criterion=2, micro=4)
# A layer: queries and output 2 · 4 · 4, keys and values 2 · 4 · 2, feed-forward 3 · 4 · 6; together 32 + 16 + 72 = 120.
BODY = 240
OUTPUT = 40


def test_weights_are_those_of_the_model():
    assert (SHAPE.body, SHAPE.output, SHAPE.weights) == (BODY, OUTPUT, BODY + OUTPUT)
    assert replace(SHAPE, tied=False).weights == BODY + 2 * OUTPUT
    sizes = {"hidden_size": 8, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, num_hidden_layers=3, tie_word_embeddings=True, **sizes))
    shape = Shape(layers=3, hidden=8, inner=24, heads=4, kv_heads=2, head_size=2, vocabulary=32, tied=True)
    matrices = sum(weight.numel() for weight in model.parameters() if weight.dim() == 2)  # norms are left out
    assert shape.weights == matrices


def test_operations_by_hand():
    found = operations(WORK, SHAPE, None)
    # Two prompts of 6 tokens, which see 3 on average; attention: 4 · layers · heads · size = 32 a token and token seen.
    assert found["read"] == 2 * BODY * 12 + 32 * 12 * 3
    # 80 tokens of responses, which see the prompt and half of the response: 11.
    assert found["write"] == 2 * BODY * 80 + 32 * 80 * 11 + 2 * OUTPUT * 80
    assert found["loss"] == 2 * (found["read"] + found["write"])  # forward, and gradients of activations
    assert found["relevance"] == 0


def test_training_all_weights_twice_with_recomputing_takes_nine_passes():
    plain, dear = (
        operations(work, SHAPE, None)["loss"] for work in (WORK, replace(WORK, full=True, recomputed=True, updates=2))
    )
    assert dear / plain == 9 / 2  # twice forward, again forward, two gradients; and once before the first update


def test_a_prompt_is_read_by_each_response_where_nothing_is_shared():
    shared, alone = (operations(work, SHAPE, None) for work in (WORK, replace(WORK, shared=False)))
    assert alone["read"] == 4 * shared["read"]
    assert alone["write"] == shared["write"]


def test_relevance_by_hand_for_each_reading():
    pair = operations(WORK, SHAPE, Reader(SHAPE, "pair"))["relevance"]
    assert pair == 2 * BODY * (24 * 12) + 32 * (24 * 12) * 6  # 24 pairs of 12 tokens
    after = operations(WORK, SHAPE, Reader(SHAPE, "after"))["relevance"]
    # 24 pairs of 10 tokens that see the criterion's 2 too, and the criteria of `apart`
    assert after == 2 * BODY * 240 + 32 * 240 * 7 + 2 * BODY * 12 + 32 * 12 * 1
    apart = operations(WORK, SHAPE, Reader(SHAPE, "apart"))["relevance"]
    # 8 responses of 10 tokens, and 3 criteria of each of two prompts, of 2 tokens
    assert apart == 2 * BODY * 80 + 32 * 80 * 5 + 2 * BODY * 12 + 32 * 12 * 1


def test_writing_takes_as_long_as_products_or_moving_whichever_is_longer():
    found = operations(WORK, SHAPE, None)
    quick = Machine(rate=1000, bandwidth=1e12, devices=2)
    times = seconds(WORK, SHAPE, None, quick)
    assert times == pytest.approx({name: value / 2000 for name, value in found.items()})
    assert seconds(WORK, SHAPE, None, replace(quick, small_rate=500))["write"] == pytest.approx(found["write"] / 1000)
    # Ten tokens; each moves 280 weights and the keys and values (2 · 2 · 1 · 2 = 8 a token) of 4 responses' 11 tokens.
    slow = Machine(rate=1e12, bandwidth=100, devices=2)
    assert seconds(WORK, SHAPE, None, slow)["write"] == pytest.approx(2 * (280 + 8 * 44) * 10 / 100)


def test_memory_by_hand():
    machine = Machine(rate=1, bandwidth=1, devices=2, number=2)
    adapter = memory(WORK, SHAPE, machine)
    assert (adapter["weights"], adapter["training"]) == (560, 0)
    assert adapter["cache"] == 2 * 8 * 4 * 16  # four responses of 16 tokens on each device
    # A layer keeps 6 · 4 + 4 · 6 + 2 · (2 + 2) = 56 a token; four responses of 10 tokens and one prompt of 6.
    assert adapter["activations"] == 2 * 2 * 56 * 46
    assert adapter["logits"] == 4 * 3 * 10 * 40
    assert peak(adapter) == 560 + 2 * 2 * 56 * 46 + 4800
    full = memory(replace(WORK, full=True, recomputed=True), SHAPE, machine)
    assert full["training"] == 280 * (2 + 8 + 4)
    assert full["activations"] == 2 * (2 * 4 + 56) * 46  # what enters each layer, and one layer
    for sharded, weights, training in (("optimizer", 560, 1960), ("all", 280, 1960)):
        parts = memory(replace(WORK, full=True), SHAPE, replace(machine, sharded=sharded))
        assert (parts["weights"], parts["training"]) == (weights, training)


def test_what_a_judge_is_asked():
    assert questions(WORK, instructions=100, answer=5) == {"questions": 24, "tokens_in": 24 * 118, "tokens_out": 120}


@pytest.mark.parametrize("name", ["qwen3_4b", "qwen2_5_7b", "llama3_2_3b"])
def test_each_published_configuration_has_its_models_sizes(name):
    config = load_config(Path(f"config/paper/{name}.yaml"))
    shape = Shape.read(Path(f"config/paper/{name}.json"))
    published = {"qwen3_4b": 4.02e9, "qwen2_5_7b": 7.61e9, "llama3_2_3b": 3.21e9}
    assert shape.weights == pytest.approx(published[name], rel=0.005)
    assert reader_of(config, shape) == Reader(shape, "pair")
    machine = Machine(rate=4e14, bandwidth=2.5e12, devices=8)
    work = Work(responses=512, group=8, rubrics=5, prompt=150, response=1000, criterion=25, updates=2)
    found = estimate(config, work, shape, machine)
    assert found["batches"] == 250
    assert found["hours"] == pytest.approx(found["step"] * 250 * 8 / 3600)
    without = found["step"] - found["seconds"]["relevance"]
    assert found["overhead"] == pytest.approx(found["seconds"]["relevance"] / without)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read"), ('{"hidden_size": 3}', "lack 'num_attention_heads'"), ("[]", "lack")]
)
def test_sizes_that_cannot_be_read_are_the_users_error(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=said):
        Shape.read(tmp_path / "config.json")


def test_sizes_of_an_older_model_are_filled_in(tmp_path):
    sizes = {
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "intermediate_size": 6,
        "num_attention_heads": 4,
        "vocab_size": 5,
    }
    (tmp_path / "config.json").write_text(json.dumps(sizes | {"num_attention_heads": 4}))
    shape = Shape.read(tmp_path / "config.json")
    assert (shape.kv_heads, shape.head_size, shape.tied) == (4, 2, False)
