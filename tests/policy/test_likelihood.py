"""Log-probabilities from the labelled positions alone: the same figures and gradients as from all of them."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer import add_fused_lm_head

from rtt.policy import likelihood
from rtt.policy.likelihood import can_project, project
from rtt.policy.pretrained import load_policy
from rtt.policy.sharing import pack

PROMPTS, RESPONSES = [[5, 6, 7]] * 3 + [[8]] * 2, [[11, 12], [13], [14, 15, 16], [17, 18], [19]]
TEMPERATURE = 0.7


@pytest.fixture
def model(tiny_policy):
    return load_policy(tiny_policy).eval()


@pytest.fixture
def inputs(model):
    """Two packed rows, of two prompts, of which the second is the shorter."""
    longest, width = 3, 3
    prompt_ids = torch.tensor([[999] * (longest - len(p)) + p for p in PROMPTS])
    prompt_mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in PROMPTS])
    ids = torch.tensor([r + [999] * (width - len(r)) for r in RESPONSES])
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in RESPONSES])
    return pack(prompt_ids, prompt_mask, ids, mask, dtype=model.dtype).inputs


def plain(model, inputs):
    """Log-probability and entropy of all tokens, from the projection of every position."""
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits[:, :-1]
    spread = torch.distributions.Categorical(logits=logits / TEMPERATURE)
    return spread.log_prob(inputs["input_ids"][:, 1:]), spread.entropy()


def test_labelled_tokens_have_the_figures_of_a_whole_projection(model, inputs):
    labelled = inputs["labels"][:, 1:] != -100
    found, expected = project(model, inputs, TEMPERATURE), plain(model, inputs)
    assert labelled.sum() == 9
    for one, other in zip(found, expected, strict=True):
        assert one.shape == labelled.shape
        torch.testing.assert_close(one[labelled], other[labelled], atol=1e-5, rtol=1e-5)
    assert not found[1].requires_grad


def test_labelled_tokens_have_the_figures_of_trls_head(model, inputs, tiny_policy):
    labelled = inputs["labels"][:, 1:] != -100
    fused = load_policy(tiny_policy).eval()
    add_fused_lm_head(fused, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    expected = fused(**inputs, fused_lm_head=True)
    log_probs, entropy = project(model, inputs, TEMPERATURE)
    torch.testing.assert_close(log_probs[labelled], expected.log_probs[labelled], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy[labelled], expected.entropy[labelled], atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_a_whole_projection(model, inputs):
    labelled = inputs["labels"][:, 1:] != -100
    weights = torch.linspace(-1, 2, int(labelled.sum()))

    def gradients(log_probs):
        model.zero_grad()
        (log_probs[labelled] * weights).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    ours, whole = gradients(project(model, inputs, TEMPERATURE)[0]), gradients(plain(model, inputs)[0])
    assert max(gradient.abs().max() for gradient in whole) > 1e-3
    for one, other in zip(ours, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_figures_and_gradients_worked_out_by_hand():
    """Shares of 1/4 and 3/4, at half the temperature of 1/10 and 9/10, and a word's part in its own likelihood."""
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]], requires_grad=True)
    weights = torch.tensor([[1.0, -10.0]])
    for temperature, small, large in ((1.0, 0.25, 0.75), (0.5, 0.1, 0.9)):
        found, entropy = likelihood._Scores.apply(logits, torch.tensor([[0, 0]]), temperature)
        torch.testing.assert_close(found, torch.tensor([[math.log(small), math.log(large)]]))
        expected = -small * math.log(small) - large * math.log(large)
        torch.testing.assert_close(entropy, torch.full((1, 2), expected))
        (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
        rows = [[large, -large], [-10 * small, 10 * small]]
        torch.testing.assert_close(gradient, torch.tensor([rows]) / temperature)


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_in_parts_as_each_step_differentiated(data):
    rows, words = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    logits = (torch.randn(1, rows, words) * 20).requires_grad_()
    targets, weights = torch.randint(words, (1, rows)), torch.randn(1, rows)
    temperature = data.draw(st.sampled_from([1.0, 0.3]))
    scores = (logits / temperature).log_softmax(dim=-1)
    expected = scores.gather(-1, targets[..., None])[..., 0]
    with mock.patch.object(likelihood, "PART", data.draw(st.integers(1, 4 * words * rows))):
        found, entropy = likelihood._Scores.apply(logits, targets, temperature)
        ours = torch.autograd.grad((found * weights).sum(), logits)[0]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(entropy, -(scores.exp() * scores).sum(dim=-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours, torch.autograd.grad((expected * weights).sum(), logits)[0], atol=1e-5, rtol=1e-5)


def test_without_a_label_there_is_nothing_to_say(model, inputs):
    figures = project(model, inputs | {"labels": torch.full_like(inputs["labels"], -100)}, TEMPERATURE)
    for one in figures:
        assert one.tolist() == torch.zeros(inputs["labels"][:, 1:].shape).tolist()
    figures[0].sum().backward()


def test_only_positions_before_a_label_are_projected(model, inputs):
    rows = []
    model.lm_head.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[:2]))
    project(model, inputs, TEMPERATURE)
    # Row 1: two of the prompt, then 3, 2 and 4 tokens, of which all but the last of each foretell a label. Row 2: the
    # prompt's last token twice, before 2 labels and before 1, at places 0, 1 and 3. Together: 0 … 7 without 4 and 6.
    assert rows == [(2, 8)]


def test_where_it_is_the_cheaper_way(model, inputs, monkeypatch):
    assert can_project(model, inputs["labels"])
    assert can_project(get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")), inputs["labels"])
    assert not can_project(model, inputs["labels"].to("meta"))
    monkeypatch.setattr(likelihood, "MOST_LOGITS", 2 * 8 * model.config.vocab_size * 4 - 1)
    assert not can_project(model, inputs["labels"])


class ProjectsAll(LlamaForCausalLM):
    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


def test_a_model_that_cannot_leave_positions_out_is_read_as_before(inputs):
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    assert not can_project(ProjectsAll(LlamaConfig(vocab_size=16, **sizes)), inputs["labels"])
