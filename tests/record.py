"""Records as MLflow itself writes them, made once and then moved away from where they were."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, TraceInfo, TraceLocation, TraceState
from mlflow.tracing.client import TracingClient

from mlruns_tools.dashboard import _client
from mlruns_tools.fixed_paths import DATABASE, write_marker
from mlruns_tools.pack import pack

WEIGHTS = bytes(range(256)) * 8
USERS_META = b"artifact_uri: /kaggle/working/mlruns/not/ours\r\nartifact_location: 'x'\n"
ODD = "my récord #1"  # a space, a letter beyond ASCII, a number sign
_made: dict[str, Path] = {}


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
                _write(mlruns, client_of(mlruns))
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
