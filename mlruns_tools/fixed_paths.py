"""Make an MLflow record right at a new place: `mlruns.zip` or a folder in, the same record with true locations out.

MLflow stores absolute locations, so a record that was moved or unzipped shows its metrics but none of its artifacts.
`python fixed_paths.py mlruns.zip` rewrites the locations, in databases and in `meta.yaml` files, makes again what MLflow
needs beside them (empty folders that git and zips lose), and says what remains. Each location is decided by itself:

1. It goes to the place in the record where its files are, found by its own end or by the id of its run; an empty folder,
   or the one that holds the run's `meta.yaml`, is proof of nothing.
2. Where the record has no files for it and its folder elsewhere on this machine has some, it stays as it is.
3. Else it goes where the longest known root of it went: one that was said (`--map`), written in the marker `mlruns.json`,
   proven by another location or, for want of these, by an empty folder here of the same end, or called `mlruns` and right
   above its id; without one it stays.

It needs the standard library only and works copied alone beside any `mlruns`; Python 3.9 or later.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import lzma
import os
import re
import shlex
import shutil
import signal
import sqlite3
import stat
import struct
import sys
import tempfile
import threading
import time
import unicodedata
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

if sys.version_info < (3, 9):
    sys.exit("fixed_paths.py needs Python 3.9 or later; this is " + sys.version.split()[0])

MARKER = "mlruns.json"  # in the record's folder: the root its locations were written at
DATABASE = "mlflow.db"
SUFFIXES = (".db", ".sqlite", ".sqlite3", ".db3")  # of files that may be a database of MLflow's
SERVER = "mlartifacts"  # the folder in which `mlflow server` keeps artifacts
ASIDE = ".set-aside"  # ends the name of the folder beside a file store for what MLflow cannot read on with
COPY = re.compile(r"repair-(\d+)\.undo\.zip")  # in the record's folder: what a repair changed, as it was before
YOUNG = 60  # seconds since a file was written, by a training that may be writing still
PATIENCE = 5  # seconds to wait for a database that another program is writing
PREFIX = ".mlruns-"  # begins the name of whatever is made beside its last place, to be moved there when it is whole
UNSOUND = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    MemoryError,
)
MOST_MEMBERS, MOST_BYTES, MOST_RATIO = 200_000, 50 * 2**30, 200  # of a zip; the ratio counts from 256 MiB on
MOST_NAME, MOST_STEPS = 1000, 60  # of a member: letters, folders
MOST_LIST = 40 * 2**20  # bytes of a zip's list of members
MOST_TEXT, MOST_WAY = 2**20, (4096, 100)  # bytes of a `meta.yaml`, marker or tag; letters and folders of a location
MOST_FOLDERS, MOST_DEPTH = 5000, 5  # that are looked through for stores
SQLITE = b"SQLite format 3"  # begins a database
LFS = b"version https://git-lfs.github.com/spec/"  # begins a pointer that stands for a file which git did not bring

TRACE_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
# (kind, table, column, id column, experiment column, condition): every place where MLflow's database looks an artifact up
COLUMNS = [
    ("experiments", "experiments", "artifact_location", "experiment_id", "experiment_id", "1"),
    ("runs", "runs", "artifact_uri", "run_uuid", "experiment_id", "1"),
    ("logged models", "logged_models", "artifact_location", "model_id", "experiment_id", "1"),
    ("model versions", "model_versions", "source", "name", "", "1"),
    ("model versions", "model_versions", "storage_location", "name", "", "1"),
    ("traces", "trace_tags", "value", "request_id", "", f"key IN {TRACE_TAGS}"),
    ("workspaces", "workspaces", "default_artifact_root", "name", "", "1"),
    ("workspaces", "workspaces", "trace_archival_location", "name", "", "1"),
]
KEYS = {  # of the meta.yaml of each kind: those that name a place, and those that MLflow cannot do without
    "experiments": (("artifact_location",), ("artifact_location", "experiment_id", "lifecycle_stage", "name")),
    "runs": (("artifact_uri",), ("end_time", "experiment_id", "start_time", "user_id")),
    "logged models": (("artifact_location",), ("experiment_id", "model_id")),
    "model versions": (("source", "storage_location"), ("name", "version")),
    "registered models": ((), ("name",)),
}
# fmt: off
HEADS = {  # schemas at which a release of MLflow stood: the first such release
    "90e64c465722": "1.0", "181f10493468": "1.1", "7ac759974ad8": "1.2", "89d4b8295536": "1.3", "2b4d017a5e9b": "1.4",
    "cfd24bdc0731": "1.5", "0a8213491aaa": "1.6", "27a6a02d2cf1": "1.10", "84291f40a231": "1.11",
    "a8c4a736bde6": "1.13", "39d1c3be5f05": "1.15", "c48cb773bb87": "1.16", "bd07f7e963c5": "1.25",
    "cc1f77228345": "1.28", "97727af70f4d": "1.29", "3500859a5d39": "2.3", "7f2a7d5fae7d": "2.4",
    "acf3f17fdcc7": "2.8", "867495a8f9d4": "2.13", "5b0e9adcef9c": "2.13", "4465047574b1": "2.15",
    "f5a4f2784254": "2.17", "0584bdc529eb": "2.18", "6953534de441": "3.0", "bda7b8c39065": "3.0",
    "770bee3ae1dd": "3.2", "1a0cddfcaa16": "3.3", "71994744cf8e": "3.4", "bf29a5ff90ea": "3.5", "1bd49d398cd23": "3.8",
    "d3e4f5a6b7c8": "3.9", "1b5f0d9ad7c1": "3.10", "c3d6457b6d8a": "3.11", "7d34483879f0": "3.12",
    "da6fb0208061": "3.13", "b7e4c1a90f23": "3.14", "6f8d9c3b2a1e": "3.15", "b7e2c1a4d9f3": "3.16",
    "dc11669786a5": "3.17", "f4a9b2c7d1e6": "3.18",
}
# fmt: on
# all tables of these releases, those of their users among them, and what SQLite keeps for itself
TABLES = """
    alembic_version assessments budget_policies datasets endpoint_bindings endpoint_model_mappings endpoint_tags
    endpoints entity_associations evaluation_dataset_records evaluation_dataset_tags evaluation_datasets
    experiment_tags experiments guardrail_configs guardrails input_tags inputs issues job_locks jobs label_schemas
    latest_metrics logged_model_metrics logged_model_params logged_model_tags logged_models mcp_access_endpoints
    mcp_server_aliases mcp_server_tags mcp_server_version_tags mcp_server_versions mcp_servers metrics
    model_definitions model_version_tags model_versions online_scoring_configs params registered_model_aliases
    registered_model_tags registered_models review_queue_items review_queue_label_schemas review_queue_users
    review_queues runs scheduler_leases scorer_versions scorers secrets span_metrics spans
    sql_assessment_daily_rollups sql_span_cost_daily_rollups sql_trace_metric_daily_rollups
    sql_trace_rollup_rebuild_queue tags trace_info trace_metrics trace_request_metadata trace_tags webhook_events
    webhooks workspaces alembic_version_auth users roles role_permissions user_role_assignments
    experiment_permissions registered_model_permissions scorer_permissions workspace_permissions
    gateway_endpoint_permissions gateway_model_definition_permissions gateway_secret_permissions
    sqlite_sequence sqlite_stat1 sqlite_stat4
"""
CALLS = {"KEY", "UNIQUE", "CHECK", "IN", "VARCHAR", "CHAR", "NUMERIC", "DECIMAL", "FLOAT"}  # that open a parenthesis
COMPUTED = r"GENERATED ALWAYS AS \(end_time_unix_nano - start_time_unix_nano\) STORED"  # the only one, of spans
NAMED = {"TABLE", "REFERENCES", "ON"}  # a name follows, and then a parenthesis
ODD = {"COLLATE", "CONFLICT", "WITHOUT", "VIRTUAL", "USING"}  # what MLflow's schemas never say
TRIGGER = (  # the only one that MLflow's databases have
    "CREATE TRIGGER prevent_secrets_aad_mutation BEFORE UPDATE ON secrets FOR EACH ROW WHEN OLD.secret_id != NEW.secret_id"
    " OR OLD.secret_name != NEW.secret_name BEGIN SELECT RAISE(ABORT, 'secret_id and secret_name are immutable (used as AAD"
    " in encryption)'); END"
)
LOGGED = ("mlflow.loggedArtifacts", "mlflow.loggedImages", "mlflow.log-model.history")  # tags of runs with artifacts
PROMPT = "dummy-source"  # what MLflow writes as the source of a prompt, which has no files
SERVED = "mlflow-artifacts:/"  # before locations relative to what `mlflow server --artifacts-destination` is given
SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file, which SQLite would delete
LONG_ID = re.compile(r"(?:m-|tr-)?[0-9a-f]{32}|[0-9]{15,}")  # of a run, model, trace, or a file store's experiment
SECRET = re.compile("[0-9a-f]{32}")  # in an id that no stranger can guess
ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,63}")  # of an experiment's folder; any other makes MLflow refuse the store
OWN = re.compile(r"artifacts|models|mlruns\.json|\d+")  # what lies beside a database in a folder of its own
OF_EXPERIMENT = ("meta.yaml", "tags", "models", "traces", "datasets")  # what lies in its folder besides runs
WORKING = re.compile(
    rf".*-(?:journal|wal|shm)|{re.escape(PREFIX)}.*|{COPY.pattern}"
)  # no part of a record, not to be said
ALONE = ("experiments", "workspaces")  # kinds without files of their own
RESERVED = ("tags", "datasets", "traces", "models")  # folders of an experiment that are no runs
NEEDED = ("metrics", "params", "artifacts")  # folders without which MLflow finds no run
LITTER = (
    ".git",
    ".keep",
    ".DS_Store",
    "._",
    "Thumbs.db",
    "desktop.ini",
)  # begins the name of a file that is no artifact
NAME = re.compile(r"[/\w.\- :]+")  # of a metric, parameter or tag
KEY = re.compile(r"([A-Za-z_]\w*):(?=[ \r\n]|$) ?")  # begins a line of meta.yaml
PLAIN = re.compile(r"(?:file:)?[A-Za-z0-9/.][\w/.%+-]*")  # a value that stands for itself
CONTROL = re.compile("[\\0-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\x85\\u2028\\u2029]|\\r(?!\\n)")
NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|nan|-?inf"
METRICS = re.compile(rf"(?:-?\d+ (?:{NUMBER})(?: -?\d+)?\n)+".encode())  # is quickly seen to be right
POINTER = "is a Git LFS pointer, not the file. Fetch it first: git lfs pull"
LINK = "is a link out of the record. Copy the record with what its links lead to."
AGAIN = "cure that, then repair again."
FRESH = "Take it from the zip again, or a fresh copy of the record."


def shown(text: object) -> str:
    """In one line, every control character as an escape: what a stranger wrote does not reach the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class Refused(Exception):
    """The record cannot be repaired as it is, and nothing was changed; the message says what would be right."""

    def __str__(self) -> str:
        return shown(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the sentence."""
        return [f"Refused: {self}"]


class Unfinished(Refused):
    """What began to change a record could not end; the message says why, and how to go on. Exit status 1."""


@contextmanager
def once_begun(begun: Iterable[object], how: str) -> Iterator[None]:
    """Where `begun` holds anything by then, an error is Unfinished and says how to go on: by Refused nothing is changed."""
    try:
        yield
    except (Refused, OSError, sqlite3.Error) as error:
        if any(True for _ in begun):
            raise Unfinished(f"stopped half-way ({error}): {how}") from error
        raise


def some(things: Iterable[object], most: int = 10) -> str:
    """The first of them, and how many there are more."""
    names = [str(thing) for thing in things]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def quoted(path: object) -> str:
    """As it is pasted into a shell of this machine."""
    return f'"{path}"' if os.name == "nt" else shlex.quote(str(path))


@dataclass
class Report:
    """What a repair did: for each kind of entry the number of locations changed, right already, and remote."""

    root: Path  # the record's folder
    source: Path  # where `look` finds the record: what was named, or the folder that a zip became
    dry_run: bool = False
    changed: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    inside: bool = False  # whether any of these is in the record
    remote: Counter[str] = field(default_factory=Counter)
    stores: list[str] = field(default_factory=list)  # in words, the one to be shown first
    runs: int = 0  # in all stores
    usable: int = 0  # of these, runs that MLflow itself would find
    outside: list[str] = field(default_factory=list)  # locations that lead out of the record; never rewritten
    exposed: list[str] = field(default_factory=list)  # of these, what a dashboard would show of this machine
    problems: list[str] = field(default_factory=list)  # whatever else a person should look at
    missing: list[str] = field(default_factory=list)  # ids of runs without an artifact folder here
    made: int = 0  # lost folders that were made again
    aside: list[str] = field(default_factory=list)  # what was set aside because MLflow could not read on
    copy: str | None = None  # the file that `--undo` goes back by
    whole: bool = True  # unless the disk failed on the way
    seen: set[str] = field(default_factory=set)  # the locations that were decided on, as they stand there now
    notes: list[str] = field(default_factory=list)

    def stop(self, error: Exception) -> None:
        """Note that the disk failed after the first change."""
        self.problems.append(f"stopped half-way ({error}): {AGAIN}")
        self.whole = False

    @property
    def exit_code(self) -> int:
        """0: all is right. 1: something is outside the record, missing though it was logged, or unreadable."""
        return 1 if self.problems or self.outside else 0

    @property
    def to_do(self) -> bool:
        """Whether a dry run found anything to change."""
        return bool(self.changed or self.made or self.aside)

    @property
    def summary(self) -> str:
        kinds = dict.fromkeys(kind for kind, *_ in COLUMNS)
        seen = [kind for kind in kinds if self.changed[kind] + self.right[kind] + self.remote[kind]]
        lines = [f"Record: {self.root}", *self.stores]
        lines += [f"{'locations of':<16}{'to change' if self.dry_run else 'changed':>10}{'right':>8}{'remote':>8}"]
        lines += [f"{k:<16}{self.changed[k]:>10}{self.right[k]:>8}{self.remote[k]:>8}" for k in seen]
        would = "to be " * self.dry_run
        lines += [f"Lost folders {would}made again: {self.made}"] if self.made else []
        lines += [f"Set aside, MLflow cannot read on with it: {some(self.aside)}"] if self.aside else []
        lines += [f"MLflow finds {self.usable} of {self.runs} run(s)."]
        lines += self.notes
        if self.missing:
            lines += [f"NO ARTIFACTS HERE for {len(self.missing)} run(s), which logged none or left them elsewhere:"]
            lines += [f"  {some(self.missing)}"]
        for title, found in (("OUTSIDE THE RECORD, left as they are", self.outside), ("PROBLEMS", self.problems)):
            lines += [f"{title}: {len(found)}", *(f"  {each}" for each in found[:10])] if found else []
            lines += [f"  and {len(found) - 10} more"] if len(found) > 10 else []
        lines += ["If they belong to it, say where they are: --map OLD=NEW"] if self.outside else []
        lines += [f"As it was before: {self.copy}; back to it: {self.undo}"] if self.copy else []
        return "\n".join(map(shown, lines))

    @property
    def undo(self) -> str:
        """The command that takes the repair back, or what to do where this file stands alone."""
        if not Path(__file__).with_name("undo.py").is_file():
            return "put what lies in it below files/ in place again"
        return f"python {quoted(_short(Path(__file__)))} {quoted(self.source)} --undo"

    def __str__(self) -> str:
        end = "Nothing was written (dry run)." if self.dry_run else f"Next: {next_command(self.source)}"
        return f"{self.summary}\n{shown(end)}"

    @property
    def json(self) -> str:
        values = vars(self) | {"root": str(self.root), "source": str(self.source), "exit_code": self.exit_code}
        del values["seen"]
        return json.dumps(values | ({} if self.dry_run else {"next": next_command(self.source)}), indent=1)


def _short(path: Path) -> Path:
    """Relative to the current folder where it lies there."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def next_command(source: Path) -> str:
    """The command that shows the record: this project's dashboard, or plain MLflow where this file stands alone."""
    record = look(source)
    store, root = record.stores[0], record.root
    notebook = Path(__file__).resolve().parent.parent / "notebooks" / "mlflow_dashboard.py"
    if notebook.is_file() and not is_portable(root):
        return f"python {quoted(_short(notebook))} {quoted(source)}"
    home, uri = (store.path.parent, f"sqlite:///{store.path.name}") if store.is_database else (store.path, ".")
    allow = "set MLFLOW_ALLOW_FILE_STORE=true&& " if os.name == "nt" else "MLFLOW_ALLOW_FILE_STORE=true "
    command = f"cd {quoted(home)} && {allow * (not store.is_database)}mlflow server --workers 1"
    command += f" --backend-store-uri {quoted(uri)}"
    return command + f" --artifacts-destination {quoted(os.path.relpath(root, home))}" * is_portable(root)


def _marker(mlruns: Path) -> dict[str, object]:
    if _leads_out(Path(mlruns) / MARKER, Path(mlruns)):
        raise Refused(f"{Path(mlruns) / MARKER} {LINK}")
    try:
        values = json.loads(read(Path(mlruns) / MARKER))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_marker(mlruns: Path) -> str | None:
    """The root the record was written at, or None when the marker is absent or says nothing usable."""
    root = _marker(mlruns).get("root")
    return root if isinstance(root, str) and len(_steps(root)) > 1 else None


def is_portable(mlruns: Path) -> bool:
    """Whether `mlflow-artifacts:/` stands for this record's own folder, and not for a server's."""
    return _marker(mlruns).get("portable") is True


def write_marker(
    mlruns: Path,
    root: Path | str | None = None,
    portable: bool = False,
    source: str | None = None,
    beside: bool = False,
) -> None:
    """Note that the record's locations are written at its present place (or at `root`, where it is about to go).

    `source` tells the zip that it came from, by which it is known when that is opened again; `beside` that a database
    beside the folder is part of it.
    """
    source = source or _marker(mlruns).get("source")
    values = {"root": os.path.abspath(root or mlruns)} | ({"portable": True} if portable else {})
    values |= ({"source": source} if isinstance(source, str) else {}) | ({"beside": True} if beside else {})
    _replace(Path(mlruns) / MARKER, json.dumps(values, indent=1).encode() + b"\n")


# --- files -----------------------------------------------------------------------------------------------------------


def at_once(path: Path) -> BinaryIO:
    """Open for reading what nobody can wait at: no pipe, nor what a link to `/proc/kmsg` leads to."""
    nonblock = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblock))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Refused(f"{path} is no regular file. {FRESH}")
    return file


def read(path: Path) -> bytes:
    """A small file whole. Raises Refused for one that is large, or no regular one."""
    with at_once(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_TEXT:
            raise Refused(f"{path} has {size} bytes, more than MLflow ever writes there. {FRESH}")
        return file.read(MOST_TEXT) or b""


def walk(folder: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, of a stranger's folder: Refused where folders lie too deep, OSError where one cannot be read."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # gone meanwhile
            raise error

    for here, folders, files in os.walk(folder, onerror=fail):
        if here[len(str(folder)) :].count(os.sep) > MOST_STEPS:
            raise Refused(f"{folder}: more than {MOST_STEPS} folders lie in each other here, which no record needs.")
        yield here, folders, files


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before something speaks of them: power may fail."""
    if os.name == "nt" and path.is_dir():
        return  # it has no such call
    file = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot
            raise
    finally:
        os.close(file)


def sync_all(folder: Path) -> None:
    """The same of all that lies in a folder, the files first."""
    for here, _, files in os.walk(folder, topdown=False):
        for path in (*files, "."):
            sync(Path(here, path))


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` that nothing has, for a file that takes its place when it is whole, on the disk."""
    part = path.with_name(PREFIX + os.urandom(8).hex())
    try:
        yield part
        with suppress(FileNotFoundError):
            os.chmod(part, stat.S_IMODE(os.stat(path).st_mode))
        sync(part)
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise
    with once_begun([path], "cure that, then try again."):
        sync(path.parent)


def _replace(path: Path, data: bytes) -> None:
    with made_whole(path) as part, part.open("xb") as file:
        file.write(data)


# --- which stores there are ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """A database of MLflow's, or the folder of a file store."""

    path: Path
    home: Path  # the folder that its artifacts are looked for in first, where the marker is
    ids: frozenset[str]  # of its runs
    revision: str | None = None  # of a database's schema, as MLflow's migrations call it; None without MLflow's tables
    is_database: bool = False

    def __str__(self) -> str:
        what = f"database, schema {self.revision}" if self.is_database else "file store"
        return f"{self.path} ({what}, {len(self.ids)} run(s))"


@dataclass
class Record:
    """What `look` found: its stores, that with the most runs first, and the folders that artifacts may lie in."""

    stores: list[Store]
    bases: list[Path]

    @property
    def root(self) -> Path:
        return self.stores[0].home

    @property
    def hidden(self) -> list[Store]:
        """Stores with runs that the first one does not have."""
        return [store for store in self.stores[1:] if store.ids - self.stores[0].ids]


def look(source: Path | str) -> Record:
    """Every store at a place, inside it and beside it. Raises Refused without one.

    The place is a folder `mlruns`, a folder that holds one at whatever depth, or a database. One without runs hides none:
    the first is the one with the most, a database before files. MLflow's own default puts `mlflow.db` and `mlartifacts`
    beside `mlruns`; of a record with our marker and a database inside, what lies beside is another one.
    """
    source = named = Path(os.path.abspath(Path(source).expanduser()))
    if source.is_file():
        with source.open("rb") as file:
            head = file.read(40)
        if head.startswith(LFS):
            raise Refused(f"{source} {POINTER}")
        if not head.startswith(SQLITE) and (head or source.name != DATABASE):
            raise Refused(f"{source} is neither a zip nor a database of MLflow's.")
        source = source.parent
    folders, within = list(_walk(source)), source.name in ("mlruns", SERVER)
    databases = [path for folder in folders for path in _databases(folder)]
    if within and (not read_marker(source) or _marker(source).get("beside") or source / DATABASE not in databases):
        databases += [path for path in _databases(source.parent) if path not in databases]
    stores = [_store(path) for path in (databases if named == source else [named])]
    stores += [Store(f, f, frozenset(_run_ids(f))) for f in folders if named == source and _is_file_store(f)]
    known = [store for store in stores if store.revision is not None or not store.is_database]
    if not known:  # a file store of which nothing is left that MLflow can read
        known = [Store(f, f, frozenset()) for f in folders if read_marker(f) or any(map(COPY.fullmatch, _names(f)))]
    stores = sorted(known or stores, key=lambda store: (-len(store.ids), not store.is_database))
    if not stores:
        there = "is no folder" if not source.is_dir() else "holds none"
        near = next((f" Did you mean {path}?" for path in _nearby(source)), "")
        raise Refused(
            f"No MLflow record: {source} {there}. Give mlruns.zip, a folder mlruns with {DATABASE} or with "
            f"experiments (1/meta.yaml) inside, or the folder that holds mlruns.{near}"
        )
    near = [folder for folder in folders if folder.name in ("mlruns", SERVER)]
    beside = ("mlruns", SERVER) if within else (SERVER,) * any(store.home == source for store in stores)
    near += [path for name in beside if (path := source.parent / name).is_dir()]
    return Record(stores, list(dict.fromkeys([*(store.home for store in stores), *near])))


def _walk(top: Path) -> Iterator[Path]:
    """The folders in which stores may lie, the nearest first: neither runs, nor artifacts, nor what begins with a dot."""
    ahead, passed = deque([(top, 0)]), {"artifacts", "node_modules", "site-packages", "models", "__pycache__"}
    for _ in range(MOST_FOLDERS):
        if not ahead:
            return
        folder, depth = ahead.popleft()
        yield folder
        inside = depth < MOST_DEPTH and (folder == top or folder.name != SERVER)
        only = ("mlruns", SERVER) if inside and _is_file_store(folder) else None
        for path in _folders(folder) if inside else ():
            no = path.name in passed or path.name[:1] == "." or path.name.isdigit() or LONG_ID.fullmatch(path.name)
            no = no or path.name.endswith(ASIDE)
            if not no and not path.is_symlink() and (only is None or path.name in only):
                ahead.append((path, depth + 1))


def _nearby(source: Path) -> Iterator[Path]:
    """Records above; where the place itself is not there, those beside it, and zips."""
    for folder in [path for path in source.parents if path.is_dir()][: 3 if source.exists() else 1]:
        for path in [folder] if source.exists() else _walk(folder):
            if _databases(path) or _is_file_store(path):
                yield path
    yield from sorted((source if source.is_dir() else source.parent).glob("*mlruns*.zip"))


def _folders(parent: Path) -> list[Path]:
    """The folders inside, in order; a link counts as what it leads to."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(parent) as found:
        return [parent / name for name in sorted(entry.name for entry in found if entry.is_dir())]
    return []


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _databases(folder: Path) -> list[Path]:
    """`mlflow.db` first, then databases with other names that hold MLflow's tables."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        found = [folder / entry.name for entry in entries if entry.name.endswith(SUFFIXES) and entry.is_file()]
    found.sort(key=lambda path: (path.name != DATABASE, path.name))
    return [path for path in found if path.name == DATABASE or _holds_tables(path)]


def _holds_tables(path: Path) -> bool:
    """Whether it is a database with MLflow's tables; it is only read."""
    with suppress(OSError, sqlite3.Error, Refused), at_once(path) as file:
        if file.read(15) == SQLITE:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                return {"experiments", "runs"} <= _tables(connection)
    return False


def _store(database: Path) -> Store:
    folder, ids, revision = database.parent, (), None
    whole = folder.name == "mlruns" or (folder / MARKER).is_file() or (folder / "artifacts").is_dir()
    beside = () if whole else (path for path in (folder / "mlruns", folder / SERVER) if path.is_dir())
    with suppress(sqlite3.Error), closing(_connect(database)) as connection:
        ids = [str(run) for (run,) in connection.execute("SELECT run_uuid FROM runs")]
        revision = ""
        if "alembic_version" in _tables(connection):
            revision = next((str(row[0]) for row in connection.execute("SELECT version_num FROM alembic_version")), "")
    return Store(database, next(iter(beside), folder), frozenset(ids), revision, True)


def _connect(database: Path) -> sqlite3.Connection:
    """Read-write, because only then an interrupted write can be rolled back. Raises Refused for an unsafe one."""
    journal = database.with_name(database.name + "-journal")
    for path in (database.with_name(database.name + end) for end in ("", "-journal", "-wal", "-shm")):
        if _leads_out(path, database.parent):
            raise Refused(f"{path} {LINK}")
        if path.exists() and not path.is_file():
            raise Refused(f"{path} is no regular file. {FRESH}")
    with suppress(FileNotFoundError):  # gone with the write of another process
        if journal.is_file():
            with journal.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
                if file.read() == SUPER_JOURNAL:
                    raise Refused(f"{journal} names another file to delete, which MLflow's own never do. {FRESH}")
    return sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in the folder once links are followed; one that leads round in a circle does not."""
    real = Path(os.path.realpath(path))  # of a circle the link itself; Path.resolve raises for one, before Python 3.13
    return real.is_relative_to(os.path.realpath(folder)) and not os.path.islink(real)


def _leads_out(path: Path, folder: Path) -> bool:
    return os.path.islink(path) and not is_inside(path, folder)


def _tables(connection: sqlite3.Connection) -> set[str]:
    with suppress(sqlite3.DatabaseError):
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return set()


def _is_file_store(folder: Path) -> bool:
    """Whether a folder named by a number, deleted or not, has the `meta.yaml` of an experiment or of a run."""
    for experiment in (path for parent in (folder, folder / ".trash") for path in _folders(parent)):
        runs = (path for path in _folders(experiment) if LONG_ID.fullmatch(path.name))
        if experiment.name.isdigit() and any((path / "meta.yaml").is_file() for path in (experiment, *runs)):
            return True
    return False


def _run_ids(folder: Path) -> Iterator[str]:
    experiments = [path for path in _folders(folder) if path.name not in ("models", ".trash")]
    for experiment in (path for path in (*experiments, *_folders(folder / ".trash")) if ID.fullmatch(path.name)):
        runs = (path for path in _folders(experiment) if path.name not in RESERVED)
        yield from (run.name for run in runs if (run / "meta.yaml").is_file())


# --- locations -------------------------------------------------------------------------------------------------------


def _is_remote(location: str) -> bool:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", location)  # one letter is a Windows drive
    return location == PROMPT or (bool(scheme) and scheme[1].lower() != "file")


def _is_served(location: str) -> bool:
    return location.lower().startswith(SERVED[:-1])


@lru_cache(2**17)
def _steps(location: str) -> tuple[str, ...]:
    """`file:///C:/a%20b` or `C:\\a b` → ('c:', 'a b'); `/a/c` → ('/', 'a', 'c'); `s3://b/a` → ('s3:', 'b', 'a').

    A relative one counts from wherever MLflow ran: `../a/b` → ('a', 'b'). () for what is no place.
    """
    text = location if len(location) <= MOST_WAY[0] else "\0"
    if _is_remote(text):
        scheme, _, rest = text.partition(":")
        if _is_served(text):
            rest = unquote(re.sub(r"^//[^/]*", "", rest))  # whatever the host of the server is called
        anchor, steps = (f"{scheme.lower()}:",), rest.split("/")
        if "\\" in rest:
            return ()
    else:
        if text[:5].lower() == "file:":
            text = unquote(text[5:], errors="surrogateescape")
            text = re.sub(r"^//(localhost(?=/))?", "", text, flags=re.I)
            text = re.sub(r"^/(?=[A-Za-z]:([\\/]|$))", "", text)
            if location[5:7] == "//" and not re.match(r"/|[A-Za-z]:[\\/]", text):
                return ()  # file://server/share
        if text[:2] in ("//", "\\\\") or "\0" in text:
            return ()
        if drive := re.match(r"([A-Za-z]:)[\\/]", text):
            anchor, steps = (drive[1].lower(),), re.split(r"[\\/]+", text[3:])
        else:
            anchor, steps = ("/",) * text.startswith("/"), text.split("/")
    steps = [step for step in steps if step not in ("", ".")]
    while not anchor and steps[:1] == [".."]:
        del steps[0]
    return () if ".." in steps or len(steps) > MOST_WAY[1] else (*anchor, *steps)


def _key(steps: tuple[str, ...]) -> tuple[str, ...]:
    """For comparing: Windows does not tell cases apart."""
    return tuple(step.casefold() for step in steps) if steps and steps[0][1:] == ":" else steps


def _local(steps: tuple[str, ...]) -> str:
    """The path on this machine, if it can be one, else "", which is none."""
    anchor = steps[0] if steps else ""
    if os.name == "nt":
        return "\\".join(steps) if anchor[1:] == ":" else ""
    return "/" + "/".join(steps[1:]) if anchor == "/" else ""


@dataclass
class _Entry:
    """A location that MLflow reads: where it stands, and for whom."""

    kind: str
    name: str
    location: str
    store: Path  # the database, or the folder of the file store
    at: tuple[str, int] | tuple[Path, int, int]  # (UPDATE statement, row) in a database, (file, start, end) else
    experiment: str = ""


class _Map:
    """Decides where each location leads, by the three sentences at the top of this file. Places here are `str`, for speed."""

    def __init__(
        self, record: Record, place: Path, life: Path, said: Sequence[tuple[str, str]] = (), lost: Iterable[Path] = ()
    ) -> None:
        self.lost = set(map(str, lost))  # folders that will be made
        self.bases, self.place, self.life = [str(base) for base in record.bases], str(place), str(life)
        self.said = {_key(_steps(old)): os.path.abspath(new) for old, new in said}
        self.known: dict[tuple[str, ...], str] = {}  # an old root → its place here
        self.proven: set[tuple[str, ...]] = set()  # old roots that files prove
        self.stay: set[tuple[str, ...]] = set()  # roots elsewhere on this machine that have files of the record
        self.names: set[str] = set()  # of the runs, models and traces
        self.secrets: set[str] = set()  # of these, ids that no stranger can guess
        self.pointers: list[str] = []  # folders in which Git LFS pointers lie
        self._holds: dict[str, bool] = {}
        self._files: dict[tuple[str, ...], str | None] = {}  # what `_find` found
        self._by_id: dict[str, list[str]] | None = None
        self._out: dict[str, bool] = {}
        for base in self.bases:
            if written := read_marker(Path(base)):
                self.known[_key(_steps(written))] = base
            if is_portable(Path(base)):
                self.known[(SERVED[:-1],)] = base
        self.known |= self.said
        for base in self.bases:
            self.known |= {_key(_steps(path)): base for path in (os.path.realpath(base), base, self._final(base))}
        self.bases += [new for new in self.said.values() if new not in self.bases]

    def _final(self, path: str) -> str:
        """Where a place of the record will be: a zip is repaired before it is put there."""
        return self.life + path[len(self.place) :] if path.startswith(self.place) else path

    def learn(self, entries: list[_Entry]) -> None:
        """Find the files of each location, and so the roots that the others went by."""
        self.names = {e.name for e in entries if e.kind in ("runs", "logged models", "traces")}
        self.secrets = {name for name in self.names if SECRET.search(name)}
        for entry in entries:
            steps = _steps(entry.location)
            if not steps or entry.kind in ALONE:
                continue
            if self._ours(entry.location) and (path := self._find(steps)):
                base = next((b for b in self.bases if path == b), None) or self._base(path)
                tail = path[len(base) :].strip(os.sep).split(os.sep)
                while (key := _key(steps)) not in self.proven:
                    self.known.setdefault(key, os.path.join(base, *tail))
                    self.proven.add(key)
                    if not tail or len(steps) < 2 or steps[-1] != tail[-1]:
                        break
                    steps, tail = steps[:-1], tail[:-1]
            elif self.holds(_local(steps)):
                end = next((i for i, step in enumerate(steps) if step in self.secrets), 0)
                self.stay |= {_key(steps[:i]) for i in range(max(2, end - 1), end + 1)} if end else set()

    def _base(self, path: str) -> str:
        return max((base for base in self.bases if path.startswith(base + os.sep)), key=len, default="")

    def _ours(self, location: str) -> bool:
        """Whether it may be a place of this record: remote ones only where that was said."""
        return not _is_remote(location) or _is_served(location) or bool(self._root(_steps(location), self.said)[0])

    @staticmethod
    def _root(steps: tuple[str, ...], known: dict[tuple[str, ...], str]) -> tuple[str, int]:
        """The place by the longest known root, and that root's length; ("", 0) without one."""
        key = _key(steps)
        for end in range(len(steps), 0, -1):
            if place := known.get(key[:end]):
                return os.path.join(place, *steps[end:]), end
        return "", 0

    def _find(self, steps: tuple[str, ...]) -> str | None:
        """The folder here that holds the files of a location."""
        if steps not in self._files:
            self._files[steps] = next((path for path in self._candidates(steps) if self.holds(path)), None)
        return self._files[steps]

    def _candidates(self, steps: tuple[str, ...]) -> Iterator[str]:
        """Where they may be: by a known root, by the end of the location, the longest first, by an id in it."""
        if os.name == "nt" and any(set(step) & set('<>:"|?*\\') for step in steps[1:]):
            return
        yield from (path for known in (self.said, self.known) if (path := self._root(steps, known)[0]))
        ends = [i for i, step in enumerate(steps) if LONG_ID.fullmatch(step)]
        for start in range(1, ends[-1] + 1) if ends else ():
            yield from (os.path.join(base, *steps[start:]) for base in self.bases)
        if ends and self._by_id is None:
            self._by_id = {}
            for base in map(Path, self.bases):
                for folder in (base, *(each for each in _folders(base) if not SECRET.search(each.name))):
                    inside = (path for name in (".", "models", "traces") for path in _folders(folder / name))
                    for path in (path for path in inside if LONG_ID.fullmatch(path.name)):
                        self._by_id.setdefault(path.name, []).append(str(path))
        for folder in (self._by_id or {}).get(steps[ends[-1]], []) if ends else []:
            yield os.path.join(folder, *steps[ends[-1] + 1 :])

    def holds(self, path: str) -> bool:
        """Whether any file lies in the folder, at whatever depth; one that holds a run's `meta.yaml` is no artifacts'."""
        if path not in self._holds:
            self._holds[path] = bool(path) and self._look_into(path)
        return self._holds[path]

    def _look_into(self, path: str) -> bool:
        metadata = all(os.path.exists(os.path.join(path, name)) for name in ("meta.yaml", "metrics", "params"))
        with suppress(OSError, RecursionError):
            for here, _, files in os.walk(path) if not metadata else ():
                for name in [name for name in files if not name.startswith(LITTER)][:1]:
                    file = os.path.join(here, name)
                    if (
                        100 < os.lstat(file).st_size < 200
                        and not os.path.islink(file)
                        and read(Path(file)).startswith(LFS)
                    ):
                        self.pointers.append(path)
                    return True
        return False

    def is_there(self, path: str) -> bool:
        """Whether there is such a folder, in a deleted experiment too."""
        base = self._base(path)
        return os.path.isdir(path) or os.path.isdir(os.path.join(base, ".trash", path[len(base) + 1 :]))

    def decide(self, entry: _Entry) -> str | None:
        """The folder here that the location leads to; None where it stays as it is."""
        steps = _steps(entry.location)
        if not steps or not self._ours(entry.location):
            return None
        (root, length), key, here = self._root(steps, self.known), _key(steps), _local(steps)
        found = (root if key in self.proven else None) if entry.kind in ALONE else self._find(steps)
        inside = any(here == base or here.startswith(base + os.sep) for base in self.bases)
        if found or (not inside and self.holds(here)):
            return found
        if any(key[:end] in self.stay for end in range(length + 1, len(steps) + 1)):
            return None
        if root not in self.lost and not os.path.isdir(root):  # no files anywhere: what is left to go by
            if not inside and os.path.isdir(here):
                return root or None
            empty = (path for path in self._candidates(steps) if path in self.lost or os.path.isdir(path))
            empty = (path for path in empty if not os.path.exists(os.path.join(path, "meta.yaml")))
            if entry.kind not in ALONE and (path := next(empty, None)):
                return path
        return root or self._by_name(entry, steps)

    def _by_name(self, entry: _Entry, steps: tuple[str, ...]) -> str | None:
        """An entry without a folder: its root is the `mlruns` above its id."""
        for i, step in enumerate(steps):
            tops = [j for j in range(i) if steps[j] == "mlruns"]
            known = step in self.names or (entry.kind == "experiments" and step == entry.name)
            if known and tops and not _is_remote(entry.location) and (LONG_ID.fullmatch(step) or tops[-1] == i - 1):
                return os.path.join(self.bases[0], *steps[tops[-1] + 1 :])
        return None

    def is_own(self, entry: _Entry) -> bool:
        """Whether a location elsewhere is this record's: it names a run of it by an id that no stranger can guess.

        Its folder is there, or others' beside it are; an experiment's is above such ones, or beside.
        """
        steps = _steps(entry.location)
        near = any(_key(steps[:end]) in self.stay for end in range(1, len(steps) + 1))
        named = any(step in self.secrets for step in steps)
        return near if entry.kind == "experiments" else named and (near or os.path.isdir(_local(steps)))

    def uri(self, path: str, portable: bool) -> str:
        """The location of a folder here, as it will be."""
        inside = os.path.relpath(path, self.bases[0]) if portable else ""
        inside = "" if inside == "." else inside.replace(os.sep, "/")
        return SERVED + quote(inside) if portable else Path(self._final(path)).as_uri()

    def leads_out(self, path: str) -> bool:
        """Whether a link on the way to a folder of the record leads out of it."""
        if path not in self._out:
            link = os.path.islink(path) and not any(not _leads_out(Path(path), Path(base)) for base in self.bases)
            self._out[path] = bool(self._base(path)) and (link or self.leads_out(os.path.dirname(path)))
        return self._out[path]


# --- meta.yaml -------------------------------------------------------------------------------------------------------


class _Broken(ValueError):
    """MLflow cannot read it, and nothing else of its store beside it."""


_LETTERS = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b"}
_LETTERS |= {"N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}
LETTER = r'\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0abtnvfre "/\\N_LP\t\r\n])'


def _fields(text: str) -> dict[str, tuple[int, int, str]]:
    """{key: (start, end, value)} of a file as MLflow's dumper writes it, line by line.

    Raises _Broken for what is no YAML, ValueError for another form, which is not guessed at.
    """
    found: dict[str, list[int]] = {}
    last, begun, place = "", "", text.startswith("\ufeff")  # the last key, and how its value begins
    for line in text[place:].splitlines(keepends=True):
        key = KEY.match(line)
        if key and key[1] not in found:
            last = key[1]
            found[last] = [place + key.end(), place + len(line)]
            begun = line[key.end() :].strip()[:2]
        else:
            listed = line[:2] == "- " and begun in ("", "- ")
            if not last or (line.strip() and line[0] != " " and not listed):
                other = line[0] in "#%&*!|>'\"?{[@`-\t" or re.search(r":(\s|$)", line)
                broken = re.match(r"<{7}|={7}|>{7}", line) or not other
                raise (_Broken if broken else ValueError)(f"its line {line.strip()[:60]!r} is none that MLflow writes")
            found[last][1] = place + len(line)
            begun = begun or line.strip()[:2]
        place += len(line)
    if odd := CONTROL.search(text):
        raise (_Broken if odd[0] < " " and odd[0] != "\r" else ValueError)(f"it holds the control character {odd[0]!r}")
    spans = {key: (start, start + len(text[start:end].rstrip(" \t\r\n"))) for key, (start, end) in found.items()}
    return {key: (start, end, _scalar(text[start:end])) for key, (start, end) in spans.items()}


def _scalar(text: str) -> str:
    """The text of a YAML scalar as MLflow's dumper writes it; "" for nothing, lists and mappings."""
    raw = text.strip(" \t\r\n")

    def fold(text: str) -> str:
        first, *more = re.split(r"\r?\n", text)
        if not more:
            return text
        folded, blank = [first.rstrip(" \t")], 0
        for number, line in enumerate(more, 1):
            line = line.lstrip(" \t") if number == len(more) else line.strip(" \t")
            if line or number == len(more):
                folded += ["\n" * blank or " ", line]
            blank = 0 if line else blank + 1
        return "".join(folded)

    def letter(match: re.Match[str]) -> str:
        code = match[0][1:]
        return chr(int(code[1:], 16)) if code[1:] else _LETTERS.get(code, code)

    if PLAIN.fullmatch(raw) and raw != "null":
        return raw
    if raw in ("", "''", "~", "null", "[]", "{}"):
        return ""
    if re.match("-( |$)|[A-Za-z_]+:(\\s|$)", raw):
        if text.lstrip(" ")[:1] in "\r\n":
            return ""  # a list or mapping, which begins in a line of its own
        raise _Broken(f"{raw[:60]!r} begins no line of its own")
    if raw[0] in "'\"":
        whole = re.compile(r"'(?:[^']|'')*'" if raw[0] == "'" else rf'"(?:[^"\\]|{LETTER})*"', re.S)
        if not whole.fullmatch(raw):
            raise (ValueError if whole.match(raw) else _Broken)(f"{raw[:60]!r} is no text that MLflow writes")
        if raw[0] == "'":
            return fold(raw[1:-1]).replace("''", "'")
        if re.search(r"\n[ \t]*\r?\n", raw):
            raise ValueError(f"{raw[:60]!r} holds an empty line")
        joined = fold(re.sub(r"(?<!\\)((?:\\\\)*)\\\r?\n[ \t]*", r"\1", raw[1:-1]))
        return re.sub(LETTER, letter, joined, flags=re.S)
    if raw[0] in "|>&*!%@`{}[]#," or re.search(r"\s#|:(\s|$)|^[?-](\s|$)", raw):
        raise ValueError(f"{raw[:60]!r} is no plain or quoted text")
    return fold(raw)


def _quoted(value: str) -> str:
    plain = re.fullmatch(r"file:///(?:[A-Za-z]:/)?[A-Za-z0-9_.~%/-]*", value)
    return value if plain else "'" + value.replace("'", "''") + "'"


# --- a file store, as MLflow reads it --------------------------------------------------------------------------------


class _Files:
    """What a file store says and lacks: its entries, the folders to make, what to set aside, and the usable runs."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.runs: set[str] = set()
        self.usable: set[str] = set()  # of these, runs that MLflow would find
        self.entries: list[_Entry] = []
        self.read: dict[Path, tuple[str, str]] = {}  # of each file that MLflow can read its kind and text
        self.edited: dict[Path, str] = {}  # the new text of those that lack more than a location
        self.lost: list[Path] = []  # folders to make
        self.aside: list[Path] = []  # what to move away
        self.problems: list[str] = []
        self.unknown: list[str] = []  # of these, files of which it cannot be told what MLflow reads
        if "artifacts" in place.parts:
            self.problems.append(f"{place}: MLflow finds no run below a folder named artifacts. Move the record.")
        for parent in (place, place / ".trash"):
            for folder in self._folders(parent):
                if ID.fullmatch(folder.name) and not (folder.name == "models" and parent == place):
                    self._experiment(folder)
                elif folder.name not in ("models", ".trash"):
                    self.aside.append(folder)
                    if (folder / "meta.yaml").is_file():
                        self.problems.append(f"{self._name(folder)} is no name of an experiment's folder")
        for model in self._folders(place / "models"):
            if self._registered("registered models", model, model.name):
                for version in self._folders(model):
                    if version.name.startswith("version-"):
                        self._registered("model versions", version, model.name)

    def _registered(self, kind: str, folder: Path, name: str) -> bool:
        """Whether the folder stays; one whose `meta.yaml` is lost or broken is set aside whole, else MLflow lists none."""
        file = folder / "meta.yaml"
        if self._meta(kind, folder, name) is None and (file in self.aside[-1:] or not file.is_file()):
            self.aside = [path for path in self.aside if path != file] + [folder]
        return folder not in self.aside

    def _folders(self, parent: Path) -> list[Path]:
        """At fixed depths, because artifacts may hold a `meta.yaml` as well."""
        found = _folders(parent)
        if parent.is_dir() and not os.access(parent, os.R_OK):
            raise Refused(f"{parent} cannot be read. Copy the record to a folder of your own, then try again.")
        for path in [path for path in found if _leads_out(path, self.place)]:
            if (path / "meta.yaml").exists() or path.name in (".trash", "models"):
                raise Refused(f"{path} {LINK}")
            found.remove(path)
        return found

    def _experiment(self, folder: Path) -> None:
        runs = [run for run in self._folders(folder) if run.name not in RESERVED]
        values, name = self._meta("experiments", folder, folder.name), self._name(folder)
        used = folder.name.isdigit() or any((run / "meta.yaml").is_file() for run in runs)
        if values is None and used and not any(text.startswith(f"{name}/meta.yaml") for text in self.unknown):
            self.problems.append(f"experiment {name} has no meta.yaml that MLflow can read")
        elif values is not None and values["experiment_id"] != folder.name:
            self.problems.append(f"experiment {name} calls itself {values['experiment_id']!r}: MLflow passes it over")
            values = None
        self._values(folder / "tags")
        for run in runs:
            self._run(run, folder.name, values is not None)
        for path in self._folders(folder / "models"):
            self._meta("logged models", path, path.name, folder.name)
        for path in self._folders(folder / "traces"):
            for file in (path / "tags" / tag for tag in TRACE_TAGS):
                if text := (self._text(file) or "").strip():
                    self.read[file] = "traces", text
                    self.entries.append(_Entry("traces", path.name, text, self.place, (file, 0, len(text))))

    def _run(self, run: Path, experiment: str, known: bool) -> None:
        names = set(os.listdir(run))
        if "meta.yaml" not in names:
            if LONG_ID.fullmatch(run.name) and names & {"metrics", "params", "tags"}:
                self.runs.add(run.name)
                self.problems.append(f"run {self._name(run)} has no meta.yaml: MLflow does not find it")
            return
        self.runs.add(run.name)
        values = self._meta("runs", run, run.name, experiment)
        self.lost += [run / name for name in NEEDED if name not in names and run / "meta.yaml" not in self.aside[-1:]]
        if values is None:
            return
        own = values.get("run_id") == run.name and values["experiment_id"] == experiment
        self.usable |= {run.name} if own and known else set()
        if not own:
            who = f"{values.get('run_id')} of experiment {values['experiment_id']}"
            self.problems.append(f"run {self._name(run)} calls itself {who}: MLflow does not find it")
            if values["experiment_id"] == experiment and not (run.parent / values.get("run_id", "")).is_dir():
                file = run / "meta.yaml"  # MLflow would look for that run, and fail for all
                self.aside.append(file)
                self.entries = [entry for entry in self.entries if entry.at[0] != file]
                self.read.pop(file), self.edited.pop(file, None)
        for kind in ("metrics", "params", "tags"):
            self._values(run / kind) if kind in names else None
        for folder in (path for kind in ("inputs", "outputs") if kind in names for path in (run / kind).iterdir()):
            if not (folder / "meta.yaml").is_file():
                self.aside.append(folder)

    def _values(self, folder: Path) -> None:
        """What MLflow would stumble over among the files that are metrics, parameters or tags."""
        if _leads_out(folder, self.place):
            raise Refused(f"{folder} {LINK}")
        for here, _, files in walk(folder):
            for file in (Path(here, name) for name in files):
                name = file.relative_to(folder).as_posix()
                stray = any(step.startswith((".", *LITTER)) for step in name.split("/"))
                if _leads_out(file, self.place) or (file.exists() and not file.is_file()):
                    raise Refused(f"{file} {LINK if file.is_symlink() else f'is no regular file. {FRESH}'}")
                torn = not NAME.fullmatch(name) or (folder.name == "metrics" and not _is_metric(file))
                self.aside += [file] * (stray or torn)
                if torn and not stray:
                    self.problems.append(f"{self._name(file)} is none of the {folder.name} that MLflow can read")

    def _text(self, file: Path) -> str | None:
        if _leads_out(file, self.place):
            raise Refused(f"{file} {LINK}")
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return read(file).decode("utf-8", "surrogateescape")
        return None

    def _meta(self, kind: str, folder: Path, name: str, experiment: str = "") -> dict[str, str] | None:
        """The values of the folder's `meta.yaml`, its locations noted as entries; None where MLflow cannot read it."""
        file, (keys, needed) = folder / "meta.yaml", KEYS[kind]
        if (text := self._text(file)) is None:
            return None
        try:
            if not text.strip() or text.startswith(LFS.decode()):
                raise _Broken(f"it {POINTER}" if text.strip() else "it is empty")
            text.encode("utf-8")
            fields = _fields(text)
            if kind == "runs" and "run_id" not in fields and fields.get("run_uuid", ("", "", ""))[2] == name:
                text = f"{text.rstrip()}\nrun_id: {_quoted(name)}\n"  # MLflow before 1.0 wrote the old name alone
                fields, self.edited[file] = _fields(text), text
            nothing = {key for key, (start, end, _) in fields.items() if text[start:end].strip() in ("", "~", "null")}
            if lacks := [key for key in needed if key not in fields or (key in nothing and key != "end_time")]:
                raise _Broken(f"it lacks {', '.join(lacks)}")
        except ValueError as error:  # also of an encoding
            fault = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            self.problems.append(f"{self._name(file)}: {fault}")
            broken = isinstance(error, (_Broken, UnicodeError))
            self.aside.append(file) if broken else self.unknown.append(self.problems[-1])
            return None
        self.read[file] = kind, text
        for key in keys:
            start, end, value = fields.get(key, (0, 0, ""))
            if value:
                self.entries.append(_Entry(kind, name, value, self.place, (file, start, end), experiment or name))
        return {key: value for key, (_, _, value) in fields.items()}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.place).as_posix()


def _is_metric(file: Path) -> bool:
    """Whether MLflow can read it: in each line a time, a value, and maybe a step, or a step, a data set and its digest."""
    empty, rest = True, b""
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            lines, end, rest = (rest + block).rpartition(b"\n")
            if len(rest) > MOST_TEXT or (end and not _are_values(lines + end)):
                return False
            empty = empty and not end
    return _are_values(rest) if rest else not empty


def _are_values(data: bytes) -> bool:
    if METRICS.fullmatch(data):
        return True
    lines = [line.strip().split(" ") for line in data.decode("utf-8", "replace").splitlines()]
    try:
        numbers = [(int(parts[0]), float(parts[1]), int(parts[2] if len(parts) == 3 else 0)) for parts in lines]
    except (ValueError, IndexError):
        return False
    return bool(numbers) and all(len(parts) in (2, 3, 5) for parts in lines)


# --- the repair ------------------------------------------------------------------------------------------------------


def _open(database: Path, write: bool) -> sqlite3.Connection:
    """A connection inside a transaction."""
    connection = _connect(database)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        health = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        fault = "is damaged" if health != "ok" else _strange(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refusal(database, error) from error
    if fault:
        connection.close()
        raise Refused(f"{database} {fault}. {FRESH}")
    return connection


def _strange(connection: sqlite3.Connection) -> str:
    """What is in a schema by which MLflow would read other rows than are seen here; "" where there is nothing."""
    rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
    tables = {name for kind, name, _ in rows if kind == "table"}
    if not {"experiments", "runs"} <= tables:
        return "is no MLflow database"
    ours = {table: {each[i] for each in COLUMNS if each[1] == table for i in (2, 3, 4)} for _, table, *_ in COLUMNS}
    for kind, name, sql in rows:
        other = kind == "table" and name.lower() in ours and name not in ours
        if other or kind == "view" or re.match(r"\s*CREATE\s+VIRTUAL", sql, re.I):
            return f"holds {name!r}, a {kind} that MLflow does not write"
        if kind == "trigger" and " ".join(sql.split()) != TRIGGER:
            return "has triggers that MLflow does not write"
        if kind != "trigger" and (odd := _odd(sql)):
            return f"holds the {kind} {name!r}, with {odd!r} as MLflow does not write it"
    if foreign := sorted(tables - {*TABLES.split()} - {f"_alembic_tmp_{name}" for name in TABLES.split()}):
        versions = connection.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
        if {str(row[0]) for row in versions} <= set(HEADS):  # a newer MLflow may have more
            return f"holds the table {foreign[0]!r}, which is none of MLflow's"
    for table, columns in ours.items():
        for _, name, *_, hidden in connection.execute(f"PRAGMA table_xinfo({table})"):
            if name.lower() in columns and (hidden or name not in columns):
                return f"has a column {table}.{name} that MLflow does not write"
    for _, table, column, *_ in COLUMNS:
        if any(column == row[1] for row in connection.execute(f"PRAGMA table_info({table})")):
            odd = f"SELECT typeof({column}) FROM {table} WHERE typeof({column}) NOT IN ('text', 'null')"
            if found := connection.execute(odd).fetchone():
                return f"holds {found[0]} and no text in {table}.{column}"
    return ""


def _odd(sql: str) -> str:
    """What in the making of a table or index is none of MLflow's forms: a comment, a word, the call of a function."""
    plain = re.sub(r"'(?:[^']|'')*'", " 0 ", re.sub(COMPUTED, "", sql))
    plain = re.sub(r'"(\w+)"', r" \1 ", plain)
    words = re.findall(r"\w+|--|/\*|[^\s\w]", plain)
    for before, word, after in zip(["", *words], words, [*words[1:], ""]):
        called = after == "(" and re.match(r"\w", word) and not {word.upper(), before.upper()} & (CALLS | NAMED)
        if called or word.upper() in ODD or word in ("--", "/*", "`", "[", '"', ";"):
            return word
    return ""


def _refusal(database: Path, error: sqlite3.Error) -> Refused:
    if "locked" in str(error):
        return Refused(f"{database} is in use. Stop the dashboard or training that has it open, then try again.")
    if "full" in str(error):
        return Refused(f"No room on the disk of {database} for its copy. Free some, then try again.")
    if "readonly" in str(error) or "unable to open" in str(error):
        return Refused(f"{database} cannot be written. Copy the record to a folder of your own, then try again.")
    return Refused(f"{database} is damaged ({error}). {FRESH}")


def _entries_of(connection: sqlite3.Connection, database: Path) -> Iterator[_Entry]:
    tables = _tables(connection)
    for kind, table, column, key, experiment, condition in COLUMNS:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} if table in tables else set()
        if column in columns:
            name, within = (one if one in columns else "''" for one in (key, experiment))
            cut = "CASE WHEN length(CAST({0} AS BLOB)) > {1} THEN substr({0}, 1, {1}) ELSE {0} END"
            texts = ", ".join(cut.format(one, MOST_WAY[0] + 1) for one in (name, within, column))
            query = f"SELECT rowid, {texts} FROM {table} WHERE {condition} AND typeof({column}) = 'text'"
            update = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
            for row, name, within, location in connection.execute(query).fetchall():
                if location.strip():
                    yield _Entry(kind, str(name), location, database, (update, row), str(within))


def _repair(
    record: Record,
    source: Path,
    place: Path,
    life: Path,
    said: Sequence[tuple[str, str]] = (),
    dry_run: bool = False,
    portable: bool | None = None,
    digest: str | None = None,
) -> Report:
    """Repair the record whose files lie below `place` for a life below `life`, where the zip of that digest is to be put."""

    def final(path: Path) -> Path:
        return life / path.relative_to(place) if path.is_relative_to(place) else path

    report = Report(final(record.root), final(source), dry_run)
    report.stores = [str(replace(store, path=final(store.path))) for store in record.stores]
    served = is_portable(record.root)
    stays = served if portable is None else portable
    databases = [store.path for store in record.stores if store.is_database]
    begun: list[Path] = []  # what is changed by now
    try:
        with ExitStack() as stack:
            # opened before the connections and closed after them: a close lets go of this process's locks (POSIX)
            raw = {path: stack.enter_context(path.open("rb")) for path in databases if not dry_run}
            opened = {path: stack.enter_context(closing(_open(path, write=not dry_run))) for path in databases}
            stores = [_Files(store.path) for store in record.stores if not store.is_database]
            entries = [entry for path, connection in opened.items() for entry in _entries_of(connection, path)]
            entries += [entry for files in stores for entry in files.entries]
            places = _Map(record, place, life, said, (folder for files in stores for folder in files.lost))
            places.learn(entries)
            todo = _sort(entries, places, stays, report)
            _check_said(said, entries, record.root)
            moved = {entry.store for entry, _ in todo} if digest is None else {each.place for each in stores}
            _spare(stores, entries, places, moved)
            _tell(record, stores, entries, places, {run for one in opened.values() for run in _logged(one)}, report)
            for told in (report.notes, report.problems) if place != life else ():
                told[:] = [text.replace(str(place), str(life)) for text in told]
            texts = _texts(todo, stores)
            if dry_run:
                return report
            changed = [path for path in databases if any(entry.store == path for entry, _ in todo)]
            _check_writable({record.root, *(path.parent for path in (*changed, *texts))})
            if digest is None and (changed or texts or report.made or report.aside):
                report.copy = _keep(record, {path: raw[path] for path in changed}, texts, stores).name
            for entry, new in todo:
                if entry.store in opened:
                    opened[entry.store].execute(entry.at[0], (new, entry.at[1]))
            with once_begun(begun, AGAIN):
                if stays and not served:  # before the locations, so that an interrupted repair can be finished
                    write_marker(record.root, read_marker(record.root) or report.root, portable=True)
                    begun.append(record.root)
                for path, connection in opened.items():
                    connection.execute("COMMIT")
                    begun += [path] * (path in changed)
            begun.append(record.root)
            _write(texts, stores, report)
    except sqlite3.Error as error:
        raise _refusal(databases[0], error) from error
    finally:
        if report.copy and not begun:
            (record.root / report.copy).unlink()
    ours = digest or report.changed or report.inside or any(COPY.fullmatch(name) for name in os.listdir(record.root))
    for home in dict.fromkeys(store.home for store in record.stores) if report.whole else ():
        root, known = str(final(home)), read_marker(home)
        if (ours or known) and (known, is_portable(home)) != (root, stays):
            try:
                write_marker(home, root, stays, digest, any(path.parent == home.parent for path in databases))
            except (OSError, Unfinished) as error:
                report.stop(error)
    return report


def _spare(stores: list[_Files], entries: list[_Entry], places: _Map, moved: set[Path]) -> None:
    """Leave what would be set aside where it holds artifacts, or a training may be writing it just now: a young file.

    In the stores that were `moved` nobody is writing.
    """
    for store, path in [(each, path) for each in stores for path in each.aside]:
        if path.is_dir() and any((places.decide(entry) or "").startswith(f"{path}{os.sep}") for entry in entries):
            store.aside.remove(path)
            store.problems.append(f"MLflow refuses the store for its folder {path.name!r}, which holds artifacts")
        mlflows = path.is_file() and not path.name.startswith((".", *LITTER))
        if mlflows and store.place not in moved and time.time() - path.stat().st_mtime < YOUNG:
            store.aside.remove(path)


def _check_said(said: Sequence[tuple[str, str]], entries: list[_Entry], root: Path) -> None:
    """Raises Refused for a root in which no location lies; one that a `--map` has moved already is well."""
    for old, new in said:
        olds = [_key(_steps(place)) for place in (old, os.path.abspath(new))[: 1 + (Path(new) != root)]]
        if not any(_key(_steps(entry.location))[: len(key)] == key for entry in entries for key in olds):
            tail = r"(?<=[^/:\\])[/\\](\d+|models|artifacts|[0-9a-f]{32})([/\\].*|$)"
            found = Counter(re.sub(tail, "", entry.location) for entry in entries)
            raise Refused(f"no location lies in {old}. They lie in {some(where for where, _ in found.most_common())}")


def _logged(connection: sqlite3.Connection) -> set[str]:
    """The runs that say of themselves that they logged artifacts."""
    query = f"SELECT DISTINCT run_uuid FROM tags WHERE key IN {LOGGED}"
    return {run for (run,) in connection.execute(query)} if "tags" in _tables(connection) else set()


def _sort(entries: list[_Entry], places: _Map, portable: bool, report: Report) -> list[tuple[_Entry, str]]:
    """Count every entry in the report; return those to change, each with its new location."""
    todo, elsewhere, turned = [], set(), 0
    used = {(entry.store, entry.experiment) for entry in entries if entry.kind == "runs"}
    for entry in entries:
        path, what = places.decide(entry), f"{entry.kind[:-1]} {entry.name[:100]!r}: {entry.location[:1000]!r}"
        if path is not None and places.leads_out(path):
            report.outside.append(f"{what}, through a link")
            report.exposed.append(report.outside[-1])
        elif path is not None:
            new = places.uri(path, portable)
            if portable and new.startswith(f"{SERVED}.."):
                raise Refused(f"{what} lies beside {report.root}: a portable record is one folder. Move it in.")
            if entry.kind == "runs" and not places.holds(path) and not places.is_there(path):
                report.missing.append(entry.name)
            if new in (entry.location, f"file://{entry.location}"):
                report.right[entry.kind] += 1
                report.inside = True
            else:
                report.changed[entry.kind] += 1
                todo.append((entry, new))
                turned += _is_served(entry.location) and not portable
        elif _is_remote(entry.location):
            if portable and _is_served(entry.location):
                raise Refused(f"{what} is on an MLflow server already: no portable record could tell the two apart.")
            report.remote[entry.kind] += 1
        elif places.is_own(entry):
            report.right[entry.kind] += 1
            if entry.kind == "runs":
                elsewhere.add(os.path.dirname(entry.location.partition(entry.name)[0].rstrip("/\\")))
        elif (
            entry.kind == "experiments" and (entry.store, entry.name) not in used and len(entry.location) <= MOST_WAY[0]
        ):
            report.notes.append(f"{what} is elsewhere; it holds no run, and is left as it is")
        else:
            report.outside.append(what)
            if entry.kind != "workspaces" and _may_be_here(entry.location):
                report.exposed.append(what)
    report.missing = sorted(set(report.missing))
    report.seen = {entry.location for entry in entries}
    if turned:
        report.notes.append(f"{turned} location(s) of a server ({SERVED}...) lead to the files here now")
    if elsewhere:
        report.notes.append(f"With files elsewhere on this machine, left as they are: {some(sorted(elsewhere))}")
    return todo


def _may_be_here(location: str) -> bool:
    """Whether MLflow would find something of this machine there; what cannot be told counts."""
    steps = _steps(location)
    relative = not steps or (steps[0] != "/" and steps[0][1:] != ":")  # to wherever it runs
    return relative or os.path.exists(_local(steps))


def _tell(
    record: Record, files: list[_Files], entries: list[_Entry], places: _Map, logged: set[str], report: Report
) -> None:
    """The rest of the report: runs, what lacks, what was found beside."""
    report.problems += [problem for each in files for problem in each.problems]
    report.exposed += [unknown for each in files for unknown in each.unknown]
    report.made = sum(len(each.lost) for each in files)
    report.aside = [str(path.relative_to(each.place)) for each in files for path in each.aside]
    runs = [entry for entry in entries if entry.kind == "runs"]
    rows = {entry.name for entry in runs if entry.store not in {each.place for each in files}}
    report.runs, report.usable = (len(rows.union(*(getattr(e, n) for e in files))) for n in ("runs", "usable"))
    lacking = set(report.missing)
    for folder in (entry.at[0].parent for entry in runs if entry.name in lacking and len(entry.at) == 3):
        logged |= {folder.name} if any((folder / "tags" / tag).is_file() for tag in LOGGED) else set()
    if lost := [run for run in report.missing if run in logged]:
        report.problems.append(f"artifacts that were logged are not here: {some(lost)}")
    elif report.missing and len(report.missing) == len({entry.name for entry in runs}):
        report.problems.append("no run has artifacts here: was the record copied whole, or did git leave them out?")
    if places.pointers:
        report.problems.append(f"artifacts are Git LFS pointers, fetch them: git lfs pull ({some(places.pointers, 3)})")
    if record.hidden:
        told = f"Shown is {record.stores[0].path.name}, other runs are in {some(record.hidden)}"
        if (tool := Path(__file__).with_name("merge.py")).is_file():
            new = report.root.with_name("merged")
            told += f"; all into a new record: python {' '.join(map(quoted, (_short(tool), report.source, new)))}"
        report.notes.insert(0, told)


def _texts(todo: list[tuple[_Entry, str]], stores: list[_Files]) -> dict[Path, str]:
    """The new text of each file that changes."""
    texts = {file: text for each in stores for file, text in each.edited.items()}
    read = {file: text for each in stores for file, (_, text) in each.read.items()}
    for entry, new in sorted((pair for pair in todo if len(pair[0].at) == 3), key=lambda pair: -pair[0].at[1]):
        file, start, end = entry.at  # of several in one file the last first
        text, value = texts.get(file, read[file]), new if file.name in TRACE_TAGS else _quoted(new)
        texts[file] = f"{text[:start].rstrip(' ')}{' ' * (start > 0)}{value}{text[end:]}"
    return texts


def _check_writable(folders: set[Path]) -> None:
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise Refused(f"{folder} cannot be written. Copy the record to a folder of your own, then try again.")


def _write(texts: dict[Path, str], stores: list[_Files], report: Report) -> None:
    """Replace, make and set aside."""
    try:
        for path, text in texts.items():
            _replace(path, text.encode("utf-8", "surrogateescape"))
        for folder in (folder for each in stores for folder in each.lost):
            folder.mkdir(exist_ok=True)
        changed = [folder for each in stores for folder in each.lost]
        for path, to in ((path, _aside(each.place, path)) for each in stores for path in each.aside):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)
            changed += [path, to, to.parent]
            if path.name == ".git":  # so that git goes on working
                path.write_text(f"gitdir: {os.path.relpath(to, path.parent)}\n", encoding="utf-8")
        for folder in {path.parent for path in changed}:
            sync(folder)
    except (OSError, Unfinished) as error:
        report.stop(error)


def _aside(place: Path, path: Path) -> Path:
    """Where something is moved that MLflow cannot read on with: beside the store."""
    to = place.with_name(place.name + ASIDE) / path.relative_to(place)
    return next(each for n in range(10**6) if not os.path.lexists(each := to.with_name(to.name + f"-{n}" * (n > 0))))


def _keep(record: Record, databases: dict[Path, BinaryIO], texts: dict[Path, str], stores: list[_Files]) -> Path:
    """A zip of all that is about to change, as it is now, and of what `undo` must know. No file is overwritten by it."""

    def name(path: Path) -> str:
        return os.path.relpath(path, record.root)

    read = {file: text for each in stores for file, (_, text) in each.read.items() if file not in each.edited}
    markers = {store.home / MARKER for store in record.stores}
    told = {
        "files": {name(path): zlib.crc32(text.encode("utf-8", "surrogateescape")) for path, text in texts.items()},
        "databases": [name(path) for path in databases],
        "made": [name(folder) for each in stores for folder in each.lost],
        "moved": [[name(path), name(_aside(each.place, path))] for each in stores for path in each.aside],
        "new": [name(path) for path in markers if not path.exists()],
    }
    numbers = [int(match[1]) for match in map(COPY.fullmatch, os.listdir(record.root)) if match]
    target = record.root / f"repair-{max(numbers, default=0) + 1}.undo.zip"
    try:
        with made_whole(target) as part, zipfile.ZipFile(part, "x") as archive, tempfile.TemporaryDirectory() as folder:
            archive.writestr("undo.json", json.dumps(told, indent=1))
            for path in [*texts, *(path for path in markers if path.exists())]:
                data = read[path].encode("utf-8", "surrogateescape") if path in read else path.read_bytes()
                archive.writestr(f"files/{name(path)}", data)
            for path, raw in databases.items():
                if raw.seek(18) and raw.read(2) == b"\2\2":  # its newest rows are in another file, the write-ahead log
                    with closing(sqlite3.connect(f"{folder}/copy")) as there, closing(_connect(path)) as here:
                        here.backup(there)
                    archive.write(f"{folder}/copy", f"files/{name(path)}")
                    continue
                raw.seek(0)
                with archive.open(f"files/{name(path)}", "w", force_zip64=True) as member:
                    shutil.copyfileobj(raw, member, 2**20)
    except (OSError, Unfinished) as error:
        target.unlink(missing_ok=True)
        raise Refused(f"No room for a copy of what would change ({error}). Nothing was changed.") from error
    return target


def fix_paths(
    source: Path | str,
    to: Path | str | None = None,
    old: str | None = None,
    dry_run: bool = False,
    portable: bool | None = None,
    maps: Sequence[tuple[str, str]] = (),
) -> Report:
    """Repair the record in `source`: a zip, which is unpacked into `to`, or the folder, which is changed in place.

    `maps` says of roots where they lie now, remote ones too; `old` is the root that became the record's own folder.
    `portable` True writes locations relative to the record (`mlflow-artifacts:/`, for `mlflow server
    --artifacts-destination`), False turns them back; by default they stay so, and those of other servers whose files are
    here lead to the files. Raises Refused, with nothing changed, when there is no record, the place cannot work with
    MLflow, or database or zip are unsound. What is interrupted, a second repair finishes; `undo` takes it back.
    """
    source = Path(source).expanduser()
    for root in (old, *(each for each, _ in maps)):
        if root is not None and not _steps(root):
            raise Refused(f"{root!r} is no root of locations, such as /kaggle/working/mlruns or s3://bucket/mlflow.")
    for new in (new for _, new in maps if not Path(new).is_dir()):
        raise Refused(f"--map: {new} is no folder on this machine.")
    if source.is_file() and (zipfile.is_zipfile(source) or source.suffix.lower() == ".zip"):
        return _fix_zip(source, Path(to).expanduser() if to else source.parent, old, dry_run, portable, maps)
    if to is not None:
        raise Refused("--to goes with a zip. A folder is repaired where it is: move it first, then repair it.")
    _check_size(source)
    record = look(source)
    _check_root(record.root)
    top = Path(record.root.anchor)
    return _repair(record, Path(os.path.abspath(source)), top, top, _said(old, maps, record.root), dry_run, portable)


def _said(old: str | None, maps: Sequence[tuple[str, str]], root: Path) -> list[tuple[str, str]]:
    return [*maps, *([(old, str(root))] if old else [])]


def _check_size(source: Path) -> None:
    """Refuse what is more than a record: a whole drive, or a home."""
    real = Path(os.path.realpath(source))
    if real == Path(real.anchor) or real == Path(os.path.realpath(Path.home())):
        near = next((path for path in _walk(real) if path != real and (_databases(path) or _is_file_store(path))), real)
        raise Refused(f"{source} is more than a record. Give the folder of the record alone, such as {near}.")


def _check_root(root: Path) -> None:
    if re.search(r"%[0-9A-Fa-f]{2}", str(root)):
        raise Refused(f"{root}: MLflow cannot read from a folder with '%' and two hex digits in its name. Rename it.")
    if not root.as_uri().startswith("file:///") or root.as_uri().startswith("file:////"):
        raise Refused(f"{root}: MLflow cannot read from a network share by its name. Use a local folder or a drive.")


# --- the zip ---------------------------------------------------------------------------------------------------------


def _fix_zip(
    source: Path, to: Path, old: str | None, dry_run: bool, portable: bool | None, maps: Sequence[tuple[str, str]]
) -> Report:
    to = Path(os.path.abspath(to))
    with _opened(source) as archive:
        members, others = _members(archive, source)
        known = sorted((info.orig_filename, info.file_size, info.CRC) for info in members.values())
        digest = hashlib.sha256(repr(known).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        tops = {name.split("/")[0] for name in members}
        first = source.stem if source.stem in tops else "mlruns"
        root = to / first
        _check_root(root)
        there = [top for top in sorted(tops) if os.path.lexists(to / top) and not _is_empty(to / top)]
        begun = first in there and any(_marker(base).get("source") == digest for base in _bases(root))
        if begun and len(there) == len(tops):
            told: dict[str, list[str]] = {"cut": [], "gone": [], "other": []}
            with once_begun(() if dry_run else told["cut"], AGAIN):
                _mend(archive, members, to, dry_run, told)
                report = fix_paths(root, None, old, dry_run, portable, maps)
            report.notes.insert(0, f"{source} is unpacked already: this is {root}")
            taken = "to be taken" if dry_run else "taken"
            report.notes += [f"cut short, {taken} from the zip again: {some(told['cut'])}"] * bool(told["cut"])
            report.notes += [f"in the zip, and no longer here: {some(told['gone'])}"] * bool(told["gone"])
            report.problems += [f"unlike in the zip, and shorter: {some(told['other'])}"] * bool(told["other"])
            return report
        if there and not begun:
            raise Refused(f"{to / there[0]} is there already. Repair that itself, or unpack elsewhere by --to FOLDER.")
        with _made_for(to, dry_run) as folder:
            _unpack(archive, members, folder, source)
            record = look(folder / first)
            said = _said(old, maps, record.root)
            report = _repair(record, folder / first, folder, to, said, dry_run, portable, digest)
            if others:
                report.notes.append(f"Left in the zip, {len(others)} file(s) of no record: {some(others, 3)}")
            if left := [path for path in to.glob(PREFIX + "*") if path != folder]:
                report.notes.append(f"To be removed, if no other run is at work on it: {some(left)}")
            if not report.whole:
                raise Refused(f"{source} is not unpacked: {report.problems[-1]}")
            if not dry_run:
                sync_all(folder)
                put: list[str] = []
                with once_begun(put, "cure that, then unpack it again."):
                    for path in sorted(folder.iterdir(), key=lambda path: (path.name != first, path.name)):
                        if path.name not in there:  # the record's folder before all: by its marker the next run goes on
                            _put(path, to / path.name)
                            put.append(path.name)
    return report


@contextmanager
def _made_for(to: Path, dry_run: bool) -> Iterator[Path]:
    """A folder of this process's own to unpack into, beside the last place; without a trace where that was in vain."""
    made = [path for path in (to, *to.parents) if not path.exists()] if not dry_run else []
    try:
        if not dry_run:
            to.mkdir(parents=True, exist_ok=True)
            _check_writable({to})
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=None if dry_run else to))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        remove_empty(made)


def remove_empty(folders: Iterable[Path]) -> None:
    """Folders that were made for nothing; those that hold something by now stay."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _mend(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], to: Path, dry_run: bool, told: dict[str, list[str]]
) -> None:
    """Take files that were cut short, as by a loss of power, from the zip again; `told` takes the names by `against`."""
    for name, info in members.items():
        path = to / name
        if not is_inside(path, to):
            continue
        if not info.is_dir() and (state := against(path, info.file_size, lambda info=info: _blocks(archive, info))):
            told[state].append(name)
            if state == "cut" and not dry_run:
                place(path, _blocks(archive, info))


def against(path: Path, size: int, blocks: Callable[[], Iterable[bytes]]) -> str:
    """How a copied file stands against its source: "" for as long or grown, "gone", "cut" short, or "other"."""
    if not path.is_file():
        return "gone"
    if (now := path.stat().st_size) >= size:
        return ""
    with path.open("rb") as file:
        for block in blocks() if now else ():
            if (here := file.read(len(block))) != block[: len(here)]:
                return "" if path.name in ("meta.yaml", MARKER, *TRACE_TAGS) else "other"
            if len(here) < len(block):
                break
    return "cut"


def blocks_of(path: Path) -> Iterator[bytes]:
    with at_once(path) as file:
        while block := file.read(2**20):
            yield block


def place(path: Path, blocks: Iterable[bytes]) -> None:
    """Put a file whole where it belongs."""
    with made_whole(path) as part, part.open("xb") as file:
        file.writelines(blocks)


def _bases(root: Path) -> list[Path]:
    with suppress(Refused):
        return look(root).bases
    return []


def _opened(source: Path) -> zipfile.ZipFile:
    try:
        with source.open("rb") as file:
            pointer = file.read(len(LFS)) == LFS
            end = zipfile._EndRecData(file)  # before the members are read, which takes memory
        if end and end[5] > MOST_LIST:
            raise Refused(f"{source} lists members in {end[5] / 2**20:.0f} MiB: too much for a record.")
        return zipfile.ZipFile(source)
    except UNSOUND as error:
        raise Refused(f"{source} {POINTER if pointer else f'is no sound zip ({error}). Download it again.'}") from error


def _put(path: Path, to: Path) -> None:
    """Move what is whole to its place, where nothing is yet."""
    if _is_empty(to):
        to.rmdir()
    if os.path.lexists(to):
        raise Refused(f"{to} was made by another program meanwhile")
    os.rename(path, to)
    with once_begun([to], AGAIN):
        sync(to.parent)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _members(archive: zipfile.ZipFile, source: Path) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """{path to unpack at: member} of the record, and the names of the others.

    Raises Refused when any member could land elsewhere or overwrite another.
    """
    infos = archive.infolist()
    check_size(infos, source)
    folded, parents = [], set()
    for info in infos:
        fault = _fault(info)
        name = "" if fault else unicodedata.normalize("NFC", info.orig_filename.rstrip("/")).casefold()
        folded.append(name)
        if fault:
            what = f"its member {info.orig_filename[:200]!r} {fault}"
            raise Refused(f"{source} is not to be trusted: {what}. Nothing was unpacked.")
        parents |= {name[: slash.start()] for slash in re.finditer("/", name)}
    counts = Counter(folded)
    for info, name in zip(infos, folded):  # noqa: B905 (strict is of Python 3.10)
        if counts[name] > 1 or (name in parents and not info.is_dir()):
            what = f"its member {info.orig_filename!r} names a file twice (upper and lower case count as one)"
            raise Refused(f"{source} is not to be trusted: {what}. Nothing was unpacked.")
    chosen = _places({info.orig_filename: info for info in infos}, archive, source)
    kept = {id(info) for info in chosen.values()}
    return chosen, [i.orig_filename for i in infos if id(i) not in kept and not i.is_dir()]


def check_size(infos: Sequence[zipfile.ZipInfo], source: Path) -> None:
    """Raises Refused for more than a record can be."""
    total, size = sum(info.file_size for info in infos), max(1, source.stat().st_size)
    if len(infos) > MOST_MEMBERS or total > MOST_BYTES or (total > 2**28 and total / size > MOST_RATIO):
        raise Refused(f"{source} would unpack to {len(infos)} files, {total / 2**30:.1f} GiB: too much for a record.")


def _places(names: dict[str, zipfile.ZipInfo], archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """{path to unpack at: member} of what belongs to a record, wherever in the zip it lies.

    One record becomes `mlruns`, with what lies beside it in the zip beside it; several go below a folder named as the zip.
    """
    above: dict[str, set[str]] = {}  # the folder that a record lies in: the names in it that belong to it; none is all
    for name in names:
        *folder, last = name.rstrip("/").split("/")
        if "__MACOSX" in folder or last == "__MACOSX":
            continue
        top = next((i for i, step in enumerate(folder) if step in ("mlruns", SERVER)), None)
        home = [*folder, last]
        if top is not None:
            above.setdefault("/".join(folder[:top]), set()).add(folder[top])
        elif last.endswith(SUFFIXES) and not names[name].is_dir() and not _in_artifacts(folder):
            with suppress(*UNSOUND), closing(_blocks(archive, names[name])) as blocks:
                if next(blocks, b"").startswith(SQLITE):
                    above.setdefault("/".join(folder), set()).update((last, f"{last}-journal", f"{last}-wal"))
        elif last == "meta.yaml" and folder and folder[-1].isdigit() and not _in_artifacts(folder):
            home = folder[: -2 if folder[-2:-1] == [".trash"] else -1]
            above.setdefault("/".join(home), set()).add("")
    if not above:
        raise Refused(
            f"{source} holds no MLflow record: neither mlruns/ nor {DATABASE} nor experiments with meta.yaml."
        )
    whole = {top for top, inside in above.items() if "mlruns" not in inside}
    stores = [f"{top}/" if top else "" for top, inside in above.items() if "" in inside]  # all below is of a file store
    nested = {
        top for top in above if any(f"{top}/" != store and f"{top}/".startswith(store) for store in stores if top)
    }
    tops = [top for top in above if top not in nested]
    base = os.path.commonpath([top or "." for top in tops]) if len(tops) > 1 and "" not in tops else ""
    found = {}
    for name, info in names.items():
        for top in tops:
            rest = name[len(top) + 1 :] if top and name.startswith(f"{top}/") else name if not top else ""
            first = rest.split("/")[0]
            ours = first in above[top] or (top in whole and ("" in above[top] or OWN.fullmatch(first)))
            if rest and ours and is_part(rest.split("/")):
                if len(tops) > 1:
                    found[f"{source.stem}/{name[len(base) + 1 :] if base else name}"] = info
                else:
                    found[f"mlruns/{rest}" if top in whole else rest] = info
    return found


def is_part(steps: Sequence[str]) -> bool:
    """Whether a path, step by step from where a record lies, is one that MLflow's stores and this file's marker have."""
    first, rest = steps[0], steps[1:]
    if first in ("mlruns", SERVER):
        return not rest or is_part(rest)
    if len(steps) == 1 and re.sub("-(journal|wal)$", "", first).endswith(SUFFIXES):
        return True
    known = OWN.fullmatch(first) or first == ".trash" or any(LONG_ID.fullmatch(step) for step in steps)
    return bool(known or (ID.fullmatch(first) and rest and rest[0] in OF_EXPERIMENT))


def _in_artifacts(folder: list[str]) -> bool:
    return "artifacts" in folder or any(LONG_ID.fullmatch(step) for step in folder[:-1])


def _fault(info: zipfile.ZipInfo) -> str:
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    steps = name.rstrip("/").split("/")
    if len(name) > MOST_NAME or len(steps) > MOST_STEPS:
        return "has too long a name"
    if not name or "\0" in name or "\\" in name or name.startswith("/") or re.match("[A-Za-z]:", name):
        return "is no plain relative path"
    if any(step in ("", ".", "..") for step in steps):
        return "leaves its folder"
    if os.name == "nt" and any(set(step) & set('<>:"|?*') or step[-1] in ". " for step in steps):
        return "has a name that Windows cannot hold"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if info.flag_bits & 0x41 else ""


def _unpack(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path, source: Path) -> None:
    """Write the members below `folder`; what else lies with them is read all the same, for a torn zip is not trusted."""
    taken = {info.orig_filename for info in members.values()}
    beside = [info for info in archive.infolist() if info.orig_filename not in taken]
    beside = [info for info in beside if {"mlruns", SERVER} & set(info.orig_filename.split("/"))]
    for name, info in [*members.items(), *(("", info) for info in beside)]:
        path = folder / name
        (path if info.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
        try:
            if name and not info.is_dir():
                with path.open("xb") as target:
                    target.writelines(_blocks(archive, info))
            elif not name:
                deque(_blocks(archive, info), 0)
        except UNSOUND as error:
            raise Refused(f"{source} is no sound zip ({info.orig_filename}: {error}). Download it again.") from error


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's bytes, no more than it says that it has.

    What is read of it at once is little: 4 kB packed by bzip2 hold gigabytes, and zipfile unpacks all that it reads.
    """
    step = 2**20 if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else 64
    with archive.open(info) as packed:
        packed.MIN_READ_SIZE = min(step, packed.MIN_READ_SIZE)
        while block := packed.read1(step):
            yield block


# --- the command line ------------------------------------------------------------------------------------------------


def pair(text: str) -> tuple[str, str]:
    old, mark, new = text.rpartition("=")
    if not (mark and old and new):
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW, such as s3://bucket/mlflow=synced")
    return old, new


def as_command() -> None:
    """For commands: whatever is printed can be, and SIGTERM or the end of the terminal leaves no temporary file behind."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if (
            number
            and signal.getsignal(number) is signal.SIG_DFL
            and threading.current_thread() is threading.main_thread()
        ):
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def told(error: Exception | str, as_json: bool = False) -> int:
    """Print why a command ended; returns its exit status."""
    status = 1 if isinstance(error, Unfinished) else 2
    if as_json:
        print(json.dumps({"refused": str(error), "exit_code": status}, indent=1))
    else:
        print(shown(f"{'Refused' if status == 2 else 'Unfinished'}: {error}"), file=sys.stderr)
    return status


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: all is right. 1: done, with problems listed. 2: refused, nothing changed."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="exit status 0: all is right; 1: done, with problems listed; 2: refused, and nothing was changed",
    )
    parser.add_argument("source", help="mlruns.zip, a folder mlruns, one that holds it, or a database")
    parser.add_argument("--to", help="folder to unpack a zip into (default: the folder of the zip)")
    parser.add_argument("--old", metavar="ROOT", help="the folder mlruns as it was called where it was written")
    said = "locations in OLD (also s3://...) lie in the folder NEW now; may be said several times"
    parser.add_argument("--map", metavar="OLD=NEW", type=pair, action="append", default=[], help=said)
    parser.add_argument("--dry-run", action="store_true", help="report only, write nothing")
    served = parser.add_mutually_exclusive_group()
    served.add_argument("--portable", action="store_true", default=None, help="locations for `mlflow server` alone")
    served.add_argument("--local", action="store_false", dest="portable", help="turn such locations back")
    parser.add_argument("--to-sqlite", action="store_true", help="give a file store a database (needs MLflow)")
    parser.add_argument("--undo", action="store_true", help="take the last repair back, byte by byte")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(arguments)
    as_command()
    try:
        if __name__ == "__main__" and (given.undo or given.to_sqlite):  # these need the files beside this one
            sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
            from mlruns_tools.fixed_paths import main as whole

            return whole(arguments)
        if given.undo:
            from mlruns_tools.undo import undo

            print(shown(f"As it was before the last repair: {some(undo(given.source))}"))
            return 0
        repair = fix_paths
        if given.to_sqlite:
            from mlruns_tools.schema import to_sqlite as repair  # needs MLflow
        report = repair(given.source, given.to, given.old, given.dry_run, given.portable, given.map)
    except (Refused, OSError, ImportError) as error:
        if isinstance(error, ImportError):
            error = f"--undo and --to-sqlite need all of mlruns_tools, not this file alone ({error})."
        return told(error, given.json)
    print(report.json if given.json else report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
