"""Pack a record for the way home: the folder `mlruns` in, a consistent `mlruns.zip` beside it out.

A plain copy of a database that another process writes is often corrupt; this one goes through SQLite's backup.
"""

import argparse
import errno
import os
import shutil
import sqlite3
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # as a script, only this file's own folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlruns_tools.fixed_paths import (
    DATABASE,
    MARKER,
    MOST_BYTES,
    WORKING,
    Record,
    Refused,
    as_command,
    fix_paths,
    is_inside,
    is_part,
    look,
    made_whole,
    read_marker,
    shown,
    some,
    told,
    walk,
    write_marker,
)
from mlruns_tools.schema import copy_database
from mlruns_tools.transfer import Transfer, make_empty, open_source

STORED = {
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".gif",
    ".zip",
    ".gz",
    ".xz",
    ".bz2",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".npz",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Packed:
    """A zip that was written."""

    path: Path
    runs: int = 0
    files: int = 0  # artifacts and databases
    size: int = 0  # bytes of these, as they are
    links: list[str] = field(default_factory=list)  # left out: they lead out of the record, or are no files
    others: list[str] = field(default_factory=list)  # left out: no part of a record

    def __str__(self) -> str:
        size = self.path.stat().st_size / 1e6
        lines = [f"{self.path}  ({size:.1f} MB: {self.runs} run(s), {self.files} files)"]
        lines += [f"left out, {link}" for link in self.links]
        lines += [f"left out, {len(self.others)} file(s) of no record: {some(self.others)}"] * bool(self.others)
        return "\n".join(map(shown, lines))


def pack(mlruns: Path, target: Path | None = None, runs: Sequence[str] | None = None) -> Packed:
    """Write the record in `mlruns` to `target`, by default `mlruns.zip` beside it; with `runs`, these alone.

    Members lie under `mlruns/`; databases and `mlartifacts` that lie beside the folder, beside it in the zip. A zip that
    was there is replaced only by one that is whole. Raises Refused without a record, for an id that it does not hold and
    on a full disk, and zipfile.BadZipFile when the zip does not read back.
    """
    record = look(mlruns)
    root = record.root
    target = Path(os.path.abspath(target)) if target else root.with_name(root.name + ".zip")
    packed, marked = Packed(target), (root / MARKER).exists()
    try:
        with made_whole(target) as part:
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(part, "x") as archive:
                if runs is None:
                    _pack_all(archive, record, Path(folder).resolve(), packed)
                else:
                    _pack_some(archive, root, runs, Path(folder).resolve(), packed)
            with zipfile.ZipFile(part) as archive:
                if bad := archive.testzip():
                    raise zipfile.BadZipFile(f"{target}: {bad} does not read back; is the disk full?")
    except BaseException as error:
        if not marked:
            (root / MARKER).unlink(missing_ok=True)
        if getattr(error, "errno", None) in FULL or "disk is full" in str(error):
            raise Refused(f"{target} cannot be written: the disk is full ({error}). Free some space.") from error
        raise
    return packed


def _pack_all(archive: zipfile.ZipFile, record: Record, folder: Path, packed: Packed) -> None:
    if read_marker(record.root) is None:
        report = fix_paths(record.root, dry_run=True)
        if not report.changed and not report.problems:  # else the locations are of another place
            write_marker(record.root)
    packed.runs = len(frozenset().union(*(store.ids for store in record.stores)))
    databases = [store.path for store in record.stores if store.is_database]
    bases = [base for base in record.bases if not any(base != up and base.is_relative_to(up) for up in record.bases)]
    top = Path(
        os.path.commonpath([record.root, *(path.parent for path in (*bases, *databases) if path != record.root)])
    )
    for database in databases:
        copy = folder / database.name
        copy_database(database, copy)
        _add(archive, copy, _name(database, record.root, top), packed)
    for base in bases:
        for path in files_below(base, packed.links, base):
            steps = path.relative_to(base).parts
            if path in databases or WORKING.fullmatch(steps[0]):
                continue
            if is_part(steps):
                _add(archive, path, _name(path, record.root, top), packed)
            elif path.is_file() and path != packed.path:
                packed.others.append(str(path))


def _name(path: Path, root: Path, top: Path) -> str:
    """In the zip: below `mlruns/`, or beside it what lies beside; of several records in a tree as they lie in it."""
    if top in (root, root.parent) and path.is_relative_to(root):
        return f"mlruns/{path.relative_to(root).as_posix()}"
    return path.relative_to(top).as_posix()


def _pack_some(archive: zipfile.ZipFile, root: Path, runs: Sequence[str], folder: Path, packed: Packed) -> None:
    (folder / "source").mkdir()
    (folder / "mlruns").mkdir()
    opened = open_source(root, folder / "source")[0]
    database = folder / "mlruns" / DATABASE
    make_empty(opened.database, database, root)
    with closing(Transfer(opened, database, root, runs)) as transfer:
        transfer.db.execute("BEGIN IMMEDIATE")
        transfer.write()
        transfer.db.execute("COMMIT")
    write_marker(database.parent, root)
    packed.runs = len(transfer.runs)
    for name in (DATABASE, MARKER):
        _add(archive, database.with_name(name), f"mlruns/{name}", packed)
    for here, there in transfer.folders.items():
        for path in files_below(
            here, packed.links, next((b for b in opened.record.bases if here.is_relative_to(b)), here)
        ):
            _add(archive, path, f"mlruns/{there}/{path.relative_to(here).as_posix()}", packed)


def files_below(folder: Path, links: list[str], root: Path) -> Iterator[Path]:
    """Files and empty folders in `folder`, sorted; `links` takes what is neither: links that lead out of `root`, pipes.

    A link to a file inside stands for that file. A folder that vanishes meanwhile is passed over. Raises OSError for one
    that cannot be read.
    """
    if not is_inside(folder, root):
        links.append(f"a link out of the record: {folder} -> {os.path.realpath(folder)}")
        return
    for here, folders, files in walk(folder):
        folders.sort()
        for name in sorted(folders + files):
            path = Path(here, name)
            if path.is_symlink() and not (path.is_file() and is_inside(path, root)):
                links.append(f"a link out of the record: {path} -> {os.readlink(path)}")
            elif name not in folders and path.is_file():
                yield path
            elif name not in folders and path.exists():
                links.append(f"no regular file: {path}")
        if not folders and not files and here != str(folder):
            yield Path(here)


def copy_files(folder: Path, to: Path, links: list[str], root: Path) -> int:
    """Copies what `files_below` finds; returns the number of files."""
    count = 0
    for path in files_below(folder, links, root):
        copy = to / path.relative_to(folder)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a temporary file of a training that goes on
            if path.stat().st_size > shutil.disk_usage(copy.parent).free:
                raise OSError(errno.ENOSPC, "no room for a file of this size", str(path))
            shutil.copy2(path, copy)
            count += 1
    return count


def _add(archive: zipfile.ZipFile, path: Path, name: str, packed: Packed) -> None:
    """A file as long as it is now, though a training may lengthen it meanwhile, or remove it."""
    if path.is_dir():
        archive.writestr(name + "/", b"")  # a file store counts on its empty folders
        return
    with suppress(FileNotFoundError), path.open("rb") as source:
        info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
        info.compress_type = zipfile.ZIP_STORED if path.suffix.lower() in STORED else zipfile.ZIP_DEFLATED
        left = info.file_size
        packed.size += left
        if packed.size > MOST_BYTES:
            raise Refused(f"{path} has {left} bytes: with it there are more than {MOST_BYTES} in the record, too many.")
        with archive.open(info, "w") as member:
            while left and (block := source.read(min(left, 2**20))):
                member.write(block)
                left -= len(block)
        packed.files += 1


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: packed. 2: there is no such record or run, or no room."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder mlruns")
    parser.add_argument("--runs", nargs="+", metavar="RUN_ID", help="pack these runs alone, with what belongs to them")
    parser.add_argument(
        "--to", type=Path, metavar="ZIP", help="the zip to write (default: mlruns.zip beside the folder)"
    )
    given = parser.parse_args(arguments)
    as_command()
    try:
        print(pack(given.folder, given.to, given.runs))
    except (Refused, OSError, sqlite3.DatabaseError, zipfile.BadZipFile) as error:
        return told(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
