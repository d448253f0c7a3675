"""One training in a work folder; its checkpoints whole, its own, of these captchas; a loss that is no number."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import experiment
from helpers.config import PROJECT, Config
from helpers.data.module import load_data
from helpers.models.codec import CTCCodec
from helpers.training import session, trainer
from helpers.training.checkpoints import BEST, LAST, OWNER, Diverged
from mlruns_tools.fixed_paths import PREFIX, Refused
from tests.training.test_session import assert_whole, client_of, empty, four_epochs, interrupted, runs_of, trained

__all__ = ["empty", "four_epochs"]  # fixtures

HOLD = (
    "import sys; from helpers.config import Config; from helpers.training.session import alone\nwith alone(Config()):\n"
)


def test_a_second_training_in_a_work_folder_is_refused_and_told_whose_it_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    code = f"{HOLD}    print('mine', flush=True); sys.stdin.read()"
    process = tmp_path / session.PROCESS
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, **pipes) as other:
        assert other.stdout.readline() == b"mine\n"
        for written, whose in ((None, f"process {other.pid}"), ("x", "another process")):
            process.write_text(written or process.read_text())
            with (
                pytest.raises(Refused, match=f"{whose} trains in .* already.*CAPTCHA_WORK=work2"),
                session.alone(Config()),
            ):
                pytest.fail("two at once")
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
        other.send_signal(signal.SIGKILL)
        other.wait()
        with session.alone(Config()), pytest.raises(Refused), session.alone(Config()):  # it died with its process
            pytest.fail("two at once")
        assert not process.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_lock_dies_with_its_process_and_not_with_a_fork_of_it(tmp_path, monkeypatch) -> None:
    """Such as a loader's worker, which looks for its parent every five seconds."""
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    code = f"{HOLD}    import os, time; os.fork() or time.sleep(60); print('forked', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, **pipes) as other:
        assert other.stdout.readline() == b"forked\n"
        with pytest.raises(Refused), session.alone(Config()):
            pytest.fail("two at once")
        other.send_signal(signal.SIGKILL)
        other.wait()
        with session.alone(Config()):
            os.killpg(other.pid, signal.SIGKILL)  # the fork was there until now


def test_a_script_prints_a_refusal_as_a_sentence(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    code = "from helpers import experiment\nfrom helpers.config import Config\nexperiment.train(Config(), None)"
    with session.alone(Config()):
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith(
        f"Refused: process {os.getpid()} trains in {tmp_path} already"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
def test_a_process_that_only_helps_needs_no_lock(name: str, tmp_path, monkeypatch) -> None:
    """As Lightning and torchrun start them, beside the first, which has the folder."""
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(experiment, "fit", lambda *_, **__: sys.exit())
    with session.alone(Config()), pytest.raises(SystemExit):
        experiment.train(Config(), None)


def test_a_lock_does_not_outlive_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(experiment, "_train", lambda *_: 1 / 0)
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            experiment.train(Config(), None)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _nothing(path: Path) -> None:
    path.write_bytes(b"")


def _hole(path: Path) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(4096) + data[middle + 4096 :])


def _bit(path: Path) -> None:
    """Among the weights: torch reads it without a word."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _packed(path: Path) -> None:
    with zipfile.ZipFile(path) as members:
        contents = {name: members.read(name) for name in members.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as members:
        for name, content in contents.items():
            members.writestr(name, content)


def _text(path: Path) -> None:
    path.write_text("no checkpoint\n")


def _owned(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {OWNER: "somebody"}, path)


def _narrow(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    found["state_dict"] = {name: tensor[:1] if tensor.dim() else tensor for name, tensor in found["state_dict"].items()}
    torch.save(found, path)


def _without_loops(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in found.items() if key != "loops"}, path)


def _code(path: Path) -> None:
    torch.save({"state_dict": {}, OWNER: Path("x")}, path)  # an object that weights_only does not load


FAULTS = {
    _cut: "cannot be read",
    _zeros: "cannot be read",
    _nothing: "cannot be read",
    _hole: "cannot be read",
    _bit: "cannot be read (its .* is damaged)",
    _packed: "cannot be read (its .* is packed",
    _text: "cannot be read",
    _owned: "belongs to another training",
    _narrow: "holds the weights of another network",
    _without_loops: "lacks loops",
    _code: "cannot be read",
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a training that was interrupted in its third epoch."""
    work = tmp_path_factory.mktemp("stopped") / "work"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"CAPTCHA_EPOCHS": "4", "CAPTCHA_RECIPE": "conv_ctc"}.items():
            patch.setenv(name, value)
        source = work.with_name("empty")
        patch.setenv("EMPTY", str(source))
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{source}").search_experiments()
        interrupted(work, patch)
    return work


@pytest.mark.parametrize("names", [(LAST,), (BEST,), (LAST, BEST)], ids=["last", "best", "both"])
@pytest.mark.parametrize("spoil", FAULTS, ids=[spoil.__name__ for spoil in FAULTS])
def test_a_checkpoint_that_cannot_be_gone_on_with_is_set_aside(
    spoil: Callable[[Path], None], names: tuple[str, ...], stopped: Path, tmp_path, monkeypatch, capsys
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "work") / "checkpoints"
    for name in names:
        spoil(folder / name)
    spoiled = {name: (folder / name).read_bytes() for name in names}
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    config = Config()
    data = load_data(config)
    owner = json.loads((folder / "training.json").read_text())["id"]
    found = trainer.ready(folder, trainer.build(config, data), owner)
    said = capsys.readouterr().out
    fault = re.escape(FAULTS[spoil]).replace(r"\.\*", ".*")
    assert all(re.search(f"{re.escape(str(folder / name))} {fault}", said) for name in names), said
    assert {name: (folder / f"{name}.aside1").read_bytes() for name in names} == spoiled
    if len(names) == 2:
        assert found is None and "the training begins anew" in said
    else:
        assert found == folder / LAST and (folder / LAST).read_bytes() == (folder / BEST).read_bytes()
        assert "is taken in its place" in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_nothing_is_waited_at_in_place_of_a_checkpoint(stopped: Path, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(stopped, tmp_path / "work") / "checkpoints"
    for name, make in ((LAST, os.mkfifo), (BEST, os.mkdir)):
        (folder / name).unlink()
        make(folder / name)
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    config = Config()
    assert trainer.ready(folder, trainer.build(config, load_data(config)), "") is None
    assert {f"{LAST}.aside1", f"{BEST}.aside1"} <= {path.name for path in folder.iterdir()}


STATES = {
    "cut short": b'{"id": "0123',
    "zeros": bytes(100),
    "no training": b"[1, 2]",
    "no facts": b'{"id": "0123456789abcdef0123456789abcdef", "facts": [1]}',
    "an id that is a query": b'{"id": "\' OR 1=1", "facts": {}}',
    "too deep": b"[" * 10**5,
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_checkpoints_of_a_training_that_is_not_known_are_set_aside(state, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    folder = (tmp_path / session.STATE).parent
    folder.mkdir()
    files = {session.STATE.rpartition("/")[2]: state, LAST: b"last", BEST: b"best"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    config = Config()
    data = load_data(config)
    capsys.readouterr()
    begun = session.begin(config, {}, data)
    assert begun.resume is None and capsys.readouterr().out.count("cannot be read") == 1
    session.end(config)
    session.begin(config, {}, data)  # another one removes nothing of it
    assert {name: (folder / f"{name}.aside1").read_bytes() for name in files} == files


def test_what_is_none_of_ours_stays_in_the_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    folder = (tmp_path / session.STATE).parent
    folder.mkdir()
    ours = (BEST, LAST, f"{LAST}.part", f"{PREFIX}0123")
    for name in (*ours, "my best.ckpt", f"{LAST}.aside1"):
        (folder / name).touch()
    config = Config()
    session.begin(config, {}, load_data(config))
    assert {path.name for path in folder.iterdir()} == {"my best.ckpt", f"{LAST}.aside1", "training.json"}


@pytest.mark.parametrize("names", [(LAST,), (BEST,), (LAST, BEST)], ids=["last", "best", "both"])
def test_the_training_goes_on_all_the_same_in_the_same_run(names, tmp_path, monkeypatch) -> None:
    work = tmp_path / "work"
    interrupted(work, monkeypatch)
    for name in names:
        _cut(work / "checkpoints" / name)
    assert_whole(work, trained(work, monkeypatch))


def test_pictures_that_changed_are_other_captchas(tmp_path, monkeypatch, capsys) -> None:
    """Their names and texts are the same: all are upside down."""
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    config = Config()
    data, turned = load_data(config), load_data(config)
    for dataset in turned.sides.values():
        for block in dataset.blocks.values():
            block[:] = np.ascontiguousarray(block[:, ::-1])
    facts = experiment._facts(config, data)
    first = session.begin(config, facts, data)
    assert session.begin(config, facts, data).id == first.id
    capsys.readouterr()
    assert session.begin(config, facts, turned).id != first.id
    assert "is another one (captchas " in capsys.readouterr().out


@pytest.mark.parametrize("epoch", [1, 3])
def test_numbers_that_are_none_end_the_training_with_a_sentence(epoch: int, tmp_path, monkeypatch) -> None:
    loss, steps = CTCCodec.loss, []

    def broken(codec: CTCCodec, logits: torch.Tensor, texts: list[str]) -> torch.Tensor:
        steps.append(logits.requires_grad)
        value = loss(codec, logits, texts)
        passed = sum(1 for each, after in zip(steps, steps[1:], strict=False) if each and not after)  # trained epochs
        return value * float("nan") if logits.requires_grad and passed == epoch - 1 else value

    with monkeypatch.context() as patch:
        patch.setattr(CTCCodec, "loss", broken)
        with pytest.raises(
            Diverged, match=f"in epoch {epoch} the output of the network became no number.*smaller"
        ) as end:
            trained(tmp_path, monkeypatch)
    (run,) = runs_of(tmp_path)
    history = client_of(tmp_path).get_metric_history(run.info.run_id, "train_loss")
    assert run.info.status == "FAILED" and [point.step for point in history] == list(range(1, epoch))
    kept = tmp_path / "checkpoints" / BEST
    assert kept.exists() == (epoch > 1) == (str(kept) in str(end.value))
    if epoch > 1:
        assert all(tensor.isfinite().all() for tensor in torch.load(kept, weights_only=True)["state_dict"].values())
    assert end.value._render_traceback_() == [f"Diverged: {end.value}"]
    assert os.path.exists(tmp_path / "mlruns.zip")


def test_a_training_loss_that_is_no_number_ends_it_too(tmp_path, monkeypatch) -> None:
    """As of one batch, after which the weights were made finite again."""
    loss = CTCCodec.loss
    monkeypatch.setattr(CTCCodec, "loss", lambda *given: loss(*given) + (float("inf") if given[1].requires_grad else 0))
    with pytest.raises(
        Diverged, match="in epoch 1 the training loss became no number. Take a smaller learning_rate than"
    ):
        trained(tmp_path, monkeypatch)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_validation_loss_that_is_no_number_ends_it_too(value: str, tmp_path, monkeypatch) -> None:
    loss = CTCCodec.loss
    monkeypatch.setattr(CTCCodec, "loss", lambda *given: loss(*given) + float("0" if given[1].requires_grad else value))
    with pytest.raises(Diverged, match="in epoch 1 the validation loss became no number"):
        trained(tmp_path, monkeypatch)
