"""Configuration and helpers the rules share."""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from rtt import layout, preloaded
from rtt.config import parse_config, to_dict, write_config
from rtt.errors import UserError
from rtt.launch import read_settings
from rtt.report.outputs import report_outputs
from rtt.workflow import settle_future, settle_pulled

try:
    SETTINGS = parse_config(config, " ".join(map(str, workflow.configfiles)) or "config")
    LAUNCHER = {} if SETTINGS.policy.accelerate is None else read_settings(Path(SETTINGS.policy.accelerate))
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = SETTINGS.results
CONFIG = f"{RESULTS}/config.yaml"
TRACK = SETTINGS.tracking.uri or f"sqlite:///{RESULTS}/mlflow/mlflow.db"
SPLITS = ["validation", "heldout_topics", "heldout_kinds"]

# The resolved configuration every step reads. It is no rule's input: each rule names as a parameter the sections it
# depends on, so that a change reruns what it concerns and nothing else.
write_config(SETTINGS, Path(CONFIG))

# Products that DVC brought, or that were made before the clock was set back, are taken as they are.
if workflow.is_main_process:
    settle_pulled(Path(RESULTS), Path.cwd())
    settle_future(Path(RESULTS))

# The steps call the `rtt` of the environment Snakemake runs in, also when that is not activated.
shell.prefix(f"export PATH='{os.path.dirname(sys.executable)}':\"$PATH\"; ")


OFFLINE = [name for name, arm in SETTINGS.arms.items() if arm.method != "grpo"]
ONLINE = [name for name in SETTINGS.arms if name not in OFFLINE]


def one_of(names):
    """A pattern that matches these names, or nothing when there are none."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    arm=one_of(SETTINGS.arms),
    seed=r"\d+",
    round=r"\d+",
    benchmark=one_of(SETTINGS.evaluation.benchmarks),
    source=one_of(SETTINGS.sources.benchmarks),
    variant=one_of(SETTINGS.discriminators()),


def section(*names):
    """Sections of the configuration as a rule's parameter, so that a change of them reruns the rule."""
    whole = to_dict(SETTINGS)
    return {name: whole[name] for name in names}


def arm_settings(wildcards):
    """What a round depends on: its arm, without the seeds, and the policy's settings."""
    arm = {key: value for key, value in section("arms")["arms"][wildcards.arm].items() if key != "seeds"}
    offline = section("offline") if wildcards.arm in OFFLINE else {}
    launcher = {"accelerate": LAUNCHER} if LAUNCHER else {}
    return {**section("policy", "judge", "linear_precision"), **offline, **launcher, "arm": arm}


def all_scores(wildcards=None):
    """Every evaluation of a complete study."""
    return [evaluation.scores for evaluation in layout.evaluations(SETTINGS)]


def round_before(wildcards):
    """The checkpoint a round starts from; the first starts from the policy itself."""
    if int(wildcards.round) == 1:
        return []
    return layout.round_file(RESULTS, wildcards.arm, wildcards.seed, int(wildcards.round) - 1, "checkpoint")


def discriminator_of(wildcards):
    """The discriminator, for an arm that takes its relevance from it."""
    credit = SETTINGS.arms[wildcards.arm].credit
    learned = credit is not None and credit.relevance == "discriminator"
    return layout.discriminator(RESULTS, credit.discriminator) if learned else []


def in_report(path):
    """A product of the report step, marked for `snakemake --report` where people look at it there."""
    place = f"{RESULTS}/{path}"
    folder, _, name = path.partition("/")
    stem, _, suffix = name.partition(".")
    if (folder, suffix) not in [("figures", "svg"), ("tables", "csv"), ("report", "html")]:
        return place
    return report(
        place,
        category=folder.capitalize(),
        labels={"name": stem.replace("_", " ")},
        caption=f"../report/{folder}.rst",
    )


def option(flag, value):
    """A command line's option, or nothing when it has no value."""
    return f"--{flag} {value}" if value else ""


def benchmark_prompts(wildcards):
    """The table a benchmark's prompts stand in."""
    if wildcards.benchmark in SPLITS:
        return rules.make_prompts.output.prompts
    return f"{RESULTS}/data/benchmarks/{wildcards.benchmark}.parquet"


def benchmark_tables():
    """The benchmarks' tables of prompts."""
    return [f"{RESULTS}/data/benchmarks/{name}.parquet" for name in SETTINGS.sources.benchmarks]


def evaluator_of(wildcards):
    """The folder of a benchmark's own evaluator, where there is one."""
    known = wildcards.benchmark in SETTINGS.sources.evaluators
    return f"{RESULTS}/data/evaluators/{wildcards.benchmark}" if known else []


def evaluation_settings(wildcards):
    """What an evaluation on one benchmark depends on."""
    whole = section("evaluation")["evaluation"]
    return {**whole, **section("judge", "linear_precision"), "benchmarks": whole["benchmarks"][wildcards.benchmark]}


def left_out():
    """Lists of the benchmark prompts that are not scored."""
    names = [name for name in SETTINGS.evaluation.benchmarks if name in SETTINGS.sources.benchmarks]
    return [f"{RESULTS}/data/benchmarks/{name}.left_out.json" for name in names]


def discriminator_metrics():
    """Figures of every discriminator some arm learns from."""
    return [layout.discriminator_metrics(RESULTS, name) for name in SETTINGS.discriminators()]
