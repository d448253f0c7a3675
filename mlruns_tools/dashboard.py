"""The MLflow dashboard of a record, on this machine only: a repaired record in, a running server and its links out."""

import argparse
import builtins
import contextlib
import json
import logging
import os
import re
import signal
import socket
import sys
import time
import urllib.request
import webbrowser
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from mlruns_tools.fixed_paths import (
    DATABASE,
    Record,
    Refused,
    Report,
    Unfinished,
    as_command,
    fix_paths,
    is_portable,
    look,
    pair,
    quoted,
    shown,
    some,
    told,
    write_marker,
)
from mlruns_tools.guard import Guarded
from mlruns_tools.report import VIEW

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST = "127.0.0.1"
PATIENCE = 180  # seconds until the server must answer; an old database is upgraded in that time
BLOCKED_PORTS = {2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}  # by browsers
SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two processes instead of fifteen
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "PYTHONUTF8": "1",
}


CHANGED: list[str] = []  # by this process, so far: a refusal's exit status 2 would say that nothing was


class Dashboard:
    """A running MLflow server; `stop` it, or use it as a context manager."""

    def __init__(self, record: Record, port: int) -> None:
        self.root = root = record.root
        self.url = f"http://{HOST}:{port}"
        self._asked_to_finish = False
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)]
        command += ["--backend-store-uri", store_uri(record.stores[0].path)]
        if is_portable(root):  # its locations are mlflow-artifacts:/, which the server looks up below the root
            command += ["--artifacts-destination", root.as_uri()]
        else:
            command += ["--no-serve-artifacts", "--default-artifact-root", (root / "artifacts").as_uri()]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
        self.server = Guarded(*command, env=kept | SETTINGS)

    def wait_until_it_answers(self, patience: float = PATIENCE) -> None:
        """Return when `/health` answers; raises RuntimeError with the cause in the server's log when it does not."""
        end = time.monotonic() + patience
        while time.monotonic() < end and self.server.status is None:
            try:
                if _fetch(f"{self.url}/health", timeout=2) == b"OK":
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        lines = self.server.log.splitlines()
        cause = next((line.strip() for line in reversed(lines) if re.search("Error|Exception", line)), "")
        ended = self.server.status is not None
        self.stop()
        raise RuntimeError(
            f"The MLflow server {'ended' if ended else f'did not answer in {patience} s'}: {shown(cause[:500])}"
        )

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
            shown(f"{info.get('run_name', 'run')} ({info['run_id'][:8]})"): page.format(url=self.url, view=VIEW, **info)
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
            self.server.wait()
        self.stop()

    def stop(self) -> None:
        """End the server and all its processes; a second call does nothing."""
        self.server.close()

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def open_dashboard(source: Path, port: int | None = None, maps: Sequence[tuple[str, str]] = ()) -> Dashboard:
    """Start MLflow's server on the record and return when it answers; `maps` as of `fix_paths`.

    A database of an older MLflow is brought to the installed one's schema, a copy kept. Raises Refused when there is no
    record, one of a newer MLflow, or one that would show files of this machine that are none of it, or was moved and not
    repaired, and for a port that browsers block or another program has; RuntimeError with the server's log when it does
    not start.
    """
    record = look(source)
    report = fix_paths(source, dry_run=True, maps=maps)
    if report.changed:
        tool = "python mlruns_tools/fixed_paths.py"
        raise Refused(f"{source} was moved. Repair it first: {tool} {quoted(source)}")
    _check_exposed(report)
    store = record.stores[0]
    if store.is_database and (brought := _bring_up(store.path)):
        print(shown(brought))
    from mlruns_tools.asked import check_places  # not above: it imports MLflow

    check_places(store.path, report)
    dashboard = Dashboard(record, _free_port(port))
    try:
        dashboard.wait_until_it_answers()
    except BaseException:
        dashboard.stop()
        raise
    return dashboard


def _check_exposed(report: Report) -> None:
    """The server would show these files of this machine to whoever opens its page."""
    if report.exposed:
        raise Refused(
            f"{report.root} names places outside of itself, which its dashboard would open: {some(report.exposed)}. If they"
            " belong to it, say where they are: --map OLD=NEW"
        )


def _bring_up(database: Path) -> str | None:
    from mlruns_tools.schema import head, revision, upgrade_kept  # not above: it imports MLflow

    brought = None if revision(database) == head() else upgrade_kept(database)
    CHANGED.extend([brought] if brought else [])
    return brought


def repair_if_needed(source: Path, maps: Sequence[tuple[str, str]] = ()) -> Report:
    """Unpack a zip, repair a record that was moved, bring an older database to the installed MLflow's schema.

    A record that is right is only read, and a zip that is unpacked beside it already is not unpacked again.
    """
    zipped = Path(source).is_file() and zipfile.is_zipfile(source)
    report = fix_paths(source, dry_run=not zipped, maps=maps)
    if zipped:
        CHANGED.append(f"{source} is unpacked and repaired")
    _check_exposed(report)
    store = look(report.source).stores[0]
    brought = _bring_up(store.path) if store.is_database else None  # before the repair, so that this can be undone
    if not zipped and report.to_do:
        report = fix_paths(source, maps=maps)
        CHANGED.append(f"{source} is repaired")
    report.notes += [brought] if brought else []
    return report


def brief(report: Report) -> str:
    """A report in five lines at most: what there is, what was done, what is wrong."""
    done = f"{sum(report.changed.values())} location(s) made right, {sum(report.right.values())} were so already"
    lines = [f"Record: {report.stores[0]}", f"MLflow finds {report.usable} of {report.runs} run(s); {done}."]
    wrong = [*report.problems, *(f"outside of the record: {place}" for place in report.outside)]
    notes = [note for note in report.notes if not note.startswith("experiment")]
    lines += (
        [f"{len(wrong)} problem(s): {wrong[0]}"]
        if wrong
        else [f"Back to how it was: {report.undo}"] * bool(report.copy)
    )
    lines += notes[:1]
    more = len(wrong) > 1 or len(notes) > 1
    whole = f"python mlruns_tools/fixed_paths.py {quoted(report.source)} --dry-run"
    return "\n".join(map(shown, lines + [f"The whole report: {whole}"] * more))


def store_uri(source: Path) -> str:
    """MLflow's address of a record: of the store that `look` puts first there, or of the database that is named."""
    from sqlalchemy.engine import URL, make_url

    path = Path(os.path.abspath(source))
    path = path if path.is_file() else look(path).stores[0].path
    if path.is_dir():
        return path.as_uri()
    uri = URL.create("sqlite", database=path.as_posix()).render_as_string()
    if make_url(uri).database != path.as_posix():  # SQLAlchemy before 2.1 and a question mark
        raise Refused(f"{path}: SQLAlchemy cannot open a database under this name. Rename the folder.")
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
    text = shown(str(value)[:8] if key == "id" else value)
    text = text if len(text) <= most else re.sub(r"^.*[/\\](?=.)", ".../", text)
    return text if len(text) <= most else f"...{text[3 - most :]}"


def artifacts(mlruns: Path, run_id: str) -> dict[str, list[str]]:
    """{folder: names of its files} of what a run keeps, at any depth; "." for what lies in no folder."""
    client, ahead = _client(mlruns), [""]
    found: dict[str, list[str]] = {}
    while ahead:
        for info in client.list_artifacts(run_id, ahead.pop() or None):
            folder, _, name = info.path.rpartition("/")
            ahead.append(info.path) if info.is_dir else found.setdefault(shown(folder or "."), []).append(shown(name))
    return {folder: sorted(found[folder]) for folder in sorted(found)}


def arguments() -> argparse.Namespace:
    """What was typed behind the script's name; of a kernel, whose arguments are not ours, the defaults.

    `source` is a path or None, `maps` as of `fix_paths`, `browser` whether one may be opened. In a script, a refusal is
    printed as a sentence from here on, with exit status 2, or 1 where the record was changed before.
    """
    parser = argparse.ArgumentParser(
        description="Open the MLflow dashboard of a record, made right first.",
        epilog="example: python notebooks/mlflow_dashboard.py mlruns.zip",
    )
    parser.add_argument(
        "source", nargs="?", type=Path, help="mlruns.zip, a folder or a database (default: the last training's)"
    )
    said = "locations in OLD lie in the folder NEW now, which the dashboard may show; may be said several times"
    parser.add_argument("--map", dest="maps", metavar="OLD=NEW", type=pair, action="append", default=[], help=said)
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="only print the link")
    if in_notebook():
        return parser.parse_args([])
    sys.excepthook = _say
    as_command()
    return parser.parse_args()


def _say(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """For `sys.excepthook`: refusals and what the server says are sentences, not tracebacks."""
    if issubclass(kind, (Refused, RuntimeError, OSError)) and not issubclass(
        kind, (RecursionError, NotImplementedError)
    ):
        if CHANGED and not isinstance(error, Unfinished):
            error = Unfinished(f"{error} ({'; '.join(CHANGED)})")
        raise SystemExit(told(error))
    sys.__excepthook__(kind, error, trace)


def open_browser(link: str) -> bool:
    """Open the page where a person sits at a screen; True where that was done."""
    seen = os.name == "nt" or sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(seen) and not in_notebook() and not on_kaggle() and webbrowser.open(link)


def chosen_record(source: Path | None, default: Path) -> Path:
    """The record named, else `default`, else a demonstration in a temporary folder."""
    if source:
        return source
    try:
        look(default)
        return default
    except Refused:
        folder = Guarded().folder  # until this process ends
        print(f"There is no record at {default} yet: what follows is a demonstration with invented numbers.")
        return demonstration(folder)


def demonstration(folder: Path) -> Path:
    """Make a small record with one run of invented numbers in `folder`; return its `mlruns`."""
    root = Path(os.path.abspath(folder)) / "mlruns"
    root.mkdir(parents=True)
    (root / DATABASE).touch()
    client = _client(root / DATABASE)
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
        raise Refused(f"browsers block port {wanted}; take another, or none to have a free one chosen")
    while True:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, wanted or 0))
            except OSError as error:
                raise Refused(f"port {wanted} is taken by another program; take another, or none") from error
            port = probe.getsockname()[1]
        if port not in BLOCKED_PORTS:
            return port
