"""Relevance as the released code computes it: every pair padded to the batch's longest, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from rtt.relevance.discriminator import Discriminator
from rtt.relevance.networks import Asking, Encoded, Network


@torch.no_grad()
def released(discriminator: Discriminator, encoded: Sequence[Encoded]) -> list[np.ndarray]:
    """As `Discriminator.token_relevance`."""
    network = discriminator.network.eval()
    whole, criterion, response = (
        max(count(pair) for pair in encoded)
        for count in (lambda pair: len(pair.ids), lambda pair: pair.first, lambda pair: len(pair.ids) - pair.first)
    )
    found = []
    with discriminator.precision():
        for pair in encoded:
            if isinstance(network, Asking):
                with padded_to(network, criterion):
                    asked = network.asked([pair])
                with padded_to(network, response):
                    logits = network.about([pair], asked)
            else:
                with padded_to(network, whole):
                    logits = network([pair])
            found.append(torch.sigmoid(logits[0].float()).cpu().numpy())
    return found


@contextmanager
def padded_to(network: Network, width: int) -> Iterator[None]:
    """All that the network reads inside is as wide as a row of `width` tokens."""
    plain = network.padded
    network.padded = lambda rows, fill: plain([*rows, [fill] * width], fill)[:-1]
    try:
        yield
    finally:
        del network.padded


def difference(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """The largest of scores of the same pairs."""
    return max(float(np.abs(one - other).max(initial=0)) for one, other in zip(ones, others, strict=True))
