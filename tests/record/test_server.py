"""A team's server: PostgreSQL behind it, artifacts through it; records are pushed to it and trainings log straight into it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from helpers.config import PROJECT, Config
from helpers.data.module import load_data
from helpers.evaluation.trial import judge
from helpers.experiment import pack_record
from helpers.reading.reader import Reader
from helpers.record.registry import CHAMPION, NAME
from helpers.record.runs import finished_runs, record_folder
from helpers.record.tracking import track
from mlruns_tools.fixed_paths import Refused
from mlruns_tools.merge import merge
from mlruns_tools.push import COMPLETE, INCOMPLETE, SOURCE, STATE
from tests.records import NAMES, STEPS, facts_of, kaggle_sessions, sqlite_record

pwd = pytest.importorskip("pwd", reason="the server's test needs a Unix system")
PATIENCE = 120  # seconds
HOST = "127.0.0.1"
COMMAND = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def postgres_tools() -> Path:
    """The folder of PostgreSQL's programs; without one the tests are skipped, and in the project's own check they fail."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [folder for folder in folders if (folder / "initdb").is_file()]
    if folders:
        return folders[0]
    if os.environ.get("CI"):
        pytest.fail("PostgreSQL is not installed, and under CI=1 this test must run: apt-get install postgresql")
    pytest.skip("PostgreSQL is not installed (apt-get install postgresql): no server to test against")


@contextmanager
def process(command: list[object], **settings: object) -> Iterator[subprocess.Popen]:
    started = subprocess.Popen(list(map(str, command)), start_new_session=True, **settings)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGINT if "postgres" in str(command[0]) else signal.SIGTERM)
        started.wait(30)


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database of its own; not run as root, which PostgreSQL refuses."""
    tools, port = postgres_tools(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="captcha-postgres-"))
    user = None
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
    settings = {"cwd": folder, "user": user, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        made = [tools / "initdb", "-D", folder / "data", "-U", "team", "-A", "trust", "-E", "UTF8", "--no-sync"]
        done = subprocess.run(made, check=False, **settings)
        assert done.returncode == 0, done.stdout.decode()
        settings["stdout"] = subprocess.DEVNULL
        command = [tools / "postgres", "-D", folder / "data", "-F", "-h", HOST, "-p", port, "-k", folder]
        with process(command, **settings) as program:
            wait_for(lambda: socket.create_connection((HOST, port), 1).close(), program)
            yield f"postgresql+psycopg2://team@{HOST}:{port}/postgres"
    finally:
        shutil.rmtree(folder)


def wait_for(works: Callable[[], None], program: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return works()
        except OSError:
            if time.monotonic() > end or program.poll() is not None:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server that keeps what it is given in PostgreSQL and in a folder of its own."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with postgres() as database, (folder / "log").open("wb") as log:
        command = [*COMMAND, "--port", port, "--backend-store-uri", database]
        command += ["--artifacts-destination", folder / "artifacts"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with process(command, cwd=folder, env=environment, stdout=log, stderr=log) as program:
            try:
                wait_for(lambda: urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2).close(), program)
            except OSError:
                pytest.fail((folder / "log").read_text()[-3000:])
            yield f"http://{HOST}:{port}"


@pytest.fixture(scope="session")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, dict]]:
    return kaggle_sessions(tmp_path_factory)


@pytest.fixture(scope="session")
def pushed(server: str, sessions) -> MlflowClient:
    """Three records on the server; the push of the first was killed before its run was whole."""
    archive = str(sessions["first"][0])
    script = "import os, signal\nfrom mlruns_tools import merge, push\n"
    script += "push._Push._push_version = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}merge.merge({archive!r}, {server!r})"], cwd=PROJECT, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    client = MlflowClient(server)
    (half,) = client.search_runs([client.get_experiment_by_name("captcha-ocr").experiment_id])
    assert half.info.status == "RUNNING" and half.data.tags[STATE] == INCOMPLETE
    for name in NAMES:
        report = merge(sessions[name][0], server)
        assert list(report.brought) == [sessions[name][1]] and not report.left and report.exit_code == 0
    return client


@pytest.fixture(scope="session")
def trained(server: str, pushed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(work folder, output) of a training straight into the server, beside the pushed runs."""
    work = tmp_path_factory.mktemp("trained")
    environment = os.environ | {"CAPTCHA_TINY": "1", "CAPTCHA_WORK": str(work), "MLFLOW_TRACKING_URI": f"{server}/"}
    done = subprocess.run(
        [sys.executable, PROJECT / "notebooks" / "train_ctc.py"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return work, done.stdout


@pytest.fixture
def at_server(server: str, trained, monkeypatch) -> Config:
    """The settings of a person whose record is on the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("CAPTCHA_WORK", str(trained[0]))
    return Config()


def run_of(client: MlflowClient, source: str) -> str:
    experiment = client.get_experiment_by_name("captcha-ocr").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`{SOURCE}` = '{source}'")
    return run.info.run_id


@pytest.mark.parametrize("name", NAMES)
def test_a_pushed_run_is_whole(name: str, sessions, pushed: MlflowClient, tmp_path: Path) -> None:
    _, source, facts = sessions[name]
    found = facts_of(pushed, run_of(pushed, source), tmp_path / "facts")
    marks = {SOURCE: source, STATE: COMPLETE}
    assert found.pop("tags") == facts["tags"] | marks
    (model,), (known,) = found.pop("models"), facts["models"]
    assert {key: value for key, value in model[4].items() if key != SOURCE} == known[4]
    assert model[:4] + model[5:] == known[:4] + known[5:]
    assert found == {key: value for key, value in facts.items() if key not in ("tags", "models")}
    assert len(found["histories"]["val_loss"]) == STEPS and found["info"][1] == "FINISHED"


def test_artifacts_go_through_the_server(pushed: MlflowClient, sessions) -> None:
    experiment = pushed.get_experiment_by_name("captcha-ocr")
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")


def test_a_second_push_leaves_the_runs_alone(server: str, sessions, pushed: MlflowClient) -> None:
    run = run_of(pushed, sessions["second"][1])
    before = pushed.get_run(run).to_dictionary()
    report = merge(sessions["second"][0], server)
    assert not report.brought and list(report.left) == [sessions["second"][1]] and not report.counts["files"]
    assert pushed.get_run(run).to_dictionary() == before


def test_registered_versions_arrive_once(sessions, pushed: MlflowClient) -> None:
    versions = sorted(pushed.search_model_versions("name = 'reader'"), key=lambda version: int(version.version))
    assert [version.tags["from"] for version in versions] == list(NAMES)
    aliases = {alias: int(number) for alias, number in pushed.get_registered_model("reader").aliases.items()}
    assert aliases == {"champion": 1, "of-first": 1, "of-second": 2, "of-third": 3}
    for version in versions:
        assert version.source == f"{pushed.get_run(version.run_id).info.artifact_uri}/model"


def test_a_training_logs_straight_into_the_server(server: str, trained, pushed: MlflowClient, tmp_path: Path) -> None:
    work, output = trained
    assert not (work / "mlruns").exists() and not (work / "mlruns.zip").exists()
    assert (work / "model" / "model_weights.pth").is_file()
    experiment = pushed.get_experiment_by_name("captcha-ocr").experiment_id
    assert f"see it on the server: {server}/#/experiments/{experiment}/runs" in output
    runs = pushed.search_runs([experiment])
    assert len(runs) == len(NAMES) + 1 and {run.info.status for run in runs} == {"FINISHED"}
    (run,) = [run for run in runs if SOURCE not in run.data.tags]
    found = facts_of(pushed, run.info.run_id, tmp_path / "facts")
    assert {"train_loss", "val_exact", "val_cer", "test_exact", "test_cer"} <= set(found["histories"])
    for name in ("model_weights.pth", "model.json"):
        assert found["artifacts"][f"model/{name}"] == (work / "model" / name).read_bytes()
    assert {"predictions.csv", "data/splits.csv", "figures/curves.png"} <= set(found["artifacts"])
    (version,) = pushed.search_model_versions(f"name = '{NAME}'")
    assert version.run_id == run.info.run_id and version.source == f"{run.info.artifact_uri}/model"
    assert pushed.get_model_version_by_alias(NAME, CHAMPION).version == version.version
    assert f"{NAME}@{CHAMPION} is now version 1 (cnn_gru_ctc: " in output


def test_evaluation_reads_from_the_server(at_server: Config) -> None:
    trial = judge(at_server)
    run = trial.models[0].run
    assert (
        run.info.run_id == next(iter(finished_runs(at_server)), None).info.run_id
        and "best_val_exact" in run.data.metrics
    )
    assert sorted(trial.test.texts) == sorted(load_data(at_server).test.texts)
    assert trial.readings[0] == Reader.load(at_server.work / "model").read_prepared(trial.test.images)
    assert not record_folder(at_server).exists()


def test_a_failed_run_on_the_server_says_where(at_server: Config, pushed: MlflowClient, capsys) -> None:
    with pytest.raises(KeyboardInterrupt), track(at_server, "stopped") as run:
        raise KeyboardInterrupt
    assert pushed.get_run(run.id).info.status == "KILLED"
    assert f"/runs/{run.id}/" in capsys.readouterr().err and not record_folder(at_server).exists()
    assert pack_record(at_server) is None
    pushed.delete_run(run.id)


def test_a_deleted_experiment_is_refused(at_server: Config, pushed: MlflowClient, monkeypatch) -> None:
    pushed.delete_experiment(pushed.create_experiment("gone"))
    monkeypatch.setenv("CAPTCHA_EXPERIMENT", "gone")
    with pytest.raises(ValueError, match="experiment 'gone' is deleted on the server"), track(Config(), "x"):
        pytest.fail("the training began")


def test_deleted_runs_are_not_pushed(server: str, pushed: MlflowClient, tmp_path_factory) -> None:
    report = merge(sqlite_record(tmp_path_factory) / "mlruns.zip", server)
    assert list(report.brought.values()) == ["kept"] and report.deleted == 1
    assert "traces are not uploaded" in report.notes and "1 deleted run(s)" in str(report)
    pushed.delete_run(run_of(pushed, next(iter(report.brought))))


def test_a_push_to_nobody_is_refused(sessions) -> None:
    with pytest.raises(Refused, match="does not answer as an MLflow server"):
        merge(sessions["first"][0], f"http://{HOST}:{free_port()}")
