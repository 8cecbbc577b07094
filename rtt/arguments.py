"""The command line of `rtt`: one subcommand per step of the workflow, each of which also works by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rtt import __version__, steps

Handler = Callable[[argparse.Namespace], None]


class _Step(Protocol):
    """Adds a subcommand whose help opens with its purpose and a command to paste."""

    def __call__(
        self, name: str, handler: Handler, purpose: str, example: str, config: bool = True
    ) -> argparse.ArgumentParser: ...


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; what it parses has `handler`, the function to call."""
    parser = argparse.ArgumentParser(
        prog="rtt",
        description="Rubrics to Tokens: each subcommand is one step of the workflow. `make run` chains them all.",
    )
    parser.add_argument("--version", action="version", version=f"rtt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="STEP")

    def step(name: str, handler: Handler, purpose: str, example: str, config: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose}\n\n  rtt {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(handler=handler)
        if config:
            _path_argument(sub, "config", "configuration (config/README.md)")
        return sub

    for add in (_add_data_steps, _add_label_steps, _add_policy_steps, _add_report_steps):
        add(step)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses a command line; `rtt evaluate score` is a step of its own."""
    if list(argv[:2]) == ["evaluate", "score"]:
        argv = argv[1:]
    return make_parser().parse_args(argv)


def _add_data_steps(step: _Step) -> None:
    """What is fetched, made and read."""
    sub = step(
        "fetch",
        steps.fetch,
        "Fetch a source and check its sha256.",
        "policy --config config/config.yaml --output results/models/policy",
    )
    sub.add_argument("name", help="policy, nltk or a benchmark's name")
    sub.add_argument("--evaluator", action="store_true", help="the benchmark's own evaluator, not its prompts")
    _path_argument(sub, "output", "file or folder to write")

    sub = step(
        "prompts",
        steps.prompts,
        "Make the prompts with rubrics, or read your own.",
        "--config config/config.yaml --output results/data/prompts.parquet",
    )
    _path_argument(sub, "input", "your own prompts, or HIR-16K (docs/data.md); made when left out", required=False)
    sub.add_argument(
        "--split", action="store_true", help="assign the splits of --input anew, by topic, as prompts.splits says"
    )
    _path_argument(
        sub,
        "against",
        "benchmarks' tables of prompts, for prompts.contamination.remove_from",
        required=False,
        nargs="+",
        default=[],
    )
    _path_argument(sub, "output", "Parquet table of prompts")

    sub = step(
        "contamination",
        steps.contamination,
        "List prompts that share runs of words with a benchmark.",
        "--config config/config.yaml --prompts results/data/prompts.parquet "
        "--benchmarks results/data/benchmarks/ifbench.parquet --output contamination.csv",
    )
    _path_argument(sub, "prompts", "table of prompts")
    _path_argument(sub, "benchmarks", "benchmarks' tables of prompts", nargs="+")
    _path_argument(sub, "output", "CSV, one row an overlapping prompt and benchmark")

    sub = step(
        "data",
        steps.data,
        "Check a file of prompts with rubrics and show what would be judged how.",
        "check my_prompts.jsonl",
        config=False,
    )
    sub.add_argument("action", choices=["check"], help="what to do")
    sub.add_argument("file", type=Path, help="JSONL, JSON or Parquet, or a folder of them (docs/data.md)")
    sub.add_argument("--format", choices=["auto", "own", "hir"], default="auto", help="default: by the first row")

    sub = step(
        "benchmark",
        steps.benchmark,
        "Read a benchmark's prompts; those that cannot be scored are left out by name.",
        "--name ifbench --input results/data/ifbench.jsonl --nltk results/models/nltk "
        "--output results/data/ifbench.parquet --left-out results/data/ifbench.left_out.json",
        config=False,
    )
    sub.add_argument("--name", required=True, help="the benchmark's name")
    _path_argument(sub, "input", "the benchmark's own file")
    sub.add_argument("--judged", action="store_true", help="somebody decides what no checker does: keep all prompts")
    _path_argument(sub, "nltk", "folder of NLTK data")
    _path_argument(sub, "output", "Parquet table of prompts")
    _path_argument(sub, "left-out", "JSON of what was left out")


def _add_label_steps(step: _Step) -> None:
    """From responses to the discriminator."""
    sub = step(
        "responses",
        steps.responses,
        "Sample responses of a policy to label.",
        "--config config/config.yaml --policy results/models/policy --prompts results/data/prompts.parquet "
        "--output results/labels/responses.parquet",
    )
    _path_argument(sub, "policy", "policy folder")
    _path_argument(sub, "checkpoint", "checkpoint of a round", required=False)
    _path_argument(sub, "prompts", "table of prompts")
    sub.add_argument(
        "--candidates", action="store_true", help="sample the training prompts that the methods sft and dpo learn from"
    )
    _path_argument(sub, "output", "Parquet table of responses")

    sub = step(
        "verdicts",
        steps.verdicts,
        "Judge responses: by rule checker, by the rubric's program, by language model.",
        "--responses results/labels/responses.parquet --prompts results/data/prompts.parquet "
        "--nltk results/models/nltk --output results/labels/verdicts.parquet",
        config=False,
    )
    _path_argument(sub, "config", "configuration that names a language model as judge", required=False)
    _path_argument(sub, "responses", "table of responses")
    _path_argument(sub, "prompts", "table of prompts")
    _path_argument(sub, "nltk", "folder of NLTK data")
    _path_argument(sub, "output", "Parquet table of verdicts")

    sub = step(
        "labels",
        steps.labels,
        "Label by rule which characters each rubric is about.",
        "--config config/config.yaml --responses results/labels/responses.parquet "
        "--verdicts results/labels/verdicts.parquet --prompts results/data/prompts.parquet "
        "--nltk results/models/nltk --output results/labels/labels.parquet",
    )
    _path_argument(sub, "responses", "table of responses")
    _path_argument(sub, "verdicts", "table of verdicts")
    _path_argument(sub, "prompts", "table of prompts")
    _path_argument(sub, "nltk", "folder of NLTK data")
    _path_argument(sub, "output", "Parquet table of labels")

    sub = step(
        "discriminator",
        steps.discriminator,
        "Train the token-level relevance discriminator and measure it.",
        "--config config/config.yaml --labels results/labels/labels.parquet --backbone results/models/policy "
        "--output results/discriminators/full/model --metrics results/discriminators/full/metrics.json",
    )
    sub.add_argument("--variant", default="full", help="full, or a name under discriminator_variants (default: full)")
    _path_argument(sub, "labels", "table of labels")
    _path_argument(sub, "backbone", "model folder whose first layers are taken")
    _path_argument(sub, "output", "folder for the discriminator")
    _path_argument(sub, "metrics", "JSON of its figures")
    _track_argument(sub)


def _add_policy_steps(step: _Step) -> None:
    """Training and evaluation."""
    sub = step(
        "experiment",
        steps.experiment,
        "Make the MLflow experiment, before parallel jobs write to it.",
        "--config config/config.yaml --track sqlite:///results/mlflow/mlflow.db "
        "--output results/mlflow/experiment.json",
    )
    _track_argument(sub, required=True)
    _path_argument(sub, "output", "JSON with the experiment's id")

    sub = step(
        "round",
        steps.round_,
        "Train one round of an arm, from where the round before stopped.",
        "--config config/config.yaml --arm rtt_csr --seed 0 --round 1 --prompts results/data/prompts.parquet "
        "--nltk results/models/nltk --policy results/models/policy "
        "--discriminator results/discriminators/full/model "
        "--output results/policies/rtt_csr/seed_0/round_1",
    )
    sub.add_argument("--arm", required=True, help="name of an arm in the configuration")
    sub.add_argument("--seed", type=int, required=True, help="seed of adapter, data order and sampling")
    sub.add_argument("--round", type=_positive, required=True, help="number of the round, from 1")
    _path_argument(sub, "prompts", "table of prompts")
    _path_argument(sub, "nltk", "folder of NLTK data")
    _path_argument(sub, "policy", "policy folder")
    _path_argument(sub, "start", "checkpoint folder of the round before", required=False)
    _path_argument(sub, "discriminator", "discriminator folder", required=False)
    _path_argument(sub, "responses", "judged responses of the start policy, for sft and dpo", required=False)
    _path_argument(sub, "verdicts", "the verdicts on them", required=False)
    _path_argument(sub, "output", "folder for checkpoint, rollouts and metrics")
    _track_argument(sub)

    sub = step(
        "evaluate",
        steps.evaluate,
        "Have a policy, or a model served elsewhere, answer a benchmark, and score it.",
        "--benchmark ifeval --prompts input_data.jsonl --endpoint http://127.0.0.1:8000/v1 --model NAME "
        "--protocol config/protocols/greedy.yaml --output scores/scores.parquet --responses scores/responses.parquet",
        config=False,
    )
    _path_argument(sub, "config", "configuration, for its judge, seed and protocol", required=False)
    sub.add_argument("--benchmark", required=True, help="a name under evaluation.benchmarks, or with --protocol any")
    _path_argument(sub, "protocol", "one of config/protocols (default: the configuration's)", required=False)
    sub.add_argument("--arm", default="model", help="name written into the scores (default: model)")
    sub.add_argument("--seed", type=int, default=0, help="seed written into the scores (default: 0)")
    sub.add_argument("--step", type=int, default=0, help="optimiser steps written into the scores (default: 0)")
    _path_argument(sub, "policy", "policy folder", required=False)
    _path_argument(sub, "checkpoint", "checkpoint of a round; the policy itself when left out", required=False)
    sub.add_argument(
        "--engine",
        choices=["transformers", "continuous", "vllm"],
        default="transformers",
        help="who runs --policy: transformers in batches sorted by length, its continuous batching, or vLLM",
    )
    sub.add_argument(
        "--endpoint", metavar="URL", help="OpenAI-compatible address, up to and with /v1, in place of --policy"
    )
    sub.add_argument("--model", help="the model's name at the endpoint")
    sub.add_argument(
        "--api-key-variable", default="OPENAI_API_KEY", help="environment variable with the endpoint's key"
    )
    sub.add_argument("--concurrency", type=_positive, default=16, help="questions under way at once (default: 16)")
    sub.add_argument(
        "--thinking-switch",
        action="store_true",
        help="tell the server by chat_template_kwargs whether the model thinks",
    )
    _path_argument(
        sub, "prompts", "table of prompts, or the benchmark's own file (default: that of the last run)", required=False
    )
    _path_argument(sub, "evaluator", "folder of the benchmark's own evaluator (docs/benchmarks)", required=False)
    _path_argument(sub, "nltk", "folder of NLTK data (default: results/models/nltk)", required=False)
    _path_argument(
        sub,
        "output",
        "table of scores, with record.json beside it (default: results/evaluations/<arm>/<benchmark>/scores.parquet)",
        required=False,
    )
    _path_argument(sub, "responses", "Parquet table of responses (default: beside the scores)", required=False)

    sub = step(
        "domain",
        steps.domain,
        "Ask a policy the tasks of evaluation.domain by lm-eval.",
        "--config config/config.yaml --policy results/models/policy --output domain.json",
    )
    _path_argument(sub, "policy", "policy folder")
    _path_argument(sub, "checkpoint", "checkpoint of a round; the policy itself when left out", required=False)
    _path_argument(sub, "output", "JSON with the score of each example")

    sub = step(
        "domain-table",
        steps.domain_table,
        "Compare what `rtt domain` wrote of arms with the base's.",
        "--config config/config.yaml --base results/evaluations/base/domain.json "
        "--records results/evaluations/*/seed_*/round_3/domain.json --output results/tables/domain.csv",
    )
    _path_argument(sub, "base", "the base's record")
    _path_argument(sub, "records", "the arms' records, in folders <arm>/seed_<seed>/round_<round>", nargs="+")
    _path_argument(sub, "output", "CSV")

    sub = step(
        "score",
        steps.score,
        "Score answers from anywhere on a benchmark; `rtt evaluate score` is the same.",
        "--benchmark ifeval --prompts input_data.jsonl --responses answers.jsonl --output verdicts.jsonl",
        config=False,
    )
    sub.add_argument("--benchmark", required=True, help="ifeval, ifbench, muldimif or advancedif")
    _path_argument(sub, "config", "configuration with a judge, for what no checker decides", required=False)
    _path_argument(sub, "evaluator", "folder of the benchmark's own evaluator (docs/benchmarks)", required=False)
    _path_argument(sub, "responses", "JSONL, JSON or Parquet with prompt and response, one answer a prompt")
    _path_argument(
        sub,
        "prompts",
        "the benchmark's JSONL, or the table `rtt benchmark` wrote (default: that of the last `make run`)",
        required=False,
    )
    _path_argument(sub, "nltk", "folder of NLTK data (default: results/models/nltk)", required=False)
    _path_argument(sub, "output", "one row an instruction: .jsonl, .csv or .parquet")


def _add_report_steps(step: _Step) -> None:
    """Reports, and everything at once."""
    sub = step(
        "report",
        steps.report,
        "Write tables, figures and the report page.",
        "--config config/config.yaml --scores results/scores/*.parquet "
        "--discriminators results/discriminators/*/metrics.json --output results",
    )
    _path_argument(sub, "scores", "tables of scores", required=False, nargs="+", default=[])
    sub.add_argument(
        "--partial",
        action="store_true",
        help="report what the results folder holds so far, naming what is missing and why, in place of --scores",
    )
    _path_argument(sub, "discriminators", "JSON of each discriminator's figures", required=False, nargs="*", default=[])
    references = Path("config/reference_results.yaml")
    _path_argument(
        sub, "references", f"YAML of results reported by others (default: {references})", False, default=references
    )
    _path_argument(sub, "left-out", "JSON of benchmark prompts left out", required=False, nargs="*", default=[])
    _path_argument(sub, "output", "results folder; writes tables/, figures/ and report/ in it")

    sub = step(
        "view",
        steps.view,
        "Show which tokens got the credit, in one HTML file.",
        "results/policies/rtt_csr/seed_0/round_3/rollouts.parquet",
        config=False,
    )
    sub.add_argument(
        "rollouts", type=Path, nargs="+", metavar="PATH", help="rollouts.parquet of rounds, or folders they lie below"
    )
    _path_argument(sub, "prompts", "table of prompts (default: that of the same results)", required=False)
    _path_argument(sub, "nltk", "folder of NLTK data (default: that of the same results)", required=False)
    _path_argument(sub, "output", "HTML file to write (default: view.html beside the first table)", required=False)

    sub = step(
        "compare",
        steps.compare,
        "Log the comparison of all arms to MLflow.",
        "--config config/config.yaml --track sqlite:///results/mlflow/mlflow.db --scores results/scores/*.parquet "
        "--report results --prompts results/data/prompts.parquet --output results/mlflow/comparison.json",
    )
    _track_argument(sub, required=True)
    _path_argument(sub, "scores", "tables of scores", nargs="+")
    _path_argument(sub, "report", "folder `rtt report` wrote to")
    _path_argument(sub, "prompts", "table of prompts, whose digest is logged")
    _path_argument(sub, "output", "JSON with the run's id")

    sub = step(
        "demo",
        steps.demo,
        "Ask base and trained policy in a page on loopback.",
        "--checkpoint results/policies/rtt_csr/seed_0/round_3/checkpoint",
        config=False,
    )
    _path_argument(sub, "checkpoint", "checkpoint of a round")
    _path_argument(sub, "policy", "policy folder (default: that of the same results)", required=False)
    _path_argument(sub, "discriminator", "discriminator folder (default: that of the same results)", required=False)
    _path_argument(sub, "nltk", "folder of NLTK data (default: that of the same results)", required=False)
    _path_argument(sub, "config", "configuration that names a language model as judge", required=False)
    sub.add_argument("--port", type=int, default=8765, help="port on loopback (default: 8765; 0 takes a free one)")

    sub = step(
        "cost",
        steps.cost,
        "Work out what an arm costs, before it is run.",
        "--config config/paper/qwen3_4b.yaml --model config/paper/qwen3_4b.json --response 1000 --rubrics 5",
    )
    _path_argument(sub, "model", "a model's config.json, or its folder (default: the study's policy)", required=False)
    for name, default, text in (
        ("rubrics", 3, "rubrics a prompt"),
        ("prompt", 150, "tokens of a prompt"),
        ("response", None, "tokens of a response (default: policy.generation.max_tokens)"),
        ("criterion", 25, "tokens of a rubric"),
        ("rate", 400, "10^12 operations a second one device reaches (default: 400, of an H100's 989 in bfloat16)"),
        ("bandwidth", 2.5, "10^12 bytes a second its memory reaches (default: 2.5, of an H100's 3.35)"),
        ("price-in", None, "dollars per million tokens a judge reads"),
        ("price-out", None, "dollars per million tokens it writes"),
    ):
        said = text if default is None or "default" in text else f"{text} (default: {default})"
        sub.add_argument(f"--{name}", type=float, default=default, metavar="NUMBER", help=said)
    sub.add_argument("--devices", type=_positive, help="devices (default: the processes of policy.accelerate)")
    sub.add_argument("--bytes", type=int, choices=(2, 4), default=2, help="of a weight (default: 2, bfloat16)")

    sub = step("watch", steps.watch, "Watch a study in the terminal.", "--config config/config.yaml")
    sub.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="how often to look (default: 2)")
    sub.add_argument("--once", action="store_true", help="show how far it is and stop")

    sub = step(
        "run",
        steps.run,
        "Run the whole workflow and print where its results are.",
        "--config config/config.yaml --cores all",
    )
    sub.add_argument("--cores", default="all", help="cores Snakemake may use (default: all)")
    sub.add_argument("snakemake", nargs="*", help="further arguments for Snakemake, after --")


def _path_argument(parser: argparse.ArgumentParser, name: str, text: str, required: bool = True, **more: Any) -> None:
    parser.add_argument(f"--{name}", type=Path, required=required, help=text, metavar="PATH", **more)


def _track_argument(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--track", required=required, metavar="URI", help="MLflow tracking URI; not tracked when left out"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
