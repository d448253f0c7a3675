"""Records as MLflow itself writes them, made once and then moved away from where they were."""

import os
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.tracing.client import TracingClient

from mlruns_tools.dashboard import _client
from mlruns_tools.fixed_paths import DATABASE, write_marker
from mlruns_tools.pack import pack

WEIGHTS = bytes(range(256)) * 8
USERS_META = b"artifact_uri: /kaggle/working/mlruns/not/ours\r\nartifact_location: 'x'\n"
ODD = "my récord #1"  # a space, a letter beyond ASCII, a number sign
_made: dict[str, Path] = {}
_sessions: dict[str, tuple[Path, str, dict[str, Any]]] = {}
NAMES = ("first", "second", "third")  # of the runs of `kaggle_sessions`


def sqlite_record(factory: pytest.TempPathFactory) -> Path:
    """A folder with `mlruns` (SQLite) and `mlruns.zip`, no longer at the place where they were written."""
    return _moved("sqlite", factory)


def file_store(factory: pytest.TempPathFactory) -> Path:
    """The same as a file store."""
    return _moved("files", factory)


def client_of(mlruns: Path) -> MlflowClient:
    """MLflow's own client on the record."""
    return _client(mlruns)


def run_named(client: MlflowClient, name: str) -> Run:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return next(run for run in client.search_runs(ids) if run.info.run_name == name)


def _moved(kind: str, factory: pytest.TempPathFactory) -> Path:
    if kind not in _made:
        written = factory.mktemp(f"{kind}-written")
        mlruns = written / "mlruns"
        mlruns.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(written)  # where MLflow supposes the artifacts of its default experiment
            patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
            if kind == "sqlite":
                (mlruns / DATABASE).touch()
                _write(mlruns, client_of(mlruns / DATABASE))
            else:
                _write(mlruns, MlflowClient(mlruns.as_uri()))
        write_marker(mlruns)
        pack(mlruns)
        _made[kind] = written.rename(written.with_name(f"{kind}-kept"))
    return _made[kind]


def _write(mlruns: Path, client: MlflowClient) -> None:
    """Two runs, one of them deleted, a logged model, a registered version and a trace."""
    location = (mlruns / "artifacts").as_uri() if (mlruns / DATABASE).exists() else None
    experiment = client.create_experiment("captcha-ocr", location)
    model = mlruns.parent / "model"
    model.mkdir()
    (model / "model_weights.pth").write_bytes(WEIGHTS)
    (model / "meta.yaml").write_bytes(USERS_META)
    for name in ("kept", "deleted"):
        run = client.create_run(experiment, run_name=name).info
        client.log_param(run.run_id, "recipe", "cnn_gru_ctc")
        client.log_metric(run.run_id, "val_exact", 0.5, step=1)
        client.log_artifacts(run.run_id, str(model), "model")
        client.set_terminated(run.run_id)
    client.delete_run(run.run_id)
    kept = run_named(client, "kept").info
    client.create_registered_model("reader")
    client.create_model_version("reader", f"{kept.artifact_uri}/model", kept.run_id)
    client.create_logged_model(experiment, "logged", source_run_id=kept.run_id)
    place = TraceLocation.from_experiment_id(experiment)
    trace = TraceInfo(trace_id=f"tr-{'5' * 32}", trace_location=place, request_time=0, state=TraceState.OK)
    TracingClient(client.tracking_uri).start_trace(trace)


STEPS = 40  # of each metric of a run that `trained_run` writes
START = 1_700_000_000_000  # ms


def blank_record(folder: Path, factory: pytest.TempPathFactory) -> Path:
    """`folder/mlruns` with an empty database; MLflow makes its tables once, which takes seconds."""
    if "blank" not in _made:
        made = factory.mktemp("blank") / "mlruns"
        made.mkdir()
        (made / DATABASE).touch()
        with chdir(made.parent):
            client_of(made / DATABASE)
        _made["blank"] = made
    mlruns = folder / "mlruns"
    mlruns.mkdir(parents=True)
    shutil.copy(_made["blank"] / DATABASE, mlruns)
    return mlruns


def trained_run(mlruns: Path, name: str, experiment: str = "captcha-ocr", version: bool = True) -> str:
    """The id of a finished run as a training leaves it: histories, a data set, artifacts, a logged and a registered model."""
    client, seed = client_of(mlruns), name.encode()
    found = client.get_experiment_by_name(experiment)
    location = (mlruns / "artifacts").as_uri()
    number = found.experiment_id if found else client.create_experiment(experiment, location, tags={"team": "ocr"})
    run = client.create_run(number, start_time=START, run_name=name, tags={"user tag": "it's"}).info
    series = [Metric("val_loss", 1 / (step + 1), START + 1000 * step, step) for step in range(STEPS)]
    series += [Metric("val_exact", value, START + step, step) for step, value in enumerate([0.5, float("nan"), 0.25])]
    params = [Param("recipe", "conv_ctc"), Param("seed", name)]
    client.log_batch(run.run_id, metrics=series, params=params, tags=[RunTag("note", "é\n" * 300)])
    data = DatasetInput(
        Dataset("captchas", "digest", "local", '{"uri": "/kaggle/input/x"}'), [InputTag("context", name)]
    )
    client.log_inputs(run.run_id, [data])
    files = mlruns.parent / f"files of {name}"
    (files / "deep er").mkdir(parents=True)
    (files / "weights 1.pth").write_bytes(seed * 5000)
    (files / "deep er" / "meta.yaml").write_bytes(USERS_META + seed)
    client.log_artifacts(run.run_id, str(files), "model")
    client.log_text(run.run_id, name, "note.txt")
    model = client.create_logged_model(number, f"logged-{name}", run.run_id, {"kind": "ctc"}, {"width": "40"}, "reader")
    client.log_model_artifacts(model.model_id, str(files))
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, 3)])
    client.log_metric(
        run.run_id, "cer", 0.1, START, 3, dataset_name="captchas", dataset_digest="digest", model_id=model.model_id
    )
    client.finalize_logged_model(model.model_id, "READY")
    if version:
        if not client.search_registered_models("name = 'reader'"):
            client.create_registered_model("reader", {"team": "ocr"}, "reads captchas")
        made = client.create_model_version("reader", f"{run.artifact_uri}/model", run.run_id, {"from": name})
        client.set_registered_model_alias("reader", "champion", made.version)
        client.set_registered_model_alias("reader", f"of-{name}", made.version)
    place = TraceLocation.from_experiment_id(number)
    about = {"mlflow.sourceRun": run.run_id}
    trace = f"tr-{os.urandom(16).hex()}"
    info = TraceInfo(trace, place, 0, TraceState.OK, trace_metadata=about)
    files = Path(
        unquote(urlsplit(TracingClient(client.tracking_uri).start_trace(info).tags["mlflow.artifactLocation"]).path)
    )
    files.mkdir(parents=True)
    (files / "traces.json").write_text('{"spans": []}')
    client.set_terminated(run.run_id, "FINISHED", START + 99_000)
    return run.run_id


def kaggle_sessions(factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, dict[str, Any]]]:
    """{name: (zip, run id, facts)} of three trainings on Kaggle, each a record of its own that is gone since."""
    for name in NAMES if not _sessions else ():
        folder = factory.mktemp("kaggle") / "working"
        mlruns = blank_record(folder, factory)
        run = trained_run(mlruns, name)
        write_marker(mlruns)
        facts = facts_of(client_of(mlruns), run, folder / "facts")
        archive = pack(mlruns, folder.parent / "mlruns.zip").path
        shutil.rmtree(folder)
        _sessions[name] = archive, run, facts
    return _sessions


def facts_of(client: MlflowClient, run_id: str, folder: Path) -> dict[str, Any]:
    """All that a client tells of a run, without ids and places; its artifacts as bytes, downloaded into `folder`."""
    run = client.get_run(run_id)
    folder.mkdir(parents=True)

    def files(uri: str, name: str) -> dict[str, bytes]:
        to = folder / name
        to.mkdir()
        there = Path(download_artifacts(uri, dst_path=str(to), tracking_uri=client.tracking_uri))
        return {str(path.relative_to(there)): path.read_bytes() for path in sorted(there.rglob("*")) if path.is_file()}

    models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    return {
        "info": (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time, run.info.lifecycle_stage),
        "params": run.data.params,
        "tags": run.data.tags,
        "last": {key: repr(value) for key, value in run.data.metrics.items()},
        "histories": {
            key: [(m.step, m.timestamp, repr(m.value)) for m in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "data": [
            (d.dataset.name, d.dataset.digest, d.dataset.source, [(t.key, t.value) for t in d.tags])
            for d in run.inputs.dataset_inputs
        ],
        "outputs": [output.step for output in run.outputs.model_outputs],
        "models": [
            (
                m.name,
                str(m.status),
                m.model_type,
                m.params,
                m.tags,
                [(x.key, x.value, x.step, x.dataset_name) for x in m.metrics],
            )
            for m in models
        ],
        "artifacts": files(run.info.artifact_uri, "run"),
        "model files": [files(m.artifact_location, m.model_id) for m in models],
    }
