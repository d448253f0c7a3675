"""The journey of real records: `python -m tests.benchmarks.journey FOLDER` moves a copy of each, repairs and opens it.

What each cell counts was seen through MLflow: its client, its URIs, and a server's REST API.
"""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from mlruns_tools.dashboard import open_dashboard, repair_if_needed, store_uri
from mlruns_tools.fixed_paths import fix_paths, look
from mlruns_tools.schema import to_sqlite

EVERY = ViewType.ALL
MOVED = "moved é #1"


def through_the_client(mlruns: Path) -> dict[str, str]:
    """{check: what MLflow's client, straight on the record, shows}."""
    uri = store_uri(mlruns)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client, seen = MlflowClient(uri, uri), {}
    experiments = [experiment.experiment_id for experiment in client.search_experiments(EVERY)]
    runs = client.search_runs(experiments, run_view_type=EVERY)
    seen["experiments"], seen["runs"] = str(len(experiments)), str(len(runs))
    listed = {run.info.run_id: files(client, run.info.run_id) for run in runs}
    seen["artifacts listed"] = str(sum(map(len, listed.values())))
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(run, path) for run, paths in listed.items() for path in paths]
        sizes = [Path(client.download_artifacts(run, path, folder)).stat().st_size for run, path in pairs]
        seen["downloaded"] = f"{len(sizes)}, {sum(sizes)} bytes"
        versions = client.search_model_versions()
        uris = [f"models:/{version.name}/{version.version}" for version in versions if version.source != "dummy-source"]
        with contextlib.suppress(MlflowException, AttributeError):  # a store older than logged models
            models = client.search_logged_models(experiments, max_results=50)
            uris += [f"models:/{model.model_id}" for model in models]
        uris += [f"runs:/{run}/{path}" for run, path in pairs[:3]]
        fetched = [uri for uri in uris if holds_files(uri, folder)]
        seen["models:/ and runs:/"] = f"{len(fetched)} of {len(uris)}"
    with contextlib.suppress(MlflowException):
        traces, whole = (client.search_traces(experiments, include_spans=spans) for spans in (False, True))
        seen["traces (spans)"] = f"{len(traces)} ({sum(len(trace.data.spans) for trace in whole)})"
    return seen


def files(client: MlflowClient, run: str, path: str | None = None) -> list[str]:
    found = client.list_artifacts(run, path)
    return [file.path for file in found if not file.is_dir] + [
        name for folder in found if folder.is_dir for name in files(client, run, folder.path)
    ]


def holds_files(uri: str, folder: str) -> bool:
    try:
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=tempfile.mkdtemp(dir=folder)))
    except (MlflowException, OSError):
        return False
    return path.is_file() or any(file.is_file() for file in path.rglob("*"))


def through_the_server(mlruns: Path) -> dict[str, str]:
    """{check: what a server on the record answers over REST}."""
    with open_dashboard(mlruns) as board:
        ids = [e["experiment_id"] for e in board.ask("experiments/search", max_results=99)["experiments"]]
        runs = board.ask("runs/search", experiment_ids=ids, max_results=99).get("runs", [])
        count = size = 0
        for run in (run["info"]["run_id"] for run in runs):
            with urlopen(f"{board.url}/api/2.0/mlflow/artifacts/list?run_id={run}") as answer:
                found = json.load(answer).get("files", [])
            for path in [file["path"] for file in found if not file.get("is_dir")]:
                with urlopen(f"{board.url}/get-artifact?run_uuid={run}&path={quote(path)}") as answer:
                    count, size = count + 1, size + len(answer.read())
    return {"REST: runs": str(len(runs)), "REST: get-artifact": f"{count}, {size} bytes"}


def journey(record: Path, folder: Path, repair: Callable[..., object]) -> dict[str, str]:
    """{check: what was seen} of a copy of the record, moved, repaired twice, moved again and repaired again."""
    home = shutil.copytree(record, folder / MOVED / record.name)
    seen = {"repair": str(repair(home).exit_code)}
    seen |= through_the_client(home) | through_the_server(home)
    seen["changed by a second repair"] = str(sum(fix_paths(home).changed.values()))
    away = home.rename(folder / "moved again")
    fix_paths(away)
    again = through_the_client(away)
    seen["the same after another move"] = "yes" if again.items() <= seen.items() else f"no: {again}"
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with one folder for each record")
    os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    columns: dict[str, dict[str, str]] = {}
    for record in sorted(path for path in parser.parse_args().folder.iterdir() if path.is_dir()):
        for name, repair in {"": repair_if_needed, " --to-sqlite": to_sqlite}.items():
            if not name or not look(record).stores[0].is_database:
                with tempfile.TemporaryDirectory() as folder:
                    columns[record.name + name] = journey(record, Path(folder).resolve(), repair)
    checks = dict.fromkeys(check for column in columns.values() for check in column)
    print("| | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for check in checks:
        print(f"| {check} | " + " | ".join(column.get(check, "-") for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
