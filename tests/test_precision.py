"""Linear layers that round what they multiply: near the plain ones, in both directions, and nothing else touched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rtt.policy.pretrained import load_policy
from rtt.precision import (
    Rounding,
    RoundingHead,
    compute_with,
    keep_rounded,
    linear_precision,
    prepared,
    rounding,
    rounds,
    unkept,
)
from rtt.relevance.discriminator import Discriminator


@pytest.fixture
def rounded(monkeypatch):
    """Rounding is asked for, and the processor is one of those that round, or says so."""
    monkeypatch.setattr("rtt.precision.rounds", lambda: True)
    compute_with(None, "bfloat16")
    yield
    compute_with(None, "float32")


def rounded_once(values: torch.Tensor) -> torch.Tensor:
    """As bfloat16 holds them."""
    return values.bfloat16().float()


def test_products_by_hand(rounded):
    # 1 + 2^-9 is rounded to 1, and a product of 257 to 256: eight digits; the sum before it is whole
    layer = prepared(nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1 + 2.0**-9, 256.0, 1.0]]))
        assert layer(torch.tensor([1.0, 0.0, 0.0])).tolist() == [1.0]
        assert layer(torch.tensor([1.0, 1.0, 0.0])).tolist() == [256.0]
        assert layer(torch.tensor([1.0, 1.0, 1.0])).tolist() == [258.0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 64), (2, 5, 64), (64,)])
def test_products_and_gradients_are_of_rounded_numbers(rounded, shape, bias):
    torch.manual_seed(0)
    layer = prepared(nn.Linear(64, 48, bias=bias))
    given, gradient = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 48)
    out = layer(given)
    out.backward(gradient)
    x, g, w = (rounded_once(one.detach()) for one in (given, gradient, layer.weight))
    offset = rounded_once(layer.bias.detach()) if bias else 0
    rows, inputs = g.reshape(-1, 48), x.reshape(-1, 64)
    # sums in another order may be rounded the other way
    close = {"rtol": 2.0**-7, "atol": 1e-5}
    torch.testing.assert_close(out.detach(), rounded_once(x @ w.T + offset), **close)
    torch.testing.assert_close(given.grad, rounded_once(g @ w), **close)
    torch.testing.assert_close(layer.weight.grad, rounded_once(rows.T @ inputs), **close)
    assert out.dtype == given.grad.dtype == layer.weight.grad.dtype == torch.float32
    assert torch.equal(out, rounded_once(out.detach()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 64), (2, 5, 64), (64,)])
def test_a_head_gives_what_it_sums_up(rounded, shape, bias):
    torch.manual_seed(0)
    head = nn.Linear(64, 48, bias=bias)
    head.__class__ = RoundingHead
    given, gradient = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 48)
    out = head(given)
    out.backward(gradient)
    x, g, w = given.detach(), gradient, head.weight.detach()
    rows, inputs = g.reshape(-1, 48), x.reshape(-1, 64)
    offset = head.bias.detach() if bias else 0
    assert not torch.equal(out, rounded_once(out.detach()))
    # a processor without the instructions multiplies as always
    close = {"rtol": 0.05, "atol": 0.1}
    torch.testing.assert_close(out.detach(), x @ w.T + offset, **close)
    torch.testing.assert_close(given.grad, g @ w, **close)
    torch.testing.assert_close(head.weight.grad, rows.T @ inputs, **close)
    if bias:
        torch.testing.assert_close(head.bias.grad, rows.sum(dim=0))


class Gated(nn.Module):
    """As transformers' models name it."""

    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, given):
        return self.down_proj(nn.functional.silu(self.gate_proj(given)) * self.up_proj(given))


def test_between_the_layers_of_a_gated_block_numbers_stay_rounded(rounded):
    torch.manual_seed(0)
    block = prepared(Gated())
    given = torch.randn(5, 8, requires_grad=True)
    gate, up = block.gate_proj(given), block.up_proj(given)
    assert gate.dtype == up.dtype == torch.bfloat16
    out = block(given)
    assert out.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(out, block.down_proj((nn.functional.silu(gate) * up).float()))
    out.sum().backward()
    found = given.grad.clone(), block.gate_proj.weight.grad.clone()
    plain = Gated()
    plain.load_state_dict(block.state_dict())
    given.grad = None
    plain(given).sum().backward()
    for one, other in zip(found, (given.grad, plain.gate_proj.weight.grad), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.03)


def test_a_block_with_a_layer_that_does_not_round_hands_on_plain_numbers(rounded):
    block = Gated()
    block.down_proj = nn.Sequential(block.down_proj)
    assert prepared(block).gate_proj(torch.randn(5, 8)).dtype == torch.float32


def test_weights_that_are_not_trained_are_rounded_once(rounded):
    torch.manual_seed(0)
    model = prepared(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    model[0].requires_grad_(False)
    given = torch.randn(3, 8, requires_grad=True)
    before = model(given)
    keep_rounded(model)
    assert torch.equal(model(given), before)
    model(given).sum().backward()
    gradient, given.grad = given.grad, None
    before.sum().backward()
    assert torch.equal(given.grad, gradient)
    with torch.no_grad():
        for layer in model:
            layer.weight.zero_()
            layer.bias.zero_()
    assert model[0](given).abs().max() > 0, "what was kept"
    assert model[1](given).abs().max() == 0
    with unkept(model):
        assert model[0](given).abs().max() == 0
    assert model[0](given).abs().max() > 0
    with pytest.raises(RuntimeError, match="stop"), unkept(model):
        raise RuntimeError("stop")
    assert model[0](given).abs().max() > 0


def test_a_frozen_layer_passes_the_gradient_on(rounded):
    layer = prepared(nn.Linear(8, 8)).requires_grad_(False)
    given = torch.randn(3, 8, requires_grad=True)
    layer(given).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(given.grad, layer.weight.sum(dim=0).expand(3, 8), rtol=0.02, atol=0.02)


def test_other_numbers_are_multiplied_as_they_come(rounded):
    layer, given = prepared(nn.Linear(8, 8)).double(), torch.randn(3, 8, dtype=torch.double)
    assert torch.equal(layer(given), given @ layer.weight.T + layer.bias)
    half = prepared(nn.Linear(8, 8))
    assert type(half) is Rounding
    with torch.autocast("cpu", torch.bfloat16):
        assert half(given.float()).dtype == torch.bfloat16


def test_the_rest_of_the_process_multiplies_as_before(rounded):
    assert torch.get_float32_matmul_precision() == "highest"

    @rounding()
    def fails():
        assert torch.get_float32_matmul_precision() == "medium"
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("asked", "can", "kinds"),
    [
        ("float32", True, ({nn.Linear}, {nn.Linear})),
        ("bfloat16", False, ({nn.Linear}, {nn.Linear})),
        ("bfloat16", True, ({Rounding, RoundingHead}, {Rounding})),
    ],
)
def test_policy_and_discriminator_are_opened_as_asked(tiny_policy, monkeypatch, asked, can, kinds):
    monkeypatch.setattr("rtt.precision.rounds", lambda: can)
    compute_with(None, asked)
    try:
        assert linear_precision() == asked
        policy = load_policy(tiny_policy)
        discriminator = Discriminator.from_backbone(tiny_policy, layers=1, bidirectional=True, max_length=64)
    finally:
        compute_with(None, "float32")
    found = (
        {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)}
        for model in (policy, discriminator.network)
    )
    assert tuple(found) == kinds


@pytest.mark.parametrize(
    ("known", "can"), [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)]
)
def test_which_processors_round(monkeypatch, known, can):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert rounds() is can


def test_threads_are_set_or_left_alone():
    before = torch.get_num_threads()
    try:
        compute_with(1, "float32")
        assert torch.get_num_threads() == 1
        compute_with(None, "float32")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
