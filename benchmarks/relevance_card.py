"""Relevance on a graphics card: one batch's pairs, by how many tokens are read at once and in which precision, against
the released way, every pair padded to the longest and one by one.

Random weights of the sizes of `cost.py`, six layers of them; random answers of 128 tokens to training prompts, with the
prompts' own rubrics. Needs the tokenizer and the prompts of `make run`:

    python benchmarks/relevance_card.py --device cuda
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from cost import SIZES
from measure import in_turn, keep, options, ratios, spread
from released import difference, released
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from rtt.relevance.discriminator import BATCH_TOKENS, BATCH_TOKENS_ON_A_CARD, Discriminator
from rtt.relevance.networks import NETWORKS
from rtt.rubrics import parse_rubrics
from rtt.tables import Prompts, read_table

LAYERS, ANSWER = 6, 128


def pairs_of(results: Path, tokenizer: Any, count: int, group: int) -> list[tuple[str, str]]:
    """Criteria and answers, `group` to each of `count` prompts."""
    prompts = read_table(results / "data" / "prompts.parquet", Prompts)
    rubrics = prompts[prompts["split"] == "train"].head(count)["rubrics"].map(parse_rubrics)
    draw = np.random.default_rng(0)
    size = len(tokenizer)
    return [
        (rubric.text, answer)
        for own in rubrics
        for answer in [tokenizer.decode(draw.integers(size // 8, size, ANSWER).tolist()) for _ in range(group)]
        for rubric in own
    ]


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sizes", nargs="+", default=["600m", "4b"], choices=SIZES)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.results / "models" / "policy")
    pairs = pairs_of(asked.results, tokenizer, asked.prompts, asked.group)
    result = {}
    for size in asked.sizes:
        _, hidden, inner, heads = SIZES[size]
        torch.manual_seed(0)
        body = LlamaModel(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=hidden,
                intermediate_size=inner,
                num_hidden_layers=LAYERS,
                num_attention_heads=heads,
                head_dim=hidden // heads,
                max_position_embeddings=4096,
            )
        )
        for reading in NETWORKS:
            discriminator = Discriminator(body, tokenizer, bidirectional=True, max_length=1024, reading=reading)
            discriminator.network.to(asked.device).requires_grad_(False)
            encoded = discriminator.encode(pairs)
            ways: dict[str, Callable[[], list[np.ndarray]]] = {}
            for precision, plain in (("single precision", True), ("as trained", False)):
                ways[f"{precision}, released"] = partial(computed, discriminator, plain, released, encoded)
                for tokens in (BATCH_TOKENS, BATCH_TOKENS_ON_A_CARD):
                    ways[f"{precision}, {tokens} tokens"] = partial(
                        computed, discriminator, plain, Discriminator.token_relevance, encoded, tokens
                    )
            seconds = in_turn(ways, asked.turns)
            most = BATCH_TOKENS_ON_A_CARD
            result[f"{size}, {reading}"] = {
                "seconds": {way: spread(times) for way, times in seconds.items()},
                "against the released way": {
                    precision: {
                        "pairs a second": ratios(
                            seconds[f"{precision}, released"], seconds[f"{precision}, {most} tokens"]
                        ),
                        "largest difference of scores": difference(
                            ways[f"{precision}, released"](), ways[f"{precision}, {most} tokens"]()
                        ),
                    }
                    for precision in ("single precision", "as trained")
                },
            }
    keep({"pairs": len(pairs), "layers": LAYERS, **result}, asked.output)


def computed(discriminator: Discriminator, plain: bool, compute: Callable[..., Any], *given: Any) -> list[np.ndarray]:
    """Relevance by one of the ways; `plain` is in single precision throughout."""
    vars(discriminator).pop("precision", None)
    if plain:
        discriminator.precision = nullcontext
    return compute(discriminator, *given)


if __name__ == "__main__":
    main()
