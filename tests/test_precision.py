"""Linear layers that round what they multiply: near the plain ones, in both directions, and nothing else touched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rtt.policy.pretrained import load_policy
from rtt.precision import Rounding, compute_with, linear_precision, prepared, rounding
from rtt.relevance.discriminator import Discriminator


@pytest.fixture
def rounded():
    compute_with(None, "bfloat16")
    yield
    compute_with(None, "float32")


def rounded_once(values: torch.Tensor) -> torch.Tensor:
    """As bfloat16 holds them."""
    return values.bfloat16().float()


def near_one_of(found, exact, of_rounded):
    """A processor without the instructions multiplies as always; one that has them, what was rounded."""
    errors = [((found - one).norm() / one.norm()).item() for one in (exact, of_rounded)]
    return min(errors) < 1e-5, errors


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 64), (2, 5, 64), (64,)])
def test_products_and_gradients_are_of_rounded_numbers(rounded, shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(64, 48, bias=bias)
    layer = prepared(nn.Sequential(nn.Linear(64, 48, bias=bias)))
    layer.load_state_dict({f"0.{name}": value for name, value in plain.state_dict().items()})
    given, gradient = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 48)
    out = layer(given)
    out.backward(gradient)
    weight, offset = plain.weight.detach(), plain.bias.detach() if bias else 0
    x, g, w = given.detach(), gradient, weight
    ok, errors = near_one_of(out.detach(), x @ w.T + offset, rounded_once(x) @ rounded_once(w).T + offset)
    assert ok, errors
    ok, errors = near_one_of(given.grad, g @ w, rounded_once(g) @ rounded_once(w))
    assert ok, errors
    rows, inputs = g.reshape(-1, 48), x.reshape(-1, 64)
    ok, errors = near_one_of(layer[0].weight.grad, rows.T @ inputs, rounded_once(rows).T @ rounded_once(inputs))
    assert ok, errors
    if bias:
        torch.testing.assert_close(layer[0].bias.grad, rows.sum(dim=0))


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


def test_policy_and_discriminator_are_opened_as_asked(tiny_policy):
    def kinds():
        settings = {"layers": 1, "bidirectional": True, "max_length": 64}
        discriminator = Discriminator.from_backbone(tiny_policy, **settings).network
        models = load_policy(tiny_policy), discriminator
        return {type(layer) for model in models for layer in model.modules() if isinstance(layer, nn.Linear)}

    assert linear_precision() == "float32"
    assert kinds() == {nn.Linear}
    try:
        compute_with(None, "bfloat16")
        assert linear_precision() == "bfloat16"
        assert kinds() == {Rounding}
    finally:
        compute_with(None, "float32")


def test_threads_are_set_or_left_alone():
    before = torch.get_num_threads()
    try:
        compute_with(1, "float32")
        assert torch.get_num_threads() == 1
        compute_with(None, "float32")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
