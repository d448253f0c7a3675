"""Reading with a trained model: pictures in, texts with confidence out. Evaluation, command line and service all do this.

Reading needs numpy and Pillow, and what runs the network: torch for a model folder, ONNX Runtime for a `.onnx` file.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from helpers.config import PRETRAINED, Config
from helpers.pictures.opening import UNREADABLE, list_pictures, open_picture, why
from helpers.pictures.view import normalise, prepare
from helpers.text.constraint import Constraint, constrained
from helpers.text.description import DESCRIPTION, WEIGHTS, Description
from helpers.text.spelling import Reading, one_spelling

if TYPE_CHECKING:
    from helpers.models.recipes import Recipe


BATCH_SIZE = 64  # images


Source = str | Path | bytes | Image.Image | np.ndarray  # of one picture, or a folder or zip of them


Engine = Callable[[np.ndarray], np.ndarray]  # the network: float32 (B, C, H, W) to logits (B, T, K)


class Reader:
    """Reads captchas with a trained model: `Reader.load(model).read(images)`."""

    def __init__(self, engine: Engine, description: Description) -> None:
        self.engine, self.description = engine, description
        self.spelling = description.spelling()
        self.temperature, self.case = description.temperature, description.case

    @classmethod
    def load(cls, model: str | Path, device: str = "cpu", threads: int | None = None) -> "Reader":
        """From a model folder, a run of the local record as `runs:/<run id>/model`, or an ONNX file.

        `device` is torch's; an ONNX file is read on the CPU, with `threads`, see `OnnxEngine`. Raises FileNotFoundError
        where there is no model, ValueError where it was written for another project version, ModuleNotFoundError where
        what runs it is not installed.
        """
        if Path(model).suffix == ".onnx":
            from helpers.reading.onnx import load_onnx  # not above: a reader of model folders needs none of it

            return cls(*load_onnx(Path(model), threads))
        if str(model).startswith("runs:"):
            from helpers.record.runs import download_model  # not above: reading from a folder needs no MLflow

            model = download_model(str(model), Config())
        folder = Path(model)
        for name in (DESCRIPTION, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} holds no {name}: name a model folder, runs:/RUN_ID/model or an ONNX file"
                )
        description = Description.load(folder)
        from helpers.reading.engines import load_engine  # not above: a reader of ONNX files needs no torch

        return cls(load_engine(folder, description, device), description)

    @property
    def recipe(self) -> "Recipe":
        """The recipe as it was trained. Needs torch."""
        from helpers.models.weights import recipe_of  # torch

        return recipe_of(self.description)

    def read(
        self, images: Source | Iterable[Source], constraint: Constraint | None = None, best: int = 0
    ) -> list[Reading]:
        """One reading per picture, in order: of paths, folders, zips, bytes of a picture file, PIL pictures, uint8 arrays.

        A folder or zip stands for all its pictures in natural order; arrays are (H, W) or (H, W, C). A picture that
        cannot be read gives a reading with an error. With `best` every reading has as many alternatives, itself first;
        `constraint` is what `constraint()` gives.
        """
        return list(self.stream(images, constraint, best))

    def constraint(
        self,
        length: int | str | None = None,
        chars: str | None = None,
        pattern: str | None = None,
        words: Iterable[str] | None = None,
    ) -> Constraint | None:
        """What is known of the texts, as `beam.constrained` has it, over the model's charset and in its case.

        A model of texts of one length keeps to it where only `chars` are given.
        """
        if chars is not None and length is None and pattern is None and words is None:
            length = self.spelling.length
        chars, pattern = (None if text is None else one_spelling(text, self.case) for text in (chars, pattern))
        words = None if words is None else [one_spelling(word, self.case) for word in words]
        return constrained(self.spelling.charset, length, chars, pattern, words)

    def stream(
        self, images: Source | Iterable[Source], constraint: Constraint | None = None, best: int = 0
    ) -> Iterator[Reading]:
        """The same one by one, with no more than a batch of pictures in memory."""
        sources = enumerate(pictures_of(images))
        while chosen := list(islice(sources, BATCH_SIZE)):
            names = [str(s) if isinstance(s, str | Path) else f"image {place}" for place, s in chosen]
            prepared = [self._prepared(source) for _, source in chosen]
            good = [image for image in prepared if not isinstance(image, str)]
            read = iter(self.read_prepared(good, constraint, best))
            for name, image in zip(names, prepared, strict=True):
                reading = Reading("", 0.0, error=image) if isinstance(image, str) else next(read)
                yield replace(reading, name=name)

    def read_prepared(
        self, images: Sequence[np.ndarray], constraint: Constraint | None = None, best: int = 0
    ) -> list[Reading]:
        """One reading per image, in order; images are what `view.prepare` gave, such as those of a CaptchaDataset."""
        readings: dict[int, Reading] = {}
        for places, logits in self._batches(images):
            readings |= zip(places, self.spelling.read(logits, self.temperature, constraint, best), strict=True)
        return [readings[place] for place in range(len(images))]

    def logits(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the network says of each prepared image, (T, K)."""
        said: dict[int, np.ndarray] = {}
        for places, logits in self._batches(images):
            said |= zip(places, logits, strict=True)
        return [said[place] for place in range(len(images))]

    def _batches(self, images: Sequence[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
        """(places of images, their logits (B, T, K)): a batch has one width."""
        for start in range(0, len(images), BATCH_SIZE):
            chosen = range(start, min(start + BATCH_SIZE, len(images)))
            for width in sorted({images[place].shape[1] for place in chosen}):
                places = [place for place in chosen if images[place].shape[1] == width]
                mean, std = self.description.mean, self.description.std
                batch = np.stack([normalise(images[place], mean, std) for place in places])  # (B, C, H, W)
                yield places, self.engine(batch)

    def _prepared(self, source: Source) -> np.ndarray | str:
        """The picture as the network sees it, or why it cannot be read."""
        try:
            if isinstance(source, np.ndarray):
                picture = Image.fromarray(source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source)
            elif isinstance(source, Image.Image):
                picture = source
            else:
                picture = open_picture(source if isinstance(source, bytes) else Path(source))
            return prepare(picture, *self.description.view)
        except UNREADABLE as error:
            return why(error)


def pictures_of(images: Source | Iterable[Source]) -> Iterator[Source]:
    """One source per picture: folders and zips opened, a single source as one."""
    for source in [images] if isinstance(images, Source) else images:
        holds_many = isinstance(source, str | Path) and (os.path.isdir(source) or Path(source).suffix.lower() == ".zip")
        yield from list_pictures(Path(source))[0] if holds_many else [source]


def choose_model(config: Config) -> Path:
    """The model folder of the last training in the work folder, else the one that comes with the project."""
    trained = config.work / "model"
    return trained if (trained / DESCRIPTION).is_file() else PRETRAINED / "conv_ctc"
