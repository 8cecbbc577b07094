"""What each command does: read its inputs, call one function of the package, write its outputs.

Heavy imports stand inside the functions, after parsing, so that `--help` and a bad flag answer at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtt.errors import UserError

SHOWN_ORIGINS = 12
"""Rows of a census people read; of more origins only the sum is shown."""


def _config(arguments: argparse.Namespace) -> Any:
    from rtt.config import load_config

    return load_config(arguments.config)


def _copy_config(config: Any, output: Path) -> None:
    """The resolved configuration beside an output file."""
    from rtt.config import write_config

    write_config(config, output.with_name(output.stem + ".config.yaml"))


def _write_json(values: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _say(text: str) -> None:
    print(text, flush=True)


def fetch(arguments: argparse.Namespace) -> None:
    from rtt.policy.pretrained import save_plain_model
    from rtt.policy.tiny import make_tiny_model
    from rtt.sources import fetch as fetch_source

    config = _config(arguments)
    name, output = arguments.name, arguments.output
    known = {"policy": config.sources.policy, "nltk": config.sources.nltk, **config.sources.benchmarks}
    if config.sources.prompts is not None:
        known["prompts"] = config.sources.prompts
    if arguments.evaluator:
        known = dict(config.sources.evaluators)
    if name not in known:
        raise UserError(f"no source is called {name}", where=arguments.config, todo=f"choose from {sorted(known)}")
    source = known[name]
    if source.uri.startswith("tiny:"):
        make_tiny_model(output)
    elif name == "policy":
        raw = output.with_name(output.name + ".source")
        fetch_source(source.uri, file=source.file, sha256=source.sha256, destination=raw, keep=source.keep)
        save_plain_model(raw, output)
        _remove(raw)
    elif name == "prompts":
        inside = output / Path(source.file or source.uri.partition(":")[2]).name  # its name says of what kind it is
        fetch_source(source.uri, file=source.file, sha256=source.sha256, destination=inside, keep=source.keep)
    else:
        fetch_source(source.uri, file=source.file, sha256=source.sha256, destination=output, keep=source.keep)
    _copy_config(config, output)
    _say(f"{name}: {source.uri} is at {output}")


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def prompts(arguments: argparse.Namespace) -> None:
    from rtt.data.prompts import make_prompts
    from rtt.data.read import read_prompts
    from rtt.data.table import cap_rubrics
    from rtt.tables import Prompts, read_table, write_table

    config = _config(arguments)
    settings = config.prompts
    if arguments.input:
        shares = settings.splits if arguments.split else None
        table = read_prompts(arguments.input, "auto", shares, settings.heldout_kinds, settings.seed)
    else:
        table = make_prompts(settings.count, settings.seed, settings.heldout_kinds, settings.splits)
    if settings.max_rubrics is not None:
        table, dropped = cap_rubrics(table, settings.max_rubrics)
        _say(f"{dropped} rubrics are left out: training prompts keep their first {settings.max_rubrics}")
    share = settings.contamination.remove_from
    if share is not None and arguments.against:
        from rtt.data.contamination import overlaps, without

        benchmarks = {path.stem: read_table(path, Prompts) for path in arguments.against}
        kept = without(table, overlaps(table, benchmarks, settings.contamination.words), share)
        _say(f"{len(table) - len(kept)} training prompts are left out: they overlap with {', '.join(benchmarks)}")
        table = kept
    write_table(table, Prompts, arguments.output)
    _copy_config(config, arguments.output)
    _say(f"{len(table)} prompts ({_counts(table['split'])}) are at {arguments.output}")


def contamination(arguments: argparse.Namespace) -> None:
    from rtt.data.contamination import overlaps
    from rtt.report.tables import write_csv
    from rtt.tables import Prompts, read_table

    words = _config(arguments).prompts.contamination.words
    prompts = read_table(arguments.prompts, Prompts)
    benchmarks = {path.stem: read_table(path, Prompts) for path in arguments.benchmarks}
    found = overlaps(prompts, benchmarks, words)
    write_csv(found, arguments.output)
    training, seen = int((prompts["split"] == "train").sum()), found[found["split"] == "train"]
    for name in benchmarks:
        own = seen[seen["benchmark"] == name]
        most = f", at most {own['share'].max():.0%} of one" if len(own) else ""
        _say(f"{len(own)} of {training} training prompts share {words} words in a row with {name}{most}")
    _say(f"each is at {arguments.output}")


def _counts(column: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in column.value_counts(sort=False).items())


def data(arguments: argparse.Namespace) -> None:
    from rtt.data.census import census, first_of_each, why_judged
    from rtt.data.read import read_prompts
    from rtt.rubrics import parse_rubrics

    table = read_prompts(arguments.file, arguments.format)
    _say(f"{arguments.file}: {len(table)} prompts ({_counts(table['split'])}), nothing malformed\n")
    counts = census(table)
    _say((counts if len(counts) <= SHOWN_ORIGINS else counts.tail(1)).to_string(index=False))
    reasons = why_judged(table)
    if reasons:
        _say("\nTo a language model, which `judge.endpoint` names (docs/judge.md):")
        for reason, count in reasons.most_common():
            _say(f"  {count:6} {reason}")
    _say("\nThe first of each:")
    for way, rubric in first_of_each(table).items():
        checker = f" ({rubric.kind})" if way in ("rule", "constraint") else ""
        _say(f"  {way + checker}: {rubric.rubric_id}: {rubric.text[:100]}")
    weighted = sum(rubric.weight != 1 for text in table["rubrics"] for rubric in parse_rubrics(text))
    if weighted:
        _say(f"\n{weighted} rubrics have a weight other than 1")


def benchmark(arguments: argparse.Namespace) -> None:
    from rtt.data.benchmarks import load_benchmark, split_scorable
    from rtt.judging.rules import has_tagger, use_nltk_data
    from rtt.tables import Prompts, write_table

    use_nltk_data(arguments.nltk)
    table, left_out = split_scorable(load_benchmark(arguments.input, arguments.name), has_tagger(), arguments.judged)
    write_table(table, Prompts, arguments.output)
    _write_json({"benchmark": arguments.name, "kept": len(table), "left_out": left_out}, arguments.left_out)
    _say(f"{arguments.name}: {len(table)} prompts are at {arguments.output}; {len(left_out)} are left out")


def responses(arguments: argparse.Namespace) -> None:
    from rtt.evaluation.generation import generate, open_policy
    from rtt.judging.verdicts import conversations_of
    from rtt.precision import compute_with
    from rtt.relevance.corpus import choose_prompts
    from rtt.tables import Prompts, Responses, read_table, write_table

    config = _config(arguments)
    prompts = read_table(arguments.prompts, Prompts)
    if arguments.candidates:
        from rtt.data.candidates import choose_candidates

        chosen, generation = choose_candidates(prompts, config), config.policy.generation
        samples, seed = config.offline.samples, config.offline.seed
    else:
        chosen, generation = choose_prompts(prompts, config.labels), config.labels.generation
        samples, seed = config.labels.samples, config.labels.seed
    compute_with(config.discriminator.threads, config.linear_precision)
    model, tokenizer = open_policy(arguments.policy, arguments.checkpoint)
    repeated = [turns for turns in conversations_of(chosen).values() for _ in range(samples)]
    answers = generate(model, tokenizer, repeated, generation, seed=seed)
    table = responses_table(list(chosen["prompt_id"]), samples, answers)
    write_table(table, Responses, arguments.output)
    _copy_config(config, arguments.output)
    _say(f"{len(table)} responses ({table['truncated'].mean():.0%} cut short) are at {arguments.output}")


def responses_table(prompt_ids: Sequence[str], samples: int, answers: Sequence[Any]) -> Any:
    """Answers, `samples` in a row per prompt, as rtt.tables.Responses."""
    import pandas as pd

    places = [(prompt_id, sample) for prompt_id in prompt_ids for sample in range(samples)]
    return pd.DataFrame(
        [
            {
                "response_id": f"{prompt_id}#{sample}",
                "prompt_id": prompt_id,
                "sample": sample,
                "response": answer.text,
                "tokens": answer.tokens,
                "truncated": answer.truncated,
            }
            for (prompt_id, sample), answer in zip(places, answers, strict=True)
        ]
    )


def verdicts(arguments: argparse.Namespace) -> None:
    from rtt.judging.routing import open_judge
    from rtt.judging.rules import use_nltk_data
    from rtt.judging.verdicts import cases_of, verdict_table
    from rtt.tables import Prompts, Responses, Verdicts, read_table, write_table

    use_nltk_data(arguments.nltk)
    responses, prompts = read_table(arguments.responses, Responses), read_table(arguments.prompts, Prompts)
    judge = open_judge(_config(arguments) if arguments.config else None)
    places, cases = cases_of(responses, prompts)
    given = judge.judge(cases)
    table = verdict_table(places, given)
    write_table(table, Verdicts, arguments.output)
    _tell_of_judge(judge, arguments.output)
    missing = int(table["verdict"].isna().sum())
    _say(
        f"{len(table)} verdicts, {(table['verdict'] > 0).mean():.1%} satisfied, {missing} missing, "
        f"are at {arguments.output}"
    )


def _tell_of_judge(judge: Any, output: Path) -> None:
    """Writes what a language model that judged has to tell beside what came of it."""
    from rtt.judging.routing import told_by

    told = told_by(judge)
    if told is not None:
        path = output.with_name(output.stem + ".judge.json")
        _write_json(told, path)
        _say(f"what the judge did and how it fared with canaries: {path}")


def labels(arguments: argparse.Namespace) -> None:
    from rtt.judging.rules import use_nltk_data
    from rtt.relevance.corpus import by_rule, label_corpus, rule_agreement
    from rtt.relevance.quotes import QuoteAnnotator
    from rtt.tables import Labels, Prompts, Responses, Verdicts, read_table, write_table

    config = _config(arguments)
    use_nltk_data(arguments.nltk)
    prompts = read_table(arguments.prompts, Prompts)
    source = config.labels.annotator.source
    model = QuoteAnnotator(config) if source == "llm" else None
    table, left_out = label_corpus(
        read_table(arguments.responses, Responses),
        read_table(arguments.verdicts, Verdicts),
        prompts,
        config.labels,
        model or by_rule,
        "rule" if model is None else model.name,
    )
    write_table(table, Labels, arguments.output)
    _copy_config(config, arguments.output)
    if model is not None:
        path = arguments.output.with_name(arguments.output.stem + ".annotator.json")
        _write_json({"figures": model.figures(), "agreement": rule_agreement(table, list(prompts["rubrics"]))}, path)
        _say(f"what became of the quotes, and how far they agree with the rules: {path}")
    _say(
        f"{len(table)} labelled pairs ({_counts(table['split'])}) are at {arguments.output}; "
        f"{left_out['without_verdict']} had no verdict, {left_out['without_labels']} got no labels"
    )


def discriminator(arguments: argparse.Namespace) -> None:
    from rtt.config import FULL, to_dict
    from rtt.layout import DISCRIMINATOR_COSTS
    from rtt.policy.checkpoints import seal
    from rtt.precision import compute_with
    from rtt.processes import device
    from rtt.relevance.discriminator import Discriminator
    from rtt.relevance.quality import evaluate_discriminator
    from rtt.relevance.training import train_discriminator
    from rtt.tables import Labels, read_table
    from rtt.tracking import flatten

    config = _config(arguments)
    table = read_table(arguments.labels, Labels)
    known = {FULL: config.discriminator, **config.discriminator_variants}
    name = arguments.variant
    if name not in known:
        raise UserError(f"no discriminator is called {name}", where="--variant", todo=f"choose from {sorted(known)}")
    compute_with(known[name].threads, config.linear_precision)
    training = train_discriminator(table, arguments.backbone, known[name], arguments.output, str(device()))
    seconds = training["train_seconds"]
    seal(arguments.output)
    quality = evaluate_discriminator(Discriminator.load(arguments.output), table)
    quality["variant"] = name
    _write_json(quality, arguments.metrics)
    _write_json({"train_seconds": seconds}, arguments.metrics.with_name(DISCRIMINATOR_COSTS))
    _copy_config(config, arguments.metrics)
    key = f"discriminator/{name}"
    run = _open_run(arguments, config, key, f"discriminator {name}", arguments.labels)
    run.log_params(flatten(to_dict(known[name]), "discriminator."))
    for step, loss in enumerate(training["losses"], start=1):
        run.log_metrics({"train/loss": loss}, step)
    for split, figures in quality["sets"].items():
        flat = {key: value for key, value in figures.items() if isinstance(value, int | float)}
        values = {f"eval/{split}/{figure}": value for figure, value in flat.items()}
        run.log_metrics(values, len(training["losses"]))
    run.log_artifact(arguments.metrics)
    run.finish()
    _say(f"discriminator {name} trained in {seconds:.0f} s, at {arguments.output}; figures at {arguments.metrics}")
    for split, figures in quality["sets"].items():
        keyword, random = (figures["baselines"][baseline]["auprc"] for baseline in ("keyword", "random"))
        _say(
            f"  {split}: AUPRC {_figure(figures['auprc'])} (keyword {_figure(keyword)}, random {_figure(random)}), "
            f"F1 {_figure(figures['f1'])} at {quality['threshold']:.2f}"
        )


def _figure(value: float | None) -> str:
    """Missing is never zero: a set without a relevant token has no AUPRC."""
    return "none" if value is None else f"{value:.3f}"


def _open_run(arguments: argparse.Namespace, config: Any, key: str, name: str, data: Path | None) -> Any:
    """A run for this step, or the twin that does nothing when no --track is given."""
    from rtt.config import to_dict
    from rtt.provenance import tags
    from rtt.tracking import NoRun, Tracker

    if not arguments.track:
        return NoRun()
    return Tracker(arguments.track, config.tracking.experiment).open(key, name, tags(to_dict(config), data))


def experiment(arguments: argparse.Namespace) -> None:
    config = _config(arguments)
    name, uri, output = config.tracking.experiment, arguments.track, arguments.output
    columns = [*(f"eval/{benchmark}/instruction_strict" for benchmark in config.evaluation.benchmarks), "train/reward"]
    wanted = {"uri": uri, "name": name, "columns": columns}
    if _has_experiment(output, wanted):
        return
    from rtt.tracking import SQLITE, Tracker

    output.parent.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(uri, name)
    identifier = tracker.create_experiment(output.parent / "artifacts" if uri.startswith(SQLITE) else None)
    tracker.share_view(columns)
    _write_json({**wanted, "id": identifier}, output)
    _say(f"experiment {name} is number {identifier} at {uri}")


def _has_experiment(output: Path, wanted: dict[str, Any]) -> bool:
    """Whether the experiment was made before: asking MLflow takes seconds, which every start of the workflow would
    wait for. A server is asked all the same, so that one that is gone is told of before anything trains."""
    scheme, _, database = wanted["uri"].partition(":///")
    try:
        known = json.loads(output.read_text())
    except (OSError, ValueError):
        return False
    return scheme == "sqlite" and Path(database).exists() and {**known, **wanted} == known


def round_(arguments: argparse.Namespace) -> None:
    from rtt.launch import launch, launched

    config = _config(arguments)
    if config.policy.accelerate and not launched():
        launch(Path(config.policy.accelerate), arguments.line)
        return
    from rtt.judging.rules import use_nltk_data
    from rtt.policy.rounds import Inputs, run_round
    from rtt.processes import is_first
    from rtt.tracking import NoRun

    use_nltk_data(arguments.nltk)
    arm, seed, number = arguments.arm, arguments.seed, arguments.round
    run = _open_round(arguments, config) if arguments.track and arm in config.arms and is_first() else NoRun()
    try:
        summary = run_round(
            config,
            arm_name=arm,
            seed=seed,
            round_number=number,
            inputs=Inputs(
                arguments.prompts,
                arguments.policy,
                arguments.start,
                arguments.discriminator,
                arguments.responses,
                arguments.verdicts,
            ),
            output=arguments.output,
            run=run,
        )
    except BaseException:
        run.finish("FAILED")
        raise
    if not is_first():
        return
    if config.arms[arm].method == "grpo":
        run.log_artifact(arguments.output / "rollouts.parquet")
        run.log_artifact(_write_view(arguments.output, arguments.prompts))
    run.finish()
    _say(
        f"{arm} seed {seed} round {number}: step {summary['step']}, instruction accuracy in training "
        f"{_figure(summary['accuracy'])}, {summary['seconds']:.0f} s; it is at {arguments.output}"
    )


def _open_round(arguments: argparse.Namespace, config: Any) -> Any:
    """The runs of this round and of its arm and seed. A server that does not answer keeps no round from training: the
    figures are sent from the round's files when the comparison is logged."""
    import logging

    from rtt.tracking import Both, NoRun, Rounds, Tracker

    tracker = Tracker(arguments.track, config.tracking.experiment)
    rounds = Rounds(tracker, config, arguments.prompts)
    try:
        # The first round begins the arm anew: MLflow lets no parameter of the earlier parent change.
        parent = rounds.arm(arguments.arm, arguments.seed, anew=arguments.round == 1)
        child = rounds.round(arguments.arm, arguments.seed, arguments.round, parent)
    except UserError as error:
        logging.getLogger(__name__).warning("training goes on without MLflow, its figures are sent later; %s", error)
        return NoRun()
    for run in (parent, child):
        run.log_inputs({"training": arguments.prompts}, _model_digests(arguments))
    if config.tracking.system_metrics:
        child.watch_system(arguments.track)
    return Both(child, parent)


def _model_digests(arguments: argparse.Namespace) -> dict[str, str]:
    """The models a round starts from, by name."""
    from rtt.policy.checkpoints import digest
    from rtt.provenance import short_digest

    weights = sorted(arguments.policy.glob("*.safetensors"))
    found = {arguments.policy.name: short_digest([short_digest(path) for path in weights])}
    for folder in (arguments.start, arguments.discriminator):
        if folder is not None:
            found[folder.name] = digest(folder)[:16]
    return found


def _write_view(round_folder: Path, prompts: Path) -> Path:
    """The token view of a round, beside its rollouts."""
    from rtt.layout import VIEW
    from rtt.report.view import read_groups, write_view
    from rtt.tables import Prompts, read_table

    rollouts, path = round_folder / "rollouts.parquet", round_folder / VIEW
    write_view(read_groups([rollouts], read_table(prompts, Prompts)), path)
    return path


def evaluate(arguments: argparse.Namespace) -> None:
    from rtt.config import Protocol, load_protocol
    from rtt.evaluation.scoring import score_responses, subset
    from rtt.judging.routing import open_judge
    from rtt.judging.rules import use_nltk_data
    from rtt.judging.verdicts import conversations_of
    from rtt.tables import Responses, Scores, write_table

    config = _config(arguments) if arguments.config else None
    name, seed = arguments.benchmark, 0 if config is None else config.evaluation.seed
    arguments.output = arguments.output or Path(f"results/evaluations/{arguments.arm}/{name}/scores.parquet")
    arguments.responses = arguments.responses or arguments.output.with_name("responses.parquet")
    use_nltk_data(arguments.nltk or _first_there([Path("results/models/nltk")], "NLTK's data", "--nltk"))
    if arguments.protocol:
        protocol = load_protocol(arguments.protocol)
    elif config is None:
        protocol = Protocol()
    elif name in config.evaluation.benchmarks:
        protocol = config.evaluation.protocol_of(name)
    else:
        raise UserError(
            f"no benchmark is called {name}",
            where=arguments.config,
            todo=f"choose from {sorted(config.evaluation.benchmarks)}, or give --protocol",
        )
    prompts = _prompts_to_answer(arguments, config)
    chosen = subset(prompts, protocol.limit, seed)
    answerer = _answerer(arguments, config, protocol, seed)
    answers = answerer.answer(list(conversations_of(chosen).values()), f"{arguments.arm} {name}")
    answered = responses_table(list(chosen["prompt_id"]), protocol.samples, answers)
    write_table(answered, Responses, arguments.responses)
    judge = open_judge(config)
    scores = score_responses(
        answered,
        chosen,
        arm=arguments.arm,
        seed=arguments.seed,
        step=arguments.step,
        benchmark=name,
        protocol=protocol,
        judge=judge,
        evaluator=_ask_evaluator(arguments, answered, chosen),
    )
    write_table(scores, Scores, arguments.output)
    _tell_of_judge(judge, arguments.output)
    if config is not None:
        _copy_config(config, arguments.output)
    _write_json(
        {"benchmark": name, "protocol": protocol.model_dump(), **answerer.record(), **_figures_of(scores)},
        arguments.output.with_name("record.json"),
    )
    answerer.done()
    _say_scores(name, scores)
    _say(f"scores, answers and record.json are at {arguments.output.parent}")


def _prompts_to_answer(arguments: argparse.Namespace, config: Any) -> Any:
    """The rows of a benchmark or split that can be scored. Raises UserError where a table has none of that name."""
    from rtt.evaluation.answers import read_benchmark
    from rtt.tables import Prompts, read_table

    name = arguments.benchmark
    if arguments.prompts is not None and arguments.prompts.suffix == ".parquet":
        table = read_table(arguments.prompts, Prompts)
        if name not in set(table["split"]):
            raise UserError(
                f"no prompt has the split {name}",
                where=arguments.prompts,
                todo=f"give the table that has it; this one has {', '.join(sorted(set(table['split'])))}",
            )
        return table[table["split"] == name]
    place = arguments.prompts or _benchmark_there(name)
    table, left_out, _ = read_benchmark(place, name, _has_reader(arguments, config))
    _say_left_out(left_out)
    return table


def _benchmark_there(name: str) -> Path:
    return _first_there([Path(f"results/data/benchmarks/{name}.parquet")], f"the prompts of {name}", "--prompts")


def _has_reader(arguments: argparse.Namespace, config: Any) -> bool:
    """Whether somebody decides what no checker does: a judge, or the benchmark's own evaluator."""
    return arguments.evaluator is not None or (config is not None and config.judge is not None)


def _answerer(arguments: argparse.Namespace, config: Any, protocol: Any, seed: int) -> Any:
    """Who answers: a model at an address, or a policy of ours by transformers or vLLM."""
    from rtt.config import Endpoint

    if arguments.endpoint:
        from rtt.evaluation.served import Served

        if not arguments.model:
            raise UserError("the model at the endpoint has no name", where="--model", todo="give the name it has there")
        settings = Endpoint(
            base_url=arguments.endpoint,
            model=arguments.model,
            api_key_variable=arguments.api_key_variable,
            concurrency=arguments.concurrency,
            deadline_seconds=600,
        )
        cache = arguments.responses.with_suffix(".asked.sqlite")
        return Served(settings, protocol, cache, switch=arguments.thinking_switch)
    if arguments.policy is None:
        raise UserError("nobody is there to answer", where="--policy, --endpoint", todo="name one of them")
    from rtt.evaluation.local import Continuous, Engine, Local
    from rtt.precision import compute_with

    kept = arguments.responses.with_name(f".{arguments.responses.stem}.kept.jsonl")
    batch = 32 if config is None else config.evaluation.batch_size
    if config is not None:
        compute_with(config.evaluation.threads, config.linear_precision)
    if arguments.engine != "transformers":
        kind = {"continuous": Continuous, "vllm": Engine}[arguments.engine]
        return kind(arguments.policy, arguments.checkpoint, protocol, seed)
    return Local(arguments.policy, arguments.checkpoint, protocol, seed, batch, kept)


def _ask_evaluator(arguments: argparse.Namespace, responses: Any, prompts: Any) -> Any:
    if arguments.evaluator is None:
        return None
    from rtt.evaluation.evaluator import ask_evaluator

    return ask_evaluator(arguments.benchmark, arguments.evaluator, responses, prompts)


def _figures_of(scores: Any) -> dict[str, Any]:
    """What a record says of the scores: each metric with its interval, and the shares by group."""
    from rtt.report.groups import group_table
    from rtt.report.tables import main_table
    from rtt.tables import rows_of

    table = main_table(scores)
    first = table.iloc[0]
    return {
        "judge": first["judge"],
        "prompts": int(first["n_prompts"]),
        "instructions": int(first["n_instructions"]),
        "metrics": {row.metric: {"value": row.value, "low": row.low, "high": row.high} for row in rows_of(table)},
        "groups": group_table(scores).to_dict("records"),
    }


def _say_scores(name: str, scores: Any) -> None:
    from rtt.report.groups import group_table
    from rtt.report.render import asked
    from rtt.report.tables import main_table
    from rtt.tables import rows_of

    table = main_table(scores)
    first = table.iloc[0]
    _say(f"{name}: {first['n_prompts']} prompts, {first['n_instructions']} instructions; {asked(table)}")
    _say("95 % bootstrap over prompts")
    unknown = ("response_tokens", *(["truncated"] if not first["budget"] else []))  # of answers somebody else made
    for row in rows_of(table):
        if row.metric not in unknown:
            _say(f"  {row.metric:18} {row.value:.4f} [{row.low:.4f}, {row.high:.4f}]")
    for row in rows_of(group_table(scores)):
        _say(f"  {row.group + ': ' + row.value:46} {row.instruction_strict:.4f} instructions, n = {row.n_instructions}")


def _say_left_out(left_out: dict[str, str]) -> None:
    reasons: dict[str, list[str]] = {}
    for prompt_id, why in left_out.items():
        reasons.setdefault(why, []).append(prompt_id)
    for why, listed in reasons.items():
        more = f", … ({len(listed)})" if len(listed) > SHOWN_ORIGINS else ""
        _say(f"not scored, because {why}: {', '.join(listed[:SHOWN_ORIGINS])}{more}")


def score(arguments: argparse.Namespace) -> None:
    from rtt.evaluation.answers import answers_table, read_answers, read_benchmark, verdicts_of, write_verdicts
    from rtt.evaluation.scoring import score_responses
    from rtt.judging.routing import open_judge
    from rtt.judging.rules import use_nltk_data

    name, config = arguments.benchmark, _config(arguments) if arguments.config else None
    place = arguments.prompts or _benchmark_there(name)
    use_nltk_data(arguments.nltk or _first_there([Path("results/models/nltk")], "NLTK's data", "--nltk"))
    table, left_out, whole = read_benchmark(place, name, _has_reader(arguments, config))
    answered = answers_table(table, read_answers(arguments.responses, table, whole))
    scores = score_responses(
        answered,
        table,
        arm="answers",
        seed=0,
        step=0,
        benchmark=name,
        judge=open_judge(config),
        evaluator=_ask_evaluator(arguments, answered, table),
    )
    write_verdicts(verdicts_of(scores), arguments.output)
    _say_scores(name, scores)
    _say_left_out(left_out)
    _say(f"each instruction's verdicts are at {arguments.output}")


def domain(arguments: argparse.Namespace) -> None:
    from rtt.evaluation.domain import as_record, run_tasks

    config = _config(arguments)
    settings = config.evaluation.domain
    if settings is None:
        raise UserError("no tasks are named", where=arguments.config, todo="set evaluation.domain.tasks")
    found, version = run_tasks(arguments.policy, arguments.checkpoint, settings, config.evaluation.seed)
    _write_json(as_record(found, version, settings), arguments.output)
    for task, one in found.items():
        mean = sum(one.examples.values()) / len(one.examples)
        _say(f"{task}: {one.metric} {mean:.4f}, n = {len(one.examples)}")
    _say(f"each example's score is at {arguments.output}")


def domain_table(arguments: argparse.Namespace) -> None:
    from rtt.config import BASE
    from rtt.report.domain import domain_table as make_table
    from rtt.report.tables import write_csv

    evaluation = _config(arguments).evaluation
    records = {(BASE, 0): arguments.base}
    for path in arguments.records:
        arm, seed = path.parts[-4], path.parts[-3].removeprefix("seed_")
        records[arm, int(seed)] = path
    table = make_table(records, draws=evaluation.bootstrap_draws, seed=evaluation.seed)
    write_csv(table, arguments.output)
    _say(f"{table.to_string(index=False, float_format='%.4f', na_rep='–')}\n\nThe table is at {arguments.output}")


def _first_there(paths: Sequence[Path], what: str, flag: str) -> Path:
    for path in paths:
        if path.exists():
            return path
    raise UserError(f"{what} are not there", where=paths[0], todo=f"name them with {flag}, or run the workflow first")


def report(arguments: argparse.Namespace) -> None:
    from rtt.report.partial import find_products
    from rtt.report.write import write_report

    config = _config(arguments)
    scores, metrics, left_out = arguments.scores, arguments.discriminators, arguments.left_out
    missing: list[dict[str, Any]] = []
    if arguments.partial:
        scores, metrics, left_out, missing = find_products(config)
        if not scores:
            raise UserError("nothing has been evaluated yet", where=config.results, todo="run the workflow first")
    elif not scores:
        raise UserError("no scores were given", where="--scores", todo="name tables of scores, or say --partial")
    write_report(
        config,
        scores=scores,
        discriminators={_variant(path): path for path in metrics},
        left_out=left_out,
        missing=missing,
        output=arguments.output,
        references=arguments.references,
    )
    _say((arguments.output / "tables" / "main.txt").read_text())


def _variant(path: Path) -> str:
    """Which discriminator a file of figures is about."""
    try:
        return str(json.loads(path.read_text())["variant"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            "this is no file of a discriminator's figures", where=path, todo="name what `rtt discriminator` wrote"
        ) from None


def view(arguments: argparse.Namespace) -> None:
    from rtt.judging.rules import use_nltk_data
    from rtt.report.view import find_beside, find_rollouts, read_groups, write_view
    from rtt.tables import Prompts, read_table

    rollouts = find_rollouts(arguments.rollouts)
    first = rollouts[0]
    prompts = arguments.prompts or find_beside(first, "data/prompts.parquet")
    if prompts is None:
        raise UserError("no data/prompts.parquet lies in the folders above", where=first, todo="name it with --prompts")
    nltk = arguments.nltk or find_beside(first, "models/nltk")
    if nltk is not None:  # without, the rubrics whose checkers need it have no underlines
        use_nltk_data(nltk)
    output = arguments.output or first.with_name("view.html")
    groups = read_groups(rollouts, read_table(prompts, Prompts))
    write_view(groups, output)
    count = sum(len(group["responses"]) for group in groups)
    _say(f"{count} responses to {len(groups)} prompts are at {output}; open it in a browser")


def compare(arguments: argparse.Namespace) -> None:
    from rtt.report.compare import log_comparison

    config = _config(arguments)
    identifier = log_comparison(
        config, arguments.track, scores=arguments.scores, output=arguments.report, data=arguments.prompts
    )
    _write_json({"run": identifier, "uri": arguments.track}, arguments.output)
    _say(f"comparison logged to {arguments.track} as run {identifier}")


def demo(arguments: argparse.Namespace) -> None:
    from rtt.config import FULL
    from rtt.judging.rules import use_nltk_data
    from rtt.layout import discriminator
    from rtt.report.demo import Demo, make_server
    from rtt.report.view import find_beside

    checkpoint = arguments.checkpoint
    policy = arguments.policy or find_beside(checkpoint, "models/policy")
    if policy is None:
        raise UserError("no models/policy lies in the folders above", where=checkpoint, todo="name it with --policy")
    nltk = arguments.nltk or find_beside(checkpoint, "models/nltk")
    if nltk is not None:  # without, the checks that need it say so
        use_nltk_data(nltk)
    learned = arguments.discriminator or find_beside(checkpoint, discriminator(".", FULL))
    shown = Demo(policy, checkpoint, learned, _config(arguments) if arguments.config else None)
    with make_server(shown, arguments.port) as server:
        _say(f"http://127.0.0.1:{server.server_address[1]} answers until Ctrl-C")
        server.serve_forever()


def cost(arguments: argparse.Namespace) -> None:
    from rtt.cost import Machine, Shape, estimate, table, work_of
    from rtt.launch import read_settings

    config = _config(arguments)
    place = arguments.model or Path(config.results) / "models" / "policy"
    launcher = {} if config.policy.accelerate is None else read_settings(Path(config.policy.accelerate))
    stage = launcher.get("deepspeed_config", {}).get("zero_stage")
    machine = Machine(
        rate=arguments.rate * 1e12,
        bandwidth=arguments.bandwidth * 1e12,
        devices=arguments.devices or launcher.get("num_processes", 1),
        number=arguments.bytes,
        sharded="all" if stage == 3 or launcher.get("distributed_type") == "FSDP" else "optimizer" if stage else "none",
    )
    work = work_of(
        config,
        rubrics=arguments.rubrics,
        prompt=arguments.prompt,
        response=arguments.response or config.policy.generation.max_tokens,
        criterion=arguments.criterion,
    )
    shape = Shape.read(place / "config.json" if place.is_dir() else place)
    _say(table(estimate(config, work, shape, machine), arguments.price_in, arguments.price_out))


def watch(arguments: argparse.Namespace) -> None:
    from rtt.report.watch import watch

    config = _config(arguments)
    watch(config, f"{config.tracking.experiment}, {config.results}", arguments.every, arguments.once)


def run(arguments: argparse.Namespace) -> None:
    from rtt.workflow import run_workflow

    sys.exit(run_workflow(arguments.config, arguments.cores, arguments.snakemake))
