"""MLflow records as people have them: choices in, a tree out, and the truth about each of its runs."""

import hashlib
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import yaml
from hypothesis import strategies as st
from mlflow.store.tracking.file_store import _read_persisted_experiment_dict, _read_persisted_run_info_dict

from mlruns_tools.fixed_paths import DATABASE
from tests.hostile import experiment_meta, run_meta

STORES = ("mlruns", "a/b/mlruns", f"mlruns/{DATABASE}", DATABASE, "mlruns.db", "backend.db", "mlflow.sqlite")
HERE, ORIGINAL = "here", "original"  # roots: it never moved; where it was copied from, which is still there
ROOTS = (
    *(
        "/kaggle/working/mlruns",
        "file:///kaggle/working/mlruns",
        "file:///home/a%20b/mlruns",
        "file:///home/a b/mlruns",
    ),
    *("C:\\Users\\x\\mlruns", "file:///C:/Users/x/mlruns", "file:C:/Users/x/mlruns", "mlruns", "./mlruns", "../mlruns"),
    *("file:///home/jos%C3%A9/%E6%97%A5%E6%9C%AC/mlruns", "/home/josé/日本/mlruns", HERE, ORIGINAL),
)
PLACES = ("own", "flat", "server", "server host", "server inside", "other", "elsewhere", "lost", "s3")
SPELLINGS = (
    "",
    "none",
    "empty",
    "cut",
    "conflict",
    "BOM",
    "CRLF",
    "UTF-16",
    "twice",
    "comment",
    "pointer",
)  # of a meta
QUIRKS = (*SPELLINGS, "uuid alone", "another's id", "a copy", "empty metric", "torn metric", "Finder", "user's meta")
JUNK = (".ipynb_checkpoints", ".git", ".idea", "New folder", "lost+found", "plots")
NUMBERS = ("1", "0", "123456789012345678")
LOST = ("metrics", "params", "tags", "artifacts")
ZIPS = ("", "mlruns/", "kaggle/working/mlruns/", "content/mlruns/", "repo-main/")


@dataclass(frozen=True)
class Run:
    """One run: where its artifacts lie, how its location begins, and what is odd about it."""

    place: str = "own"
    root: str = ROOTS[0]
    quirk: str = ""
    lost: frozenset[str] = frozenset()  # empty folders that are not there
    cut: int = 0  # byte at which the meta.yaml ends, if that is its quirk
    files: bool = True
    deleted: bool = False


@dataclass(frozen=True)
class Store:
    """One store with one experiment, and what lies beside its experiments."""

    path: str
    runs: tuple[Run, ...]
    number: str = NUMBERS[0]
    quirk: str = ""
    cut: int = 0
    trash: bool = False
    junk: tuple[str, ...] = ()
    default: bool = False  # whether there is an unused Default experiment that leads elsewhere


@dataclass(frozen=True)
class Wild:
    """A tree."""

    stores: tuple[Store, ...]
    empty: str = ""  # where an empty database lies that someone's `mlflow ui` made
    blank: bool = False  # whether that has MLflow's tables


class Truth(NamedTuple):
    store: Path
    files: tuple[str, ...] | None  # what MLflow lists after the repair; None where nothing can be told
    found: bool  # by MLflow, once what is lost is made again


runs = st.builds(
    Run,
    place=st.sampled_from(PLACES),
    root=st.sampled_from(ROOTS),
    quirk=st.just("") | st.sampled_from(QUIRKS),
    lost=st.frozensets(st.sampled_from(LOST)),
    cut=st.integers(0, 420),
    files=st.booleans() | st.just(True),
    deleted=st.booleans(),
)
stores = st.builds(
    Store,
    path=st.sampled_from(STORES),
    runs=st.lists(runs, min_size=1, max_size=3).map(tuple),
    number=st.sampled_from(NUMBERS),
    quirk=st.just("") | st.just("") | st.sampled_from(SPELLINGS),
    cut=st.integers(0, 140),
    trash=st.sampled_from([False, False, True]),
    junk=st.lists(st.sampled_from(JUNK), max_size=2, unique=True).map(tuple),
    default=st.booleans(),
)
wilds = st.builds(
    Wild,
    stores=st.lists(stores, min_size=1, max_size=3, unique_by=lambda store: store.path).map(tuple),
    empty=st.sampled_from(["", "", DATABASE, f"mlruns/{DATABASE}"]),
    blank=st.booleans(),
)


def make(wild: Wild, project: Path, blank: Path) -> dict[str, Truth]:
    """Write the tree to `project` and what lies elsewhere beside it; {run: truth}. `blank` is MLflow's empty database."""
    truth: dict[str, Truth] = {}
    (project / "mlruns").mkdir(parents=True)
    for i, store in enumerate(wild.stores):
        path = project / store.path
        if store.trash and not path.suffix:  # its number is no folder beside .trash
            store = replace(store, number="222222222222222222")
        home = path if path.suffix == "" else path.parent if path.parent.name == "mlruns" else project / "mlruns"
        home.mkdir(parents=True, exist_ok=True)
        ids = [hashlib.md5(f"{i} {j}".encode()).hexdigest() for j in range(len(store.runs))]
        places = [_place(run, name, store, home, project) for run, name in zip(store.runs, ids, strict=True)]
        write = _database if path.suffix else _files
        found = write(store, path, ids, [uri for uri, _ in places], project, blank)
        for run, name, (_, folder) in zip(store.runs, ids, places, strict=True):
            names = _fill(folder, name, run) if folder and run.files else ()
            moved = not path.suffix and store.trash and run.place in ("own", "server inside")  # by MLflow, to .trash
            hidden = run.place == "s3" or moved
            truth[name] = Truth(path, None if hidden else names, found[name])
            if run.root == ORIGINAL and folder and run.place in ("own", "flat") and names:
                (copy := _elsewhere(project) / "project" / folder.relative_to(project)).parent.mkdir(parents=True)
                shutil.copytree(folder, copy)
                (copy / "not in the copy.txt").write_text("x")
    if wild.empty and not (project / wild.empty).exists():
        (project / wild.empty).write_bytes(blank.read_bytes() if wild.blank else b"")
    for path in project.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # nobody is writing it
    return truth


def _elsewhere(project: Path) -> Path:
    return project.parent.parent / "elsewhere"


def _place(run: Run, name: str, store: Store, home: Path, project: Path) -> tuple[str, Path | None]:
    """The location of a run as it was written, and the folder that its artifacts lie in."""
    tail = ["artifacts", name, "artifacts"] if run.place == "flat" else [store.number, name, "artifacts"]
    inside = home
    if run.place == "s3":
        return f"s3://bucket/{'/'.join(tail)}", None
    trashed = store.trash and not Path(store.path).suffix  # MLflow moved them there, and left the location
    if run.place in ("own", "server inside") and trashed:
        inside = home / ".trash"
    if run.place.startswith("server"):
        host = "//host:5000" * (run.place == "server host")
        server = inside if run.place == "server inside" else home.parent / "mlartifacts"
        return f"mlflow-artifacts:{host}/{'/'.join(tail)}", server.joinpath(*tail)
    if run.place == "elsewhere":
        return (folder := (_elsewhere(project) / "kept").joinpath(*tail)).as_uri(), folder
    if run.place == "other":
        inside = project / "other" / "mlruns"
    root = root_of(run.root, home if inside.name == ".trash" else inside, project)
    uri = "/".join([root, *tail])
    uri = uri.replace("/", "\\") if run.root.startswith("C:\\") else uri
    return uri, None if run.place == "lost" else inside.joinpath(*tail)


def root_of(root: str, inside: Path, project: Path) -> str:
    """A folder mlruns as it was called where it was written."""
    if root == HERE:
        return inside.as_uri()
    if root == ORIGINAL:
        return (_elsewhere(project) / "project" / inside.relative_to(project)).as_uri()
    return root.removesuffix("mlruns") + inside.relative_to(project).as_posix()


def _fill(folder: Path, name: str, run: Run) -> tuple[str, ...]:
    files = [f"{name[:8]}.txt", "model/weights 1.pth"] + ["meta.yaml", "model/meta.yaml"] * (run.quirk == "user's meta")
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("artifact_uri: /kaggle/working/mlruns\n")
    return tuple(sorted(files))


def _scalar(value: str) -> str:
    return yaml.dump({"k": value}, allow_unicode=True, Dumper=yaml.CSafeDumper)[3:].rstrip("\n")


def spelled(text: str, how: str, cut: int) -> bytes | None:
    """A meta.yaml as it became; None where it is lost."""
    data = text.encode()
    lines = data.splitlines(keepends=True)
    torn = [b"<<<<<<< HEAD\n", lines[0], b"=======\n", lines[0], b">>>>>>> theirs\n"]
    return {
        "none": None,
        "empty": b"",
        "cut": data[:cut],
        "conflict": b"".join([*torn, *lines[1:]]),
        "BOM": b"\xef\xbb\xbf" + data,
        "CRLF": data.replace(b"\n", b"\r\n"),
        "UTF-16": text.encode("utf-16"),
        "twice": data + lines[0],
        "comment": b"# moved by hand\n" + data,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    }.get(how, data)


def _reads(data: bytes | None, run: str | None, number: str) -> bool:
    """Whether MLflow takes a meta.yaml for that of this run, or of this experiment."""
    try:
        values = yaml.load(data.decode(), yaml.CSafeLoader)
        info = _read_persisted_run_info_dict(values) if run else _read_persisted_experiment_dict(values)
        return info.experiment_id == number and (run is None or info.run_id == run)
    except Exception:
        return False


def _files(store: Store, top: Path, ids: list[str], uris: list[str], project: Path, blank: Path) -> dict[str, bool]:
    """A file store; {run: whether MLflow can find it}."""
    experiment = (top / ".trash" if store.trash else top) / store.number
    experiment.mkdir(parents=True, exist_ok=True)
    root = root_of(store.runs[0].root, top, project)
    text = experiment_meta(_scalar(f"{root}/{store.number}"), store.number)
    known = spelled(text.replace("active", "deleted") if store.trash else text, store.quirk, store.cut)
    if known is not None:
        (experiment / "meta.yaml").write_bytes(known)
    if store.default and store.number != "0":
        (top / "0").mkdir(exist_ok=True)
        (top / "0" / "meta.yaml").write_text(experiment_meta("/mlartifacts/0", "0").replace("captchas 0", "Default"))
    for name in store.junk:
        for folder in (top / name, experiment / name):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "HEAD").write_text("x")
    found = {}
    for run, name, uri in zip(store.runs, ids, uris, strict=True):
        folder = experiment / name
        folder.mkdir()
        for lost in set(LOST) - run.lost:
            (folder / lost).mkdir()
        for kind, value in {"metrics": "1700000000000 0.5 1\n", "params": "conv", "tags": name}.items():
            if kind not in run.lost:
                (folder / kind / "key").write_text(value)
        text = run_meta(_scalar(uri), "f" * 32 if run.quirk == "another's id" else name, store.number)
        if run.deleted:
            text = text.replace("lifecycle_stage: active", "deleted_time: 1700000002000\nlifecycle_stage: deleted")
        if run.quirk == "uuid alone":
            text = text.replace(f"run_id: {name}\n", "")
        data = spelled(text, run.quirk, run.cut)
        if data is not None:
            (folder / "meta.yaml").write_bytes(data)
        for kind, content in _torn(run.quirk).items():
            (folder / kind).parent.mkdir(exist_ok=True)
            (folder / kind).write_bytes(content)
        if run.quirk == "a copy":
            shutil.copytree(folder, experiment / f"{name} copy")
        found[name] = _reads(known, None, store.number) and (
            run.quirk == "uuid alone" or _reads(data, name, store.number)
        )
    return found


def _torn(quirk: str) -> dict[str, bytes]:
    """Files in a run's folders that MLflow cannot read."""
    conflict = b"<<<<<<< HEAD\n1 0.5 1\n=======\n1 0.6 1\n>>>>>>> theirs\n"
    finder = dict.fromkeys([f"{kind}/.DS_Store" for kind in LOST[:3]], b"\0\0\0\1Bud1\0\xff")
    return {"empty metric": {"metrics/loss": b""}, "torn metric": {"metrics/loss": conflict}, "Finder": finder}.get(
        quirk, {}
    )


def _database(store: Store, path: Path, ids: list[str], uris: list[str], project: Path, blank: Path) -> dict[str, bool]:
    """A database; {run: True}, since MLflow finds all of its rows."""
    shutil.copy(blank, path)
    home = path.parent if path.parent.name == "mlruns" else project / "mlruns"
    experiment = f"{root_of(store.runs[0].root, home, project)}/{store.number}"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM experiments")
        rows = [(store.number, store.number, experiment)]
        rows += [("0", "Default", "/mlartifacts/0")] * (store.default and store.number != "0")
        sql = "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (?, ?, ?, ?)"
        connection.executemany(sql, [(*row, "deleted" if store.trash and row == rows[0] else "active") for row in rows])
        for run, name, uri in zip(store.runs, ids, uris, strict=True):
            stage = "deleted" if run.deleted else "active"
            values = (name, "run", "LOCAL", "x", "FINISHED", 1, 2, stage, uri, store.number)
            columns = (
                "run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri"
            )
            sql = f"INSERT INTO runs ({columns}, experiment_id) VALUES ({', '.join('?' * 10)})"
            connection.execute(sql, values)
            connection.execute("INSERT INTO params (key, value, run_uuid) VALUES ('recipe', 'conv', ?)", (name,))
            connection.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('note', 'é', ?)", (name,))
            sql = (
                "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('a', 1, 1, 1, 0, ?)"
            )
            connection.execute(sql, (name,))
    return dict.fromkeys(ids, True)


def zipped(project: Path, prefix: str, archive: Path, empty: bool) -> None:
    """The tree as a zip, or the folder mlruns alone where the prefix says so; `empty` keeps empty folders."""
    top = project / "mlruns" if prefix.endswith("mlruns/") else project
    with zipfile.ZipFile(archive, "w") as file:
        for folder, _, names in os.walk(top):
            inside = prefix + ("" if folder == str(top) else Path(folder).relative_to(top).as_posix() + "/")
            for name in names:
                file.write(Path(folder, name), inside + name)
            if empty and inside and folder != str(top):
                file.writestr(inside, b"")
