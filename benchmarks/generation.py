"""Tokens a second of an evaluation, against one `generate` call a prompt, in turn in one run.

.venv/bin/python benchmarks/generation.py --policy results/models/policy --prompts results/data/prompts.parquet
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from measure import keep, options, spread

from rtt.config import Generation, Protocol
from rtt.evaluation.generation import generate, open_policy
from rtt.evaluation.local import Continuous
from rtt.evaluation.scoring import subset
from rtt.evaluation.templates import render
from rtt.judging.verdicts import conversations_of
from rtt.tables import Prompts, read_table


def one_by_one(model, tokenizer, conversations, tokens: int) -> list[str]:
    """What a script of one's own does: one greedy call a prompt."""
    answers = []
    for turns in conversations:
        asked = tokenizer(render(tokenizer, turns), return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            whole = model.generate(**asked, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers.append(tokenizer.decode(whole[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--policy", type=Path, default=Path("results/models/policy"))
    parser.add_argument("--prompts", type=Path, default=Path("results/data/prompts.parquet"))
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model, tokenizer = open_policy(asked.policy, None)
    chosen = subset(read_table(asked.prompts, Prompts), asked.count, 0)
    conversations = list(conversations_of(chosen).values())
    settings = Generation(max_tokens=asked.tokens, temperature=0, batch_size=asked.batch_size)
    continuous = Continuous(asked.policy, None, Protocol(max_tokens=asked.tokens), 0)
    speeds: dict[str, list[float]] = {"one by one": [], "in batches": [], "continuous": []}
    for _ in range(asked.turns):
        started = time.perf_counter()
        plain = one_by_one(model, tokenizer, conversations, asked.tokens)
        between = time.perf_counter()
        batched = generate(model, tokenizer, conversations, settings, seed=0)
        ended = time.perf_counter()
        continuous.answer(conversations, "")
        last = time.perf_counter()
        # Both count the same tokens, so that the ratio is one of time alone; answers equal up to rounding in batches.
        tokens = sum(one.tokens for one in batched)
        speeds["one by one"].append(tokens / (between - started))
        speeds["in batches"].append(tokens / (ended - between))
        speeds["continuous"].append(tokens / (last - ended))
    equal = sum(a == b.text for a, b in zip(plain, batched, strict=True))
    result = {
        "tokens a second": {name: spread(found) for name, found in speeds.items()},
        "ratio to one by one": {
            name: median(b / a for a, b in zip(speeds["one by one"], speeds[name], strict=True))
            for name in ("in batches", "continuous")
        },
        "answers equal": f"{equal} of {len(plain)}",
        "prompts": asked.count,
        "tokens": asked.tokens,
        "batch size": asked.batch_size,
        "turns": asked.turns,
        "torch threads": torch.get_num_threads(),
    }
    keep(result, asked.output)


if __name__ == "__main__":
    main()
