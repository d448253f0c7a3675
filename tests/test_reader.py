"""The reader: the same readings from any kind of input, and a command line that survives odd files."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from helpers import reader as reader_module
from helpers.config import PROJECT
from helpers.reader import Reader, main


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
    kinds.append(list(data.test.images))  # what training and evaluation hold in memory
    expected = [reader.read([path])[0] for path in paths]
    for images in kinds:
        for reading, alone in zip(reader.read(images), expected, strict=True):
            assert reading.text == alone.text and reading.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert [r.text for r in result.readings] == [r.text for r in expected]


def test_a_loaded_model_is_the_trained_one(journey) -> None:
    _, data, result = journey
    reader = Reader.load(result.model)
    facts = json.loads((result.model / "model.json").read_text(encoding="utf-8"))
    assert reader.codec.charset == facts["charset"] == data.charset
    assert facts["recipe"] == "cnn_gru_ctc" and tuple(facts["image_size"]) == (40, 150)
    assert not reader.network.training


def test_an_image_that_cannot_be_read_is_named(journey, tmp_path) -> None:
    reader = Reader.load(journey[2].model)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="broken.png"):
        reader.read([tmp_path / "broken.png"])
    assert reader.read([]) == []


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
    assert main([str(result.model), str(folder), "--score"]) == 0
    output = capsys.readouterr()
    rows = list(csv.DictReader(output.out.splitlines()))
    assert [row["path"] for row in rows] == [str(folder / f"{text}.png") for text in sorted(data.test.texts)]
    assert {row["path"]: row["text"] for row in rows} == {
        str(folder / sample.path.name): reading.text
        for sample, reading in zip(data.test.samples, result.readings, strict=True)
    }
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    assert "notes.txt" in output.err and f"of {len(rows)};" in output.err


def test_command_line_goes_on_after_a_broken_picture(journey, folder, capsys) -> None:
    good = sorted(folder.glob("[!.]*.png"))
    (folder / "broken.png").write_bytes(good[0].read_bytes()[:200])
    assert main([str(journey[2].model), str(folder)]) == 1
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 1 + len(good)
    assert "broken.png" in output.err and "broken.png" not in output.out


def test_command_line_as_a_person_calls_it(journey, folder) -> None:
    """From another folder than the project's, in a process of its own, and without a model."""
    call = [sys.executable, "-m", "helpers.reader"]
    done = subprocess.run([*call, str(journey[2].model), str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 + len(journey[1].test)
    done = subprocess.run([*call, str(folder), str(folder)], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "model.json" in done.stderr


def test_reading_needs_no_pickle(journey) -> None:
    assert {path.name for path in journey[2].model.iterdir()} == {reader_module.WEIGHTS, reader_module.DESCRIPTION}
