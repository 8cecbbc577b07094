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

from rtt.errors import UserError
from rtt.provenance import short_digest

_log = logging.getLogger(__name__)

KEY = "rtt.key"
"""Tag that says which product a run belongs to; the same step done again replaces its run."""


SHARED_VIEW = "arms"
"""Name of the view of all arms: ``…/#/experiments/1/runs?viewStateShareKey=arms``."""

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
    """A run in MLflow. A server that stops answering costs figures in MLflow, never the training: the figures also
    stand in metrics.jsonl, and those that could not be sent are sent with the next ones. Anything else that could not
    be sent is lost with a warning."""

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

    def find_or_open(self, key: str, name: str, tags: Mapping[str, str]) -> MlflowRun:
        """The run of `key`, made when it is not there: for parents, which several steps write to."""
        found = self._find(key)
        return MlflowRun(self.client, found[0].info.run_id) if found else self._create(key, name, tags, None)

    def _create(self, key: str, name: str, tags: Mapping[str, str], parent: str | None) -> MlflowRun:
        all_tags = {**tags, KEY: key, "mlflow.runName": name}
        if parent:
            all_tags["mlflow.parentRunId"] = parent
        experiment = self.create_experiment()
        with self._answering():
            run = self.client.create_run(experiment, tags=all_tags, run_name=name)
        return MlflowRun(self.client, run.info.run_id)
