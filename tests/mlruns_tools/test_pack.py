"""Packing: a zip that is whole and consistent, whatever else goes on."""

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from helpers.config import PROJECT
from mlruns_tools import pack as pack_module
from mlruns_tools.fixed_paths import DATABASE, MARKER, Refused, fix_paths, read_marker, write_marker
from mlruns_tools.pack import main, pack

RUN = "0123456789abcdef" * 2


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    """A record right at its place, with the litter that a killed training leaves."""
    folder = tmp_path / "mlruns"
    artifacts = folder / "artifacts" / RUN / "artifacts"
    (artifacts / "model").mkdir(parents=True)
    (artifacts / "model" / "model_weights.pth").write_bytes(bytes(10_000))
    (artifacts / "notes.bak").write_text("a user's file " * 100)
    (artifacts / "empty").mkdir()
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        connection.execute("CREATE TABLE metrics (step INTEGER, value TEXT)")
        connection.execute("INSERT INTO runs VALUES (?, ?)", (RUN, artifacts.as_uri()))
    (folder / ".mlruns-0123").mkdir()
    (folder / ".mlruns-0123" / "half.txt").write_text("of a merge that was killed")
    for ending in (".bak", "-wal", "-shm"):
        (folder / f"{DATABASE}{ending}").write_bytes(b"")
    write_marker(folder)
    return folder


def test_members_lie_under_mlruns_without_litter(mlruns: Path) -> None:
    target = pack(mlruns).path
    assert target == mlruns.with_name("mlruns.zip") and not target.with_name("mlruns.zip.part").exists()
    inside = f"mlruns/artifacts/{RUN}/artifacts"
    with zipfile.ZipFile(target) as archive:
        kinds = {info.filename: info.compress_type for info in archive.infolist() if not info.is_dir()}
        assert f"{inside}/empty/" in archive.namelist()
    assert kinds == {
        f"mlruns/{DATABASE}": zipfile.ZIP_DEFLATED,
        f"mlruns/{MARKER}": zipfile.ZIP_DEFLATED,
        f"{inside}/model/model_weights.pth": zipfile.ZIP_STORED,
        f"{inside}/notes.bak": zipfile.ZIP_DEFLATED,
    }


def test_the_copy_is_whole_while_another_thread_writes(mlruns: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    written = []

    def write() -> None:
        with closing(sqlite3.connect(mlruns / DATABASE, timeout=30)) as connection:
            while not stop.is_set():
                with connection:
                    connection.executemany("INSERT INTO metrics VALUES (?, ?)", [(len(written), "x" * 500)] * 20)
                written.append(1)
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for attempt in itertools.count():
            if attempt >= 5 and len(written) > 5:
                break
            assert writer.is_alive()
            target = pack(mlruns, tmp_path / f"{attempt}.zip").path
            with zipfile.ZipFile(target) as archive:
                archive.extract(f"mlruns/{DATABASE}", tmp_path / str(attempt))
            with closing(sqlite3.connect(tmp_path / str(attempt) / "mlruns" / DATABASE)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert connection.execute("SELECT count(*) % 20 FROM metrics").fetchone() == (0,)
    finally:
        stop.set()
        writer.join()
    assert len(written) > 5


def test_a_journal_that_goes_away_while_it_is_looked_at_is_none(mlruns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: path.name.endswith("-journal") or is_file(path))
    assert pack(mlruns).path.exists()


def test_a_packed_record_is_repaired_elsewhere(mlruns: Path, tmp_path: Path) -> None:
    report = fix_paths(pack(mlruns).path, tmp_path / "else where")
    assert report.exit_code == 0 and not report.missing and report.changed["runs"] == 1


def test_packing_again_replaces_the_zip(mlruns: Path) -> None:
    first = pack(mlruns).path.read_bytes()
    (mlruns / "artifacts" / RUN / "artifacts" / "more.txt").write_text("more")
    with zipfile.ZipFile(pack(mlruns).path) as archive:
        assert any(name.endswith("more.txt") for name in archive.namelist())
    assert first


def test_a_marker_is_written_only_where_the_locations_are_right(mlruns: Path, tmp_path: Path) -> None:
    (mlruns / MARKER).unlink()
    pack(mlruns)
    assert read_marker(mlruns) == str(mlruns)
    (mlruns / MARKER).unlink()
    moved = mlruns.rename(tmp_path / "moved")
    pack(moved)
    assert read_marker(moved) is None


def test_size_and_counts_are_told(mlruns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = pack(mlruns)
    assert (packed.runs, packed.files) == (1, 4)
    assert main([str(mlruns), "--to", str(mlruns.parent / "other.zip")]) == 0
    assert f"{mlruns.parent / 'other.zip'}  (0.0 MB: 1 run(s), 4 files)" in capsys.readouterr().out


def test_links_out_of_the_record_are_not_followed_and_told(mlruns: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("mine")
    artifacts = mlruns / "artifacts" / RUN / "artifacts"
    (artifacts / "file").symlink_to(secret / "key")
    (artifacts / "folder").symlink_to(secret, target_is_directory=True)
    (artifacts / "gone").symlink_to(artifacts / "nowhere")
    (artifacts / "inside").symlink_to(artifacts / "notes.bak")
    packed = pack(mlruns)
    with zipfile.ZipFile(packed.path) as archive:
        names = archive.namelist()
        assert archive.read(f"mlruns/artifacts/{RUN}/artifacts/inside") == (artifacts / "notes.bak").read_bytes()
    assert not [name for name in names if "key" in name or name.endswith(("/file", "/folder", "/gone"))]
    assert len(packed.links) == 3 and str(packed).count("left out, a link out of the record") == 3


def test_what_is_no_record_of_mlflows_is_refused(mlruns: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no database of MLflow's"):
        pack(mlruns, tmp_path / "x.zip", runs=[RUN])
    assert not list(tmp_path.glob("x.zip*"))


@pytest.mark.parametrize("what", ["grows", "shrinks", "vanishes"])
def test_a_file_that_changes_while_it_is_read(what: str, mlruns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a log does that a training writes; the change comes after its size was read, or before it is opened."""
    changing = mlruns / "artifacts" / RUN / "artifacts" / "notes.bak"
    content = changing.read_bytes()
    look, listed = zipfile.ZipInfo.from_file, pack_module.files_below

    def change_after(path: Path, *arguments: object, **keywords: object) -> zipfile.ZipInfo:
        info = look(path, *arguments, **keywords)
        if path == changing and what != "vanishes":
            changing.write_bytes(content * 3 if what == "grows" else content[:10])
        return info

    def vanish_after(*arguments: object) -> list[Path]:
        found = list(listed(*arguments))
        changing.unlink()
        return found

    monkeypatch.setattr(zipfile.ZipInfo, "from_file", change_after)
    if what == "vanishes":
        monkeypatch.setattr(pack_module, "files_below", vanish_after)
    with zipfile.ZipFile(pack(mlruns).path) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}.get(
            f"mlruns/artifacts/{RUN}/artifacts/notes.bak"
        )
    assert found == {"grows": content, "shrinks": content[:10], "vanishes": None}[what]


def test_a_full_disk_leaves_the_old_zip_and_says_so(mlruns: Path) -> None:
    """The limit on a file's size stands in for the disk's end: the system refuses to write on."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on a file's size")
    before = pack(mlruns).path.read_bytes()
    (mlruns / "artifacts" / RUN / "artifacts" / "big.pt").write_bytes(os.urandom(300_000))
    done = subprocess.run(
        [sys.executable, "-m", "mlruns_tools.pack", mlruns],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    assert done.returncode == 2 and "cannot be written: the disk is full" in done.stderr
    assert mlruns.with_name("mlruns.zip").read_bytes() == before
    assert not mlruns.with_name("mlruns.zip.part").exists()


def test_no_record_no_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="No MLflow record"):
        pack(tmp_path)
    assert main([str(tmp_path)]) == 2 and "Refused" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
