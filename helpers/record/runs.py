"""Where the record is - a folder or a server - and what runs it holds."""

import os
import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from helpers.config import Config
from mlruns_tools.dashboard import store_uri as tracking_uri
from mlruns_tools.fixed_paths import DATABASE, Refused
from mlruns_tools.guard import Guarded
from mlruns_tools.server import link_to, open_experiment, server_client

SERVER = "MLFLOW_TRACKING_URI"  # the variable by which MLflow's own tools find a server


def record_folder(config: Config) -> Path:
    """Where the record lies, unless a server keeps it: `mlruns` in the work folder."""
    return config.work / "mlruns"


def tracking_server(config: Config) -> str | None:
    """The address of the server that `MLFLOW_TRACKING_URI` names, which then keeps the record; None: the local record.

    Raises ValueError for any other value than a server's address or the local record's own.
    """
    uri = os.environ.get(SERVER, "").strip()
    if re.match(r"https?://[^/]", uri, re.I):
        return uri.rstrip("/")
    mlruns = record_folder(config)
    if uri and not ((mlruns / DATABASE).is_file() and uri == tracking_uri(mlruns / DATABASE)):
        raise ValueError(
            f"{SERVER}={uri!r} is no server's address, such as http://HOST:5000. Unset it to have the record written to"
            f" {mlruns}, and choose its folder by CAPTCHA_WORK"
        )
    return None


def record_uri(config: Config) -> str:
    """MLflow's address of the record: of the server or of the local database."""
    return tracking_server(config) or tracking_uri(record_folder(config) / DATABASE)


def record_name(config: Config) -> str:
    """Where the record is, in words for a person."""
    return tracking_server(config) or str(record_folder(config))


def record_link(config: Config) -> str | None:
    """The page of the experiment on the server; None for a local record."""
    if not (server := tracking_server(config)):
        return None
    return link_to(server, open_experiment(server_client(server), config.experiment))


def finished_runs(config: Config, metric: str = "val_exact") -> list[Run]:
    """The finished runs of the record, from the highest validation metric on, newer ones first where it is the same."""
    server = tracking_server(config)
    if not server and not (record_folder(config) / DATABASE).is_file():
        return []
    client = server_client(server) if server else MlflowClient(tracking_uri=record_uri(config))
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        return []
    finished, order = "attributes.status = 'FINISHED'", [f"metrics.best_{metric} DESC", "attributes.start_time DESC"]
    return [*client.search_runs([experiment.experiment_id], finished, order_by=order)]


def download_model(uri: str, config: Config) -> str:
    """The local folder of a `runs:/<run id>/model` URI of the record. Raises FileNotFoundError where there is none."""
    try:
        return download_artifacts(uri, tracking_uri=record_uri(config), dst_path=str(Guarded().folder))
    except (Refused, MlflowException) as error:
        raise FileNotFoundError(f"there is no {uri}: {error}") from error
