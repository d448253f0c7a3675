"""ONNX files: each recipe reads from one as in torch, at any width that is free, and with three packages alone."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from helpers.config import PROJECT, Config
from helpers.models.recipes import RECIPES, get_recipe
from helpers.models.weights import describe, save_model
from helpers.reading import export
from helpers.reading import onnx as onnx_model
from helpers.reading.engines import TorchEngine
from helpers.reading.export import TOLERANCE, save_onnx
from helpers.reading.onnx import load_onnx
from helpers.reading.onnx_gru import for_onnx
from helpers.reading.reader import Reader
from tests import verbs

# of helpers/, to read; metrics to score
NEEDED = ("__init__.py", "__main__.py", "config.py", "output.py", "rows.py", "pictures", "reading", "sources", "text")
# forbids what is not installed beside onnxruntime, numpy and Pillow, then runs the reader's command line
THREE_PACKAGES = """
import runpy, sys

class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"helpers", "mlruns_tools", "onnxruntime", "numpy", "PIL"} | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Only())
runpy.run_module("helpers", run_name="__main__", alter_sys=True)
"""


def random_reader(name: str, **settings: object) -> Reader:
    """Of an untrained network, whose BatchNorm has seen images and whose logits are spread as those of a trained one."""
    torch.manual_seed(0)
    recipe = get_recipe(Config(recipe=name, **settings))
    codec = recipe.codec("ABC123", 4 if recipe.fixed_length else None)
    network = recipe.network(codec)
    images = torch.randn(8, recipe.channels, *recipe.image_size)
    with torch.no_grad():
        for _ in range(20):
            network(images)
        said = network.eval()(images)  # (B, T, K)
        for step, head in enumerate(network.heads if recipe.fixed_length else [network.head]):
            logits = said[:, step] if recipe.fixed_length else said.flatten(0, 1)
            scale = 20 / logits.std(0)
            head.bias.sub_(logits.mean(0)).mul_(scale)
            head.weight.mul_(scale[:, None])
    return Reader(TorchEngine(network), describe(codec, recipe, "upper", temperature=1.5))


@pytest.fixture(scope="module", params=RECIPES)
def pair(request, tmp_path_factory) -> tuple[Reader, Reader, Path]:
    """(in torch, from ONNX, the file), of each recipe; CTC recipes with the aspect kept."""
    ctc = not RECIPES[request.param].fixed_length
    reader = random_reader(request.param, aspect="keep" if ctc else "squeeze")
    path = save_onnx(reader, tmp_path_factory.mktemp("onnx") / "model.onnx")
    return reader, Reader.load(path), path


def pictures(reader: Reader, count: int) -> list[Image.Image]:
    """Random pictures as high as the model sees them and, one after another, as wide, twice as wide, half as wide."""
    height, width = reader.description.image_size
    draw = np.random.default_rng(1)
    widths = [(width, 2 * width, width // 2)[place % 3] for place in range(count)]
    return [Image.fromarray(draw.integers(256, size=(height, wide, 3), dtype=np.uint8)) for wide in widths]


def test_both_read_the_same(pair) -> None:
    reader, exported, path = pair
    assert list(path.parent.iterdir()) == [path]  # one file that holds the weights
    assert exported.description == reader.description and exported.temperature == 1.5 and exported.case == "upper"
    assert Reader.load(path, threads=1).engine.session.get_session_options().intra_op_num_threads == 1
    images = pictures(reader, 12)
    expected, got = reader.read(images), exported.read(images)
    assert [r.text for r in got] == [r.text for r in expected] and len({r.text for r in got}) > 3
    assert [r.confidence for r in got] == pytest.approx([r.confidence for r in expected], abs=TOLERANCE)
    assert [r.confidence for r in exported.read(images[:1])] == pytest.approx([got[0].confidence], abs=TOLERANCE)
    steps = {len(frames) for frames in exported.logits([exported._prepared(image) for image in images])}
    assert len(steps) == (1 if RECIPES[reader.description.recipe].fixed_length else 3)


def test_a_network_that_was_not_exported_is_told_apart(pair) -> None:
    reader, exported, _ = pair
    export.check(exported, reader)
    with torch.no_grad():
        parameter = list(reader.engine.network.parameters())[-1]
        before = parameter.clone()
        parameter += torch.randn_like(parameter)
        with pytest.raises(ValueError, match="exported network"):
            export.check(exported, reader)
        parameter.copy_(before)


def test_nothing_is_left_of_a_file_that_reads_otherwise(tmp_path, monkeypatch) -> None:
    other = random_reader("conv_ctc")
    monkeypatch.setattr(export, "load_onnx", lambda path: (lambda x: -other.engine(x), other.description))
    with pytest.raises(ValueError, match="exported network"):
        save_onnx(other, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_command_line_from_a_model_folder_to_readings_with_three_packages(tmp_path, capsys) -> None:
    """What a machine needs that only reads: a few files, an ONNX file, and what is installed on it."""
    reader = random_reader("conv_ctc")
    recipe = reader.recipe
    save_model(tmp_path / "model", reader.engine.network, recipe.codec("ABC123", None), recipe)
    assert verbs.export([str(tmp_path / "model"), "--to", str(tmp_path / "m" / "captcha.onnx")]) == 0
    assert "captcha.onnx (" in capsys.readouterr().out
    (tmp_path / "helpers").mkdir()
    for name in NEEDED:
        copy = shutil.copy if name.endswith(".py") else shutil.copytree
        copy(PROJECT / "helpers" / name, tmp_path / "helpers" / name)
    (tmp_path / "mlruns_tools").mkdir()
    shutil.copy(PROJECT / "mlruns_tools" / "fixed_paths.py", tmp_path / "mlruns_tools")
    (tmp_path / "three_packages.py").write_text(THREE_PACKAGES)
    (tmp_path / "new").mkdir()
    images = pictures(reader, 5)
    for place, image in enumerate(images):
        image.save(tmp_path / "new" / f"{place}.{('png', 'gif', 'bmp')[place % 3]}")
    images[0].save(tmp_path / "new" / "5.jpg")

    def read(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "three_packages.py", "read", "--model", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = read("m/captcha.onnx", "new")
    assert done.returncode == 0, done.stderr
    texts = [row["text"] for row in csv.DictReader(done.stdout.splitlines())]
    assert texts == [r.text for r in Reader.load(tmp_path / "model").read(tmp_path / "new")] and len(texts) == 6
    done = read("m/captcha.onnx", "new", "--pattern", "[A-C][0-9]{3}", "--best", "2")
    assert done.returncode == 0 and all("A" <= line.split(",")[1][0] <= "C" for line in done.stdout.splitlines()[1:])
    done = read("m/captcha.onnx", "new", "--score")
    assert done.returncode == 2 and done.stderr == "No module named 'rapidfuzz': pip install rapidfuzz\n"


def test_files_that_cannot_be_read_say_why(tmp_path, capsys) -> None:
    with pytest.raises(FileNotFoundError, match="helpers export MODEL --to absent.onnx"):
        Reader.load(tmp_path / "absent.onnx")
    path = save_onnx(random_reader("conv_ctc"), tmp_path / "model.onnx")
    other = onnx.load(path)
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other.onnx was not written by `python -m helpers export`"):
        Reader.load(tmp_path / "other.onnx")
    (tmp_path / "half.onnx").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("half.onnx", "empty.onnx"):
        with pytest.raises(ValueError, match=f"{name} is no ONNX file that can be read"):
            load_onnx(tmp_path / name)
    for model, said in ((path, "is an ONNX file already"), (tmp_path, "holds no model.json")):
        with pytest.raises(SystemExit, match="2"):
            verbs.export([str(model), "--to", str(tmp_path / "new.onnx")])
        assert said in capsys.readouterr().err and not (tmp_path / "new.onnx").exists()


def test_what_lacks_is_named_with_what_installs_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install onnx onnxscript onnxruntime$"):
        save_onnx(random_reader("conv_ctc"), tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match="pip install onnxruntime$"):
        Reader.load(tmp_path / "model.onnx")


def test_a_recurrent_layer_that_would_be_exported_wrongly_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.GRU(8, 4, batch_first=True))
    with pytest.raises(ValueError, match="^1: a GRU is exported that is bidirectional"):
        for_onnx(network)
