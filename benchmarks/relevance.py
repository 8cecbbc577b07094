"""Pairs a second of a discriminator, against the released way: every pair padded to the batch's longest, one by one.

Both have the same weights and give the same scores. The batch is a training step's: groups of responses to prompts,
each with all rubrics of its prompt. Responses are those labelled by `make run`, and, as longer ones, several joined.
Discriminators that share what pairs have in common are also measured against reading each pair by itself, with no
padding at all.

    .venv/bin/python benchmarks/relevance.py
"""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from measure import in_turn, keep, options, ratios, spread

from rtt.config import load_config
from rtt.relevance.discriminator import Discriminator
from rtt.tables import Labels, read_table

Pairs = list[tuple[str, str]]


def workloads(folder: Path, prompts: int, group: int, rubrics: int) -> dict[str, Pairs]:
    """Groups of responses with their prompt's criteria: as sampled, and joined to lengths that differ much."""
    rows = read_table(folder, Labels)
    rows = rows[rows["split"] == "unseen_topics"]
    draw = random.Random(0)
    texts, criteria = sorted(set(rows["response"])), sorted(set(rows["criterion"]))
    asked = [draw.sample(criteria, rubrics) for _ in range(prompts)]

    def joined() -> str:
        return "\n".join(draw.choices(texts, k=min(16, 1 + round(draw.lognormvariate(1, 0.8)))))

    return {
        name: [(criterion, text) for chosen in asked for text in [make() for _ in range(group)] for criterion in chosen]
        for name, make in (("as sampled", lambda: draw.choice(texts)), ("several joined", joined))
    }


@torch.no_grad()
def released(discriminator: Discriminator, pairs: Pairs) -> list[np.ndarray]:
    """Relevance of each response token, a pair at a time, padded to the longest."""
    encoded = discriminator.encode(pairs)
    longest = max(len(pair.ids) for pair in encoded)
    network, found = discriminator.network, []
    for pair in encoded:
        blank = [0] * (longest - len(pair.ids))
        ids = torch.tensor([pair.ids + [network.pad] * len(blank)])
        shared = torch.tensor([pair.shared + blank])[..., None] * network.mark
        hidden = network.body(
            inputs_embeds=network.body.get_input_embeddings()(ids) + shared,
            attention_mask=torch.tensor([[1] * len(pair.ids) + blank]),
        ).last_hidden_state
        found.append(torch.sigmoid(network.head(hidden)[0, pair.first : pair.last, 0]).numpy())
    return found


@torch.no_grad()
def by_itself(discriminator: Discriminator, pairs: Pairs) -> list[np.ndarray]:
    """Relevance of each response token, a pair at a time."""
    return [torch.sigmoid(discriminator.network([pair])[0]).numpy() for pair in discriminator.encode(pairs)]


def ours(discriminator: Discriminator, pairs: Pairs) -> list[np.ndarray]:
    return discriminator.token_relevance(discriminator.encode(pairs))


def difference(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(float(np.abs(one - other).max(initial=0)) for one, other in zip(ones, others, strict=True))


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8, help="responses to a prompt")
    parser.add_argument("--rubrics", type=int, default=6, help="of a prompt")
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    config = load_config(asked.config)
    torch.set_num_threads(config.policy.threads)
    torch.manual_seed(0)
    pair, after, apart = (
        Discriminator.from_backbone(
            asked.results / "models" / "policy",
            layers=config.discriminator.layers,
            bidirectional=config.discriminator.bidirectional,
            max_length=config.discriminator.max_length,
            reading=reading,
        )
        for reading in ("pair", "after", "apart")
    )
    result = {}
    given = workloads(asked.results / "labels" / "labels.parquet", asked.prompts, asked.group, asked.rubrics)
    for name, pairs in given.items():
        ways = {
            "pair, released": partial(released, pair, pairs),
            "pair": partial(ours, pair, pairs),
            "after, each pair by itself": partial(by_itself, after, pairs),
            "after": partial(ours, after, pairs),
            "apart, each pair by itself": partial(by_itself, apart, pairs),
            "apart": partial(ours, apart, pairs),
        }
        seconds = in_turn(ways, asked.turns)
        result[name] = {
            "pairs": len(pairs),
            "tokens a pair": spread(len(one.ids) for one in pair.encode(pairs)),
            "pairs a second": {way: spread(len(pairs) / value for value in values) for way, values in seconds.items()},
            **{
                f"{way} / {plain}": {
                    "pairs a second": ratios(seconds[plain], seconds[way]),
                    "largest difference of scores": difference(ways[plain](), ways[way]()),
                }
                for way, plain in (
                    ("pair", "pair, released"),
                    ("after", "after, each pair by itself"),
                    ("apart", "apart, each pair by itself"),
                )
            },
            **{
                f"{way} / pair, released": {"pairs a second": ratios(seconds["pair, released"], seconds[way])}
                for way in ("after", "apart")
            },
        }
    keep({"layers": config.discriminator.layers, "threads": torch.get_num_threads(), **result}, asked.output)


if __name__ == "__main__":
    main()
