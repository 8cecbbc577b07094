"""MLflow: the same step done again replaces its run, and a server that stops answering never stops a step."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtt.config import load_config
from rtt.errors import UserError
from rtt.tracking import KEY, Both, NoRun, Rounds, Tracker, flatten

SMOKE = Path(__file__).parents[1] / "config" / "smoke.yaml"
NOBODY = "http://127.0.0.1:9"  # the discard port, on which nobody listens


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of one database for the module: making the tables takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    Tracker(uri, "first").create_experiment()
    return uri


@pytest.fixture
def tracker(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Tracker:
    """An experiment of this test's own."""
    tracker = Tracker(database, request.node.name)
    tracker.create_experiment(tmp_path / "artifacts")
    return tracker


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def keys(tracker: Tracker) -> list[str]:
    runs = tracker.client.search_runs([tracker.create_experiment()])
    return sorted(run.data.tags[KEY] for run in runs)


def history(tracker: Tracker, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run_id, name)]


def unanswered(run: Any, call: Callable[[], None]) -> None:
    """`call` while the run's server does not answer."""
    client, run.client = run.client, Tracker(NOBODY, "x").client
    try:
        call()
    finally:
        run.client = client


def test_experiment_is_made_once(database, tmp_path):
    first = Tracker(database, "once").create_experiment(tmp_path / "artifacts")
    second = Tracker(database, "once").create_experiment(tmp_path / "elsewhere")
    assert first == second
    client = Tracker(database, "once").client
    assert [found.name for found in client.search_experiments()].count("once") == 1
    assert client.get_experiment(first).artifact_location == (tmp_path / "artifacts").as_uri()


def test_artifacts_go_beside_a_database_where_nothing_else_is_said(database):
    tracker = Tracker(database, "beside")
    location = tracker.client.get_experiment(tracker.create_experiment()).artifact_location
    assert location == Path(database.removeprefix("sqlite:///")).with_name("artifacts").as_uri()


def test_deleted_experiment_comes_back(database):
    tracker = Tracker(database, "deleted")
    identifier = tracker.create_experiment()
    tracker.client.delete_experiment(identifier)
    assert Tracker(database, "deleted").create_experiment() == identifier
    assert tracker.client.get_experiment(identifier).lifecycle_stage == "active"


def test_step_done_again_replaces_its_run_alone(tracker):
    other = tracker.open("arm/seed_1", "other", {})
    first = tracker.open("arm/seed_0", "first", {})
    second = tracker.open("arm/seed_0", "second", {})
    assert keys(tracker) == ["arm/seed_0", "arm/seed_1"]
    stages = [tracker.client.get_run(run.run_id).info.lifecycle_stage for run in (other, first, second)]
    assert stages == ["active", "deleted", "active"]


@pytest.fixture
def rounds(tracker: Tracker, tmp_path: Path) -> Rounds:
    data = tmp_path / "prompts.parquet"
    data.write_text("prompts")
    return Rounds(tracker, load_config(SMOKE), data)


def test_an_arms_run_is_found_again_and_made_when_absent_or_asked_for_anew(tracker, rounds):
    parent = rounds.arm("rtt_csr", 0, anew=False)
    made = tracker.client.get_run(parent.run_id).data
    assert (made.tags["arm"], made.tags["seed"], made.tags["level"]) == ("rtt_csr", "0", "arm")
    assert made.params["arm.credit.weight"] == "0.5"
    assert made.params["policy.group_size"] == "4"
    assert rounds.arm("rtt_csr", 0, anew=False).run_id == parent.run_id
    assert rounds.arm("rtt_csr", 1, anew=False).run_id != parent.run_id
    assert rounds.arm("rtt_csr", 0, anew=True).run_id != parent.run_id
    assert rounds.arm("base", 0, anew=False).run_id


FIGURES = {3: {"loss": 0.3, "reward": 0.5}, 4: {"loss": 0.4, "reward": float("nan")}}


def test_what_mlflow_lacks_of_a_round_is_sent_and_nothing_twice(tracker, rounds):
    parent = rounds.arm("rtt_csr", 0, anew=True)
    child = rounds.round("rtt_csr", 0, 2, parent)
    for run in (parent, child):
        run.log_metrics({"train/loss": 0.3, "train/reward": 0.5, "train/step_time": 7.0}, 3)
    assert rounds.complete("rtt_csr", 0, 2, FIGURES) == 1
    for run in (parent, child):
        assert history(tracker, run.run_id, "train/loss") == [(3, 0.3), (4, 0.4)]
        assert history(tracker, run.run_id, "train/reward") == [(3, 0.5)]
        assert history(tracker, run.run_id, "train/step_time") == [(3, 7.0)]
    assert tracker.client.get_run(child.run_id).info.status == "FINISHED"
    assert rounds.complete("rtt_csr", 0, 2, FIGURES) == 0


def test_a_round_mlflow_knows_nothing_of_gets_its_runs_from_its_figures(tracker, rounds):
    assert rounds.complete("rtt_csr", 0, 1, FIGURES) == 2
    assert keys(tracker) == ["rtt_csr/seed_0", "rtt_csr/seed_0/round_1"]
    child, parent = tracker.find("rtt_csr/seed_0/round_1"), tracker.find("rtt_csr/seed_0")
    assert tracker.client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    assert history(tracker, parent.run_id, "train/loss") == [(3, 0.3), (4, 0.4)]


def test_a_finished_round_that_lacks_nothing_is_left_alone(tracker, rounds):
    rounds.complete("rtt_csr", 0, 1, FIGURES)
    child = tracker.find("rtt_csr/seed_0/round_1")
    ended = tracker.client.get_run(child.run_id).info.end_time
    time.sleep(0.01)
    rounds.complete("rtt_csr", 0, 1, FIGURES)
    assert tracker.client.get_run(child.run_id).info.end_time == ended


def test_child_names_its_parent(tracker):
    parent = tracker.open("arm/seed_0", "arm", {})
    child = tracker.open("arm/seed_0/round_1", "round", {"level": "round"}, parent.run_id)
    tags = tracker.client.get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id
    assert (tags["level"], tags["mlflow.runName"], tags[KEY]) == ("round", "round", "arm/seed_0/round_1")
    assert "mlflow.parentRunId" not in tracker.client.get_run(parent.run_id).data.tags


def test_metric_names_lose_what_mlflow_refuses(tracker):
    run = tracker.open("run", "run", {})
    run.log_metrics({"train/kl (mean, λ=0.5)": 1.0, "eval/ifbench:strict": 2.0}, 3)
    metrics = tracker.client.get_run(run.run_id).data.metrics
    assert metrics == {"train/kl _mean_ λ_0.5_": 1.0, "eval/ifbench:strict": 2.0}


def test_nan_is_left_out_and_zero_is_not(tracker):
    run = tracker.open("run", "run", {})
    run.log_metrics({"a": float("nan"), "b": 0.0}, 1)
    assert tracker.client.get_run(run.run_id).data.metrics == {"b": 0.0}


def test_no_request_has_more_than_a_server_takes(tracker, monkeypatch):
    run = tracker.open("run", "run", {})
    send, sizes = run.client.log_batch, []

    def counted(run_id: str, metrics: Any = (), params: Any = ()) -> None:
        sizes.append((len(metrics), len(params)))
        send(run_id, metrics=metrics, params=params)

    monkeypatch.setattr(run.client, "log_batch", counted)
    run.log_metrics({f"m{number}": float(number) for number in range(1001)}, 1)
    run.log_params({f"p{number}": number for number in range(101)})
    assert sizes == [(1000, 0), (1, 0), (0, 100), (0, 1)]
    data = tracker.client.get_run(run.run_id).data
    assert (len(data.metrics), data.metrics["m1000"]) == (1001, 1000.0)
    assert (len(data.params), data.params["p100"]) == (101, "100")


def test_long_parameter_is_cut_to_what_mlflow_takes(tracker):
    run = tracker.open("run", "run", {})
    run.log_params({"long": "x" * 7000})
    assert tracker.client.get_run(run.run_id).data.params == {"long": "x" * 6000}


def test_figures_are_kept_while_the_server_does_not_answer_and_sent_with_the_next(tracker, caplog):
    run = tracker.open("run", "run", {})
    run.log_metrics({"loss": 1.0}, 1)
    with caplog.at_level(logging.WARNING):
        unanswered(run, lambda: run.log_metrics({"loss": 2.0}, 2))
    assert "MLflow did not take the figures of step 2, they are kept for later" in caplog.text
    assert history(tracker, run.run_id, "loss") == [(1, 1.0)]
    run.log_metrics({"loss": 3.0}, 3)
    assert history(tracker, run.run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert run.waiting == []


def test_figures_still_kept_are_sent_at_the_end(tracker):
    run = tracker.open("run", "run", {})
    unanswered(run, lambda: run.log_metrics({"loss": 2.0}, 2))
    run.finish()
    assert history(tracker, run.run_id, "loss") == [(2, 2.0)]
    assert tracker.client.get_run(run.run_id).info.status == "FINISHED"


def test_server_that_stops_answering_never_stops_a_step(tracker, tmp_path, caplog):
    run = tracker.open("run", "run", {})
    (tmp_path / "table.csv").write_text("a\n")

    def everything() -> None:
        run.log_params({"a": 1})
        run.log_metrics({"loss": 1.0}, 1)
        run.log_artifact(tmp_path / "table.csv")
        run.finish()

    with caplog.at_level(logging.WARNING):
        unanswered(run, everything)
    for lost in ("the parameters", "the figures of step 1", f"the file {tmp_path}/table.csv", "the status FINISHED"):
        assert f"MLflow did not take {lost}" in caplog.text


def test_artifact_lands_in_its_folder(tracker, tmp_path):
    run = tracker.open("run", "run", {})
    (tmp_path / "table.csv").write_text("a\n")
    run.log_artifact(tmp_path / "table.csv", "tables")
    assert [file.path for file in tracker.client.list_artifacts(run.run_id, "tables")] == ["tables/table.csv"]
    assert (tmp_path / "artifacts" / run.run_id / "artifacts" / "tables" / "table.csv").read_text() == "a\n"


def test_failed_run_is_marked_so(tracker):
    run = tracker.open("run", "run", {})
    run.finish("FAILED")
    assert tracker.client.get_run(run.run_id).info.status == "FAILED"


@pytest.mark.parametrize("uri", [NOBODY, "sqlite:", "telegraph://office"])
def test_uri_that_leads_nowhere_is_refused_by_name(uri):
    with pytest.raises(UserError, match="MLflow cannot be used: ") as caught:
        Tracker(uri, "x").open("run", "run", {})
    assert caught.value.where == uri
    assert "correct the tracking URI" in caught.value.todo


def test_run_nobody_records_accepts_everything(tmp_path):
    run = NoRun()
    run.log_metrics({"a": float("nan"), "": 1.0}, -1)
    run.log_params({"a": object()})
    run.log_artifact(tmp_path / "absent", "folder")
    run.finish("FAILED")
    assert run.run_id == ""
    assert list(tmp_path.iterdir()) == []


def test_nested_keys_are_joined_with_dots():
    nested = {"policy": {"lora": {"rank": 4}, "beta": 0.0}, "seeds": [0, 1], "empty": {}}
    assert flatten(nested) == {"policy.lora.rank": 4, "policy.beta": 0.0, "seeds": [0, 1]}
    assert flatten({"a": 1}, "x.") == {"x.a": 1}


def test_what_a_run_was_made_from(tracker, tmp_path):
    table = tmp_path / "prompts.parquet"
    table.write_bytes(b"rows")
    first, second = (tracker.open(f"arm/{n}", f"arm {n}", {}) for n in (1, 2))
    for run in (first, second):
        run.log_inputs({"training": table}, {"policy": "abc", "discriminator": "def"})
    found = tracker.client.get_run(second.run_id)
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("prompts", "bc51e9e65d79e1c9")
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]
    models = [tracker.client.get_logged_model(entry.model_id) for entry in found.inputs.model_inputs]
    assert sorted((model.name, model.tags["digest"]) for model in models) == [
        ("discriminator", "def"),
        ("policy", "abc"),
    ]
    # the same weights are the same entry, whoever starts from them
    assert [entry.model_id for entry in found.inputs.model_inputs] == [
        entry.model_id for entry in tracker.client.get_run(first.run_id).inputs.model_inputs
    ]


def test_inputs_that_cannot_be_sent_do_not_stop_a_step(tracker, tmp_path, caplog):
    run = tracker.open("arm", "arm", {})
    unanswered(run, lambda: run.log_inputs({}, {"policy": "abc"}))
    assert "MLflow did not take its inputs" in caplog.text


def test_figures_go_to_the_run_above_too(tracker):
    above, below = tracker.open("arm", "arm", {}), tracker.open("arm/round_1", "round", {})
    both = Both(below, above)
    both.log_metrics({"train/loss": 0.5}, 3)
    both.log_params({"seed": 1})
    both.finish()
    for run, status in ((above, "RUNNING"), (below, "FINISHED")):
        assert history(tracker, run.run_id, "train/loss") == [(3, 0.5)]
        assert tracker.client.get_run(run.run_id).info.status == status
    assert tracker.client.get_run(below.run_id).data.params == {"seed": "1"}
    assert tracker.client.get_run(above.run_id).data.params == {}


def test_a_failure_is_the_run_aboves_too(tracker):
    above, below = tracker.open("arm", "arm", {}), tracker.open("arm/round_1", "round", {})
    unanswered(above, lambda: above.log_metrics({"train/loss": 0.5}, 1))
    Both(below, above).finish("FAILED")
    assert [tracker.client.get_run(run.run_id).info.status for run in (above, below)] == ["FAILED", "FAILED"]
    assert history(tracker, above.run_id, "train/loss") == [(1, 0.5)]


def test_the_load_of_the_system_is_recorded_while_a_run_lasts(tracker, database, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    run = tracker.open("arm", "arm", {})
    run.watch_system(database)
    deadline = time.monotonic() + 20
    while not history(tracker, run.run_id, "system/cpu_utilization_percentage") and time.monotonic() < deadline:
        time.sleep(0.05)
    run.finish()
    assert history(tracker, run.run_id, "system/cpu_utilization_percentage")
    assert run.monitor is None
    assert not [thread.name for thread in threading.enumerate() if "SystemMetrics" in thread.name]


def test_the_shared_view_names_its_columns(tracker):
    tracker.share_view(["eval/ifbench/prompt_strict", "train/reward"])
    experiment = tracker.client.get_experiment(tracker.create_experiment())
    view = json.loads(experiment.tags["mlflow.sharedViewState.arms"])
    assert view["selectedColumns"] == ["metrics.`eval/ifbench/prompt_strict`", "metrics.`train/reward`"]
    assert view["searchFilter"] == 'tags.level = "arm"'
