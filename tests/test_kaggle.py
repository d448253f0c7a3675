"""A Kaggle session acted out in folders: the attached data set found, what the image lacks installed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import data, kaggle
from helpers.config import Config
from helpers.kaggle import attached_data, missing_packages, prepare

LAYOUTS = ["captchas", "datasets/somebody/captchas"]  # where Kaggle mounted a data set before and mounts it now


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", ["", "captchas", "captchas/captchas", "train", "captchas/train"])
@pytest.mark.parametrize("name", ["AB12.png", "AB12.JPG"])
def test_attached_data_is_found(tmp_path: Path, layout: str, inside: str, name: str) -> None:
    touch(tmp_path / layout / "README.txt")
    touch(tmp_path / layout / inside / name)
    assert attached_data(tmp_path) == tmp_path / layout


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("own", ["a-project", "datasets/somebody/a-project", "a-project/captcha-ocr"])
def test_the_projects_own_copy_is_passed_over(tmp_path: Path, layout: str, own: str) -> None:
    touch(tmp_path / own / "helpers" / "config.py")
    touch(tmp_path / own / "assets" / "figure.png")
    assert attached_data(tmp_path) is None
    touch(tmp_path / layout / "AB12.png")
    assert attached_data(tmp_path) == tmp_path / layout


def test_what_holds_no_pictures_is_passed_over(tmp_path: Path) -> None:
    assert attached_data(tmp_path / "missing") is None
    assert attached_data(tmp_path) is None
    touch(tmp_path / "a-table" / "rows.csv")
    touch(tmp_path / "datasets" / "somebody" / "a-model" / "weights.pth")
    touch(tmp_path / "stray.png")
    assert attached_data(tmp_path) is None
    touch(tmp_path / "captchas" / "AB12.png")
    assert attached_data(tmp_path) == tmp_path / "captchas"


def test_of_several_data_sets_the_same_one_is_taken_every_time(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        touch(tmp_path / name / "AB12.png")
    assert attached_data(tmp_path) == tmp_path / "a"


def test_attached_data_is_the_source_on_kaggle_unless_data_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(data, "on_kaggle", lambda: True)
    monkeypatch.setattr(data, "attached_data", lambda: tmp_path / "captchas")
    assert data.find_source(Config()) == tmp_path / "captchas"
    assert str(tmp_path / "captchas") in capsys.readouterr().out
    assert data.find_source(Config(data=tmp_path / "named")) == tmp_path / "named"
    assert data.find_source(Config(data="synthetic:count=20")) == "synthetic:count=20"
    monkeypatch.setattr(data, "attached_data", lambda: None)
    monkeypatch.setattr(data, "make_captchas", lambda folder, *_, **__: folder)
    assert "synthetic" in data.find_source(Config()).name
    assert "NO DATA SET IS ATTACHED" in capsys.readouterr().out


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_packages() == []  # where the tests run, nothing is missing
    absent = {"mlflow", "rapidfuzz", "simplejpeg"}
    monkeypatch.setattr(kaggle.importlib.util, "find_spec", lambda name: None if name in absent else object())
    lines = missing_packages()
    assert {line.split("=")[0].split(">")[0] for line in lines} == absent
    assert all(any(character.isdigit() for character in line) for line in lines)  # with the version asked for


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were asked for, none of them run; the one that names `broken` fails."""
    asked: list[list[str]] = []

    def run(command: list[str]) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=int("broken" in command))

    monkeypatch.setattr(kaggle.subprocess, "run", run)
    return asked


def test_prepare_installs_on_kaggle_only(monkeypatch: pytest.MonkeyPatch, calls: list[list[str]]) -> None:
    monkeypatch.setattr(kaggle, "missing_packages", lambda: ["rapidfuzz>=3.9"])
    prepare()
    assert calls == []
    monkeypatch.setattr(kaggle, "on_kaggle", lambda: True)
    prepare()
    assert len(calls) == 1 and calls[0][-1] == "rapidfuzz>=3.9" and "pip" in calls[0]
    monkeypatch.setattr(kaggle, "missing_packages", list)
    prepare()
    assert len(calls) == 1  # nothing is missing, nothing is run


def test_prepare_says_how_to_get_what_cannot_be_installed(
    monkeypatch: pytest.MonkeyPatch, calls: list[list[str]]
) -> None:
    monkeypatch.setattr(kaggle, "on_kaggle", lambda: True)
    monkeypatch.setattr(kaggle, "missing_packages", lambda: ["broken"])
    with pytest.raises(RuntimeError, match="cannot install .*broken.*switch Internet on"):
        prepare()
    assert len(calls) == 1
