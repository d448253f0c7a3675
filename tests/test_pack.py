"""Packing: a zip that is whole and consistent, whatever else goes on."""

import sqlite3
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

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
        for attempt in range(5):
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


def test_no_record_no_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="No MLflow record"):
        pack(tmp_path)
    assert main([str(tmp_path)]) == 2 and "Refused" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
