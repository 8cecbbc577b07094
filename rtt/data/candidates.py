"""The training prompts the start policy answers once, for the arms that learn offline."""

from __future__ import annotations

import pandas as pd

from rtt.config import Config, Policy
from rtt.errors import UserError


def sampled_prompts(policy: Policy) -> int:
    """How many groups, one prompt each, a grpo arm samples in all its steps."""
    batches = policy.total_steps // policy.num_iterations
    return batches * (policy.batch_size // policy.group_size)


def choose_candidates(prompts: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The prompts of the split train to sample from: ``offline.prompts`` of them, drawn with ``offline.seed``.

    Where ``offline.prompts`` is null, as many as a grpo arm samples, or the whole split if it has no more: a grpo arm
    comes back to its prompts, and an offline arm to its responses.

    Returns:
        Rows of rtt.tables.Prompts, sorted by prompt_id.

    Raises:
        UserError: no prompt has the split train, or it has fewer than ``offline.prompts``.
    """
    rows = prompts[prompts["split"] == "train"].sort_values("prompt_id", ignore_index=True)
    if rows.empty:
        raise UserError("no prompt has the split train", where="prompts", todo="check prompts.splits")
    wanted = config.offline.prompts
    if wanted is None:
        wanted = min(sampled_prompts(config.policy), len(rows))
    elif wanted > len(rows):
        raise UserError(
            f"{wanted} prompts of the split train are to be sampled, and there are {len(rows)}",
            where="offline.prompts",
            todo=f"lower it to {len(rows)} or less, raise prompts.count, or set null",
        )
    return rows.sample(n=wanted, random_state=config.offline.seed).sort_values("prompt_id", ignore_index=True)
