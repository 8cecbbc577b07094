"""Training learns what the labels say, repeats to the byte, and chooses its threshold on topics kept aside."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from rtt.config import Discriminator as Settings
from rtt.errors import UserError
from rtt.relevance import training
from rtt.relevance.discriminator import Discriminator
from rtt.relevance.networks import Together
from rtt.relevance.training import token_targets, train_discriminator


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A random model of 16 dimensions over bytes: every character of ASCII is one token."""
    folder = tmp_path_factory.mktemp("backbone")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(["<end>", *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        head_dim=8,
        initializer_range=0.3,
    )
    LlamaModel(config).save_pretrained(folder)
    return folder


READINGS = pytest.mark.parametrize("reading", ["pair", "after", "apart"])


def settings(**changes):
    values = {"layers": 1, "epochs": 6, "learning_rate": 0.02, "batch_size": 8, "max_length": 64, "threads": 1}
    return Settings(**({**values, "head_learning_rate": None} | changes))


def commas(count, split, seed=0):
    """Responses whose commas a no-comma rubric is about."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        response = "".join(draw.choice(list("abcd ,"), size=draw.integers(5, 25)))
        spans = [[at, at + 1] for at, char in enumerate(response) if char == ","]
        rows.append(
            {
                "response_id": f"{split}/{seed}/{i}",
                "prompt_id": f"{split}/{i}",
                "rubric_id": f"{split}/{i}/0",
                "kind": "punctuation:no_comma",
                "split": split,
                "criterion": "No commas.",
                "response": response,
                "verdict": -1.0 if spans else 1.0,
                "spans": json.dumps(merge(spans)),
                "annotator": "rules",
            }
        )
    return pd.DataFrame(rows)


def merge(spans):
    merged = []
    for start, end in spans:
        if merged and merged[-1][1] == start:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    return merged


@pytest.fixture
def labels():
    return pd.concat([commas(80, "train"), commas(10, "development", 1), commas(10, "unseen_topics", 2)])


@READINGS
def test_it_learns_the_labelled_characters_and_nothing_else(backbone, labels, tmp_path, reading):
    metrics = train_discriminator(labels, backbone, settings(reading=reading), tmp_path / "d")
    assert metrics["losses"][-1] < metrics["losses"][0] / 4
    assert len(metrics["losses"]) == metrics["steps"] == 60
    discriminator = Discriminator.load(tmp_path / "d")
    unseen = labels[labels["split"] == "unseen_topics"]
    values = discriminator.relevance(list(zip(unseen["criterion"], unseen["response"], strict=True)))
    right = [
        (v >= metrics["threshold"]) == [c == "," for c in text]
        for v, text in zip(values, unseen["response"], strict=True)
    ]
    assert np.concatenate(right).mean() > 0.97


@READINGS
def test_it_learns_what_each_of_two_criteria_is_about(backbone, tmp_path, reading):
    both = []
    for criterion, char in (("No commas.", ","), ("No letter a.", "a")):
        for rows in (commas(80, "train"), commas(10, "development", 1), commas(10, "unseen_topics", 2)):
            spans = [merge([[i, i + 1] for i, c in enumerate(text) if c == char]) for text in rows["response"]]
            both.append(rows.assign(criterion=criterion, spans=[json.dumps(found) for found in spans], char=char))
    labels = pd.concat(both, ignore_index=True)
    train_discriminator(labels, backbone, settings(reading=reading, epochs=12), tmp_path / "d")
    unseen = labels[labels["split"] == "unseen_topics"]
    values = Discriminator.load(tmp_path / "d").relevance(
        list(zip(unseen["criterion"], unseen["response"], strict=True))
    )
    right = [
        (v >= 0.5) == [c == char for c in text]
        for v, text, char in zip(values, unseen["response"], unseen["char"], strict=True)
    ]
    assert np.concatenate(right).mean() > 0.95


@READINGS
def test_equal_labels_and_seed_give_equal_bytes(backbone, labels, tmp_path, reading):
    for name in ("one", "two"):
        torch.rand(7)  # whatever was drawn before does not matter
        train_discriminator(labels, backbone, settings(reading=reading, epochs=1), tmp_path / name)
    train_discriminator(labels, backbone, settings(reading=reading, epochs=1, seed=1), tmp_path / "other")
    one, two, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other
    assert (tmp_path / "one" / "discriminator.json").read_text() == (
        tmp_path / "two" / "discriminator.json"
    ).read_text()


def test_only_the_embeddings_stay_as_they_were(backbone, labels, tmp_path):
    before = LlamaModel.from_pretrained(backbone).state_dict()
    train_discriminator(labels, backbone, settings(epochs=1), tmp_path / "d")
    after = Discriminator.load(tmp_path / "d").network.body.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"embed_tokens.weight"}


@READINGS
def test_what_is_not_the_backbone_s_has_a_rate_of_its_own(backbone, labels, tmp_path, reading):
    def moved(**rates):
        changed = settings(reading=reading, epochs=1, weight_decay=0, **rates)
        train_discriminator(labels, backbone, changed, tmp_path / "trained")
        torch.manual_seed(changed.seed)
        before = Discriminator.from_backbone(
            backbone, layers=1, bidirectional=True, max_length=64, reading=reading
        ).network.state_dict()
        after = Discriminator.load(tmp_path / "trained").network.state_dict()
        far = {name: (after[name] - start).abs().max().item() for name, start in before.items()}
        return [
            max(value for name, value in far.items() if name.startswith("body.") == of_body)
            for of_body in (True, False)
        ]

    body, head = moved(learning_rate=1e-3, head_learning_rate=1e-9)
    assert body > 1e-4 > 1e-6 > head
    body, head = moved(learning_rate=1e-9, head_learning_rate=1e-3)
    assert head > 1e-4 > 1e-6 > body
    assert min(moved(learning_rate=1e-3)) > 1e-4


def test_other_splits_are_not_trained_on(backbone, labels, tmp_path):
    train_discriminator(labels, backbone, settings(epochs=1), tmp_path / "one")
    train_discriminator(labels[labels["split"] != "unseen_topics"], backbone, settings(epochs=1), tmp_path / "two")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


def test_the_threshold_has_the_best_f1_on_the_development_split(backbone, labels, tmp_path):
    metrics = train_discriminator(labels, backbone, settings(epochs=1), tmp_path / "d")
    discriminator = Discriminator.load(tmp_path / "d")
    assert discriminator.threshold == metrics["threshold"]
    encoded, targets = token_targets(discriminator, labels[labels["split"] == "development"])
    scores, targets = np.concatenate(discriminator.token_relevance(encoded)), np.concatenate(targets)
    best = max(f1_score(targets, scores >= threshold) for threshold in np.unique(scores))
    assert f1_score(targets, scores >= np.float32(metrics["threshold"])) == pytest.approx(best)
    assert metrics["development_f1"] == pytest.approx(best)


def test_without_a_relevant_development_token_the_threshold_is_a_half(backbone, labels, tmp_path):
    metrics = train_discriminator(labels[labels["split"] == "train"], backbone, settings(epochs=1), tmp_path / "d")
    assert metrics["threshold"] == 0.5
    assert metrics["development_f1"] is None


def test_the_loss_is_the_mean_over_response_tokens_alone(backbone):
    discriminator = Discriminator.from_backbone(backbone, layers=1, bidirectional=True, max_length=64)
    rows = pd.DataFrame(
        {"criterion": ["No commas.", "A longer criterion."], "response": ["a,b", "abcdef"], "spans": ["[[1, 2]]", "[]"]}
    )
    encoded, targets = token_targets(discriminator, rows)
    chars = np.concatenate(discriminator.relevance(list(zip(rows["criterion"], rows["response"], strict=True))))
    wanted = np.array([0, 1, 0] + [0] * 6)
    expected = -np.log(np.where(wanted == 1, chars, 1 - chars)).mean()
    assert training._loss(discriminator, encoded, targets).item() == pytest.approx(expected, rel=1e-5)


def test_a_token_is_relevant_if_any_of_its_characters_is(backbone):
    discriminator = Discriminator.from_backbone(backbone, layers=1, bidirectional=True, max_length=64)
    rows = pd.DataFrame({"criterion": ["x"], "response": ["aé😀b"], "spans": ["[[2, 3]]"]})
    _, (targets,) = token_targets(discriminator, rows)
    assert targets.tolist() == [0, 0, 0, 1, 1, 1, 1, 0], "a, two bytes of é, four of the emoji, b"


def test_tokens_too_far_to_be_read_are_left_out_and_counted(backbone, labels, tmp_path):
    longest = len("No commas.\n\n") + 15 + 1
    metrics = train_discriminator(labels, backbone, settings(epochs=1, max_length=longest), tmp_path / "d")
    lengths = labels.loc[labels["split"] == "train", "response"].str.len()
    assert metrics["cut_tokens"] == (lengths - 15).clip(lower=0).sum() > 0
    assert metrics["tokens"] == lengths.clip(upper=15).sum()


def test_batches_hold_each_pair_once_and_are_of_about_equal_length():
    draw = np.random.default_rng(0)
    lengths = {(2 * place, 2 * place + 1)[: 1 + place % 2]: int(draw.integers(1, 1000)) for place in range(101)}
    batches = training._batches(lengths, 10, np.random.default_rng(1))
    assert sorted(i for batch in batches for i in batch) == sorted(i for unit in lengths for i in unit)
    length_of = {i: length for unit, length in lengths.items() for i in unit}
    padding = sum(max(length_of[i] for i in batch) * len(batch) for batch in batches) / sum(length_of.values())
    assert padding < 1.2
    assert batches != training._batches(lengths, 10, np.random.default_rng(2))


def test_what_is_read_at_once_is_in_one_batch():
    units = {(0, 3, 4): 5, (1,): 9, (2, 5): 7, (6, 7): 7}
    batches = training._batches(units, 2, np.random.default_rng(0))
    # by length: three of 5; the two sevens, each two; then the nine
    assert sorted(map(sorted, batches)) == [[0, 3, 4], [1], [2, 5], [6, 7]]


def test_the_learning_rate_rises_then_falls_in_lines():
    factor = training._warmup_and_decay(steps=10, warmup_share=0.2)
    assert [factor(step) for step in range(11)] == pytest.approx(
        [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]
    )
    assert [training._warmup_and_decay(2, 0.0)(step) for step in range(3)] == [1, 0.5, 0]


def test_nothing_to_train_on_is_the_users_error(backbone, labels, tmp_path):
    with pytest.raises(UserError, match="no labelled response"):
        train_discriminator(labels[labels["split"] == "development"], backbone, settings(), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_training_and_scores_compute_in_the_same_precision(backbone, labels, tmp_path, monkeypatch):
    computed = []
    monkeypatch.setattr(Discriminator, "precision", lambda _: torch.autocast("cpu", torch.bfloat16))
    forward = Together.forward

    def watched(self, batch):
        found = forward(self, batch)
        computed.append((self.training, found[0].dtype))
        return found

    monkeypatch.setattr(Together, "forward", watched)
    train_discriminator(labels, backbone, settings(reading="pair", epochs=1), tmp_path / "d")
    assert set(computed) == {(True, torch.bfloat16), (False, torch.bfloat16)}
    monkeypatch.undo()
    discriminator = Discriminator.load(tmp_path / "d")
    with discriminator.precision():
        assert not torch.is_autocast_enabled("cpu"), "a processor has its own way"
