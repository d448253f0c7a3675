"""Make an MLflow record right at a new place: `mlruns.zip` or a folder in, the same record with true locations out.

MLflow stores absolute locations, so a record that was moved or unzipped shows its metrics but none of its artifacts.
`python fixed_paths.py mlruns.zip` rewrites the locations, in databases and in `meta.yaml` files, and nothing else.
It needs the standard library only and works copied alone beside any `mlruns`.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import sqlite3
import stat
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

MARKER = "mlruns.json"  # in the record's folder: the root its locations were written at
DATABASE = "mlflow.db"
PATIENCE = 5  # seconds to wait for a database that another program is writing
MOST_MEMBERS, MOST_BYTES, MOST_RATIO = 200_000, 50 * 2**30, 200  # of a zip; the ratio counts from 256 MiB on

TRACE_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
# (kind, table, column, id column, condition): every place where MLflow's database looks an artifact up
COLUMNS = [
    ("experiments", "experiments", "artifact_location", "experiment_id", "1"),
    ("runs", "runs", "artifact_uri", "run_uuid", "1"),
    ("logged models", "logged_models", "artifact_location", "model_id", "1"),
    ("model versions", "model_versions", "source", "name", "1"),
    ("model versions", "model_versions", "storage_location", "name", "1"),
    ("traces", "trace_tags", "value", "request_id", f"key IN {TRACE_TAGS}"),
    ("workspaces", "workspaces", "default_artifact_root", "name", "1"),
    ("workspaces", "workspaces", "trace_archival_location", "name", "1"),
]
# (kind, pattern, keys): the same places of a file store; fixed depths, because artifacts may hold a meta.yaml as well
EXPERIMENTS = ("*", ".trash/*")
META_FILES = [
    ("experiments", "{}/meta.yaml", ("artifact_location",)),
    ("runs", "{}/*/meta.yaml", ("artifact_uri",)),
    ("logged models", "{}/models/m-*/meta.yaml", ("artifact_location",)),
]
VERSION_FILES = ("model versions", "models/*/version-*/meta.yaml", ("source", "storage_location"))
LOGGED = ("mlflow.loggedArtifacts", "mlflow.loggedImages", "mlflow.log-model.history")  # tags of runs with artifacts
PROMPT = "dummy-source"  # what MLflow writes as the source of a prompt, which has no files
LONG_ID = re.compile(r"(?:m-|tr-)?[0-9a-f]{32}|[0-9]{15,}")  # of a run, model, trace, or a file store's experiment


class Refused(Exception):
    """The record cannot be repaired as it is, and nothing was changed; the message says what would be right."""


@dataclass
class Report:
    """What a repair did: for each kind of entry the number of locations changed, right already, and remote."""

    root: Path  # the record's folder
    dry_run: bool = False
    changed: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    remote: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)  # those of the problems that are locations outside of the record
    missing: list[str] = field(default_factory=list)  # ids of runs without an artifact folder here
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0

    @property
    def summary(self) -> str:
        kinds = dict.fromkeys(kind for kind, *_ in COLUMNS)
        seen = [kind for kind in kinds if self.changed[kind] + self.right[kind] + self.remote[kind]]
        lines = [f"Record: {self.root}"]
        lines += [f"{'locations of':<16}{'to change' if self.dry_run else 'changed':>10}{'right':>8}{'remote':>8}"]
        lines += [f"{k:<16}{self.changed[k]:>10}{self.right[k]:>8}{self.remote[k]:>8}" for k in seen]
        lines += self.notes
        if self.missing:
            lines += [f"NO ARTIFACTS HERE for {len(self.missing)} run(s), which logged none or left them elsewhere:"]
            lines += [f"  {run}" for run in self.missing]
        if self.problems:
            lines += [f"PROBLEMS: {len(self.problems)}", *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines)

    def __str__(self) -> str:
        end = "Nothing was written (dry run)." if self.dry_run else f"Next: {next_command(self.root)}"
        return f"{self.summary}\n{end}"


def next_command(root: Path) -> str:
    """The command that shows the record: this project's dashboard, or plain MLflow where this file stands alone."""
    quote: Callable[[str], str] = (lambda text: f'"{text}"') if os.name == "nt" else shlex.quote
    notebook = Path(__file__).resolve().parent.parent / "notebooks" / "mlflow_dashboard.py"
    if notebook.is_file():
        short = notebook.relative_to(Path.cwd()) if notebook.is_relative_to(Path.cwd()) else notebook
        return f"python {quote(str(short))} {quote(str(root))}"
    _, databases = find_record(root)
    if databases:
        return f"cd {quote(str(databases[0].parent))} && mlflow ui --backend-store-uri sqlite:///{databases[0].name}"
    variable = "set MLFLOW_ALLOW_FILE_STORE=true&&" if os.name == "nt" else "MLFLOW_ALLOW_FILE_STORE=true"
    return f"{variable} mlflow ui --backend-store-uri {quote(root.as_uri())}"


def read_marker(mlruns: Path) -> str | None:
    """The root the record was written at, or None when the marker is absent or says nothing usable."""
    try:
        root = json.loads((Path(mlruns) / MARKER).read_text(encoding="utf-8"))["root"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    steps = _steps(root) if isinstance(root, str) else None
    return root if steps and len(steps) > 1 else None


def write_marker(mlruns: Path, root: Path | None = None) -> None:
    """Note that the record's locations are written at its present place (or at `root`, where it is about to go)."""
    place = os.path.abspath(root or mlruns)
    _replace(Path(mlruns) / MARKER, json.dumps({"root": place}, indent=1).encode() + b"\n")


def find_record(source: Path) -> tuple[Path, list[Path]]:
    """The record's folder `mlruns` and its databases, for `mlruns` itself or its parent. Refused without one.

    MLflow's own default puts `mlflow.db` beside `mlruns`; a file store has no database.
    """
    source, inner = Path(os.path.abspath(source)), Path(os.path.abspath(source)) / "mlruns"
    beside = [p for p in (source / DATABASE,) if p.is_file()]
    own = _databases(source)
    whole = (source / MARKER).is_file() or (source / "artifacts").is_dir() or not inner.is_dir()
    if _is_file_store(source) or (own and whole):
        return source, own
    if inner.is_dir() and (_databases(inner) or _is_file_store(inner) or beside):
        return inner, _databases(inner) + beside
    outer = source.parent / DATABASE
    if source.name == "mlruns" and source.is_dir() and outer.is_file():
        return source, [outer]
    there = "is no folder" if not source.is_dir() else "holds none"
    raise Refused(
        f"No MLflow record: {source} {there}. Give mlruns.zip, a folder mlruns with {DATABASE} or with "
        "experiments (1/meta.yaml) inside, or the folder that holds mlruns."
    )


def _databases(folder: Path) -> list[Path]:
    """`mlflow.db` first, then databases with other names that hold MLflow's tables."""
    found = []
    for path in sorted(folder.glob("*.db"), key=lambda path: (path.name != DATABASE, path.name)):
        if path.name == DATABASE:
            found.append(path)
        elif path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
                found += [path] if {"experiments", "runs"} <= set(_tables(connection)) else []
    return found


def _tables(connection: sqlite3.Connection) -> list[str]:
    try:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except sqlite3.DatabaseError:
        return []


def _is_file_store(folder: Path) -> bool:
    files = (path for pattern in EXPERIMENTS for path in folder.glob(f"{pattern}/meta.yaml"))
    return any(re.search(rb"^(artifact_location|experiment_id):", path.read_bytes(), re.M) for path in files)


# --- locations -------------------------------------------------------------------------------------------------------


def _is_remote(location: str) -> bool:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", location)  # one letter is a Windows drive
    return location == PROMPT or (bool(scheme) and scheme[1].lower() != "file")


def _steps(location: str) -> tuple[str, ...] | None:
    """`file:///C:/a%20b` or `C:\\a b` → ('c:', 'a b'); `/a/c` → ('/', 'a', 'c'); None for what is no local path."""
    text = location
    if text[:5].lower() == "file:":
        text = unquote(text[5:], errors="surrogateescape")
        text = re.sub(r"^//(localhost(?=/))?", "", text, flags=re.I)
        text = re.sub(r"^/(?=[A-Za-z]:([\\/]|$))", "", text)
        if location[5:7] == "//" and not re.match(r"/|[A-Za-z]:[\\/]", text):
            return None  # file://server/share
    if re.match(r"//|\\\\", text) or "\0" in text or not text:
        return None
    if drive := re.match(r"([A-Za-z]:)[\\/]", text):
        anchor, steps = (drive[1].lower(),), re.split(r"[\\/]+", text[3:])
    else:
        anchor, steps = ("/",) * text.startswith("/"), text.split("/")
    steps = [step for step in steps if step not in ("", ".")]
    return None if ".." in steps else (*anchor, *steps)


def _below(steps: tuple[str, ...], root: tuple[str, ...]) -> tuple[str, ...] | None:
    """The steps from `root` down, or None when it does not lie there; Windows does not tell cases apart."""
    head = steps[: len(root)]
    drive = root[:1] and root[0].endswith(":")
    same = head == root or (drive and [s.casefold() for s in head] == [s.casefold() for s in root])
    return steps[len(root) :] if same else None


@dataclass
class _Entry:
    kind: str
    name: str
    location: str
    write: Callable[[str], None]
    database: Path | None = None


class _Map:
    """Old locations to new ones: from the places the record was at, said or proven, to the place where it is."""

    def __init__(self, place: Path, root: Path, said: list[str]) -> None:
        self.place = place  # where the files are now; a zip is repaired before it is put at its root
        self.root = root
        self.homes = {_steps(str(path)) or (): path for path in (root, Path(os.path.realpath(root)))}
        self.olds = {steps for text in said if (steps := _steps(text))}

    def learn(self, entries: list[_Entry]) -> None:
        """Find the old roots: of locations that name a run, model, trace or experiment which is here."""
        names = {entry.name for entry in entries if entry.kind not in ("model versions", "workspaces")}
        local = [steps for e in entries if not _is_remote(e.location) and (steps := _steps(e.location))]
        away = [steps for steps in local if all(_below(steps, home) is None for home in self.homes)]
        self.olds |= {root for steps in away if (root := self._by_folder(steps))}
        self.olds |= {root for steps in away if not self._split(steps) and (root := self._by_name(steps, names))}

    def _by_folder(self, steps: tuple[str, ...]) -> tuple[str, ...] | None:
        ends = [i for i, step in enumerate(steps) if LONG_ID.fullmatch(step)]
        for start in range(1, ends[-1] + 1 if ends else 0):  # the longest tail first
            if any(self.exists(steps[start : end + 1]) for end in ends if end >= start):
                return steps[:start]
        return None

    def _by_name(self, steps: tuple[str, ...], names: set[str]) -> tuple[str, ...] | None:
        """An entry of the database that has no folder: its root is the `mlruns` above its id."""
        for i, step in enumerate(steps):
            tops = [j for j in range(i) if steps[j] == "mlruns"]
            if step in names and tops and (LONG_ID.fullmatch(step) or tops[-1] == i - 1):
                return steps[: tops[-1] + 1]
        return None

    def exists(self, steps: tuple[str, ...]) -> bool:
        if os.name == "nt" and any(set(step) & set('<>:"|?*\\') for step in steps):
            return False
        return any(base.joinpath(*steps).is_dir() for base in (self.place, self.place / ".trash"))

    def _split(self, steps: tuple[str, ...]) -> tuple[Path, tuple[str, ...]] | None:
        """The present place and the steps inside it, or None for a location outside the record."""
        roots = [root for root in (*self.homes, *self.olds) if _below(steps, root) is not None]
        if not roots:
            return None
        root = max(roots, key=len)  # the most specific; between equals the present place
        return self.homes.get(root, self.root), _below(steps, root) or ()

    def inside(self, location: str) -> tuple[str, ...] | None:
        """The steps of a location inside the record, or None when it lies elsewhere."""
        steps = None if _is_remote(location) else _steps(location)
        split = self._split(steps) if steps else None
        return split and split[1]

    def new(self, location: str) -> str | None:
        """The location at the present place; unchanged where it is right; None where it lies outside the record."""
        steps = _steps(location)
        split = self._split(steps) if steps else None
        if not split:
            return None
        uri = split[0].joinpath(*split[1]).as_uri()
        return location if f"file://{location}" == uri else uri


# --- meta.yaml -------------------------------------------------------------------------------------------------------

_ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b"}
_ESCAPES |= {"N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}


def _fields(text: str, keys: tuple[str, ...]) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, key, value) of the top-level scalars named `keys`; long values go on in indented lines."""
    pattern = rf"^({'|'.join(keys)}):(?=\s)((?:[^\n]*)(?:\n(?:[ \t][^\n]*|\r?(?=\n)))*)"
    for match in re.finditer(pattern, text, re.M):
        raw = match[2].rstrip()
        value = _scalar(raw.strip())
        if value:
            yield match.start(2), match.start(2) + len(raw), match[1], value


def _scalar(raw: str) -> str:
    """The text of a YAML scalar as MLflow's dumper writes it; raises ValueError for a form it never writes."""

    def fold(text: str) -> str:
        return re.sub(r"[ \t]*\r?\n((?:[ \t]*\r?\n)*)[ \t]*", lambda m: "\n" * m[1].count("\n") or " ", text)

    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] in "xuU" and code[1:] else _ESCAPES.get(code, code)

    if raw in ("", "~") or raw.lower() == "null":
        return ""
    if single := re.fullmatch(r"'((?:[^']|'')*)'(?:\s+#.*)?", raw):
        return fold(single[1]).replace("''", "'")
    if double := re.fullmatch(r'"((?:[^"\\]|\\.)*)"(?:\s+#.*)?', raw, re.S):
        joined = fold(re.sub(r"(?<!\\)((?:\\\\)*)\\\r?\n[ \t]*", r"\1", double[1]))
        code = r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)"
        return re.sub(code, unescape, joined, flags=re.S)
    if raw[0] in "'\"|>&*!%@`{[#":
        raise ValueError(f"{raw[:60]!r} is no plain or quoted text")
    return fold(re.sub(r"\s#.*", "", raw))


def _quoted(value: str) -> str:
    plain = re.fullmatch(r"file:///(?:[A-Za-z]:/)?[A-Za-z0-9_.~%/-]*", value)
    return value if plain else "'" + value.replace("'", "''") + "'"


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


# --- the repair ------------------------------------------------------------------------------------------------------


def _entries_of(connection: sqlite3.Connection, database: Path) -> Iterator[_Entry]:
    tables = set(_tables(connection))
    for kind, table, column, key, condition in COLUMNS:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} if table in tables else set()
        if column not in columns:
            continue
        name = key if key in columns else "rowid"
        query = f"SELECT rowid, {name}, {column} FROM {table} WHERE {condition} AND typeof({column}) = 'text'"
        for row, name, location in connection.execute(query).fetchall():

            def write(new: str, row: int = row, sql: str = f"UPDATE {table} SET {column} = ? WHERE rowid = ?") -> None:
                connection.execute(sql, (new, row))

            if location.strip():
                yield _Entry(kind, str(name), location, write, database)


def _entries_in(place: Path, files: dict[Path, str], problems: list[str]) -> Iterator[_Entry]:
    """Entries of a file store; `files` takes the new text of each file, to be written at the end."""
    real = place.resolve()
    patterns = [(kind, form.format(exp), keys) for exp in EXPERIMENTS for kind, form, keys in META_FILES]
    for kind, pattern, keys in [*patterns, VERSION_FILES]:
        for path in sorted(place.glob(pattern)):
            parent = path.relative_to(place).parts[:-1]
            if not path.resolve().is_relative_to(real) or (kind == "runs" and not LONG_ID.fullmatch(parent[-1])):
                continue
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            try:
                fields = list(_fields(text, keys))
            except ValueError as error:
                problems.append(f"{path.relative_to(place)}: {error}; its location is left alone")
                continue
            for *_, key, value in fields:

                def write(new: str, path: Path = path, text: str = text, key: str = key) -> None:
                    now = files.get(path, text)
                    for start, end, name, _ in reversed(list(_fields(now, (key,)))):
                        now = f"{now[:start]} {_quoted(new)}{now[end:]}" if name == key else now
                    files[path] = now

                yield _Entry(kind, parent[-2] if kind == "model versions" else parent[-1], value, write)
    for exp in EXPERIMENTS:
        for tag in (tag for name in TRACE_TAGS for tag in sorted(place.glob(f"{exp}/traces/*/tags/{name}"))):
            text = tag.read_bytes().decode("utf-8", "surrogateescape")
            yield _Entry("traces", tag.parts[-3], text.strip(), lambda new, tag=tag: files.update({tag: new}))


def _open(database: Path, write: bool) -> sqlite3.Connection:
    """A connection inside a transaction, read-write because only then an interrupted write can be rolled back."""
    connection = sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        health = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refusal(database, error) from error
    if health != "ok" or not {"experiments", "runs"} <= set(_tables(connection)):
        connection.close()
        what = "is damaged" if health != "ok" else "is no MLflow database"
        raise Refused(f"{database} {what}. Take a fresh copy of the record.")
    return connection


def _refusal(database: Path, error: sqlite3.DatabaseError) -> Refused:
    if "locked" in str(error):
        return Refused(f"{database} is in use. Stop the dashboard or training that has it open, then try again.")
    if "readonly" in str(error) or "unable to open" in str(error):
        return Refused(f"{database} cannot be written. Copy the record to a folder of your own, then try again.")
    return Refused(f"{database} is damaged ({error}). Take a fresh copy of the record.")


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy through SQLite's backup, right even while another program writes."""
    part = target.with_name(target.name + ".part")
    with closing(sqlite3.connect(source, timeout=PATIENCE)) as here, closing(sqlite3.connect(part)) as there:
        here.backup(there)
        there.execute("PRAGMA journal_mode = DELETE")
    os.replace(part, target)


def _repair(place: Path, root: Path, databases: list[Path], old: str | None, dry_run: bool) -> Report:
    """Repair the record whose files lie in `place` for a life at `root`."""
    report, files, logged = Report(root, dry_run), {}, set()
    marker = read_marker(place)
    with ExitStack() as stack:
        opened = {path: stack.enter_context(closing(_open(path, write=not dry_run))) for path in databases}
        entries = [entry for path, connection in opened.items() for entry in _entries_of(connection, path)]
        entries += _entries_in(place, files, report.problems)
        for connection in opened.values():
            if "tags" in _tables(connection):
                rows = connection.execute(f"SELECT DISTINCT run_uuid FROM tags WHERE key IN {LOGGED}")
                logged |= {run for (run,) in rows}
        logged |= {tag.parts[-3] for name in LOGGED for tag in place.glob(f"*/*/tags/{name}")}
        places = _Map(place, root, [text for text in (marker, old) if text])
        places.learn(entries)
        todo = _sort(entries, places, report)
        if not dry_run:
            _write(todo, opened, files, report)
    _check_artifacts(entries, places, logged, report)
    if not dry_run and marker != os.path.abspath(root):
        write_marker(place, root)
    return report


def _sort(entries: list[_Entry], places: _Map, report: Report) -> list[tuple[_Entry, str]]:
    """Count every entry in the report; return those to change, each with its new location."""
    todo = []
    for entry in entries:
        new = entry.location if _is_remote(entry.location) else places.new(entry.location)
        if new is None:
            what = f"{entry.kind[:-1]} {entry.name!r}: {entry.location!r} lies outside the record"
            report.outside.append(f"{what}; if it belongs to it, name the old root by --old")
            report.problems.append(report.outside[-1])
        elif _is_remote(new):
            report.remote[entry.kind] += 1
        elif new == entry.location:
            report.right[entry.kind] += 1
        else:
            report.changed[entry.kind] += 1
            todo.append((entry, new))
    return todo


def _write(
    todo: list[tuple[_Entry, str]], opened: dict[Path, sqlite3.Connection], files: dict[Path, str], report: Report
) -> None:
    for path, connection in opened.items():
        try:
            changes = [(entry, new) for entry, new in todo if entry.database == path]
            if changes:
                copy_database(path, path.with_name(path.name + ".bak"))
                report.notes.append(f"The database as it was before: {path.name}.bak")
            for entry, new in changes:
                entry.write(new)
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise _refusal(path, error) from error
    for entry, new in todo:
        if entry.database is None:
            entry.write(new)
    for path, text in files.items():
        _replace(path, text.encode("utf-8", "surrogateescape"))


def _check_artifacts(entries: list[_Entry], places: _Map, logged: set[str], report: Report) -> None:
    runs = {entry.name: places.inside(entry.location) for entry in entries if entry.kind == "runs"}
    report.missing = sorted(run for run, steps in runs.items() if steps is not None and not places.exists(steps))
    lost = [run for run in report.missing if run in logged]
    if lost:
        report.problems.append(f"artifacts that were logged are not here: {', '.join(lost)}")
    elif report.missing and len(report.missing) == len(runs):
        report.problems.append("no run has artifacts here: was the record copied whole?")


def fix_paths(
    source: Path | str, to: Path | str | None = None, old: str | None = None, dry_run: bool = False
) -> Report:
    """Repair the record in `source`, a folder or a zip; a zip is unpacked into `to`, by default its own folder.

    `old` names the root the record was written at where neither its marker nor its files tell. Raises Refused, with
    nothing changed, when there is no record, the place cannot work with MLflow, or database or zip are unsound.
    """
    source = Path(source).expanduser()
    if old is not None and not _steps(old):
        raise Refused(f"--old {old!r} is no absolute path such as /kaggle/working/mlruns.")
    if source.is_file():
        return _fix_zip(source, Path(to).expanduser() if to else source.parent, old, dry_run)
    if to is not None:
        raise Refused("--to goes with a zip. A folder is repaired where it is: move it first, then repair it.")
    root, databases = find_record(source)
    _check_root(root)
    return _repair(root, root, databases, old, dry_run)


def _check_root(root: Path) -> None:
    if re.search(r"%[0-9A-Fa-f]{2}", str(root)):
        raise Refused(f"{root}: MLflow cannot read from a folder with '%' and two hex digits in its name. Rename it.")
    if not root.as_uri().startswith("file:///") or root.as_uri().startswith("file:////"):
        raise Refused(f"{root}: MLflow cannot read from a network share by its name. Use a local folder or a drive.")


# --- the zip ---------------------------------------------------------------------------------------------------------


def _fix_zip(source: Path, to: Path, old: str | None, dry_run: bool) -> Report:
    to = Path(os.path.abspath(to))
    root = to / "mlruns"
    _check_root(root)
    try:
        with zipfile.ZipFile(source) as archive:
            members = _members(archive, source)
            beside = DATABASE in members
            if not dry_run and ((root.exists() and not _is_empty(root)) or (beside and (to / DATABASE).exists())):
                raise Refused(
                    f"{root} is there already. Repair that folder itself, or unpack elsewhere by --to FOLDER."
                )
            if not dry_run:
                to.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".mlruns-", dir=None if dry_run else to) as folder:
                _unpack(archive, members, Path(folder))
                place, databases = find_record(Path(folder) / "mlruns")
                report = _repair(place, root, databases, old, dry_run)
                if not dry_run:
                    if root.exists():
                        root.rmdir()
                    os.rename(place, root)
                    for path in Path(folder).glob(DATABASE + "*"):
                        os.rename(path, to / path.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Refused(f"{source} is no sound zip ({error}). Download it again.") from error
    return report


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _members(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """{path to unpack at: member}. Raises Refused when any member could land elsewhere or overwrite another."""
    infos = archive.infolist()
    total, size = sum(info.file_size for info in infos), max(1, source.stat().st_size)
    if len(infos) > MOST_MEMBERS or total > MOST_BYTES or (total > 2**28 and total / size > MOST_RATIO):
        raise Refused(f"{source} would unpack to {len(infos)} files, {total / 2**30:.1f} GiB: too much for a record.")
    folded = [unicodedata.normalize("NFC", info.orig_filename.rstrip("/")).casefold() for info in infos]
    counts = Counter(folded)
    parents = {name[: slash.start()] for name in folded for slash in re.finditer("/", name)}
    for info, name in zip(infos, folded, strict=True):
        twice = counts[name] > 1 or (name in parents and not info.is_dir())
        fault = _fault(info) or ("names a file twice (upper and lower case count as one)" if twice else "")
        if fault:
            what = f"its member {info.orig_filename!r} {fault}"
            raise Refused(f"{source} is not to be trusted: {what}. Nothing was unpacked.")
    names = {info.orig_filename: info for info in infos}
    if any(name.startswith("mlruns/") for name in names):
        beside = DATABASE in names and f"mlruns/{DATABASE}" not in names
        return {n: i for n, i in names.items() if n.startswith("mlruns/") or (beside and n == DATABASE)}
    if DATABASE in names or any(re.fullmatch(r"(\.trash/)?[^/]+/meta\.yaml", name) for name in names):
        return {f"mlruns/{name}": info for name, info in names.items()}
    raise Refused(f"{source} holds no MLflow record: neither mlruns/ nor {DATABASE} nor experiments with meta.yaml.")


def _fault(info: zipfile.ZipInfo) -> str:
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    steps = name.rstrip("/").split("/")
    if not name or "\0" in name or "\\" in name or name.startswith("/") or re.match("[A-Za-z]:", name):
        return "is no plain relative path"
    if any(step in ("", ".", "..") for step in steps):
        return "leaves its folder"
    if os.name == "nt" and any(set(step) & set('<>:"|?*') or step[-1] in ". " for step in steps):
        return "has a name that Windows cannot hold"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if info.flag_bits & 0x41 else ""


def _unpack(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    for name, info in members.items():
        path = folder / name
        (path if info.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
        if not info.is_dir():
            with archive.open(info) as source, path.open("xb") as target:
                shutil.copyfileobj(source, target, 2**20)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: all is right. 1: done, with problems listed. 2: refused, nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="mlruns.zip, a folder mlruns, or the folder that holds it")
    parser.add_argument("--to", help="folder to unpack a zip into (default: the folder of the zip)")
    parser.add_argument("--old", metavar="ROOT", help="the folder mlruns as it was called where it was written")
    parser.add_argument("--dry-run", action="store_true", help="report only, write nothing")
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        report = fix_paths(given.source, given.to, given.old, given.dry_run)
    except (Refused, OSError) as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 2
    print(report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
