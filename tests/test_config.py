"""The settings: keywords, then tiny mode, then the environment; each value in its type, each mistake named."""

import dataclasses
import math
import os
from pathlib import Path

import pytest

from helpers import config as module
from helpers.config import PROJECT, TINY, Config, environment

# values of every kind, as text in the environment and as what the field must then hold
GOOD = [
    ("EPOCHS", "3", 3),
    ("EPOCHS", "", None),
    ("SEED", "-7", -7),
    ("LEARNING_RATE", "3e-4", 3e-4),
    ("IMAGE_SIZE", "40x150", (40, 150)),
    ("IMAGE_SIZE", "40X150", (40, 150)),
    ("IMAGE_SIZE", "none", None),
    ("AUGMENT", "0", False),
    ("AUGMENT", "False", False),
    ("PRETRAINED", "yes", True),
    ("RECIPE", "conv_ctc", "conv_ctc"),
    ("CHARSET", "0123", "0123"),
    ("LABEL_PATTERN", r"(.+)-\d+", r"(.+)-\d+"),
    ("MODEL", "runs:/abc/model", "runs:/abc/model"),
    ("DATA", "synthetic:count=60,length=4-6", "synthetic:count=60,length=4-6"),
    ("ASPECT", "squeeze", "squeeze"),
    ("CASE", "lower", "lower"),
    ("FILE_COLUMN", "", None),
    ("LABEL_COLUMN", "Says", "Says"),
    ("CACHE", "no", False),
    ("FOLDS", "5", 5),
    ("FOLDS", "none", None),
]
# what cannot be read as the field's kind, and what can be read but not used
BAD = [
    ("EPOCHS", "three"),
    ("EPOCHS", "2.5"),
    ("EPOCHS", "0"),
    ("BATCH_SIZE", "-1"),
    ("SEED", ""),
    ("LEARNING_RATE", "fast"),
    ("AUGMENT", "perhaps"),
    ("IMAGE_SIZE", "40"),
    ("IMAGE_SIZE", "40x"),
    ("IMAGE_SIZE", "-4x150"),
    ("IMAGE_SIZE", "0x150"),
    ("ON_BAD", "ignore"),
    ("DEVICE", "gpu"),
    ("VAL_SHARE", "1"),
    ("TEST_SHARE", "nan"),
    ("WARMUP_SHARE", "1"),
    ("WARMUP_SHARE", "-0.1"),
    ("SMALL_SHARE", "-0.1"),
    ("SYNTHETIC_COUNT", "9"),
    ("ASPECT", "stretch"),
    ("CASE", "Upper"),
    ("CACHE", "maybe"),
    ("FOLDS", "1"),
    ("FOLDS", "many"),
    ("FOLD", "-1"),
    ("FOLD", "1"),
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("CAPTCHA_", "KAGGLE_"))]:
        monkeypatch.delenv(name)


def test_keywords_set_fields_and_the_rest_keep_their_defaults() -> None:
    config = Config(epochs=2, recipe="resnet18", image_size=(32, 64))
    assert (config.epochs, config.recipe, config.image_size) == (2, "resnet18", (32, 64))
    changed = {f.name for f in dataclasses.fields(Config) if getattr(config, f.name) != getattr(Config(), f.name)}
    assert changed == {"epochs", "recipe", "image_size"}


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_environment_is_parsed_and_wins(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv("CAPTCHA_" + name, text)
    other = {"EPOCHS": 9, "SEED": 9, "LEARNING_RATE": 0.5, "IMAGE_SIZE": (16, 16), "AUGMENT": True, "PRETRAINED": False}
    other |= {"CACHE": True, "FOLDS": 3, "CASE": "upper", "ASPECT": "keep"}
    found = getattr(Config(**{name.lower(): other.get(name, "x")}), name.lower())
    assert found == value and type(found) is type(value)


def test_paths_are_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert Config(data="some/captchas.zip", work=Path("out")).data == here / "some" / "captchas.zip"
    assert Config(work="out").work == here / "out"
    assert Config(data="~/captchas").data == Path.home() / "captchas"
    monkeypatch.setenv("CAPTCHA_DATA", "from/outside")
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "elsewhere"))
    config = Config(data="some", work="out")
    assert (config.data, config.work) == (here / "from" / "outside", tmp_path / "elsewhere")
    monkeypatch.setenv("CAPTCHA_DATA", "")
    assert Config(data="some").data is None


def test_a_description_of_synthetic_captchas_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config(data="synthetic:count=60").data == "synthetic:count=60"
    monkeypatch.setenv("CAPTCHA_DATA", "synthetic:")
    config = Config(data="some")
    assert config.data == "synthetic:" and dataclasses.replace(config).data == "synthetic:"
    assert str(config).startswith("Config(data='synthetic:', work=")


def test_folds_on_the_edge_of_what_is_usable() -> None:
    assert [Config(folds=2, fold=fold).fold for fold in (0, 1)] == [0, 1]


def test_environment_reads_its_own_variables_only() -> None:
    assert environment({"HOME": "/", "EPOCHS": "3", "CAPTCHA_SEED": "4"}) == {"seed": 4}


def test_an_unknown_variable_is_an_error_that_lists_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCH", "3")
    with pytest.raises(ValueError, match="CAPTCHA_EPOCH is not a setting") as caught:
        Config()
    listed = str(caught.value).split("the settings are ")[1].split(", ")
    assert listed == ["CAPTCHA_" + field.name.upper() for field in dataclasses.fields(Config)]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_an_unusable_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv("CAPTCHA_" + name, text)
    with pytest.raises(ValueError, match=f"(?i){name}=.*cannot be used: .*(expected|must be|could not|invalid)"):
        Config()


@pytest.mark.parametrize(
    "wrong",
    [
        {"on_bad": "ignore"},
        {"device": "cuda:0"},
        {"val_share": 0},
        {"test_share": 1.0},
        {"val_share": 0.6, "test_share": 0.4},
        {"epochs": 0},
        {"synthetic_count": 3},
        {"image_size": (0, 100)},
        {"warmup_share": 1.0},
        {"small_share": 1.0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"aspect": "wide"},
        {"case": "title"},
        {"folds": 1},
        {"folds": 5, "fold": 5},
        {"fold": 1},
    ],
)
def test_unusable_keywords_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]}=.* cannot be used: it must be"):
        Config(**wrong)


def test_shares_on_the_edge_of_what_is_usable() -> None:
    assert Config(val_share=0.6, test_share=0.39).test_share == 0.39


@pytest.mark.parametrize("by_environment", [False, True])
def test_tiny_mode_beats_keywords_and_yields_to_the_environment(
    monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    if by_environment:
        monkeypatch.setenv("CAPTCHA_TINY", "1")
    keywords = {"epochs": 50, "synthetic_count": 6000, "recipe": "resnet18", "tiny": not by_environment}
    config = Config(**keywords)
    assert {name: getattr(config, name) for name in TINY} == TINY
    assert config.recipe == "resnet18"  # what tiny mode does not name stays
    monkeypatch.setenv("CAPTCHA_EPOCHS", "2")
    assert Config(**keywords).epochs == 2
    monkeypatch.setenv("CAPTCHA_TINY", "0")
    monkeypatch.delenv("CAPTCHA_EPOCHS")
    assert (Config(**keywords).epochs, Config(**keywords).tiny) == (50, False)


def test_frozen() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 3
    assert dataclasses.replace(config, epochs=3).epochs == 3


def test_default_work_is_in_the_project_and_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Config().work == PROJECT / "work"
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    assert Config().work == tmp_path / "work" and not Config().work.exists()


def test_work_on_kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "KAGGLE_WORK", tmp_path)
    assert not module.on_kaggle() and Config().work == PROJECT / "work"  # the folder alone makes no Kaggle session
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert module.on_kaggle() and Config().work == tmp_path
    assert Config(work=tmp_path / "mine").work == tmp_path / "mine"
    monkeypatch.setattr(module, "KAGGLE_WORK", tmp_path / "missing")
    assert not module.on_kaggle() and Config().work == PROJECT / "work"
