"""The MLflow dashboard of a record, on this machine only: a repaired record in, a running server and its links out."""

import argparse
import atexit
import builtins
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from mlruns_tools.fixed_paths import DATABASE, Refused, Report, find_record, fix_paths, is_portable, write_marker

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST = "127.0.0.1"
PATIENCE = 180  # seconds until the server must answer; an old database is upgraded in that time
BLOCKED_PORTS = {2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}  # by browsers
VIEW = "?workflowType=machine_learning"  # without it MLflow opens its pages for language models
SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two processes instead of fifteen
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "PYTHONUTF8": "1",
}


class Dashboard:
    """A running MLflow server; `stop` it, or use it as a context manager."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.url = f"http://{HOST}:{port}"
        self.folder = Path(tempfile.mkdtemp(prefix="mlflow-dashboard-"))  # the server's cwd and log, removed by stop
        self.log = self.folder / "server.log"
        self._asked_to_finish = False
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)]
        command += ["--backend-store-uri", store_uri(root)]
        if is_portable(root):  # its locations are mlflow-artifacts:/, which the server looks up below the root
            command += ["--artifacts-destination", root.as_uri()]
        else:
            command += ["--no-serve-artifacts", "--default-artifact-root", (root / "artifacts").as_uri()]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
        group = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=kept | SETTINGS,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **group,
            )
        atexit.register(self.stop)

    def wait_until_it_answers(self, patience: float = PATIENCE) -> None:
        """Return when `/health` answers; raises RuntimeError with the end of the server's log when it does not."""
        end = time.monotonic() + patience
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if _fetch(f"{self.url}/health", timeout=2) == b"OK":
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        ended = self.process.poll() is not None
        self.stop()
        if "out-of-date database schema" in tail or "Can't locate revision" in tail:
            raise RuntimeError(f"The record was written by a newer MLflow: install the version that wrote it.\n{tail}")
        raise RuntimeError(f"The MLflow server {'ended' if ended else f'did not answer in {patience} s'}:\n{tail}")

    def ask(self, endpoint: str, **body: object) -> dict[str, Any]:
        """The answer of MLflow's REST API to a POST, such as `ask("runs/search", experiment_ids=["1"])`."""
        return json.loads(_fetch(f"{self.url}/api/2.0/mlflow/{endpoint}", json.dumps(body).encode()))

    def run_links(self) -> dict[str, str]:
        """{name of run: link to its metrics}, newest first."""
        found = self.ask("experiments/search", max_results=1000).get("experiments", [])
        ids = [experiment["experiment_id"] for experiment in found]
        runs = self.ask("runs/search", experiment_ids=ids, max_results=100, order_by=["attributes.start_time DESC"])
        infos = [run["info"] for run in runs.get("runs", [])]
        page = "{url}/#/experiments/{experiment_id}/runs/{run_id}/model-metrics{view}"
        return {
            f"{info.get('run_name', 'run')} ({info['run_id'][:8]})": page.format(url=self.url, view=VIEW, **info)
            for info in infos
        }

    @property
    def link(self) -> str:
        """The page to open first: the runs of the experiment that has the newest one."""
        newest = next(iter(self.run_links().values()), None)
        return f"{newest.rpartition('/runs/')[0]}/runs{VIEW}" if newest else f"{self.url}/#/experiments{VIEW}"

    def finish(self, at_once: bool = False) -> None:
        """The end of a notebook: a script waits for Ctrl-C; a notebook's server runs on until the second call.

        So "run all cells" leaves a link that works. `at_once` stops without waiting.
        """
        if at_once or self._asked_to_finish:
            return self.stop()
        self._asked_to_finish = True
        if in_notebook():
            return print("The dashboard runs on. Run this cell once more to stop it.")
        print("Ctrl-C stops the dashboard.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            self.process.wait()
        self.stop()

    def stop(self) -> None:
        """End the server and all its processes; a second call does nothing."""
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            if os.name == "nt":
                self.process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self._kill()
        elif os.name != "nt":
            self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self) -> None:
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self.process.pid)], capture_output=True, check=False)
        else:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:  # all of the group have ended
                return
        self.process.wait()

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def open_dashboard(mlruns: Path, port: int | None = None, anyway: bool = False) -> Dashboard:
    """Start MLflow's server on the record and return when it answers; `anyway`: in spite of missing artifacts.

    Raises Refused when there is no record, when its locations are of another place or outside the record, or artifacts
    are missing; ValueError for a port that browsers block or another program has; RuntimeError with the server's log
    when it does not start.
    """
    root, _ = find_record(Path(mlruns))
    report = fix_paths(root, dry_run=True)
    if report.changed:
        raise Refused(f"{root} was moved. Repair it first: python mlruns_tools/fixed_paths.py {root}")
    if report.outside:  # the server would show these files of this machine to whoever opens its page
        raise Refused(f"{root} names places outside of itself, which its dashboard would open:\n{report.summary}")
    if report.problems and not anyway:
        raise Refused(f"{root} is not whole. To open it as it is, say --anyway.\n{report.summary}")
    dashboard = Dashboard(root, _free_port(port))
    try:
        dashboard.wait_until_it_answers()
    except BaseException:
        dashboard.stop()
        raise
    return dashboard


def repair_if_needed(source: Path) -> Report:
    """Unpack a zip, repair a record that was moved; a record that is right is only read.

    A zip whose files all lie unpacked beside it already is not unpacked again.
    """
    source = Path(source)
    if zipfile.is_zipfile(source) and _is_unpacked(source):
        print(f"{source} is unpacked already: opening {source.parent / 'mlruns'}")
        source = source.parent / "mlruns"
    if source.is_file():
        return fix_paths(source)
    report = fix_paths(source, dry_run=True)
    return fix_paths(source) if report.changed else report


def _is_unpacked(archive: Path) -> bool:
    """Whether every artifact of a packed record lies, with its size, in the folder `mlruns` beside it."""
    with zipfile.ZipFile(archive) as members:
        artifacts = [m for m in members.infolist() if m.filename.startswith("mlruns/artifacts/") and not m.is_dir()]
    files = {archive.parent / member.filename: member.file_size for member in artifacts}
    return bool(files) and all(file.is_file() and file.stat().st_size == size for file, size in files.items())


def store_uri(mlruns: Path) -> str:
    """MLflow's address of the record: of its database, or of the folder of a file store."""
    from sqlalchemy.engine import URL, make_url

    root, databases = find_record(Path(mlruns))
    if not databases:
        return root.as_uri()
    name = databases[0].as_posix()
    uri = URL.create("sqlite", database=name).render_as_string()
    if make_url(uri).database != name:  # SQLAlchemy before 2.1 and a question mark
        raise ValueError(f"{root}: SQLAlchemy cannot open a database under this name. Rename the folder.")
    return uri


def runs_table(mlruns: Path) -> list[dict[str, Any]]:
    """One row per run, newest first: its name, id and status, its parameters, the last value of its metrics."""
    client = _client(mlruns)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, order_by=["attributes.start_time DESC"])
    names = [{"run": run.info.run_name, "id": run.info.run_id, "status": run.info.status} for run in runs]
    return [name | run.data.metrics | run.data.params for name, run in zip(names, runs, strict=True)]


def histories(mlruns: Path, metric: str, most: int = 6) -> dict[str, list[tuple[int, float]]]:
    """{run: [(step, value), ...]} of a metric, for the newest runs that have it; of namesakes, with the id's beginning."""
    client, rows = _client(mlruns), runs_table(mlruns)
    names = [row["run"] for row in rows]
    found = {}
    for row in [row for row in rows if metric in row][:most]:
        history = client.get_metric_history(row["id"], metric)
        name = row["run"] if names.count(row["run"]) == 1 else f"{row['run']} ({row['id'][:8]})"
        found[name] = sorted((point.step, point.value) for point in history)
    return found


def shortened(rows: Sequence[Mapping[str, Any]], most: int = 26) -> list[dict[str, str]]:
    """The rows of `runs_table` for a page: ids and numbers as far as they tell, of a path the name, of long texts the end."""
    return [{key: _short(key, value, most) for key, value in row.items()} for row in rows]


def _short(key: str, value: object, most: int) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)[:8] if key == "id" else str(value)
    text = text if len(text) <= most else re.sub(r"^.*[/\\](?=.)", ".../", text)
    return text if len(text) <= most else f"...{text[3 - most :]}"


def artifacts(mlruns: Path, run_id: str) -> dict[str, list[str]]:
    """{folder: names of its files} of what a run keeps, at any depth; "." for what lies in no folder."""
    client, ahead = _client(mlruns), [""]
    found: dict[str, list[str]] = {}
    while ahead:
        for info in client.list_artifacts(run_id, ahead.pop() or None):
            folder, _, name = info.path.rpartition("/")
            ahead.append(info.path) if info.is_dir else found.setdefault(folder or ".", []).append(name)
    return {folder: sorted(found[folder]) for folder in sorted(found)}


def arguments() -> argparse.Namespace:
    """What was typed behind the script's name: `source`, a path or None, and `anyway`; a kernel's arguments are not ours."""
    parser = argparse.ArgumentParser(description="Open the MLflow dashboard of a record, made right first.")
    parser.add_argument("source", nargs="?", type=Path, help="mlruns.zip or a folder; the last training's if not given")
    parser.add_argument("--anyway", action="store_true", help="open a record of which artifacts are missing")
    return parser.parse_args([] if in_notebook() else None)


def chosen_record(source: Path | None, default: Path) -> Path:
    """The record named, else `default`, else a demonstration in a temporary folder."""
    if source:
        return source
    try:
        return find_record(default)[0]
    except Refused:
        folder = Path(tempfile.mkdtemp(prefix="mlflow-demonstration-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        print(f"There is no record at {default} yet: what follows is a demonstration with invented numbers.")
        return demonstration(folder)


def demonstration(folder: Path) -> Path:
    """Make a small record with one run of invented numbers in `folder`; return its `mlruns`."""
    root = Path(os.path.abspath(folder)) / "mlruns"
    root.mkdir(parents=True)
    (root / DATABASE).touch()
    client = _client(root)
    experiment = client.create_experiment("demonstration", (root / "artifacts").as_uri())
    run = client.create_run(experiment, run_name="invented").info.run_id
    client.log_param(run, "note", "invented numbers, no training")
    for epoch in range(5):
        client.log_metric(run, "val_loss", 1 / (1 + epoch), step=epoch)
    client.log_text(run, "A demonstration, no training.\n", "note.txt")
    client.set_terminated(run)
    write_marker(root)
    return root


def _client(mlruns: Path) -> "MlflowClient":
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    quieten()
    return MlflowClient(store_uri(mlruns))


def quieten() -> None:
    """Keep MLflow from telling of each table that it makes in a new database."""
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def in_notebook() -> bool:
    """True inside IPython or a Jupyter kernel."""
    return hasattr(builtins, "__IPYTHON__")


def on_kaggle() -> bool:
    """True where no browser can reach this machine's own address."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def _fetch(url: str, data: bytes | None = None, timeout: float = 30) -> bytes:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
        return answer.read()


def _free_port(wanted: int | None) -> int:
    if wanted in BLOCKED_PORTS:
        raise ValueError(f"browsers block port {wanted}; take another, or none to have a free one chosen")
    while True:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, wanted or 0))
            except OSError as error:
                raise ValueError(f"port {wanted} is taken by another program; take another, or none") from error
            port = probe.getsockname()[1]
        if port not in BLOCKED_PORTS:
            return port
