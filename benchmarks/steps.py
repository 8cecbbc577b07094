"""What a training step costs: plain GRPO as TRL does it, with passes shared by a prompt's responses, and RTT.

The three take turns, so that whatever else the machine does hits all of them. `one_pass_each` is TRL's own sampling and
loss. What is ours in a step is timed by part. Needs the products of `make run`:

    .venv/bin/python benchmarks/steps.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

from measure import keep, options, spread

from rtt.config import Config, load_config
from rtt.judging.rules import use_nltk_data
from rtt.layout import COSTS
from rtt.policy import trainer
from rtt.policy.rollouts import read_metrics
from rtt.policy.rounds import Inputs, run_round
from rtt.policy.sampling import draw
from rtt.tracking import NoRun

VARIANTS = {"one_pass_each": ("rl_csr", False), "shared": ("rl_csr", True), "shared_rtt": ("rtt_csr", True)}
"""Name → arm, and whether responses to one prompt share the passes over it."""


PARTS = {
    "relevance": (trainer, "measure"),
    "verdicts": (trainer.RubricReward, "__call__"),
    "advantages": (trainer, "assign"),
    "logging": (trainer.RTTGRPOTrainer, "_note"),
    "rollouts kept": (trainer.RolloutLog, "add"),
    "token spans": (trainer, "token_spans"),
}
"""Name → where the function that does it is kept."""


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """Seconds spent in each of `PARTS` so far."""
    spent = dict.fromkeys(PARTS, 0.0)
    before = {part: getattr(owner, name) for part, (owner, name) in PARTS.items()}

    def clocked(part: str) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return before[part](*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - started

        return run

    for part, (owner, name) in PARTS.items():
        setattr(owner, name, clocked(part))
    try:
        yield spent
    finally:
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, before[part])


def steps(config: Config, inputs: Inputs, variant: str, count: int) -> list[dict[str, Any]]:
    """Figures and costs of the first steps of a run; the parts are a mean over them."""
    arm, share = VARIANTS[variant]
    changes = {"rounds": 1, "steps_per_round": count, "checkpoint_every": count, "diagnostics_every": 0}
    policy = config.policy.model_copy(update={**changes, "share_prompts": share})
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "round_1"
        changed = config.model_copy(update={"policy": policy})
        with clocks() as spent:
            run_round(changed, arm_name=arm, seed=0, round_number=1, inputs=inputs, output=output, run=NoRun())
        both = zip(read_metrics(output / "metrics.jsonl"), read_metrics(output / COSTS), strict=True)
        own = {part: seconds / count for part, seconds in spent.items()}
        return [{**figures, **costs, "parts": own} for figures, costs in both]


def main() -> None:
    parser = options(__doc__, __file__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="in place of the configuration's linear_precision"
    )
    parser.add_argument("--turns", type=int, default=5, help="how often each variant has its turn")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn; the first, which warms up, is not counted")
    asked = parser.parse_args()
    trainer.draw_quickly = draw  # slower, but all variants start with the same responses
    config = load_config(asked.config)
    if asked.precision:
        config = config.model_copy(update={"linear_precision": asked.precision})
    results = Path(config.results)
    use_nltk_data(results / "models" / "nltk")
    inputs = Inputs(
        prompts=results / "data" / "prompts.parquet",
        policy=results / "models" / "policy",
        discriminator=results / "discriminators" / "full" / "model",
    )
    first: dict[str, dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    parts: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for turn in range(asked.turns):
        for variant in VARIANTS:
            lines = steps(config, inputs, variant, asked.steps)
            first.setdefault(variant, lines[0])
            seconds[variant] += [line["seconds"] for line in lines[1:]]
            parts[variant].append(lines[0]["parts"])
            print(f"turn {turn + 1}: {variant} {median(seconds[variant]):.2f} s a step")

    def ratios(one: str, other: str) -> dict[str, float]:
        """Step by step: the same step of the same turn."""
        return spread([a / b for a, b in zip(seconds[one], seconds[other], strict=True)])

    result = {
        "threads": config.policy.threads,
        "linear_precision": config.linear_precision,
        "seconds_per_step": {variant: spread(values) for variant, values in seconds.items()},
        "shared / one_pass_each": ratios("shared", "one_pass_each"),
        "shared_rtt / shared": ratios("shared_rtt", "shared"),
        "milliseconds a step": {
            variant: {part: spread(1000 * turn[part] for turn in parts[variant]) for part in PARTS}
            for variant in ("shared", "shared_rtt")
        },
        "first step": {
            variant: {figure: line[figure] for figure in ("loss", "grad_norm", "reward")}
            for variant, line in first.items()
        },
        "samples": len(seconds["shared"]),
    }
    keep(result, asked.output)


if __name__ == "__main__":
    main()
