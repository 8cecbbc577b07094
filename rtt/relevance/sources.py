"""Where relevance comes from: one interface, characters in and out, so that any backbone serves any policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from rtt.errors import UserError
from rtt.relevance.offsets import spans_to_chars
from rtt.relevance.rules import label
from rtt.rubrics import Rubric


class RelevanceSource(Protocol):
    """Says how far each character of a response is what a rubric is about."""

    def __call__(self, pairs: Sequence[tuple[Rubric, str]]) -> list[np.ndarray]:
        """One float32 array in [0, 1] per (rubric, response) pair, one number a character of the response."""
        ...


class RuleRelevance:
    """The exact rule labels as relevance: the ceiling a learned discriminator can reach."""

    def __call__(self, pairs: Sequence[tuple[Rubric, str]]) -> list[np.ndarray]:
        return [
            spans_to_chars(label(rubric.kind, rubric.kwargs, response), len(response)).astype(np.float32)
            for rubric, response in pairs
        ]


class LearnedRelevance:
    """The trained discriminator, which sees the criterion and the response and nothing else."""

    def __init__(self, folder: Path, batch_size: int = 32) -> None:
        from rtt.relevance.discriminator import Discriminator  # torch is slow to import

        self.discriminator = Discriminator.load(folder)
        self.batch_size = batch_size

    def __call__(self, pairs: Sequence[tuple[Rubric, str]]) -> list[np.ndarray]:
        texts = [(rubric.text, response) for rubric, response in pairs]
        return self.discriminator.relevance(texts, batch_size=self.batch_size)


def open_relevance(name: str, discriminator: Path | None) -> RelevanceSource:
    """The source an arm's `credit.relevance` names. Raises UserError when the discriminator it needs is not given."""
    if name == "rules":
        return RuleRelevance()
    if discriminator is None:
        raise UserError(
            "the arm takes its relevance from the discriminator, and none was given",
            where="--discriminator",
            todo="name the folder `rtt discriminator` wrote, or set credit.relevance to rules",
        )
    return LearnedRelevance(discriminator)
