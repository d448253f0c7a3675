"""Bring the runs of one record into another: ten Kaggle sessions, one dashboard.

`python merge.py mlruns.zip mlruns` adds the runs of a zip or folder, wherever it was written, to the local record
`mlruns`, which is made where there is none; runs, models and traces keep their ids. With a server's address as target
they are uploaded instead (`push.py`). A run that is there already is left alone, and the source is only read.
"""

import argparse
import filecmp
import os
import re
import sqlite3
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

if os.name == "nt":
    import msvcrt
else:
    import fcntl

if __name__ == "__main__":  # as a script, only this file's own folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlruns_tools.fixed_paths import (
    DATABASE,
    LINK,
    MARKER,
    PREFIX,
    Refused,
    _aside,
    _leads_out,
    against,
    as_command,
    blocks_of,
    fix_paths,
    is_inside,
    look,
    next_command,
    once_begun,
    place,
    quoted,
    remove_empty,
    shown,
    some,
    sync,
    sync_all,
    told,
    write_marker,
)
from mlruns_tools.pack import FULL, copy_files, files_below
from mlruns_tools.report import Merged
from mlruns_tools.schema import revision, upgrade_kept
from mlruns_tools.transfer import Opened, Transfer, make_empty, open_source

SERVER = re.compile(r"https?://", re.I)
LOCK = f"{PREFIX}lock"  # the file that Windows locks
HELD: set[int] = set()  # descriptors of the locks that this process has


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
    report = Merged(root)
    made = [path for path in (root, *root.parents) if not path.exists()]
    with once_begun(report.begun, "merge again to finish."):
        _merge_locked(source, root, database, experiment, deleted, report, made)
    return report


def _merge_locked(
    source: Path,
    root: Path,
    database: Path | None,
    experiment: str | None,
    deleted: bool,
    report: Merged,
    made: list[Path],
) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        what = f"another merge into {root} is going on. Wait for its end."
        with (
            locked(root, what),
            tempfile.TemporaryDirectory(prefix=PREFIX, dir=root, ignore_cleanup_errors=True) as work,
        ):
            if left := [path.name for path in root.glob(f"{PREFIX}*") if path.name not in (Path(work).name, LOCK)]:
                report.notes.append(f"of interrupted merges, to be removed from {root}: {some(left)}")
            database = database or _target(root)[1]  # again: another merge may have made it meanwhile
            _merge(source, root, database, Path(work), experiment, deleted, report)
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
        remove_empty(made)


def _target(target: Path) -> tuple[Path, Path | None]:
    """The record's folder and database; none for a folder that is absent, empty or left by a merge that was killed."""
    if target.is_file() and zipfile.is_zipfile(target):
        tool = "python mlruns_tools/fixed_paths.py"
        raise Refused(f"{target}: the target must be a folder. Unpack it first: {tool} {quoted(target)}")
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if not target.exists() or {name for name in names if not name.startswith(PREFIX)} <= {MARKER, "artifacts"}:
        return Path(os.path.abspath(target)), None
    record = look(target)
    if _leads_out(record.root / "artifacts", record.root):
        raise Refused(f"{record.root / 'artifacts'} {LINK}")
    if fix_paths(target, dry_run=True).to_do:
        raise Refused(f"{target} was moved. Repair it first: python mlruns_tools/fixed_paths.py {quoted(target)}")
    store = record.stores[0]
    if not store.is_database:
        tool = f"python mlruns_tools/fixed_paths.py {quoted(target)} --to-sqlite"
        raise Refused(f"{target} is a file store, to which MLflow no longer writes. Give it a database first: {tool}")
    return record.root, store.path


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """A lock of the operating system's on a folder, which ends with the process. Raises Refused where it is taken."""
    nt = os.name == "nt"  # it locks files alone
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT) if nt else os.open(folder, os.O_RDONLY)
    HELD.add(handle)
    _let_go_in_forks()
    try:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1) if nt else fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(what) from error
        yield
    finally:
        if handle in HELD:  # not in a fork
            HELD.remove(handle)
            os.close(handle)


@cache
def _let_go_in_forks() -> None:
    """Has forks, such as a loader's workers, take no part in the locks, which they would keep when their parent is killed."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: [os.close(HELD.pop()) for _ in range(len(HELD))])


def _merge(
    source: Path, root: Path, database: Path | None, work: Path, experiment: str | None, deleted: bool, report: Merged
) -> None:
    for name in ("source", "new"):
        (work / name).mkdir()
    ours = database or work / DATABASE
    for opened in open_source(source, work / "source", revision(database) if database else ""):
        report.notes += opened.notes
        report.problems += opened.problems
        if not ours.exists():
            make_empty(opened.database, ours, root)
        if revision(opened.database) != revision(ours):
            told = upgrade_kept(ours)
            report.notes += [told] if told else []
            report.begun += [told] if told and database else []
        with closing(Transfer(opened, ours, root, None, deleted, experiment)) as transfer:
            _stage(transfer, opened, work / "new", report)
            _write(transfer, root, work / "new", report)
            report.brought |= transfer.runs
            report.left |= transfer.left
            report.deleted += transfer.deleted
            report.counts += transfer.counts
            report.notes += transfer.notes
            _mend(transfer.both, report)
    if database is None:  # last of all: before this there is no record
        write_marker(root)
        os.replace(ours, root / DATABASE)
        sync(root)


def _stage(transfer: Transfer, opened: Opened, new: Path, report: Merged) -> None:
    """Copies the artifacts to the target's disk, so that they can be put in place at once."""
    links: list[str] = []
    for folder, to in transfer.folders.items():
        inside = [base for base in opened.record.bases if folder.is_relative_to(base)]
        report.counts["files"] += copy_files(folder, new / to, links, *inside[:1] or [folder])
    report.notes += [f"left out, {link}" for link in links]
    sync_all(new)


def _write(transfer: Transfer, root: Path, new: Path, report: Merged) -> None:
    """Puts the artifacts in place, then commits the rows; a merge killed between leaves folders that the next one takes."""
    back: list[tuple[Path, Path]] = []  # what was renamed

    def rename(here: Path, there: Path) -> None:
        there.parent.mkdir(parents=True, exist_ok=True)
        os.rename(here, there)
        back.append((here, there))

    folders = {
        parent for to in transfer.folders.values() for parent in (root / to).parents if parent.is_relative_to(root)
    }
    made = sorted((folder for folder in folders if not folder.exists()), reverse=True)
    transfer.db.execute("BEGIN IMMEDIATE")
    try:
        for to in transfer.folders.values():
            here = root / to
            if not is_inside(here, root):
                raise Refused(f"{here} {LINK}")
            if here.exists() and not _same(here, new / to):
                rename(here, aside := _aside(root, here))
                report.notes.append(f"set aside, what lay where artifacts of the source go: {aside}")
            if (new / to).exists() and not here.exists():
                rename(new / to, here)
        for folder in (folder for folder in folders if folder.exists()):
            sync(folder)
        transfer.write()
        transfer.db.execute("COMMIT")
    except BaseException:
        if transfer.db.in_transaction:
            transfer.db.execute("ROLLBACK")
        for here, there in reversed(back):
            here.parent.mkdir(parents=True, exist_ok=True)
            os.rename(there, here)
            remove_empty(there.parents)
        remove_empty(made)
        raise
    report.begun += [*transfer.runs, *transfer.folders.values()]


def _same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, byte by byte, and no links."""
    links: list[str] = []
    here, there = ({path.relative_to(top): path for path in files_below(top, links, top)} for top in (one, other))
    return (
        not links
        and here.keys() == there.keys()
        and all(
            path.is_dir() or (there[name].is_file() and filecmp.cmp(path, there[name], shallow=False))
            for name, path in here.items()
        )
    )


def _mend(both: list[tuple[Path, Path]], report: Merged) -> None:
    """Of runs that are there already, takes files that were cut short, as by a loss of power, from the source again."""
    told: dict[str, list[str]] = {"cut": [], "gone": [], "other": []}
    for here, there in both:
        for path in files_below(here, [], here):
            copy = there / path.relative_to(here)
            if path.is_file() and (state := against(copy, path.stat().st_size, lambda path=path: blocks_of(path))):
                told[state].append(str(copy))
                if state == "cut":
                    place(copy, blocks_of(path))
                    report.begun.append(str(copy))
    report.notes += [f"cut short, taken from the source again: {some(told['cut'])}"] * bool(told["cut"])
    report.notes += [f"in the source, and not here: {some(told['gone'])}"] * bool(told["gone"])
    report.problems += [f"unlike in the source, and shorter: {some(told['other'])}"] * bool(told["other"])


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: done. 1: done, with problems of the source listed. 2: refused, nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="mlruns.zip or a folder mlruns: the record whose runs are brought")
    parser.add_argument("target", help="the folder mlruns that takes them, made where absent, or http://SERVER")
    parser.add_argument("--experiment", metavar="NAME", help="bring all under this name (default: the source's names)")
    parser.add_argument("--deleted", action="store_true", help="bring runs too that are deleted in the source")
    given = parser.parse_args(arguments)
    as_command()
    try:
        report = merge(given.source, given.target, given.experiment, given.deleted)
    except (Refused, OSError) as error:
        return told(error)
    print(report)
    if isinstance(report.target, Path):
        print(shown(f"Next: {next_command(report.target)}"))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
