"""A tracking server as this project meets it: asked within seconds, its experiment opened, its pages linked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import RequestException

from mlruns_tools.fixed_paths import _is_remote
from mlruns_tools.report import VIEW

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # seconds


HERE = ("localhost", "127.0.0.1", "::1")


@contextmanager
def hurried() -> Iterator[None]:
    """MLflow gives up within seconds where no server answers, and not in minutes; what the user has set stays."""
    new = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def server_client(uri: str) -> MlflowClient:
    """A client of the server at `uri`. Raises ValueError within seconds where none answers or lets us in."""
    try:
        with hurried():
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except (MlflowException, RequestException, ValueError) as error:
        reason = str(error).splitlines()[0][:300]
        raise ValueError(
            f"{uri} does not answer as an MLflow server: {reason}\nIs it running, and is the address right?"
        ) from error
    return client


def open_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment, made where the server has none; its artifacts go where the server puts them.

    Raises ValueError for a deleted one, and where the server would have us write artifacts to a folder of its own disk.
    """
    found = client.get_experiment_by_name(name) or client.get_experiment(client.create_experiment(name))
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"the experiment {name!r} is deleted on the server: restore it"
            f" (`mlflow experiments restore -x {found.experiment_id}`) or take another name"
        )
    if not _is_remote(found.artifact_location) and urlsplit(client.tracking_uri).hostname not in HERE:
        raise ValueError(
            f"the server keeps the artifacts of {name!r} at {found.artifact_location}, a folder of its own disk that"
            " cannot be written from here: start it with `mlflow server --artifacts-destination FOLDER`"
        )
    return found.experiment_id


def link_to(uri: str, experiment: str, run: str | None = None) -> str:
    """The page of an experiment, or of a run in it."""
    return f"{uri.rstrip('/')}/#/experiments/{experiment}/runs{f'/{run}/model-metrics' if run else ''}{VIEW}"
