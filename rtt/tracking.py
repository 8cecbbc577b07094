"""MLflow behind a small interface, with a twin that does nothing, so that every step runs without it."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rtt.config import Config, to_dict
from rtt.errors import UserError
from rtt.provenance import short_digest, tags

_log = logging.getLogger(__name__)

KEY = "rtt.key"
"""Tag that says which product a run belongs to; the same step done again replaces its run."""


SHARED_VIEW = "arms"
"""Name of the view of all arms: ``…/#/experiments/1/runs?viewStateShareKey=arms``."""

_MARK = "train/loss"
"""Every step of a round has this figure."""

SQLITE = "sqlite:///"
"""What stands before the path in the URI of a SQLite database."""


class Run(Protocol):
    """One MLflow run."""

    run_id: str

    def log_metrics(self, values: Mapping[str, float], step: int) -> None: ...
    def log_params(self, values: Mapping[str, Any]) -> None: ...
    def log_artifact(self, path: Path, folder: str | None = None) -> None: ...
    def log_inputs(self, data: Mapping[str, Path], models: Mapping[str, str]) -> None: ...
    def finish(self, status: str = "FINISHED") -> None: ...


class NoRun:
    """A run nobody records."""

    run_id = ""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        pass

    def log_params(self, values: Mapping[str, Any]) -> None:
        pass

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        pass

    def log_inputs(self, data: Mapping[str, Path], models: Mapping[str, str]) -> None:
        pass

    def finish(self, status: str = "FINISHED") -> None:
        pass


def _metric_name(name: str) -> str:
    """MLflow allows letters, digits and ``_-. :/`` in a metric's name."""
    return re.sub(r"[^\w\-. :/]", "_", name)


class MlflowRun:
    """A run in MLflow. A server that stops answering never costs the training: figures that could not be sent are sent
    with the next ones, and those of a round at last from its metrics.jsonl, by :meth:`Rounds.complete`. Anything else
    that could not be sent is lost with a warning."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self.waiting: list[Any] = []
        self.monitor: Any = None

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        self.waiting += [
            Metric(_metric_name(name), float(value), now, step) for name, value in values.items() if value == value
        ]
        try:
            for first in range(0, len(self.waiting), 1000):
                self.client.log_batch(self.run_id, metrics=self.waiting[first : first + 1000])
        except Exception as error:  # MLflow raises its own and SQLAlchemy's and requests' types
            _log.warning("MLflow did not take the figures of step %d, they are kept for later: %s", step, error)
        else:
            self.waiting = []

    def steps(self, metric: str) -> set[int]:
        """The steps at which MLflow has a metric. None are known of a server that does not answer."""
        try:
            return {one.step for one in self.client.get_metric_history(self.run_id, metric)}
        except Exception as error:  # of the same many types as above
            _log.warning("MLflow did not give the history of run %s: %s", self.run_id, error)
            return set()

    def finished(self) -> bool:
        """Whether MLflow has the run as finished; no where it does not answer."""
        try:
            return bool(self.client.get_run(self.run_id).info.status == "FINISHED")
        except Exception as error:
            _log.warning("MLflow did not give the status of run %s: %s", self.run_id, error)
            return False

    def log_params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:6000]) for name, value in values.items()]
        for first in range(0, len(params), 100):
            self._try("the parameters", self.client.log_batch, self.run_id, params=params[first : first + 100])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self._try(f"the file {path}", self.client.log_artifact, self.run_id, str(path), folder)

    def log_inputs(self, data: Mapping[str, Path], models: Mapping[str, str]) -> None:
        """What the run was made from.

        Args:
            data: context, such as ``training`` → the table's file.
            models: name → digest.
        """
        self._try("its inputs", self._send_inputs, data, models)

    def _send_inputs(self, data: Mapping[str, Path], models: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        datasets = [
            DatasetInput(
                Dataset(path.stem, short_digest(path), "local", json.dumps({"uri": str(path)})),
                [InputTag("mlflow.data.context", context)],
            )
            for context, path in data.items()
        ]
        experiment = self.client.get_run(self.run_id).info.experiment_id
        known = [self._model(experiment, name, digest) for name, digest in models.items()]
        self.client.log_inputs(self.run_id, datasets, [LoggedModelInput(identifier) for identifier in known])

    def _model(self, experiment: str, name: str, digest: str) -> str:
        """The id of MLflow's entry for a model; made when it is not there. Its weights stay where they are."""
        key = f"{name}/{digest}"
        found = self.client.search_logged_models([experiment], f"tags.`{KEY}` = '{key}'")
        if found:
            return found[0].model_id
        made = self.client.create_logged_model(experiment, name, tags={KEY: key, "digest": digest})
        self.client.finalize_logged_model(made.model_id, "READY")
        return made.model_id

    def watch_system(self, uri: str) -> None:
        """Records load of processor, memory, disk, network and graphics card until the run is finished."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        self.monitor = SystemMetricsMonitor(self.run_id, tracking_uri=uri, resume_logging=True)
        self.monitor.start()

    def finish(self, status: str = "FINISHED") -> None:
        if self.monitor is not None:
            self._try("the system's load", self.monitor.finish)
            self.monitor = None
        if self.waiting:
            self.log_metrics({}, 0)
        self._try(f"the status {status}", self.client.set_terminated, self.run_id, status)

    def _try(self, what: str, send: Callable[..., Any], *values: Any, **named: Any) -> None:
        try:
            send(*values, **named)
        except Exception as error:  # of the same many types
            _log.warning("MLflow did not take %s of run %s: %s", what, self.run_id, error)


class Both:
    """A run and the run above it: figures of each step go to both, so that arms compare step by step; the rest belongs
    to the run alone."""

    def __init__(self, run: Run, above: Run) -> None:
        self.run, self.above = run, above
        self.run_id = run.run_id
        self.log_params, self.log_artifact, self.log_inputs = run.log_params, run.log_artifact, run.log_inputs

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        for one in (self.run, self.above):
            one.log_metrics(values, step)

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run. The run above goes on, unless this one failed."""
        self.run.finish(status)
        if status == "FINISHED":
            self.above.log_metrics({}, 0)  # sends what waits
        else:
            self.above.finish(status)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots, as MLflow's parameters are named."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


class Tracker:
    """The experiment all runs of a workflow belong to.

    Args:
        uri: tracking URI; artifacts go beside a SQLite database.
        experiment: its name; made once with :meth:`create_experiment`, before parallel jobs.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        # MLflow's own 7 tries of 2 minutes each would hold up every step of a training whose server is gone.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        self.uri, self.name = uri, experiment
        with self._answering():
            self.client = MlflowClient(tracking_uri=uri)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Makes one UserError of the many types a tracking URI that leads nowhere raises."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"MLflow cannot be used: {cause}",
                where=self.uri,
                todo="correct the tracking URI or start its server; a step without --track runs without MLflow",
            ) from error

    def create_experiment(self, artifacts: Path | None = None) -> str:
        """Makes database and experiment unless they are there; returns the experiment's id.

        Args:
            artifacts: where artifacts go; None is the folder ``artifacts`` beside a SQLite database, else the server's.

        Raises:
            UserError: MLflow does not answer, as for every method here.
        """
        if artifacts is None and self.uri.startswith(SQLITE):
            artifacts = Path(self.uri.removeprefix(SQLITE)).parent / "artifacts"
        with self._answering():
            found = self.client.get_experiment_by_name(self.name)
            if found is not None:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                return found.experiment_id
            return self.client.create_experiment(
                self.name, artifact_location=artifacts.resolve().as_uri() if artifacts else None
            )

    def share_view(self, columns: Sequence[str]) -> None:
        """Keeps a view of the experiment in MLflow's UI under `SHARED_VIEW`: one row an arm and seed, these metrics as
        columns. The UI reads it out of a tag of the experiment."""
        state = {
            "searchFilter": 'tags.level = "arm"',
            "orderByKey": "attributes.start_time",
            "orderByAsc": True,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": [f"metrics.`{name}`" for name in columns],
            "columnOrder": [],
            "columnWidths": {},
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "runsVisibilityMap": {},
            "runsHiddenMode": "FIRST_20_RUNS",
            "viewMaximized": False,
            "runListHidden": False,
            "isAccordionReordered": False,
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "groupBy": None,
            "groupsExpanded": {},
            "autoRefreshEnabled": True,
            "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        }
        experiment = self.create_experiment()
        with self._answering():
            self.client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{SHARED_VIEW}", json.dumps(state))

    def _find(self, key: str) -> list[Any]:
        experiment = self.create_experiment()
        with self._answering():
            return self.client.search_runs([experiment], f"tags.`{KEY}` = '{key}'")

    def open(self, key: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> MlflowRun:
        """A new run for `key`; an earlier one, left by the same step, is deleted."""
        for earlier in self._find(key):
            with self._answering():
                self.client.delete_run(earlier.info.run_id)
        return self._create(key, name, tags, parent)

    def find(self, key: str) -> MlflowRun | None:
        """The run of `key`, if it is there."""
        found = self._find(key)
        return MlflowRun(self.client, found[0].info.run_id) if found else None

    def _create(self, key: str, name: str, tags: Mapping[str, str], parent: str | None) -> MlflowRun:
        all_tags = {**tags, KEY: key, "mlflow.runName": name}
        if parent:
            all_tags["mlflow.parentRunId"] = parent
        experiment = self.create_experiment()
        with self._answering():
            run = self.client.create_run(experiment, tags=all_tags, run_name=name)
        return MlflowRun(self.client, run.info.run_id)


class Rounds:
    """The runs of arms and of their rounds.

    Args:
        data: the table of prompts; its digest becomes a tag.
    """

    def __init__(self, tracker: Tracker, config: Config, data: Path) -> None:
        self.tracker, self.config, self.data = tracker, config, data
        self.tags = tags(to_dict(config), data)

    def _arm_tags(self, arm: str, seed: int) -> dict[str, str]:
        return {**self.tags, "arm": arm, "seed": str(seed)}

    def arm(self, arm: str, seed: int, *, anew: bool) -> MlflowRun:
        """The run of an arm with one seed; made, with its parameters, when it is not there or has to be a new one."""
        key, name = f"{arm}/seed_{seed}", f"{arm} seed {seed}"
        found = None if anew else self.tracker.find(key)
        if found is not None:
            return found
        run = self.tracker.open(key, name, {**self._arm_tags(arm, seed), "level": "arm"})
        if arm in self.config.arms:  # the base has none
            values = {"policy": to_dict(self.config.policy), "arm": to_dict(self.config.arms[arm])}
            run.log_params({"arm": arm, "seed": seed, **flatten(values)})
        return run

    def round(self, arm: str, seed: int, number: int, parent: MlflowRun) -> MlflowRun:
        """A new run for a round, below its arm's."""
        return self.tracker.open(
            f"{arm}/seed_{seed}/round_{number}",
            f"{arm} seed {seed} round {number}",
            {**self._arm_tags(arm, seed), "level": "round", "round": str(number)},
            parent.run_id,
        )

    def complete(self, arm: str, seed: int, number: int, figures: Mapping[int, Mapping[str, float]]) -> int:
        """Sends what MLflow lacks of a round's figures, to its run and to its arm's.

        Args:
            figures: by optimiser step.

        Returns:
            How many steps were lacking in one of the two.
        """
        parent = self.arm(arm, seed, anew=False)
        own = self.tracker.find(f"{arm}/seed_{seed}/round_{number}") or self.round(arm, seed, number, parent)
        lacking: set[int] = set()
        for run in (own, parent):
            for step in sorted(set(figures) - run.steps(_MARK)):
                run.log_metrics({f"train/{name}": value for name, value in figures[step].items()}, step)
                lacking.add(step)
        if not own.finished():
            own.finish()
        return len(lacking)
