"""A round whose responses are given, not sampled: run by `accelerate launch`, in as many processes as one likes.

Writes what each optimiser step made of them, and the weights at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import MethodType

import torch

from rtt import processes
from rtt.config import Config, load_config
from rtt.judging.routing import open_judge
from rtt.judging.rules import use_nltk_data
from rtt.policy import rounds
from rtt.policy.rollouts import MetricLog, RolloutLog
from rtt.tracking import NoRun


def answer(step: int, row: int) -> list[int]:
    """Token ids of the response in a row of the whole batch: as long and as varied as rows and steps make it."""
    length = 3 + (5 * row + step) % 9
    return [300 + (7 * row + 13 * t + 29 * step) % 90 for t in range(length)] + ([2] if row % 3 else [])


def main(config_file: str, prompts: str, policy: str, nltk: str, output: str, *arms: str) -> None:
    config = load_config(Path(config_file))
    use_nltk_data(Path(nltk))
    processes.join()
    torch.set_num_threads(1)
    for arm in arms:
        train(config, arm, rounds.Inputs(Path(prompts), Path(policy)), Path(output) / arm)


def train(config: Config, arm: str, inputs: rounds.Inputs, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    first = processes.rank()
    logs = [MetricLog(output / f"{name}_{first}.jsonl", 0) for name in ("metrics", "costs")]
    judge = open_judge(config)
    pace = rounds._Pace(config.policy.total_steps, 10**6, *logs, NoRun(), judge)
    trainer = rounds._make_trainer(
        config,
        config.arms[arm],
        7,
        inputs,
        output,
        pace,
        RolloutLog(output / "rollouts"),
        judge,
    )

    def given(self, prompt_ids, *_, **__):
        start = self.accelerator.process_index * len(prompt_ids)
        return [answer(self.state.global_step, start + row) for row in range(len(prompt_ids))], None

    trainer._generate_single_turn = MethodType(given, trainer)
    trainer.train()
    processes.wait()
    if processes.is_first():
        model = trainer.accelerator.unwrap_model(trainer.model)
        weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        torch.save(weights, output / "weights.pt")
        RolloutLog(output / "rollouts").join(0, 10**6).to_parquet(output / "rollouts.parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
