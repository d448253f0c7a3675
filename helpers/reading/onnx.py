"""A trained model as one ONNX file, which holds all that is needed to read with it, and ONNX Runtime as a reader's engine.

The size of a batch is free, and for CTC recipes the width of the images, in pixels. The export needs torch, onnx and
onnxscript; reading needs ONNX Runtime, numpy and Pillow.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from helpers.output import say, sentence
from helpers.reading.reader import Description, Reader
from helpers.text.spelling import CTCSpelling, log_softmax

METADATA = "captcha_ocr"  # the key under which the file holds its Description as JSON
TOLERANCE = 1e-4  # of probabilities between the network and what was exported
THREADS = 4  # at most, where none are named: networks this small gain nothing from more


class OnnxEngine:
    """An ONNX file as readers use it, on the CPU: float32 (B, C, H, W) in, logits (B, T, K) out.

    `threads` are those of ONNX Runtime; None: as many as this process may use, and 4 at most. Raises ValueError for a file
    that ONNX Runtime cannot load.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        require("onnxruntime")
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or min(THREADS, usable)
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), settings, ["CPUExecutionProvider"])
        except (errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument, errors.Fail) as error:
            raise ValueError(f"{path} is no ONNX file that can be read: {error}") from None
        self.input = self.session.get_inputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.input: images})[0]

    @property
    def metadata(self) -> dict[str, str]:
        return self.session.get_modelmeta().custom_metadata_map


def load_onnx(path: Path, threads: int | None = None) -> Reader:
    """A reader of the file. Raises FileNotFoundError, or ValueError for an ONNX file that is none of this project."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: `python -m helpers.reading.onnx MODEL --to {path.name}` makes one"
        )
    engine = OnnxEngine(path, threads)
    if METADATA not in engine.metadata:
        raise ValueError(f"{path} was not written by helpers.reading.onnx: it does not say what its logits spell")
    return Reader(engine, Description.parse(engine.metadata[METADATA], path))


def save_onnx(reader: Reader, path: Path) -> Path:
    """Writes the network of a reader with a torch engine, in evaluation mode, as one file, and checks that it reads the same.

    Raises ModuleNotFoundError where a package lacks and ValueError, without a file left, where readings differ.
    """
    require("onnx", "onnxscript", "onnxruntime")
    import torch

    from helpers.reading.onnx_gru import for_onnx

    description, ctc = reader.description, isinstance(reader.spelling, CTCSpelling)
    height, width = description.image_size
    network = for_onnx(reader.engine.network).cpu().eval()
    free = {0: torch.export.Dim.DYNAMIC} | ({3: torch.export.Dim.DYNAMIC} if ctc else {})
    program = torch.onnx.export(
        network,
        (torch.zeros(2, len(description.mean), height, width),),  # of one image, the batch would count as fixed
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=(free,),
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props[METADATA] = str(description)
    with tempfile.TemporaryDirectory() as scratch:
        unchecked = Path(scratch, "unchecked.onnx")
        program.save(unchecked, external_data=False)
        check(load_onnx(unchecked), reader)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unchecked, path)
    return path


def check(exported: Reader, reader: Reader, count: int = 32, seed: int = 0) -> None:
    """Both read random images, of several widths where these are free. Raises ValueError where they differ.

    Texts must be the same, confidences and the probabilities in every frame within TOLERANCE.
    """
    images = random_images(reader, count, seed)
    for place, (one, other) in enumerate(
        zip(exported.read_prepared(images), reader.read_prepared(images), strict=True)
    ):
        if one.text != other.text or abs(one.confidence - other.confidence) > TOLERANCE:
            raise ValueError(f"the exported network reads {one} from random image {place}, torch reads {other}")
    for place, (one, other) in enumerate(zip(exported.logits(images), reader.logits(images), strict=True)):
        most = np.abs(np.exp(log_softmax(one)) - np.exp(log_softmax(other))).max()
        if not most <= TOLERANCE:
            raise ValueError(f"a probability of the exported network is {most:.1e} away in random image {place}")


def random_images(reader: Reader, count: int, seed: int = 0) -> list[np.ndarray]:
    """Random blots, uint8 (H, W, C), as wide as the model's images; for CTC recipes every other one of another width."""
    draw = np.random.default_rng(seed)
    height, width = reader.description.image_size
    images = []
    for place in range(count):
        free = isinstance(reader.spelling, CTCSpelling) and place % 2
        columns = 16 * int(draw.integers(3, 1 + width // 8)) if free else width  # up to twice the model's
        blots = draw.integers(256, size=(height // 4 + 1, columns // 4 + 1, len(reader.description.mean)))
        images.append(blots.astype(np.uint8).repeat(4, 0).repeat(4, 1)[:height, :columns])
    return images


def require(*packages: str) -> None:
    """Raises ModuleNotFoundError that says how to install what lacks."""
    if lacking := [package for package in packages if find_spec(package) is None]:
        raise ModuleNotFoundError(f"this needs {' and '.join(lacking)}: pip install {' '.join(lacking)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: writes the file and says where. Exit 2 where that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.reading.onnx", description="Write a model as one ONNX file."
    )
    parser.add_argument("model", help="a model folder, or runs:/RUN_ID/model of the record under CAPTCHA_WORK")
    parser.add_argument("--to", type=Path, default=Path("model.onnx"), help="the file; default: model.onnx")
    options = parser.parse_args(arguments)
    try:
        if options.model.endswith(".onnx"):
            raise ValueError(f"{options.model} is an ONNX file already: name a model folder or runs:/RUN_ID/model")
        path = save_onnx(Reader.load(options.model), options.to)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        parser.exit(2, f"{sentence(error)}\n")
    say(f"{path} ({path.stat().st_size / 1e6:.1f} MB) reads random images as the model does")
    say(f"read with it: python -m helpers.reading.reader {path} IMAGE_OR_FOLDER")
    return 0


if __name__ == "__main__":
    sys.exit(main())
