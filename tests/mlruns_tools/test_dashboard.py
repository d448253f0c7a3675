"""The dashboard on a record that was packed, carried elsewhere and repaired: REST, a browser, and the notebook."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.config import PROJECT as ROOT
from mlruns_tools import dashboard as tools
from mlruns_tools.dashboard import (
    Dashboard,
    _fetch,
    arguments,
    chosen_record,
    open_dashboard,
    repair_if_needed,
    runs_table,
)
from mlruns_tools.fixed_paths import DATABASE, Refused, fix_paths
from tests.hostile import database_record
from tests.mlruns_tools.test_hostile import tree
from tests.records import ODD, WEIGHTS, client_of, file_store, sqlite_record


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / ODD
    return fix_paths(sqlite_record(tmp_path_factory) / "mlruns.zip", folder).root


@pytest.fixture(scope="module")
def dashboard(record: Path) -> Iterator[Dashboard]:
    with open_dashboard(record) as running:
        yield running


def run_of(dashboard: Dashboard) -> dict[str, str]:
    found = dashboard.ask("experiments/search", max_results=100)["experiments"]
    runs = dashboard.ask("runs/search", experiment_ids=[experiment["experiment_id"] for experiment in found])["runs"]
    return next(run["info"] for run in runs if run["info"]["run_name"] == "kept")


def test_rest_lists_and_downloads_the_weights(dashboard: Dashboard) -> None:
    run = run_of(dashboard)["run_id"]
    listed = json.loads(_fetch(f"{dashboard.url}/api/2.0/mlflow/artifacts/list?run_id={run}&path=model"))
    assert "model/model_weights.pth" in [file["path"] for file in listed["files"]]
    assert _fetch(f"{dashboard.url}/get-artifact?run_uuid={run}&path=model/model_weights.pth") == WEIGHTS


def test_links_name_the_runs(dashboard: Dashboard) -> None:
    run = run_of(dashboard)
    page = f"{dashboard.url}/#/experiments/{run['experiment_id']}/runs"
    assert dashboard.run_links() == {
        f"kept ({run['run_id'][:8]})": f"{page}/{run['run_id']}/model-metrics?workflowType=machine_learning"
    }
    assert dashboard.link == f"{page}?workflowType=machine_learning"


def test_the_server_leaves_nothing_behind(record: Path, dashboard: Dashboard) -> None:
    names = {path.name for path in record.iterdir()}
    assert names == {DATABASE, "mlruns.json", "artifacts"}


def test_a_moved_record_is_refused(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = shutil.copytree(sqlite_record(tmp_path_factory) / "mlruns", tmp_path / "mlruns")
    with pytest.raises(Refused, match="was moved. Repair it first"):
        open_dashboard(moved)


def test_a_newer_database_gets_one_sentence(record: Path, tmp_path: Path) -> None:
    newer = fix_paths(shutil.copytree(record, tmp_path / "mlruns")).root
    with closing(sqlite3.connect(newer / DATABASE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    for opening in (open_dashboard, repair_if_needed):
        with pytest.raises(Refused, match=r"newer MLflow than the one installed here \(schema from the future\)"):
            opening(newer)
    assert {path.name for path in newer.iterdir()} == {DATABASE, "mlruns.json", "artifacts"} | {"repair-1.undo.zip"}


def test_a_server_that_fails_shows_its_log_and_leaves_nothing(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "store_uri", lambda _: "sqlite:////dev/null/mlflow.db")
    monkeypatch.setattr("mlruns_tools.asked.check_places", lambda *_: None)  # it would say so before
    with pytest.raises(RuntimeError, match="The MLflow server ended"):
        open_dashboard(record)


def test_ports_that_cannot_be_used(dashboard: Dashboard) -> None:
    with pytest.raises(Refused, match="browsers block port 6000"):
        tools._free_port(6000)
    port = int(dashboard.url.rpartition(":")[2])
    with pytest.raises(Refused, match="is taken by another program"):
        tools._free_port(port)


def test_the_table_has_one_row_per_run(record: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = fix_paths(file_store(tmp_path_factory) / "mlruns.zip", tmp_path).root
    for mlruns in (record, files):
        (row,) = runs_table(mlruns)
        wanted = {"run": "kept", "status": "FINISHED", "val_exact": 0.5, "recipe": "cnn_gru_ctc"}
        assert {name: row[name] for name in wanted} == wanted


def test_which_record(
    monkeypatch: pytest.MonkeyPatch, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mlflow_dashboard.py"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    assert vars(arguments()) == {"source": None, "maps": [], "browser": True} and chosen_record(None, record) == record
    monkeypatch.setattr(tools, "demonstration", lambda folder: folder / "demonstration")
    assert chosen_record(None, tmp_path / "mlruns").name == "demonstration"
    assert "invented numbers" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["mlflow_dashboard.py", "some/mlruns.zip", "--no-browser"])
    assert not arguments().browser and chosen_record(arguments().source, record) == Path("some/mlruns.zip")
    assert sys.excepthook is tools._say
    monkeypatch.setattr(tools, "in_notebook", lambda: True)  # there, the arguments are the kernel's
    assert arguments().source is None


def test_a_record_that_is_not_whole_is_shown_and_one_that_names_files_of_this_machine_never(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dashboard, "__init__", lambda dashboard, record, port: None)
    monkeypatch.setattr(Dashboard, "wait_until_it_answers", lambda dashboard: None)
    copy = fix_paths(shutil.copytree(record, tmp_path / "mlruns")).root
    shutil.rmtree(copy / "artifacts")
    assert "no run has artifacts here" in tools.brief(repair_if_needed(copy))
    assert isinstance(open_dashboard(copy), Dashboard)
    for nowhere in ("file:///no/such/place/artifacts", "/kaggle/working/elsewhere"):
        with closing(sqlite3.connect(copy / DATABASE)) as connection, connection:
            connection.execute("UPDATE runs SET artifact_uri = ?", (nowhere,))
        assert isinstance(open_dashboard(copy), Dashboard)
    for place in ("file:///etc", "../../../etc", str(tmp_path)):
        with closing(sqlite3.connect(copy / DATABASE)) as connection, connection:
            connection.execute("UPDATE runs SET artifact_uri = ?", (place,))
        with pytest.raises(Refused, match="which its dashboard would open.*--map OLD=NEW"):
            open_dashboard(copy)
    assert isinstance(open_dashboard(copy, maps=[(str(tmp_path), str(tmp_path))]), Dashboard)


def test_a_portable_record_opens_at_every_place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = fix_paths(sqlite_record(tmp_path_factory) / "mlruns.zip", tmp_path / "home", portable=True).root
    with open_dashboard(home.rename(tmp_path / ODD)) as running:
        run = run_of(running)["run_id"]
        listed = json.loads(_fetch(f"{running.url}/api/2.0/mlflow/artifacts/list?run_id={run}&path=model"))
        assert "model/model_weights.pth" in [file["path"] for file in listed["files"]]
        assert _fetch(f"{running.url}/get-artifact?run_uuid={run}&path=model/model_weights.pth") == WEIGHTS


def test_histories_are_complete_and_in_order(tmp_path: Path) -> None:
    record = tools.demonstration(tmp_path)
    ((run, points),) = tools.histories(record, "val_loss").items()
    assert run == "invented" and points == [(step, 1 / (1 + step)) for step in range(5)]
    assert tools.histories(record, "val_exact") == {}


def test_the_script_on_kaggle_shows_the_table_of_a_zip(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.copy(sqlite_record(tmp_path_factory) / "mlruns.zip", tmp_path)
    script = ROOT / "notebooks" / "mlflow_dashboard.py"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAPTCHA_")}
    environment |= {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "CAPTCHA_WORK": str(tmp_path / "work"), "CAPTCHA_TINY": "1"}
    command = [sys.executable, str(script), str(tmp_path / "mlruns.zip")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "val_exact" in done.stdout and "cnn_gru_ctc" in done.stdout and "http://" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns", "mlruns.zip"]


@pytest.mark.parametrize("maker", [sqlite_record, file_store])
def test_the_same_zip_can_be_opened_again_but_not_over_another_record(
    maker: Callable, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.copy(maker(tmp_path_factory) / "mlruns.zip", tmp_path)
    first = repair_if_needed(tmp_path / "mlruns.zip")
    again = repair_if_needed(tmp_path / "mlruns.zip")
    assert first.changed and not again.changed and "unpacked already" in tools.brief(again)
    (tmp_path / "mlruns" / "mlruns.json").unlink()
    with pytest.raises(Refused, match="there already"):
        repair_if_needed(tmp_path / "mlruns.zip")


def test_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "nothing.zip").write_bytes(b"no zip")
    script = ROOT / "notebooks" / "mlflow_dashboard.py"
    for name in ("nothing.zip", "nowhere", "."):
        done = subprocess.run([sys.executable, str(script), name], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("Refused: ") and "Traceback" not in done.stderr
    with pytest.raises(Refused) as refused:
        fix_paths(tmp_path)
    assert refused.value._render_traceback_() == [f"Refused: {refused.value}"]


def test_artifacts_of_a_run_are_listed_by_folder(record: Path) -> None:
    run = next(row["id"] for row in runs_table(record) if row["run"] == "kept")
    folder = record / "artifacts" / run / "artifacts"
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files
    assert tools.artifacts(record, run) == {
        parent: [path.name for path in files if path.parent.as_posix() == parent]
        for parent in sorted({path.parent.as_posix() for path in files})
    }


def test_rows_are_shortened_to_what_tells() -> None:
    row = {"run": "first", "id": "a" * 32, "loss": 0.123456789, "epochs": "8", "data": "/a/long/way/to/captchas"}
    kept = {"run": "first", "epochs": "8"}
    assert tools.shortened([row], most=16) == [kept | {"id": "a" * 8, "loss": "0.12346", "data": ".../captchas"}]
    assert tools.shortened([{"id": "", "text": "0123456789"}], most=8) == [{"id": "", "text": "...56789"}]


def test_namesakes_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    record = tools.demonstration(tmp_path)
    client = tools._client(record)
    again = client.create_run("1", run_name="invented").info.run_id
    client.log_metric(again, "val_loss", 2.0, step=0)
    names = list(tools.histories(record, "val_loss"))
    assert names[0] == f"invented ({again[:8]})" and len(set(names)) == 2


def test_files_of_this_machine_are_refused_before_the_repair_changes_anything(tmp_path: Path) -> None:
    mlruns = database_record(tmp_path / "mlruns", "/etc")
    before = tree(tmp_path)
    with pytest.raises(Refused, match="places outside of itself"):
        repair_if_needed(mlruns)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("changed", "status"), [([], 2), (["the record is repaired"], 1)])
def test_the_exit_status_says_whether_anything_was_changed(
    changed: list[str], status: int, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(tools, "CHANGED", changed)
    with pytest.raises(SystemExit) as ended:
        tools._say(RuntimeError, RuntimeError("The MLflow server ended: \x1b[31m"), None)
    said = capsys.readouterr().err
    assert ended.value.code == status and said.startswith(("Unfinished: ", "Refused: ")[status - 1])
    assert "\x1b" not in said and all(each in said for each in changed)


def test_names_that_give_orders_to_a_terminal_are_escaped(tmp_path: Path) -> None:
    mlruns = tools.demonstration(tmp_path)
    run = tools.runs_table(mlruns)[0]["id"]
    client = client_of(mlruns)
    client.log_text(run, "", "a\x1b[2J/b\x07.txt")
    client.set_tag(run, "mlflow.runName", "one\x1b]0;two\x07")
    printed = f"{tools.shortened(tools.runs_table(mlruns))} {tools.artifacts(mlruns, run)}"
    assert printed.isprintable() and "\\x1b" in printed
