"""Make an MLflow record right at a new place: `mlruns.zip` or a folder in, the same record with true locations out.

MLflow stores absolute locations, so a record that was moved or unzipped shows its metrics but none of its artifacts.
`python fixed_paths.py mlruns.zip` rewrites the locations, in databases and in `meta.yaml` files, and nothing else.
It needs the standard library only and works copied alone beside any `mlruns`.
"""

import argparse
import json
import lzma
import os
import re
import shlex
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote

MARKER = "mlruns.json"  # in the record's folder: the root its locations were written at
DATABASE = "mlflow.db"
PATIENCE = 5  # seconds to wait for a database that another program is writing
PREFIX = ".mlruns-"  # of the folder that a zip is unpacked into, beside its last place
UNSOUND = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)
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
VERSION_KEYS = ("source", "storage_location")  # of a model version's meta.yaml
LOGGED = ("mlflow.loggedArtifacts", "mlflow.loggedImages", "mlflow.log-model.history")  # tags of runs with artifacts
PROMPT = "dummy-source"  # what MLflow writes as the source of a prompt, which has no files
SERVED = "mlflow-artifacts:/"  # before locations relative to what `mlflow server --artifacts-destination` is given
SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file, which SQLite would delete
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
    outside: list[str] = field(default_factory=list)  # locations that lead out of the record; never rewritten
    problems: list[str] = field(default_factory=list)  # whatever else a person should look at
    missing: list[str] = field(default_factory=list)  # ids of runs without an artifact folder here
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: all is right. 1: something is outside the record, missing though it was logged, or unreadable."""
        return 1 if self.problems or self.outside else 0

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
        if self.outside:
            lines += [f"OUTSIDE THE RECORD, left as they are: {len(self.outside)}"]
            lines += [*(f"  {place}" for place in self.outside), "If they belong to it, name the old root by --old."]
        if self.problems:
            lines += [f"PROBLEMS: {len(self.problems)}", *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines)

    def __str__(self) -> str:
        end = "Nothing was written (dry run)." if self.dry_run else f"Next: {next_command(self.root)}"
        return f"{self.summary}\n{end}"

    @property
    def json(self) -> str:
        values = vars(self) | {"root": str(self.root), "exit_code": self.exit_code}
        return json.dumps(values | ({} if self.dry_run else {"next": next_command(self.root)}), indent=1)


def next_command(root: Path) -> str:
    """The command that shows the record: this project's dashboard, or plain MLflow where this file stands alone."""
    quoted: Callable[[str], str] = (lambda text: f'"{text}"') if os.name == "nt" else shlex.quote
    _, databases = find_record(root)
    home = databases[0].parent if databases else root
    store = f"sqlite:///{databases[0].name}" if databases else "."
    allow = "" if databases else "MLFLOW_ALLOW_FILE_STORE=true "
    allow = f"set {allow[:-1]}&& " if allow and os.name == "nt" else allow
    if is_portable(root):
        served = "." if home == root else quoted(root.name)
        options = f"--backend-store-uri {store} --artifacts-destination {served}"
        return f"cd {quoted(str(home))} && {allow}mlflow server --workers 1 {options}"
    notebook = Path(__file__).resolve().parent.parent / "notebooks" / "mlflow_dashboard.py"
    if notebook.is_file():
        short = notebook.relative_to(Path.cwd()) if notebook.is_relative_to(Path.cwd()) else notebook
        return f"python {quoted(str(short))} {quoted(str(root))}"
    return f"cd {quoted(str(home))} && {allow}mlflow ui --backend-store-uri {store}"


def _marker(mlruns: Path) -> dict[str, object]:
    try:
        values = json.loads((Path(mlruns) / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_marker(mlruns: Path) -> str | None:
    """The root the record was written at, or None when the marker is absent or says nothing usable."""
    root = _marker(mlruns).get("root")
    steps = _steps(root) if isinstance(root, str) else None
    return root if steps and len(steps) > 1 else None


def is_portable(mlruns: Path) -> bool:
    """Whether `mlflow-artifacts:/` stands for this record's own folder, and not for a server's."""
    return _marker(mlruns).get("portable") is True


def write_marker(mlruns: Path, root: Path | str | None = None, portable: bool = False) -> None:
    """Note that the record's locations are written at its present place (or at `root`, where it is about to go)."""
    values = {"root": os.path.abspath(root or mlruns)} | ({"portable": True} if portable else {})
    _replace(Path(mlruns) / MARKER, json.dumps(values, indent=1).encode() + b"\n")


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
    near = next(_nearby(source), None)
    raise Refused(
        f"No MLflow record: {source} {there}. Give mlruns.zip, a folder mlruns with {DATABASE} or with "
        f"experiments (1/meta.yaml) inside, or the folder that holds mlruns.{f' Did you mean {near}?' if near else ''}"
    )


def _nearby(source: Path) -> Iterator[Path]:
    """Records in the folders above and below, and zips."""
    above = [path for path in source.parents if path.is_dir()]
    with suppress(OSError):
        below = _folders(source if source.is_dir() else above[0])[:100]
        inner = [path / "mlruns" for path in below]
        for folder in (*above[: 3 if source.exists() else 0], *below, *inner):
            if (folder / DATABASE).is_file() or (folder / MARKER).is_file() or _is_file_store(folder):
                yield folder
        yield from sorted((source if source.is_dir() else above[0]).glob("*mlruns*.zip"))


def _folders(parent: Path) -> list[Path]:
    """The folders inside, in order; a link counts as what it leads to."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(parent) as found:
        return [parent / name for name in sorted(entry.name for entry in found if entry.is_dir())]
    return []


def _databases(folder: Path) -> list[Path]:
    """`mlflow.db` first, then databases with other names that hold MLflow's tables."""
    found = []
    for path in sorted(folder.glob("*.db"), key=lambda path: (path.name != DATABASE, path.name)):
        if path.name == DATABASE:
            found.append(path)
        elif path.is_file() and _starts_as_sqlite(path):
            with closing(_connect(path)) as connection:
                found += [path] if {"experiments", "runs"} <= set(_tables(connection)) else []
    return found


def _starts_as_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"


def _connect(database: Path) -> sqlite3.Connection:
    """Read-write, because only then an interrupted write can be rolled back. Raises Refused for an unsafe one."""
    journal = database.with_name(database.name + "-journal")
    for path in (database, journal, database.with_name(database.name + "-wal")):
        if _leads_out(path, database.parent):
            raise Refused(f"{path} is a link out of the record. Copy the record with what its links lead to.")
    with suppress(FileNotFoundError):  # gone with the write of another process
        if journal.is_file():
            with journal.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
                if file.read() == SUPER_JOURNAL:
                    raise Refused(
                        f"{journal} names another file to delete, which MLflow's own never do. Take the record from the"
                        " zip again, or a fresh copy of it."
                    )
    return sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)


def _leads_out(path: Path, folder: Path) -> bool:
    return os.path.islink(path) and not path.resolve().is_relative_to(folder.resolve())


def _tables(connection: sqlite3.Connection) -> list[str]:
    try:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except sqlite3.DatabaseError:
        return []


def _is_file_store(folder: Path) -> bool:
    experiments = (path for parent in (folder, folder / ".trash") for path in _folders(parent) if path.name.isdigit())
    files = (path / "meta.yaml" for path in experiments)
    return any(re.search(rb"^(artifact_location|experiment_id):", f.read_bytes(), re.M) for f in files if f.is_file())


# --- locations -------------------------------------------------------------------------------------------------------


def _is_remote(location: str) -> bool:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", location)  # one letter is a Windows drive
    return location == PROMPT or (bool(scheme) and scheme[1].lower() != "file")


@lru_cache(2**17)
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

    def __init__(self, place: Path, root: Path, said: Iterable[str | None] = (), portable: bool = False) -> None:
        self.place = place  # where the files are now; a zip is repaired before it is put at its root
        self.root = root
        self.portable = portable  # whether each `mlflow-artifacts:/` stands for the record's folder
        self.homes = {_steps(str(path)) or (): path for path in (root, Path(os.path.realpath(root)))}
        self.olds = {steps for text in said if text and (steps := _steps(text))}
        self._folders: dict[tuple[str, ...], bool] = {}  # what `exists` found
        self._found: dict[str, tuple[Path, tuple[str, ...]] | None] = {}  # what `locate` found

    def learn(self, entries: list[_Entry], said: bool = False) -> None:
        """Find the old roots: of locations that name a run, model, trace or experiment which is here.

        Raises Refused where two of them prove different roots for one location, unless one was `said`.
        """
        names = {entry.name for entry in entries if entry.kind not in ("model versions", "workspaces")}
        local = [steps for e in entries if not _is_remote(e.location) and (steps := _steps(e.location))]
        proofs, before = {}, set(self.olds)
        for steps in dict.fromkeys(local):
            if (root := self._proof(steps)) is not None:
                proofs[steps] = root
                self.olds |= {root} - set(self.homes)
        torn = [(steps, root) for steps, root in proofs.items() if self._roots(steps)[0] != root]
        if torn and not said:
            steps, root = torn[0]
            at, *places = ("/".join(each).replace("//", "/") for each in (steps, root, self._roots(steps)[0]))
            raise Refused(f"{at} may have been written in {' or in '.join(places)}. Name the right one by --old.")
        self.olds = before if torn else self.olds
        self.olds |= {root for steps in local if not self._roots(steps) and (root := self._by_name(steps, names))}

    def _roots(self, steps: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Those above a location, the most specific first; between equals the present place."""
        return sorted((r for r in (*self.homes, *self.olds) if _below(steps, r) is not None), key=len, reverse=True)

    def _proof(self, steps: tuple[str, ...]) -> tuple[str, ...] | None:
        """The root below which the rest of a location is a folder here."""
        known = self._roots(steps)
        for root in known:
            if self.exists(_below(steps, root) or ()):
                return root
        ends = [i for i, step in enumerate(steps) if LONG_ID.fullmatch(step)]
        inside = max((len(root) for root in known if root in self.homes), default=0)
        for start in range(1 + inside, ends[-1] + 1 if ends else 0):  # the longest tail first
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
        """Whether there is such a folder here, deleted experiments included."""
        if steps not in self._folders:
            places = [os.path.join(base, *steps) for base in (self.place, self.place / ".trash")]
            strange = os.name == "nt" and any(set(step) & set('<>:"|?*\\') for step in steps)
            self._folders[steps] = not strange and any(map(os.path.isdir, places))
        return self._folders[steps]

    def locate(self, location: str) -> tuple[Path, tuple[str, ...]] | None:
        """The present place and the steps inside it, or None for a location outside the record."""
        if location not in self._found:
            self._found[location] = self._locate(location)
        return self._found[location]

    def _locate(self, location: str) -> tuple[Path, tuple[str, ...]] | None:
        if location.startswith(SERVED):
            steps = _steps(unquote(location[len(SERVED) :].lstrip("/")) or ".")
            known = steps is not None and steps[:1] != ("/",) and (self.portable or self.exists(steps))
            return (self.root, steps) if known else None
        steps = None if _is_remote(location) else _steps(location)
        roots = self._roots(steps) if steps else []
        return (self.homes.get(roots[0], self.root), _below(steps, roots[0]) or ()) if roots else None

    def new(self, location: str, portable: bool | None = None) -> str | None:
        """The location at the present place, or as `mlflow-artifacts:/` where `portable`; None: outside the record.

        Left as it is: one that is right, one on another server, and with None one that is `mlflow-artifacts:/`.
        """
        found = self.locate(location)
        if not found:
            return location if _is_remote(location) else None
        if location.startswith(SERVED) and portable is not False:
            return location
        if portable:
            return SERVED + quote("/".join(found[1]))
        uri = found[0].joinpath(*found[1]).as_uri()
        return location if f"file://{location}" == uri else uri

    def leads_out(self, steps: tuple[str, ...], seen: dict[tuple[str, ...], bool]) -> bool:
        """Whether a link on the way to a folder of the record leads out of it; `seen` remembers the way."""
        if steps not in seen:
            path = os.path.join(self.place, *steps)
            out = os.path.islink(path) and _leads_out(Path(path), self.place)
            seen[steps] = bool(steps) and (out or self.leads_out(steps[:-1], seen))
        return seen[steps]


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
    part.unlink(missing_ok=True)  # of an interrupted repair, or a link laid there
    with part.open("xb") as file:
        file.write(data)
    if path.exists():
        shutil.copymode(path, part)
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
    for kind, path, keys in _files_of(place):
        if _leads_out(path, place):
            raise Refused(f"{path} is a link out of the record. Copy the record with what its links lead to.")
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            continue
        if not keys:
            yield _Entry(kind, path.parts[-3], text.strip(), lambda new, path=path: files.update({path: new}))
            continue
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

            yield _Entry(kind, path.parts[-3 if kind == "model versions" else -2], value, write)


def _files_of(place: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """(kind, file, keys), no keys for a file that is nothing but a location; at fixed depths, because artifacts may
    hold a `meta.yaml` as well."""

    def folders(parent: Path) -> list[Path]:
        found = _folders(parent)
        out = [path for path in found if _leads_out(path, place)]
        for path in out:
            if (path / "meta.yaml").exists() or path.name in (".trash", "models"):
                raise Refused(f"{path} is a link out of the record. Copy the record with what its links lead to.")
        return [path for path in found if path not in out] if out else found

    experiments = [*folders(place), *folders(place / ".trash")]
    for experiment in (path for path in experiments if path.name.isdigit()):
        yield "experiments", experiment / "meta.yaml", ("artifact_location",)
        for folder in folders(experiment):
            if LONG_ID.fullmatch(folder.name):
                yield "runs", folder / "meta.yaml", ("artifact_uri",)
            elif folder.name == "models":
                models = [path for path in folders(folder) if path.name.startswith("m-")]
                yield from (("logged models", path / "meta.yaml", ("artifact_location",)) for path in models)
            elif folder.name == "traces":
                traces = [path / "tags" / tag for path in folders(folder) for tag in TRACE_TAGS]
                yield from (("traces", path, ()) for path in traces)
    for model in folders(place / "models"):
        versions = [path for path in folders(model) if path.name.startswith("version-")]
        yield from (("model versions", path / "meta.yaml", VERSION_KEYS) for path in versions)


def _open(database: Path, write: bool) -> sqlite3.Connection:
    """A connection inside a transaction."""
    connection = _connect(database)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        health = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        tables = set(_tables(connection))
        triggers = connection.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refusal(database, error) from error
    fault = "is damaged" if health != "ok" else "" if {"experiments", "runs"} <= tables else "is no MLflow database"
    if not fault and {table for (table,) in triggers} & {table for _, table, *_ in COLUMNS}:
        fault = "has triggers that MLflow does not write"
    if fault:
        connection.close()
        raise Refused(f"{database} {fault}. Take it from the zip again, or a fresh copy of the record.")
    return connection


def _refusal(database: Path, error: sqlite3.Error) -> Refused:
    if "locked" in str(error):
        return Refused(f"{database} is in use. Stop the dashboard or training that has it open, then try again.")
    if "full" in str(error):
        return Refused(f"No room on the disk of {database} for its copy. Free some, then try again.")
    if "readonly" in str(error) or "unable to open" in str(error):
        return Refused(f"{database} cannot be written. Copy the record to a folder of your own, then try again.")
    return Refused(f"{database} is damaged ({error}). Take it from the zip again, or a fresh copy of the record.")


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy through SQLite's backup, right even while another program writes."""
    part = target.with_name(target.name + ".part")
    for path in (part, part.with_name(part.name + "-journal")):  # of an interrupted copy, or links laid there
        path.unlink(missing_ok=True)
    with closing(_connect(source)) as here, closing(sqlite3.connect(part)) as there:
        here.backup(there)
        there.execute("PRAGMA journal_mode = DELETE")
    os.replace(part, target)


def _repair(
    place: Path, root: Path, databases: list[Path], old: str | None, dry_run: bool, portable: bool | None
) -> Report:
    """Repair the record whose files lie in `place` for a life at `root`."""
    report, files, logged = Report(root, dry_run), {}, set()
    marker, served = read_marker(place), is_portable(place)
    try:
        with ExitStack() as stack:
            opened = {path: stack.enter_context(closing(_open(path, write=not dry_run))) for path in databases}
            entries = [entry for path, connection in opened.items() for entry in _entries_of(connection, path)]
            entries += _entries_in(place, files, report.problems)
            logged |= {run for connection in opened.values() for run in _logged(connection)}
            places = _Map(place, root, (marker, old), served)
            places.learn(entries, said=old is not None)
            _check_artifacts(entries, places, logged, report)
            todo = _sort(entries, places, portable, report)
            if not dry_run:
                for entry, new in todo:
                    if entry.database is None:
                        entry.write(new)
                _check_writable({place, *(path.parent for path in (*databases, *files))})
                _back_up_and_update(todo, opened, report)
                if portable and not served:  # before the locations, so that an interrupted repair can be finished
                    write_marker(place, marker or root, portable=True)
                whole = _write(opened, files, report)
    except sqlite3.Error as error:
        raise _refusal(databases[0], error) from error
    stays = served if portable is None else portable
    if not dry_run and whole and (marker, is_portable(place)) != (os.path.abspath(root), stays):
        write_marker(place, root, stays)
    return report


def repair_copy(database: Path, place: Path) -> Report:
    """Make the locations right in a copy of the database of the record at `place`, of which nothing is written."""
    report = Report(place)
    try:
        with closing(_open(database, write=True)) as connection:
            entries = list(_entries_of(connection, database))
            places = _Map(place, place, (read_marker(place), None), is_portable(place))
            places.learn(entries, said=False)
            _check_artifacts(entries, places, _logged(connection), report)
            for entry, new in _sort(entries, places, False, report):
                entry.write(new)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _refusal(database, error) from error
    return report


def _logged(connection: sqlite3.Connection) -> set[str]:
    """The runs that say of themselves that they logged artifacts."""
    if "tags" not in _tables(connection):
        return set()
    return {run for (run,) in connection.execute(f"SELECT DISTINCT run_uuid FROM tags WHERE key IN {LOGGED}")}


def _sort(entries: list[_Entry], places: _Map, portable: bool | None, report: Report) -> list[tuple[_Entry, str]]:
    """Count every entry in the report; return those to change, each with its new location."""
    todo, seen = [], {}
    for entry in entries:
        new, found = places.new(entry.location, portable), places.locate(entry.location)
        elsewhere = entry.location.startswith(SERVED) and not found
        if elsewhere and portable:
            raise Refused(
                f"{entry.kind[:-1]} {entry.name!r} is on an MLflow server already ({entry.location}) and not here: "
                "a portable record could not tell the two apart."
            )
        if new is None or (found and places.leads_out(found[1], seen)):
            link = "" if new is None else ", through a link"
            report.outside.append(f"{entry.kind[:-1]} {entry.name!r}: {entry.location!r}{link}")
        elif new != entry.location:
            report.changed[entry.kind] += 1
            todo.append((entry, new))
        elif _is_remote(new) and not (places.portable and found):
            report.remote[entry.kind] += 1
        else:
            report.right[entry.kind] += 1
    return todo


def _check_writable(folders: set[Path]) -> None:
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise Refused(f"{folder} cannot be written. Copy the record to a folder of your own, then try again.")


def _back_up_and_update(todo: list[tuple[_Entry, str]], opened: dict[Path, sqlite3.Connection], report: Report) -> None:
    for path in opened:
        changes = [(entry, new) for entry, new in todo if entry.database == path]
        if changes:
            copy_database(path, path.with_name(path.name + ".bak"))
            report.notes.append(f"The database as it was before: {path.name}.bak")
        for entry, new in changes:
            entry.write(new)


def _write(opened: dict[Path, sqlite3.Connection], files: dict[Path, str], report: Report) -> bool:
    """Commit and replace; False when the disk failed after the first change."""
    for connection in opened.values():
        connection.execute("COMMIT")
    try:
        for path, text in files.items():
            _replace(path, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        report.problems.append(f"stopped half-way ({error}): cure that, then repair again")
        return False
    return True


def _check_artifacts(entries: list[_Entry], places: _Map, logged: set[str], report: Report) -> None:
    found = {
        entry.name: place[1] for entry in entries if entry.kind == "runs" and (place := places.locate(entry.location))
    }
    report.missing = sorted(run for run, steps in found.items() if not places.exists(steps))
    runs = {entry.name for entry in entries if entry.kind == "runs"}
    logged |= {run for run in report.missing for name in LOGGED if any(places.place.glob(f"*/{run}/tags/{name}"))}
    lost = [run for run in report.missing if run in logged]
    if lost:
        report.problems.append(f"artifacts that were logged are not here: {', '.join(lost)}")
    elif report.missing and len(report.missing) == len(runs):
        report.problems.append("no run has artifacts here: was the record copied whole?")


def fix_paths(
    source: Path | str,
    to: Path | str | None = None,
    old: str | None = None,
    dry_run: bool = False,
    portable: bool | None = None,
) -> Report:
    """Repair the record in `source`, a folder or a zip; a zip is unpacked into `to`, by default its own folder.

    `old` names the root the record was written at where neither its marker nor its files tell. `portable` True writes
    locations relative to the record (`mlflow-artifacts:/`, for `mlflow server --artifacts-destination`), False turns
    those that are folders here back, None leaves them. Raises Refused, with nothing changed, when there is no record,
    the place cannot work with MLflow, or database or zip are unsound. What is interrupted, a second repair finishes.
    """
    source = Path(source).expanduser()
    if old is not None and not _steps(old):
        raise Refused(f"--old {old!r} is no absolute path such as /kaggle/working/mlruns.")
    if source.is_file():
        return _fix_zip(source, Path(to).expanduser() if to else source.parent, old, dry_run, portable)
    if to is not None:
        raise Refused("--to goes with a zip. A folder is repaired where it is: move it first, then repair it.")
    _check_size(source)
    root, databases = find_record(source)
    _check_root(root)
    return _repair(root, root, databases, old, dry_run, portable)


def _check_size(source: Path) -> None:
    """Refuse what is more than a record: a whole drive, or a home."""
    real = Path(os.path.realpath(source))
    if real == Path(real.anchor) or real == Path(os.path.realpath(Path.home())):
        near = next((path for path in _nearby(real) if path != real), real / "mlruns")
        raise Refused(f"{source} is more than a record. Give the folder of the record alone, such as {near}.")


def _check_root(root: Path) -> None:
    if re.search(r"%[0-9A-Fa-f]{2}", str(root)):
        raise Refused(f"{root}: MLflow cannot read from a folder with '%' and two hex digits in its name. Rename it.")
    if not root.as_uri().startswith("file:///") or root.as_uri().startswith("file:////"):
        raise Refused(f"{root}: MLflow cannot read from a network share by its name. Use a local folder or a drive.")


# --- the zip ---------------------------------------------------------------------------------------------------------


def _fix_zip(source: Path, to: Path, old: str | None, dry_run: bool, portable: bool | None) -> Report:
    to = Path(os.path.abspath(to))
    root = to / "mlruns"
    _check_root(root)
    with _opened(source) as archive:
        members = _members(archive, source)
        if not dry_run:
            to.mkdir(parents=True, exist_ok=True)
            _check_writable({to})
            if _finish(to):
                return fix_paths(root, old=old, portable=portable)
            if (root.exists() and not _is_empty(root)) or (DATABASE in members and (to / DATABASE).exists()):
                raise Refused(
                    f"{root} is there already. Repair that folder itself, or unpack elsewhere by --to FOLDER."
                )
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=None if dry_run else to) as folder:
            _unpack(archive, members, Path(folder), source)
            place, databases = find_record(Path(folder))
            report = _repair(place, root, databases, old, dry_run, portable)
            if not dry_run:
                if root.exists():
                    root.rmdir()
                os.rename(place, root)
                _put_beside(Path(folder), to)
    return report


def _opened(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except UNSOUND as error:
        raise Refused(f"{source} is no sound zip ({error}). Download it again.") from error


def _finish(to: Path) -> bool:
    """Finish or remove what interrupted runs left in `to`; True when that made the record whole."""
    finished = False
    for left in sorted(to.glob(PREFIX + "*")):
        names = {path.name for path in left.iterdir()} if left.is_dir() and not left.is_symlink() else {"other"}
        if any(name not in ("mlruns", "left") and not name.startswith(DATABASE) for name in names):
            continue
        if DATABASE in names and "mlruns" not in names and (to / "mlruns").is_dir() and not (to / DATABASE).exists():
            _put_beside(left, to)
            finished = True
        removed = Path(tempfile.mkdtemp(prefix=PREFIX, dir=to))
        with suppress(OSError):  # renamed first: a run that still works on it fails then, and never ends with half
            os.rename(left, removed / "left")
        shutil.rmtree(removed, ignore_errors=True)
    return finished


def _put_beside(folder: Path, to: Path) -> None:
    """Databases that lay beside `mlruns` in the zip, with their backups; they go last, `_finish` counts on it."""
    for path in sorted(folder.glob(DATABASE + "*"), reverse=True):
        os.replace(path, to / path.name)


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


def _unpack(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path, source: Path) -> None:
    for name, info in members.items():
        path = folder / name
        (path if info.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
        if not info.is_dir():
            try:
                with archive.open(info) as packed, path.open("xb") as target:
                    shutil.copyfileobj(packed, target, 2**20)
            except UNSOUND as error:
                raise Refused(f"{source} is no sound zip ({name}: {error}). Download it again.") from error


# --- from a file store to SQLite -------------------------------------------------------------------------------------


def to_sqlite(
    source: Path | str,
    to: Path | str | None = None,
    old: str | None = None,
    dry_run: bool = False,
    portable: bool | None = None,
) -> Report:
    """Repair a record and, if it is a file store, give it a database: `mlflow.db` in the record's folder.

    MLflow reads the database from then on, where it is; artifacts stay where they are, and so do the files that were
    the store. Arguments as of `fix_paths`. Needs MLflow; raises Refused, with nothing changed but a zip unpacked, when
    `mlflow migrate-filestore` fails or loses anything.
    """
    zipped = Path(source).expanduser().is_file()
    report = fix_paths(source, to, old, dry_run or not zipped, portable)
    databases = find_record(report.root)[1] if report.root.is_dir() else []
    if dry_run:
        report.notes += [] if databases else [f"{DATABASE} would be made from the files."]
        return report
    if not databases:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "mlruns"
            counts = _copy_metadata(report.root, copy)
            _migrate(Path(folder), counts, report.root)
            copy_database(Path(folder) / DATABASE, report.root / DATABASE)
    report = fix_paths(report.root, old=old, portable=portable)
    made = ", ".join(f"{count} {table}" for table, count in counts.items()) if not databases else ""
    kept = "They are still there, and are counted and repaired as well."
    report.notes.append(f"{DATABASE} was made from files: {made}. {kept}" if made else "It is in SQLite already.")
    return report


def _copy_metadata(root: Path, copy: Path) -> Counter[str]:
    """Copy a file store without artifacts and links, each metric once; return what a database of it must hold."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        here = Path(folder)
        if here == root:
            return [name for name in names if not (name.isdigit() or name in ("models", ".trash"))]
        holder = "meta.yaml" in names or here.parent.name == "traces"
        return [name for name in names if (holder and name == "artifacts") or (here / name).is_symlink()]

    shutil.copytree(root, copy, ignore=left_out)
    counts: Counter[str] = Counter()
    tables = {"logged models": "logged_models", "model versions": "model_versions"}
    for kind, path, _ in _files_of(copy):
        if kind == "traces" or not path.is_file():
            continue
        counts[tables.get(kind, kind)] += 1
        if kind in ("runs", "logged models"):  # MLflow writes a run's metrics twice when a model was logged in it
            for file in [file for file in (path.parent / "metrics").rglob("*") if file.is_file()]:
                lines = file.read_text(encoding="utf-8").splitlines()
                once = dict.fromkeys(tuple(line.split()[: 3 if kind == "runs" else None]) for line in lines)
                file.write_text("".join(" ".join(line) + "\n" for line in once), encoding="utf-8")
                counts["metrics"] += len(once) * (kind == "runs")
        for table in ("params", "tags") if kind == "runs" else ():
            counts[table] += sum(file.is_file() for file in (path.parent / table).rglob("*"))
    return counts


def _migrate(folder: Path, counts: Counter[str], root: Path) -> None:
    """Let MLflow make the database of the copy in `folder`. Raises Refused unless it holds as much as the files."""
    command = [sys.executable, "-m", "mlflow", "migrate-filestore", "--source", str(folder)]
    command += ["--target", f"sqlite:///{folder / DATABASE}", "--no-progress"]
    environment = os.environ | {"PYTHONUTF8": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        cause = next((line for line in reversed(done.stderr.splitlines()) if "Error" in line or "mlflow" in line), "")
        raise Refused(
            f"{root} stays a file store: mlflow migrate-filestore failed ({cause}). Is MLflow 3.17 installed?"
        )
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        made = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in counts}
        if lost := {table: (counts[table], made[table]) for table in counts if made[table] != counts[table]}:
            raise Refused(f"{root} stays a file store: in files and in the database differ {lost}.")
        for trash in _folders(root / ".trash"):  # a database leaves deleted experiments where they are
            query = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
            (location,) = connection.execute(query, (trash.name,)).fetchone() or ("",)
            if location.endswith(f"/{trash.name}"):
                moved = f"{location[: -len(trash.name)]}.trash/{trash.name}"
                for _, table, column, _, condition in COLUMNS:
                    update = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE ({condition})"
                    update += f" AND ({column} = ? OR substr({column}, 1, ?) = ?)"
                    below = location + "/"
                    connection.execute(update, (moved, len(location) + 1, location, len(below), below))


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: all is right. 1: done, with problems listed. 2: refused, nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="mlruns.zip, a folder mlruns, or the folder that holds it")
    parser.add_argument("--to", help="folder to unpack a zip into (default: the folder of the zip)")
    parser.add_argument("--old", metavar="ROOT", help="the folder mlruns as it was called where it was written")
    parser.add_argument("--dry-run", action="store_true", help="report only, write nothing")
    served = parser.add_mutually_exclusive_group()
    served.add_argument("--portable", action="store_true", default=None, help="mlflow-artifacts:/, for a server")
    served.add_argument("--local", action="store_false", dest="portable", help="undo --portable")
    parser.add_argument("--to-sqlite", action="store_true", help="give a file store a database (needs MLflow)")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        repair = to_sqlite if given.to_sqlite else fix_paths
        report = repair(given.source, given.to, given.old, given.dry_run, given.portable)
    except (Refused, OSError) as error:
        if given.json:
            print(json.dumps({"refused": str(error), "exit_code": 2}, indent=1))
        else:
            print(f"Refused: {error}", file=sys.stderr)
        return 2
    print(report.json if given.json else report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
