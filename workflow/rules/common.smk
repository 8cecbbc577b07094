"""Configuration and helpers the rules share."""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from rtt.config import parse_config, to_dict, write_config
from rtt.errors import UserError

try:
    SETTINGS = parse_config(config, " ".join(map(str, workflow.configfiles)) or "config")
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = SETTINGS.results
CONFIG = f"{RESULTS}/config.yaml"
TRACK = SETTINGS.tracking.uri or f"sqlite:///{RESULTS}/mlflow/mlflow.db"
SPLITS = ["validation", "heldout_topics", "heldout_kinds"]

# The resolved configuration every step reads. It is no rule's input: each rule names as a parameter the sections it
# depends on, so that a change reruns what it concerns and nothing else.
write_config(SETTINGS, Path(CONFIG))

# The steps call the `rtt` of the environment Snakemake runs in, also when that is not activated.
shell.prefix(f"export PATH='{os.path.dirname(sys.executable)}':\"$PATH\"; ")


wildcard_constraints:
    arm="|".join(SETTINGS.arms),
    seed=r"\d+",
    round=r"\d+",
    benchmark="|".join(SETTINGS.evaluation.benchmarks),
    source="|".join(["no_benchmark", *SETTINGS.sources.benchmarks]),


def section(*names):
    """Sections of the configuration as a rule's parameter, so that a change of them reruns the rule."""
    whole = to_dict(SETTINGS)
    return {name: whole[name] for name in names}


def is_learned(arm):
    """Whether an arm takes its relevance from the discriminator."""
    credit = SETTINGS.arms[arm].credit
    return credit is not None and credit.relevance == "discriminator"


def all_scores(wildcards=None):
    """Evaluations of the table: base and last round on everything, every round where a curve is drawn."""
    benchmarks = SETTINGS.evaluation.benchmarks
    paths = [f"{RESULTS}/evaluations/base/{name}/scores.parquet" for name in benchmarks]
    for arm in SETTINGS.arms:
        for seed in SETTINGS.seeds:
            for number in range(1, SETTINGS.policy.rounds + 1):
                paths += [
                    f"{RESULTS}/evaluations/{arm}/seed_{seed}/round_{number}/{name}/scores.parquet"
                    for name, benchmark in benchmarks.items()
                    if benchmark.each_round or number == SETTINGS.policy.rounds
                ]
    return paths


def round_before(wildcards):
    """The checkpoint a round starts from; the first starts from the policy itself."""
    if int(wildcards.round) == 1:
        return []
    folder = f"{RESULTS}/policies/{wildcards.arm}/seed_{wildcards.seed}"
    return f"{folder}/round_{int(wildcards.round) - 1}/checkpoint"


def discriminator_of(wildcards):
    """The discriminator, for an arm that takes its relevance from it."""
    return rules.train_discriminator.output.discriminator if is_learned(wildcards.arm) else []


def benchmark_prompts(wildcards):
    """The table a benchmark's prompts stand in."""
    if wildcards.benchmark in SPLITS:
        return rules.make_prompts.output.prompts
    return f"{RESULTS}/data/benchmarks/{wildcards.benchmark}.parquet"


def evaluation_settings(wildcards):
    """What an evaluation on one benchmark depends on."""
    whole = section("evaluation")["evaluation"]
    return {**whole, "benchmarks": whole["benchmarks"][wildcards.benchmark]}


def left_out():
    """Lists of the benchmark prompts that are not scored."""
    names = [name for name in SETTINGS.evaluation.benchmarks if name in SETTINGS.sources.benchmarks]
    return [f"{RESULTS}/data/benchmarks/{name}.left_out.json" for name in names]
