"""The record: everything of a run is there, its status is true, and it leaves as one zip."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.orm import loading

from helpers.config import PROJECT, Config
from helpers.evaluation.trial import judge
from helpers.experiment import pack_record
from helpers.record.runs import finished_runs, record_folder
from helpers.record.tracking import track, tracking_uri
from helpers.text import metrics
from mlruns_tools.fixed_paths import Refused, fix_paths


@pytest.fixture
def client(journey) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking_uri(record_folder(journey[0])))


def test_a_run_holds_everything(journey, client) -> None:
    config, data, result = journey
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert {"train_loss", "val_loss", "val_exact", "val_cer", "test_exact", "test_cer"} <= set(run.data.metrics)
    assert run.data.params["recipe"] == "cnn_gru_ctc" and run.data.params["charset"] == data.charset
    assert run.data.params["aspect"] == "squeeze" and run.data.params["case"] == "keep"
    history = client.get_metric_history(result.run_id, "val_cer")
    assert [(m.step, m.value) for m in history] == [(row["epoch"], row["val_cer"]) for row in result.history]
    folder = record_folder(config) / "artifacts" / result.run_id / "artifacts"
    for name in (
        "model/model_weights.pth",
        "model/model.json",
        "code/helpers/models/codec.py",
        "code/notebooks/train_ctc.py",
        "data/splits.csv",
        "data/audit.json",
        "data/audit.txt",
        "figures/contact_sheet.png",
        "figures/curves.png",
        "figures/readings.png",
        "predictions.csv",
    ):
        assert (folder / name).is_file(), name


def test_a_fresh_record_needs_no_repair(journey) -> None:
    """Not even for MLflow's own experiment 0, which MLflow files under the current folder."""
    report = fix_paths(record_folder(journey[0]), dry_run=True)
    assert not report.changed and not report.problems and sum(report.right.values()) >= 3


def test_predictions_and_metrics_agree(journey, client) -> None:
    config, data, result = journey
    folder = record_folder(config) / "artifacts" / result.run_id / "artifacts"
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["truth"] for row in rows] == data.test.texts
    run = client.get_run(result.run_id)
    cer = metrics.character_error_rate([row["reading"] for row in rows], [row["truth"] for row in rows])
    assert run.data.metrics["test_cer"] == pytest.approx(cer)
    with (folder / "data" / "splits.csv").open(encoding="utf-8", newline="") as file:
        sides = {row["file"]: row["split"] for row in csv.DictReader(file)}
    assert sorted(name for name, side in sides.items() if side == "test") == sorted(row["file"] for row in rows)
    assert len(sides) == sum(map(len, data.sides.values()))


def test_evaluation_reads_what_the_training_tested(journey, monkeypatch) -> None:
    config, data, result = journey
    monkeypatch.setenv("CAPTCHA_WORK", str(config.work))
    trial = judge(config)
    assert trial.test.texts == sorted(data.test.texts, key=trial.test.texts.index)  # the same, in the source's order
    read = dict(zip(data.test.texts, result.readings, strict=True))
    assert [(r.text, pytest.approx(r.confidence, rel=1e-3)) for r in trial.readings[0]] == [
        (read[text].text, read[text].confidence) for text in trial.test.texts
    ]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError("broken"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_status_is_true_and_an_unfinished_record_is_packed(error, status, journey, client) -> None:
    config = journey[0]
    archive = config.work / "mlruns.zip"
    archive.unlink(missing_ok=True)
    try:
        with track(config, "test") as run:
            run.metrics({"val_exact": 0.5})
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as raised:
        assert raised is error
    assert client.get_run(run.id).info.status == status
    assert archive.exists() == bool(error)
    client.delete_run(run.id)


def test_sigterm_in_training_ends_the_run_killed(tmp_path) -> None:
    """What Kaggle and schedulers send; the process must end its run and pack before it goes."""
    script = """
        from helpers.config import Config
        from helpers.data.module import load_data
        from helpers.experiment import train
        config = Config(image_size=(16, 64))
        train(config, load_data(config))
    """
    environment = {
        "CAPTCHA_WORK": str(tmp_path),
        "CAPTCHA_EPOCHS": "100000",
        "CAPTCHA_TINY": "1",
        "PYTHONPATH": str(PROJECT),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(60) != 0
    client = MlflowClient(tracking_uri=tracking_uri(tmp_path / "mlruns"))
    (run,) = client.search_runs([client.get_experiment_by_name("captcha-ocr").experiment_id])
    assert run.info.status == "KILLED"
    assert zipfile.ZipFile(tmp_path / "mlruns.zip").testzip() is None


def test_a_run_that_is_stopped_while_the_database_is_read_ends_killed(journey, client, monkeypatch) -> None:
    """The half-read result must not keep the database locked."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, track(journey[0], "test") as run:
        patch.setattr(loading, "instances", interrupted)
        try:
            run.metrics({"val_exact": 0.5})
        finally:
            patch.undo()
    assert client.get_run(run.id).info.status == "KILLED"
    client.delete_run(run.id)


def test_a_moved_record_is_not_written_to(journey, tmp_path) -> None:
    config = journey[0]
    shutil.copytree(record_folder(config), tmp_path / "mlruns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTCHA_WORK", str(tmp_path))
        moved = Config()
    with pytest.raises(ValueError, match="fixed_paths.py"), track(moved, "test"):
        pass


def test_a_record_that_cannot_be_packed_does_not_hide_the_error(journey, monkeypatch, capsys) -> None:
    def full(_: Path) -> None:
        raise Refused("the disk is full")

    monkeypatch.setattr("helpers.record.tracking.pack", full)
    with pytest.raises(ValueError, match="broken"), track(journey[0], "test") as run:
        raise ValueError("broken")
    assert f"run {run.id} ended FAILED" in (said := capsys.readouterr().err) and "the disk is full" in said
    MlflowClient(tracking_uri=tracking_uri(record_folder(journey[0]))).delete_run(run.id)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "file:///srv/mlruns", "./mlruns", "databricks", "http://"])
def test_a_tracking_uri_that_names_no_server_is_an_error(uri: str, journey, monkeypatch) -> None:
    """The record lies in the work folder; a variable that says otherwise must not be passed over in silence."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for use in (
        lambda: track(journey[0], "x").__enter__(),
        lambda: next(iter(finished_runs(journey[0])), None),
        lambda: pack_record(journey[0]),
    ):
        with pytest.raises(ValueError, match=r"is no server's address.*Unset it.*CAPTCHA_WORK"):
            use()


def test_a_tracking_uri_may_name_the_record_itself(journey, monkeypatch) -> None:
    """As MLflow's own `set_tracking_uri` leaves it in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(record_folder(journey[0])))
    assert next(iter(finished_runs(journey[0])), None).info.run_id == journey[2].run_id


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no such host:5000", "https://nobody.invalid"])
def test_a_server_that_does_not_answer_is_an_error_before_the_training(
    uri: str, journey, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    with pytest.raises(ValueError, match="does not answer as an MLflow server"), track(Config(), "x"):
        pytest.fail("the training began")
    assert not (tmp_path / "work").exists() and "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_the_record_leaves_as_one_zip(journey) -> None:
    archive = pack_record(journey[0])
    names = zipfile.ZipFile(archive).namelist()
    assert archive.name == "mlruns.zip" and {"mlruns/mlflow.db", "mlruns/mlruns.json"} <= set(names)
    assert f"mlruns/artifacts/{journey[2].run_id}/artifacts/model/model_weights.pth" in names
