"""The tiny policy: equal every time, and a tokenizer that loses nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtt.policy.pretrained import load_policy, load_tokenizer
from rtt.policy.tiny import SPECIAL_TOKENS, make_tiny_model
from rtt.sources import tree_sha256


def test_two_are_equal_byte_for_byte(tmp_path: Path, tiny_policy: Path) -> None:
    make_tiny_model(tmp_path / "again")
    assert tree_sha256(tmp_path / "again") == tree_sha256(tiny_policy)


def test_another_seed_changes_the_weights_alone(tmp_path: Path, tiny_policy: Path) -> None:
    make_tiny_model(tmp_path / "other", seed=1)
    changed = {
        path.name
        for path in tiny_policy.iterdir()
        if path.read_bytes() != (tmp_path / "other" / path.name).read_bytes()
    }
    assert changed == {"model.safetensors"}


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_tiny_model(tmp_path / "tiny")
    assert torch.equal(torch.rand(3), expected)


def test_given_texts_shape_the_vocabulary(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny", texts=["xylophone xylophone"] * 4)
    tokenizer = load_tokenizer(tmp_path / "tiny")
    assert tokenizer.tokenize("xylophone") == ["xylophone"]
    assert load_policy(tmp_path / "tiny").config.vocab_size == len(tokenizer)


def test_special_tokens_stand_where_smollm2_has_them(tiny_policy: Path) -> None:
    tokenizer, config = load_tokenizer(tiny_policy), load_policy(tiny_policy).config
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)


def test_messages_are_written_as_smollm2_reads_them(tiny_policy: Path) -> None:
    messages = [{"role": "user", "content": "Say hi."}, {"role": "assistant", "content": "Hi!"}]
    tokenizer = load_tokenizer(tiny_policy)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\nHi!<|im_end|>\n<|im_start|>assistant\n"
    )


_tokenizer = cache(load_tokenizer)


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(tiny_policy: Path, text: str) -> None:
    tokenizer = _tokenizer(tiny_policy)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize(
    "text", ["I ' m here , and she 's not .", " two  spaces\t\r\n\n", "naïve 漢字 🙂 e\u0301 \u200b"]
)
def test_spaces_and_marks_are_not_tidied(tiny_policy: Path, text: str) -> None:
    tokenizer = _tokenizer(tiny_policy)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_batch_is_padded_on_the_left_and_generates(tiny_policy: Path) -> None:
    model, tokenizer = load_policy(tiny_policy), load_tokenizer(tiny_policy)
    batch = tokenizer(["Hi", "A longer line of words"], return_tensors="pt", padding=True)
    assert batch["attention_mask"][0, 0] == 0
    assert batch["attention_mask"][0, -1] == 1
    output = model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert output.shape[1] <= batch["input_ids"].shape[1] + 3
    # Padding may not change an answer.
    alone = model.generate(**tokenizer("Hi", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert output[0, -3:].tolist() == alone[0, -3:].tolist()
