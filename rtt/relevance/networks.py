"""The networks a discriminator may be: a language model's body, and what turns its states into a logit a token.

All read a batch of pairs and answer with one logit per response token of each. `Together` reads each pair as one text:
K rubrics cost K readings of the response. So does `After`, but a criterion is read once for all its responses. `Apart`
reads each different response once too, and lets a light head bring the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rtt.relevance.offsets import Span

Reading = Literal["pair", "after", "apart"]

Asked = TypeVar("Asked")

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


class Asking(Network, Generic[Asked]):
    """Reads each different criterion once, and then responses with what it keeps of their criteria, an `Asked`."""

    def forward(self, batch: Sequence[Encoded]) -> list[Tensor]:
        return self.about(batch, self.asked(batch))

    def score(self, encoded: Sequence[Encoded], tokens: int) -> Iterator[tuple[list[int], list[Tensor]]]:
        if not encoded:
            return
        asked = self.asked(encoded)  # once, however many batches the responses need
        for places in by_length(self.units(encoded), tokens):
            yield places, self.about([encoded[place] for place in places], asked)

    def asked(self, batch: Sequence[Encoded]) -> Asked:
        """Reads the criteria of a batch."""
        raise NotImplementedError

    def about(self, batch: Sequence[Encoded], asked: Asked) -> list[Tensor]:
        """One logit per response token of each pair, whose criteria have been read."""
        raise NotImplementedError

    def rows_of(self, batch: Sequence[Encoded], numbers: dict[tuple[int, ...], int]) -> Tensor:
        """(N,): the number of each pair's criterion, by its token ids."""
        return torch.tensor([numbers[tuple(pair.ids[: pair.first])] for pair in batch], device=self.mark.device)


class After(Asking["Remembered"]):
    """Reads each response as `Together` does, as the end of one text that begins with the criterion; but a criterion is
    read alone, does not see the response, and so is read once for all of them. Has the weights of `Together`.

    Needs a backbone of which `rtt.attention.sees_all` holds.
    """

    def __init__(self, body: PreTrainedModel, hidden_size: int, pad: int) -> None:
        super().__init__(body, pad)
        self.mark = nn.Parameter(torch.zeros(hidden_size))
        self.head = nn.Linear(hidden_size, 1)

    def units(self, encoded: Sequence[Encoded]) -> dict[tuple[int, ...], int]:
        return {(place,): len(pair.ids) - pair.first for place, pair in enumerate(encoded) if pair.spans}

    def asked(self, batch: Sequence[Encoded]) -> Remembered:
        numbers = _numbered(tuple(pair.ids[: pair.first]) for pair in batch)
        rows = [list(ids) for ids in numbers]
        seen = self.padded([[1] * len(row) for row in rows], 0).bool()
        cache = DynamicCache()
        self._read_on(self.body.get_input_embeddings()(self.padded(rows, self.pad)), seen, [0] * len(rows), cache)
        return Remembered(numbers, cache, seen)

    def about(self, batch: Sequence[Encoded], asked: Remembered) -> list[Tensor]:
        which = self.rows_of(batch, asked.numbers)
        rows = [pair.ids[pair.first :] for pair in batch]
        shared = self.padded([pair.shared[pair.first :] for pair in batch], 0)
        embeddings = self.body.get_input_embeddings()(self.padded(rows, self.pad))
        own = self.padded([[1] * len(row) for row in rows], 0).bool()
        seen = torch.cat([asked.seen.index_select(0, which), own], dim=1)
        states = self._read_on(
            embeddings + shared[..., None].to(embeddings.dtype) * self.mark,
            *(seen, [pair.first for pair in batch], asked.cache_of(which)),
        )
        logits = self.head(states)[..., 0]
        return [row[: len(pair.spans)] for row, pair in zip(logits, batch, strict=True)]

    def _read_on(self, embeddings: Tensor, seen: Tensor, first: Sequence[int], cache: DynamicCache) -> Tensor:
        """The body's states of (N, T, H) embeddings that stand after what is in the cache, and are added to it.

        Args:
            seen: (N, tokens in the cache and T) boolean, False on padding.
            first: position of each row's first embedding.
        """
        count, device = embeddings.shape[1], embeddings.device
        allowed = seen[:, None, None, :].expand(-1, 1, count, -1)
        if self.body.config.is_causal:
            allowed = allowed & torch.ones(count, seen.shape[1], device=device).tril(seen.shape[1] - count).bool()
        mask = torch.zeros(allowed.shape, dtype=embeddings.dtype, device=device)
        return self.body(
            inputs_embeds=embeddings,
            attention_mask=mask.masked_fill_(~allowed, torch.finfo(mask.dtype).min),
            position_ids=torch.tensor(first, device=device)[:, None] + torch.arange(count, device=device),
            cache=cache,
            use_cache=True,
        ).last_hidden_state


@dataclass(frozen=True)
class Remembered:
    """What is kept of C criteria of at most c tokens: keys and values of every layer."""

    numbers: dict[tuple[int, ...], int]  # token ids to a criterion's row
    cache: DynamicCache
    seen: Tensor  # (C, c) boolean

    def cache_of(self, which: Tensor) -> DynamicCache:
        """A cache of its own for the criteria in the rows `which` (N,)."""
        chosen = DynamicCache()
        for number, layer in enumerate(self.cache.layers):
            assert isinstance(layer, DynamicLayer)
            assert layer.keys is not None, "the layer is filled"
            assert layer.values is not None
            chosen.update(layer.keys.index_select(0, which), layer.values.index_select(0, which), number)
        return chosen


class Apart(Asking["Criteria"]):
    """Reads criteria and responses apart. Each response token attends to the criterion's tokens, and what it finds
    there, its own state and the mark go through two layers."""

    def __init__(self, body: PreTrainedModel, hidden_size: int, pad: int) -> None:
        super().__init__(body, pad)
        self.query = nn.Linear(hidden_size, HEADS * HEAD_SIZE)
        self.key, self.value = (nn.Linear(hidden_size, HEADS * HEAD_SIZE) for _ in range(2))
        self.own, self.found = nn.Linear(hidden_size, INNER), nn.Linear(HEADS * HEAD_SIZE, INNER)
        self.mark = nn.Parameter(torch.zeros(INNER))
        self.inner, self.head = nn.Linear(INNER, INNER), nn.Linear(INNER, 1)

    def asked(self, batch: Sequence[Encoded]) -> Criteria:
        numbers = _numbered(tuple(pair.ids[: pair.first]) for pair in batch)
        rows = [list(ids) for ids in numbers]
        states = self.read(rows)
        seen = self.padded([[1] * len(row) for row in rows], 0).bool()
        return Criteria(numbers, self._heads(self.key(states)), self._heads(self.value(states)), seen)

    def about(self, batch: Sequence[Encoded], asked: Criteria) -> list[Tensor]:
        numbers = _numbered(tuple(pair.ids[pair.first :]) for pair in batch)
        which = self.rows_of(batch, asked.numbers)
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
class Criteria:
    """C criteria as response tokens attend to them."""

    numbers: dict[tuple[int, ...], int]  # token ids to a criterion's row
    keys: Tensor  # (C, heads, T, size)
    values: Tensor  # (C, heads, T, size)
    seen: Tensor  # (C, T) boolean


NETWORKS: dict[Reading, type[Together] | type[After] | type[Apart]] = {
    "pair": Together,
    "after": After,
    "apart": Apart,
}


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
