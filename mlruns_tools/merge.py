"""Bring the runs of one record into another: ten Kaggle sessions, one dashboard.

`python merge.py mlruns.zip mlruns` adds the runs of a zip or folder, wherever it was written, to the local record
`mlruns`, which is made where there is none; runs, models and traces keep their ids. With a server's address as target
they are uploaded instead (`push.py`). A run that is there already is left alone, and the source is only read.
"""

import argparse
import os
import re
import shutil
import sqlite3
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

if os.name == "nt":
    import msvcrt
else:
    import fcntl

if __name__ == "__main__":  # as a script, only this file's own folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlruns_tools.fixed_paths import (
    DATABASE,
    MARKER,
    Refused,
    fix_paths,
    look,
    next_command,
    quoted,
    write_marker,
)
from mlruns_tools.pack import FULL, copy_files
from mlruns_tools.schema import revision, upgrade_kept
from mlruns_tools.transfer import Opened, Transfer, make_empty, open_source

WORK = "merge.part"  # in the target: what a merge prepares; of no use after it
SERVER = re.compile(r"https?://", re.I)
SHOWN = ("runs", "metrics", "logged models", "model versions", "traces", "files")


@dataclass
class Merged:
    """What a merge did."""

    target: Path | str  # the record's folder, or the server's address
    brought: dict[str, str] = field(default_factory=dict)  # runs, {id: name}
    left: dict[str, str] = field(default_factory=dict)  # runs that were there already
    deleted: int = 0  # runs that are deleted in the source, and so are not brought
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of the source: artifacts that are lost

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0

    def __str__(self) -> str:
        lines = [f"Target: {self.target}"]
        lines += [f"brought {run} {name}" for run, name in self.brought.items()]
        lines += [f"{len(self.left)} run(s) were there already and are left alone"] if self.left else []
        lines += [f"{self.deleted} deleted run(s) of the source are not brought"] if self.deleted else []
        lines += ["Brought: " + ", ".join(f"{self.counts[name]} {name}" for name in SHOWN)]
        lines += self.notes
        lines += (
            [f"PROBLEMS: {len(self.problems)}", *(f"  {problem}" for problem in self.problems)] if self.problems else []
        )
        return "\n".join(lines)


def merge(source: Path | str, target: Path | str, experiment: str | None = None, deleted: bool = False) -> Merged:
    """Add the runs of `source`, a zip or folder, to `target`, a folder or the address of a server.

    All under the name `experiment`, where it is given; with `deleted` also those that are deleted in the source.

    Artifacts are copied first and the rows follow in one transaction, so that a merge that is killed leaves no run
    behind, and the next one ends right. Raises Refused, with nothing changed, for what does not go together.
    """
    if SERVER.match(str(source)):
        raise Refused(f"{source}: the source must be a zip or folder; a server's runs stay there.")
    source = Path(source).expanduser()
    if SERVER.match(str(target)):
        if deleted:
            raise Refused(f"{target}: to a server no deleted runs are uploaded. Leave out --deleted.")
        from mlruns_tools.push import push  # not above: only servers need MLflow

        return push(source, str(target).rstrip("/"), experiment)
    root, database = _target(Path(target).expanduser())
    if (
        database
        and source.exists()
        and not zipfile.is_zipfile(source)
        and look(source).stores[0].path.samefile(database)
    ):
        raise Refused(f"{source} is the target itself: name another record to bring runs from.")
    root.mkdir(parents=True, exist_ok=True)
    try:
        with _work_folder(root) as work:
            database = database or _target(root)[1]  # again: another merge may have made it meanwhile
            return _merge(source, root, database, work, experiment, deleted)
    except (OSError, sqlite3.DatabaseError) as error:
        if "locked" in str(error):
            raise Refused(
                f"{root} is in use. Stop the training or dashboard that writes to it, and merge again."
            ) from error
        if getattr(error, "errno", None) in FULL or "disk is full" in str(error):
            raise Refused(f"{root}: the disk is full ({error}). Nothing was brought; free some space.") from error
        if isinstance(error, OSError):
            raise
        raise Refused(f"{source} does not go into {root} ({error}). Nothing was brought.") from error
    finally:
        with suppress(OSError):
            root.rmdir()  # where it was made for nothing


def _target(target: Path) -> tuple[Path, Path | None]:
    """The record's folder and database; none for a folder that is absent, empty or left by a merge that was killed."""
    if target.is_file() and zipfile.is_zipfile(target):
        tool = "python mlruns_tools/fixed_paths.py"
        raise Refused(f"{target}: the target must be a folder. Unpack it first: {tool} {quoted(target)}")
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if not target.exists() or not names or (WORK in names and names <= {WORK, MARKER, "artifacts"}):
        return Path(os.path.abspath(target)), None
    record = look(target)
    if fix_paths(target, dry_run=True).to_do:
        raise Refused(f"{target} was moved. Repair it first: python mlruns_tools/fixed_paths.py {quoted(target)}")
    store = record.stores[0]
    if not store.is_database:
        tool = f"python mlruns_tools/fixed_paths.py {quoted(target)} --to-sqlite"
        raise Refused(f"{target} is a file store, to which MLflow no longer writes. Give it a database first: {tool}")
    return record.root, store.path


@contextmanager
def _work_folder(root: Path) -> Iterator[Path]:
    """An empty folder for one merge at a time; its lock ends with the process, and what a killed merge left is removed.

    The record may be a stranger's: no link is followed, and nothing in it is opened as a database.
    """
    folder = root / WORK
    if not os.path.islink(folder):
        folder.mkdir(exist_ok=True)
    if os.path.islink(folder) or os.path.islink(folder / "work") or os.path.islink(folder / "lock"):
        raise Refused(f"{folder} is or holds a link, which no merge makes. Remove it, then merge again.")
    with _locked(folder / "lock", root):
        work = folder / "work"
        if work.exists():
            shutil.rmtree(work)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked(path: Path, root: Path) -> Iterator[None]:
    """A lock of the operating system's on a file of its own, which ends with the process. Refused where it is taken."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600), "r+b")
    try:
        if os.name == "nt":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Refused(f"another merge into {root} is going on. Wait for its end.") from error
    try:
        yield
    finally:
        if os.name == "nt":  # which removes no file that is open; elsewhere it goes first, so that no other takes it
            file.close()
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()
        file.close()


def _merge(
    source: Path, root: Path, database: Path | None, work: Path, experiment: str | None, deleted: bool
) -> Merged:
    for name in ("source", "new", "old"):
        (work / name).mkdir()
    report = Merged(root)
    ours = database or work / DATABASE
    for opened in open_source(source, work / "source", revision(database) if database else ""):
        report.notes += opened.notes
        report.problems += opened.problems
        if not ours.exists():
            make_empty(opened.database, ours, root)
        if revision(opened.database) != revision(ours):
            report.notes.append(upgrade_kept(ours) or "")
        with closing(Transfer(opened, ours, root, None, deleted, experiment)) as transfer:
            _stage(transfer, opened, work / "new", report)
            _write(transfer, root, work)
            report.brought |= transfer.runs
            report.left |= transfer.left
            report.deleted += transfer.deleted
            report.counts += transfer.counts
            report.notes += transfer.notes
    if database is None:  # last of all: before this there is no record
        write_marker(root)
        os.replace(ours, root / DATABASE)
    return report


def _stage(transfer: Transfer, opened: Opened, new: Path, report: Merged) -> None:
    """Copies the artifacts to the target's disk, so that they can be put in place at once."""
    links: list[str] = []
    for folder, to in transfer.folders.items():
        inside = [base for base in opened.record.bases if folder.is_relative_to(base)]
        report.counts["files"] += copy_files(folder, new / to, links, *inside[:1] or [folder])
    report.notes += [f"left out, a link out of the record: {link}" for link in links]


def _write(transfer: Transfer, root: Path, work: Path) -> None:
    """Puts the artifacts in place, then commits the rows; a merge killed between leaves folders that the next replaces."""
    transfer.db.execute("BEGIN IMMEDIATE")
    try:
        for to in transfer.folders.values():
            _rename(root / to, work / "old" / to)  # of a merge that was killed
            _rename(work / "new" / to, root / to)
        transfer.write()
        transfer.db.execute("COMMIT")
    except BaseException:
        if transfer.db.in_transaction:
            transfer.db.execute("ROLLBACK")
        for to in transfer.folders.values():
            if not (work / "new" / to).exists():
                _rename(root / to, work / "undone" / to)
            _rename(work / "old" / to, root / to)
            with suppress(OSError):  # not empty
                for parent in Path(to).parents:
                    (root / parent).rmdir()
        raise


def _rename(here: Path, there: Path) -> None:
    if here.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        os.rename(here, there)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: done. 1: done, with problems of the source listed. 2: refused, nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="mlruns.zip or a folder mlruns: the record whose runs are brought")
    parser.add_argument("target", help="the folder mlruns that takes them, made where absent, or http://SERVER")
    parser.add_argument("--experiment", metavar="NAME", help="bring all under this name (default: the source's names)")
    parser.add_argument("--deleted", action="store_true", help="bring runs too that are deleted in the source")
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        report = merge(given.source, given.target, given.experiment, given.deleted)
    except (Refused, OSError) as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 2
    print(report)
    if isinstance(report.target, Path):
        print(f"Next: {next_command(report.target)}")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
