"""The networks a discriminator may be: a language model's body, and what turns its states into a logit a token.

Both read a batch of pairs and answer with one logit per response token of each. `Together` reads each pair as one text:
K rubrics cost K readings of the response. `Apart` reads each different criterion and each different response once, and
lets a light head bring the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import PreTrainedModel

from rtt.relevance.offsets import Span

Reading = Literal["pair", "apart"]

HEADS, HEAD_SIZE, INNER = 4, 32, 256
"""Of the head that brings criterion and response together: attention heads, their size, and its inner width."""


@dataclass(frozen=True)
class Encoded:
    """One pair as the network reads it.

    Attributes:
        ids: criterion, separator, response, with the backbone's own marks around them.
        shared: 1 for each of `ids` that is part of a word of the response which the criterion has too.
        first: where the response's tokens begin in `ids`.
        spans: the characters of each response token read; together they cover what was read of the response.
        cut: response tokens left out because the pair is longer than the discriminator reads.
    """

    ids: list[int]
    shared: list[int]
    first: int
    spans: list[Span]
    cut: int

    @property
    def last(self) -> int:
        """Where the response's tokens end in `ids`."""
        return self.first + len(self.spans)


class Network(nn.Module):
    """A body, and a mark for words of the response that stand in the criterion too.

    Args:
        body: a language model without its head.
        pad: the token that fills up rows; no figure depends on it.
    """

    mark: nn.Parameter

    def __init__(self, body: PreTrainedModel, pad: int) -> None:
        super().__init__()
        self.body: PreTrainedModel = body
        self.pad = pad

    def forward(self, batch: Sequence[Encoded]) -> list[Tensor]:
        """One logit per response token of each pair."""
        raise NotImplementedError

    def score(self, encoded: Sequence[Encoded], tokens: int) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Batches of at most `tokens` with padding: the places of their pairs, and what `forward` gives for these."""
        for places in by_length(self.units(encoded), tokens):
            yield places, self([encoded[place] for place in places])

    def units(self, encoded: Sequence[Encoded]) -> dict[tuple[int, ...], int]:
        """What is read at once: the places of pairs that have response tokens, and how many tokens that takes."""
        raise NotImplementedError

    def padded(self, rows: Sequence[list[int]], fill: int) -> Tensor:
        """(rows, longest), filled up on the right."""
        width = max(map(len, rows))
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows], device=self.mark.device)

    def read(self, rows: Sequence[list[int]], marked: Tensor | None = None) -> Tensor:
        """The body's states (rows, longest, H) for token ids; `marked`, as large, is added to the embeddings."""
        ids = self.padded(rows, self.pad)
        mask = self.padded([[1] * len(row) for row in rows], 0)
        embeddings = self.body.get_input_embeddings()(ids)
        if marked is not None:
            embeddings = embeddings + marked
        return self.body(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state


class Together(Network):
    """Reads each pair as one text; the mark is added to embeddings, and the head is linear."""

    def __init__(self, body: PreTrainedModel, hidden_size: int, pad: int) -> None:
        super().__init__(body, pad)
        self.mark = nn.Parameter(torch.zeros(hidden_size))
        self.head = nn.Linear(hidden_size, 1)

    def forward(self, batch: Sequence[Encoded]) -> list[Tensor]:
        shared = self.padded([pair.shared for pair in batch], 0)
        hidden = self.read([pair.ids for pair in batch], shared[..., None].to(self.mark.dtype) * self.mark)
        logits = self.head(hidden)[..., 0]
        return [row[pair.first : pair.last] for row, pair in zip(logits, batch, strict=True)]

    def units(self, encoded: Sequence[Encoded]) -> dict[tuple[int, ...], int]:
        return {(place,): len(pair.ids) for place, pair in enumerate(encoded) if pair.spans}


class Apart(Network):
    """Reads criteria and responses apart. Each response token attends to the criterion's tokens, and what it finds
    there, its own state and the mark go through two layers."""

    def __init__(self, body: PreTrainedModel, hidden_size: int, pad: int) -> None:
        super().__init__(body, pad)
        self.query = nn.Linear(hidden_size, HEADS * HEAD_SIZE)
        self.key, self.value = (nn.Linear(hidden_size, HEADS * HEAD_SIZE) for _ in range(2))
        self.own, self.found = nn.Linear(hidden_size, INNER), nn.Linear(HEADS * HEAD_SIZE, INNER)
        self.mark = nn.Parameter(torch.zeros(INNER))
        self.inner, self.head = nn.Linear(INNER, INNER), nn.Linear(INNER, 1)

    def forward(self, batch: Sequence[Encoded]) -> list[Tensor]:
        return self._about(batch, self._asked(batch))

    def score(self, encoded: Sequence[Encoded], tokens: int) -> Iterator[tuple[list[int], list[Tensor]]]:
        if not encoded:
            return
        asked = self._asked(encoded)  # once, however many batches the responses need
        for places in by_length(self.units(encoded), tokens):
            yield places, self._about([encoded[place] for place in places], asked)

    def _asked(self, batch: Sequence[Encoded]) -> _Criteria:
        numbers = _numbered(tuple(pair.ids[: pair.first]) for pair in batch)
        rows = [list(ids) for ids in numbers]
        states = self.read(rows)
        seen = self.padded([[1] * len(row) for row in rows], 0).bool()
        return _Criteria(numbers, self._heads(self.key(states)), self._heads(self.value(states)), seen)

    def _about(self, batch: Sequence[Encoded], asked: _Criteria) -> list[Tensor]:
        numbers = _numbered(tuple(pair.ids[pair.first :]) for pair in batch)
        which = torch.tensor([asked.numbers[tuple(pair.ids[: pair.first])] for pair in batch], device=self.mark.device)
        whose = torch.tensor([numbers[tuple(pair.ids[pair.first :])] for pair in batch], device=self.mark.device)
        states = self.read([list(ids) for ids in numbers])
        # not `states[whose]`, whose gradient adds up in an order that differs from run to run with two threads
        found = scaled_dot_product_attention(
            self._heads(self.query(states)).index_select(0, whose),
            asked.keys.index_select(0, which),
            asked.values.index_select(0, which),
            attn_mask=asked.seen.index_select(0, which)[:, None, None, :],
        )
        inner = self.own(states).index_select(0, whose) + self.found(found.transpose(1, 2).flatten(2))
        shared = self.padded([pair.shared[pair.first :] for pair in batch], 0)
        inner = gelu(inner + shared[..., None].to(inner.dtype) * self.mark)
        logits = self.head(gelu(self.inner(inner)))[..., 0]
        return [row[: len(pair.spans)] for row, pair in zip(logits, batch, strict=True)]

    def units(self, encoded: Sequence[Encoded]) -> dict[tuple[int, ...], int]:
        together: dict[tuple[int, ...], list[int]] = {}
        for place, pair in enumerate(encoded):
            if pair.spans:
                together.setdefault(tuple(pair.ids[pair.first :]), []).append(place)
        return {tuple(places): len(ids) for ids, places in together.items()}

    @staticmethod
    def _heads(values: Tensor) -> Tensor:
        """(N, T, heads · size) to (N, heads, T, size)."""
        return values.unflatten(2, (HEADS, HEAD_SIZE)).transpose(1, 2)


@dataclass(frozen=True)
class _Criteria:
    """C criteria as response tokens attend to them."""

    numbers: dict[tuple[int, ...], int]  # token ids to a criterion's row
    keys: Tensor  # (C, heads, T, size)
    values: Tensor  # (C, heads, T, size)
    seen: Tensor  # (C, T) boolean


NETWORKS: dict[Reading, type[Together] | type[Apart]] = {"pair": Together, "apart": Apart}


def _numbered(rows: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Each different row and its number, in order of first appearance."""
    numbers: dict[tuple[int, ...], int] = {}
    for row in rows:
        numbers.setdefault(row, len(numbers))
    return numbers


def by_length(units: dict[tuple[int, ...], int], tokens: int) -> list[list[int]]:
    """What is read at once, longest first, in batches of at most `tokens` with padding, or of one.

    The batch that needs the most memory comes at once, and there is little to pad.
    """
    batches: list[list[int]] = []
    rows = longest = 0
    for places, length in sorted(units.items(), key=lambda unit: (-unit[1], unit[0])):
        if not batches or (rows + 1) * longest > tokens:
            batches.append([])
            rows, longest = 0, length
        batches[-1] += places
        rows += 1
    return batches
