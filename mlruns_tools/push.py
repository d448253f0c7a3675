"""Runs of a record onto a team's MLflow server, through MLflow's own client; and what else talks to such a server.

The server gives new ids, so that a run there carries its own id of before as a tag, by which a second push knows it.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelInput, LoggedModelOutput, Metric, Param, Run, RunTag, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests import RequestException

from mlruns_tools.dashboard import _client
from mlruns_tools.fixed_paths import Refused, _is_remote, once_begun
from mlruns_tools.pack import copy_files
from mlruns_tools.report import Merged
from mlruns_tools.server import open_experiment, server_client
from mlruns_tools.transfer import Opened, belongs, local_path, open_source

SOURCE = "source_id"  # tag of a run, logged model or version: its id in the record it came from


STATE, INCOMPLETE, COMPLETE = "push", "incomplete", "complete"  # tag of a run


MOST = {"metrics": 1000, "params": 100, "tags": 100}  # that MLflow takes in one call


def push(source: Path, uri: str, experiment: str | None = None) -> Merged:
    """Upload the runs of the record `source`, a zip or folder. A run whose push was killed is finished.

    A run carries the tag `push` = incomplete until all of it is there. Deleted runs, traces, and logged models of no run
    are not uploaded. Raises Refused where the server does not answer, Unfinished where that ends on the way.
    """
    report = Merged(uri)
    with once_begun(report.begun, "push again to finish."), tempfile.TemporaryDirectory() as folder:
        try:
            for opened in open_source(source, Path(folder)):
                report.problems += opened.problems
                report.notes += opened.notes
                here, there = _client(opened.database), server_client(uri)
                for run in _runs(here, report):
                    report.begun.append(run.info.run_id)
                    _Push(here, there, run, opened, report, experiment).run_through()
        except (ValueError, MlflowException, RequestException) as error:
            raise Refused(f"{error}. {len(report.brought)} run(s) were uploaded") from error
    return report


def _runs(client: MlflowClient, report: Merged) -> Iterator[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    deleted = [e.experiment_id for e in client.search_experiments(ViewType.DELETED_ONLY)]
    report.deleted = len(_all_runs(client, experiments, ViewType.DELETED_ONLY))
    report.deleted += len(_all_runs(client, deleted, ViewType.ALL))
    traces = client.search_traces(locations=experiments, include_spans=False, max_results=1) if experiments else ()
    report.notes += ["traces are not uploaded"] if traces else []
    yield from _all_runs(client, experiments, ViewType.ACTIVE_ONLY)


def _all_runs(client: MlflowClient, experiments: Sequence[str], view: int) -> list[Run]:
    found, token = [], None
    while experiments:
        page = client.search_runs(list(experiments), "", view, 1000, ["attributes.start_time ASC"], token)
        found, token = found + list(page), page.token
        if not token:
            break
    return found


class _Push:
    """One run on its way; every step may be done twice, so that a push that was killed is gone through again."""

    def __init__(
        self, here: MlflowClient, there: MlflowClient, run: Run, opened: Opened, report: Merged, name: str | None
    ) -> None:
        self.here, self.there, self.run, self.opened, self.report, self.name = here, there, run, opened, report, name
        self.old = run.info.run_id
        self.models: dict[str, str] = {}  # {id here: id there}
        self.links: list[str] = []

    def run_through(self) -> None:
        experiment = open_experiment(
            self.there, self.name or self.here.get_experiment(self.run.info.experiment_id).name
        )
        query = f"tags.`{SOURCE}` = '{self.old}'"
        found = next(iter(self.there.search_runs([experiment], query, ViewType.ALL, 1)), None)
        if found and found.data.tags.get(STATE) == COMPLETE:
            return self._leave(found)
        if found and found.info.lifecycle_stage != "active":
            self.there.restore_run(found.info.run_id)
        info, data = self.run.info, self.run.data
        if found is None:
            marks = {SOURCE: self.old, STATE: INCOMPLETE}
            found = self.there.create_run(experiment, info.start_time, marks, info.run_name)
        self.new = found.info
        self._log("tags", [RunTag(key, value) for key, value in data.tags.items()])
        self._log("params", [Param(key, value) for key, value in data.params.items()])
        for key in data.metrics:
            self._log("metrics", self.here.get_metric_history(self.old, key))
        self._upload(info.artifact_uri, lambda folder: self.there.log_artifacts(self.new.run_id, folder))
        for model in self._models_of(self.here, info.experiment_id, self.old):
            self._push_model(model, experiment)
        self._link()
        for version in self.here.search_model_versions(f"run_id = '{self.old}'"):
            self._push_version(version)
        if info.status != "RUNNING":
            self.there.set_terminated(self.new.run_id, info.status, info.end_time)
        self.there.set_tag(self.new.run_id, STATE, COMPLETE)
        self.report.brought[self.old] = info.run_name or ""
        self.report.counts["runs"] += 1
        self.report.notes += [f"left out, {link}" for link in self.links]

    def _leave(self, found: Run) -> None:
        self.report.left[self.old] = self.run.info.run_name or ""
        if found.info.status != self.run.info.status:
            self.report.notes.append(
                f"run {self.old} is {found.info.status} on the server and {self.run.info.status} in the source: to take the"
                f" source's, delete the tag {STATE} of the server's run {found.info.run_id} and push again"
            )

    def _log(self, kind: str, items: Sequence[Metric | Param | RunTag]) -> None:
        for start in range(0, len(items), MOST[kind]):
            self.there.log_batch(self.new.run_id, **{kind: items[start : start + MOST[kind]]})
        self.report.counts[kind] += len(items)

    def _upload(self, location: str, send: Callable[[str], None]) -> None:
        if _is_remote(location):
            self.report.notes.append(f"run {self.old}: artifacts at {location} are not uploaded; they stay there")
            return
        folder = local_path(location)
        if not belongs(folder, self.old, self.opened.record):
            raise Refused(f"run {self.old}: its artifacts at {location!r} lie outside the record")
        with tempfile.TemporaryDirectory() as copies:  # without links
            self.report.counts["files"] += copy_files(folder, Path(copies), self.links, self._base(folder))
            send(copies)

    def _base(self, folder: Path) -> Path:
        return next((base for base in self.opened.record.bases if folder.is_relative_to(base)), folder)

    @staticmethod
    def _models_of(client: MlflowClient, experiment: str, run: str) -> list[LoggedModel]:
        found, token = [], None
        while True:
            page = client.search_logged_models([experiment], f"source_run_id = '{run}'", page_token=token)
            found, token = found + list(page), page.token
            if not token:
                return found

    def _push_model(self, model: LoggedModel, experiment: str) -> None:
        made = {m.tags.get(SOURCE): m for m in self._models_of(self.there, experiment, self.new.run_id)}
        new = made.get(model.model_id)
        if new is None:
            tags = {**model.tags, SOURCE: model.model_id}
            new = self.there.create_logged_model(
                experiment, model.name, self.new.run_id, tags, model.params, model.model_type
            )
            self.report.counts["logged models"] += 1
        self.models[model.model_id] = new.model_id
        self._upload(model.artifact_location, lambda folder: self.there.log_model_artifacts(new.model_id, folder))
        for metric in model.metrics or ():
            if metric.run_id == self.old:
                about = {"dataset_name": metric.dataset_name, "dataset_digest": metric.dataset_digest}
                self.there.log_metric(
                    self.new.run_id,
                    metric.key,
                    metric.value,
                    metric.timestamp,
                    metric.step,
                    model_id=new.model_id,
                    **about,
                )
        if str(model.status) in ("READY", "FAILED") and str(new.status) not in ("READY", "FAILED"):
            self.there.finalize_logged_model(new.model_id, str(model.status))

    def _link(self) -> None:
        """The data sets and models that went into the run, and the models that came out of it."""
        run, new = self.run, self.new.run_id
        inputs = [
            LoggedModelInput(self.models[m.model_id]) for m in run.inputs.model_inputs if m.model_id in self.models
        ]
        self.there.log_inputs(new, run.inputs.dataset_inputs, inputs)
        there = {output.model_id for output in self.there.get_run(new).outputs.model_outputs}
        outputs = [(self.models[m.model_id], m.step) for m in run.outputs.model_outputs if m.model_id in self.models]
        if missing := [LoggedModelOutput(model, step) for model, step in outputs if model not in there]:
            self.there.log_outputs(new, missing)

    def _push_version(self, version: ModelVersion) -> None:
        name, number = version.name, f"{version.version} of {self.old}"
        source = self._source_of(version)
        if source is None:
            what = f"version {version.version} of {name} is not uploaded"
            self.report.notes.append(f"{what}: its files at {version.source!r} belong to neither its run nor a model")
            return
        try:
            self.there.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            ours = self.here.get_registered_model(name)
            self.there.create_registered_model(name, ours.tags, ours.description)
        versions = self.there.search_model_versions(f"run_id = '{self.new.run_id}'")
        new = next((v for v in versions if v.name == name and v.tags.get(SOURCE) == number), None)
        if new is None:
            tags = {**version.tags, SOURCE: number}
            new = self.there.create_model_version(name, source, self.new.run_id, tags, description=version.description)
            self.report.counts["model versions"] += 1
        taken = self.there.get_registered_model(name).aliases
        for alias, target in self.here.get_registered_model(name).aliases.items():
            if str(target) != str(version.version) or str(taken.get(alias)) == str(new.version):
                continue
            if alias in taken:
                self.report.notes.append(f"the alias {alias} of {name} stays at version {taken[alias]}")
            else:
                self.there.set_registered_model_alias(name, alias, new.version)

    def _source_of(self, version: ModelVersion) -> str | None:
        if (model := version.source.removeprefix("models:/")) in self.models:
            return f"models:/{self.models[model]}"
        places = {self.run.info.artifact_uri: self.new.artifact_uri}
        for old, new in self.models.items():
            places[self.here.get_logged_model(old).artifact_location] = self.there.get_logged_model(
                new
            ).artifact_location
        for old, new in places.items():
            if f"{version.source}/".startswith(f"{old.rstrip('/')}/"):
                return new + version.source[len(old.rstrip("/")) :]
        return version.source if _is_remote(version.source) else None
