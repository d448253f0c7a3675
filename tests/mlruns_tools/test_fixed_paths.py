"""The repair of moved records: against MLflow's own client, on small hand-made records, and on hostile zips."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.request import urlopen

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from mlruns_tools import fixed_paths, schema
from mlruns_tools.fixed_paths import (
    DATABASE,
    MARKER,
    SERVED,
    Refused,
    fix_paths,
    main,
    next_command,
    read_marker,
    write_marker,
)
from mlruns_tools.schema import to_sqlite
from tests.hostile import EXPERIMENT, RUN, experiment_meta, run_meta
from tests.records import ODD, USERS_META, WEIGHTS, client_of, file_store, run_named, sqlite_record


@pytest.fixture(params=[sqlite_record, file_store], ids=["sqlite", "files"])
def moved(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A record of MLflow's, moved to a folder with an odd name."""
    monkeypatch.chdir(tmp_path)  # MLflow's file registry opens a default database in the current folder
    return shutil.copytree(request.param(tmp_path_factory) / "mlruns", tmp_path / ODD / "mlruns")


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def locations(mlruns: Path) -> list[str]:
    """Every location in the record, read by other means than the repair's."""
    found = []
    for path in (mlruns,) if not (mlruns / DATABASE).exists() else ():
        for file in [*path.glob("*/meta.yaml"), *path.glob("*/*/meta.yaml"), *path.glob("*/*/*/meta.yaml")]:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
            keys = ("artifact_uri", "artifact_location", "source", "storage_location")
            found += [values[key] for key in keys if key in values]
        found += [file.read_text() for file in path.glob("*/traces/*/tags/mlflow.artifactLocation")]
    if (mlruns / DATABASE).exists():
        with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
            for table, column in [
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "source"),
                ("model_versions", "storage_location"),
                ("trace_tags WHERE key = 'mlflow.artifactLocation'", "value"),
            ]:
                found += [value for (value,) in connection.execute(f"SELECT {column} FROM {table}")]
    return found


def small_record(mlruns: Path, location: str, run: str = RUN) -> Path:
    """A database with one run and the artifacts of it."""
    (mlruns / "artifacts" / RUN / "artifacts").mkdir(parents=True)
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        connection.execute("INSERT INTO runs VALUES (?, ?)", (run, location))
    return mlruns


def only_location(mlruns: Path) -> str:
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
        return connection.execute("SELECT artifact_uri FROM runs").fetchone()[0]


def test_mlflow_lists_and_downloads_after_the_repair_and_not_before(moved: Path) -> None:
    def artifacts() -> tuple[list[str], MlflowClient, str]:
        client = client_of(moved)
        run = run_named(client, "kept").info.run_id
        return [file.path for file in client.list_artifacts(run, "model")], client, run

    assert artifacts()[0] == []
    report = fix_paths(moved.parent)
    assert report.exit_code == 0 and not report.missing, str(report)
    listed, client, run = artifacts()
    assert listed == ["model/meta.yaml", "model/model_weights.pth"]
    assert Path(client.download_artifacts(run, "model/model_weights.pth")).read_bytes() == WEIGHTS
    version = client.get_model_version_download_uri("reader", "1")
    assert version == (moved / version.partition("/mlruns/")[2]).as_uri()


def test_every_location_is_the_uri_of_a_place_here(moved: Path) -> None:
    before = locations(moved)
    report = fix_paths(moved)
    after = locations(moved)
    home = moved.as_uri() + "/"
    assert len(before) == len(after) == sum(report.changed.values()) >= 7
    assert all(location.startswith(home) for location in after)
    assert {"experiments", "runs", "logged models", "model versions", "traces"} == set(report.changed)
    assert [x.partition("mlruns/")[2] for x in before] == [x.partition("mlruns/")[2] for x in after]


def test_nothing_but_locations_changes(moved: Path) -> None:
    before = everything(moved)
    fix_paths(moved)
    after = everything(moved)
    changed = {name for name in before if before[name] != after[name]}
    assert all(name in (DATABASE, MARKER) or name.endswith(("meta.yaml", "artifactLocation")) for name in changed)
    users = [name for name in after if name.endswith("model/meta.yaml")]
    assert len(users) == 2 and all(after[name] == USERS_META for name in users)


def test_twice_is_once(moved: Path) -> None:
    fix_paths(moved)
    before = everything(moved)
    report = fix_paths(moved)
    assert not report.changed and everything(moved) == before


def test_there_and_back_again(moved: Path, tmp_path: Path) -> None:
    fix_paths(moved)
    before = locations(moved)
    away = tmp_path / "away" / "mlruns"
    away.parent.mkdir()
    moved.rename(away)
    fix_paths(away)
    assert all(location.startswith(away.as_uri()) for location in locations(away))
    away.rename(moved)
    fix_paths(moved)
    assert locations(moved) == before


def test_a_dry_run_changes_nothing(moved: Path) -> None:
    before = everything(moved)
    report = fix_paths(moved, dry_run=True)
    assert sum(report.changed.values()) >= 7 and "Nothing was written" in str(report)
    assert everything(moved) == before


def test_without_a_marker_the_files_prove_the_old_root(moved: Path) -> None:
    (moved / MARKER).unlink()
    report = fix_paths(moved)
    assert report.exit_code == 0
    assert all(location.startswith(moved.as_uri()) for location in locations(moved))
    assert read_marker(moved) == str(moved)


@pytest.mark.parametrize(
    "old",
    [
        "/kaggle/working/mlruns",
        "file:///kaggle/working/mlruns",
        "file:///home/a%20b/%C3%BC%23/mlruns",
        "file:///home/a b/ü#/mlruns",
        "file://localhost/home/u/mlruns",
        r"C:\Users\a b\mlruns",
        "C:/Users/a b/mlruns",
        "file:///C:/Users/a%20b/mlruns",
        "file:///C:/Users/a b/mlruns",
        "mlruns",
        "./records",
    ],
)
def test_every_way_to_write_a_location(tmp_path: Path, old: str) -> None:
    separator = "\\" if "\\" in old else "/"
    mlruns = small_record(tmp_path / ODD / "mlruns", separator.join([old, "artifacts", RUN, "artifacts"]))
    assert fix_paths(mlruns).exit_code == 0
    assert only_location(mlruns) == (mlruns / "artifacts" / RUN / "artifacts").as_uri()


@pytest.mark.parametrize("location", ["s3://bucket/a", "mlflow-artifacts:/1/x", "dbfs:/a", "runs:/1/m", "models:/m/1"])
def test_remote_locations_stay(tmp_path: Path, location: str) -> None:
    mlruns = small_record(tmp_path / "mlruns", location)
    report = fix_paths(mlruns)
    assert only_location(mlruns) == location and report.remote["runs"] == 1 and report.exit_code == 0


@pytest.mark.parametrize(
    "location", ["file:///etc", "/etc/passwd", "file://server/share/mlruns/x", f"/kaggle/../etc/{RUN}", r"\\server\x"]
)
def test_a_location_outside_the_record_is_a_problem(tmp_path: Path, location: str) -> None:
    mlruns = small_record(tmp_path / "mlruns", location, "f" * 32)
    report = fix_paths(mlruns)
    assert only_location(mlruns) == location
    assert report.exit_code == 1 and repr(location) in str(report)


def test_the_old_root_can_be_named(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / "mlruns", "/somewhere/runs/else", "f" * 32)
    fix_paths(mlruns, old="/somewhere/runs")
    assert only_location(mlruns) == (mlruns / "else").as_uri()


@pytest.mark.parametrize("old", [None, "/kaggle", "/kaggle/working/mlruns"])
def test_the_files_know_better_than_a_root_named_too_short(tmp_path: Path, old: str | None) -> None:
    mlruns = small_record(tmp_path / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    fix_paths(mlruns, old=old)
    assert only_location(mlruns) == (mlruns / "artifacts" / RUN / "artifacts").as_uri()


@pytest.mark.parametrize("marked", [True, False])
def test_a_copy_points_to_itself_while_the_original_stands(tmp_path: Path, marked: bool) -> None:
    original = tmp_path / "original" / "mlruns"
    small_record(original, (original / "artifacts" / RUN / "artifacts").as_uri())
    (original / "artifacts" / RUN / "artifacts" / "note.txt").write_text("a note")
    fix_paths(original)
    copy = shutil.copytree(original, tmp_path / "copy" / "mlruns")
    if not marked:
        (copy / MARKER).unlink()
    fix_paths(copy)
    assert only_location(copy) == (copy / "artifacts" / RUN / "artifacts").as_uri()


def test_a_stray_folder_mlruns_inside_the_record(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    (mlruns / "mlruns").mkdir()
    for source in (mlruns, tmp_path):
        assert fix_paths(source).root == mlruns
    assert only_location(mlruns) == (mlruns / "artifacts" / RUN / "artifacts").as_uri()


def test_a_record_moved_up_one_folder(tmp_path: Path) -> None:
    mlruns = tmp_path / "mlruns"
    inner = mlruns / "mlruns"
    small_record(mlruns, (inner / "artifacts" / RUN / "artifacts").as_uri())
    write_marker(mlruns, inner)
    fix_paths(mlruns)
    assert only_location(mlruns) == (mlruns / "artifacts" / RUN / "artifacts").as_uri()


def test_mlflows_default_layout_with_the_database_beside(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    (folder / "mlruns" / "1" / RUN / "artifacts").mkdir(parents=True)
    small_record(tmp_path / "elsewhere", f"/kaggle/working/mlruns/1/{RUN}/artifacts")
    (tmp_path / "elsewhere" / DATABASE).rename(folder / DATABASE)
    for source in (folder, folder / "mlruns"):
        assert fix_paths(source).root == folder / "mlruns"
    assert only_location(folder) == (folder / "mlruns" / "1" / RUN / "artifacts").as_uri()


@pytest.mark.parametrize(
    "old",
    [
        "/kaggle/working/mlruns",
        "/home/it's #1/a: b/mlruns",
        "C:\\Users\\Jürgen \U0001f642\\mlruns",
        "/a tab\there/mlruns",
        "/" + "a long folder name with spaces, folded by YAML at eighty columns/" * 3 + "mlruns",
        "/" + "it's long, quoted: and folded/" * 8 + "mlruns",
        "/" + "\x07 escaped and so long that it goes on in the next line/" * 4 + "mlruns",
    ],
)
def test_meta_yaml_in_every_quoting(tmp_path: Path, old: str) -> None:
    folder = tmp_path / "it's #1: ü" / "mlruns" / EXPERIMENT / RUN
    (folder / "artifacts").mkdir(parents=True)
    run = yaml.safe_load(run_meta("")) | {
        "artifact_uri": f"{old}/{EXPERIMENT}/{RUN}/artifacts",
        "run_name": "a: 'b' #c",
    }
    run |= {"source": "/kaggle/working/mlruns/x", "zzz": "artifact_uri: no"}
    experiment = yaml.safe_load(experiment_meta("")) | {"artifact_location": f"{old}/{EXPERIMENT}"}
    for path, values in [(folder / "meta.yaml", run), (folder.parent / "meta.yaml", experiment)]:
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    report = fix_paths(folder.parent.parent)
    assert report.exit_code == 0 and sum(report.changed.values()) == 2, str(report)
    now = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
    assert now == run | {"artifact_uri": (folder / "artifacts").as_uri()}


def test_missing_artifacts_are_told(moved: Path) -> None:
    lost = run_named(client_of(moved), "kept").info.run_id
    folder = next(path for path in moved.rglob(lost) if (path / "artifacts").is_dir())
    shutil.rmtree(folder / "artifacts")
    report = fix_paths(moved)
    assert report.missing == [lost] and "NO ARTIFACTS HERE for 1 run(s)" in str(report) and lost in str(report)


def test_a_record_without_any_artifacts_is_a_problem(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    shutil.rmtree(mlruns / "artifacts")
    assert fix_paths(mlruns).exit_code == 1


def test_the_backup_is_the_database_as_it_was(tmp_path: Path) -> None:
    old = f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts"
    mlruns = small_record(tmp_path / "mlruns", old)
    fix_paths(mlruns)
    with zipfile.ZipFile(mlruns / "repair-1.undo.zip") as copy:
        (mlruns / DATABASE).write_bytes(copy.read(f"files/{DATABASE}"))
    assert only_location(mlruns) == old


def refusal(source: Path, **options: str) -> str:
    """The sentence of a refusal that changed nothing."""
    before = everything(source.parent)
    with pytest.raises(Refused) as refused:
        fix_paths(source, **options)
    assert everything(source.parent) == before
    return str(refused.value)


def test_refusals_say_what_would_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_paths, "PATIENCE", 0.1)
    (tmp_path / "none").mkdir()
    assert "Give mlruns.zip, a folder mlruns" in refusal(tmp_path / "none")
    percent = small_record(tmp_path / "a%20b" / "mlruns", "/x")
    assert "Rename it" in refusal(percent)
    damaged = small_record(tmp_path / "damaged" / "mlruns", "/x")
    (damaged / DATABASE).write_bytes((damaged / DATABASE).read_bytes()[:5000] + b"damage" * 600)
    assert "damaged" in refusal(damaged)
    other = tmp_path / "other" / "mlruns"
    other.mkdir(parents=True)
    (other / DATABASE).touch()
    assert "is no MLflow database" in refusal(other)
    locked = small_record(tmp_path / "locked" / "mlruns", "/x")
    with closing(sqlite3.connect(locked / DATABASE)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert "is in use" in refusal(locked)


def zipped(target: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            archive.writestr(info, data)
    return target


def test_a_zip_becomes_a_record_beside_it_or_where_it_is_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path / ODD / "mlruns.zip"
    path.parent.mkdir()
    shutil.copy(sqlite_record(tmp_path_factory) / "mlruns.zip", path)
    report = fix_paths(path, dry_run=True)
    assert sum(report.changed.values()) >= 7 and len(list(path.parent.iterdir())) == 1
    for to in (None, tmp_path / "new" / "folder"):
        report = fix_paths(path, to)
        assert report.root == (to or path.parent) / "mlruns" and report.exit_code == 0
        assert all(location.startswith(report.root.as_uri()) for location in locations(report.root))
        assert sorted(child.name for child in report.root.parent.iterdir()) == ["mlruns"] + ["mlruns.zip"] * (not to)
        again = fix_paths(path, to)
        assert again.root == report.root and not again.changed and "is unpacked already" in str(again)
    shutil.rmtree(path.parent / "mlruns")
    (path.parent / "mlruns").mkdir()
    (path.parent / "mlruns" / "mine").write_text("mine")
    assert "is there already" in refusal(path)


@pytest.mark.parametrize("prefix", ["", "mlruns/"])
def test_a_zip_of_the_inside_and_a_zip_of_the_folder(tmp_path: Path, prefix: str) -> None:
    old = f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts"
    made = small_record(tmp_path / "made", old)
    members = {f"{prefix}{DATABASE}": made.joinpath(DATABASE).read_bytes()}
    members |= {f"{prefix}artifacts/{RUN}/artifacts/model/model_weights.pth": WEIGHTS, "notes.txt": b""}
    report = fix_paths(zipped(tmp_path / "mlruns.zip", members))
    assert report.exit_code == 0 and only_location(report.root) == (tmp_path / old[len("/kaggle/working/") :]).as_uri()
    assert (tmp_path / "notes.txt").exists() is False


def test_the_file_works_copied_alone(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / ODD / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    tool = shutil.copy(fixed_paths.__file__, tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", tool, *arguments]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path)

    done = run(str(mlruns))
    assert done.returncode == 0 and "mlflow server" in done.stdout, done.stderr
    assert "put what lies in it below files/ in place again" in done.stdout and "--undo" not in done.stdout
    assert (mlruns / "artifacts").as_uri() in only_location(mlruns)
    alone = run(str(mlruns), "--undo")
    assert alone.returncode == 2 and "need all of mlruns_tools" in alone.stderr
    refused = run(str(tmp_path / "nothing"))
    assert refused.returncode == 2 and refused.stderr.startswith("Refused: No MLflow record")


def test_the_command_of_the_report_takes_it_back(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / ODD / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    before = everything(mlruns)
    command = shlex.split(fix_paths(mlruns).undo)[1:]
    for expected in (0, 2):  # the second time there is none left
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == expected and "Traceback" not in done.stderr, done.stderr
        assert everything(mlruns) == before
    assert done.stderr.startswith("Refused: ") and "holds no copy" in done.stderr


def test_links_out_of_the_record_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "meta.yaml").write_text(experiment_meta(f"/kaggle/working/mlruns/{EXPERIMENT}"))
    mlruns = small_record(tmp_path / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    try:
        os.symlink(outside, mlruns / EXPERIMENT, target_is_directory=True)
    except OSError:
        pytest.skip("this machine does not let us make links")
    before = everything(outside)
    assert "is a link out of the record" in refusal(mlruns)
    assert everything(outside) == before


# --- portable records ------------------------------------------------------------------------------------------------


def test_portable_and_back(moved: Path, tmp_path: Path) -> None:
    fix_paths(moved)
    before = locations(moved)
    report = fix_paths(moved, portable=True)
    relative = [location.replace(f"{moved.as_uri()}/", SERVED) for location in before]
    assert locations(moved) == relative and "--artifacts-destination" in str(report)
    once = everything(moved)
    assert not fix_paths(moved, portable=True).changed and everything(moved) == once
    away = moved.rename(tmp_path / "away")
    assert not fix_paths(away).changed and not fix_paths(away).remote and locations(away) == relative
    away.rename(moved)
    fix_paths(moved, portable=False)
    assert locations(moved) == before and "--artifacts-destination" not in str(fix_paths(moved))


def test_what_is_on_a_server_comes_back_only_where_it_is_here(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / "mlruns", f"mlflow-artifacts:/artifacts/{RUN}/artifacts")
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
        connection.execute("INSERT INTO runs VALUES ('there', 'mlflow-artifacts:/7/there/artifacts')")
        connection.execute("INSERT INTO runs VALUES ('host', 'mlflow-artifacts://host/artifacts')")
    assert "on an MLflow server already" in refusal(mlruns, portable=True)
    report = fix_paths(mlruns)
    assert report.changed["runs"] == 1 and report.remote["runs"] == 2
    assert only_location(mlruns) == (mlruns / "artifacts" / RUN / "artifacts").as_uri()


def test_a_server_with_the_command_of_the_report_finds_everything(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Over http, in a folder that was moved after `--portable`."""
    mlruns = shutil.copytree(sqlite_record(tmp_path_factory) / "mlruns", tmp_path / "first" / "mlruns")
    fix_paths(mlruns, portable=True)
    mlruns = (tmp_path / "first").rename(tmp_path / ODD) / "mlruns"
    options = shlex.split(next_command(mlruns).partition("mlflow server ")[2])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", *options, "--host", "127.0.0.1", "--port", port]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=mlruns, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with suppress(OSError), urlopen(f"{url}/health", timeout=2):
                break
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        client = MlflowClient(url, url)
        run = run_named(client, "kept").info
        assert [file.path for file in client.list_artifacts(run.run_id, "model")][1] == "model/model_weights.pth"
        for uri in (f"runs:/{run.run_id}/model/model_weights.pth", f"{run.artifact_uri}/model/model_weights.pth"):
            path = download_artifacts(uri, dst_path=str(tmp_path / "down"), tracking_uri=url)
            assert Path(path).read_bytes() == WEIGHTS
        with urlopen(f"{url}/get-artifact?run_uuid={run.run_id}&path=model/model_weights.pth") as answer:
            assert answer.read() == WEIGHTS
    finally:
        server.terminate() if os.name == "nt" else os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


# --- from files to SQLite --------------------------------------------------------------------------------------------


def test_a_file_store_gets_a_database(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mlruns = shutil.copytree(file_store(tmp_path_factory) / "mlruns", tmp_path / ODD / "mlruns")
    fix_paths(mlruns)
    files = client_of(mlruns)
    gone = files.create_run(files.create_experiment("deleted")).info
    files.log_text(gone.run_id, "a note", "note.txt")
    files.delete_experiment(gone.experiment_id)
    kept_run = run_named(files, "kept").info
    (metrics,) = mlruns.glob(f"*/{kept_run.run_id}/metrics/val_exact")
    metrics.write_text(metrics.read_text() * 2 + "17 nan 2\n17 nan 2\n")  # twice, as MLflow 3 does
    before = everything(mlruns)
    report = to_sqlite(mlruns)
    assert report.exit_code == 0 and "3 runs" in str(report), str(report)
    assert report.runs == report.usable == 3  # in both, and counted once
    after = everything(mlruns)
    kept = [name for name in before if name.endswith((".pth", "val_exact", "recipe"))]
    assert len(kept) >= 6 and all(after[name] == before[name] for name in kept)
    assert all(location.startswith(mlruns.as_uri()) for location in locations(mlruns))
    once = everything(mlruns)
    assert "in SQLite already" in str(to_sqlite(mlruns)) and everything(mlruns) == once
    client = client_of(mlruns)
    assert run_named(client, "kept").data.params == {"recipe": "cnn_gru_ctc"}
    assert Path(client.download_artifacts(kept_run.run_id, "model/model_weights.pth")).read_bytes() == WEIGHTS
    assert len(client.get_metric_history(kept_run.run_id, "val_exact")) == 2
    assert Path(client.download_artifacts(gone.run_id, "note.txt")).read_text() == "a note"


def test_what_cannot_be_migrated_stays_a_file_store(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (moved / DATABASE).exists():
        return
    fix_paths(moved)
    before = everything(moved)
    monkeypatch.setattr(schema, "_mlflow", lambda *_: "MlflowException: no")
    with pytest.raises(Refused, match="stays a file store"):
        to_sqlite(moved)
    assert everything(moved) == before
    assert to_sqlite(moved, dry_run=True).right and everything(moved) == before


# --- interrupted, odd, and on the command line -----------------------------------------------------------------------


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("kind", ["folder", "zip", "zip with the database beside"])
def test_whatever_is_interrupted_the_next_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    """Interrupted before each of the renames that make a change visible."""
    old = f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts"
    source = mlruns = small_record(tmp_path / "here" / "mlruns", old)
    (mlruns / EXPERIMENT / RUN / "artifacts").mkdir(parents=True)
    (mlruns / EXPERIMENT / RUN / "artifacts" / "note.txt").write_text("a note")
    (mlruns / EXPERIMENT / RUN / "meta.yaml").write_text(run_meta(old.replace("artifacts/", f"{EXPERIMENT}/")))
    (mlruns / EXPERIMENT / "meta.yaml").write_text(experiment_meta(f"/kaggle/working/mlruns/{EXPERIMENT}"))
    (mlruns / "artifacts" / RUN / "artifacts" / "note.txt").write_text("a note")
    if kind != "folder":
        members = {f"mlruns/{name}": data for name, data in everything(mlruns).items()}
        if kind != "zip":
            members[DATABASE] = members.pop(f"mlruns/{DATABASE}")
        shutil.rmtree(mlruns)
        source = zipped(mlruns.parent / "mlruns.zip", members)
    calls = []

    def interrupt(name: str) -> None:
        real = getattr(os, name)

        def rename(*places: str | Path) -> None:
            calls.append(places)
            if len(calls) == step + 1:
                raise KeyboardInterrupt
            real(*places)

        monkeypatch.setattr(os, name, rename)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryDirectory", Left)  # what a killed process does not remove
        interrupt("replace")
        interrupt("rename")
        with suppress(KeyboardInterrupt):
            fix_paths(source)
    monkeypatch.undo()
    try:
        report = fix_paths(source)
    except Refused as refused:
        assert kind != "folder" and "is there already" in str(refused)
        report = fix_paths(mlruns)
    beside = kind == "zip with the database beside"
    assert report.exit_code == 0 and only_location(mlruns.parent if beside else mlruns).startswith(mlruns.as_uri())
    assert mlruns.as_uri() in (mlruns / EXPERIMENT / RUN / "meta.yaml").read_text()
    assert (mlruns / "artifacts" / RUN / "artifacts" / "note.txt").exists() and read_marker(mlruns) == str(mlruns)
    assert not list(mlruns.parent.glob(".mlruns-*"))


class Left(tempfile.TemporaryDirectory):
    def __exit__(self, *_: object) -> None:
        self._finalizer.detach()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = f"/kaggle/working/mlruns/{EXPERIMENT}"
    (tmp_path / EXPERIMENT / RUN / "artifacts").mkdir(parents=True)
    (tmp_path / EXPERIMENT / "meta.yaml").write_text(experiment_meta(old))
    (tmp_path / EXPERIMENT / RUN / "meta.yaml").write_text(run_meta(f"{old}/{RUN}/artifacts"))
    with monkeypatch.context() as patch:
        patch.setattr(fixed_paths, "_replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        report = fix_paths(tmp_path)
    assert report.exit_code == 1 and "then repair again" in str(report)
    assert fix_paths(tmp_path).exit_code == 0


def test_places_that_are_no_record_or_more_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlruns = small_record(tmp_path / "home" / "project" / "mlruns", "/x")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for source in (mlruns / "artifacts" / RUN, tmp_path / "home" / "project" / "mlrun"):
        with pytest.raises(Refused, match=f"Did you mean {re.escape(str(mlruns))}"):
            fix_paths(source)
    assert "more than a record" in refusal(tmp_path / "home") and str(mlruns) in refusal(tmp_path / "home")
    with pytest.raises(Refused, match="more than a record"):
        fix_paths("/", dry_run=True)
    for root in (PureWindowsPath("//server/share/mlruns"), PurePosixPath("//host/mlruns")):
        with pytest.raises(Refused, match="network share"):
            fixed_paths._check_root(root)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in refusal(mlruns)


def test_a_link_into_the_record_is_followed(tmp_path: Path) -> None:
    mlruns = small_record(tmp_path / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    (mlruns / "artifacts").rename(mlruns / "kept")
    try:
        os.symlink("kept", mlruns / "artifacts", target_is_directory=True)
    except OSError:
        pytest.skip("this machine does not let us make links")
    assert fix_paths(mlruns).exit_code == 0


def test_a_record_inside_a_folder_of_its_own_without_a_marker(tmp_path: Path) -> None:
    """Moved up by one: the old root lies in the new one."""
    mlruns = tmp_path / "mlruns"
    small_record(mlruns, (mlruns / "mlruns" / "artifacts" / RUN / "artifacts").as_uri())
    assert fix_paths(mlruns).exit_code == 0
    assert only_location(mlruns) == (mlruns / "artifacts" / RUN / "artifacts").as_uri()


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlruns = small_record(tmp_path / ODD / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    for arguments, key in [(["--dry-run"], "changed"), ([], "changed"), ([], "right")]:
        assert main([str(mlruns), "--json", *arguments]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report[key] == {"runs": 1} and report["exit_code"] == 0 and report["root"] == str(mlruns)
    assert main([str(tmp_path / "none"), "--json"]) == 2
    refused = json.loads(capsys.readouterr().out)
    assert refused["refused"].startswith("No MLflow record") and refused["exit_code"] == 2


def test_a_folder_beside_mlruns_that_looks_like_an_experiment(tmp_path: Path) -> None:
    small_record(tmp_path / "mlruns", f"/kaggle/working/mlruns/artifacts/{RUN}/artifacts")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "meta.yaml").write_bytes(USERS_META)
    assert fix_paths(tmp_path).root == tmp_path / "mlruns"
    assert (tmp_path / "model" / "meta.yaml").read_bytes() == USERS_META
