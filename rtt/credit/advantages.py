"""Advantages: rewards standardised per group, and relevance-weighted verdicts standardised per partition.

Letters: G responses to one prompt (the group), B rows (a multiple of G, rows g·G … g·G+G-1 answer one prompt), K
rubrics (padded), T completion tokens (padded); r a verdict, w a relevance, s = w · r a token reward. A mask's 1 (or
True) means the entry counts; what lies outside a mask, NaN and infinity included, has no influence.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rtt.credit.rewards import as_floating, read_verdicts, require_dims, require_shape, shares

PARTITIONS = ("intra_sample", "per_rubric", "pooled", "softmax_share", "intra_sample_released")
RULES = ("add", "mix")

BLOCK = 2**22
"""Entries of relevance that are copied at once, at most, unless one group has more."""

FAR = 4.0
"""A mean of so many deviations is taken off before squares are summed, which would lose digits beside its own."""


def response_advantages(rewards: torch.Tensor, group_size: int, eps: float = 1e-6) -> torch.Tensor:
    """A_resp[j] = (R[j] - mean R) / (std R + eps) over j's group, with the sample deviation (n - 1).

    Args:
        rewards: (B,), NaN where a row has no reward.
        group_size: G.
        eps: keeps the quotient finite; at least 0.

    Returns:
        (B,). Exactly 0 for a row without a reward (it enters neither mean nor deviation), in a group with fewer than
        two rewards, and in a group whose rewards are all equal.

    Raises:
        ValueError: B is not a multiple of G, or a number is out of range.
    """
    rewards = as_floating(rewards)
    require_dims("rewards", rewards, 1)
    require_groups(len(rewards), group_size)
    require_at_least_zero(eps=eps)
    # one rubric, one token: a reward is a verdict that needs no relevance
    values, rows = rewards.detach().clone()[:, None, None], ~rewards.isnan()[:, None]
    return _standardise_(values, rows, torch.ones_like(rows), group_size, eps, correction=1)[:, 0, 0]


def token_advantages(
    relevance: torch.Tensor,
    verdicts: torch.Tensor,
    valid: torch.Tensor,
    completion_mask: torch.Tensor,
    group_size: int,
    partition: str = "intra_sample",
    eps: float = 1e-6,
    min_std: float = 1e-3,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """A_tok[j, t], the token-level advantage (docs/method.md, "the group partitioning problem").

    A score is (x - mean) / (std + eps), and what mean and deviation run over is the partition:

    ===============  ==================================================================  =========================
    partition        x, and what one mean and one deviation run over                     then
    ===============  ==================================================================  =========================
    `intra_sample`   s over the tokens of one (j, k)                                     mean over j's valid k
    `per_rubric`     s over the tokens of a group's rows in which k is valid, per k      mean over j's valid k
    `pooled`         the mean of s over valid k, over all tokens of a group's rows       as it is
                     that have a valid rubric
    `softmax_share`  r[:, k] over a group's rows in which k is valid, per k (sample      times softmax over valid k
                     deviation; the others take the population one)                      of w, summed over valid k
    ===============  ==================================================================  =========================

    `min_std` is compared with the deviation named in the table: per (j, k), per (group, k), per group and, of the
    verdicts, per (group, k). A partition below it contributes 0 but still counts in the mean over valid k. So does,
    whatever `min_std`, a partition of one entry or without any spread.

    A fifth partition, `intra_sample_released`, is `intra_sample` on token rewards handed to the wrong responses, as the
    released code does (docs/method.md, defect 1; :func:`_handed_out_by_reshape`). It is there to measure that defect.

    Args:
        relevance: (B, K, T), w in [0, 1]; floating. Takes no part in automatic differentiation.
        verdicts: (B, K), r in [-1, 1].
        valid: (B, K), 1 where r is a real verdict; bool, integer or floating.
        completion_mask: (B, T), 1 on tokens that count; bool, integer or floating.
        group_size: G.
        partition: a name from the table.
        eps: keeps the quotient finite; at least 0.
        min_std: floor of the deviation, at least 0; 0 gives the literal formula.
        weights: (B, K), how much each rubric counts; positive where `valid`. Every mean over valid k is then a weighted
            one, and `softmax_share` takes each rubric's share of the weight times the number of valid ones, which is 1
            for equal weights. None counts all alike.

    Returns:
        (B, T) in the type of `relevance`. Exactly 0 outside `completion_mask` and in a row without a valid rubric. A
        NaN in `relevance` that does count is not hidden: it makes its whole partition NaN.

    Raises:
        ValueError: shapes that do not fit, B not a multiple of G, an unknown partition, a number out of range, a
            valid verdict that is not finite, or a valid rubric's weight that is not positive.
    """
    if partition not in PARTITIONS:
        raise ValueError(f"partition {partition!r} is none of {', '.join(PARTITIONS)}")
    relevance = as_floating(relevance.detach())
    verdicts, valid = read_verdicts(verdicts, valid)
    tokens = completion_mask.bool()
    require_dims("relevance", relevance, 3)
    n_rows, n_rubrics, n_tokens = relevance.shape
    require_shape("verdicts", verdicts, (n_rows, n_rubrics), "relevance", relevance)
    require_shape("completion_mask", tokens, (n_rows, n_tokens), "relevance", relevance)
    require_groups(n_rows, group_size)
    require_at_least_zero(eps=eps, min_std=min_std)
    if relevance.numel() == 0:
        return relevance.new_zeros(n_rows, n_tokens)

    verdicts = verdicts.to(relevance.dtype)
    share = shares(torch.ones_like(verdicts) if weights is None else weights, valid).to(relevance.dtype)
    if partition == "intra_sample_released":
        relevance = _handed_out_by_reshape(relevance, verdicts, valid, tokens, group_size)
        verdicts = torch.ones_like(verdicts)
    return _token_term(relevance, verdicts, valid, tokens, share, group_size, partition, eps, min_std)


def combine(
    response: torch.Tensor,
    token: torch.Tensor,
    completion_mask: torch.Tensor,
    weight: float = 0.5,
    rule: str = "add",
) -> torch.Tensor:
    """A[j, t] out of A_resp[j] and A_tok[j, t], with λ = `weight`.

    Args:
        response: (B,), A_resp.
        token: (B, T), A_tok.
        completion_mask: (B, T), 1 on tokens that count; bool, integer or floating.
        weight: λ in [0, 1]. 0 gives A_resp, broadcast, bit for bit: plain GRPO.
        rule: ``add``, A_resp + λ · A_tok; ``mix``, (1 - λ) · A_resp + λ · A_tok.

    Returns:
        (B, T), exactly 0 outside `completion_mask`.

    Raises:
        ValueError: shapes that do not fit, an unknown rule, a weight outside [0, 1].
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is none of {', '.join(RULES)}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie between 0 and 1, it is {weight}")
    response, token = as_floating(response), as_floating(token)
    require_dims("response", response, 1)
    require_dims("token", token, 2)
    require_shape("response", response, token.shape[:1], "token", token)
    require_shape("completion_mask", completion_mask, token.shape, "token", token)
    dtype = torch.promote_types(response.dtype, token.dtype)
    response, token = response.to(dtype)[:, None].expand_as(token), token.to(dtype)
    if weight == 0:
        combined = response  # adding 0 · A_tok would turn -0.0 into 0.0, and an infinite A_tok into NaN
    elif rule == "add":
        combined = response + weight * token
    else:
        combined = (1 - weight) * response + weight * token
    return torch.where(completion_mask.bool(), combined, 0)


def _token_term(
    relevance: torch.Tensor,
    verdicts: torch.Tensor,
    valid: torch.Tensor,
    tokens: torch.Tensor,
    share: torch.Tensor,
    group_size: int,
    partition: str,
    eps: float,
    min_std: float,
) -> torch.Tensor:
    """As :func:`token_advantages`, whose arguments are checked by then; `share` is each rubric's in the mean."""
    n_rows, _, n_tokens = relevance.shape
    verdicts = torch.where(valid, verdicts, 0)
    by_rubric = share * verdicts
    if partition == "softmax_share":
        anything = torch.ones_like(valid[:, :1])
        scores = _standardise_(verdicts.clone()[:, :, None], valid, anything, group_size, eps, min_std, correction=1)
        by_rubric = scores[:, :, 0] * share * valid.sum(dim=1, keepdim=True)
    # adding up makes a wider copy of each first, and the least byte is found many times faster than `all`
    all_tokens = bool(tokens.view(torch.uint8).amin())
    per_row = tokens.new_full((n_rows,), n_tokens, dtype=torch.int64) if all_tokens else tokens.sum(dim=1)
    counts = valid * per_row[:, None]  # (B, K)
    if partition in ("softmax_share", "pooled"):
        term = relevance.new_empty(n_rows, n_tokens)
        factors = by_rubric.to(term.dtype)[:, None, :]
        for rows, entries in _blocks(relevance, counts, tokens, group_size, copied=partition == "softmax_share"):
            if partition == "softmax_share":
                entries = _shares_of_relevance(entries, valid[rows])
            torch.bmm(factors[rows], entries, out=term[rows, None])
    else:
        # a response on its own is a group of one
        size = group_size if partition == "per_rubric" else 1
        term = _mean_score(relevance, counts, tokens, verdicts, share, size, eps, min_std)
    if partition == "pooled":
        answered = valid.any(dim=1, keepdim=True)
        term = _standardise_(term[:, None, :], answered, tokens, group_size, eps, min_std)[:, 0]
    return term if (counts == n_tokens).all() else term.masked_fill_(~tokens | ~valid.any(dim=1, keepdim=True), 0)


def _blocks(
    relevance: torch.Tensor, counts: torch.Tensor, tokens: torch.Tensor, group_size: int, copied: bool
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows of whole groups, and their part of (B, K, T) with 0 where an entry does not count: `relevance` itself, whole
    and uncopied, where all do and the caller makes no copies of its own.

    A part lies where the one before it lay: memory that is new to the process costs more than filling it.
    """
    n_rows, n_rubrics, n_tokens = relevance.shape
    all_count = bool((counts == n_tokens).all())
    at_once = group_size * max(1, BLOCK // (group_size * n_rubrics * n_tokens))
    if all_count and not copied:
        at_once = n_rows
    nothing = relevance.new_zeros(())
    buffer = relevance.new_empty(0)
    for start in range(0, n_rows, at_once):
        rows = slice(start, min(start + at_once, n_rows))
        part = relevance[rows]
        if not all_count:
            if len(buffer) < len(part):
                buffer = torch.empty_like(part)
            kept = (counts[rows] > 0)[:, :, None] & tokens[rows, None, :]
            part = torch.where(kept, part, nothing, out=buffer[: len(part)])
        yield rows, part


def _standardise_(
    values: torch.Tensor,
    rows: torch.Tensor,
    tokens: torch.Tensor,
    group_size: int,
    eps: float,
    min_std: float = 0.0,
    correction: int = 0,
) -> torch.Tensor:
    """z-scores over the rows and tokens of each (group, rubric), in place, because `values` is the largest tensor.

    Args:
        values: (B, K, T), overwritten.
        rows: (B, K) boolean, the rows that take part, per rubric.
        tokens: (B, T) boolean, the tokens that take part, per row.
        group_size: rows standardised together.
        eps: added to the deviation.
        min_std: a deviation below this gives 0.
        correction: 0 for the population deviation, 1 for the sample deviation.

    Returns:
        `values`, 0 where an entry takes no part.
    """
    groups = (len(values) // group_size, group_size)
    cube = values.unflatten(0, groups)  # (B/G, G, K, T)
    off_rows = ~rows.unflatten(0, groups)[:, :, :, None]
    off_tokens = ~tokens.unflatten(0, groups)[:, :, None, :]

    def blank_() -> torch.Tensor:
        return cube.masked_fill_(off_rows, 0).masked_fill_(off_tokens, 0)

    def total(entries: torch.Tensor) -> torch.Tensor:
        # tokens first: torch sums a contiguous axis pairwise, which keeps float32 exact enough over long responses
        return entries.sum(dim=3, keepdim=True).sum(dim=1, keepdim=True)  # (B/G, 1, K, 1)

    per_row = rows * tokens.sum(dim=1)[:, None]  # (B, K)
    count = total(per_row.unflatten(0, groups)[:, :, :, None]).to(values.dtype)
    # The second time takes off what the first mean was rounded by. Of equal values the first leaves a few units in the
    # last place, which sum and divide without rounding, so that the second leaves exactly 0.
    for _ in range(2):
        cube.sub_(total(blank_()) / count.clamp(min=1))
    norm = torch.linalg.vector_norm(blank_(), dim=3, keepdim=True)
    norm = torch.linalg.vector_norm(norm, dim=1, keepdim=True)
    std = norm / (count - correction).clamp(min=1).sqrt()
    return cube.mul_(torch.where((std < min_std) | (std == 0), 0, 1 / (std + eps))).flatten(0, 1)


def _handed_out_by_reshape(
    relevance: torch.Tensor, verdicts: torch.Tensor, valid: torch.Tensor, tokens: torch.Tensor, group_size: int
) -> torch.Tensor:
    """Token rewards after the released code's change of axes, which is a reshape and should be a transpose.

    The released code takes the cube (response, rubric, token) of one group to (rubric, response, token) by reading its
    rows of tokens in the order they lie in memory. With G responses and K rubrics of the group's prompt, the row that
    response j gets for its rubric k is number k·G + j in that order, and so belongs to response (k·G + j) // K and
    rubric (k·G + j) % K. With one rubric or one response every row stays where it is.

    - Mixing stays inside a group, as there. K is the prompt's own number of rubrics, as there, and not the padded one:
      the place after the last rubric of which any response of the group has a valid verdict.
    - The giver's reward is 0 at tokens its own `tokens` leave out and for a missing verdict (the released code has
      none: it counts them as violations). Where the getter is longer than the giver, it counts those zeros.
    - Everything later belongs to the getter: its `tokens`, and its own `valid` in the mean over k.

    Args:
        relevance: (B, K, T).
        verdicts: (B, K), in the type of `relevance`.
        valid: (B, K) boolean.
        tokens: (B, T) boolean.
        group_size: G.

    Returns:
        (B, K, T), newly made.
    """
    n_rows, n_rubrics = valid.shape
    places = torch.arange(1, n_rubrics + 1, device=valid.device)
    in_group = valid.unflatten(0, (-1, group_size)).any(dim=1)  # (B/G, K)
    own = (in_group * places).amax(dim=1).clamp(min=1)  # (B/G,), each prompt's own K
    own = own.repeat_interleave(group_size)[:, None]  # (B, 1)
    row = torch.arange(n_rows, device=valid.device)[:, None]
    # beyond a prompt's own K nothing is valid; the remainder only keeps the index in range
    number = ((places - 1) * group_size + row % group_size) % (own * group_size)  # (B, K)
    giver, rubric = row - row % group_size + number // own, number % own
    rewards = relevance[giver, rubric].mul_(verdicts[giver, rubric][:, :, None])  # (B, K, T)
    return rewards.masked_fill_(~valid[giver, rubric][:, :, None], 0).masked_fill_((~tokens)[giver], 0)


def _mean_score(
    relevance: torch.Tensor,
    counts: torch.Tensor,
    tokens: torch.Tensor,
    verdicts: torch.Tensor,
    share: torch.Tensor,
    group_size: int,
    eps: float,
    min_std: float,
) -> torch.Tensor:
    """The mean over valid rubrics of the z-scores of r · w, (B, T); what stands where no token counts means nothing.

    The scores themselves are never made: the mean over k of share · (r · w - mean) / (std + eps) is a vector times a
    matrix, and a number.

    Args:
        relevance: (B, K, T), w.
        counts: (B, K), how many tokens of a row and rubric count.
        tokens: (B, T) boolean.
        verdicts: (B, K), 0 where there is none.
        share: (B, K), each rubric's share in the mean; 0 where there is no verdict.
        group_size: rows standardised together, per rubric.
        eps, min_std: as in :func:`token_advantages`.
    """
    term = relevance.new_empty(len(relevance), relevance.shape[2])
    n, r = counts.clamp(min=1).double(), verdicts.double()
    sizes, squares = r.abs(), r.square()
    rounding = 4 * torch.finfo(verdicts.dtype).eps  # equal values lie off their mean by no more
    means, variances = torch.empty_like(r), torch.empty_like(r)
    ones = relevance.new_ones(relevance.shape[2])

    def score(rows: slice, entries: torch.Tensor, centre: torch.Tensor | None) -> None:
        """Writes the rows of `term`, and `means` and `variances` of `entries`: w less `centre` (B, K)."""
        sums, norms = entries @ ones, torch.linalg.vector_norm(entries, dim=2)  # a product adds up faster than a sum
        mean = torch.div(sums, n[rows], out=means[rows])
        variance = norms.double().square_().div_(n[rows])
        variance = torch.addcmul(variance, mean, mean, value=-1, out=variances[rows]).clamp_(min=0)
        mean = r[rows] * (mean if centre is None else mean + centre[rows])
        if group_size == 1:
            std = sizes[rows] * variance.sqrt()
        else:
            own, variance = mean, squares[rows] * variance
            mean, variance = (_over_groups(one, counts[rows], group_size) for one in (own, variance))
            std = (variance + _over_groups((own - mean).square_(), counts[rows], group_size)).sqrt_()
        flat = (std < min_std) | (std <= rounding * mean.abs())
        factors = (share[rows] / (std + eps)).masked_fill_(flat, 0)
        off = -mean if centre is None else r[rows] * centre[rows] - mean
        constant = torch.linalg.vecdot(factors, off).to(term.dtype)
        torch.bmm((factors * r[rows]).to(term.dtype)[:, None, :], entries, out=term[rows, None])
        term[rows] += constant[:, None]

    for rows, entries in _blocks(relevance, counts, tokens, group_size, copied=False):
        score(rows, entries, None)
    far = means.abs() > FAR * variances.sqrt()
    if far.any():
        centre = torch.where(far, means, 0).to(relevance.dtype).double()
        for rows, entries in _blocks(relevance, counts, tokens, group_size, copied=True):
            if far[rows].any():
                off = entries - centre[rows, :, None].to(entries.dtype)
                score(rows, off.masked_fill_(~tokens[rows, None, :], 0), centre)
    return term


def _over_groups(values: torch.Tensor, counts: torch.Tensor, group_size: int) -> torch.Tensor:
    """(B, K): the mean over each group's rows, each as often as its `counts` (B, K) say."""
    groups = (-1, group_size)
    total = counts.unflatten(0, groups).sum(dim=1).clamp(min=1)
    return ((counts * values).unflatten(0, groups).sum(dim=1) / total).repeat_interleave(group_size, dim=0)


def _shares_of_relevance(entries: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The softmax of relevance (B, K, T) over valid rubrics (B, K); NaN in a row without any."""
    if not valid.all():
        entries = entries.masked_fill(~valid[:, :, None], -torch.inf)
    return entries.softmax(dim=1)


def require_groups(n_rows: int, group_size: int) -> None:
    if group_size < 1 or n_rows % group_size:
        raise ValueError(f"{n_rows} rows are not a multiple of group_size {group_size}")


def require_at_least_zero(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name} must be at least 0, it is {number}")
