"""Passes that responses to one prompt share: the same figures as one pass for each."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from rtt.attention import sees_all
from rtt.policy.pretrained import load_policy
from rtt.policy.sharing import ROW, equal_prompts, generate, in_order, pack, unpack

ABSURD = 999
"""A token that is none of the tiny model's neighbours of anything, put where no figure may come from."""


@pytest.fixture(scope="module")
def model(tiny_policy):
    return load_policy(tiny_policy).eval()


def tensors(prompts, responses, width=None):
    """Prompts padded on the left and responses on the right, with absurd values in the padding, and their masks."""
    longest = max(map(len, prompts))
    prompt_ids = torch.tensor([[ABSURD] * (longest - len(p)) + p for p in prompts])
    prompt_mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    width = width or max(map(len, responses))
    response_ids = torch.tensor([r + [ABSURD] * (width - len(r)) for r in responses])
    response_mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in responses])
    return prompt_ids, prompt_mask, response_ids, response_mask


def packed_log_probs(model, batch, **how):
    packed = pack(*batch, dtype=model.dtype, **how)
    logits = model(**{key: value for key, value in packed.inputs.items() if key != "labels"}).logits[:, :-1]
    ids = packed.inputs["input_ids"][:, 1:]
    return unpack(logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0], packed.places, batch[3])


def plain_log_probs(model, prompts, responses, width):
    """One response at a time, without any padding."""
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        row = torch.zeros(width)
        if response:
            logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            found = logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]
            row = torch.cat([found, row[len(response) :]])
        rows.append(row)
    return torch.stack(rows)


def test_a_packed_row_by_hand():
    batch = tensors([[5, 6], [7], [5, 6]], [[11, 12], [13], [14]])
    packed = pack(*batch, dtype=torch.float32)
    assert packed.inputs["input_ids"].tolist() == [[5, 6, 11, 12, 6, 14], [7, 13, 0, 0, 0, 0]]
    assert packed.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 1, 2], [0, 1, 0, 0, 0, 0]]
    assert packed.inputs["labels"].tolist() == [[-100, -100, 11, 12, -100, 14], [-100, 13, -100, -100, -100, -100]]
    assert packed.places.tolist() == [[2, 3], [7, 0], [5, 0]]
    sees = (packed.inputs["attention_mask"][0, 0] == 0).int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 1, 1],
    ]


def test_figures_come_back_to_their_tokens():
    packed = pack(*tensors([[5, 6], [7], [5, 6]], [[11, 12], [13], [14]]), dtype=torch.float32)
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]])
    mask = torch.tensor([[1, 1], [1, 0], [1, 0]])
    assert unpack(values, packed.places, mask).tolist() == [[2.0, 3.0], [6.0, 0.0], [5.0, 0.0]]


def test_a_row_holds_as_many_responses_as_fit():
    batch = tensors([[5, 6, 7]] * 4, [[1, 2], [3], [4, 5, 6], [7]])
    widths = {
        longest: pack(*batch, dtype=torch.float32, longest=longest).inputs["input_ids"].shape for longest in (13, 8, 7)
    }
    # Two tokens of the prompt once, then each response with one before it: 3, 2, 4 and 2 tokens.
    assert widths == {13: (1, 13), 8: (2, 8), 7: (3, 7)}
    assert pack(*batch, dtype=torch.float32, longest=1).inputs["input_ids"].shape == (4, 6)


PROMPTS = st.lists(st.integers(3, 400), min_size=1, max_size=6)
RESPONSES = st.lists(st.integers(3, 400), max_size=7)


@settings(max_examples=30, deadline=None)
@given(
    prompts=st.lists(PROMPTS, min_size=1, max_size=3),
    responses=st.lists(RESPONSES, min_size=2, max_size=8).filter(any),
    longest=st.sampled_from([1, 12, 4096]),
)
def test_log_probabilities_are_those_of_single_passes(model, prompts, responses, longest):
    asked = [prompts[i % len(prompts)] for i in range(len(responses))]
    batch = tensors(asked, responses)
    with torch.no_grad():
        found = packed_log_probs(model, batch, longest=longest)
        torch.testing.assert_close(
            found, plain_log_probs(model, asked, responses, batch[3].shape[1]), atol=1e-5, rtol=1e-5
        )


def test_gradients_are_those_of_single_passes(model):
    prompts, responses = [[5, 6, 7]] * 3 + [[8]] * 2, [[11, 12], [13], [14, 15, 16], [17, 18], [19]]
    batch = tensors(prompts, responses)
    weights = torch.linspace(-1, 2, batch[3].numel()).reshape(batch[3].shape)

    def gradients(log_probs):
        model.zero_grad()
        (log_probs * weights).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    packed = gradients(packed_log_probs(model, batch))
    plain = gradients(plain_log_probs(model, prompts, responses, batch[3].shape[1]))
    assert max(gradient.abs().max() for gradient in plain) > 1e-3
    for one, other in zip(packed, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    model.zero_grad()


def test_equal_prompts_are_equal_where_they_are_seen():
    ids = torch.tensor([[1, 5, 6], [2, 5, 6], [5, 6, 7], [3, 5, 6]])
    mask = torch.tensor([[0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])
    assert equal_prompts(ids, mask) == [[0, 1], [2], [3]]


def greedy(tokens=9):
    return GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=2, eos_token_id=400)


def test_shared_prompts_are_answered_as_single_ones(model):
    prompts = [[5, 6, 7, 8], [9], [5, 6, 7, 8], [10, 11], [9]]
    ids, mask, *_ = tensors(prompts, [[1]] * 5)
    answers = generate(model, input_ids=ids, attention_mask=mask, generation_config=greedy())
    assert answers[:, : ids.shape[1]].tolist() == ids.tolist()
    for prompt, answer in zip(prompts, answers[:, ids.shape[1] :].tolist(), strict=True):
        alone = model.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), generation_config=greedy()
        )
        assert answer == alone[0, len(prompt) :].tolist()


def test_each_prompt_is_read_once(model, monkeypatch):
    shapes = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **kw: shapes.append(tuple(kw["input_ids"].shape)) or forward(**kw))
    ids, mask, *_ = tensors([[5, 6, 7, 8]] * 3 + [[9]] * 3, [[1]] * 6)
    generate(model, input_ids=ids, attention_mask=mask, generation_config=greedy(3))
    assert shapes == [(2, 3), (6, 1), (6, 1), (6, 1)]


def test_what_all_prompts_begin_with_is_read_once(model, monkeypatch):
    shapes = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **kw: shapes.append(tuple(kw["input_ids"].shape)) or forward(**kw))
    ids, mask, *_ = tensors([[5, 6, 7, 8, 9], [5, 6, 10], [5, 6, 7, 8, 9]], [[1]] * 3)
    generate(model, input_ids=ids, attention_mask=mask, generation_config=greedy(1))
    assert shapes == [(1, 2), (2, 2), (3, 1)]
    shapes.clear()
    ids, mask, *_ = tensors([[5, 6, 7], [5, 6, 8]], [[1]] * 2)  # different in what is not read
    generate(model, input_ids=ids, attention_mask=mask, generation_config=greedy(1))
    assert shapes == [(1, 2), (2, 1), (2, 1)]


@settings(max_examples=30, deadline=None)
@given(
    begin=st.lists(st.integers(3, 400), max_size=4),
    ends=st.lists(st.lists(st.integers(3, 400), max_size=4), min_size=1, max_size=5),
    tokens=st.sampled_from([1, 6, 1536]),
)
def test_prompts_with_a_common_beginning_are_answered_as_single_ones(model, begin, ends, tokens):
    prompts = [[*begin, *end] or [7] for end in ends]
    ids, mask, *_ = tensors(prompts, [[1]] * len(prompts))
    ids = torch.where(mask.bool(), ids, ABSURD % 400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtt.policy.sharing.READ_AT_ONCE", tokens)
        answers = generate(model, input_ids=ids, attention_mask=mask, generation_config=greedy(4))
    for prompt, answer in zip(prompts, answers[:, ids.shape[1] :].tolist(), strict=True):
        alone = model.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), generation_config=greedy(4)
        )
        own = alone[0, len(prompt) :].tolist()
        assert answer[: len(own)] == own


@pytest.mark.parametrize(("tokens", "parts"), [(1, 5), (14, 3), (21, 2)])
def test_prompts_read_a_few_at_a_time_are_answered_as_at_once(model, monkeypatch, tokens, parts):
    ids = torch.randint(5, 60, (6, 8), generator=torch.Generator().manual_seed(1))
    ids[4] = ids[1]
    mask = torch.ones_like(ids)
    for row, padding in enumerate((7, 3, 0, 5, 3, 2)):  # one of a single token, nothing of which is read
        mask[row, :padding] = 0
    given = {"input_ids": ids, "attention_mask": mask, "generation_config": greedy(5)}
    whole = generate(model, **given)
    passes = []
    model.register_forward_pre_hook(lambda *_, **more: passes.append(0))
    monkeypatch.setattr("rtt.policy.sharing.READ_AT_ONCE", tokens)
    assert torch.equal(generate(model, **given), whole)
    assert torch.equal(type(model).generate(model, **given), whole)
    assert len(passes) == parts + 5 + 5


def test_different_samples_of_one_prompt(model):
    ids, mask, *_ = tensors([[5, 6, 7, 8]] * 8, [[1]] * 8)
    torch.manual_seed(0)
    sampling = GenerationConfig(max_new_tokens=9, do_sample=True, pad_token_id=2, eos_token_id=400)
    answers = generate(model, input_ids=ids, attention_mask=mask, generation_config=sampling)
    assert len({tuple(answer) for answer in answers.tolist()}) == 8


SIZES = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}


def test_an_adapter_does_not_hide_what_the_model_can(tiny_policy):
    from peft import LoraConfig, get_peft_model

    assert sees_all(load_policy(tiny_policy))
    assert sees_all(get_peft_model(load_policy(tiny_policy), LoraConfig(r=2, target_modules="all-linear")))


@pytest.mark.parametrize(
    "other",
    [
        lambda: MistralForCausalLM(MistralConfig(**SIZES, num_hidden_layers=1, sliding_window=4, pad_token_id=0)),
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, num_hidden_layers=2, head_dim=4)),
        lambda: BloomForCausalLM(BloomConfig(vocab_size=16, hidden_size=8, n_layer=1, n_head=2)),
        lambda: MambaForCausalLM(MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1)),
    ],
    ids=["window", "window in every second layer", "positions from the mask", "running state"],
)
def test_a_model_of_another_kind_shares_nothing(other):
    assert not sees_all(other())


def test_a_shuffled_batch_in_the_order_of_its_rows():
    parts = [
        {ROW: torch.tensor([3, 0]), "ids": torch.tensor([[30], [0]]), "none": None, "size": torch.tensor(7)},
        {ROW: torch.tensor([2, 1]), "ids": torch.tensor([[20], [10]]), "none": None, "size": torch.tensor(7)},
    ]
    first, second = in_order(parts)
    assert (first["ids"].tolist(), second["ids"].tolist()) == ([[0], [10]], [[20], [30]])
    assert (first[ROW].tolist(), second[ROW].tolist()) == ([0, 1], [2, 3])
    assert (first["none"], int(second["size"])) == (None, 7)
