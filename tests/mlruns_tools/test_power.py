"""Power may fail at any moment: the disk holds a file before a name speaks of it, and the name before a command ends.

`tests.benchmarks.power` shows it on a file system; here the calls are counted that this rests on.
"""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mlruns_tools import fixed_paths, merge, pack
from mlruns_tools.fixed_paths import DATABASE, fix_paths
from tests.hostile import EXPERIMENT, RUN, file_store
from tests.mlruns_tools.test_hostile import tree
from tests.records import blank_record, client_of, sqlite_record, trained_run


class Disk:
    """What `os.fsync` was called for; `faults` takes files that got their name before, and names that none was called for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: set[tuple[int, int]] = set()
        self.named: dict[tuple[int, int], str] = {}
        self.faults: list[str] = []
        self.renamed = 0
        self.fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.hold)
        for call in ("replace", "rename"):
            real = getattr(os, call)
            monkeypatch.setattr(os, call, lambda here, there, real=real: self.rename(real, here, there))

    @staticmethod
    def key(status: os.stat_result) -> tuple[int, int]:
        return status.st_dev, status.st_ino

    def hold(self, file: int) -> None:
        self.fsync(file)
        self.held.add(self.key(os.fstat(file)))
        self.named.pop(self.key(os.fstat(file)), None)

    def rename(self, real: Callable[[str, str], None], here: str, there: str) -> None:
        below = [path for path in Path(here).rglob("*") if path.is_file()] if os.path.isdir(here) else [Path(here)]
        self.faults += [str(path) for path in below if self.key(path.stat()) not in self.held and self.is_ours(path)]
        real(here, there)
        self.renamed += 1
        folder = os.path.dirname(os.path.abspath(there))
        self.named[self.key(os.stat(folder))] = folder

    @staticmethod
    def is_ours(path: Path) -> bool:
        """SQLite has the disk hold its databases itself."""
        return not path.name.startswith(DATABASE)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def moved(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    shutil.copytree(sqlite_record(tmp_path_factory), tmp_path / "moved")
    return tmp_path / "moved"


def stores(folder: Path) -> Path:
    """A moved file store with a folder to be made, one to be set aside and a `meta.yaml` to be changed."""
    mlruns = file_store(folder / "files" / "mlruns")
    (mlruns / EXPERIMENT / RUN / "params").rmdir()
    (mlruns / "no experiment").mkdir()
    return mlruns


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "repair of a database": lambda moved, tmp: fix_paths(moved / "mlruns"),
    "repair of a file store": lambda moved, tmp: fix_paths(stores(tmp)),
    "repair and back": lambda moved, tmp: [
        fixed_paths.main([str(moved / "mlruns"), *more]) for more in ([], ["--undo"])
    ],
    "unzip": lambda moved, tmp: fix_paths(moved / "mlruns.zip", tmp / "unpacked"),
    "merge into a new record": lambda moved, tmp: merge.merge(moved / "mlruns.zip", tmp / "new"),
    "pack": lambda moved, tmp: pack.pack(moved / "mlruns", tmp / "packed.zip"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_disk_holds_what_is_named(name: str, moved: Path, tmp_path: Path, disk: Disk) -> None:
    COMMANDS[name](moved, tmp_path)
    assert disk.renamed and not disk.faults
    folders = [folder for folder in disk.named.values() if Path(folder).is_relative_to(tmp_path)]
    assert not [folder for folder in folders if os.path.exists(folder)]


CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "chmod")  # of `os`
TOOLS: dict[str, Callable[[Path, Path], int]] = {
    "repair of a database": lambda moved, tmp: fixed_paths.main([str(moved / "mlruns")]),
    "repair to be portable": lambda moved, tmp: fixed_paths.main([str(moved / "mlruns"), "--portable"]),
    "repair of a file store": lambda moved, tmp: fixed_paths.main([str(tmp / "files" / "mlruns")]),
    "undo": lambda moved, tmp: fixed_paths.main([str(tmp / "repaired" / "mlruns"), "--undo"]),
    "unzip": lambda moved, tmp: fixed_paths.main([str(moved / "mlruns.zip"), "--to", str(tmp / "un" / "packed")]),
    "merge into a new record": lambda moved, tmp: merge.main([str(moved / "mlruns.zip"), str(tmp / "new" / "mlruns")]),
    "merge into another": lambda moved, tmp: merge.main([str(moved / "mlruns.zip"), str(tmp / "other" / "mlruns")]),
    "pack": lambda moved, tmp: pack.main([str(moved / "mlruns"), "--to", str(tmp / "packed.zip")]),
}


@pytest.mark.parametrize("name", TOOLS)
def test_status_2_means_that_nothing_was_changed(
    name: str, moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The disk fails at the first, second, ... call that changes something; the next run without that ends right."""
    stores(tmp_path)
    merge.merge(moved / "mlruns.zip", tmp_path / "other" / "mlruns")
    shutil.copytree(moved, tmp_path / "repaired")
    assert fixed_paths.main([str(tmp_path / "repaired" / "mlruns")]) == 0
    blank_record(tmp_path / "blank", tmp_path_factory)
    shutil.copytree(tmp_path / "blank" / "mlruns", tmp_path / "other" / "mlruns", dirs_exist_ok=True)
    statuses, number = Counter(), 0
    while True:
        work = tmp_path_factory.mktemp("work")
        shutil.copytree(tmp_path, work, dirs_exist_ok=True)
        fixed_paths.main([str(work / "other" / "mlruns")]), fixed_paths.main([str(work / "repaired" / "mlruns")])
        before, left = tree(work), [number]
        with monkeypatch.context() as failing:
            for call in CALLS:
                failing.setattr(os, call, failing_at(left, getattr(os, call), work))
            status = TOOLS[name](work / "moved", work)
        assert status != 2 or tree(work) == before, f"call {number}"
        statuses[status] += 1
        if left[0] >= 0:  # there are no more calls
            break
        assert TOOLS[name](work / "moved", work) in (0, 2 * (name == "undo")), f"after call {number}"
        shutil.rmtree(work)
        number += 1
    assert number > 3 and statuses[0] and statuses[2], (number, statuses)


def failing_at(left: list[int], real: Callable[..., object], work: Path) -> Callable[..., object]:
    """The call, which fails where `left` has counted down to nothing, once."""

    def call(*given: object, **more: object) -> object:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.EIO, "the disk fails", str(given[0]))
        return real(*given, **more)

    return call


def test_the_check_can_fail(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "part").write_bytes(b"x")
    os.replace(tmp_path / "part", tmp_path / "whole")
    assert disk.faults == [str(tmp_path / "part")] and list(disk.named.values()) == [str(tmp_path)]


def cut(path: Path, how: str) -> bytes:
    """The file as it was; now without its end, empty, or other than it was and shorter."""
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "other": b"x" * (len(data) // 2)}[how])
    return data


@pytest.mark.parametrize("how", ["empty", "cut", "other"])
def test_a_file_that_was_cut_short_is_named_and_taken_from_the_zip_again(how: str, moved: Path, tmp_path: Path) -> None:
    report = fix_paths(moved / "mlruns.zip", tmp_path / "home")
    files = [path for path in (report.root / "artifacts").rglob("*") if path.is_file() and path.stat().st_size > 10]
    before = {path: cut(path, how) for path in files}
    dry = fix_paths(moved / "mlruns.zip", tmp_path / "home", dry_run=True)
    again = fix_paths(moved / "mlruns.zip", tmp_path / "home")
    told = again.problems if how == "other" else again.notes
    assert (
        files
        and any(files[0].name in line and "short" in line for line in told)
        and again.exit_code == (how == "other")
    )
    assert any("to be taken from the zip" in note for note in dry.notes) == (how != "other")
    assert all((path.read_bytes() == data) == (how != "other") for path, data in before.items())
    assert not [note for note in fix_paths(moved / "mlruns.zip", tmp_path / "home").notes if "cut short" in note]


@pytest.mark.parametrize("how", ["empty", "cut", "other"])
def test_a_file_that_was_cut_short_is_taken_by_the_next_merge(
    how: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = blank_record(tmp_path / "source", tmp_path_factory)
    run = trained_run(source, "a")
    target = tmp_path / "mlruns"
    merge.merge(source, target)
    files = [path for path in (target / "artifacts").rglob("*") if path.is_file() and path.stat().st_size > 10]
    before = {path: cut(path, how) for path in files}
    report = merge.merge(source, target)
    told = report.problems if how == "other" else report.notes
    assert (
        len(files) > 3 and any(files[0].name in line or "more" in line for line in told) and list(report.left) == [run]
    )
    assert report.exit_code == (how == "other")
    assert all((path.read_bytes() == data) == (how != "other") for path, data in before.items())
    assert client_of(target).get_run(run).info.status == "FINISHED"
