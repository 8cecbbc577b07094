"""Where relevance comes from: a sampled batch in, (B, K, T) out, whatever the source.

Letters as in `rtt.credit`: B responses, K rubrics (padded to the widest prompt), T tokens (padded). The tokens that
count stand first in each response, one span of characters a token; only they, and only rubrics a prompt really has,
get a relevance. A source that reads text gives numbers per character, so that any backbone serves any policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtt.config import Credit
from rtt.data.prompts import without_rubrics
from rtt.errors import UserError
from rtt.relevance.offsets import Span, char_to_token_relevance, spans_to_chars
from rtt.relevance.rules import label
from rtt.rubrics import Rubric

if TYPE_CHECKING:  # torch is slow to import, and reading a configuration or asking for help needs none of it
    import torch

_RANDOM, _FLIPS = 0, 1  # streams of draws that share a seed


@dataclass(frozen=True)
class RelevanceBatch:
    """A sampled batch, as sources of relevance read it.

    Attributes:
        rubrics: the rubrics of each of B responses.
        prompts: the user message each answers.
        responses: their text.
        spans: the characters of each token that counts (`rtt.relevance.offsets.token_spans`); these tokens stand first.
        length: T, tokens with padding.
        step: optimiser steps taken before this batch was sampled.
        log_probs: given B user messages, the policy's log-probability (B, T) of each sampled token under them; what it
            gives for tokens that do not count does not matter. None where no policy can be asked.
        width: K, the rubrics of the prompt that has most; more where other processes hold rows that have more.
        first: number of the first row in the whole batch, of which this may be one process's part.

    Raises:
        ValueError: lists of different lengths, or more spans than T.
    """

    rubrics: Sequence[Sequence[Rubric]]
    prompts: Sequence[str]
    responses: Sequence[str]
    spans: Sequence[Sequence[Span]]
    length: int
    step: int = 0
    log_probs: Callable[[list[str]], torch.Tensor] | None = None
    width: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", max([self.width, *map(len, self.rubrics)]))
        sizes = {name: len(getattr(self, name)) for name in ("rubrics", "prompts", "responses", "spans")}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the batch's lists differ in length: {sizes}")
        longest = max((len(row) for row in self.spans), default=0)
        if longest > self.length:
            raise ValueError(f"a response has {longest} spans, and length is {self.length}")


class RelevanceSource(Protocol):
    """Says how far each token of a response is what each rubric is about."""

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        """(B, K, T) float32 in [0, 1] on the CPU; 0 in padded rubrics and at tokens that do not count."""
        ...


class RuleRelevance:
    """The exact rule labels as relevance: the ceiling a learned discriminator can reach. 0 at a special token."""

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        return _from_characters(
            batch,
            [
                spans_to_chars(label(rubric.kind, rubric.kwargs, response), len(response)).astype(np.float32)
                for rubric, response in _pairs(batch)
            ],
        )


class LearnedRelevance:
    """The trained discriminator, which sees the criterion and the response and nothing else. 0 at a special token."""

    def __init__(self, folder: Path) -> None:
        from rtt.relevance.discriminator import Discriminator  # torch is slow to import

        self.discriminator = Discriminator.load(folder)

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        texts = [(rubric.text, response) for rubric, response in _pairs(batch)]
        return _from_characters(batch, self.discriminator.relevance(texts))


class ConstantRelevance:
    """1 everywhere, special tokens included: the control that tells tokens apart in nothing."""

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        return counted(batch).float()


class RandomRelevance:
    """Uniform in [0, 1), every token on its own: the control that knows nothing of the rubric.

    A draw depends on seed, step, row, rubric and token alone, so it is the same after a resume and whatever was drawn
    before. Global random state is neither read nor changed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        return _draws(batch, self.seed, _RANDOM)


class ContrastRelevance:
    """The policy's own opinion, per rubric: w = sigmoid(τ·(δ - b)), after CoRT (docs/method.md, peers).

    δ = log p(y_t | prompt) - log p(y_t | prompt without rubric k). One pass of the policy for the prompt and one for
    each of K rubrics. Two rubrics with the same text leave the prompt together.

    Args:
        temperature: τ, above 0.
        bias: b.

    Raises:
        UserError: a rubric's text does not stand in its prompt.
        ValueError: the batch has no `log_probs`, or they have the wrong shape.
    """

    def __init__(self, temperature: float = 1.0, bias: float = 0.0) -> None:
        self.temperature, self.bias = temperature, bias

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        import torch

        places = counted(batch)
        relevance = torch.zeros(places.shape)
        whole = _log_probs(batch, list(batch.prompts))
        for k in range(batch.width):
            removed = [[rubric.text for rubric in row[k : k + 1]] for row in batch.rubrics]
            parts = _log_probs(batch, _prompts_without(batch, removed))
            relevance[:, k] = torch.sigmoid(self.temperature * (whole - parts - self.bias))
        return torch.where(places, relevance, 0)


class Flipped:
    """Another source with known errors: w turned into 1 - w at tokens drawn with probability `share`.

    Drawn for each rubric and token that counts, as `RandomRelevance` draws, and independent of what that draws with
    the same seed.

    Args:
        source: whose relevance is flipped.
        share: in [0, 1]; 0 changes nothing, 1 flips everything.
        seed: decides where.
    """

    def __init__(self, source: RelevanceSource, share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie between 0 and 1, it is {share}")
        self.source, self.share, self.seed = source, share, seed

    def __call__(self, batch: RelevanceBatch) -> torch.Tensor:
        import torch

        relevance = self.source(batch)
        flips = counted(batch) & (_draws(batch, self.seed, _FLIPS) < self.share)
        return torch.where(flips, 1 - relevance, relevance)


def open_relevance(credit: Credit, discriminator: Path | None, seed: int) -> RelevanceSource:
    """The source an arm's credit section names, with its errors if it asks for any.

    Args:
        credit: the section.
        discriminator: the folder of the trained discriminator; read for that source alone.
        seed: of the run; decides what is drawn at random.

    Raises:
        UserError: the discriminator is needed and was not given.
    """
    source = _open_source(credit, discriminator, seed)
    return Flipped(source, credit.flip_share, seed) if credit.flip_share else source


def contrast_with_all(batch: RelevanceBatch) -> torch.Tensor:
    """δ = log p(y_t | prompt) - log p(y_t | prompt without any of its rubrics), as CoRT weighs tokens by.

    Returns:
        (B, T) float32 on the CPU, 0 at tokens that do not count.

    Raises:
        UserError: a rubric's text does not stand in its prompt.
        ValueError: the batch has no `log_probs`, or they have the wrong shape.
    """
    import torch

    texts = [[rubric.text for rubric in row] for row in batch.rubrics]
    contrast = _log_probs(batch, list(batch.prompts)) - _log_probs(batch, _prompts_without(batch, texts))
    return torch.where(_counted_tokens(batch), contrast, 0)


def counted(batch: RelevanceBatch) -> torch.Tensor:
    """(B, K, T) boolean: True for each rubric a prompt has and each token that counts."""
    import torch

    rubrics = torch.tensor([len(row) for row in batch.rubrics])
    return (torch.arange(batch.width) < rubrics[:, None])[:, :, None] & _counted_tokens(batch)[:, None, :]


def _open_source(credit: Credit, discriminator: Path | None, seed: int) -> RelevanceSource:
    if credit.relevance == "rules":
        return RuleRelevance()
    if credit.relevance == "random":
        return RandomRelevance(seed)
    if credit.relevance == "constant":
        return ConstantRelevance()
    if credit.relevance == "contrast":
        return ContrastRelevance(credit.temperature, credit.bias)
    if discriminator is None:
        raise UserError(
            "the arm takes its relevance from the discriminator, and none was given",
            where="--discriminator",
            todo="name the folder `rtt discriminator` wrote, or set credit.relevance to rules",
        )
    return LearnedRelevance(discriminator)


def _counted_tokens(batch: RelevanceBatch) -> torch.Tensor:
    """(B, T) boolean."""
    import torch

    return torch.arange(batch.length) < torch.tensor([len(row) for row in batch.spans])[:, None]


def _places(batch: RelevanceBatch) -> list[tuple[int, int]]:
    """Row and position of every rubric."""
    return [(j, k) for j, row in enumerate(batch.rubrics) for k in range(len(row))]


def _pairs(batch: RelevanceBatch) -> list[tuple[Rubric, str]]:
    """Every rubric with the response it judges, in the order of :func:`_places`."""
    return [(batch.rubrics[j][k], batch.responses[j]) for j, k in _places(batch)]


def _from_characters(batch: RelevanceBatch, characters: Sequence[np.ndarray]) -> torch.Tensor:
    """(B, K, T) out of one array per place, one number per character of its response."""
    import torch

    relevance = np.zeros((len(batch.rubrics), batch.width, batch.length), dtype=np.float32)
    for (j, k), values in zip(_places(batch), characters, strict=True):
        relevance[j, k, : len(batch.spans[j])] = char_to_token_relevance(values, batch.spans[j])
    return torch.from_numpy(relevance)


def _draws(batch: RelevanceBatch, seed: int, stream: int) -> torch.Tensor:
    """(B, K, T) uniform in [0, 1), 0 where nothing counts.

    The generator is counter-based: step, row and rubric are the upper words of its counter, and the token moves the
    lowest, so no two places share a draw and a longer response begins with the draws of a shorter one.
    """
    import torch

    key = np.array([seed, stream], dtype=np.uint64)
    draws = np.zeros((len(batch.rubrics), batch.width, batch.length), dtype=np.float32)
    for j, k in _places(batch):
        start = np.array([0, batch.step, batch.first + j, k], dtype=np.uint64)
        count = len(batch.spans[j])
        draws[j, k, :count] = np.random.Generator(np.random.Philox(counter=start, key=key)).random(count, np.float32)
    return torch.from_numpy(draws)


def _prompts_without(batch: RelevanceBatch, texts: Sequence[Sequence[str]]) -> list[str]:
    return [without_rubrics(prompt, row) for prompt, row in zip(batch.prompts, texts, strict=True)]


def _log_probs(batch: RelevanceBatch, prompts: list[str]) -> torch.Tensor:
    """(B, T) float32 on the CPU."""
    if batch.log_probs is None:
        raise ValueError("the batch has no log_probs, and a contrast asks the policy for them")
    log_probs = batch.log_probs(prompts)
    expected = (len(batch.responses), batch.length)
    if tuple(log_probs.shape) != expected:
        raise ValueError(f"log_probs gave the shape {tuple(log_probs.shape)}, {expected} was expected")
    return log_probs.detach().float().cpu()
