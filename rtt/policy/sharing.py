"""The responses to one prompt share one pass over it: in sampling through the cache, in scoring in one packed row.

G responses of T tokens to a prompt of P tokens cost P + G·T tokens in place of G·(P + T).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from rtt.attention import sees_all
from rtt.policy.sampling import Draw, Part, decode, draw, gathered, merged, packed, repeated, rounded

LONGEST_ROW = 4096
"""Tokens in a packed row at most, unless it holds one response: attention is dense, so its cost grows with the
square."""

READ_AT_ONCE = 1536
"""Tokens of prompts that a processor reads in one pass: what passes from layer to layer stays in its cache."""

ROW = "row"
"""Key of a row's number in its batch, (B,)."""


def equal_prompts(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """The rows of each different prompt, in order of first appearance; what stands under the mask does not count."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, (tokens, seen) in enumerate(zip(ids.tolist(), mask.tolist(), strict=True)):
        rows.setdefault(tuple(token for token, kept in zip(tokens, seen, strict=True) if kept), []).append(row)
    return list(rows.values())


@torch.no_grad()
def generate(
    model: Any,
    *,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    generation_config: GenerationConfig,
    draw: Draw = draw,
) -> torch.Tensor:
    """`model.generate`, with equal prompts read once, weights as sampling wants them meanwhile, and no copying of the
    cache.

    Args:
        input_ids: (B, P), padded on the left.
        attention_mask: (B, P).
        draw: how words are drawn, on a processor.

    Returns:
        (B, P + T): prompts and what was sampled.
    """
    with packed(model, len(input_ids)), merged(model), rounded(model):
        room = 1 + (generation_config.max_new_tokens or 0)
        readable = sees_all(model) and len(input_ids[0]) > 1
        known: dict[str, Any] = {"cache": _read(model, input_ids, attention_mask, room)} if readable else {}
        if known and model.device.type == "cpu":
            known["custom_generate"] = partial(decode, draw=draw)
        # The class's own: an instance may have this function in its place.
        return type(model).generate(
            model, input_ids=input_ids, attention_mask=attention_mask, generation_config=generation_config, **known
        )


def _read(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, room: int) -> DynamicCache:
    """The cache, with room for more, of all prompts but for their last tokens. Equal prompts are read once, and so is
    what all others begin with."""
    end = input_ids.shape[1] - 1
    at_once = READ_AT_ONCE if input_ids.device.type == "cpu" else input_ids.numel()
    groups = equal_prompts(input_ids, attention_mask)
    starts = (end - attention_mask[:, :end].sum(dim=1)).tolist()
    different = [input_ids[group[0], starts[group[0]] : end].tolist() for group in groups]
    equal = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*different, strict=False))
    begin = len(list(equal)) if len(groups) > 1 else 0

    def read(ids: torch.Tensor, seen: torch.Tensor, cache: DynamicCache) -> None:
        """(R, L) tokens, where `seen` and after what is in the cache, to which they are added."""
        before = seen.new_ones(len(seen), cache.get_seq_length())
        model(
            input_ids=ids,
            attention_mask=torch.cat([before, seen], dim=1),
            position_ids=(before.shape[1] + seen.cumsum(dim=1) - 1).clamp(min=0),
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
        )

    def parts() -> Iterator[Part]:
        start = DynamicCache(config=model.config)
        if begin:
            ids = input_ids.new_tensor([different[0][:begin]])
            read(ids, torch.ones_like(ids), start)
        for numbers in _few([len(row) - begin for row in different], at_once):
            rows = [groups[number][0] for number in numbers]
            lengths = input_ids.new_tensor([len(different[number]) - begin for number in numbers])
            width = max(1, int(lengths.max()))
            cache = repeated(start, len(rows))
            seen = torch.arange(width, device=input_ids.device) >= width - lengths[:, None]
            read(input_ids[rows, end - width : end], seen.to(attention_mask.dtype), cache)
            yield Part(cache, [groups[number] for number in numbers], begin)
        if begin:
            yield Part(start, [range(len(starts))], 0, [at + begin for at in starts])

    return gathered(parts(), len(input_ids), end, room)


def _few(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The numbers of rows in their order, as many at once as have `tokens` with padding, at least one."""
    part: list[int] = []
    longest = 0
    for number, length in enumerate(lengths):
        longest = max(longest, length)
        if part and (len(part) + 1) * longest > tokens:
            yield part
            part, longest = [], length
        part.append(number)
    yield part


@dataclass(frozen=True)
class Packed:
    """Rows that each hold a prompt and several responses to it.

    A row is ``p[:-1] | p[-1] r_1 | p[-1] r_2 | …``: each response has the prompt's last token before it, which
    foretells its first. A response sees the prompt and itself.

    Attributes:
        inputs: input_ids (R, L), position_ids (R, L), attention_mask (R, 1, L, L) to add to the scores, and labels
            (R, L), -100 everywhere but on the responses' tokens.
        places: (B, T), where a response's token stands in a row-by-row list of R·L tokens; 0 under the mask.
    """

    inputs: dict[str, torch.Tensor]
    places: torch.Tensor


def pack(
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    response_ids: torch.Tensor,
    response_mask: torch.Tensor,
    *,
    dtype: torch.dtype,
    longest: int = LONGEST_ROW,
) -> Packed:
    """Packs the responses to equal prompts into rows.

    Args:
        prompt_ids: (B, P), padded on the left; at least one token a row.
        prompt_mask: (B, P).
        response_ids: (B, T), padded on the right.
        response_mask: (B, T), ones, then zeros.
        dtype: of the attention mask; the model's.
        longest: tokens in a row of several responses, at most.
    """
    lengths = response_mask.sum(dim=1).tolist()
    rows = [
        (prompt_ids[group[0]][prompt_mask[group[0]].bool()], members)
        for group in equal_prompts(prompt_ids, prompt_mask)
        for members in _fitting(group, lengths, longest - int(prompt_mask[group[0]].sum()) + 1)
    ]
    width = max(len(prompt) - 1 + sum(lengths[j] + 1 for j in members) for prompt, members in rows)
    shape, device = (len(rows), width), prompt_ids.device
    ids = torch.zeros(shape, dtype=torch.long, device=device)
    positions, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    segment = torch.full_like(ids, -1)  # 0 is the prompt, 1 … its responses, -1 padding
    places = torch.zeros_like(response_ids)
    for r, (prompt, members) in enumerate(rows):
        at = len(prompt) - 1
        ids[r, :at], segment[r, :at] = prompt[:-1], 0
        positions[r, :at] = torch.arange(at, device=device)
        for number, j in enumerate(members, start=1):
            end = at + 1 + lengths[j]
            ids[r, at], ids[r, at + 1 : end] = prompt[-1], response_ids[j, : lengths[j]]
            labels[r, at + 1 : end] = response_ids[j, : lengths[j]]
            segment[r, at:end] = number
            positions[r, at:end] = torch.arange(len(prompt) - 1, len(prompt) + lengths[j], device=device)
            places[j, : lengths[j]] = torch.arange(r * width + at + 1, r * width + end, device=device)
            at = end
    order = torch.arange(width, device=device)
    seen = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    seen &= order[None, :] <= order[:, None]
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None], "labels": labels}
    return Packed(inputs, places)


def _fitting(group: Sequence[int], lengths: Sequence[int], space: int) -> list[list[int]]:
    """The responses of a group in their order, as many together as fit into `space` tokens."""
    parts: list[list[int]] = []
    used = space
    for j in group:
        if used + lengths[j] + 1 > space:
            parts.append([])
            used = 0
        parts[-1].append(j)
        used += lengths[j] + 1
    return parts


def unpack(values: torch.Tensor, places: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Figures of a packed row's tokens, given for each token but the row's first, as (B, T); 0 under the mask.

    Args:
        values: (R, L - 1), of the tokens 1 … L - 1 of each row.
        places: (B, T), as in Packed.
        mask: (B, T).
    """
    whole = torch.nn.functional.pad(values, (1, 0)).reshape(-1)
    return whole[places].masked_fill(mask == 0, 0.0)


def in_order(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a shuffled and split batch in the order of their numbers, split into as many parts again.

    Args:
        parts: of equal size; each value has one entry a row, but for None and single numbers, which stay.
    """
    order = torch.cat([part[ROW] for part in parts]).argsort()
    size = len(parts[0][ROW])

    def sorted_rows(key: str) -> list[Any]:
        values = [part[key] for part in parts]
        if values[0] is None or values[0].ndim == 0:
            return values
        return list(torch.cat(values)[order].split(size))

    columns = {key: sorted_rows(key) for key in parts[0]}
    return [{key: values[number] for key, values in columns.items()} for number in range(len(parts))]
