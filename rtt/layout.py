"""Where a study's products lie below its results folder: the one place that names them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rtt.config import BASE, Config

SCORES = "scores.parquet"
COSTS = "costs.jsonl"
"""What each step of a round took. A clock decides it, so nothing a result depends on reads it, and no rule or stage has
it as its output."""

DISCRIMINATOR_COSTS = "costs.json"
"""The seconds a discriminator's training took, beside its figures."""

VIEW = "view.html"
"""The token view of a round's rollouts."""


def discriminator(results: str, variant: str) -> str:
    """Folder of a discriminator."""
    return f"{results}/discriminators/{variant}/model"


def discriminator_metrics(results: str, variant: str) -> str:
    """JSON of a discriminator's figures."""
    return f"{results}/discriminators/{variant}/metrics.json"


def discriminator_log(results: str, variant: str) -> str:
    return f"{results}/logs/train_discriminator/{variant}.log"


def round_file(results: str, arm: str, seed: int | str, number: int | str, name: str) -> str:
    """A product of a round: ``checkpoint``, ``metrics.jsonl`` or ``rollouts.parquet``."""
    return f"{results}/policies/{arm}/seed_{seed}/round_{number}/{name}"


def round_log(results: str, arm: str, seed: int | str, number: int | str) -> str:
    return f"{results}/logs/train_round/{arm}_seed_{seed}_round_{number}.log"


def evaluation_file(results: str, arm: str, seed: int | str, number: int | str, benchmark: str, name: str) -> str:
    """A product of an evaluation of a round: ``scores.parquet`` or ``responses.parquet``."""
    return f"{results}/evaluations/{arm}/seed_{seed}/round_{number}/{benchmark}/{name}"


def evaluation_log(results: str, arm: str, seed: int | str, number: int | str, benchmark: str) -> str:
    return f"{results}/logs/evaluate/{arm}_seed_{seed}_round_{number}_{benchmark}.log"


def base_file(results: str, benchmark: str, name: str) -> str:
    """A product of an evaluation of the start policy: ``scores.parquet`` or ``responses.parquet``."""
    return f"{results}/evaluations/{BASE}/{benchmark}/{name}"


def base_log(results: str, benchmark: str) -> str:
    return f"{results}/logs/evaluate/{BASE}_{benchmark}.log"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation a complete study has.

    Attributes:
        arm: its name, or ``base``.
        seed: of the arm's run; 0 for the base.
        number: the round; 0 for the base.
        benchmark: what it is scored on.
        scores: path of the scores.
        logs: logs of the steps that lead to it, earliest first.
    """

    arm: str
    seed: int
    number: int
    benchmark: str
    scores: str
    logs: tuple[str, ...]


def evaluations(config: Config) -> Iterator[Evaluation]:
    """Base and last rounds on every benchmark, and every round where a curve is drawn."""
    results, benchmarks, last = config.results, config.evaluation.benchmarks, config.policy.rounds
    for name in benchmarks:
        yield Evaluation(BASE, 0, 0, name, base_file(results, name, SCORES), (base_log(results, name),))
    for arm, seed in config.runs():
        credit = config.arms[arm].credit
        learned = credit is not None and credit.relevance == "discriminator"
        before = (discriminator_log(results, credit.discriminator),) if credit is not None and learned else ()
        for number in range(1, last + 1):
            trained = tuple(round_log(results, arm, seed, earlier) for earlier in range(1, number + 1))
            for name, benchmark in benchmarks.items():
                if benchmark.each_round or number == last:
                    yield Evaluation(
                        arm,
                        seed,
                        number,
                        name,
                        evaluation_file(results, arm, seed, number, name, SCORES),
                        (*before, *trained, evaluation_log(results, arm, seed, number, name)),
                    )
