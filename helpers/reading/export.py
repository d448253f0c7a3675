"""A network in memory as a reader, and a reader with a torch engine as one ONNX file that reads the same."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.models.codec import Codec
from helpers.models.recipes import Recipe
from helpers.models.weights import describe
from helpers.reading.engines import TorchEngine
from helpers.reading.onnx import METADATA, load_onnx, require
from helpers.reading.onnx_gru import for_onnx
from helpers.reading.reader import Reader
from helpers.text.spelling import CTCSpelling, log_softmax

TOLERANCE = 1e-4  # of probabilities between the network and what was exported


def reader_of(network: nn.Module, codec: Codec, recipe: Recipe, device: str = "cpu", case: str = "keep") -> Reader:
    """A reader of a network in memory, which is put into evaluation mode."""
    return Reader(TorchEngine(network, device), describe(codec, recipe, case))


def save_onnx(reader: Reader, path: Path) -> Path:
    """Writes the network of a reader with a torch engine, in evaluation mode, as one file, and checks that it reads the same.

    Raises ModuleNotFoundError where a package lacks and ValueError, without a file left, where readings differ.
    """
    require("onnx", "onnxscript", "onnxruntime")
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
        check(Reader(*load_onnx(unchecked)), reader)
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
