"""Seventeen kinds of records that once came out wrong for their owners, each by name."""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

from mlruns_tools.dashboard import _fetch, brief, open_dashboard, repair_if_needed
from mlruns_tools.fixed_paths import DATABASE, Refused, fix_paths, main
from mlruns_tools.merge import merge
from mlruns_tools.pack import pack
from mlruns_tools.undo import undo
from tests.mlruns_tools.test_wild import blank, bytes_of, check, seen  # noqa: F401 (a fixture)
from tests.records import client_of, kaggle_sessions
from tests.wild import JUNK, ROOTS, Run, Store, Wild, make, zipped

INSIDE = f"mlruns/{DATABASE}"
OLD = {"2.9": "acf3f17fdcc7", "2.22": "0584bdc529eb", "3.1": "bda7b8c39065", "3.8": "1bd49d398cd23"}  # schemas
SHOWN = {  # cases that come right by the repair alone
    "mlruns-db-beside": Wild((Store("mlruns.db", (Run(),)),)),
    "mlartifacts": Wild((Store("mlruns", (Run("server"), Run("server host"))),)),
    "mlflow-artifacts-in-mlruns": Wild((Store("mlruns", (Run("server inside"),)),)),
    "git-lost-folders": Wild((Store("mlruns", (Run(lost=frozenset({"params"})), Run(lost=frozenset({"artifacts"})))),)),
    "dot-folder": Wild(
        (Store("mlruns", (Run(),), junk=(".ipynb_checkpoints", ".git", ".idea", "New folder", "lost+found")),)
    ),
    "relative-with-dots": Wild((Store("mlruns", (Run(root="../mlruns"),)),)),
    "empty-db-hides-file-store": Wild((Store("mlruns", (Run(),)),), empty=INSIDE, blank=True),
    "empty-mlflow-db-hides-mlruns-db": Wild((Store("mlruns.db", (Run(),)),), empty=DATABASE, blank=True),
    "unused-default-experiment": Wild((Store(INSIDE, (Run(),), default=True),)),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "moved é #1" / "project"


@pytest.mark.parametrize("name", SHOWN)
def test_mlflow_shows_it_whole(name: str, project: Path, blank: Path) -> None:  # noqa: F811
    truth = make(SHOWN[name], project, blank)
    report = fix_paths(project)
    assert report.exit_code == 0 and not report.exposed, str(report)
    before = bytes_of(project)
    assert not fix_paths(project).to_do and bytes_of(project) == before
    found = check(truth, report, {each.store for each in truth.values()})
    assert found and all(files for _, files in found.values())
    assert repair_if_needed(project).stores[0].startswith(str(next(iter(truth.values())).store))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("zip-of-absolute-path", "kaggle/working/mlruns/"),
        ("zip-one-folder-above", "repo-main/"),
        ("colab", "content/mlruns/"),
    ],
)
def test_a_zip_is_unpacked_and_opened_twice(name: str, prefix: str, project: Path, blank: Path) -> None:  # noqa: F811
    for store in (Store("mlruns", (Run(),)), Store(INSIDE, (Run(),))):
        truth = make(Wild((store,)), project, blank)
        zipped(project, prefix, archive := project.parent / "mlruns.zip", True)
        shutil.rmtree(project)
        for _ in range(2):
            report = repair_if_needed(archive)
            assert report.root == project.parent / "mlruns" and report.exit_code == 0
            check(truth, report, [project.parent / store.path])
        assert "unpacked already" in brief(report)
        shutil.rmtree(report.root)


def test_own_bak(project: Path, blank: Path) -> None:  # noqa: F811
    make(Wild((Store(INSIDE, (Run(), Run(root="/a/mlruns", files=False))),)), project, blank)
    own = project / f"{INSIDE}.bak"
    own.write_bytes(b"mine")
    was = bytes_of(project)
    for old in ("/kaggle/working/mlruns", None):
        fix_paths(project, old=old)
    assert own.read_bytes() == b"mine"
    undo(project)
    assert bytes_of(project) == was


def test_old_remote_root(project: Path, blank: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    make(Wild((Store("mlruns", (Run("s3"), Run("s3"))),)), project, blank)
    assert main([str(project), "--old", "s3://other"]) == 2
    assert "no location lies in s3://other. They lie in " in capsys.readouterr().err
    ids = [path.parent.name for path in project.glob("mlruns/1/*/meta.yaml")]
    for run, folder in zip(ids, ("mlruns", "synced"), strict=True):
        (project / folder / "1" / run / "artifacts").mkdir(parents=True, exist_ok=True)
        (project / folder / "1" / run / "artifacts" / "model.txt").write_text("x")
    assert main([str(project), "--old", "s3://bucket"]) == 0
    assert sorted(files or [] for _, files in seen(project / "mlruns").values()) == [[], ["model.txt"]]
    undo(project)
    maps = ["--map", f"s3://bucket={project / 'synced'}"]
    assert main([str(project), *maps]) == 0
    assert all(files == ["model.txt"] for _, files in seen(project / "mlruns").values())


def test_merge_file_store_zip(project: Path, blank: Path) -> None:  # noqa: F811
    truth = make(Wild((Store("mlruns", (Run(), Run("flat"))),)), project, blank)
    zipped(project, "mlruns/", archive := project.parent / "mlruns.zip", True)
    report = merge(archive, project.parent / "target")
    assert set(report.brought) == set(truth) and report.counts["files"] == 4


def older(mlruns: Path, revision: str, run: str) -> Path:
    """A record of one run as an older MLflow wrote it: its migrations, up to where they went then."""
    mlruns.mkdir(parents=True)
    url = f"sqlite:///{mlruns / DATABASE}"
    Base.metadata.create_all(engine := create_engine(url))
    engine.dispose()
    command.upgrade(_get_alembic_config(url), revision)
    (mlruns / "artifacts" / run / "artifacts").mkdir(parents=True)
    (mlruns / "artifacts" / run / "artifacts" / "model.txt").write_text(run)
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
        location = "file:///kaggle/working/mlruns/artifacts"
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (1, 'old', ?, 'active')",
            (location,),
        )
        columns = "run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri"
        values = (run, "old", "LOCAL", "x", "FINISHED", 1, 2, "active", f"{location}/{run}/artifacts", 1)
        connection.execute(f"INSERT INTO runs ({columns}, experiment_id) VALUES ({', '.join('?' * 10)})", values)
        connection.execute("INSERT INTO metrics (key, value, timestamp, run_uuid) VALUES ('loss', 0.5, 1, ?)", (run,))
    return mlruns


@pytest.mark.parametrize("version", OLD)
def test_merge_older_schema(version: str, project: Path) -> None:
    source = older(project / "mlruns", OLD[version], run := "a" * 32)
    was = bytes_of(source)
    report = merge(source, project / "target")
    assert (
        list(report.brought) == [run] and "brought to MLflow 3.17, in a copy" in str(report) and bytes_of(source) == was
    )
    assert client_of(project / "target").list_artifacts(run)[0].path == "model.txt"


def test_records_of_three_versions_in_one(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first becomes the target, of an older schema: it is brought up, and a copy is kept."""
    target = older(project / "mlruns", OLD["2.9"], "a" * 32)
    fix_paths(target)
    report = merge(older(project / "second" / "mlruns", OLD["2.22"], "b" * 32), target)
    assert f"{DATABASE} was of MLflow 2.8, brought to MLflow 3.17; as it was: {DATABASE}.bak" in str(report)
    archive, third, _ = kaggle_sessions(tmp_path_factory)["first"]
    merge(archive, target, experiment="all of them")
    client = client_of(target)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert {run.info.run_id for run in runs} == {"a" * 32, "b" * 32, third}
    assert all(client.list_artifacts(run.info.run_id) for run in runs)
    assert client.get_experiment(client.get_run(third).info.experiment_id).name == "all of them"
    with closing(sqlite3.connect(target / f"{DATABASE}.bak")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (OLD["2.9"],)


def test_a_merge_into_a_record_with_mlartifacts(
    project: Path,
    blank: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    truth = make(Wild((Store(DATABASE, (Run("server"),)),)), project, blank)
    fix_paths(project)
    archive, run, _ = kaggle_sessions(tmp_path_factory)["first"]
    assert list(merge(archive, project).brought) == [run]
    client = client_of(project)
    assert [info.path for info in client.list_artifacts(run)] == ["model", "note.txt"]
    assert all(client.list_artifacts(name) for name in truth)


def test_the_advised_way_back_goes_back_after_an_upgrade_too(project: Path) -> None:
    mlruns = older(project / "mlruns", OLD["2.9"], "a" * 32)
    report = repair_if_needed(mlruns)
    assert "brought to MLflow 3.17; as it was: mlflow.db.bak" in brief(report) and "--undo" in brief(report)
    with closing(sqlite3.connect(mlruns / f"{DATABASE}.bak")) as connection:
        assert connection.execute("SELECT artifact_uri FROM runs").fetchone()[0].startswith("file:///kaggle/")
    assert main([*shlex.split(report.undo)[2:]]) == 0
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
        assert connection.execute("SELECT artifact_uri FROM runs").fetchone()[0].startswith("file:///kaggle/")


def test_newer_schema(project: Path, blank: Path) -> None:  # noqa: F811
    make(Wild((Store(INSIDE, (Run(),)),)), project, blank)
    fix_paths(project)
    for revision, needed in (
        ("e0ffee000001", "or a later one: pip install --upgrade mlflow"),
        ("f4a9b2c7d1e6", "mlflow>=3.18"),
    ):
        with closing(sqlite3.connect(project / INSIDE)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        for opening in (repair_if_needed, open_dashboard):
            with pytest.raises(Refused, match=f"newer MLflow than the one installed here .schema {revision}.*{needed}"):
                opening(project)


def test_deleted_runs_come_on_request(project: Path, blank: Path) -> None:  # noqa: F811
    truth = make(Wild((Store(INSIDE, (Run(), Run(deleted=True))),)), project, blank)
    assert len(merge(project, project.parent / "one").brought) == 1
    report = merge(project, project.parent / "two", deleted=True)
    assert set(report.brought) == set(truth) and not report.deleted
    stages = {client_of(project.parent / "two").get_run(run).info.lifecycle_stage for run in truth}
    assert stages == {"active", "deleted"}


@pytest.mark.parametrize(
    ("store", "kept"),
    [("mlruns", "server"), (INSIDE, "server"), (INSIDE, "own"), ("mlruns", "elsewhere"), (DATABASE, "other")],
)
def test_what_works_is_not_touched(store: str, kept: str, project: Path, blank: Path) -> None:  # noqa: F811
    """Artifacts in another folder of this machine on purpose, and a record that never moved."""
    place = "elsewhere" if kept in ("elsewhere", "server") else kept
    make(Wild((Store(store, (Run(place, root="here"), Run(place, root="here", files=False))),)), project, blank)
    found, was = seen(project / store), bytes_of(project)
    report = fix_paths(project)
    now = {name: data for name, data in bytes_of(project).items() if not name.endswith("mlruns.json")}
    assert report.exit_code == 0 and not report.changed["runs"], str(report)
    assert kept == "other" or store != "mlruns" or now == was  # in a database MLflow itself made its Default experiment
    assert seen(project / store) == found


def test_a_database_may_be_named(project: Path, blank: Path) -> None:  # noqa: F811
    """It alone is repaired and shown, though another holds more runs."""
    make(Wild((Store("mlruns.db", (Run(),)), Store("backend.db", (Run(), Run("flat"))))), project, blank)
    was = bytes_of(project)
    report = fix_paths(project / "mlruns.db")
    assert report.runs == 1 and bytes_of(project)["backend.db"] == was["backend.db"]
    assert shlex.split(report.undo)[2:] == [str(project / "mlruns.db"), "--undo"]
    undo(project / "mlruns.db")
    assert bytes_of(project) == was
    fix_paths(project / "backend.db")
    told = fix_paths(project).notes[0]
    assert told.startswith("Shown is backend.db, other runs are in ")
    done = subprocess.run(
        [sys.executable, *shlex.split(told.partition(": python ")[2])], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count("brought ") == 3, done.stderr


def test_git_lfs_pointers_say_git_lfs_pull(project: Path, blank: Path) -> None:  # noqa: F811
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    project.mkdir(parents=True)
    for name in (DATABASE, "mlruns.zip"):
        (project / name).write_bytes(pointer)
        with pytest.raises(Refused, match="git lfs pull"):
            fix_paths(project / name)
        (project / name).unlink()
    make(Wild((Store("mlruns", (Run(),)),)), project, blank)
    for path in project.rglob("weights 1.pth"):
        path.write_bytes(pointer)
        next(path.parent.parent.glob("*.txt")).unlink()
    report = fix_paths(project)
    assert report.exit_code == 1 and "git lfs pull" in report.problems[0] and report.changed["runs"] == 1


def test_a_long_list_is_ten_and_a_count(project: Path, blank: Path) -> None:  # noqa: F811
    make(Wild((Store(INSIDE, (Run("lost"),) * 30),)), project, blank)
    report = fix_paths(project)
    assert len(report.missing) == 30 and "and 20 more" in str(report) and report.missing[10] not in str(report)
    assert not report.exposed


def test_artifacts_kept_elsewhere(project: Path, blank: Path, tmp_path: Path) -> None:  # noqa: F811
    make(
        Wild((Store(INSIDE, (Run("lost", root="/a/store/mlruns"), Run("lost", root="/b/store/mlruns"))),)),
        project,
        blank,
    )
    with closing(sqlite3.connect(project / INSIDE)) as connection, connection:
        ids = [run for (run,) in connection.execute("SELECT run_uuid FROM runs ORDER BY artifact_uri")]
        locations = [uri for (uri,) in connection.execute("SELECT artifact_uri FROM runs ORDER BY artifact_uri")]
    for disk, run, location in zip(("disk a", "disk b"), ids, locations, strict=True):
        folder = tmp_path / disk / location.partition("store/")[2]
        folder.mkdir(parents=True)
        (folder / f"{run}.txt").write_text("x")
    maps = [(f"/{letter}/store", str(tmp_path / f"disk {letter}")) for letter in "ab"]
    report = fix_paths(project, maps=maps)
    assert report.exit_code == 0 and report.changed["runs"] == 2, str(report)
    assert {run: files for run, (_, files) in seen(project / INSIDE).items()} == {run: [f"{run}.txt"] for run in ids}
    assert fix_paths(project, maps=maps).exit_code == 0  # has moved them already
    (tmp_path / "disk c").mkdir()
    with pytest.raises(Refused, match="no location lies in /c"):
        fix_paths(project, maps=[*maps, ("/c", str(tmp_path / "disk c"))])
    again = fix_paths(project)  # their ids say that these folders are the record's
    assert again.exit_code == 0 and not again.changed["runs"] and not again.exposed


def test_evaluation_data_sets_come_along(project: Path, blank: Path) -> None:  # noqa: F811
    make(Wild((Store(INSIDE, (Run(),)),)), project, blank)
    with closing(sqlite3.connect(project / INSIDE)) as connection, connection:
        connection.execute(
            "INSERT INTO evaluation_datasets (dataset_id, name, workspace) VALUES ('d-1', 'data', 'default')"
        )
        columns = "dataset_record_id, dataset_id, inputs, input_hash"
        connection.execute(f"INSERT INTO evaluation_dataset_records ({columns}) VALUES ('r', 'd-1', '{{}}', 'h')")
        link = "INSERT INTO entity_associations VALUES ('a-1', 'evaluation_dataset', 'd-1', 'experiment', '1', 1)"
        connection.execute(link)
    target = project.parent / "target"
    assert merge(project, target).counts["evaluation datasets"] == 1
    assert merge(project, target).counts["evaluation datasets"] == 0
    experiment = client_of(target).get_experiment_by_name("1").experiment_id
    with closing(sqlite3.connect(target / DATABASE)) as connection:
        (row,) = connection.execute("SELECT source_id, destination_id FROM entity_associations").fetchall()
        assert row == ("d-1", experiment)
        assert connection.execute("SELECT inputs FROM evaluation_dataset_records").fetchall() == [("{}",)]


def test_a_folder_with_artifacts_is_not_set_aside(project: Path, blank: Path) -> None:  # noqa: F811
    """MLflow refuses the store for it, and yet it holds the artifacts of a run in the database beside."""
    (run,) = make(Wild((Store(DATABASE, (Run("lost"),)),)), project, blank)
    make(Wild((Store("mlruns", (Run("lost"), Run(root="/b/mlruns"))),)), project / "x", blank)
    shutil.move(project / "x" / "mlruns" / "1", project / "mlruns" / "1")
    folder = project / "mlruns" / "old runs" / run / "artifacts"
    folder.mkdir(parents=True)
    (folder / "model.txt").write_text("x")
    report = fix_paths(project)
    assert (folder / "model.txt").is_file() and "'old runs', which holds artifacts" in str(report)
    assert seen(project / DATABASE)[run][1] == ["model.txt"]


PACKED = {
    name: SHOWN[name] for name in ("mlartifacts", "mlruns-db-beside", "empty-db-hides-file-store", "git-lost-folders")
}
PACKED["two of a tree"] = Wild((Store("a/b/mlruns", (Run(),)), Store("mlflow.db", (Run("flat"), Run("server")))))
PACKED["three in one folder"] = Wild(
    (Store("mlruns", (Run(),)), Store(INSIDE, (Run(),)), Store("backend.db", (Run(),)))
)


@pytest.mark.parametrize("name", PACKED)
def test_what_is_packed_arrives_whole(name: str, project: Path, blank: Path) -> None:  # noqa: F811
    """With what lies beside the folder, and neither copies nor what was set aside."""
    truth = make(PACKED[name], project, blank)
    fix_paths(project)
    archive = pack(project, project.parent / "packed.zip").path
    stores = {each.store.relative_to(project) for each in truth.values()}
    shutil.rmtree(project)
    report = fix_paths(archive, to := project.parent / "new é")
    assert report.exit_code == 0, str(report)
    to = to / "packed" if name == "two of a tree" else to
    found = check(truth, report, {to / store for store in stores})
    assert all(files for _, files in found.values()) and not list(to.rglob("*.undo.zip"))


def test_only_what_a_record_has_is_unpacked(project: Path, blank: Path) -> None:  # noqa: F811
    for store, place in ((DATABASE, "server"), (DATABASE, "own"), ("mlruns", "server")):
        truth = make(Wild((Store(store, (Run(place),)),)), project, blank)
        if not any((project / "mlruns").iterdir()):
            (project / "mlruns").rmdir()
        for name in ("src/train.py", "data/1.png", "README.md", "mlruns.txt"):
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text("mine")
        zipped(project, "repo-main/", archive := project.parent / "archive.zip", True)
        shutil.rmtree(project)
        report = fix_paths(archive, to := project.parent / "to")
        assert report.exit_code == 0 and "Left in the zip, 4 file(s) of no record" in str(report), str(report)
        assert not [path for path in to.rglob("*") if path.is_file() and path.read_bytes() == b"mine"]
        stores = [path for path in (to / "mlruns" / DATABASE, to / DATABASE, to / "mlruns") if path.exists()]
        check(truth, report, stores[:1])
        shutil.rmtree(to)


def test_what_a_training_writes_just_now_stays(project: Path, blank: Path) -> None:  # noqa: F811
    """Of a file store at its place a metric that is empty for a moment."""
    (run,) = make(Wild((Store("mlruns", (Run(root="here"),)),)), project, blank)
    metric = project / "mlruns" / "1" / run / "metrics" / "loss"
    metric.write_bytes(b"")
    was = bytes_of(project)
    report = fix_paths(project)
    assert report.exit_code == 1 and bytes_of(project, "mlruns.json") == was
    os.utime(metric, (1_700_000_000, 1_700_000_000))
    assert fix_paths(project).aside == [f"1/{run}/metrics/loss"] and not metric.exists()


ODD = (
    "",
    "empty",
    "conflict",
    "BOM",
    "CRLF",
    "UTF-16",
    "pointer",
    "uuid alone",
    "another's id",
    "empty metric",
    "torn metric",
)
PLACES = ("own", "flat", "server", "server host", "server inside", "other")


@pytest.mark.parametrize("path", ["mlruns", DATABASE])
def test_the_dashboard_answers_with_what_is_on_disk(path: str, project: Path, blank: Path) -> None:  # noqa: F811
    """Over REST, of a store with every quirk at once."""
    odd = (*ODD, "Finder", "a copy", "user's meta") if path == "mlruns" else ("", "user's meta")
    runs = [Run(place, root, files=n % 5 > 0) for n, (place, root) in enumerate(zip(PLACES * 2, ROOTS, strict=False))]
    runs += [Run(PLACES[n % 6], quirk=quirk, lost=frozenset({"params", "tags"})) for n, quirk in enumerate(odd)]
    truth = make(Wild((Store(path, tuple(runs), junk=JUNK, default=True),)), project, blank)
    report = repair_if_needed(project)
    with open_dashboard(report.source) as dashboard:
        ids = [e["experiment_id"] for e in dashboard.ask("experiments/search", max_results=100)["experiments"]]
        shown = {r["info"]["run_id"] for r in dashboard.ask("runs/search", experiment_ids=ids, max_results=999)["runs"]}
        assert shown == {run for run, each in truth.items() if each.found} and len(shown) == report.usable >= 12

        def files(run: str, path: str = "") -> list[str]:
            query = urlencode({"run_id": run} | ({"path": path} if path else {}))
            listed = json.loads(_fetch(f"{dashboard.url}/api/2.0/mlflow/artifacts/list?{query}")).get("files", [])
            deeper = [name for each in listed if each.get("is_dir") for name in files(run, each["path"])]
            return sorted([each["path"] for each in listed if not each.get("is_dir")] + deeper)

        assert {run: files(run) for run in shown} == {run: list(truth[run].files) for run in shown}
        for run in shown:
            for name in truth[run].files:
                query = urlencode({"run_uuid": run, "path": name})
                assert _fetch(f"{dashboard.url}/get-artifact?{query}") == b"artifact_uri: /kaggle/working/mlruns\n"


def test_a_gitkeep_is_no_proof(project: Path, blank: Path) -> None:  # noqa: F811
    """Someone kept the empty folders of a store whose artifacts lie elsewhere on this machine."""
    (run,) = make(Wild((Store("mlruns", (Run("elsewhere", root="here"),)),)), project, blank)
    for name in ("metrics", "params", "artifacts"):
        (project / "mlruns" / "1" / run / name / ".gitkeep").touch()
    before = (project / "mlruns" / "1" / run / "meta.yaml").read_bytes()
    report = fix_paths(project)
    assert report.exit_code == 0 and (project / "mlruns" / "1" / run / "meta.yaml").read_bytes() == before
    assert len(seen(project / "mlruns")[run][1]) == 2


def test_registered_models_that_mlflow_cannot_read_are_set_aside(project: Path, blank: Path) -> None:  # noqa: F811
    """One without its `meta.yaml`, whole; of another a version that is torn; the good one is listed, and all comes back."""
    make(Wild((Store("mlruns", (Run(),)),)), project, blank)
    location = "/kaggle/working/mlruns/1/x/artifacts/model"
    for name in ("broken", "good", "headless", "torn"):
        for number in (1, 2):
            version = project / "mlruns" / "models" / name / f"version-{number}" / "meta.yaml"
            version.parent.mkdir(parents=True)
            values = f"current_stage: None\nname: {name}\nsource: {location}\nstatus: READY\nversion: {number}\n"
            version.write_text("creation_timestamp: 1\nlast_updated_timestamp: 1\n" + values)
        if name != "headless":
            meta = f"creation_timestamp: 1\nlast_updated_timestamp: 1\nname: {name}\n"
            (version.parent.parent / "meta.yaml").write_text(meta if name != "broken" else meta[:9])
    for name in ("headless", "torn"):
        (project / "mlruns" / "models" / name / "version-1" / "meta.yaml").write_text("<<<<<<< HEAD\n")
    for path in project.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    was = bytes_of(project)
    report = fix_paths(project)
    assert sorted(report.aside) == ["models/broken", "models/headless", "models/torn/version-1"], str(report)
    assert not [problem for problem in report.problems if "half-way" in problem]
    client = client_of(project)
    assert {model.name for model in client.search_registered_models()} == {"good", "torn"}
    assert client.get_model_version("good", "2").source.startswith(project.as_uri())
    (project / "mlruns" / ".trash").rmdir()  # which MLflow's client made
    undo(project)
    assert bytes_of(project) == was


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_goes_on_working(project: Path, blank: Path) -> None:  # noqa: F811
    make(Wild((Store("mlruns", (Run(),)),)), project, blank)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(project / "mlruns"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "all")
    fix_paths(project)
    assert git("log", "--format=%s").strip() == "all" and "1/meta.yaml" in git("diff", "--name-only")
    assert seen(project / "mlruns")
    moved = project.rename(project.with_name("again"))
    assert subprocess.run(["git", "-C", str(moved / "mlruns"), "log"], capture_output=True, check=True).stdout
    undo(moved)
    assert (moved / "mlruns" / ".git" / "HEAD").is_file() and not list(moved.glob("*.set-aside"))
