"""Response-level rewards: the K verdicts on a response folded into one number.

Letters: B rows, K rubrics (padded). A mask's 1 (or True) means the entry counts. Every function here and in
`rtt.credit.advantages` is free of state, never writes into its arguments, and computes in float64 where its floating
input is float64, else in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

KINDS = ("aon", "csr", "mix")


def response_rewards(
    verdicts: torch.Tensor,
    valid: torch.Tensor,
    kind: str,
    beta: float = 0.5,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """One reward in [0, 1] per response (docs/method.md, "Response-level reward and advantage").

    Args:
        verdicts: (B, K), r in [-1, 1]; floating, or integer and then taken as float32.
        valid: (B, K), 1 where r is a real verdict; bool, integer or floating. What r holds elsewhere does not matter.
        kind: ``aon``, 1 if every valid verdict is +1 and else 0; ``csr``, the mean over valid rubrics of (r + 1) / 2;
            ``mix``, beta · aon + (1 - beta) · csr.
        beta: share of ``aon`` in ``mix``, in [0, 1].
        weights: (B, K), how much each rubric counts in the mean; positive where `valid`. None counts all alike.

    Returns:
        (B,), NaN for a row without a valid verdict: it has no reward, which is not the same as a reward of 0.

    Raises:
        ValueError: shapes that do not fit, an unknown kind, beta outside [0, 1], a valid verdict that is not finite, a
            valid rubric's weight that is not positive.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie between 0 and 1, it is {beta}")
    verdicts, valid = read_verdicts(verdicts, valid)
    count = valid.sum(dim=1)
    aon = ((verdicts == 1) | ~valid).all(dim=1).to(verdicts.dtype)
    kept = torch.where(valid, (verdicts + 1) / 2, 0)
    csr = kept.sum(dim=1) / count.clamp(min=1) if weights is None else (kept * shares(weights, valid)).sum(dim=1)
    rewards = {"aon": aon, "csr": csr, "mix": beta * aon + (1 - beta) * csr}[kind]
    return rewards.masked_fill(count == 0, torch.nan)


def read_verdicts(verdicts: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Verdicts as floats and `valid` as booleans, both (B, K).

    Raises:
        ValueError: shapes that do not fit, or a valid verdict that is NaN or infinite. A missing verdict handed over as
            NaN would otherwise be a silent failure in ``aon`` and a silent gap in ``csr``.
    """
    verdicts, valid = as_floating(verdicts), valid.bool()
    require_dims("verdicts", verdicts, 2)
    require_shape("valid", valid, verdicts.shape, "verdicts", verdicts)
    broken = valid & ~verdicts.isfinite()
    if broken.any():
        row, rubric = broken.nonzero()[0].tolist()
        raise ValueError(
            f"verdict {verdicts[row, rubric].item()} in row {row}, rubric {rubric} is marked valid; "
            "a missing verdict has valid 0"
        )
    return verdicts, valid


def shares(weights: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Each rubric's share of its row's weight, (B, K); 0 where not valid, and rows with a valid rubric sum to 1.

    Args:
        weights: (B, K); what it holds where not valid does not matter.
        valid: (B, K) boolean.

    Raises:
        ValueError: shapes that do not fit, or a valid rubric's weight that is not a positive, finite number.
    """
    weights = as_floating(weights)
    require_shape("weights", weights, valid.shape, "valid", valid)
    broken = valid & ~((weights > 0) & weights.isfinite())
    if broken.any():
        row, rubric = broken.nonzero()[0].tolist()
        raise ValueError(f"the weight {weights[row, rubric].item()} in row {row}, rubric {rubric} is not positive")
    counted = torch.where(valid, weights, 0)
    return counted / torch.where(valid.any(dim=1, keepdim=True), counted.sum(dim=1, keepdim=True), 1)


def as_floating(values: torch.Tensor) -> torch.Tensor:
    """`values` in float64 if they come so, else in float32: half precision has too few digits for a deviation."""
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def require_dims(name: str, values: torch.Tensor, dims: int) -> None:
    """Raises ValueError unless `values` has so many dimensions."""
    if values.dim() != dims:
        raise ValueError(f"{name} must have {dims} dimension(s), it has {values.dim()}: {tuple(values.shape)}")


def require_shape(name: str, values: torch.Tensor, shape: Sequence[int], other_name: str, other: torch.Tensor) -> None:
    """Raises ValueError, giving both shapes, unless `values` has the shape that `other` asks for."""
    if values.shape != torch.Size(shape):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, {tuple(shape)} was expected "
            f"beside {other_name} of shape {tuple(other.shape)}"
        )
