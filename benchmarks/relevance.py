"""Pairs a second of a discriminator, against the released way: every pair padded to the batch's longest, one by one.

Both have the same weights and give the same scores, whatever the reading, up to what linear layers round
by the configuration. The batch is a training step's: groups of responses to prompts, each with all rubrics of its
prompt. Responses are those labelled by `make run`, and, as longer ones, several joined.

    .venv/bin/python benchmarks/relevance.py
    .venv/bin/python benchmarks/relevance.py --precision float32 --output benchmarks/results/relevance_float32.json
"""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from measure import in_turn, keep, options, ratios, spread
from released import difference, released

from rtt.config import load_config
from rtt.precision import compute_with, keep_rounded
from rtt.relevance.discriminator import Discriminator
from rtt.relevance.networks import NETWORKS
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


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8, help="responses to a prompt")
    parser.add_argument("--rubrics", type=int, default=6, help="of a prompt")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="of linear layers, not the configuration's"
    )
    asked = parser.parse_args()
    config = load_config(asked.config)
    compute_with(config.policy.threads, asked.precision or config.linear_precision)
    torch.manual_seed(0)
    discriminators = {
        reading: Discriminator.from_backbone(
            asked.results / "models" / "policy",
            layers=config.discriminator.layers,
            bidirectional=config.discriminator.bidirectional,
            max_length=config.discriminator.max_length,
            reading=reading,
        )
        for reading in NETWORKS
    }
    for discriminator in discriminators.values():
        discriminator.network.requires_grad_(False)
        keep_rounded(discriminator.network)  # as `Discriminator.load` does
    result = {}
    given = workloads(asked.results / "labels" / "labels.parquet", asked.prompts, asked.group, asked.rubrics)
    for name, pairs in given.items():
        ways = {}
        encoded = discriminators["pair"].encode(pairs)
        for reading, discriminator in discriminators.items():
            ways[f"{reading}, released"] = partial(released, discriminator, encoded)
            ways[reading] = partial(discriminator.token_relevance, encoded)
        seconds = in_turn(ways, asked.turns)
        result[name] = {
            "pairs": len(pairs),
            "tokens a pair": spread(len(one.ids) for one in encoded),
            "pairs a second": {way: spread(len(pairs) / value for value in values) for way, values in seconds.items()},
            "against the released way": {
                reading: {
                    "pairs a second": ratios(seconds[f"{reading}, released"], seconds[reading]),
                    "largest difference of scores": difference(ways[f"{reading}, released"](), ways[reading]()),
                }
                for reading in discriminators
            },
            "against pair, released": {
                reading: {"pairs a second": ratios(seconds["pair, released"], seconds[reading])}
                for reading in discriminators
                if reading != "pair"
            },
        }
    keep(
        {
            "layers": config.discriminator.layers,
            "linear_precision": asked.precision or config.linear_precision,
            "threads": torch.get_num_threads(),
            **result,
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
