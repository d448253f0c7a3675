"""Databases as the installed MLflow wants them: made from a file store, or brought up from an older MLflow's schema.

MLflow itself does the work, in a process of its own; what it makes is counted before it is believed.
"""

import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mlruns_tools.fixed_paths import (
    COLUMNS,
    DATABASE,
    HEADS,
    MOST_STEPS,
    Refused,
    Report,
    _connect,
    _Files,
    _folders,
    fix_paths,
    look,
    made_whole,
    once_begun,
    shown,
)
from mlruns_tools.guard import Guarded

ENVIRONMENT = {"PYTHONUTF8": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
TABLES = {
    "logged models": "logged_models",
    "model versions": "model_versions",
    "registered models": "registered_models",
}


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy through SQLite's backup, right even while another program writes."""
    with made_whole(target) as part, closing(_connect(source)) as here, closing(sqlite3.connect(part)) as there:
        here.backup(there)
        there.execute("PRAGMA journal_mode = DELETE")


def to_sqlite(
    source: Path | str,
    to: Path | str | None = None,
    old: str | None = None,
    dry_run: bool = False,
    portable: bool | None = None,
    maps: Sequence[tuple[str, str]] = (),
) -> Report:
    """Repair a record and, if it is a file store, give it a database: `mlflow.db` in the record's folder.

    MLflow reads the database from then on, where it is; artifacts stay where they are, and so do the files that were
    the store. Arguments as of `fix_paths`. Needs MLflow; raises Refused, with nothing changed but the repair, when
    `mlflow migrate-filestore` fails or loses anything.
    """
    report = fix_paths(source, to, old, dry_run, portable, maps)
    if dry_run:
        report.notes += [f"Then {DATABASE} would be made, if the record is a file store."]
        return report
    store = look(report.source).stores[0]
    if store.is_database:
        report.notes.append("It is in SQLite already.")
        return report
    with once_begun(["repaired"] * (report.to_do or source != report.source), "the record is repaired all the same."):
        if os.path.lexists(store.path / DATABASE):
            raise Refused(f"{store.path / DATABASE} is in the way and holds no run. Move it, then try again.")
        made = database_of_files(store.path, store.path / DATABASE)
    again = fix_paths(report.source)
    again.copy, again.notes = report.copy, report.notes
    counts = ", ".join(f"{count} {table}" for table, count in made.items())
    kept = "They are still there, and are counted and repaired as well."
    again.notes.append(f"{DATABASE} was made from files: {counts}. {kept}")
    return again


def database_of_files(store: Path, target: Path) -> Counter[str]:
    """Make a database of a file store, which is only read; returns the number of rows of each kind.

    Raises Refused where MLflow fails at it, or the database would hold less than the files.
    """
    with Guarded() as here:  # MLflow takes no target with a number sign in its path
        made = here.folder / DATABASE
        counts = _copy_metadata(store, here.folder / "mlruns")
        command = ("migrate-filestore", "--source", here.folder, "--target", f"sqlite:///{made}", "--no-progress")
        if said := _mlflow(*command):
            raise Refused(f"{store} stays a file store: mlflow migrate-filestore failed ({_cause(said)}).")
        _check_whole(store, made, counts)
        copy_database(made, target)
    return counts


def _check_whole(store: Path, database: Path, counts: Counter[str]) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        made = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in counts}
        if lost := {table: (counts[table], made[table]) for table in counts if made[table] != counts[table]}:
            raise Refused(f"{store} stays a file store: in files and in the database differ {lost}.")
        for trash in _folders(store / ".trash"):  # a database leaves deleted experiments where they are
            query = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
            (location,) = connection.execute(query, (trash.name,)).fetchone() or ("",)
            if location.endswith(f"/{trash.name}"):
                moved = f"{location[: -len(trash.name)]}.trash/{trash.name}"
                for _, table, column, _, _, condition in COLUMNS:
                    update = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE ({condition})"
                    update += f" AND ({column} = ? OR substr({column}, 1, ?) = ?)"
                    below = location + "/"
                    connection.execute(update, (moved, len(location) + 1, location, len(below), below))


def _copy_metadata(root: Path, copy: Path) -> Counter[str]:
    """Copy what MLflow can read of a file store, without artifacts and links, each metric once; count it."""
    files = _Files(root)
    readable = {path.parent for path in files.read}

    def left_out(folder: str, names: list[str]) -> list[str]:
        here = Path(folder)
        if len(here.relative_to(root).parts) > MOST_STEPS:
            raise Refused(f"{root}: more than {MOST_STEPS} folders lie in each other here, which no record needs.")
        if here == root:
            known = {path.name for path in readable if path.parent == root} | {"models", ".trash"}
            return [name for name in names if name not in known]
        holder = "meta.yaml" in names or here.parent.name == "traces"
        left = {name for name in names if (holder and name == "artifacts") or (here / name).is_symlink()}
        return [*left, *(name for name in names if here / name in files.aside or _unread(here / name, readable))]

    shutil.copytree(root, copy, ignore=left_out)
    counts: Counter[str] = Counter()
    for file, (kind, text) in files.read.items():
        if kind == "traces":
            continue
        path = copy / file.relative_to(root)
        counts[TABLES.get(kind, kind)] += 1
        if file in files.edited:
            path.write_text(text, encoding="utf-8")
        if kind in ("runs", "logged models"):  # MLflow writes a run's metrics twice when a model was logged in it
            for file in [file for file in (path.parent / "metrics").rglob("*") if file.is_file()]:
                lines = file.read_text(encoding="utf-8").splitlines()
                once = dict.fromkeys(tuple(line.split()[: 3 if kind == "runs" else None]) for line in lines)
                file.write_text("".join(" ".join(line) + "\n" for line in once), encoding="utf-8")
                counts["metrics"] += len(once) * (kind == "runs")
        for name in ("metrics", "params", "artifacts") if kind == "runs" else ():
            (path.parent / name).mkdir(exist_ok=True)
        for table in ("params", "tags") if kind == "runs" else ():
            counts[table] += sum(file.is_file() for file in (path.parent / table).rglob("*"))
    return counts


def _unread(path: Path, readable: set[Path]) -> bool:
    """Whether a folder has a `meta.yaml` that MLflow cannot read."""
    return path not in readable and (path / "meta.yaml").is_file() and path.parent.name not in ("inputs", "datasets")


def upgrade(database: Path, name: Path | None = None) -> str | None:
    """Bring a database to the installed MLflow's schema; returns a sentence where it was of an older one.

    Give a copy (of the one with that `name`): an older MLflow cannot read it afterwards. Raises Refused for one of a newer
    MLflow, or without MLflow.
    """
    before = revision(database)
    if said := _mlflow("db", "upgrade", _uri(database)):
        name = name or database
        raise Refused(newer(before, name) if "Can't locate" in said else f"{name}: MLflow fails: {_cause(said)}")
    after = revision(database)
    return None if before == after else f"was of {release(before)}, brought to {release(after)}"


def upgrade_kept(database: Path) -> str | None:
    """`upgrade`, done in a copy and put in place; the database as it was stays beside it. A sentence where it was older."""
    copies = (f"{n}." * (n > 1) for n in range(1, 10**6))
    kept = next(path for n in copies if not os.path.lexists(path := database.with_name(f"{database.name}.{n}bak")))
    with Guarded() as here:
        part = here.folder / DATABASE
        copy_database(database, part)
        if told := upgrade(part, database):
            copy_database(database, kept)
            with closing(sqlite3.connect(part)) as new, closing(_connect(database)) as old:
                new.backup(old)  # into the file that is there, which another program may have open
            return f"{database.name} {told}; as it was: {kept.name}"
    return None


def newer(found: str, database: Path) -> str:
    """The sentence on a database that the installed MLflow cannot read."""
    wanted = "the MLflow that wrote it, or a later one: pip install --upgrade mlflow"
    if found in HEADS:
        wanted = f"MLflow {HEADS[found]} or later: pip install 'mlflow>={HEADS[found]}'"
    return f"{database} was written by a newer MLflow than the one installed here (schema {found}). It needs {wanted}"


def revision(database: Path) -> str:
    """The schema's name in MLflow's migrations."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return next((str(row[0]) for row in connection.execute("SELECT version_num FROM alembic_version")), "")
        except sqlite3.OperationalError as error:
            raise Refused(f"{database} is no database of MLflow's ({error}).") from error


def release(found: str) -> str:
    return f"MLflow {HEADS[found]}" if found in HEADS else f"schema {found}"


def head() -> str:
    """The schema of the installed MLflow."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return _get_latest_schema_revision()


def _uri(database: Path) -> str:
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=database.as_posix()).render_as_string()


def _mlflow(*arguments: object) -> str:
    """What MLflow says where it fails; "" otherwise."""
    with Guarded(sys.executable, "-m", "mlflow", *arguments, env=os.environ | ENVIRONMENT) as mlflow:
        return (mlflow.log or "it ended without a word") if mlflow.wait() else ""


def _cause(said: str) -> str:
    lines = said.splitlines()
    return next(
        (shown(line) for line in reversed(lines) if "Error" in line or "mlflow" in line), "is MLflow installed?"
    )
