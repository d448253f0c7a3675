"""Merging: every run arrives whole, once, under its own id; what does not go together is refused and changes nothing."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from helpers.config import PROJECT
from mlruns_tools import merge as merge_module
from mlruns_tools.fixed_paths import DATABASE, MARKER, Refused, fix_paths
from mlruns_tools.merge import locked, main, merge
from mlruns_tools.pack import pack
from mlruns_tools.transfer import Transfer
from tests.records import (
    NAMES,
    STEPS,
    blank_record,
    client_of,
    facts_of,
    file_store,
    kaggle_sessions,
    sqlite_record,
    trained_run,
)


@pytest.fixture(scope="session")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, dict]]:
    return kaggle_sessions(tmp_path_factory)


@pytest.fixture(scope="session")
def merged(sessions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three in one record."""
    target = tmp_path_factory.mktemp("home") / "my récord #1" / "mlruns"
    for archive, _, _ in sessions.values():
        merge(archive, target)
    return target


@pytest.fixture
def own(merged: Path, tmp_path: Path) -> Path:
    """A copy to change: merged and repaired at a place of its own."""
    shutil.copytree(merged, tmp_path / "mlruns")
    fix_paths(tmp_path / "mlruns")
    return tmp_path / "mlruns"


def dump(mlruns: Path) -> list[str]:
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
        return list(connection.iterdump())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_arrives_whole_under_its_own_id(name: str, sessions, merged: Path, tmp_path: Path) -> None:
    _, run, facts = sessions[name]
    found = facts_of(client_of(merged), run, tmp_path / "facts")
    assert found == facts
    assert [step for step, _, _ in found["histories"]["val_loss"]] == list(range(STEPS))
    assert found["artifacts"]["model/weights 1.pth"] == name.encode() * 5000 and found["info"][1] == "FINISHED"
    assert found["models"] and found["model files"][0] and found["data"]


def test_one_experiment_holds_the_runs_of_all(sessions, merged: Path) -> None:
    client = client_of(merged)
    experiments = {experiment.name: experiment for experiment in client.search_experiments()}
    assert set(experiments) == {"Default", "captcha-ocr"} and experiments["captcha-ocr"].tags["team"] == "ocr"
    assert experiments["captcha-ocr"].artifact_location == (merged / "artifacts").as_uri()
    runs = client.search_runs([experiments["captcha-ocr"].experiment_id])
    assert {run.info.run_id for run in runs} == {run for _, run, _ in sessions.values()}
    traces = client.search_traces(locations=[experiments["captcha-ocr"].experiment_id])
    assert {trace.info.trace_metadata["mlflow.sourceRun"] for trace in traces} == {r for _, r, _ in sessions.values()}


def test_versions_take_the_next_number_and_an_alias_stays(sessions, merged: Path) -> None:
    client = client_of(merged)
    versions = sorted(client.search_model_versions("name = 'reader'"), key=lambda version: int(version.version))
    assert [(int(v.version), v.run_id, v.tags["from"]) for v in versions] == [
        (number, sessions[name][1], name) for number, name in enumerate(NAMES, 1)
    ]
    for version in versions:
        assert version.source == f"{client.get_run(version.run_id).info.artifact_uri}/model"
        assert Path(client.get_model_version_download_uri("reader", version.version)[7:]).name == "model"
    aliases = client.get_registered_model("reader").aliases
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1} | {
        f"of-{name}": number for number, name in enumerate(NAMES, 1)
    }


def test_the_record_is_right_where_it_is(merged: Path) -> None:
    report = fix_paths(merged, dry_run=True)
    assert not report.changed and not report.problems and not report.missing and report.right["runs"] == 3
    assert {path.name for path in merged.iterdir()} == {DATABASE, MARKER, "artifacts"}
    with closing(sqlite3.connect(merged / DATABASE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_twice_is_once_and_a_run_that_is_there_is_left_alone(sessions, own: Path) -> None:
    archive, run, _ = sessions["second"]
    client_of(own).set_tag(run, "mine", "kept")
    before, there = dump(own), files(own / "artifacts")
    report = merge(archive, own)
    assert not report.brought and list(report.left) == [run] and report.counts["files"] == 0
    assert dump(own) == before and files(own / "artifacts") == there


def test_the_source_is_only_read(sessions, tmp_path: Path) -> None:
    """Neither a zip nor a folder that was moved and not repaired."""
    archive, run, facts = sessions["first"]
    content = archive.read_bytes()
    zipfile.ZipFile(archive).extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / "mlruns"
    before = files(folder)
    merge(archive, tmp_path / "one")
    merge(folder, tmp_path / "two")
    assert archive.read_bytes() == content and files(folder) == before
    for target in ("one", "two"):
        assert facts_of(client_of(tmp_path / target), run, tmp_path / "facts" / target) == facts
        assert str(tmp_path / "unpacked") not in "\n".join(dump(tmp_path / target))


def test_deleted_runs_are_not_brought(tmp_path: Path, tmp_path_factory) -> None:
    target = tmp_path / "mlruns"
    report = merge(sqlite_record(tmp_path_factory) / "mlruns.zip", target)
    assert list(report.brought.values()) == ["kept"] and report.deleted == 1
    assert "1 deleted run(s)" in str(report)
    assert len(dump(target)) and sum("'deleted'" in line for line in dump(target) if "INTO runs" in line) == 0
    client = client_of(target)
    (run,) = client.search_runs([client.get_experiment_by_name("captcha-ocr").experiment_id])
    assert [file.path for file in client.list_artifacts(run.info.run_id, "model")] == [
        "model/meta.yaml",
        "model/model_weights.pth",
    ]


def test_a_run_deleted_here_stays_deleted(sessions, own: Path) -> None:
    archive, run, _ = sessions["first"]
    client_of(own).delete_run(run)
    assert f"run {run} was deleted here" in str(merge(archive, own))
    assert client_of(own).get_run(run).info.lifecycle_stage == "deleted"


def test_a_run_that_went_on_elsewhere_is_named(sessions, own: Path) -> None:
    archive, run, _ = sessions["first"]
    client_of(own).update_run(run, status="RUNNING")
    assert f"run {run} is RUNNING here and FINISHED in the source" in str(merge(archive, own))


def test_numbers_of_experiments_may_differ(sessions, tmp_path: Path, tmp_path_factory) -> None:
    """Number 1 is another experiment here; names decide."""
    target = blank_record(tmp_path, tmp_path_factory)
    trained_run(target, "other", "another experiment")
    fix_paths(target)
    archive, run, facts = sessions["first"]
    merge(archive, target)
    client = client_of(target)
    assert client.get_experiment(client.get_run(run).info.experiment_id).name == "captcha-ocr"
    assert facts_of(client, run, tmp_path / "facts") == facts
    model = client.search_logged_models([client.get_run(run).info.experiment_id])
    assert [m.source_run_id for m in model] == [run]


@pytest.mark.parametrize("how", ["folder", "parent", "link"])
def test_into_itself_is_refused(how: str, own: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(own, target_is_directory=True)
    before = dump(own)
    with pytest.raises(Refused, match="is the target itself"):
        merge({"folder": own, "parent": own.parent, "link": tmp_path / "link"}[how], own)
    assert dump(own) == before


def test_another_schema_is_refused(sessions, own: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(own / DATABASE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of another version'")
    before, there = dump(own), files(own)
    with pytest.raises(Refused, match=r"newer MLflow than the one installed here \(schema of another version\)"):
        merge(sessions["first"][0], own)
    assert dump(own) == before and files(own) == there


def test_a_file_store_is_brought_and_takes_none(sessions, tmp_path: Path, tmp_path_factory) -> None:
    store = file_store(tmp_path_factory)
    for number, source in enumerate((store / "mlruns.zip", store / "mlruns")):
        before = files(store)
        target = tmp_path / f"new {number}"
        report = merge(source, target)
        assert list(report.brought.values()) == ["kept"] and "a database was made of the file store" in str(report)
        client = client_of(target)
        (run,) = client.search_runs([client.get_experiment_by_name("captcha-ocr").experiment_id])
        assert [file.path for file in client.list_artifacts(run.info.run_id, "model")][1] == "model/model_weights.pth"
        assert files(store) == before
    shutil.copytree(store / "mlruns", tmp_path / "store")
    fix_paths(tmp_path / "store")
    with pytest.raises(Refused, match=r"file store.*fixed_paths.py .* --to-sqlite"):
        merge(sessions["first"][0], tmp_path / "store")


def test_a_deleted_experiment_is_refused_by_name(sessions, own: Path) -> None:
    client = client_of(own)
    client.delete_experiment(client.get_experiment_by_name("captcha-ocr").experiment_id)
    with closing(sqlite3.connect(own / DATABASE)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table, column in (("runs", "run_uuid"), ("logged_models", "model_id"), ("trace_info", "request_id")):
            connection.execute(f"UPDATE {table} SET {column} = 'x' || substr({column}, 2)")
    before, there = dump(own), files(own / "artifacts")
    with pytest.raises(Refused, match="the experiment 'captcha-ocr' is deleted in the target: restore it"):
        merge(sessions["first"][0], own)
    assert dump(own) == before and files(own / "artifacts") == there


def test_a_moved_target_is_refused(sessions, merged: Path, tmp_path: Path) -> None:
    shutil.copytree(merged, tmp_path / "mlruns")
    with pytest.raises(Refused, match="was moved. Repair it first"):
        merge(sessions["first"][0], tmp_path / "mlruns")


@pytest.mark.parametrize("uri", ["file:///etc", "/etc/ssl", "file:///"])
def test_artifacts_outside_the_source_are_refused(uri: str, sessions, tmp_path: Path) -> None:
    """Else a record made by others would bring files of this machine into the dashboard."""
    zipfile.ZipFile(sessions["first"][0]).extractall(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlruns" / DATABASE)) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (uri,))
    with pytest.raises(Refused, match="outside the record"):
        merge(tmp_path / "mlruns", tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_links_out_of_the_source_are_not_followed(sessions, tmp_path: Path) -> None:
    archive, run, _ = sessions["first"]
    zipfile.ZipFile(archive).extractall(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("mine")
    artifacts = tmp_path / "mlruns" / "artifacts" / run / "artifacts"
    (artifacts / "file").symlink_to(secret / "key")
    (artifacts / "folder").symlink_to(secret, target_is_directory=True)
    (artifacts / "inside").symlink_to(artifacts / "note.txt")
    report = merge(tmp_path / "mlruns", tmp_path / "home")
    brought = tmp_path / "home" / "artifacts" / run / "artifacts"
    assert (brought / "inside").read_text() == "first" and not (brought / "inside").is_symlink()
    assert not os.path.lexists(brought / "file") and not os.path.lexists(brought / "folder")
    assert str(report).count("left out, a link out of the record") == 2


def test_lost_artifacts_are_a_problem_and_the_run_arrives(sessions, tmp_path: Path) -> None:
    archive, run, _ = sessions["first"]
    zipfile.ZipFile(archive).extractall(tmp_path)
    shutil.rmtree(tmp_path / "mlruns" / "artifacts" / run)
    report = merge(tmp_path / "mlruns", tmp_path / "home")
    assert list(report.brought) == [run] and report.exit_code == 1 and "PROBLEMS: 1" in str(report)


def test_a_locked_target_is_refused_and_left_as_it_was(sessions, merged, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mlruns_tools.transfer.PATIENCE", 0.1)
    target = tmp_path / "mlruns"
    merge(sessions["second"][0], target)
    before = files(target / "artifacts")
    with closing(sqlite3.connect(target / DATABASE, isolation_level=None)) as training:
        training.execute("BEGIN IMMEDIATE")
        with pytest.raises(Refused, match="is in use"):
            merge(sessions["first"][0], target)
    assert files(target / "artifacts") == before
    assert list(merge(sessions["first"][0], target).brought) == [sessions["first"][1]]


def test_one_merge_at_a_time(sessions, own: Path) -> None:
    before = files(own)
    with locked(own, "taken"):
        for _ in range(2):  # a refused one does not take the lock away
            with pytest.raises(Refused, match="another merge"):
                merge(sessions["first"][0], own)
    assert files(own) == before
    merge(sessions["first"][0], own)


@pytest.mark.parametrize(
    "name", ["merge.part", ".mlruns-lock", ".mlruns-0123", f"{DATABASE}.part", f"{DATABASE}.upgrade"]
)
def test_work_files_that_came_with_the_target(name: str, sessions, own: Path, tmp_path: Path) -> None:
    """None is opened as a database, whose journal may name any file to delete, none is followed or removed."""
    victim = tmp_path / "victim"
    (victim / "work").mkdir(parents=True)
    (victim / "work" / "mine").write_text("mine")
    journal = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # the header's magic, and again at the end after a name
    named = str(victim / "work" / "mine").encode()
    hot = journal + bytes(504) + named + len(named).to_bytes(4, "big") + bytes(4) + journal

    def database(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE t (x)")
        path.with_name(path.name + "-journal").write_bytes(hot)

    def link(to: Path, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(to)

    kinds = [
        lambda path: (database(path), database(path.with_name("other") / "lock")),
        lambda path: database(path / "lock"),
        lambda path: link(victim, path),
        lambda path: link(victim / "work" / "mine", path),
        lambda path: link(victim, path / "work"),
    ]
    for kind in kinds:
        kind(own / name)
        before = files(own / name) if (own / name).is_dir() else (own / name).read_bytes()
        merge(sessions["first"][0], own)
        merge(sessions["second"][0], own)
        assert (files(own / name) if (own / name).is_dir() else (own / name).read_bytes()) == before
        assert (victim / "work" / "mine").read_text() == "mine"
        is_folder = (own / name).is_dir() and not (own / name).is_symlink()
        shutil.rmtree(own / name) if is_folder else (own / name).unlink()
        for left in own.glob(f"{name}-journal"):
            left.unlink()


def test_one_database_alone_is_written(sessions, own: Path, monkeypatch) -> None:
    """A commit of two leaves, where it is killed, a journal that names a third file: such a target would be refused."""
    written = []

    def write(transfer: Transfer) -> None:
        source = Path(transfer.db.execute("PRAGMA database_list").fetchall()[-1]["file"])
        with closing(sqlite3.connect(source, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # locked where the merge had begun to write to it
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            transfer.db.execute("DELETE FROM source.tags")
        written.append(source.name)

    monkeypatch.setattr(Transfer, "write", write)
    merge(sessions["first"][0], own)
    assert written == [DATABASE]


KILLED = {  # where a merge into a new record is killed
    "while it copies": "shutil.copy2 = stop",
    "before the artifacts are in place": "m.os.rename = stop",
    "before the rows are committed": "m.Transfer._write_versions = stop",
    "before the record has its database": "m.write_marker = stop",
}


def test_a_record_that_another_merge_made_meanwhile_is_kept(sessions, tmp_path: Path, monkeypatch) -> None:

    def late(root: Path, what: str):  # noqa: ANN202
        monkeypatch.setattr(merge_module, "locked", locked)
        merge(sessions["second"][0], root)
        return locked(root, what)

    monkeypatch.setattr(merge_module, "locked", late)
    target = tmp_path / "mlruns"
    merge(sessions["first"][0], target)
    for name in ("first", "second"):
        assert facts_of(client_of(target), sessions[name][1], tmp_path / name) == sessions[name][2]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", KILLED)
def test_a_merge_killed_on_its_way_is_made_good(moment: str, sessions, tmp_path: Path) -> None:
    archive, run, facts = sessions["first"]
    target = tmp_path / "mlruns"
    kill = "import os, shutil, signal\nfrom mlruns_tools import merge as m\n"
    kill += "stop = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    script = f"{kill}\n{KILLED[moment]}\nm.merge({str(archive)!r}, {str(target)!r})"
    assert subprocess.run([sys.executable, "-c", script], cwd=PROJECT).returncode == -signal.SIGKILL
    (left,) = target.glob(".mlruns-*")
    assert not (target / DATABASE).exists()
    report = merge(archive, target)
    assert f"to be removed from {target}: {left.name}" in str(report)
    shutil.rmtree(left)
    assert list(report.brought) == [run] and facts_of(client_of(target), run, tmp_path / "facts") == facts
    assert {path.name for path in target.iterdir()} == {DATABASE, MARKER, "artifacts"}


def test_on_the_command_line(sessions, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, run, _ = sessions["first"]
    assert main([str(archive), str(tmp_path / "mlruns")]) == 0
    printed = capsys.readouterr().out
    assert f"brought {run} first" in printed and "mlflow_dashboard.py" in printed
    assert main([str(tmp_path), str(archive)]) == 2 and "the target must be a folder" in capsys.readouterr().err
    assert main(["http://127.0.0.1:1", str(tmp_path / "mlruns")]) == 2


def test_a_choice_of_runs_is_packed_with_what_belongs_to_them(sessions, merged: Path, tmp_path: Path) -> None:
    ids = [sessions["first"][1], sessions["third"][1]]
    packed = pack(merged, tmp_path / "choice.zip", runs=ids)
    assert packed.runs == 2 and "2 run(s)" in str(packed)
    report = fix_paths(packed.path, tmp_path / "elsewhere")
    assert report.exit_code == 0 and not report.missing
    client = client_of(report.root)
    for name in ("first", "third"):
        _, run, facts = sessions[name]
        assert facts_of(client, run, tmp_path / name) == facts
    (experiment,) = [e for e in client.search_experiments() if e.name == "captcha-ocr"]
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert len(client.search_logged_models([experiment.experiment_id])) == 2
    assert len(client.search_traces(locations=[experiment.experiment_id])) == 2
    assert {v.run_id for v in client.search_model_versions("name = 'reader'")} == set(ids)
    names = zipfile.ZipFile(packed.path).namelist()
    assert sessions["second"][1] not in "".join(names) + "".join(dump(report.root))
    with closing(sqlite3.connect(report.root / DATABASE)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_an_unknown_run_is_refused_with_those_near(sessions, merged: Path, tmp_path: Path) -> None:
    run = sessions["first"][1]
    for wrong in (run[:6], "first", run[:-1] + "x"):
        with pytest.raises(Refused, match=rf"no run '{wrong}'; near it are .*{run} \(first\)"):
            pack(merged, tmp_path / "x.zip", runs=[wrong])
    with pytest.raises(Refused, match=r"no run 'zzz'; its runs are .*\(second\)"):
        pack(merged, tmp_path / "x.zip", runs=[run, "zzz"])
    assert list(tmp_path.iterdir()) == []
