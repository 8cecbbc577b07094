"""Trains the discriminator: binary cross-entropy on the tokens of labelled responses."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import precision_recall_curve
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from rtt.config import Discriminator as Settings
from rtt.errors import UserError
from rtt.relevance.discriminator import Discriminator
from rtt.relevance.networks import Encoded, Network
from rtt.relevance.offsets import char_to_token_relevance, spans_to_chars

BUCKET = 16  # batches among which pairs are sorted by length: little padding, and batches still differ by epoch
MAX_GRAD_NORM = 1.0


def train_discriminator(
    labels: pd.DataFrame, backbone: Path, settings: Settings, destination: Path, device: str = "cpu"
) -> dict[str, Any]:
    """Trains on the split train, chooses the threshold on the split development, and saves to `destination`.

    Equal labels and settings give equal bytes on one machine's CPU and number of threads. Seeds torch's global random
    state. The backbone's embeddings stay as they are: they hold most weights, and labels have few words.

    Args:
        labels: rows of rtt.tables.Labels.
        backbone: folder of a transformers model.
        settings: how to train.
        destination: folder to write, see Discriminator.save.
        device: where to train; anything but a CPU computes in bfloat16 where that is safe.

    Returns:
        ``pairs``, ``tokens`` and ``base_rate`` trained on, ``steps``, ``losses`` (one mean a step), ``threshold``,
        ``development_f1`` (None where the development split has no relevant token, and the threshold is then 0.5),
        ``cut_tokens`` left out as too long, ``train_seconds``.

    Raises:
        UserError: nothing to train on, or no backbone in the folder.
    """
    torch.manual_seed(settings.seed)
    started = time.perf_counter()
    discriminator = Discriminator.from_backbone(
        backbone,
        layers=settings.layers,
        bidirectional=settings.bidirectional,
        max_length=settings.max_length,
        reading=settings.reading,
    )
    network = discriminator.network.to(device)
    examples, targets = token_targets(discriminator, training_labels(labels, settings))
    read = [i for i, example in enumerate(examples) if example.spans]
    if not read:
        raise UserError(
            "no labelled response to train on",
            where="labels, split train",
            todo="raise labels.train_prompts, or discriminator.max_length if every criterion is longer than it",
        )
    network.body.get_input_embeddings().requires_grad_(False)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = _optimizer(network, settings)
    units = discriminator.network.units([examples[i] for i in read])
    epochs = [
        _batches(units, settings.batch_size, np.random.default_rng([settings.seed, epoch]))
        for epoch in range(settings.epochs)
    ]
    steps = sum(len(epoch) for epoch in epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_and_decay(steps, settings.warmup_share))
    network.train()
    losses = []
    bar = tqdm([batch for epoch in epochs for batch in epoch], desc="discriminator", unit="step", disable=None)
    for batch in bar:
        chosen = [read[i] for i in batch]
        loss = _loss(discriminator, [examples[i] for i in chosen], [targets[i] for i in chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    discriminator.threshold, development_f1 = _choose_threshold(discriminator, labels[labels["split"] == "development"])
    seconds = time.perf_counter() - started
    discriminator.save(destination)
    tokens = sum(len(target) for target in targets)
    return {
        "pairs": len(read),
        "tokens": tokens,
        "base_rate": float(sum(target.sum() for target in targets)) / tokens,
        "steps": steps,
        "losses": losses,
        "threshold": discriminator.threshold,
        "development_f1": development_f1,
        "cut_tokens": sum(example.cut for example in examples),
        "train_seconds": seconds,
    }


def training_labels(labels: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Rows of the split train of a drawn `label_share` of its prompts, at least one; a smaller share is part of a
    larger one."""
    train = labels[labels["split"] == "train"]
    prompts = train["prompt_id"].drop_duplicates().sort_values()
    count = max(1, round(settings.label_share * len(prompts)))
    chosen = prompts.sample(frac=1.0, random_state=settings.seed).head(count)
    return train[train["prompt_id"].isin(chosen)]


def token_targets(discriminator: Discriminator, labels: pd.DataFrame) -> tuple[list[Encoded], list[np.ndarray]]:
    """The pairs of `labels` as the network reads them, and per token 1 if any of its characters is labelled, else 0."""
    pairs = list(zip(labels["criterion"], labels["response"], strict=True))
    encoded = discriminator.encode(pairs)
    targets = []
    for example, response, spans in zip(encoded, labels["response"], labels["spans"], strict=True):
        chars = spans_to_chars(json.loads(spans), len(response))
        targets.append(char_to_token_relevance(chars, example.spans).astype(np.float32))
    return encoded, targets


def _loss(discriminator: Discriminator, batch: Sequence[Encoded], targets: Sequence[np.ndarray]) -> Tensor:
    """Mean cross-entropy over the response tokens of the batch."""
    device = discriminator.network.mark.device
    with discriminator.precision():
        logits = discriminator.network(batch)
    read = torch.cat(logits).float()
    return binary_cross_entropy_with_logits(read, torch.from_numpy(np.concatenate(targets)).to(device))


def _batches(units: dict[tuple[int, ...], int], size: int, draw: np.random.Generator) -> list[list[int]]:
    """Every pair once, in batches of about equal length and of `size` pairs or a few more, in random order.

    Args:
        units: pairs that are read together, by their places, and the tokens they are read at.
        size: a batch is full with so many pairs.
    """
    together = list(units)
    order = [together[i] for i in draw.permutation(len(together))]
    batches, bucket, count = list[list[int]](), list[tuple[int, ...]](), 0
    for place, unit in enumerate(order):
        bucket.append(unit)
        count += len(unit)
        if count >= size * BUCKET or place == len(order) - 1:
            batches += _filled(sorted(bucket, key=lambda unit: units[unit]), size)
            bucket, count = [], 0
    return [batches[i] for i in draw.permutation(len(batches))]


def _filled(units: Sequence[tuple[int, ...]], size: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for unit in units:
        if not batches or len(batches[-1]) >= size:
            batches.append([])
        batches[-1] += unit
    return batches


def _optimizer(network: Network, settings: Settings) -> torch.optim.Optimizer:
    """What begins at random may learn faster than the backbone, which knows its language already."""
    learning = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    body, head = (
        [weight for name, weight in learning.items() if name.startswith("body.") == of_body]
        for of_body in (True, False)
    )
    groups = [
        {"params": body, "lr": settings.learning_rate},
        {"params": head, "lr": settings.head_learning_rate or settings.learning_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def _warmup_and_decay(steps: int, warmup_share: float) -> Any:
    """Learning-rate factor by step: up in a line to 1, then down in a line to 0."""
    warmup = math.ceil(steps * warmup_share)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor


def _choose_threshold(discriminator: Discriminator, labels: pd.DataFrame) -> tuple[float, float | None]:
    """The relevance with the best F1 on `labels`, and that F1."""
    encoded, targets = token_targets(discriminator, labels)
    if not any(target.any() for target in targets):
        return 0.5, None
    scores = np.concatenate(discriminator.token_relevance(encoded))
    precision, recall, thresholds = precision_recall_curve(np.concatenate(targets), scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))  # the last point is the empty prediction and has no threshold
    return float(thresholds[best]), float(f1[best])
