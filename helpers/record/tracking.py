"""The MLflow record of a training: one run in `work/mlruns/`, a database and artifacts that travel as one folder.

Where `MLFLOW_TRACKING_URI` names a server, the run goes there instead, and nothing is written to `work/mlruns/`.

`mlruns/mlflow.db`, `mlruns/artifacts/<run id>/artifacts/...` and the marker that `mlruns_tools/fixed_paths.py` reads.
"""

import csv
import io
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from zipfile import BadZipFile

from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from requests import RequestException

from helpers.config import PROJECT, Config
from helpers.output import cause, harmless
from helpers.record.outbox import PATIENCE, Outbox
from helpers.record.registry import register
from helpers.record.runs import record_folder, tracking_server
from mlruns_tools.dashboard import quieten
from mlruns_tools.dashboard import store_uri as tracking_uri
from mlruns_tools.fixed_paths import DATABASE, Refused, quoted, write_marker
from mlruns_tools.pack import pack
from mlruns_tools.server import link_to, open_experiment, server_client

SESSION = "captcha-ocr.session"  # the tag that says which training a run belongs to


class TrackedRun:
    """A run that is being written, and may have been begun before. All paths of artifacts are relative to the run."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.id = client, run_id
        self.look()

    def look(self) -> None:
        """What the run has already, so that it is not written twice."""
        data, history = self.client.get_run(self.id).data, self.client.get_metric_history
        self.known = set(data.params)
        self.there = {(name, point.step) for name in data.metrics for point in history(self.id, name)}

    def params(self, values: Mapping[str, object]) -> None:
        """Those that the run does not have yet."""
        new = [Param(name, str(value)) for name, value in values.items() if name not in self.known]
        self.client.log_batch(self.id, params=new)

    def metrics(self, values: Mapping[str, float], step: int = 0, at: float | None = None) -> None:
        """Metrics of a moment, by default now, in one call; `step` is the epoch. What the run has is not written twice."""
        now = int(1000 * (at or time.time()))
        new = [Metric(name, value, now, step) for name, value in values.items() if (name, step) not in self.there]
        self.client.log_batch(self.id, metrics=new)
        self.there |= {(metric.key, step) for metric in new}

    def epoch(self, row: Mapping[str, float], at: float | None = None) -> None:
        """A row of `EpochReport`, filed under its epoch."""
        self.metrics({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]), at)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], path: str) -> None:
        """A csv, harmless in spreadsheets."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *(harmless(header, row) for row in rows)])
        self.text(text.getvalue(), path)

    def text(self, text: str, path: str) -> None:
        self.client.log_text(self.id, text, path)

    def figure(self, figure: Figure, path: str) -> None:
        self.client.log_figure(self.id, figure, path)

    def folder(self, folder: Path, path: str) -> None:
        self.client.log_artifacts(self.id, str(folder), path)

    def registered(self, facts: Mapping[str, object]) -> str:
        """Registers the model of the run, see `registry.register`; a sentence for a person, also where that fails."""
        try:
            return register(self.client, self.id, facts)
        except (MlflowException, RequestException) as error:  # a server may keep no models
            return f"the model is recorded with its run, but was not registered: {error}"

    def terminated(self, status: str) -> None:
        self.client.set_terminated(self.id, status)

    def code(self, notebook: str | None) -> None:
        """The source that trained: helpers, requirements and the notebook's script."""
        files = [*sorted((PROJECT / "helpers").rglob("*.py")), PROJECT / "requirements.txt"]
        files += [PROJECT / "notebooks" / f"{notebook}.py"] if notebook else []
        for file in files:
            if file.is_file():
                parent = file.relative_to(PROJECT).parent.as_posix()
                self.client.log_artifact(self.id, str(file), f"code/{parent}" if parent != "." else "code")


@contextmanager
def track(config: Config, name: str, session: str | None = None) -> Iterator[TrackedRun | Outbox]:
    """A run, new or that of the `session`, whose status is true: FINISHED, KILLED by Ctrl-C or SIGTERM, FAILED by an error.

    After an interruption or error a local record is packed at once, so that `mlruns.zip` holds what there is. A server that
    ends on the way is told when it is back; where it stays away, the whole run is written to the local record.
    Raises ValueError where the record was moved and not repaired, since MLflow would write into the old place, and where
    the server that should keep it does not answer.
    """
    server = tracking_server(config)
    client, experiment_id = _on_server(server, config) if server else _on_disk(config)
    run = TrackedRun(client, _begun(client, experiment_id, session) or _new(client, experiment_id, name, session))
    run = Outbox(run, server) if server else run
    status = "FAILED"
    try:
        with _sigterm_as_exit():
            yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit) as stopped:
        status = "KILLED"
        traceback.clear_frames(stopped.__traceback__)  # a half-read result in one would keep the database locked
        raise
    finally:
        run.terminated(status)
        if server and not run.wait(PATIENCE if status == "FINISHED" else 0):
            print(_left(run, config, name, session), file=sys.stderr)
        if status != "FINISHED":
            there = f"see {link_to(server, experiment_id, run.id)}" if server else _packed(config)
            print(f"run {run.id} ended {status}; {there}", file=sys.stderr)


def _left(run: Outbox, config: Config, name: str, session: str | None) -> str:
    """Writes the run to the local record, since its server stays away; a sentence for a person."""
    mlruns = quoted(record_folder(config))
    away = f"{run.server} stays away, and has the run {run.id} in part at most."
    try:
        client, experiment_id = _on_disk(config)
        local = TrackedRun(client, _begun(client, experiment_id, session) or _new(client, experiment_id, name, session))
        run.replay(local)
    except (ValueError, OSError, MlflowException) as error:  # no reason to hide what ended the run
        return f"{away} It could not be left in {mlruns} either: {cause(error)}"
    return (
        f"{away} All of it is in {mlruns}, as the run"
        f" {local.id}. When the server is back: python mlruns_tools/merge.py {mlruns} {run.server}"
    )


def _new(client: MlflowClient, experiment_id: str, name: str, session: str | None) -> str:
    return client.create_run(experiment_id, run_name=name, tags={SESSION: session} if session else None).info.run_id


def _begun(client: MlflowClient, experiment_id: str, session: str | None) -> str | None:
    """The id of the session's run, which is running again; None where it has none yet."""
    runs = client.search_runs([experiment_id], f"tags.`{SESSION}` = '{session}'", max_results=1) if session else []
    for run in runs:
        client.update_run(run.info.run_id, status="RUNNING")
    return runs[0].info.run_id if runs else None


def _on_server(server: str, config: Config) -> tuple[MlflowClient, str]:
    client = server_client(server)
    return client, open_experiment(client, config.experiment)


def _on_disk(config: Config) -> tuple[MlflowClient, str]:
    mlruns = record_folder(config)
    mlruns.mkdir(parents=True, exist_ok=True)
    (mlruns / DATABASE).touch()
    quieten()
    location = (mlruns / "artifacts").as_uri()
    with chdir(mlruns.parent):  # a new database files MLflow's own default experiment under the current folder
        client = MlflowClient(tracking_uri=tracking_uri(mlruns / DATABASE))
        experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        experiment_id = client.create_experiment(config.experiment, artifact_location=location)
        write_marker(mlruns)
    elif experiment.artifact_location == location:
        experiment_id = experiment.experiment_id
    else:
        raise ValueError(
            f"the record {mlruns} was written at {experiment.artifact_location}: repair it first with"
            f" python mlruns_tools/fixed_paths.py {mlruns}"
        )
    return client, experiment_id


def _packed(config: Config) -> str:
    """Where the record so far was packed, or why it could not be: no reason to hide what ended the run."""
    try:
        return f"the record so far is in {pack(record_folder(config))}"
    except (Refused, OSError, sqlite3.DatabaseError, BadZipFile) as error:
        return f"the record so far is in {record_folder(config)}; it could not be packed: {error}"


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """SIGTERM raises SystemExit inside, so that `finally` blocks run; restores the handlers that Lightning leaves changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
