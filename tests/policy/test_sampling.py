"""Sampling with room in the cache and a merged adapter: what comes out, and what is left behind."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM

from rtt.policy.pretrained import load_policy
from rtt.policy.sampling import Part, draw, draw_quickly, gathered, merged, packed, rounded
from rtt.policy.sharing import generate
from rtt.precision import Rounding, RoundingHead, compute_with, keep_rounded


@pytest.fixture
def model(tiny_policy):
    return load_policy(tiny_policy).eval()


def adapted(tiny_policy, dropout=0.0):
    """With an adapter that does something: LoRA starts as nothing."""
    torch.manual_seed(3)
    model = get_peft_model(
        load_policy(tiny_policy), LoraConfig(r=2, lora_dropout=dropout, target_modules="all-linear")
    ).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@torch.no_grad()
def read(model, ids, cache):
    return model(input_ids=ids, cache=cache, use_cache=True).logits


def both(model, ids):
    """A cache as transformers keeps it, and one with room for three more, of the same tokens."""
    caches = []
    for room in (None, 3):
        cache = DynamicCache(config=model.config)
        read(model, ids, cache)
        if room is not None:
            cache = gathered([Part(cache, [[row] for row in range(len(ids))])], *ids.shape, room)
        caches.append(cache)
    return caches


def held(cache):
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def test_a_cache_with_room_holds_what_one_without_holds(model):
    plain, roomy = both(model, torch.tensor([[5, 6, 7], [8, 9, 10]]))
    # two tokens, then one, which fill the room; the fourth finds none, and the cache grows as any other
    for more in ([[11, 12], [13, 14]], [[15], [16]], [[17], [18]], [[19], [20]]):
        expected, found = (read(model, torch.tensor(more), cache) for cache in (plain, roomy))
        assert torch.equal(expected, found)
        assert plain.get_seq_length() == roomy.get_seq_length()
        assert all(torch.equal(one, other) for one, other in zip(held(plain), held(roomy), strict=True))


def test_caches_of_parts_by_hand(model):
    longer, shorter = DynamicCache(config=model.config), DynamicCache(config=model.config)
    read(model, torch.tensor([[5, 6, 7]]), longer)
    read(model, torch.tensor([[8, 9], [10, 11]]), shorter)
    whole = gathered([Part(shorter, [[3], [0, 2]]), Part(longer, [[1]])], rows=4, filled=3, room=1)
    assert whole.get_seq_length() == 3
    for found, long, short in zip(held(whole), held(longer), held(shorter), strict=True):
        nothing = torch.zeros_like(short[0, :, :1])
        for row, own in ((0, short[1]), (2, short[1]), (3, short[0])):
            assert torch.equal(found[row], torch.cat([nothing, own], dim=1))
        assert torch.equal(found[1], long[0])


def test_a_part_that_is_skipped_and_one_that_ends_before_the_last_by_hand(model):
    begin, rest = DynamicCache(config=model.config), DynamicCache(config=model.config)
    read(model, torch.tensor([[5, 6]]), begin)
    read(model, torch.tensor([[5, 6, 7, 8], [5, 6, 9, 10]]), rest)
    # the second row has one token of its own, 10; what was read before it is 9, which the beginning covers
    parts = [Part(rest, [[0], [1]], skipped=2), Part(begin, [[0, 1]], ends=[2, 3])]
    whole = gathered(parts, rows=2, filled=4, room=1)
    for found, start, own in zip(held(whole), held(begin), held(rest), strict=True):
        assert torch.equal(found[0], torch.cat([start[0], own[0, :, 2:]], dim=1))
        assert torch.equal(found[1, :, 1:], torch.cat([start[0], own[1, :, 3:]], dim=1))
        assert not found[1, :, 0].any()


def test_within_its_room_nothing_is_copied(model):
    plain, roomy = both(model, torch.tensor([[5, 6, 7]]))
    places = [[tensor.data_ptr() for tensor in held(cache)] for cache in (plain, roomy)]
    for cache in (plain, roomy):
        read(model, torch.tensor([[11]]), cache)
    moved = [[tensor.data_ptr() for tensor in held(cache)] for cache in (plain, roomy)]
    assert moved[1] == places[1]
    assert moved[0] != places[0]


def test_rows_chosen_after_room_was_made_are_the_rows_chosen(model):
    plain, roomy = both(model, torch.tensor([[5, 6, 7], [8, 9, 10]]))
    for cache in (plain, roomy):
        cache.batch_select_indices(torch.tensor([1, 1, 0]))
    more = torch.tensor([[11], [12], [13]])
    assert torch.equal(read(model, more, plain), read(model, more, roomy))


@pytest.mark.parametrize("chosen", [[0, 2], [2, 1], [1]], ids=str)
def test_rows_that_go_on_move_up_in_place(model, chosen):
    plain, roomy = both(model, torch.tensor([[5, 6, 7], [8, 9, 10], [11, 12, 13]]))
    places = [tensor.data_ptr() for tensor in held(roomy)]
    for cache in (plain, roomy):
        cache.batch_select_indices(torch.tensor(chosen))
    for more in (torch.tensor([[14], [15]]), torch.tensor([[16], [17]])):
        assert torch.equal(read(model, more[: len(chosen)], plain), read(model, more[: len(chosen)], roomy))
    assert [tensor.data_ptr() for tensor in held(roomy)] == places
    assert all(map(torch.equal, held(plain), held(roomy)))


def test_a_merged_adapter_says_the_same_and_leaves_no_trace(tiny_policy):
    model = adapted(tiny_policy)
    ids = torch.tensor([[5, 6, 7, 8]])
    before, expected = weights(model), model(input_ids=ids).logits
    with model.disable_adapter():
        assert (model(input_ids=ids).logits - expected).abs().max() > 0.1  # the adapter matters
    with merged(model):
        while_merged = model(input_ids=ids).logits
        assert not same(weights(model), before)
    torch.testing.assert_close(while_merged, expected, atol=1e-4, rtol=1e-4)
    assert same(weights(model), before)
    assert torch.equal(model(input_ids=ids).logits, expected)


def test_while_merged_no_weights_from_before_are_used(tiny_policy, monkeypatch):
    monkeypatch.setattr("rtt.precision.rounds", lambda: True)
    compute_with(None, "bfloat16")
    try:
        model = adapted(tiny_policy)
    finally:
        compute_with(None, "float32")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        with merged(model):
            expected = model(input_ids=ids).logits
        keep_rounded(model)
        assert all(layer.kept is not None for layer in model.modules() if type(layer) is Rounding)
        with merged(model):
            assert torch.equal(model(input_ids=ids).logits, expected)
        with model.disable_adapter():
            assert (model(input_ids=ids).logits - expected).abs().max() > 0.1


def test_packed_weights_have_the_adapter_in_them(tiny_policy):
    model = adapted(tiny_policy)
    before = weights(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        with merged(model):
            expected = model(input_ids=ids).logits
        with packed(model, 4), merged(model):  # which has nothing left to do
            assert same(weights(model), before)
            layers = [module for module in model.modules() if hasattr(module, "merged_adapters")]
            assert layers
            for layer in layers:
                assert "forward" in vars(layer)
            torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
            for name, weight in model.named_parameters():
                if "_proj" in name:
                    weight.add_(1e6)  # nobody looks at it
            torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
        assert not any("forward" in vars(module) for module in model.modules())


@torch.no_grad()
def test_packed_weights_have_an_adapter_s_bias_in_them():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    plain = LlamaForCausalLM(LlamaConfig(vocab_size=32, attention_bias=True, **sizes))
    model = get_peft_model(plain, LoraConfig(target_modules=["q_proj", "v_proj"], lora_bias=True)).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.normal_()
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = model(input_ids=ids).logits
    with model.disable_adapter():
        assert (model(input_ids=ids).logits - expected).abs().max() > 0.01
    with packed(model, 4):
        torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)


def test_weights_are_back_after_a_failure(tiny_policy):
    model = adapted(tiny_policy)
    before = weights(model)
    with pytest.raises(RuntimeError, match="stopped"), merged(model):
        raise RuntimeError("stopped")
    assert same(weights(model), before)
    assert not any(getattr(layer, "merged", False) for layer in model.modules())


def test_what_is_not_merged(tiny_policy, model):
    dropping = adapted(tiny_policy, dropout=0.1)
    off = adapted(tiny_policy)
    with off.disable_adapter():
        for other in (dropping, model, off):
            before = weights(other)
            with merged(other):
                assert same(weights(other), before)


@pytest.mark.parametrize("more", [{}, {"temperature": 0.7, "top_k": 5}, {"do_sample": False}], ids=str)
def test_a_merged_adapter_samples_what_it_samples_by_itself(tiny_policy, more):
    model = adapted(tiny_policy)
    prompts = torch.tensor([[5, 6, 7, 8]] * 4 + [[9, 10, 11, 12]] * 4)
    asked = {"input_ids": prompts, "attention_mask": torch.ones_like(prompts)}
    settings = {"do_sample": True, "max_new_tokens": 12, "pad_token_id": 2, "eos_token_id": [400, 401], **more}
    sampling = GenerationConfig(**settings)
    torch.manual_seed(0)
    expected = model.generate(**asked, generation_config=sampling)
    torch.manual_seed(0)
    assert torch.equal(generate(model, **asked, generation_config=sampling), expected)
    assert len({tuple(row) for row in expected.tolist()}) == (8 if sampling.do_sample else 2)


def test_a_draw_by_hand(monkeypatch):
    monkeypatch.setattr("rtt.policy.sampling.PART", 2)  # parts of two words, the last filled up
    shares = torch.tensor([[0.0, 0.5, 0.0, 0.25, 0.25], [2.0, 0.0, 2.0, 0.0, 0.0]])  # reached: .5 .75 1, and 2 4
    expected = {0.0: [1, 0], 0.49: [1, 0], 0.5: [3, 2], 0.74: [3, 2], 0.75: [4, 2], 0.99: [4, 2]}
    rows = torch.arange(2)
    for number, places in expected.items():
        monkeypatch.setattr(torch, "rand", lambda *size, number=number, **_: torch.full(size, number))
        assert draw_quickly(shares, rows, 2).tolist() == places
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))  # which is never drawn, but for rounding
    assert draw_quickly(shares, rows, 2).tolist() == [4, 2]


def test_draws_come_as_often_as_they_should():
    torch.manual_seed(0)
    count = 200_000
    shares = torch.rand(1000).softmax(dim=0) * (torch.arange(1000) % 3 > 0)
    counts = torch.bincount(draw_quickly(shares.expand(count, -1), torch.arange(count), count), minlength=1000)
    assert not counts[::3].any()
    kept = shares > 0
    expected = count * shares[kept] / shares.sum()
    statistic = ((counts[kept] - expected) ** 2 / expected).sum().item()
    assert 550 < statistic < 790  # χ² with 665 degrees of freedom: mean 665, deviation 36


@pytest.mark.parametrize("how", [draw, draw_quickly])
def test_a_row_draws_the_same_whichever_others_are_left(how):
    shares = torch.rand(6, 700, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    torch.manual_seed(1)
    whole = how(shares, torch.arange(6), 6)
    torch.manual_seed(1)
    left = torch.tensor([1, 4, 5])
    assert torch.equal(how(shares[left], left, 6), whole[left])
    assert len(set(whole.tolist())) > 3


def test_rows_that_ended_are_left_out_and_nothing_else_changes(model, monkeypatch):
    torch.manual_seed(0)
    ids = torch.randint(5, 400, (12, 6))
    mask = torch.ones_like(ids)
    mask[:4, :3] = 0  # shorter prompts
    settings = {"max_new_tokens": 24, "do_sample": True, "pad_token_id": 2}
    passes: list[int] = []
    model.register_forward_pre_hook(lambda *given: passes.append(len(given[2]["input_ids"])), with_kwargs=True)

    def answers(ended: float, ends: list[int]) -> torch.Tensor:
        monkeypatch.setattr("rtt.policy.sampling.ENDED", ended)
        passes.clear()
        torch.manual_seed(2)
        config = GenerationConfig(**settings, eos_token_id=ends)
        return generate(model, input_ids=ids, attention_mask=mask, generation_config=config, draw=draw_quickly)

    free = answers(2.0, [])
    ends = free[:9, 6 + 8].tolist()  # of most rows, at one time or another
    together = answers(2.0, ends)
    assert set(passes[1:]) == {12}
    assert 10 < together.shape[1] - 6 <= 24
    left_out = answers(1 / 8, ends)
    assert torch.equal(left_out, together)
    assert passes[-1] < 4
    assert passes[1:] == sorted(passes[1:], reverse=True)


def test_an_answer_that_ends_is_padded_and_the_others_go_on(model):
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 2}
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    free = generate(model, **asked, generation_config=GenerationConfig(**settings, eos_token_id=[]))
    stop = free[0, 6].item()
    assert stop not in free[1].tolist()
    ended = generate(model, **asked, generation_config=GenerationConfig(**settings, eos_token_id=stop))
    first = free[0].tolist().index(stop, 4)
    assert ended[0].tolist() == [*free[0, : first + 1].tolist(), *[2] * (15 - first)]
    assert torch.equal(ended[1], free[1])


@torch.no_grad()
def test_packed_weights_say_the_same_and_leave_no_trace(model):
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    before, expected = weights(model), model(input_ids=ids).logits
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    with packed(model, 2):
        assert all("forward" in vars(layer) for layer in layers)
        found = model(input_ids=ids).logits
        layers[0].weight.add_(1e6)  # what is multiplied with is the copy
        assert torch.equal(model(input_ids=ids).logits, found)
        layers[0].weight.copy_(before[next(name for name in before if "q_proj" in name)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert same(weights(model), before)
    assert torch.equal(model(input_ids=ids).logits, expected)


@torch.no_grad()
def test_packed_layers_round_as_they_do_otherwise(tiny_policy, monkeypatch):
    monkeypatch.setattr("rtt.precision.rounds", lambda: True)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    exact = load_policy(tiny_policy)(input_ids=ids).logits
    compute_with(None, "bfloat16")
    try:
        model = load_policy(tiny_policy)
    finally:
        compute_with(None, "float32")
    expected = model(input_ids=ids).logits
    with packed(model, 2):
        assert all("forward" in vars(layer) for layer in model.modules() if isinstance(layer, torch.nn.Linear))
        found = model(input_ids=ids).logits
    far = (expected - exact).abs().max()
    assert far > 0
    assert (found - expected).abs().max() < far / 2


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.nn.Linear, Rounding, RoundingHead])
def test_packed_layers_add_their_bias(kind):
    layer = kind(3, 2)
    layer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]))
    layer.bias.copy_(torch.tensor([10.0, 20.0]))
    with packed(layer, 1):
        assert layer(torch.tensor([[[1.0, 1.0, 2.0]]])).tolist() == [[[19.0, 21.0]]]


@torch.no_grad()
def test_layers_are_as_before_after_a_failure(model):
    with pytest.raises(RuntimeError, match="stopped"), packed(model, 2):
        raise RuntimeError("stopped")
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_what_is_not_packed(model, monkeypatch):
    def untouched():
        with packed(model, 2):
            return not any("forward" in vars(layer) for layer in model.modules())

    assert untouched()  # gradients are wanted
    with torch.no_grad():
        assert not untouched()
        monkeypatch.setattr("rtt.policy.sampling.PACKED_BYTES", 8)
        assert untouched()
        monkeypatch.undo()
        assert not untouched()
        model.to(torch.bfloat16)
        assert untouched()


def linear_kinds(model):
    return {layer.weight.dtype for layer in model.modules() if type(layer) is torch.nn.Linear}


@torch.no_grad()
@pytest.mark.parametrize("adapter", [False, True], ids=["plain", "adapter"])
def test_rounded_weights_say_what_autocast_says_and_leave_no_trace(tiny_policy, adapter):
    model = adapted(tiny_policy) if adapter else load_policy(tiny_policy).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    before, places = weights(model), {weight.data_ptr() for weight in model.parameters()}
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(input_ids=ids).logits
        with rounded(model):
            assert torch.bfloat16 in linear_kinds(model)
            assert model.get_input_embeddings().weight.dtype == torch.float32
            assert torch.equal(model(input_ids=ids).logits, expected)
    assert not torch.equal(model(input_ids=ids).logits, expected.float())
    assert same(weights(model), before)
    assert {weight.data_ptr() for weight in model.parameters()} == places


@torch.no_grad()
def test_without_autocast_nothing_is_rounded(model):
    with rounded(model):
        assert linear_kinds(model) == {torch.float32}


@torch.no_grad()
def test_rounded_weights_are_back_after_a_failure(model):
    before = weights(model)
    with pytest.raises(RuntimeError, match="stopped"), torch.autocast("cpu", torch.bfloat16), rounded(model):
        raise RuntimeError("stopped")
    assert same(weights(model), before)


@torch.no_grad()
def test_nothing_is_packed_under_autocast(model):
    with torch.autocast("cpu", torch.bfloat16), packed(model, 2):
        assert not any("forward" in vars(layer) for layer in model.modules())
