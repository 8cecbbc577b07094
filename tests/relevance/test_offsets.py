"""Tokens keep their place in the text they decode to, whatever was sampled."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rtt.relevance.offsets import char_to_token_relevance, spans_to_chars, token_spans

END = "<|end|>"


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[END], show_progress=False
    )
    tokenizer.train_from_iterator(["a cat sat on the mat, and the cat sang é😀é😀 😁 日本 日本語"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Decodes as Llama 2 does: bytes fall back to <0x..> tokens, and the first space of a text is dropped."""
    words = [END, "▁the", "▁cat", "s", "▁"]
    vocabulary = {word: i for i, word in enumerate(words + [f"<0x{byte:02X}>" for byte in range(256)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)


BYTES = byte_level()
PIECES = sentencepiece_like()


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True)


def assert_covers(spans, ids, text, tokenizer):
    """One span a token, special ones empty; the others in order, inside the text and without a gap."""
    assert len(spans) == len(ids)
    special = [span for span, token in zip(spans, ids, strict=True) if token == tokenizer.eos_token_id]
    assert all(0 <= start == end <= len(text) for start, end in special)
    spans = [span for span, token in zip(spans, ids, strict=True) if token != tokenizer.eos_token_id]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(spans))
    assert spans_to_chars(spans, len(text)).all()


def oracle(ids):
    """Spans from the bytes themselves: a token has every character one of its bytes went into."""
    to_byte = {char: byte for byte, char in byte_characters().items()}
    parts = [
        b"" if token == BYTES.eos_token_id else bytes(to_byte[char] for char in BYTES.convert_ids_to_tokens(token))
        for token in ids
    ]
    owner = []  # the character each byte went into
    joined = b"".join(parts)
    while len(owner) < len(joined):
        rest = joined[len(owner) :]
        for size in range(1, min(4, len(rest)) + 1):
            head = rest[:size].decode(errors="replace")
            whole = rest[: size + 1].decode(errors="replace")
            # The character ends where one byte more begins another, or where a valid one is complete.
            if len(whole) > len(head) or size == len(rest) or "\ufffd" not in head:
                owner += [owner[-1] + 1 if owner else 0] * size
                break
    spans, at = [], 0
    for part in parts:
        inside = owner[at : at + len(part)]
        at += len(part)
        spans.append((inside[0], inside[-1] + 1) if inside else None)
    return spans


def byte_characters():
    """GPT-2's table from byte to printable character."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return table


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30))
def test_encoded_text_is_covered_character_by_character(text):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    assert decode(BYTES, ids) == text
    spans = token_spans(BYTES, [*ids, BYTES.eos_token_id], text)
    assert_covers(spans, [*ids, BYTES.eos_token_id], text, BYTES)
    assert spans[:-1] == oracle(ids)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(BYTES) - 1), max_size=20))
def test_any_sampled_tokens_are_placed_by_their_bytes(ids):
    text = decode(BYTES, ids)
    spans = token_spans(BYTES, ids, text)
    assert_covers(spans, ids, text, BYTES)
    expected = oracle(ids)
    for i, (span, wanted) in enumerate(zip(spans, expected, strict=True)):
        assert wanted is None or span == wanted, (i, spans, expected)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=12))
def test_a_decoder_that_looks_at_neighbours_is_covered(ids):
    text = decode(PIECES, ids)
    assert_covers(token_spans(PIECES, ids, text), ids, text, PIECES)


def test_a_dropped_first_space_does_not_shift_what_follows():
    ids = PIECES.convert_tokens_to_ids(["▁the", "▁cat", "s", "<0xC3>", "<0xA9>", END, "▁the"])
    assert decode(PIECES, ids) == "the catsé the"
    assert token_spans(PIECES, ids, "the catsé the") == [(0, 3), (3, 7), (7, 8), (8, 9), (8, 9), (9, 9), (9, 13)]


def test_tokens_that_cut_a_character_each_have_it_whole():
    byte = {byte: BYTES.convert_tokens_to_ids(char) for byte, char in byte_characters().items()}
    ids = [byte[b] for b in "a😀b".encode()]
    assert token_spans(BYTES, ids, "a😀b") == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)]


def test_the_text_is_not_tokenised_again():
    ids = [BYTES.convert_tokens_to_ids(letter) for letter in "cat"]  # as one token in the vocabulary
    assert len(BYTES("cat", add_special_tokens=False)["input_ids"]) == 1
    assert token_spans(BYTES, ids, "cat") == [(0, 1), (1, 2), (2, 3)]


def test_special_tokens_have_their_position_twice():
    ids = [BYTES.convert_tokens_to_ids("cat"), BYTES.eos_token_id, BYTES.eos_token_id]
    assert token_spans(BYTES, ids, "cat") == [(0, 3), (3, 3), (3, 3)]


def test_another_text_is_refused():
    with pytest.raises(ValueError, match="not to 'dog'"):
        token_spans(BYTES, [BYTES.convert_tokens_to_ids("cat")], "dog")


def test_nothing_sampled():
    assert token_spans(BYTES, [], "") == []


def test_a_token_has_the_largest_relevance_of_its_characters():
    relevance = np.array([0.1, 0.9, 0.2, 0.4], dtype=np.float32)
    tokens = char_to_token_relevance(relevance, [(0, 2), (2, 2), (2, 4), (3, 4)])
    np.testing.assert_array_equal(tokens, np.array([0.9, 0, 0.4, 0.4], dtype=np.float32))
    assert tokens.dtype == np.float32


def test_no_tokens_have_no_relevance():
    assert char_to_token_relevance(np.zeros(0, dtype=np.float32), []).shape == (0,)


def test_spans_past_the_text_are_refused():
    with pytest.raises(ValueError, match="ends at character 4"):
        char_to_token_relevance(np.zeros(3), [(0, 4)])
    with pytest.raises(ValueError, match=r"2\.\.4 reaches past the 3"):
        spans_to_chars([(2, 4)], 3)


def test_spans_become_characters():
    assert spans_to_chars([[0, 1], [3, 5]], 6).tolist() == [True, False, False, True, True, False]
