"""An interrupted training goes on: in the same run, without gap or double, from the work folder or an attached output."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from mlflow import MlflowClient

from helpers import experiment
from helpers.config import Config
from helpers.data.module import load_data
from helpers.experiment import Result, pack_record, train
from helpers.record.tracking import TrackedRun, tracking_uri
from helpers.training import callbacks, checkpoints, session
from mlruns_tools.fixed_paths import DATABASE, Refused

EPOCHS = 4
ANEW = "the unfinished training in {}/copy is another one ({}): beginning anew\n"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables with nothing in them, which it takes seconds to make."""
    database = tmp_path_factory.mktemp("empty") / DATABASE
    MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture(autouse=True)
def four_epochs(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCHS", str(EPOCHS))
    monkeypatch.setenv("CAPTCHA_RECIPE", "conv_ctc")
    monkeypatch.setenv("EMPTY", str(empty))


def trained(work: Path, monkeypatch: pytest.MonkeyPatch, made: bool = True, **settings: object) -> Result:
    """A training, by default into a record made before."""
    monkeypatch.setenv("CAPTCHA_WORK", str(work))
    if made and not (work / "mlruns").exists():
        (work / "mlruns").mkdir(parents=True)
        shutil.copy(os.environ["EMPTY"], work / "mlruns" / DATABASE)
    config = Config(**settings)
    return train(config, load_data(config))


def interrupted(work: Path, monkeypatch: pytest.MonkeyPatch, epoch: int = 3) -> None:
    """A training that ends in the middle of an epoch, before anything of it is recorded."""
    whole = TrackedRun.epoch

    def stop(run: TrackedRun, row: dict[str, float]) -> None:
        if row["epoch"] == epoch:
            raise KeyboardInterrupt
        whole(run, row)

    with monkeypatch.context() as patch:
        patch.setattr(TrackedRun, "epoch", stop)
        with pytest.raises(SystemExit):
            trained(work, monkeypatch)


def client_of(work: Path) -> MlflowClient:
    return MlflowClient(tracking_uri(work / "mlruns"))


def runs_of(work: Path) -> list:
    client = client_of(work)
    return client.search_runs([client.get_experiment_by_name("captcha-ocr").experiment_id])


def assert_whole(work: Path, result: Result, epochs: int = EPOCHS) -> None:
    client = client_of(work)
    (run,) = runs_of(work)
    assert run.info.run_id == result.run_id and run.info.status == "FINISHED"
    for name in ("train_loss", "val_loss", "val_exact", "val_cer"):
        history = client.get_metric_history(result.run_id, name)
        assert [point.step for point in history] == list(range(1, epochs + 1)), name
        assert [point.value for point in history] == [row[name] for row in result.history]
    assert len(client.get_metric_history(result.run_id, "test_cer")) == 1


@pytest.mark.parametrize("epoch", [1, 3])
def test_it_goes_on_in_the_same_run_and_ends_as_if_nothing_had_been(epoch: int, tmp_path, monkeypatch, capsys) -> None:
    whole = trained(tmp_path / "whole", monkeypatch)
    interrupted(tmp_path / "work", monkeypatch, epoch)
    (before,) = runs_of(tmp_path / "work")
    assert before.info.status == "KILLED"
    result = trained(tmp_path / "work", monkeypatch)
    assert "going on with the training that was interrupted in" in capsys.readouterr().out
    assert result.run_id == before.info.run_id
    assert_whole(tmp_path / "work", result)
    assert [row["val_loss"] for row in result.history] == [row["val_loss"] for row in whole.history]
    assert result.readings == whole.readings
    assert sorted(file.name for file in (tmp_path / "work" / "checkpoints").iterdir()) == [checkpoints.BEST]
    assert trained(tmp_path / "work", monkeypatch).run_id != result.run_id  # done is done


def test_an_end_after_the_last_epoch_loses_nothing(tmp_path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "save_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, monkeypatch)
    assert_whole(tmp_path, trained(tmp_path, monkeypatch))


def test_other_settings_or_captchas_begin_anew_and_so_does_off(tmp_path, monkeypatch, capsys) -> None:
    interrupted(tmp_path / "work", monkeypatch)

    def begun(**settings: object) -> tuple[bool, str]:
        """Whether the training of these settings goes on, and what is said."""
        work = shutil.copytree(tmp_path / "work", tmp_path / "copy", dirs_exist_ok=True)
        monkeypatch.setenv("CAPTCHA_WORK", str(work))
        config = Config(**settings)
        data = load_data(config)
        capsys.readouterr()
        there = json.loads((work / session.STATE).read_text())["id"]
        sitting = session.begin(config, experiment._facts(config, data), data)
        assert (sitting.id == there) == (sitting.resume is not None)
        return sitting.id == there, capsys.readouterr().out

    assert begun()[0] and begun(max_hours=3, device="cpu", workers=0)[0]
    assert begun(learning_rate=1e-3) == (False, ANEW.format(tmp_path, "learning_rate 0.004 there, 0.001 here"))
    changed, said = begun(seed=1)
    assert not changed and "captchas" in said and "seed 0 there, 1 here" in said
    assert begun(resume="off") == (False, "")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "several hosts")
    assert begun() == (False, "")


def test_an_attached_output_is_gone_on_with(tmp_path, monkeypatch) -> None:
    """As a folder in the new layout with the zipped record, as a zip in the old one, and where the record is lost."""
    interrupted(tmp_path / "earlier", monkeypatch)
    (before,) = runs_of(tmp_path / "earlier")
    output = (tmp_path / "earlier").rename(tmp_path / "output")
    shutil.rmtree(output / "mlruns")  # mlruns.zip is there
    monkeypatch.setattr(session, "on_kaggle", lambda: True)
    for kind in ("folder", "zip", "without the record"):
        monkeypatch.setattr(session, "INPUT", tmp_path / kind)
        attached = tmp_path / kind / ("captchas" if kind == "zip" else "notebooks/somebody/captchas")
        if kind == "zip":
            attached.mkdir(parents=True)
            with zipfile.ZipFile(attached / "output.zip", "w") as archive:
                for file in (file for file in output.rglob("*") if file.is_file()):
                    archive.write(file, file.relative_to(output))
        else:
            shutil.copytree(output, attached, ignore=shutil.ignore_patterns("*.zip" if "without" in kind else ""))
        work = tmp_path / f"work of {kind}"
        result = trained(work, monkeypatch, made="without" in kind)
        assert_whole(work, result)
        assert (result.run_id == before.info.run_id) == ("without" not in kind)


def test_a_training_cut_short_by_time_is_tested_and_goes_on_later(tmp_path, monkeypatch, capsys) -> None:
    clock = iter(range(10**6))
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "clock", lambda: next(clock))  # seconds; a step takes one
        first = trained(tmp_path, monkeypatch, max_hours=30 / 3600)
    assert 1 <= len(first.history) < EPOCHS and first.score.n > 0
    (run,) = runs_of(tmp_path)
    assert run.info.status == "FINISHED" and "test_cer" in run.data.metrics
    result = trained(tmp_path, monkeypatch)
    assert result.run_id == first.run_id and len(result.history) == EPOCHS
    steps = [point.step for point in client_of(tmp_path).get_metric_history(result.run_id, "test_cer")]
    assert steps == [0, EPOCHS]


def test_the_zip_is_made_anew_during_a_long_training(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(experiment, "REFRESHED", -1)
    packed = []
    monkeypatch.setattr(experiment, "pack", lambda mlruns: packed.append(mlruns))
    trained(tmp_path, monkeypatch)
    assert packed == [tmp_path / "mlruns"] * EPOCHS

    def full(mlruns: Path) -> None:
        raise Refused("the disk is full")

    monkeypatch.setattr(experiment, "pack", full)
    assert len(trained(tmp_path, monkeypatch).history) == EPOCHS  # a zip that fails ends no training
    assert capsys.readouterr().out.count("could not be made anew: the disk is full") == EPOCHS
    monkeypatch.undo()
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    assert pack_record(Config()).is_file()


def test_an_attached_zip_that_holds_too_much_is_named_and_left(tmp_path, monkeypatch, capsys) -> None:
    """Gigabytes in some kilobytes, by each way of packing, and one that is cut short: no folder is filled, nothing ends."""
    monkeypatch.setattr(session, "on_kaggle", lambda: True)
    monkeypatch.setattr(session, "INPUT", tmp_path)
    for number, packing in enumerate((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
        (tmp_path / str(number)).mkdir()
        with zipfile.ZipFile(tmp_path / str(number) / "output.zip", "w", packing) as archive:
            archive.writestr(session.STATE, "{}")
            with archive.open(zipfile.ZipInfo("checkpoints/last.ckpt"), "w", force_zip64=True) as member:
                member._compressor = zipfile._get_compressor(packing)
                member._zinfo.compress_type = packing
                for _ in range(300):
                    member.write(bytes(2**20))
    whole = (tmp_path / "0" / "output.zip").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "output.zip").write_bytes(whole[:60] + bytes(40) + whole[100:])
    assert list(session._attached()) == []
    said = capsys.readouterr().out
    assert said.count("cannot be gone on with") == 4 and said.count("too much for a record") >= 3


def test_the_number_of_the_process_is_written_into_no_file_of_another(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    (tmp_path / "work" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "work" / session.PROCESS).symlink_to(tmp_path / "mine")
    with session.alone(Config()):
        assert (tmp_path / "work" / session.PROCESS).read_text() == str(os.getpid())
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "work" / session.PROCESS).exists()
