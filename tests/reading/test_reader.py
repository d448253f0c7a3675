"""The reader: the same readings from any kind of input, and a command line that survives odd files."""

import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from helpers.config import PROJECT, Config
from helpers.data.module import load_data
from helpers.models.codec import CTCCodec
from helpers.models.recipes import RECIPES, get_recipe
from helpers.models.weights import save_model
from helpers.pictures.opening import natural
from helpers.reading import reader as reader_module
from helpers.reading.export import reader_of
from helpers.reading.reader import Reader
from helpers.synthetic.folder import make_captchas
from helpers.text import description
from helpers.training.trainer import build
from tests.captchas import pack, table
from tests.verbs import read as read_


@pytest.fixture
def folder(journey, tmp_path):
    """A folder of a few test captchas with a text file and a truncated picture among them."""
    _, data, _ = journey
    for sample in data.test.samples:
        shutil.copy(sample.path, tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    return tmp_path


def test_readings_do_not_depend_on_the_kind_of_input_or_on_batch_mates(journey) -> None:
    _, data, result = journey
    reader = Reader.load(result.model)
    paths = [sample.path for sample in data.test.samples]
    kinds = [paths, [str(p) for p in paths], [Image.open(p) for p in paths], [np.asarray(Image.open(p)) for p in paths]]
    expected = [reader.read([path])[0] for path in paths]
    # the last is what training and evaluation hold in memory
    for readings in [*map(reader.read, kinds), reader.read_prepared(data.test.images)]:
        for reading, alone in zip(readings, expected, strict=True):
            assert reading.text == alone.text and reading.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert [r.text for r in result.readings] == [r.text for r in expected]


@pytest.mark.parametrize("name", RECIPES)
def test_margins_are_cut_from_new_pictures_as_from_those_in_memory(name: str, tmp_path: Path) -> None:
    """Captchas with wide margins: the saved model cuts a picture where training cut it, and nothing twice."""
    for captcha in make_captchas(tmp_path / "plain", 40, length=4, image_size=(30, 100), style="clean").glob("*.png"):
        margins = ImageOps.expand(Image.open(captcha).convert("L"), (60, 0, 30, 0), fill=255)
        margins.save(tmp_path / captcha.name)
    shutil.rmtree(tmp_path / "plain")
    config = Config(recipe=name, data=tmp_path, work=tmp_path / "work", cache=False)
    data = load_data(config)
    left, right = data.recipe.crop
    assert 0.2 < left < 0.4 and 0.75 < right < 0.9  # of 190 pixels
    module = build(config, data)
    model = save_model(tmp_path / "model", module.network, module.codec, data.recipe)
    reader = Reader.load(model)
    held, new = reader.read_prepared(data.train.images), reader.read([sample.path for sample in data.train.samples])
    assert [r.text for r in held] == [r.text for r in new]
    assert [r.confidence for r in held] == pytest.approx([r.confidence for r in new], rel=1e-4)
    whole = load_data(replace(config, crop=False))
    assert whole.recipe.crop == (0, 1) and "cut to the columns" in str(data) and "cut to" not in str(whole)


class Stripes(nn.Module):
    """Sees a stripe of 16 columns as the digit of its gray value: 0 is black, 9 is 225."""

    def forward(self, images: Tensor) -> Tensor:
        grays = 255 * (0.5 * images + 0.5).mean((1, 2)).unflatten(1, (-1, 16)).mean(2)  # (B, T = W/16)
        return 20 * nn.functional.one_hot((grays / 25).round().long() + 1, 11).float()  # (B, T, K)


def striped(text: str, height: int) -> Image.Image:
    """The text as `Stripes` sees it: a stripe as wide as the picture is high for each digit."""
    levels = np.repeat([25 * int(digit) for digit in text], height).astype(np.uint8)
    return Image.fromarray(np.tile(levels, (height, 1)))


@pytest.fixture
def stripes(monkeypatch) -> Reader:
    """A reader that makes no mistakes with `striped` pictures, in the place of any that would be loaded."""
    recipe = get_recipe(Config(recipe="conv_ctc", image_size=(16, 64), aspect="keep"))
    reader = reader_of(Stripes(), CTCCodec("0123456789"), recipe)
    monkeypatch.setattr(Reader, "load", lambda model: reader)
    return reader


def test_mixed_widths_are_read_in_the_order_given(stripes) -> None:
    draw = np.random.default_rng(0)
    texts = []
    for length in draw.integers(1, 9, 150):  # more than two batches
        digits = draw.integers(1, 10, length).cumsum() % 10  # no two neighbours are equal
        texts.append("".join(map(str, digits)))
    pictures = [striped(text, height) for text, height in zip(texts, draw.choice([16, 32, 48], 150), strict=True)]
    together = stripes.read(pictures)
    assert [reading.text for reading in together] == texts
    alone = [stripes.read([picture])[0] for picture in pictures]
    assert [reading.text for reading in alone] == texts
    assert [r.confidence for r in together] == pytest.approx([r.confidence for r in alone], rel=1e-5)


@pytest.mark.parametrize("aspect", ["keep", "squeeze"])
def test_a_model_keeps_the_aspect_and_the_case_of_its_training(tmp_path, aspect) -> None:
    torch.manual_seed(0)
    recipe = get_recipe(Config(recipe="conv_ctc", aspect=aspect, image_size=(16, 48)))
    codec = recipe.codec("AB", None)
    network = recipe.network(codec)
    reader = Reader.load(save_model(tmp_path, network, codec, recipe, case="upper"))
    assert reader.recipe.aspect == aspect and reader.case == "upper"
    pictures = [striped("0" * width, 16) for width in (2, 5, 3)]
    assert [reader._prepared(picture).shape[1] for picture in pictures] == (
        [32, 80, 48] if aspect == "keep" else [48] * 3
    )
    plain = reader_of(network, codec, recipe, case="upper")
    assert reader.read(pictures) == plain.read(pictures)


def test_a_loaded_model_is_the_trained_one(journey) -> None:
    _, data, result = journey
    reader = Reader.load(result.model)
    facts = json.loads((result.model / "model.json").read_text(encoding="utf-8"))
    assert reader.spelling.charset == facts["charset"] == data.charset
    assert facts["recipe"] == "cnn_gru_ctc" and tuple(facts["image_size"]) == (40, 150)
    assert (facts["aspect"], facts["case"]) == (data.recipe.aspect, "keep") == (reader.recipe.aspect, reader.case)
    assert not reader.engine.network.training


def test_an_image_that_cannot_be_read_is_named(journey, tmp_path) -> None:
    reader = Reader.load(journey[2].model)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    good = journey[1].test.samples[0].path
    readings = reader.read([tmp_path / "broken.png", good, tmp_path / "absent.png", b"no picture"])
    assert [r.name for r in readings] == [
        *map(str, (tmp_path / "broken.png", good, tmp_path / "absent.png")),
        "image 3",
    ]
    assert [bool(r.error) for r in readings] == [True, False, True, True] and not readings[0].accepted(0)
    assert readings[1] == reader.read(good)[0] and reader.read([]) == []


def test_models_that_cannot_be_loaded_say_why(journey, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="model.json"):
        Reader.load(tmp_path)
    shutil.copytree(journey[2].model, tmp_path / "model")
    description = tmp_path / "model" / "model.json"
    description.write_text(description.read_text().replace("cnn_gru_ctc", "of_tomorrow"))
    with pytest.raises(ValueError, match="of_tomorrow"):
        Reader.load(tmp_path / "model")


def test_command_line_prints_one_line_per_picture(journey, folder, capsys) -> None:
    _, data, result = journey
    assert read_([str(result.model), str(folder), "--score"]) == 0
    output = capsys.readouterr()
    rows = list(csv.DictReader(output.out.splitlines()))
    assert [row["path"] for row in rows] == sorted(
        (str(folder / f"{text}.png") for text in data.test.texts), key=natural
    )
    assert {row["path"]: row["text"] for row in rows} == {
        str(folder / sample.path.name): reading.text
        for sample, reading in zip(data.test.samples, result.readings, strict=True)
    }
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    assert "notes.txt" in output.err and f"of {len(rows)};" in output.err


def test_command_line_goes_on_after_a_broken_picture(stripes, tmp_path, capsys) -> None:
    for text in ("12", "34"):
        striped(text, 20).save(tmp_path / f"{text}.png")
    (tmp_path / "13.png").write_bytes((tmp_path / "12.png").read_bytes()[:50])
    assert read_(["model", str(tmp_path), "--accept", "0.5", "--best", "2"]) == 1
    output = capsys.readouterr()
    broken = tmp_path / "13.png"
    assert [row[:4] for row in csv.reader(output.out.splitlines())] == [
        ["path", "text", "confidence", "accepted"],
        [str(tmp_path / "12.png"), "12", "1.0000", "1"],
        [str(broken), "", "", "0"],
        [str(tmp_path / "34.png"), "34", "1.0000", "1"],
    ]
    assert {len(row) for row in csv.reader(output.out.splitlines())} == {6}
    assert f"could not read {broken}: " in output.err
    assert read_(["model", str(tmp_path), "--score"]) == 1
    assert "(2 of 2;" in capsys.readouterr().err


def test_command_line_takes_what_is_known_of_the_texts(stripes, tmp_path, capsys) -> None:
    picture = tmp_path / "captcha.png"
    striped("123", 20).save(picture)
    (tmp_path / "words.txt").write_text("\ufeff987\r\n 193 \r\n\r\n12345\n", encoding="utf-8")
    for options, expected in (
        ("", "123"),
        ("--length 3", "123"),
        ("--length 2", "[123]{2}"),
        ("--length 2-3 --chars 013", "1[0]3|13"),
        ("--chars 13", "13"),
        ("--pattern [4-9][0-9]{2}", "[4-9]23"),
        (f"--words {tmp_path / 'words.txt'}", "193"),
    ):
        assert read_(["model", str(picture), *options.split()]) == 0
        ((_, text, confidence),) = list(csv.reader(capsys.readouterr().out.splitlines()))[1:]
        assert re.fullmatch(expected, text), options
        assert (float(confidence) > 0.99) == (text == "123")
    for options, said in (
        ("--length x", "length='x' cannot be used"),
        ("--length 3 --pattern 1", "pattern and length cannot be combined"),
        ("--words absent.txt", "absent.txt"),
        ("--words captcha.png", "is not UTF-8"),
        ("--accept 2", "argument --accept: invalid"),
        ("--best 0", "argument --best: invalid"),
    ):
        with pytest.raises(SystemExit, match="2"):
            read_(["model", str(picture), *options.replace("captcha.png", str(picture)).split()])
        assert said in capsys.readouterr().err
    assert read_(["model", str(picture), "--length", "9"]) == 1  # three frames
    output = capsys.readouterr()
    assert output.out.splitlines()[1].endswith("captcha.png,,") and "3 frames spell no text" in output.err


def test_command_line_gives_alternatives_as_csv_and_as_json_lines(journey, folder, capsys) -> None:
    model = str(journey[2].model)
    (folder / "broken.png").write_bytes(b"no picture")
    assert read_([model, str(folder), "--best", "3", "--accept", "0.001"]) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert read_([model, str(folder), "--best", "3", "--accept", "0.001", "--json-lines"]) == 1
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    readings = Reader.load(model).read(folder, best=3)
    assert len(rows) == len(entries) == len(readings) == len(journey[1].test) + 1
    for row, entry, reading in zip(rows, entries, readings, strict=True):
        assert row["path"] == entry["path"] == reading.name and row["text"] == entry["text"] == reading.text
        assert row["accepted"] == str(int(entry["accepted"])) == str(int(reading.accepted(0.001)))
        assert [entry.get("error")] == [reading.error] and (reading.error is None) == (row["confidence"] != "")
        found = [(alternative["text"], alternative["probability"]) for alternative in entry["alternatives"]]
        assert found == [(text, pytest.approx(p, abs=1e-6)) for text, p in reading.alternatives]
        assert [row["text_2"], row["text_3"]] == ([text for text, _ in found[1:]] or ["", ""])
        assert found == sorted(found, key=lambda pair: -pair[1]) and len(found) in (0, 3)
    assert read_([model, str(folder / "broken.png"), "--json-lines"]) == 1
    (entry,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(entry) == ["path", "text", "confidence", "error"] and entry["text"] == "" and entry["confidence"] == 0


def test_pictures_are_read_as_they_come(stripes) -> None:
    """From what has no end and no length, in batches, so that any number of pictures fits into memory."""
    taken = []

    def endless() -> Iterator[Image.Image]:
        for number in itertools.count():
            taken.append(number)
            yield striped(f"{number % 9}9", 16)

    readings = list(itertools.islice(stripes.stream(endless()), 70))
    assert [r.text for r in readings] == [f"{n % 9}9" for n in range(70)] and len(taken) == 2 * reader_module.BATCH_SIZE
    assert [r.name for r in readings[:2]] == ["image 0", "image 1"]
    assert [r.text for r in stripes.read(striped(text, 16) for text in ("12", "3"))] == ["12", "3"]


def test_constraints_are_in_the_case_of_the_model() -> None:
    reader = Reader(
        lambda images: np.zeros((len(images), 4, 5), np.float32),
        description.Description("conv_ctc", "AB12", 3, (8, 16), (0.5,), (0.5,), case="upper"),
    )
    picture = striped("1", 8)
    for given in ({"words": ["a1b"]}, {"pattern": "[a][0-9][b-z]"}, {"chars": "ab"}, {"length": "3"}):
        (reading,) = reader.read(picture, reader.constraint(**given))
        assert reading.error is None and len(reading.text) == 3, given  # the model's own length, with chars alone
        assert set(reading.text) <= set("AB" if "chars" in given else "AB12")
    assert reader.constraint() is None


def test_command_line_scores_folders_zips_tables_and_lists(stripes, tmp_path, capsys) -> None:
    home = tmp_path / "in"
    home.mkdir()
    for text in ("12", "345", "6789", "0"):
        striped(text, 20).save(home / f"{text}.png")
    archive = pack(home, tmp_path / "packed.zip")
    rows = [("345.png", "345"), ("12.png", "12"), ("0.png", "9")]
    (home / "list.txt").write_text("0\n12\n345\n9876")
    for source, scored, read in (
        (home, "4 of 4;", ["0", "12", "345", "6789"]),
        (archive, "4 of 4;", ["0", "12", "345", "6789"]),
        (table(home / "labels.csv", rows), "2 of 3;", ["345", "12", "0"]),
        (home / "list.txt", "3 of 4;", ["0", "12", "345", "6789"]),
    ):
        assert read_(["model", str(source), "--score"]) == 0
        output = capsys.readouterr()
        assert [row["text"] for row in csv.DictReader(output.out.splitlines())] == read
        assert scored in output.err


def test_command_line_takes_the_text_out_of_names(stripes, tmp_path, capsys) -> None:
    for text, name in (("12", "12-0"), ("345", "345-1")):
        striped(text, 20).save(tmp_path / f"{name}.png")
    assert read_(["model", str(tmp_path), "--score", "--label-pattern", r"(.+)-\d"]) == 0
    assert "2 of 2;" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        read_(["model", str(tmp_path), "--score", "--label-pattern", r"(.+)_\d"])
    assert "no text in 2 files" in capsys.readouterr().err


def test_command_line_as_a_person_calls_it(journey, folder) -> None:
    """From another folder than the project's, in a process of its own, and without a model."""
    call = [sys.executable, "-m", "helpers", "read", "--model"]
    (folder / "Zażółć.png").write_bytes(b"")
    done = subprocess.run(
        [*call, str(journey[2].model), str(folder)],
        capture_output=True,
        cwd=folder,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},  # as in a Windows console, which does not speak UTF-8 either
    )
    lines = done.stdout.decode("utf-8").split("\n")
    assert done.returncode == 1 and len(lines) == 1 + len(journey[1].test) + 2 and lines[-1] == ""
    assert lines[-2] == f"{folder / 'Zażółć.png'},," and "\r" not in lines[0]
    done = subprocess.run([*call, str(folder), str(folder)], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "model.json" in done.stderr


def test_reading_needs_two_files_and_no_pickle(journey, tmp_path) -> None:
    _, data, result = journey
    for name in (description.WEIGHTS, description.DESCRIPTION):
        shutil.copy(result.model / name, tmp_path)
    assert Reader.load(tmp_path).read_prepared(data.test.images) == Reader.load(result.model).read_prepared(
        data.test.images
    )
    assert not [path for path in result.model.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib", ".pt")]
