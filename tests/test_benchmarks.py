"""Every benchmark runs from its command line and prints its table; what the figures are is not tested."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.config import PROJECT, Config
from helpers.data import load_data
from helpers.reader import save_model
from helpers.synthetic import make_captchas
from helpers.training import build
from tests.record import sqlite_record

BENCHMARKS = sorted(
    path.stem for path in (PROJECT / "tests" / "benchmarks").glob("*.py") if "main()" in path.read_text()
)
ARGUMENTS = {
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
WITHOUT_DATA = ("killing", "loading", "repairing", "killing_merge", "killing_training")


@pytest.fixture(scope="module")
def captchas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_captchas(tmp_path_factory.mktemp("benchmarks") / "captchas", 80, charset="ABC123", length=4)


def test_none_is_forgotten() -> None:
    assert sorted([*ARGUMENTS, "journey", "reading"]) == BENCHMARKS


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs_and_prints_a_table(name: str, captchas: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    module = importlib.import_module(f"tests.benchmarks.{name}")
    if name == "time_to":
        monkeypatch.setattr(module.published, "EPOCHS", 1)
    given = ARGUMENTS[name].split() + ([] if name in WITHOUT_DATA else ["--data", str(captchas)])
    monkeypatch.setattr(sys, "argv", [name, *given])
    monkeypatch.delenv("CAPTCHA_TINY")
    threads = torch.get_num_threads()
    try:
        module.main()
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) >= 3 and set(table[1]) == set("|-"), printed
    assert len({line.count("|") for line in table[:3]}) == 1
    if name == "time_to":
        assert any(line.startswith("| as published |") for line in table)


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


def test_the_journey_of_a_record(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a process of its own, since it tells MLflow where the records are."""
    shutil.copytree(sqlite_record(tmp_path_factory) / "mlruns", tmp_path / "records" / "one" / "mlruns")
    command = [sys.executable, "-m", "tests.benchmarks.journey", str(tmp_path / "records")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", check=True)
    seen = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])
    assert seen["repair"] == "0" and seen["runs"] == "2" and seen["changed by a second repair"] == "0", seen
    assert seen["models:/ and runs:/"] == "4 of 5"  # the logged model holds nothing
    assert seen["the same after another move"] == "yes"
