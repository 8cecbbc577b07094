"""Answers: in the order of the prompts, alone decided by prompt, settings and seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from rtt.config import Generation
from rtt.errors import UserError
from rtt.evaluation.generation import PROMPT_TOKENS, batches, generate, open_policy
from rtt.policy.checkpoints import seal
from rtt.policy.pretrained import load_policy, load_tokenizer

GREEDY = Generation(max_tokens=6, temperature=0, batch_size=4)
SAMPLED = Generation(max_tokens=6, temperature=1, batch_size=4)
# Of very different lengths, and in no order of length.
PROMPTS = ["Describe tea.", "Write a letter " * 12, "Hi", "Name three rivers, please.", "Say hello to the town " * 6]


@pytest.fixture(scope="module")
def policy(tiny_policy: Path):
    """Model and tokenizer; the weights are scaled up, so that the next token depends on the prompt."""
    model, tokenizer = open_policy(tiny_policy, None)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layers" in name and weight.ndim == 2:
                weight.mul_(8)
    return model, tokenizer


@pytest.fixture(scope="module")
def adapter(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed checkpoint whose adapter changes the policy."""
    folder = tmp_path_factory.mktemp("adapter") / "checkpoint"
    torch.manual_seed(0)
    model = get_peft_model(load_policy(tiny_policy), LoraConfig(r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    seal(folder)
    return folder


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


def logits(model, tokenizer, prompt: str = "Describe tea.") -> torch.Tensor:
    with torch.inference_mode():
        return model(**tokenizer(prompt, return_tensors="pt")).logits


def test_a_conversation_is_answered_and_one_message_is_one(policy):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPTS[0]}]
    alone = [turns[1]]
    long, short = generate(*policy, [turns, alone], GREEDY, seed=0)
    assert [short] == generate(*policy, [PROMPTS[0]], GREEDY, seed=0)
    assert long.text != short.text


def test_greedy_equals_itself_whatever_the_seed(policy):
    assert generate(*policy, PROMPTS, GREEDY, seed=0) == generate(*policy, PROMPTS, GREEDY, seed=1)


def test_answers_keep_the_order_of_the_prompts_whatever_the_batch_size(policy):
    alone = [generate(*policy, [prompt], GREEDY, seed=0)[0] for prompt in PROMPTS]
    assert len(set(texts(alone))) == len(PROMPTS)
    for size in (1, 2, 5, 64):
        settings = GREEDY.model_copy(update={"batch_size": size})
        assert texts(generate(*policy, PROMPTS, settings, seed=0)) == texts(alone)


def test_sampling_depends_on_the_seed_alone(policy):
    first = generate(*policy, PROMPTS, SAMPLED, seed=0)
    torch.manual_seed(99)
    assert generate(*policy, PROMPTS, SAMPLED, seed=0) == first
    assert generate(*policy, PROMPTS, SAMPLED, seed=1) != first


def test_repeated_prompt_is_sampled_anew_each_time(policy):
    answers = generate(*policy, ["Describe tea."] * 6, SAMPLED, seed=0)
    assert len(set(texts(answers))) > 1


def test_top_k_of_one_is_greedy(policy):
    one = SAMPLED.model_copy(update={"top_k": 1})
    assert texts(generate(*policy, PROMPTS, one, seed=5)) == texts(generate(*policy, PROMPTS, GREEDY, seed=0))


def test_answer_that_fills_the_budget_is_truncated(policy):
    for answer in generate(*policy, PROMPTS, GREEDY, seed=0):
        assert (answer.tokens, answer.truncated) == (6, True)


def test_answer_ends_before_its_end_token_which_does_not_count(policy):
    """The third greedy token is made the end token: two are left, in a batch that goes on for the others."""
    model, tokenizer = policy
    prompt = PROMPTS[1]
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    assert ids[2] not in ids[:2]
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [before, ids[2]]
    try:
        answers = generate(model, tokenizer, PROMPTS, GREEDY, seed=0)
    finally:
        model.generation_config.eos_token_id = before
    assert (answers[1].text, answers[1].tokens, answers[1].truncated) == (tokenizer.decode(ids[:2]), 2, False)
    assert any(answer.tokens == 6 and answer.truncated for answer in answers)


def test_policy_without_a_chat_template_is_refused(tiny_policy, tmp_path):
    folder = shutil.copytree(tiny_policy, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="the policy has no chat template") as caught:
        generate(*open_policy(folder, None), PROMPTS, GREEDY, seed=0)
    assert caught.value.where == str(folder)


def test_adapter_is_merged_into_the_policy(tiny_policy, adapter):
    merged, tokenizer = open_policy(tiny_policy, adapter)
    beside = PeftModel.from_pretrained(load_policy(tiny_policy), str(adapter)).eval()
    torch.testing.assert_close(logits(merged, tokenizer), logits(beside, tokenizer), atol=1e-4, rtol=1e-4)
    assert (logits(merged, tokenizer) - logits(load_policy(tiny_policy), tokenizer)).abs().max() > 0.1
    assert not any("lora_" in name for name, _ in merged.named_parameters())


def test_whole_weights_take_the_policys_place(tiny_policy, tmp_path):
    changed = load_policy(tiny_policy)
    with torch.no_grad():
        changed.model.norm.weight.mul_(2)
    changed.save_pretrained(tmp_path / "checkpoint")
    seal(tmp_path / "checkpoint")
    model, tokenizer = open_policy(tiny_policy, tmp_path / "checkpoint")
    assert torch.equal(logits(model, tokenizer), logits(changed, tokenizer))
    assert not torch.equal(logits(model, tokenizer), logits(load_policy(tiny_policy), load_tokenizer(tiny_policy)))


def test_checkpoint_that_is_not_whole_is_refused(tiny_policy, adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "checkpoint")
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, "lora_alpha": 64}))
    with pytest.raises(UserError, match=r"damaged: adapter_config\.json"):
        open_policy(tiny_policy, folder)
    with pytest.raises(UserError, match="the checkpoint is not there"):
        open_policy(tiny_policy, tmp_path / "absent")


def test_long_prompts_go_in_smaller_batches_and_none_is_left_out():
    lengths = [10] * 5 + [PROMPT_TOKENS, 2 * PROMPT_TOKENS, 9 * PROMPT_TOKENS]
    found = list(batches(range(8), lengths, 4))
    assert found == [[0, 1, 2, 3], [4, 5], [6], [7]]
    assert list(batches([], [], 4)) == []
