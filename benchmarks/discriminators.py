"""Quality against cost of discriminators: how many layers, which way they see, and what they read at once.

Trains each on the labels of `make run`, measures AUPRC on topics and kinds it has not seen, and the milliseconds that
relevance of a response to all its rubrics takes, in a batch as a training step has it: all responses to some prompts,
with all their rubrics. One more reads nothing: its head learns from what the policy itself makes of the response on the
way to the loss, and so costs the head and the criteria alone.

    .venv/bin/python benchmarks/discriminators.py
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import pandas as pd
import torch
from matplotlib.figure import Figure
from measure import in_turn, keep, options, spread
from transformers import PreTrainedModel

from rtt.config import load_config
from rtt.precision import compute_with
from rtt.relevance.discriminator import Discriminator
from rtt.relevance.networks import NETWORKS, Apart, Encoded
from rtt.relevance.quality import evaluate_discriminator
from rtt.relevance.training import train_discriminator
from rtt.report.drawing import save, style
from rtt.tables import Labels, read_table

VARIANTS: dict[str, dict[str, Any]] = {
    f"{reading}, {layers} layers{'' if bidirectional else ', causal'}": {
        "reading": reading,
        "layers": layers,
        "bidirectional": bidirectional,
    }
    for reading, layers, bidirectional in (
        ("pair", 2, True),
        ("pair", 4, True),
        ("pair", 6, True),
        ("pair", 6, False),
        ("after", 4, True),
        ("after", 6, True),
        ("apart", 2, True),
        ("apart", 4, True),
        ("apart", 6, True),
        ("apart", 6, False),
    )
}
POLICY = "the policy's states, 15 layers"
VARIANTS[POLICY] = {"reading": "apart", "layers": 15, "bidirectional": False}
SETS = ("unseen_topics", "unseen_kinds")


class OfPolicy(Apart):
    """Leaves the body as it is, as the policy's own states are; a response is read once and known from then on."""

    def __init__(self, body: PreTrainedModel, hidden_size: int, pad: int) -> None:
        super().__init__(body, hidden_size, pad)
        self.known: dict[str, torch.Tensor] | None = None  # by what was read; None while the network learns

    def read(self, rows: Sequence[list[int]], marked: torch.Tensor | None = None) -> torch.Tensor:
        with torch.no_grad():
            if self.known is None:
                return super().read(rows, marked)
            if str(rows) not in self.known:
                self.known[str(rows)] = super().read(rows, marked)
            return self.known[str(rows)]

    def asked(self, batch: Sequence[Encoded]) -> Any:
        known, self.known = self.known, None  # criteria are read anew
        try:
            return super().asked(batch)
        finally:
            self.known = known


@contextmanager
def network_of(variant: str) -> Iterator[None]:
    before = NETWORKS["apart"]
    NETWORKS["apart"] = OfPolicy if variant == POLICY else before
    try:
        yield
    finally:
        NETWORKS["apart"] = before


def quality(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {figure: metrics["sets"][name][figure] for figure in ("auprc", "auprc_low", "auprc_high", "pairs")}
        for name in SETS
    }


def step_pairs(labels: pd.DataFrame, responses: int) -> list[tuple[str, str]]:
    """All pairs of so many responses to prompts of unseen topics."""
    rows = labels[labels["split"] == "unseen_topics"]
    chosen = rows["response_id"].drop_duplicates().head(responses)
    rows = rows[rows["response_id"].isin(chosen)]
    return list(zip(rows["criterion"], rows["response"], strict=True))


def draw(found: dict[str, dict[str, Any]], stem: Path) -> None:
    with style():
        figure = Figure(figsize=(7.5, 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), SETS, strict=True):
            for group, colour in (("pair", "C0"), ("after", "C3"), ("apart", "C1"), (POLICY, "C2")):
                own = {
                    variant: row
                    for variant, row in found.items()
                    if variant.startswith(group) and row[name]["auprc"] is not None
                }
                for variant, row in own.items():
                    value, low, high = (row[name][key] for key in ("auprc", "auprc_low", "auprc_high"))
                    seeing = row["settings"]["bidirectional"]
                    axes.errorbar(
                        row["milliseconds a response"]["median"],
                        value,
                        yerr=[[value - low], [high - value]],
                        marker="o" if seeing else "s",
                        markerfacecolor=colour if seeing else "white",
                        color=colour,
                        label=group.split(",")[0] if variant == next(iter(own)) else None,
                    )
                    axes.annotate(
                        str(row["settings"]["layers"]),
                        (row["milliseconds a response"]["median"], value),
                        xytext=(4, 4),
                        textcoords="offset points",
                        fontsize="small",
                    )
            axes.set(title=name.replace("_", " "), xlabel="milliseconds a response", xlim=(0, None))
        figure.axes[0].set_ylabel("AUPRC")
        figure.axes[0].legend(title="reading (number: layers,\nempty: causal)", loc="lower right")
        save(figure, stem)


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--epochs", type=int, help="default: as configured")
    parser.add_argument("--responses", type=int, default=16, help="in a batch whose relevance is timed")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--models", type=Path, help="keep what is trained here, and use what is there")
    parser.add_argument("--figure", type=Path, default=Path("docs/images/discriminators"), help="without suffix")
    asked = parser.parse_args()
    config = load_config(asked.config)
    labels = read_table(asked.results / "labels" / "labels.parquet", Labels)
    backbone = asked.results / "models" / "policy"
    compute_with(config.discriminator.threads, config.linear_precision)
    found: dict[str, dict[str, Any]] = {}
    trained: dict[str, Discriminator] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, variant in enumerate(asked.variants):
            settings = config.discriminator.model_copy(
                update=VARIANTS[variant] | ({"epochs": asked.epochs} if asked.epochs else {})
            )
            folder = (asked.models or Path(scratch)) / variant.replace(", ", "_").replace(" ", "_")
            kept = folder / "benchmark.json"
            with network_of(variant):
                if kept.exists():
                    found[variant] = json.loads(kept.read_text())
                else:
                    metrics = train_discriminator(labels, backbone, settings, folder)
                    found[variant] = {
                        "settings": VARIANTS[variant],
                        **quality(evaluate_discriminator(Discriminator.load(folder), labels)),
                        "seconds to train": metrics["train_seconds"],
                    }
                    kept.write_text(json.dumps(found[variant]))
                trained[variant] = Discriminator.load(folder)
            print(f"{number + 1} of {len(asked.variants)}: {variant} {found[variant]}", flush=True)
    if POLICY in trained:
        trained[POLICY].network.known = {}
    compute_with(config.policy.threads, config.linear_precision)
    pairs = step_pairs(labels, asked.responses)
    jobs = {variant: lambda one=one: one.relevance(pairs) for variant, one in trained.items()}
    for variant, seconds in in_turn(jobs, asked.turns).items():
        found[variant]["milliseconds a response"] = spread(1000 * value / asked.responses for value in seconds)
    draw(found, asked.figure)
    keep(
        {
            "variants": found,
            "responses": asked.responses,
            "pairs": len(pairs),
            "epochs": asked.epochs or config.discriminator.epochs,
            "linear_precision": config.linear_precision,
            "threads to train, to measure": [config.discriminator.threads, config.policy.threads],
        },
        asked.output,
    )


if __name__ == "__main__":
    main()
