"""The command line: each step by hand, and what a user's mistake is answered with."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from rtt import cli
from rtt.arguments import make_parser
from rtt.config import load_config, to_dict
from rtt.policy.checkpoints import seal
from rtt.rubrics import parse_rubrics
from rtt.steps import _has_experiment
from rtt.tables import Labels, Prompts, Responses, Scores, Verdicts, read_table
from rtt.tracking import KEY, Tracker

ROOT = Path(__file__).parents[1]
NOBODY = "http://127.0.0.1:9"  # the discard port, on which nobody listens
OLD = b"the old product"
HEAVY = {"torch", "transformers", "trl", "pandas", "mlflow", "if_verifiable"}

BENCHMARK = [
    {
        "key": key,
        "prompt": f"Write line {key}.",
        "instruction_id_list": ["count:word_count_range"],
        "kwargs": [{"min_words": 1, "max_words": 50}],
    }
    for key in (1, 2)
]


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """A step sets variables for its own process, which here is everybody's."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def step(*arguments: object) -> None:
    """One step in this process, which spares the imports."""
    cli.main([str(argument) for argument in arguments])


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """One step as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "rtt.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def one_message(text: str) -> str:
    """`text` when it is one message that says what, where and what to do."""
    first, *more = text.splitlines()
    assert first.startswith("error: ")
    assert len(first) > len("error: ")
    assert sum(line.startswith("  where: ") and len(line) > 9 for line in more) == 1, text
    assert sum(line.startswith("  to do: ") and len(line) > 9 for line in more) == 1, text
    assert "Traceback" not in text
    return text


def test_memory_is_arranged_for_a_program_of_its_own_only(monkeypatch):
    """A caller in this process, tests and notebooks among them, goes on in it."""
    begun = []
    monkeypatch.setattr("rtt.memory.tune", lambda: begun.append("anew"))
    line = ["data", "check", str(ROOT / "nothing.jsonl")]
    with pytest.raises(SystemExit):
        cli.main(line)
    assert begun == []
    monkeypatch.setattr(sys, "argv", ["rtt", *line])
    with pytest.raises(SystemExit):
        cli.main()
    assert begun == ["anew"]


def refusal(*arguments: object) -> str:
    """What a step that fails on the user's mistake says; anything but its own message is raised here."""
    with pytest.raises(SystemExit) as caught:
        step(*arguments)
    assert isinstance(caught.value.code, str)  # which Python prints, and exits with 1
    return one_message(caught.value.code)


class Study:
    """A small configuration, and the products of the steps before the policy's rounds."""

    def __init__(self, folder: Path, nltk: Path) -> None:
        self.folder = folder
        (folder / "ifbench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in BENCHMARK))
        values = to_dict(load_config(ROOT / "config" / "smoke.yaml"))
        values["results"] = str(folder / "results")
        values["sources"] = {
            "policy": {"uri": "tiny:"},
            "nltk": {"uri": f"file:{nltk}", "keep": ["corpora/stopwords/english", "tokenizers/punkt_tab/english/"]},
            "benchmarks": {"ifbench": {"uri": f"file:{folder / 'ifbench.jsonl'}"}},
        }
        values["prompts"]["count"] = 120
        values["labels"] |= {"train_prompts": 12, "unseen_topics_prompts": 3, "unseen_kinds_prompts": 3, "samples": 1}
        values["labels"]["generation"]["max_tokens"] = 8
        values["discriminator"] |= {"layers": 1, "epochs": 1, "threads": 1}
        values["policy"] |= {"steps_per_round": 1, "group_size": 2, "batch_size": 4}
        values["policy"]["generation"]["max_tokens"] = 4
        values["evaluation"]["bootstrap_draws"] = 100
        for benchmark in values["evaluation"]["benchmarks"].values():
            benchmark |= {"limit": 3, "max_tokens": 6}
        self.values = values
        self.config = self.write("config", {})
        self.policy, self.nltk = folder / "policy", folder / "nltk"
        self.prompts, self.responses, self.verdicts, self.labels = (
            folder / f"{name}.parquet" for name in ("prompts", "responses", "verdicts", "labels")
        )

    def write(self, name: str, changes: dict[str, Any]) -> Path:
        """A configuration with other values; `.` stands between the parts of a key."""
        values = json.loads(json.dumps(self.values))
        for key, value in changes.items():
            *path, last = key.split(".")
            place = values
            for part in path:
                place = place[part]
            place[last] = value
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    def make(self) -> None:
        step("fetch", "policy", "--config", self.config, "--output", self.policy)
        step("fetch", "nltk", "--config", self.config, "--output", self.nltk)
        step("prompts", "--config", self.config, "--output", self.prompts)
        common = ("--config", self.config, "--prompts", self.prompts)
        step("responses", *common, "--policy", self.policy, "--output", self.responses)
        tables = ("--prompts", self.prompts, "--responses", self.responses, "--nltk", self.nltk)
        step("verdicts", *tables, "--output", self.verdicts)
        step("labels", "--config", self.config, *tables, "--verdicts", self.verdicts, "--output", self.labels)

    def evaluate(self, output: Path, **changes: object) -> list[object]:
        """The command that scores the base policy on the split validation."""
        values = {
            "config": self.config,
            "benchmark": "validation",
            "arm": "base",
            "seed": 0,
            "step": 0,
            "policy": self.policy,
            "prompts": self.prompts,
            "nltk": self.nltk,
            "output": output,
            "responses": output.with_name("answers.parquet"),
            **changes,
        }
        return ["evaluate", *(part for name, value in values.items() for part in (f"--{name}", value))]

    def round(self, output: Path, **changes: object) -> list[object]:
        """The command that trains the first round of the plain arm."""
        values = {
            "config": self.config,
            "arm": "rl_csr",
            "seed": 0,
            "round": 1,
            "policy": self.policy,
            "prompts": self.prompts,
            "nltk": self.nltk,
            "output": output,
            **changes,
        }
        return ["round", *(part for name, value in values.items() for part in (f"--{name}", value))]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, nltk_data: Path) -> Study:
    before = dict(os.environ)
    study = Study(tmp_path_factory.mktemp("study"), nltk_data)
    study.make()
    os.environ.clear()
    os.environ.update(before)
    return study


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    """An earlier product where the step should write; still there, and alone, after the step has failed."""
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / "product.parquet"
    path.write_bytes(OLD)
    yield path
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sealed checkpoint of one file."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    seal(folder)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with an earlier product and no more than 8 KiB left."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        (place / "product.parquet").write_bytes(OLD)
        (place / "filler").write_bytes(bytes(48 * 1024))
        yield place
        assert (place / "product.parquet").read_bytes() == OLD
        assert {path.name for path in place.iterdir()} == {"product.parquet", "filler"}
    finally:
        subprocess.run(["umount", str(place)], check=True)


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


# Each step by hand


def test_first_steps_leave_tables_that_belong_together(study):
    prompts, responses = read_table(study.prompts, Prompts), read_table(study.responses, Responses)
    verdicts, labels = read_table(study.verdicts, Verdicts), read_table(study.labels, Labels)
    assert len(prompts) == 120
    assert len(responses) == 12 + 3 + 3
    assert set(responses["prompt_id"]) <= set(prompts["prompt_id"])
    assert responses["tokens"].max() <= 8
    asked = prompts.set_index("prompt_id")["rubrics"].map(lambda text: [r.rubric_id for r in parse_rubrics(text)])
    assert verdicts["rubric_id"].tolist() == [r for prompt_id in responses["prompt_id"] for r in asked[prompt_id]]
    judged = verdicts[verdicts["verdict"].notna()]
    assert labels["rubric_id"].tolist() == judged["rubric_id"].tolist()
    assert set(labels["split"]) == {"train", "development", "unseen_topics", "unseen_kinds"}
    kept = {path.relative_to(study.nltk).as_posix() for path in study.nltk.rglob("*") if path.is_file()}
    assert "corpora/stopwords/english" in kept
    assert all(name.startswith(("corpora/stopwords/english", "tokenizers/punkt_tab/english/")) for name in kept)


def test_resolved_configuration_stands_beside_each_output(study):
    for name in ("policy", "nltk", "prompts", "responses", "labels"):
        assert load_config(study.folder / f"{name}.config.yaml") == load_config(study.config)


def test_step_done_again_gives_the_same_bytes(study, tmp_path):
    step("prompts", "--config", study.config, "--output", tmp_path / "prompts.parquet")
    assert (tmp_path / "prompts.parquet").read_bytes() == study.prompts.read_bytes()
    common = ("--config", study.config, "--prompts", study.prompts, "--policy", study.policy)
    step("responses", *common, "--output", tmp_path / "responses.parquet")
    assert (tmp_path / "responses.parquet").read_bytes() == study.responses.read_bytes()


def test_steps_chain_by_hand_from_a_benchmark_to_a_tracked_comparison(study, tmp_path, capsys):
    config = ("--config", study.config)
    track = f"sqlite:///{tmp_path}/mlflow.db"
    step("experiment", *config, "--track", track, "--output", tmp_path / "mlflow" / "experiment.json")

    step("fetch", "ifbench", *config, "--output", tmp_path / "ifbench.jsonl")
    benchmark, left_out = tmp_path / "ifbench.parquet", tmp_path / "left_out.json"
    files = ("--input", tmp_path / "ifbench.jsonl", "--nltk", study.nltk, "--output", benchmark)
    step("benchmark", "--name", "ifbench", *files, "--left-out", left_out)
    assert read_table(benchmark, Prompts)["prompt_id"].tolist() == ["ifbench/1", "ifbench/2"]
    assert json.loads(left_out.read_text()) == {"benchmark": "ifbench", "kept": 2, "left_out": {}}

    model, metrics = tmp_path / "discriminator", tmp_path / "metrics.json"
    inputs = ("--labels", study.labels, "--backbone", study.policy)
    step("discriminator", *config, *inputs, "--output", model, "--metrics", metrics, "--track", track)
    assert set(json.loads(metrics.read_text())["sets"]) == {"unseen_topics", "unseen_kinds"}
    assert (model / "manifest.json").exists()

    scores = []
    for arm, steps in (("base", 0), ("rl_csr", 2), ("rtt_csr", 2)):
        for name, prompts in (("validation", study.prompts), ("ifbench", benchmark)):
            output = tmp_path / arm / name / "scores.parquet"
            step(*study.evaluate(output, benchmark=name, arm=arm, step=steps, prompts=prompts))
            table, answers = read_table(output, Scores), read_table(output.with_name("answers.parquet"), Responses)
            assert set(table["prompt_id"]) == set(answers["prompt_id"])
            assert table["prompt_id"].nunique() == {"validation": 3, "ifbench": 2}[name]
            assert (set(table["arm"]), set(table["step"]), set(table["benchmark"])) == ({arm}, {steps}, {name})
            scores.append(output)

    results = tmp_path / "results"
    extras = ("--discriminators", metrics, "--left-out", left_out)
    step("report", *config, "--scores", *scores, *extras, "--output", results)
    main = pd.read_csv(results / "tables" / "main.csv")
    assert set(main["arm"]) == {"base", "rl_csr", "rtt_csr"}
    assert (results / "report" / "index.html").exists()
    shown = capsys.readouterr().out
    assert (results / "tables" / "main.txt").read_text() in shown

    output = tmp_path / "mlflow" / "comparison.json"
    files = ("--scores", *scores, "--report", results, "--prompts", study.prompts)
    step("compare", *config, "--track", track, *files, "--output", output)
    tracker = Tracker(track, load_config(study.config).tracking.experiment)
    experiment = json.loads((tmp_path / "mlflow" / "experiment.json").read_text())
    columns = experiment.pop("columns")
    assert "eval/validation/instruction_strict" in columns
    assert experiment == {"uri": track, "name": tracker.name, "id": tracker.create_experiment()}
    runs = {run.data.tags[KEY]: run for run in tracker.client.search_runs([experiment["id"]])}
    assert {"comparison", "base/seed_0", "rl_csr/seed_0", "rtt_csr/seed_0"} <= set(runs)
    assert sum(key.startswith("discriminator") for key in runs) == 1
    assert runs["comparison"].info.run_id == json.loads(output.read_text())["run"]
    strict = read_table(tmp_path / "base" / "ifbench" / "scores.parquet", Scores)["strict"].mean()
    assert runs["base/seed_0"].data.metrics["eval/ifbench/instruction_strict"] == pytest.approx(strict)


def test_first_round_done_again_with_other_settings_begins_its_arm_anew(study, tmp_path):
    track = f"sqlite:///{tmp_path}/mlflow.db"
    for rate in (1e-3, 2e-3):
        config = study.write("rate", {"policy.learning_rate": rate})
        step(*study.round(tmp_path / "round_1", config=config, track=track))
    tracker = Tracker(track, load_config(study.config).tracking.experiment)
    runs = {run.data.tags[KEY]: run for run in tracker.client.search_runs([tracker.create_experiment()])}
    assert set(runs) == {"rl_csr/seed_0", "rl_csr/seed_0/round_1"}
    assert runs["rl_csr/seed_0"].data.params["policy.learning_rate"] == "0.002"
    child = runs["rl_csr/seed_0/round_1"]
    assert child.data.tags["mlflow.parentRunId"] == runs["rl_csr/seed_0"].info.run_id
    kept = tmp_path / "artifacts" / child.info.run_id / "artifacts" / "rollouts.parquet"
    assert kept.read_bytes() == (tmp_path / "round_1" / "rollouts.parquet").read_bytes()


# Help


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["round", "--help"], ["evaluate", "--help"]])
def test_help_answers_without_heavy_imports(arguments):
    program = (
        "import sys\nfrom rtt.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    print('status', end.code, *sorted(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT)
    *shown, last = done.stdout.splitlines()
    assert last.startswith("status 0 ")
    assert "argparse" in last.split()
    assert not HEAVY & set(last.split())
    assert shown


@pytest.mark.parametrize("name", subcommands())
def test_help_of_a_step_opens_with_its_purpose_and_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        step(name, "--help")
    assert caught.value.code == 0
    usage, purpose, example, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: rtt {name} ")
    assert purpose.endswith(".")
    assert example.startswith(f"  rtt {name} ")


@pytest.mark.parametrize(("name", "parser"), subcommands().items())
def test_example_in_the_help_of_a_step_is_accepted_by_it(name, parser):
    example = parser.description.split("\n\n")[1].split()
    assert example[:2] == ["rtt", name]
    assert make_parser().parse_args(example[1:]).command == name


def test_bad_flag_is_answered_with_the_usage():
    done = command("prompts", "--colour", "blue")
    assert done.returncode == 2
    assert "usage: rtt prompts" in done.stderr
    assert "Traceback" not in done.stderr


# Mistakes in the configuration


def test_mistake_ends_with_status_one_and_a_message_on_stderr(study, old):
    config = study.write("unknown", {"policy.colour": "blue"})
    done = command("prompts", "--config", config, "--output", old)
    assert (done.returncode, done.stdout) == (1, "")
    assert "policy.colour: unknown key" in one_message(done.stderr)
    assert str(config) in done.stderr


def test_group_size_that_does_not_divide_the_batch_is_refused(study, old):
    config = study.write("groups", {"policy.group_size": 3, "policy.batch_size": 16})
    message = refusal("prompts", "--config", config, "--output", old)
    assert "policy.group_size 3 does not divide policy.batch_size 16" in message
    assert "such as 15" in message


def test_absent_configuration_is_named(tmp_path, old):
    message = refusal("prompts", "--config", tmp_path / "absent.yaml", "--output", old)
    assert "the configuration is not there" in message
    assert str(tmp_path / "absent.yaml") in message


@pytest.mark.parametrize("name", ["fetch", "evaluate", "round"])
def test_unknown_name_is_answered_with_the_known_ones(study, old, name):
    if name == "fetch":
        message = refusal("fetch", "judge", "--config", study.config, "--output", old)
        assert "no source is called judge" in message
        assert "['ifbench', 'nltk', 'policy']" in message
    elif name == "evaluate":
        message = refusal(*study.evaluate(old, benchmark="ifeval"))
        assert "no benchmark is called ifeval" in message
        assert "heldout_topics" in message
    else:
        message = refusal(*study.round(old, arm="rl_best"))
        assert "no arm is called rl_best" in message
        assert "rtt_csr" in message


# Mistakes in the data


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{}"], "prompt: Field required"),
        (['{"prompt": "Hi", "rubrics": [{"kind": "tone:kind", "text": "x"}]}'], "unknown rubric kind 'tone:kind'"),
        (['{"prompt": "Hi", "rubrics": []}'], "rubrics: "),
        (['{"prompt": "Hi", "rub'], "not JSON"),
        (['{"prompt": "Hi", "rubrics": [{"kind": "punctuation:no_comma", "text": "x"}], "mood": 1}'], "mood: "),
    ],
    ids=["field missing", "kind unknown", "no rubric", "cut short", "field unknown"],
)
def test_malformed_row_is_named_by_file_and_line(study, old, tmp_path, lines, said):
    good = '{"prompt": "Hello", "rubrics": [{"kind": "punctuation:no_comma", "text": "Use no comma."}]}'
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join([good, "", *lines]) + "\n")
    message = refusal("prompts", "--config", study.config, "--input", own, "--output", old)
    assert said in message
    assert f"where: {own}, line 3" in message


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_empty_data_set_of_ones_own_is_refused(study, old, tmp_path, text):
    (tmp_path / "own.jsonl").write_text(text)
    message = refusal("prompts", "--config", study.config, "--input", tmp_path / "own.jsonl", "--output", old)
    assert "the file is empty" in message
    assert str(tmp_path / "own.jsonl") in message


def test_ones_own_prompts_are_read(study, tmp_path):
    rubrics = [{"kind": "punctuation:no_comma", "text": "Use no comma."}]
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "Hello", "rubrics": rubrics}) + "\n")
    output = tmp_path / "prompts.parquet"
    step("prompts", "--config", study.config, "--input", tmp_path / "own.jsonl", "--output", output)
    assert read_table(output, Prompts)[["prompt_id", "prompt"]].values.tolist() == [["own/0001", "Hello"]]


def judge(study: Study, output: Path, **changes: Path) -> list[object]:
    files = {"prompts": study.prompts, "responses": study.responses, "nltk": study.nltk, **changes, "output": output}
    return ["verdicts", *(part for name, value in files.items() for part in (f"--{name}", value))]


def test_empty_table_is_refused(study, old, tmp_path):
    empty = tmp_path / "empty.parquet"
    pd.read_parquet(study.responses).iloc[:0].to_parquet(empty, index=False)
    message = refusal(*judge(study, old, responses=empty))
    assert "the table Responses has no rows" in message
    assert str(empty) in message


def test_missing_columns_are_named(study, old, tmp_path):
    narrow = tmp_path / "narrow.parquet"
    pd.read_parquet(study.responses).drop(columns=["response", "tokens"]).to_parquet(narrow, index=False)
    message = refusal(*judge(study, old, responses=narrow))
    assert "column response: it is missing" in message
    assert "column tokens: it is missing" in message
    assert str(narrow) in message


def test_absent_and_damaged_tables_are_refused(study, old, tmp_path):
    assert "the table is not there" in refusal(*judge(study, old, responses=tmp_path / "absent.parquet"))
    (tmp_path / "damaged.parquet").write_bytes(study.responses.read_bytes()[:-30])
    assert "the table cannot be read" in refusal(*judge(study, old, responses=tmp_path / "damaged.parquet"))


def test_folder_without_nltk_data_is_refused(study, old, tmp_path):
    (tmp_path / "nltk").mkdir()
    message = refusal(*judge(study, old, nltk=tmp_path / "nltk"))
    assert "the NLTK data folder has no tokenizers/punkt_tab" in message


@pytest.mark.parametrize("column", ["rubric_id", "response_id", "prompt_id"])
def test_verdict_on_something_unknown_is_refused(study, old, tmp_path, column):
    table = pd.read_parquet(study.verdicts)
    table.loc[1, column] = "nobody/9"
    table.to_parquet(tmp_path / "verdicts.parquet", index=False)
    tables = ("--prompts", study.prompts, "--responses", study.responses, "--verdicts", tmp_path / "verdicts.parquet")
    message = refusal("labels", "--config", study.config, *tables, "--nltk", study.nltk, "--output", old)
    assert f"unknown {column}, such as 'nobody/9'" in message


def test_prompts_that_lack_the_benchmarks_split_are_refused(study, old):
    message = refusal(*study.evaluate(old, benchmark="ifbench"))
    assert "no prompt has the split ifbench" in message
    assert f"where: {study.prompts}" in message


# Mistakes in models and checkpoints


@pytest.mark.parametrize("name", ["evaluate", "round"])
def test_policy_without_a_chat_template_is_refused(study, old, tmp_path, name):
    plain = shutil.copytree(study.policy, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    message = refusal(*(study.evaluate if name == "evaluate" else study.round)(old, policy=plain))
    assert "the policy has no chat template" in message
    assert str(plain) in message
    assert "use an instruct model" in message


@pytest.mark.parametrize("name", ["evaluate", "round"])
def test_absent_policy_is_refused(study, old, tmp_path, name):
    message = refusal(*(study.evaluate if name == "evaluate" else study.round)(old, policy=tmp_path / "absent"))
    assert "the policy's folder is not there" in message


@pytest.mark.parametrize("name", ["evaluate", "round"])
def test_absent_checkpoint_is_refused(study, old, tmp_path, name):
    absent = tmp_path / "absent"
    given = study.evaluate(old, checkpoint=absent) if name == "evaluate" else study.round(old, round=2, start=absent)
    message = refusal(*given)
    assert "the checkpoint is not there" in message
    assert f"where: {absent}" in message


@pytest.mark.parametrize("name", ["evaluate", "round"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"weightz"), "is damaged: adapter_model"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "lacks adapter_model.safetensors"),
        (lambda folder: (folder / "manifest.json").unlink(), "it was cut short"),
    ],
    ids=["changed", "lost", "unsealed"],
)
def test_damaged_checkpoint_is_refused_by_file(study, old, checkpoint, name, damage, said):
    damage(checkpoint)
    given = {
        "evaluate": study.evaluate(old, checkpoint=checkpoint),
        "round": study.round(old, round=2, start=checkpoint),
    }
    message = refusal(*given[name])
    assert said in message
    assert f"where: {checkpoint}" in message


# Mistakes in reports


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_what_is_no_file_of_a_discriminators_figures_is_refused(study, tmp_path, content):
    scores = study.folder / "scores.parquet"
    wrong = tmp_path / "metrics.json"
    if content is not None:
        wrong.write_text(content)
    message = refusal(
        *("report", "--config", study.config, "--scores", scores, "--discriminators", wrong, "--output", tmp_path)
    )
    assert "no file of a discriminator's figures" in message
    assert f"where: {wrong}" in message


def test_report_without_scores_and_of_a_study_that_never_ran_is_refused(study, tmp_path):
    assert "no scores were given" in refusal("report", "--config", study.config, "--output", tmp_path)
    config = study.write("never", {"results": str(tmp_path / "never")})
    assert "nothing has been evaluated yet" in refusal("report", "--partial", "--config", config, "--output", tmp_path)


# Sources


def test_wrong_checksum_names_both_sums(study, old):
    wrong = "0" * 64
    source = study.folder / "ifbench.jsonl"
    config = study.write("sum", {"sources.benchmarks.ifbench": {"uri": f"file:{source}", "sha256": wrong}})
    message = refusal("fetch", "ifbench", "--config", config, "--output", old)
    assert f"expected sha256 {wrong}" in message
    assert f"found {hashlib.sha256(source.read_bytes()).hexdigest()}" in message


def test_absent_file_source_is_refused(study, old, tmp_path):
    config = study.write("absent", {"sources.benchmarks.ifbench.uri": f"file:{tmp_path / 'absent.jsonl'}"})
    message = refusal("fetch", "ifbench", "--config", config, "--output", old)
    assert "is not there" in message
    assert str(tmp_path / "absent.jsonl") in message


@pytest.mark.parametrize("way", ["no index", "index out of reach"])
def test_unreachable_source_is_refused(study, old, tmp_path, monkeypatch, way):
    source = {"uri": "pypi:rtt-no-such-data==1.0", "file": "data.jsonl", "sha256": "0" * 64}
    config = study.write("unreachable", {"sources.benchmarks.ifbench": source})
    (tmp_path / "wheels").mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    if way == "no index":
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    else:
        monkeypatch.setenv("PIP_INDEX_URL", f"{NOBODY}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    message = refusal("fetch", "ifbench", "--config", config, "--output", old)
    assert "the wheel of rtt-no-such-data==1.0 cannot be downloaded" in message
    assert "where: pypi:rtt-no-such-data==1.0" in message
    assert "PIP_FIND_LINKS" in message


def test_tracking_server_that_does_not_answer_is_named(study, old, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    message = refusal("experiment", "--config", study.config, "--track", NOBODY, "--output", old)
    assert "MLflow cannot be used" in message
    assert f"where: {NOBODY}" in message


# A full disk


def test_full_disk_stops_a_table_and_leaves_the_old_one(study, small_disk):
    message = refusal("prompts", "--config", study.config, "--output", small_disk / "product.parquet")
    assert "no space is left on the disk" in message
    assert f"where: {small_disk}/product.parquet" in message


def test_full_disk_stops_a_fetch_and_leaves_the_old_file(study, small_disk, tmp_path):
    (tmp_path / "large.jsonl").write_bytes(bytes(100 * 1024))
    config = study.write("large", {"sources.benchmarks.ifbench.uri": f"file:{tmp_path / 'large.jsonl'}"})
    message = refusal("fetch", "ifbench", "--config", config, "--output", small_disk / "product.parquet")
    assert "no space is left on the disk" in message


def test_full_disk_stops_a_model_and_leaves_the_old_product(study, small_disk):
    message = refusal("fetch", "policy", "--config", study.config, "--output", small_disk / "policy")
    assert "no space is left on the disk" in message


def test_error_of_our_own_is_not_taken_for_a_mistake():
    def broken(arguments: argparse.Namespace) -> None:
        raise RuntimeError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "parse", lambda argv: argparse.Namespace(command="prompts", handler=broken))
        with pytest.raises(RuntimeError, match="a bug"):
            cli.main([])


def test_an_experiment_that_is_there_is_not_asked_for_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri, output = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "experiment.json"
    line = ["experiment", "--config", str(ROOT / "config/smoke.yaml"), "--track", uri, "--output", str(output)]
    cli.main(line)
    assert "is number 1" in capsys.readouterr().out
    cli.main(line)
    assert capsys.readouterr().out == ""
    known = json.loads(output.read_text())
    output.write_text(json.dumps({**known, "columns": []}))
    cli.main(line)  # the shared view has other columns
    assert "is number 1" in capsys.readouterr().out
    assert json.loads(output.read_text()) == known
    assert _has_experiment(output, known)
    (tmp_path / "mlflow.db").rename(tmp_path / "elsewhere.db")
    assert not _has_experiment(output, known)
    output.write_text(json.dumps({**known, "uri": NOBODY}))
    with pytest.raises(SystemExit, match="MLflow cannot be used"):  # a server may be gone by now
        cli.main([NOBODY if part == uri else part for part in line])
