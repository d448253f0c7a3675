"""A tracking server that ends while a training runs: each thing is said once, or all of it is left in a local record."""

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import ConnectionError as NoConnection
from requests import HTTPError, Response

from helpers.config import Config
from helpers.data.module import load_data
from helpers.experiment import Result, pack_record, train
from helpers.record import outbox, runs, tracking
from helpers.record.outbox import Outbox
from helpers.training.module import METRICS
from mlruns_tools.merge import merge
from tests.record.test_server import COMMAND, HOST, free_port, process, wait_for

EPOCHS = 6


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """MLflow's own, on a database in the folder; ended by SIGTERM when left, or before."""
    command = [*COMMAND, "--port", port, "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", folder / "artifacts"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with process(command, cwd=folder, env=environment, **silent) as program:
        wait_for(lambda: urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2).close(), program)
        yield program


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("CAPTCHA_EPOCHS", str(EPOCHS))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{HOST}:{free_port()}")
    return Config(recipe="conv_ctc")


def trained(config: Config, monkeypatch: pytest.MonkeyPatch, folder: Path, away: range) -> Result:
    """A training whose server is killed before the first epoch of `away` is told, and started before the last."""
    port = int(os.environ["MLFLOW_TRACKING_URI"].rpartition(":")[2])
    folder.mkdir()
    servers = [mlflow_server(folder, port)]
    server = servers[0].__enter__()
    told = Outbox._say

    def say(box: Outbox, name: str, *given: dict, **more: object) -> bool:
        if name == "epoch" and given[0]["epoch"] == away.start:
            os.killpg(server.pid, signal.SIGKILL)
            servers.pop().__exit__(None, None, None)
        if name == "epoch" and given[0]["epoch"] == away.stop:
            servers.append(mlflow_server(folder, port))
            servers[0].__enter__()
        return told(box, name, *given, **more)

    monkeypatch.setattr(Outbox, "_say", say)
    try:
        return train(config, load_data(config))
    finally:
        for each in servers:
            each.__exit__(None, None, None)


def assert_whole(client: MlflowClient, run_id: str, result: Result) -> None:
    assert client.get_run(run_id).info.status == "FINISHED"
    for name in METRICS:
        history = client.get_metric_history(run_id, name)
        assert [point.step for point in history] == list(range(1, EPOCHS + 1)), name
        assert [point.value for point in history] == [row[name] for row in result.history]
        assert [point.timestamp for point in history] == sorted(point.timestamp for point in history)
    assert len(client.get_metric_history(run_id, "test_cer")) == 1
    assert {"model", "figures", "predictions.csv"} <= {info.path for info in client.list_artifacts(run_id)}


def test_a_server_that_comes_back_has_each_epoch_once(config: Config, tmp_path, monkeypatch, capsys) -> None:
    result = trained(config, monkeypatch, tmp_path / "server", range(2, 4))
    said = capsys.readouterr().out
    assert said.count("the training goes on, and tells it later") == 1 and said.count("is back\n") == 1
    assert not runs.record_folder(config).exists()
    client = MlflowClient(f"sqlite:///{tmp_path}/server/server.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{HOST}:{free_port()}")
    with mlflow_server(tmp_path / "server", port := int(os.environ["MLFLOW_TRACKING_URI"].rpartition(":")[2])):
        assert_whole(MlflowClient(f"http://{HOST}:{port}"), result.run_id, result)
    assert len(client.search_runs([client.get_experiment_by_name(config.experiment).experiment_id])) == 1


def test_a_server_that_stays_away_leaves_a_local_record(config: Config, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0)
    result = trained(config, monkeypatch, tmp_path / "server", range(3, EPOCHS + 1000))
    mlruns = runs.record_folder(config)
    said = capfd.readouterr().err
    assert f"python mlruns_tools/merge.py {mlruns} {os.environ['MLFLOW_TRACKING_URI']}" in said
    local = MlflowClient(tracking.tracking_uri(mlruns))
    (run,) = local.search_runs([local.get_experiment_by_name(config.experiment).experiment_id])
    assert_whole(local, run.info.run_id, result)
    assert pack_record(config) == mlruns.with_suffix(".zip")
    with mlflow_server(tmp_path / "server", int(os.environ["MLFLOW_TRACKING_URI"].rpartition(":")[2])):
        report = merge(mlruns, os.environ["MLFLOW_TRACKING_URI"])
    assert list(report.brought) == [run.info.run_id]


class Run:
    """A run whose calls fail as they are told to."""

    id = "1"

    def __init__(self, *errors: Exception | None) -> None:
        self.errors, self.got, self.looked = list(errors), [], 0

    def look(self) -> None:
        self.looked += 1

    def text(self, text: str, path: str) -> None:
        if self.errors and (error := self.errors.pop(0)):
            raise error
        self.got.append(text)


def answer(status: int) -> HTTPError:
    response = Response()
    response.status_code = status
    return HTTPError(response=response)


AWAY = [MlflowException("API request failed"), NoConnection("refused"), answer(503)]


@pytest.mark.parametrize("error", AWAY, ids=["MLflow", "connection", "503"])
def test_what_is_said_while_it_is_away_arrives_in_order(error: Exception, monkeypatch) -> None:
    monkeypatch.setattr(outbox.time, "monotonic", lambda: 0.0)  # an attempt takes no time
    box = Outbox(run := Run(error, error), "http://x")
    assert [box.text("one", ""), box.text("two", ""), box.text("three", "")] == [False, False, True]
    assert run.got == ["one", "two", "three"] and run.looked == 2


def test_a_silent_server_takes_little_of_the_time(monkeypatch) -> None:
    """Of 1000 s; an attempt takes 20."""
    now, asked = [0.0], []

    class Silent(Run):
        def text(self, text: str, path: str) -> None:
            asked.append(now[0])
            now[0] += 20
            raise NoConnection("timed out")

    monkeypatch.setattr(outbox.time, "monotonic", lambda: now[0])
    box = Outbox(run := Silent(), "http://x")
    while now[0] < 1000:
        now[0] += 1
        box.text(f"{now[0]}", "")
    assert len(asked) == 5 and len(box.said) > 800
    assert "away" in box.registered({}) and len(asked) == 6  # before the end it is asked at once
    box.run = Run()
    assert box.wait(0) and len(box.run.got) == len(box.said) and not run.got


@pytest.mark.parametrize("error", [MlflowException("no", error_code=3), answer(403)], ids=["MLflow", "403"])
def test_a_server_that_refuses_is_heard(error: Exception) -> None:
    with pytest.raises(type(error)):
        Outbox(Run(error), "http://x").text("one", "")


def test_only_what_a_run_can_be_told() -> None:
    with pytest.raises(AttributeError):
        Outbox(Run(), "http://x").nothing  # noqa: B018
    assert set(outbox.SAID) <= set(dir(tracking.TrackedRun))


def test_where_no_local_record_can_be_left_either_it_is_said(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*_: object) -> None:
        raise ValueError("the record was written elsewhere: repair it first")

    monkeypatch.setattr(tracking, "_on_disk", moved)
    said = tracking._left(Outbox(Run(), "http://x"), config, "one", None)
    assert "http://x stays away" in said and "either: the record was written elsewhere: repair it first" in said
