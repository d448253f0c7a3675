"""Runs out of one MLflow database into another of the same schema: rows with their ids, in one transaction.

MLflow's client does not suffice here: it gives runs and models new ids, by which predictions, links and `MLmodel` files
no longer know them, sets no creation times, and commits each call, so that a killed merge leaves half a run. It is
what `push.py` uses for servers, whose database is not ours to write.
"""

import difflib
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from mlruns_tools.fixed_paths import (
    DATABASE,
    PATIENCE,
    SECRET,
    SUFFIXES,
    TRACE_TAGS,
    Record,
    Refused,
    Report,
    Store,
    _entries_of,
    _Files,
    _is_remote,
    _local,
    _logged,
    _Map,
    _open,
    _refusal,
    _sort,
    _steps,
    _tables,
    _tell,
    fix_paths,
    is_inside,
    look,
)
from mlruns_tools.schema import copy_database, database_of_files, revision, upgrade

KNOWN = re.compile(  # tables that are brought, that MLflow derives, or that hold its own work
    r"alembic_version|workspaces|experiments|experiment_tags|runs|(latest_)?metrics|params|tags|datasets|inputs|input_tags"
    r"|logged_model.*|trace_.*|span.*|assessments|entity_associations|registered_model.*|model_version.*"
    r"|evaluation_dataset.*|sqlite_.*|sql_.*|job.*|scheduler_leases"
)
OF = "IN (SELECT old FROM moved WHERE kind = '{}')"
NEW = "(SELECT new FROM moved WHERE kind = '{}' AND old = t.{})"
RUN, MODEL, TRACE, EVALUATION = (OF.format(kind) for kind in ("run", "model", "trace", "evaluation"))
IN_EXPERIMENT = {"experiment_id": NEW.format("experiment", "experiment_id")}


class Opened(NamedTuple):
    """A store that was opened for reading."""

    record: Record
    database: Path  # a copy, or made from files, with true locations
    problems: list[str]
    notes: list[str]


def open_source(source: Path, work: Path, now: str = "") -> list[Opened]:
    """The stores of a record, a zip or folder, that have runs of their own; the source is only read.

    With help of the empty folder `work` a zip is unpacked, of a folder the databases alone are copied; files become a
    database, one of another schema than `now` is brought to the installed MLflow's. Raises Refused without a record that
    can be read.
    """
    work, notes = work.resolve(), []
    if source.is_file() and not source.name.endswith(SUFFIXES):
        notes = [note for note in fix_paths(source, to=work / "zip").notes if note.startswith("Left in the zip")]
        source = work / "zip"
    record = look(source.resolve())
    stores = [record.stores[0], *record.hidden]
    return [_open_store(record, store, work / f"copy{n}", now, notes * (n == 0)) for n, store in enumerate(stores)]


def _open_store(record: Record, store: Store, work: Path, now: str, notes: list[str]) -> Opened:
    work.mkdir()
    copy, problems, notes = work / DATABASE, [], list(notes)
    if store.is_database:
        copy_database(store.path, copy)
    else:
        database_of_files(store.path, copy)
        problems = _Files(store.path).problems
        notes.append(f"{store.path.name}: a database was made of the file store for this, which stays as it is")
    with closing(_open(copy, write=False)) as connection:
        old = "workspaces" not in _tables(connection)
    if (old or (now and revision(copy) != now)) and (told := upgrade(copy, store.path)):
        notes.append(f"{store.path.name} {told}, in a copy")
    first = Record([store, *(other for other in record.stores if other != store)], record.bases)
    return Opened(first, copy, problems + repair_copy(copy, first).problems, notes)


def repair_copy(database: Path, record: Record) -> Report:
    """Make the locations right in a copy of the first database of a record, of which nothing is written."""
    report = Report(record.root, database)
    try:
        with closing(_open(database, write=True)) as connection:
            entries = list(_entries_of(connection, database))
            places = _Map(record, record.root, record.root)
            places.learn(entries)
            for entry, new in _sort(entries, places, False, report):
                connection.execute(entry.at[0], (new, entry.at[1]))
            _tell(record, [], entries, places, _logged(connection), report)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _refusal(database, error) from error
    return report


def belongs(path: Path | None, name: str, record: Record) -> bool:
    """Whether a folder is the record's: inside of it, or named by an id that no stranger can guess."""
    if path is None or path in record.bases:
        return False
    known = SECRET.search(name) and name in path.parts and path.is_dir()
    return bool(known) or any(path.is_relative_to(base) for base in record.bases)


def local_path(location: str) -> Path | None:
    """The path that a location on this machine names, or None."""
    path = _local(_steps(location))
    return Path(path) if path else None


def make_empty(source: Path, target: Path, home: Path) -> None:
    """A database with the schema of `source` and no runs, for a record that lives in `home`."""
    with closing(_connect(source, target)) as db:
        _schema(db, "source", source)
        db.execute("BEGIN IMMEDIATE")
        theirs = "sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY type <> 'table', rowid"
        for (sql,) in db.execute(f"SELECT sql FROM source.sqlite_master WHERE {theirs}").fetchall():
            db.execute(sql)
        for table in ("alembic_version", "workspaces"):
            _copy(db, table, "1")
        _copy(db, "experiments", "experiment_id = 0", lifecycle_stage="'active'")  # MLflow's own default
        db.execute("UPDATE main.experiments SET artifact_location = ?", (_artifacts(home),))
        db.execute("COMMIT")


def _connect(source: Path, target: Path) -> sqlite3.Connection:
    """The target, with the source beside it for reading alone.

    BEGIN IMMEDIATE would begin to write to both otherwise, and a kill in the commit of two databases leaves a journal
    that names a third file (https://sqlite.org/atomiccommit.html, 5.0), which `fixed_paths` refuses.
    """
    db = sqlite3.connect(os.path.abspath(target), timeout=PATIENCE, isolation_level=None, uri=True)
    db.row_factory = sqlite3.Row
    for pragma in ("trusted_schema = OFF", "foreign_keys = ON"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("ATTACH ? AS source", (f"{source.absolute().as_uri()}?mode=ro",))
    return db


def _copy(db: sqlite3.Connection, table: str, condition: str, **changed: str) -> int:
    """Rows of `source` (as `t`) into the same table of the target; `changed` gives SQL for columns that differ."""
    columns = [row["name"] for row in db.execute(f"PRAGMA main.table_info({table})")]  # without generated ones
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(changed.get(name, f't."{name}"') for name in columns)
    return db.execute(
        f"INSERT INTO main.{table} ({names}) SELECT {values} FROM source.{table} AS t WHERE {condition}"
    ).rowcount


def _schema(db: sqlite3.Connection, side: str, database: Path) -> set[str]:
    try:
        return {row[0] for row in db.execute(f"SELECT version_num FROM {side}.alembic_version")}
    except sqlite3.OperationalError as error:
        raise Refused(f"{database} is no database of MLflow's ({error}).") from error


def _artifacts(home: Path) -> str:
    return (home / "artifacts").as_uri()


class Transfer:
    """What goes from the store `opened` into the database `target` of the record in `home`.

    Made, it has chosen and changed nothing: `folders` says which artifacts to bring where. `write` adds the rows, inside
    the transaction that the caller begins and ends on `db`. With `only`, these runs alone; with `deleted`, also those that
    are deleted in the source; `experiment` is the name that all of them go under. Raises Refused for databases that do not
    go together and for locations outside the source's record.
    """

    def __init__(
        self,
        opened: Opened,
        target: Path,
        home: Path,
        only: Sequence[str] | None = None,
        deleted: bool = False,
        experiment: str | None = None,
    ) -> None:
        self.record, self.home, self.only, self.experiment = opened.record, home, only, experiment
        source = opened.database
        self.stage = "1" if deleted else "lifecycle_stage = 'active'"
        self.alive = f"experiment_id IN (SELECT experiment_id FROM source.experiments WHERE {self.stage})"
        self.folders: dict[Path, str] = {}  # a folder of artifacts: its new place below `home`
        self.runs: dict[str, str] = {}  # id: name, of what is brought
        self.left: dict[str, str] = {}  # of runs that are in the target already
        self.both: list[tuple[Path, Path]] = []  # folders of their artifacts and models, in the source and here
        self.deleted = 0  # runs that are deleted in the source
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self.db = _connect(source, target)
        try:
            self._check_schema(source, target)
            self.db.execute("CREATE TEMP TABLE moved (kind, old, new, PRIMARY KEY (kind, old))")
            self._choose_runs()
            self._choose_models()
            self._choose_traces()
            self._choose_evaluations()
            self._find_both()
            self._tell_the_rest()
        except BaseException:
            self.db.close()
            raise

    def close(self) -> None:
        self.db.close()

    def _all(self, query: str, *values: object) -> list[sqlite3.Row]:
        return self.db.execute(query, values).fetchall()

    def _check_schema(self, source: Path, target: Path) -> None:
        ours, theirs = _schema(self.db, "main", target), _schema(self.db, "source", source)
        if ours != theirs:
            raise Refused(
                f"the databases were written by different versions of MLflow (schema {', '.join(theirs)} in {source},"
                f" {', '.join(ours)} in {target}). Bring the older one to the newer's schema first: install the newer"
                f" version of MLflow, run `mlflow db upgrade sqlite:///PATH_OF_ITS_DATABASE`, and merge again."
            )

    # --- what is brought ---------------------------------------------------------------------------------------------

    def _choose_runs(self) -> None:
        there = {row["run_uuid"]: row for row in self._all("SELECT * FROM main.runs")}
        query = f"SELECT *, {self.stage} AND {self.alive} AS alive FROM source.runs ORDER BY start_time"
        rows = {row["run_uuid"]: row for row in self._all(query)}
        if self.only is not None:
            self._check_asked({run: row["name"] or "" for run, row in rows.items() if row["alive"]})
        for run, row in rows.items():
            if self.only is not None and run not in self.only:
                continue
            if not row["alive"]:
                self.deleted += 1
            elif run in there:
                self._leave(row, there[run])
            else:
                self.runs[run] = row["name"] or ""
                self._move("run", run, row["artifact_uri"], f"artifacts/{run}/artifacts")

    def _check_asked(self, known: dict[str, str]) -> None:
        for asked in self.only or ():
            if asked not in known:
                near = [run for run, name in known.items() if run.startswith(asked) or name == asked]
                near = near or difflib.get_close_matches(asked, known, 5, 0.7)
                names = ", ".join(f"{run} ({known[run]})" for run in (near or list(known))[:5]) or "none"
                raise Refused(f"the record holds no run {asked!r}; {'near it are' if near else 'its runs are'} {names}")

    def _leave(self, theirs: sqlite3.Row, ours: sqlite3.Row) -> None:
        run = ours["run_uuid"]
        self.left[run] = ours["name"] or ""
        if ours["lifecycle_stage"] != "active":
            self.notes.append(f"run {run} was deleted here and stays so: mlflow restore brings it back")
        elif ours["status"] != theirs["status"]:
            self.notes.append(
                f"run {run} is {ours['status']} here and {theirs['status']} in the source: to take the source's, delete"
                " it here for good (`mlflow gc --run-ids`) and merge again"
            )

    def _find_both(self) -> None:
        """The folders of what is in the target already, as it is in the source."""
        for table, location, same in (
            ("runs", "artifact_uri", "t.run_uuid = s.run_uuid AND t.status = s.status"),
            ("logged_models", "artifact_location", "t.model_id = s.model_id AND t.status = s.status"),
            ("trace_tags", "value", f"t.request_id = s.request_id AND t.key = s.key AND s.key IN {TRACE_TAGS}"),
        ):
            query = f"SELECT s.{location}, t.{location} FROM source.{table} s JOIN main.{table} t ON {same}"
            for pair in self._all(query):
                there, here = (None if _is_remote(each or "") else local_path(each or "") for each in pair)
                if there and here and there.is_dir() and is_inside(here, self.home):
                    self.both.append((there, here))

    def _move(self, kind: str, name: str, location: str | None, to: str) -> None:
        """Note that an entry goes over, with its new location; a remote one stays where it is."""
        path = self._folder(location, f"{kind} {name}")
        new = (self.home / to).as_uri() if path else location
        if path:
            self.folders[path] = to
        self.db.execute("INSERT INTO moved VALUES (?, ?, ?)", (kind, name, new))

    def _folder(self, location: str | None, what: str) -> Path | None:
        if not location or _is_remote(location):
            return None
        path = local_path(location)
        if not belongs(path, what.split()[-1], self.record):
            raise Refused(
                f"{what}: its artifacts at {location!r} lie outside the record. If they belong to it, repair it first:"
                " python mlruns_tools/fixed_paths.py RECORD --map OLD=NEW"
            )
        return path

    def _choose_models(self) -> None:
        linked = f"SELECT destination_id FROM source.inputs t WHERE t.source_id {RUN}"
        free = "source_run_id IS NULL OR source_run_id = '' OR" if self.only is None else ""
        rows = self._all(
            f"SELECT model_id, artifact_location FROM source.logged_models t WHERE {self.stage} AND {self.alive}"
            f" AND model_id NOT IN (SELECT model_id FROM main.logged_models)"
            f" AND ({free} source_run_id {RUN} OR model_id IN ({linked}))"
        )
        for model, location in rows:
            self._move("model", model, location, f"artifacts/models/{model}/artifacts")

    def _choose_traces(self) -> None:
        of_run = (
            "SELECT request_id FROM source.trace_request_metadata t WHERE key = 'mlflow.sourceRun' AND value {0}"
            " UNION SELECT source_id FROM source.entity_associations t WHERE destination_id {0}"
        )
        if self.only is None:
            gone = f"NOT IN (SELECT run_uuid FROM source.runs WHERE {self.stage})"
            which = f"request_id NOT IN ({of_run.split(' UNION')[0].format(gone)})"
        else:
            which = f"request_id IN ({of_run.format(RUN)})"
        rows = self._all(
            f"SELECT request_id FROM source.trace_info WHERE {self.alive} AND {which}"
            f" AND request_id NOT IN (SELECT request_id FROM main.trace_info)"
        )
        for (trace,) in rows:
            self.db.execute("INSERT INTO moved VALUES ('trace', ?, NULL)", (trace,))
        for key, end in zip(TRACE_TAGS, ("artifacts", "archive"), strict=True):
            tags = f"SELECT request_id, value FROM source.trace_tags t WHERE key = ? AND request_id {TRACE}"
            for trace, location in self._all(tags, key):
                self._move(key, trace, location, f"artifacts/traces/{trace}/{end}")

    def _choose_evaluations(self) -> None:
        """Data sets of evaluations belong to no run; a choice of runs leaves them."""
        new = "dataset_id NOT IN (SELECT dataset_id FROM main.evaluation_datasets)"
        found = self._all(f"SELECT dataset_id FROM source.evaluation_datasets WHERE {new}") if self.only is None else ()
        self.db.executemany("INSERT INTO moved VALUES ('evaluation', ?, NULL)", [(row[0],) for row in found])

    def _tell_the_rest(self) -> None:
        tables = [row["name"] for row in self._all("SELECT name FROM source.sqlite_master WHERE type = 'table'")]
        if self.only is None:
            for table in tables:
                count = 0 if KNOWN.fullmatch(table) else self._count(table)
                self.notes += [f"not brought: {count} row(s) of the table {table}"] if count else []

    def _count(self, table: str) -> int:
        return self._all(f'SELECT count(*) FROM source."{table}"')[0][0]

    # --- the rows ----------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Add the rows. The caller commits, or rolls back where this raises."""
        self._write_experiments()
        self._write_runs()
        self._write_models()
        self._write_traces()
        self._write_evaluations()
        self._write_versions()

    def _write_experiments(self) -> None:
        users = "UNION ".join(
            f"SELECT experiment_id FROM source.{table} t WHERE {column} {chosen} "
            for table, column, chosen in (
                ("runs", "run_uuid", RUN),
                ("logged_models", "model_id", MODEL),
                ("trace_info", "request_id", TRACE),
            )
        )
        users += (
            "UNION SELECT CAST(destination_id AS INTEGER) FROM source.entity_associations t"
            f" WHERE destination_type = 'experiment' AND source_id {EVALUATION}"
        )
        used = {row[0] for row in self._all(f"SELECT experiment_id FROM ({users})")}
        for row in self._all(f"SELECT * FROM source.experiments WHERE {self.stage}"):
            name, old = self.experiment or row["name"], row["experiment_id"]
            same = "SELECT * FROM main.experiments WHERE name = ? AND workspace = ?"
            here = next(iter(self._all(same, name, row["workspace"])), None)
            if not here and old not in used:
                continue
            if here and old in used and here["lifecycle_stage"] != row["lifecycle_stage"] != "deleted":
                raise Refused(
                    f"the experiment {name!r} is deleted in the target: restore it first"
                    f" (`mlflow experiments restore -x {here['experiment_id']}`)"
                )
            new = here["experiment_id"] if here else self._free_number("experiments", "experiment_id", old)
            self.db.execute("INSERT INTO moved VALUES ('experiment', ?, ?)", (old, new))
            if not here:
                self.counts["experiments"] += 1
                this, number, location = f"experiment_id = {old}", str(new), _quoted(_artifacts(self.home))
                changed = {"experiment_id": number, "artifact_location": location, "name": _quoted(name)}
                _copy(self.db, "experiments", this, **changed)
                _copy(self.db, "experiment_tags", this, experiment_id=number)

    def _free_number(self, table: str, column: str, wanted: int, condition: str = "1", *values: object) -> int:
        """`wanted`, or the next number where it is taken."""
        taken = {row[0] for row in self._all(f"SELECT {column} FROM main.{table} WHERE {condition}", *values)}
        return wanted if wanted not in taken else max(taken) + 1

    def _write_runs(self) -> None:
        run_uri = NEW.format("run", "run_uuid")
        self.counts["runs"] = _copy(self.db, "runs", f"run_uuid {RUN}", artifact_uri=run_uri, **IN_EXPERIMENT)
        for table in ("metrics", "latest_metrics", "params", "tags"):
            self.counts[table] += _copy(self.db, table, f"run_uuid {RUN}")
        inputs = f"(t.destination_id {RUN} OR t.source_id {RUN})"
        rows = self._all(
            f"SELECT d.*, m.new AS goes_to FROM source.datasets d JOIN moved m ON m.kind = 'experiment'"
            f" AND m.old = d.experiment_id WHERE dataset_uuid IN (SELECT source_id FROM source.inputs t WHERE {inputs})"
        )
        for row in rows:
            same = "SELECT dataset_uuid FROM main.datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
            here = self._all(same, row["goes_to"], row["name"], row["digest"])
            uuid = here[0][0] if here else row["dataset_uuid"]
            self.db.execute("INSERT INTO moved VALUES ('dataset', ?, ?)", (row["dataset_uuid"], uuid))
            if not here:
                self.counts["datasets"] += _copy(
                    self.db, "datasets", f"dataset_uuid = '{uuid}'", experiment_id=str(row["goes_to"])
                )
        dataset = f"COALESCE({NEW.format('dataset', 'source_id')}, t.source_id)"
        _copy(self.db, "inputs", inputs, source_id=dataset)
        _copy(self.db, "input_tags", f"input_uuid IN (SELECT input_uuid FROM source.inputs t WHERE {inputs})")

    def _write_models(self) -> None:
        location = NEW.format("model", "model_id")
        self.counts["logged models"] = _copy(
            self.db, "logged_models", f"model_id {MODEL}", artifact_location=location, **IN_EXPERIMENT
        )
        for table in ("logged_model_params", "logged_model_tags"):
            _copy(self.db, table, f"model_id {MODEL}", **IN_EXPERIMENT)
        dataset = f"COALESCE({NEW.format('dataset', 'dataset_uuid')}, t.dataset_uuid)"
        logged = f"(model_id {MODEL} OR run_id {RUN}) AND run_id IN (SELECT run_uuid FROM main.runs)"
        logged += " AND model_id IN (SELECT model_id FROM main.logged_models)"
        _copy(self.db, "logged_model_metrics", logged, dataset_uuid=dataset, **IN_EXPERIMENT)

    def _write_traces(self) -> None:
        self.counts["traces"] = _copy(self.db, "trace_info", f"request_id {TRACE}", **IN_EXPERIMENT)
        cases = " ".join(f"WHEN '{key}' THEN {NEW.format(key, 'request_id')}" for key in TRACE_TAGS)
        _copy(self.db, "trace_tags", f"request_id {TRACE}", value=f"CASE t.key {cases} ELSE t.value END")
        for table in ("trace_request_metadata", "trace_metrics"):
            _copy(self.db, table, f"request_id {TRACE}")
        _copy(self.db, "spans", f"trace_id {TRACE}", **IN_EXPERIMENT)
        _copy(self.db, "span_metrics", f"trace_id {TRACE}")
        _copy(self.db, "assessments", f"trace_id {TRACE}", **IN_EXPERIMENT)
        _copy(self.db, "entity_associations", f"source_id {TRACE}")

    def _write_evaluations(self) -> None:
        for table in ("evaluation_datasets", "evaluation_dataset_records", "evaluation_dataset_tags"):
            count = _copy(self.db, table, f"dataset_id {EVALUATION}")
            self.counts["evaluation datasets"] += count * (table == "evaluation_datasets")
        there = "(SELECT new FROM moved WHERE kind = 'experiment' AND CAST(old AS TEXT) = t.destination_id)"
        _copy(
            self.db,
            "entity_associations",
            f"source_id {EVALUATION}",
            destination_id=f"COALESCE({there}, t.destination_id)",
        )

    # --- the model registry ------------------------------------------------------------------------------------------

    def _write_versions(self) -> None:
        """Versions keep their number, or take the next one where another version has it; see `_goes_over`."""
        places = self._places()
        for row in self._all("SELECT * FROM source.model_versions ORDER BY workspace, name, version"):
            key = (row["workspace"], row["name"])
            same = "workspace = ? AND name = ? AND creation_time IS ? AND run_id IS ?"
            here = self._all(
                f"SELECT version FROM main.model_versions WHERE {same}", *key, row["creation_time"], row["run_id"]
            )
            if here:
                self._write_aliases(row, here[0][0])
                continue
            source, storage = (self._new_place(row[column], places) for column in ("source", "storage_location"))
            if row["current_stage"] == "Deleted_Internal" or not self._goes_over(row, source):
                continue
            named = f"workspace = {_quoted(key[0])} AND name = {_quoted(key[1])}"
            if not self._all(f"SELECT 1 FROM main.registered_models WHERE {named}"):
                for table in ("registered_models", "registered_model_tags"):
                    _copy(self.db, table, named)
            number = self._free_number("model_versions", "version", row["version"], named)
            this = f"{named} AND version = {row['version']}"
            changed = {"source": _quoted(source), "storage_location": _quoted(storage)}
            self.counts["model versions"] += _copy(self.db, "model_versions", this, version=str(number), **changed)
            _copy(self.db, "model_version_tags", this, version=str(number))
            if number != row["version"]:
                self.notes.append(f"version {row['version']} of {key[1]} is version {number} here")
            self._write_aliases(row, number)

    def _goes_over(self, version: sqlite3.Row, source: str | None) -> bool:
        """Whether a version has here what it stands for: its run, and a place for its files."""
        run, what = version["run_id"], f"version {version['version']} of {version['name']}"
        if self.only is not None and run not in self.runs:
            return False
        if run and not self._all("SELECT 1 FROM main.runs WHERE run_uuid = ?", run):
            self.notes.append(f"{what} is not brought: its run is deleted")
            return False
        if source is None:
            self.notes.append(
                f"{what} is not brought: its files at {version['source']!r} belong to no run or model here"
            )
        return source is not None

    def _places(self) -> dict[tuple[str, ...], str]:
        """Where the artifacts of the source's runs, models and traces are here, by the steps of their old locations."""
        queries = [
            ("SELECT artifact_uri, run_uuid FROM source.runs", "SELECT artifact_uri FROM main.runs WHERE run_uuid = ?"),
            (
                "SELECT artifact_location, model_id FROM source.logged_models",
                "SELECT artifact_location FROM main.logged_models WHERE model_id = ?",
            ),
        ]
        found = {}
        for old, new in queries:
            for location, name in self._all(old):
                here = self._all(new, name)
                if here and location and not _is_remote(location) and (steps := _steps(location)):
                    found[steps] = here[0][0]
        return found

    def _new_place(self, location: str | None, places: dict[tuple[str, ...], str]) -> str | None:
        """The location here; None for one that is no place of the record."""
        if not location or _is_remote(location):  # also models:/ID and runs:/ID, which hold everywhere
            return location
        steps = _steps(location)
        for end in range(len(steps), 0, -1):
            if home := places.get(steps[:end]):
                return "/".join([home, *map(quote, steps[end:])])
        return None

    def _write_aliases(self, version: sqlite3.Row, number: int) -> None:
        key = (version["workspace"], version["name"])
        ours = "SELECT version FROM main.registered_model_aliases WHERE workspace = ? AND name = ? AND alias = ?"
        theirs = "SELECT alias FROM source.registered_model_aliases WHERE workspace = ? AND name = ? AND version = ?"
        for (alias,) in self._all(theirs, *key, version["version"]):
            here = self._all(ours, *key, alias)
            if not here:
                this = f"workspace = {_quoted(key[0])} AND name = {_quoted(key[1])} AND alias = {_quoted(alias)}"
                _copy(self.db, "registered_model_aliases", this, version=str(number))
            elif here[0][0] != number:
                self.notes.append(
                    f"the alias {alias} of {key[1]} stays at version {here[0][0]}; the source has it at {number}"
                )


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"
