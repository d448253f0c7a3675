"""Records and zips as a stranger might send them: each maker fills a folder and returns what to repair in it."""

import os
import sqlite3
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mlruns_tools.fixed_paths import DATABASE, MARKER, SUPER_JOURNAL

RUN, EXPERIMENT = "0123456789abcdef" * 2, "123456789012345678"
OLD = "/kaggle/working/mlruns"
VICTIM = "victim.txt"  # beside the folder that a maker fills
Maker = Callable[[Path], Path]


def experiment_meta(location: str, number: str = EXPERIMENT) -> str:
    """A `meta.yaml` as MLflow writes it; the location as YAML has it."""
    return (
        f"artifact_location: {location}\nexperiment_id: '{number}'\nlifecycle_stage: active\nname: captchas {number}\n"
    )


def run_meta(location: str, run: str = RUN, number: str = EXPERIMENT) -> str:
    """The same of a run."""
    return (
        f"artifact_uri: {location}\nend_time: 1700000001000\nentry_point_name: ''\nexperiment_id: '{number}'\n"
        f"lifecycle_stage: active\nrun_id: {run}\nrun_name: run\nrun_uuid: {run}\nsource_name: ''\nsource_type: 4\n"
        "source_version: ''\nstart_time: 1700000000000\nstatus: 3\ntags: []\nuser_id: someone\n"
    )


def database_record(mlruns: Path, *locations: str) -> Path:
    """A record of one run that is right but for having moved, and of one more run for each location."""
    (mlruns / "artifacts" / RUN / "artifacts").mkdir(parents=True)
    rows = [(RUN, f"{OLD}/artifacts/{RUN}/artifacts")]
    rows += [(f"{number:032x}", location) for number, location in enumerate(locations)]
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        connection.executemany("INSERT INTO runs VALUES (?, ?)", rows)
    return mlruns


def file_store(mlruns: Path, location: str = f"{OLD}/{EXPERIMENT}/{RUN}/artifacts") -> Path:
    run = mlruns / EXPERIMENT / RUN
    (run / "artifacts").mkdir(parents=True)
    for name in ("metrics", "params"):
        (run / name).mkdir()
    (run.parent / "meta.yaml").write_text(experiment_meta(f"{OLD}/{EXPERIMENT}"))
    (run / "meta.yaml").write_text(run_meta(location))
    return mlruns


def _zip(*members: tuple[str, bytes], change: Callable[[bytes], bytes] = bytes, mode: int = 0) -> Maker:
    """A zip of a good record and of the members, with the mode of the last and its bytes changed."""

    def make(folder: Path) -> Path:
        good = (database_record(folder.parent / "good") / DATABASE).read_bytes()
        path = folder / "mlruns.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a name twice
            archive.writestr(f"mlruns/{DATABASE}", good)
            for name, data in members:
                info = zipfile.ZipInfo("x")
                info.filename = info.orig_filename = name
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
                archive.writestr(info, data)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def _only(name: str, data: bytes) -> Maker:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "mlruns.zip", "w") as archive:
            archive.writestr(name, data)
        return folder / "mlruns.zip"

    return make


def _bomb(folder: Path) -> Path:
    path = _zip()(folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("mlruns/bomb", "w") as bomb:
        for _ in range(300):
            bomb.write(bytes(2**20))
    return path


def _encrypted(data: bytes) -> bytes:
    place = data.rindex(b"PK\x01\x02") + 8
    return data[:place] + bytes([data[place] | 1]) + data[place + 1 :]


def _says_it_is_small(data: bytes) -> bytes:
    """The last member's sizes in the directory are less than what it holds."""
    place = data.rindex(b"PK\x01\x02") + 24
    return data[:place] + struct.pack("<I", 3) + data[place + 4 :]


def _torn(data: bytes) -> bytes:
    return data[:-40]


def _damaged(data: bytes) -> bytes:
    return data[:100] + b"damaged!" + data[108:]


ZIPS: dict[str, Maker] = {
    "absolute": _zip(("/tmp/evil", b"x")),
    "up": _zip(("../evil", b"x")),
    "up from inside": _zip(("mlruns/../../evil", b"x")),
    "a dot": _zip(("mlruns/./x", b"x")),
    "nothing between": _zip(("mlruns//x", b"x")),
    "a drive": _zip(("C:/evil", b"x")),
    "a drive without a slash": _zip(("C:evil", b"x")),
    "backslashes": _zip(("mlruns\\..\\..\\evil", b"x")),
    "a share": _zip(("\\\\server\\share\\evil", b"x")),
    "NUL": _zip(("mlruns/evil\0.txt", b"x")),
    "twice": _zip(("mlruns/a", b"x"), ("mlruns/a", b"y")),
    "twice by case": _zip(("mlruns/a", b"x"), ("mlruns/A", b"y")),
    "twice by accents": _zip(("mlruns/\u00e9", b"x"), ("mlruns/e\u0301", b"y")),
    "a file and a folder": _zip(("mlruns/a", b"x"), ("mlruns/a/b", b"y")),
    "a folder by another case": _zip(("mlruns/a", b"x"), ("mlruns/A/b", b"y")),
    "a link": _zip(("mlruns/artifacts", b"/etc"), mode=stat.S_IFLNK | 0o777),
    "a database that is a link": _zip(("mlruns/other.db", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
    "a device": _zip(("mlruns/device", b""), mode=stat.S_IFCHR | 0o666),
    "a pipe": _zip(("mlruns/pipe", b""), mode=stat.S_IFIFO | 0o666),
    "encrypted": _zip(("mlruns/secret", b"x"), change=_encrypted),
    "a bomb": _bomb,
    "a wrong size": _zip(("mlruns/x", b"x" * 5000), change=_says_it_is_small),
    "torn": _zip(change=_torn),
    "damaged": _zip(change=_damaged),
    "too long a name": _zip(("mlruns/" + "x" * 5000, b"x")),
    "a journal that deletes": _zip((f"mlruns/{DATABASE}-journal", b"x" * 600 + SUPER_JOURNAL)),
    "a database that is none": _only(f"mlruns/{DATABASE}", b"no database" * 1000),
    "no record": _only("mlruns.txt", b"x"),
}


def _links(name: str, to: str, store: Maker = database_record) -> Maker:
    """A record in which `name` was taken out and is a link to where it went, or to `to`."""

    def make(folder: Path) -> Path:
        path = store(folder / "mlruns") / name
        outside = folder.parent / to
        if path.exists():
            path.rename(outside)
        os.symlink(outside, path, target_is_directory=outside.is_dir())
        return folder / "mlruns"

    return make


def _statements(*statements: str) -> Maker:
    def make(folder: Path) -> Path:
        mlruns = database_record(folder / "mlruns")
        with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return mlruns

    return make


def _with_file(name: str, data: bytes) -> Maker:
    def make(folder: Path) -> Path:
        mlruns = database_record(folder / "mlruns")
        (mlruns / name).parent.mkdir(parents=True, exist_ok=True)
        (mlruns / name).write_bytes(data)
        return mlruns

    return make


REFUSED: dict[str, Maker] = {
    "mlflow.db is a link": _links(DATABASE, "elsewhere.db"),
    "the journal is a link": _links(f"{DATABASE}-journal", VICTIM),
    "an experiment is a link": _links(EXPERIMENT, "experiment", file_store),
    "a run is a link": _links(f"{EXPERIMENT}/{RUN}", "run", file_store),
    "a meta.yaml is a link": _links(f"{EXPERIMENT}/{RUN}/meta.yaml", "meta.yaml", file_store),
    "models is a link": _links("models", "", file_store),
    "a trigger": _statements("CREATE TRIGGER t AFTER UPDATE ON runs BEGIN DELETE FROM runs; END"),
    "runs is a view": _statements("ALTER TABLE runs RENAME TO r", "CREATE VIEW runs AS SELECT * FROM r"),
    "a trigger on another table": _statements(
        "CREATE TABLE tags (run_uuid TEXT, key TEXT)",
        "CREATE TRIGGER t AFTER INSERT ON tags BEGIN UPDATE runs SET artifact_uri = '/etc'; END",
    ),
    "a trigger by the name of MLflow's": _statements(
        "CREATE TABLE secrets (secret_id TEXT)",
        "CREATE TRIGGER prevent_secrets_aad_mutation AFTER UPDATE ON secrets BEGIN DELETE FROM runs; END",
    ),
    "versions are a view": _statements("CREATE VIEW model_versions AS SELECT '/etc' AS source, 'x' AS name"),
    "versions in another case": _statements("CREATE TABLE Model_Versions (name TEXT, source TEXT)"),
    "a column in another case": _statements("CREATE TABLE logged_models (model_id TEXT, Artifact_Location TEXT)"),
    "a generated column": _statements(
        "CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT GENERATED ALWAYS AS ('/etc') VIRTUAL)"
    ),
    "a virtual table": _statements("CREATE VIRTUAL TABLE model_versions USING fts5(name, source)"),
    "runs without rowid": _statements(
        "DROP TABLE runs", "CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT) WITHOUT ROWID"
    ),
    "no text": _statements("UPDATE runs SET artifact_uri = CAST(x'2fff00fe' AS TEXT)"),
    "a journal that deletes": _with_file(f"{DATABASE}-journal", b"x" * 600 + SUPER_JOURNAL),
}
REPORTED: dict[str, Maker] = {
    place: (lambda folder, place=place: database_record(folder / "mlruns", place))
    for place in [
        "/etc",
        "file:///etc",
        "FILE:///etc",
        "file://localhost/etc",
        "file:/etc",
        "file:///%65tc",
        f"{OLD}/../../../etc",
        f"file://{OLD}/%2e%2e/%2E%2E/etc",
        "file://server/share",
        r"\\server\share",
        r"C:\Windows",
        "//etc",
        "/",
        "file:///",
        f"{OLD}2/artifacts",
    ]
}
REPORTED |= {
    "artifacts are a link": _links("artifacts", "outside"),
    "a run's artifacts are a link": _links(f"artifacts/{RUN}/artifacts", "outside"),
    "a file store's location": lambda folder: file_store(folder / "mlruns", "/etc"),
    "a yaml that is none": lambda folder: file_store(folder / "mlruns", "!!python/object/apply:os.system [ls]"),
}
HARMLESS: dict[str, Maker] = {
    "a marker that is none": _with_file(MARKER, b"[" * 100_000),
    "a marker of numbers": _with_file(MARKER, b'{"root": 3, "portable": 1}'),
    "a marker at the top": _with_file(MARKER, b'{"root": "/"}'),
    "a copy is a link": _links(f"{DATABASE}.bak.part", VICTIM),
    "a backup is a link": _links(f"{DATABASE}.bak", VICTIM),
    "a part is a link": _links(f"{EXPERIMENT}/{RUN}/meta.yaml.part", VICTIM, file_store),
    "a marker's part is a link": _links(f"{MARKER}.part", VICTIM),
    "an artifact called meta.yaml": _with_file(f"artifacts/{RUN}/artifacts/meta.yaml", b"artifact_uri: /etc\n"),
}
