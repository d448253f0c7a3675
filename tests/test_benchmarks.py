"""Every benchmark runs from its command line and prints its table; what the figures are is not tested."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.config import PROJECT, Config
from helpers.data.module import load_data
from helpers.models.weights import save_model
from helpers.synthetic.folder import make_captchas
from helpers.training.trainer import build
from tests.benchmarks import accuracy
from tests.records import sqlite_record

BENCHMARKS = sorted(
    path.stem for path in (PROJECT / "tests" / "benchmarks").glob("*.py") if "main()" in path.read_text()
)
ARGUMENTS = {
    "attacks": "--count 11",
    "differential": "--count 4",
    "accuracy": "--folds 2 --seeds 0 --epochs 1 --recipes conv_ctc resnet18",
    "killing_training": "--count 1 --epochs 2",
    "killing_merge": "--count 2 --runs 1 --size 1000",
    "gpu": "--epochs 1 --recipes conv_ctc --device cpu",
    "killing": "--count 1 --runs 40",
    "learning": "--counts 10 999 --epochs 1",
    "loading": "--count 20",
    "plateau": "--warmups 0.2 --epochs 1 --test",
    "repairing": "--runs 40",
    "throughput": "--epochs-measured 1 --recipes conv_ctc",
    "time_to": "--folds 2 --only 1 --epochs 1 --recipes conv_ctc",
}
# power needs root, and has tests/mlruns_tools/test_power.py; leftovers tests/mlruns_tools/test_guard.py
ELSEWHERE = ["confidence", "journey", "leftovers", "paths", "power", "reading", "serving"]
WITHOUT_DATA = ("attacks", "differential", "killing", "loading", "repairing", "killing_merge", "killing_training")


@pytest.fixture(scope="module")
def captchas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_captchas(tmp_path_factory.mktemp("benchmarks") / "captchas", 80, charset="ABC123", length=4)


@pytest.fixture
def threads_put_back() -> Iterator[None]:
    """For benchmarks that set how many threads PyTorch uses."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_none_is_forgotten() -> None:
    assert sorted([*ARGUMENTS, *ELSEWHERE]) == BENCHMARKS


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.usefixtures("threads_put_back")
def test_it_runs_and_prints_a_table(name: str, captchas: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    module = importlib.import_module(f"tests.benchmarks.{name}")
    if name == "time_to":
        monkeypatch.setattr(module.published, "EPOCHS", 1)
    given = ARGUMENTS[name].split() + ([] if name in WITHOUT_DATA else ["--data", str(captchas)])
    monkeypatch.setattr(sys, "argv", [name, *given])
    monkeypatch.delenv("CAPTCHA_TINY")
    module.main()
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) >= 3 and set(table[1]) == set("|-"), printed
    assert len({line.count("|") for line in table[:3]}) == 1
    if name == "time_to":
        assert any(line.startswith("| as published |") for line in table)


def test_of_synthetic_captchas_only_texts_are_tested_that_no_other_set_trains_on() -> None:
    config = Config(recipe="conv_ctc_tall", data="synthetic:count=300,charset=ABO0,length=4-5,seed=1,often=O0")
    data = load_data(config)
    pictures, texts = accuracy.captchas_to_test("synthetic:count=300,charset=ABO0,length=4-5", config)
    assert len(pictures) == len(texts) > 9
    assert not set(texts) & {*data.train.texts, *data.val.texts}
    assert set(texts) & set(data.test.texts)  # of both sets


def test_reading_runs_without_the_other_readers(captchas: Path, tmp_path: Path) -> None:
    """In a process of its own, since it keeps to one core."""
    config = Config(recipe="conv_ctc", data=captchas, work=tmp_path)
    data = load_data(config)
    module = build(config, data)
    model = save_model(tmp_path / "model", module.network, module.codec, data.recipe)
    command = [sys.executable, "-m", "tests.benchmarks.reading", "--model", model, "--data", captchas, "--count", "20"]
    done = subprocess.run(map(str, command), capture_output=True, text=True, cwd=PROJECT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| conv_ctc, PyTorch |" in done.stdout
    for reader in ("ddddocr", "ONNX Runtime", "Tesseract"):
        assert reader in done.stdout  # measured, or named as left out


def test_serving_answers_every_request(journey, captchas: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    serving = importlib.import_module("tests.benchmarks.serving")
    given = ["--model", journey[2].model, "--data", captchas, "--requests", "24", "--clients", "4", "--malformed", "12"]
    monkeypatch.setattr(sys, "argv", ["serving", *map(str, given)])
    serving.main()
    printed = capsys.readouterr().out
    assert "4 clients: 24 of 24 answered, 24 with the reader's text" in printed
    assert "12 malformed requests" in printed and "the service lives" in printed
    assert "| served | 4 |" in printed and "| 400 | 12 |" in printed


def test_every_way_of_reading_says_the_same(journey, captchas: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    paths = importlib.import_module("tests.benchmarks.paths")
    given = ["--model", journey[2].model, "--data", captchas, "--count", "60", "--to", tmp_path / "to"]
    monkeypatch.setattr(sys, "argv", ["paths", *map(str, given)])
    assert paths.main() == 0
    ways = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "to").glob("*.csv")}
    assert set(ways) == {"evaluation", "command_line", "ONNX_Runtime", "service"} and len(set(ways.values())) == 1
    assert len(ways["service"].splitlines()) == 60 and "| service | 60 | 0 |" in capsys.readouterr().out


def test_the_journey_of_a_record(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a process of its own, since it tells MLflow where the records are."""
    shutil.copytree(sqlite_record(tmp_path_factory) / "mlruns", tmp_path / "records" / "one" / "mlruns")
    command = [sys.executable, "-m", "tests.benchmarks.journey", str(tmp_path / "records")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", check=True)
    seen = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])
    assert seen["repair"] == "0" and seen["runs"] == "2" and seen["changed by a second repair"] == "0", seen
    assert seen["models:/ and runs:/"] == "4 of 5"  # the logged model holds nothing
    assert seen["the same after another move"] == "yes"


@pytest.mark.usefixtures("threads_put_back")
def test_the_confidence_of_a_record(journey, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    config, data, result = journey
    module = importlib.import_module("tests.benchmarks.confidence")
    monkeypatch.setenv("CAPTCHA_WORK", "")  # set by the benchmark, and put back after the test
    monkeypatch.setattr(sys, "argv", ["confidence", "--work", str(config.work), "--length", "5"])
    module.main()
    printed = capsys.readouterr().out
    header, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()[-3::2])
    found = dict(zip(header, row, strict=True))
    assert found["recipe"] == "cnn_gru_ctc seed 0" and found["test images"] == str(len(data.test))
    assert found["temperature"] == f"{result.calibration.temperature:.2f}"
    assert (
        found["ECE after"] == f"{100 * result.calibration.ece:.2f} %" and found["accepted for 99.9 %"] == "no threshold"
    )
    assert found["exact match"].startswith(f"{100 * result.score.exact:.1f} % (0 of {len(data.test)};")
    assert f"(0 of {len(data.test)};" in found["prefix beam search, 5 characters"]
