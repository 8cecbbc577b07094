"""The discriminator reads a pair as it says, whatever else is in the batch, and survives being saved."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
)

from rtt.attention import GROUPED
from rtt.errors import UserError
from rtt.relevance.discriminator import Discriminator, shared_words
from rtt.relevance.networks import by_length

CRITERION = "Use no commas."
RESPONSE = "Sure, cats sit 😀 here"


def tiny_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<end>", "<begin>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Use no commas. Sure, cats sit here"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", bos_token="<begin>", pad_token="<end>"
    )


SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.5)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


READINGS = pytest.mark.parametrize("reading", ["pair", "after", "apart"])


def build(backbone, *, layers=2, bidirectional=True, max_length=64, reading="pair", attention=None):
    torch.manual_seed(1)
    return Discriminator.from_backbone(
        backbone,
        layers=layers,
        bidirectional=bidirectional,
        max_length=max_length,
        reading=reading,
        attention=attention,
    )


def logits(discriminator, *pairs):
    with torch.no_grad():
        return discriminator.network(discriminator.encode(pairs))


@READINGS
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True], ids=["alone", "padded"])
def test_early_tokens_see_later_ones_when_bidirectional(backbone, attention, padded, reading):
    long = (CRITERION, "and this one is so long that the other one is padded")
    for bidirectional in (True, False):
        discriminator = build(backbone, reading=reading, bidirectional=bidirectional, attention=attention)
        others = [long] if padded else []
        here, there = (logits(discriminator, (CRITERION, text), *others)[0] for text in ("x y1", "x y2"))
        moved = (here - there).abs()
        assert moved[-1] > 1e-3
        assert (moved[0] > 1e-3) == bidirectional


def test_heads_of_a_group_share_keys_and_values_unless_asked_otherwise(backbone, tmp_path):
    built = build(backbone)
    built.save(tmp_path / "saved")
    for discriminator in (built, Discriminator.load(tmp_path / "saved")):
        assert discriminator.network.body.config._attn_implementation == GROUPED
    assert build(backbone, attention="eager").network.body.config._attn_implementation == "eager"


@READINGS
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_other_pairs_in_the_batch_do_not_matter(backbone, attention, reading):
    discriminator = build(backbone, reading=reading, attention=attention)
    pairs = [(CRITERION, RESPONSE), ("x", "y"), (CRITERION, "long " * 9), ("Use a much longer criterion here", "no")]
    together = discriminator.relevance(pairs, batch_tokens=200)
    for pair, values in zip(pairs, together, strict=True):
        np.testing.assert_allclose(discriminator.relevance([pair], batch_tokens=1)[0], values, atol=1e-5)
    backwards = discriminator.relevance(pairs[::-1], batch_tokens=60)[::-1]
    for values, again in zip(together, backwards, strict=True):
        np.testing.assert_allclose(values, again, atol=1e-5)


@READINGS
def test_relevance_is_the_sigmoid_of_the_logit_of_each_characters_token(backbone, reading):
    discriminator = build(backbone, reading=reading)
    (encoded,) = discriminator.encode([(CRITERION, RESPONSE)])
    (row,) = logits(discriminator, (CRITERION, RESPONSE))
    expected = np.zeros(len(RESPONSE))
    for value, (start, end) in zip(torch.sigmoid(row).numpy(), encoded.spans, strict=True):
        expected[start:end] = np.maximum(expected[start:end], value)
    (values,) = discriminator.relevance([(CRITERION, RESPONSE)])
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert len(set(values[:5].tolist())) > 1, "tokens differ"


@READINGS
def test_the_criterion_matters(backbone, reading):
    discriminator = build(backbone, reading=reading)
    one, two = discriminator.relevance([("Use no commas.", RESPONSE), ("Use cats.", RESPONSE)])
    assert np.abs(one - two).max() > 1e-3


def test_a_pair_is_read_as_begin_criterion_separator_response_end(backbone):
    discriminator = build(backbone)
    (pair,) = discriminator.encode([(CRITERION, RESPONSE)])
    assert discriminator.tokenizer.decode(pair.ids) == f"<begin>{CRITERION}\n\n{RESPONSE}<end>"
    assert discriminator.tokenizer.decode(pair.ids[pair.first : pair.last]) == RESPONSE
    assert pair.cut == 0


def test_spans_cover_the_response_with_spaces_at_the_next_token(backbone):
    (pair,) = build(backbone).encode([(CRITERION, "cats sit 😀 ")])
    assert pair.spans[0][0] == 0
    assert pair.spans[-1][1] == len("cats sit 😀 ")
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(pair.spans))
    assert any("cats sit 😀 "[a:b] == " sit" for a, b in pair.spans)
    assert sum((a, b) == (9, 10) for a, b in pair.spans) >= 1, "each part of a cut character has the character"


def test_shared_words_are_marked_in_the_response_alone(backbone):
    (pair,) = build(backbone).encode([('Include the word "CATS".', RESPONSE)])
    marked = [
        RESPONSE[a:b] for (a, b), mark in zip(pair.spans, pair.shared[pair.first : pair.last], strict=True) if mark
    ]
    assert "".join(marked).strip() == "cats"
    assert sum(pair.shared) == len(marked)


@READINGS
def test_the_mark_changes_the_logits(backbone, reading):
    discriminator = build(backbone, reading=reading)
    (before,) = logits(discriminator, ("cats", RESPONSE))
    with torch.no_grad():
        discriminator.network.mark.add_(1.0)
    (after,) = logits(discriminator, ("cats", RESPONSE))
    assert (before - after).abs().max() > 1e-3


def test_words_are_shared_whatever_their_case_but_not_stop_words():
    response = "The Cat's mat, and a CONCAT; naïve"
    assert [response[a:b] for a, b in shared_words("Use the cat's words a and NAÏVE", response)] == ["Cat's", "naïve"]


@READINGS
def test_equal_pairs_are_computed_once(backbone, monkeypatch, reading):
    discriminator = build(backbone, reading=reading)
    rows = []
    score = discriminator.network.score
    monkeypatch.setattr(
        discriminator.network, "score", lambda pairs, *rest: rows.append(len(pairs)) or score(pairs, *rest)
    )
    values = discriminator.relevance([("a", "b"), ("c", "d"), ("a", "b")])
    assert rows == [2]
    np.testing.assert_array_equal(values[0], values[2])


PAIRS = [("No commas.", RESPONSE), ("cats", RESPONSE), ("No commas.", "here"), ("Use no cats, sit.", "Sure, sit")]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_after_one_direction_gives_what_the_pair_as_one_text_gives(backbone, attention):
    after, pair = (
        build(backbone, reading=reading, bidirectional=False, attention=attention) for reading in ("after", "pair")
    )
    with torch.no_grad():
        pair.network.mark.normal_()
    after.network.load_state_dict(pair.network.state_dict())
    for row, expected in zip(logits(after, *PAIRS), logits(pair, *PAIRS), strict=True):
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_after_a_response_sees_the_criterion_and_itself_and_a_criterion_itself(backbone, attention):
    discriminator = build(backbone, reading="after", attention=attention)
    network = discriminator.network
    with torch.no_grad():
        network.mark.normal_()
        for encoded, row in zip(discriminator.encode(PAIRS), logits(discriminator, *PAIRS), strict=True):
            hidden_from = torch.zeros(len(encoded.ids), len(encoded.ids))
            hidden_from[: encoded.first, encoded.first :] = torch.finfo(torch.float32).min
            embeddings = network.body.get_input_embeddings()(torch.tensor([encoded.ids]))
            embeddings = embeddings + torch.tensor(encoded.shared)[:, None] * network.mark
            states = network.body(inputs_embeds=embeddings, attention_mask=hidden_from[None, None]).last_hidden_state
            expected = network.head(states)[0, encoded.first : encoded.last, 0]
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


def test_after_each_criterion_is_read_once_and_each_response_for_each_criterion(backbone, monkeypatch):
    discriminator = build(backbone, reading="after")
    read = []
    original = discriminator.network.body.forward
    monkeypatch.setattr(
        discriminator.network.body,
        "forward",
        lambda **given: read.append(tuple(given["inputs_embeds"].shape[:2])) or original(**given),
    )
    pairs = [(criterion, response) for response in ("cats", "here sit", "Sure") for criterion in ("No commas.", "Use")]
    discriminator.relevance(pairs, batch_tokens=1)
    criteria = [discriminator.encode([pair])[0].first for pair in pairs[:2]]
    assert read[0] == (2, max(criteria))
    assert len(read[1:]) == 6, "one reading for each pair, one by one"
    assert {rows for rows, _ in read[1:]} == {1}


def test_after_gradients_reach_the_criterion(backbone):
    discriminator = build(backbone, reading="after")
    (encoded,) = discriminator.encode([("No commas.", "cats")])
    embeddings = discriminator.network.body.get_input_embeddings()
    discriminator.network([encoded])[0].sum().backward()
    assert (embeddings.weight.grad[encoded.ids[: encoded.first]].abs().sum(dim=1) > 0).all()


def test_after_needs_a_backbone_that_attends_to_what_was_read_before():
    config = MistralConfig(**SIZES, sliding_window=4)
    with pytest.raises(UserError, match=r"does not let a response see (.|\n)* discriminator\.reading"):
        Discriminator(MistralModel(config), tiny_tokenizer(), bidirectional=True, max_length=64, reading="after")


def test_apart_each_criterion_and_each_response_is_read_once(backbone, monkeypatch):
    discriminator = build(backbone, reading="apart")
    read = []
    original = discriminator.network.read
    monkeypatch.setattr(discriminator.network, "read", lambda rows: read.append(rows) or original(rows))
    pairs = [(criterion, response) for response in ("cats", "here sit", "cats") for criterion in ("No commas.", "Use")]
    values = discriminator.relevance(pairs)
    criteria, responses = ([discriminator.tokenizer.decode(row) for row in rows] for rows in read)
    assert sorted(criteria) == ["<begin>No commas.\n\n", "<begin>Use\n\n"]
    assert sorted(responses) == ["cats<end>", "here sit<end>"]
    assert [len(row) for row in values] == [4, 4, 8, 8, 4, 4]
    assert np.abs(values[0] - values[1]).max() > 1e-4, "the criterion counts"
    np.testing.assert_array_equal(values[0], values[4])


def test_apart_the_head_is_attention_to_the_criterion_and_two_layers(backbone):
    discriminator = build(backbone, reading="apart")
    network = discriminator.network
    with torch.no_grad():
        network.mark.normal_()
        (pair,) = discriminator.encode([("cats", RESPONSE)])
        asked, given = (
            network.body(input_ids=torch.tensor([ids])).last_hidden_state[0]
            for ids in (pair.ids[: pair.first], pair.ids[pair.first :])
        )
        found = []
        for head in range(4):
            own = slice(32 * head, 32 * head + 32)
            scores = network.query(given)[:, own] @ network.key(asked)[:, own].T / 32**0.5
            found.append(scores.softmax(dim=1) @ network.value(asked)[:, own])
        mark = torch.tensor(pair.shared[pair.first :])[:, None] * network.mark
        inner = torch.nn.functional.gelu(network.own(given) + network.found(torch.cat(found, dim=1)) + mark)
        expected = network.head(torch.nn.functional.gelu(network.inner(inner)))[: len(pair.spans), 0]
    (row,) = logits(discriminator, ("cats", RESPONSE))
    assert any(pair.shared)
    torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


def test_batches_are_by_length_and_no_larger_than_asked():
    units = {(0, 1): 5, (2,): 9, (3,): 4, (4, 5, 6): 8}
    assert by_length(units, 20) == [[2, 4, 5, 6], [0, 1, 3]]
    assert by_length(units, 1) == [[2], [4, 5, 6], [0, 1], [3]]
    assert by_length({}, 20) == []


@READINGS
def test_an_empty_response_has_no_relevance(backbone, reading):
    discriminator = build(backbone, reading=reading)
    values = discriminator.relevance([("a", ""), ("a", "b"), ("b", "")])
    assert [value.shape for value in values] == [(0,), (1,), (0,)]
    assert [value.dtype for value in values] == [np.float32] * 3
    assert discriminator.relevance([]) == []


def test_an_overlong_response_is_cut_and_counted_and_the_criterion_is_not(backbone):
    whole = build(backbone)
    (pair,) = whole.encode([(CRITERION, RESPONSE)])
    short = build(backbone, max_length=len(pair.ids) - 3)
    (cut,) = short.encode([(CRITERION, RESPONSE)])
    assert cut.ids == pair.ids[:-4], "three tokens and the end mark"
    assert cut.cut == 3
    (values,) = short.relevance([(CRITERION, RESPONSE), (CRITERION, RESPONSE)])[:1]
    reach = cut.spans[-1][1]
    assert reach < len(RESPONSE) == len(values)
    assert (values[:reach] > 0).all()
    assert (values[reach:] == 0).all()
    assert short.cut_tokens == 6, "two pairs, though computed once"


@READINGS
def test_a_criterion_longer_than_is_read_leaves_the_response_without_relevance(backbone, reading):
    discriminator = build(backbone, reading=reading, max_length=4)
    (values,) = discriminator.relevance([(CRITERION, "abc")])
    assert values.tolist() == [0, 0, 0]
    assert discriminator.cut_tokens == len(discriminator.tokenizer("abc")["input_ids"])


def test_the_random_state_is_left_alone(backbone, tmp_path):
    build(backbone).save(tmp_path / "d")
    before = torch.get_rng_state()
    discriminator = Discriminator.load(tmp_path / "d")
    discriminator.network.train()
    discriminator.relevance([(CRITERION, RESPONSE)])
    assert torch.equal(before, torch.get_rng_state())


@READINGS
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_saved_discriminator_is_the_same_again(backbone, tmp_path, bidirectional, reading):
    discriminator = build(backbone, reading=reading, bidirectional=bidirectional, max_length=40)
    discriminator.threshold = 0.25
    with torch.no_grad():
        discriminator.network.mark.add_(1.0)
    discriminator.save(tmp_path / "d")
    loaded = Discriminator.load(tmp_path / "d")
    assert (loaded.threshold, loaded.max_length, loaded.bidirectional) == (0.25, 40, bidirectional)
    pairs = [(CRITERION, RESPONSE), ("cats", RESPONSE)]
    for one, two in zip(discriminator.relevance(pairs), loaded.relevance(pairs), strict=True):
        np.testing.assert_array_equal(one, two)


def test_saving_again_replaces_and_leaves_nothing_beside(backbone, tmp_path):
    discriminator = build(backbone)
    discriminator.save(tmp_path / "d")
    discriminator.threshold = 0.75
    discriminator.save(tmp_path / "d")
    assert Discriminator.load(tmp_path / "d").threshold == 0.75
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_failed_save_leaves_what_was_there(backbone, tmp_path, monkeypatch):
    discriminator = build(backbone)
    discriminator.save(tmp_path / "d")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("rtt.relevance.discriminator.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        discriminator.save(tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    Discriminator.load(tmp_path / "d")


def test_a_missing_discriminator_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="no discriminator is there"):
        Discriminator.load(tmp_path / "none")


@pytest.mark.parametrize("file", ["discriminator.json", "model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "garbled"])
def test_a_damaged_discriminator_is_the_users_error(backbone, tmp_path, file, damage):
    build(backbone).save(tmp_path / "d")
    path = tmp_path / "d" / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:-40] + b"\xff" * 40)
    with pytest.raises(UserError) as caught:
        Discriminator.load(tmp_path / "d")
    assert "again" in caught.value.todo or "first" in caught.value.todo


@pytest.mark.parametrize("change", [{"format": 99}, {"threshold": None}, {"max_length": "x"}])
def test_settings_that_make_no_sense_are_the_users_error(backbone, tmp_path, change):
    build(backbone).save(tmp_path / "d")
    path = tmp_path / "d" / "discriminator.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError):
        Discriminator.load(tmp_path / "d")


def test_the_first_layers_are_kept_with_their_weights(backbone):
    whole = LlamaForCausalLM.from_pretrained(backbone).model
    body = build(backbone, layers=2).network.body
    assert len(body.layers) == 2
    assert torch.equal(body.layers[1].mlp.up_proj.weight, whole.layers[1].mlp.up_proj.weight)
    assert len(build(backbone, layers=None).network.body.layers) == 3


def test_more_layers_than_there_are_is_the_users_error(backbone):
    with pytest.raises(UserError, match="has 3 layers, and the first 4"):
        build(backbone, layers=4)


def test_a_backbone_of_another_family_serves_as_well(tmp_path):
    torch.manual_seed(0)
    Qwen3Model(Qwen3Config(**SIZES)).save_pretrained(tmp_path / "qwen")
    tiny_tokenizer().save_pretrained(tmp_path / "qwen")
    discriminator = build(tmp_path / "qwen", layers=1)
    discriminator.save(tmp_path / "d")
    (values,) = Discriminator.load(tmp_path / "d").relevance([(CRITERION, RESPONSE)])
    np.testing.assert_array_equal(values, discriminator.relevance([(CRITERION, RESPONSE)])[0])


def test_no_backbone_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="no backbone can be read"):
        build(tmp_path / "none")


def test_a_backbone_without_weights_is_the_users_error(backbone, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((backbone / name).read_bytes())
    with pytest.raises(UserError, match="cannot be read"):
        build(tmp_path)


@READINGS
def test_two_threads_give_the_same_gradient_each_time(backbone, reading):
    """Many pairs share one criterion, long enough that both threads add to its gradient."""
    discriminator = build(backbone, reading=reading)
    batch = discriminator.encode([(CRITERION * 4, f"{RESPONSE} {i}") for i in range(64)])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(25):
            discriminator.network.zero_grad()
            torch.cat(discriminator.network(batch)).square().mean().backward()
            gradients.append([weight.grad.clone() for weight in discriminator.network.parameters()])
    finally:
        torch.set_num_threads(before)
    first, *others = gradients
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
