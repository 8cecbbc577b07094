"""Dynamic sampling, as in DAPO: groups whose rewards are all equal give way to groups of other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

LEFT = ("prompt_ids", "prompt_mask")
"""Tensors of a batch that are padded on the left; the other two-dimensional ones are padded on the right."""


def groups_without_spread(rewards: torch.Tensor, group_size: int) -> list[int]:
    """Indices of the groups whose rewards (B,), the missing ones (NaN) aside, are all equal or none at all."""
    groups = rewards.view(-1, group_size)
    low, high = groups.nan_to_num(nan=torch.inf).amin(1), groups.nan_to_num(nan=-torch.inf).amax(1)
    return (~(low < high)).nonzero().flatten().tolist()


def replace_rows(
    batch: dict[str, Any], other: dict[str, Any], places: Sequence[int], rows: Sequence[int], pad_id: int
) -> dict[str, Any]:
    """`batch` with its rows `places` replaced by the rows `rows` of `other`, padded anew to the longest of either.

    Args:
        batch: as TRL's GRPO trainer makes it: tensors with one row a response, (B, T) or (B,), and
            ``num_items_in_batch``.
        other: another such batch with the same keys.
        places: rows of `batch` that go.
        rows: as many rows of `other` that take their places, in this order.
        pad_id: token id that fills the ``_ids``; everything else is filled with 0.
    """
    merged: dict[str, Any] = {}
    for key, mine in batch.items():
        if not isinstance(mine, torch.Tensor) or mine.dim() == 0:
            continue
        theirs = other[key]
        if mine.dim() == 2:
            fill = pad_id if key.endswith("_ids") else 0
            width = max(mine.shape[1], theirs.shape[1])
            mine, theirs = (_widen(part, width, key in LEFT, fill) for part in (mine, theirs))
        merged[key] = mine.clone()
        merged[key][list(places)] = theirs[list(rows)]
    return {**batch, **merged, "num_items_in_batch": merged["completion_mask"].sum()}


def _widen(values: torch.Tensor, width: int, left: bool, fill: int) -> torch.Tensor:
    more = width - values.shape[1]
    return pad(values, (more, 0) if left else (0, more), value=fill)
