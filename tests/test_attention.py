"""Attention without copies of keys and values: the figures of transformers' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaModel
from transformers.integrations import sdpa_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rtt import attention
from rtt.attention import GROUPED, grouped

GROUPS = 3


@pytest.fixture
def module():
    return SimpleNamespace(num_key_value_groups=GROUPS, is_causal=True)


def states(length=5):
    """Of 2 texts, 6 heads that ask and 2 that answer."""
    torch.manual_seed(0)
    return (torch.randn(2, heads, length, 8, requires_grad=True) for heads in (2 * GROUPS, 2, 2))


def refused(*_, **__):
    raise AssertionError("not the way that copies")


def test_the_same_to_the_bit_without_copies(module, monkeypatch):
    query, key, value = states()
    mask = torch.zeros(2, 1, 5, 5)
    mask[1, :, :, 3:] = torch.finfo(mask.dtype).min
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.5)
    gradients = torch.autograd.grad(expected.square().sum(), (query, key, value))
    monkeypatch.setattr(sdpa_attention, "repeat_kv", refused)
    found, _ = grouped(module, query, key, value, mask, scaling=0.5, dropout=0.0, position_bias=None)
    assert torch.equal(found, expected)
    for one, other in zip(torch.autograd.grad(found.square().sum(), (query, key, value)), gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_what_padding_holds_does_not_matter(module):
    query, key, value = states()
    mask = torch.zeros(2, 1, 5, 5)
    mask[..., 3:] = torch.finfo(mask.dtype).min
    before, _ = grouped(module, query, key, value, mask)
    with torch.no_grad():
        key[:, :, 3:], value[:, :, 3:] = 1e6, -1e6
    assert torch.equal(grouped(module, query, key, value, mask)[0], before)


@pytest.mark.parametrize(
    ("mask", "options"),
    [(None, {}), (torch.zeros(2, 1, 5, 5), {"position_bias": torch.randn(1, 2 * GROUPS, 5, 5)})],
    ids=["no mask", "bias of positions"],
)
def test_else_it_is_transformers_own_way(module, mask, options):
    given = [*states(), mask]
    assert torch.equal(grouped(module, *given, **options)[0], sdpa_attention_forward(module, *given, **options)[0])


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_model_says_the_same_with_it(heads, monkeypatch):
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    model = LlamaModel(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=heads)).eval()
    ids, seen = torch.randint(64, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    expected = model(input_ids=ids, attention_mask=seen).last_hidden_state
    model.set_attn_implementation(GROUPED)
    calls = []
    plain = attention.scaled_dot_product_attention
    monkeypatch.setattr(
        attention, "scaled_dot_product_attention", lambda *given, **more: calls.append(more) or plain(*given, **more)
    )
    found = model(input_ids=ids, attention_mask=seen).last_hidden_state
    assert len(calls) == 2
    assert torch.equal(found[seen.bool()], expected[seen.bool()])
