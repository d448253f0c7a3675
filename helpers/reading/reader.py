"""Reading with a trained model: pictures in, texts with confidence out. Evaluation, command line and service all do this.

Reading needs numpy and Pillow, and what runs the network: torch for a model folder, ONNX Runtime for a `.onnx` file.
On the command line: `python -m helpers.reading.reader MODEL IMAGE_OR_FOLDER...`, see `command_line.py`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from helpers.config import Config
from helpers.data.samples import one_spelling
from helpers.pictures.opening import UNREADABLE, list_pictures, open_picture, read_bytes, why
from helpers.pictures.view import WHOLE, normalise, prepare
from helpers.text.beam import Constraint, constrained
from helpers.text.spelling import CTCSpelling, PositionSpelling, Reading, Spelling

if TYPE_CHECKING:
    from helpers.models.recipes import Recipe

WEIGHTS, DESCRIPTION = "model_weights.pth", "model.json"
BATCH_SIZE = 64  # images

Source = str | Path | bytes | Image.Image | np.ndarray  # of one picture, or a folder or zip of them
Engine = Callable[[np.ndarray], np.ndarray]  # the network: float32 (B, C, H, W) to logits (B, T, K)


@dataclass(frozen=True)
class Description:
    """All that is needed to read with a network, as `model.json` and the metadata of an ONNX file hold it."""

    recipe: str
    charset: str
    text_length: int | None  # in characters; None: any
    image_size: tuple[int, int]  # (height, width), pixels
    mean: tuple[float, ...]  # one per channel, of images in [0, 1]
    std: tuple[float, ...]
    case: str = "keep"  # that texts were brought to
    aspect: str = "squeeze"
    crop: tuple[float, float] = WHOLE  # the columns read, (left, right) in shares of the width
    codec: str = ""  # "ctc" or "positions"
    temperature: float = 1.0  # by which logits are divided, so that the confidence is right as often as it says
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Description":
        """Of a model folder."""
        return cls.parse(read_bytes(folder / DESCRIPTION).decode(), folder / DESCRIPTION)

    @classmethod
    def parse(cls, text: str, where: object) -> "Description":
        """From JSON; ValueError that names `where` it stands if it is none of ours. Older ones lack the newer fields."""
        try:
            facts = {name: value for name, value in json.loads(text).items() if name in {f.name for f in fields(cls)}}
            made = cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} does not describe a model of this project: {error}") from None
        return made

    def __str__(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @property
    def view(self) -> tuple[tuple[int, int], int, bool, tuple[float, float]]:
        """How a picture is prepared: the arguments of `view.prepare`."""
        return self.image_size, len(self.mean), self.aspect == "keep", self.crop

    def spelling(self) -> Spelling:
        """What the network's logits spell."""
        by_position = self.codec == "positions" or (not self.codec and self.recipe == "resnet18")
        return (PositionSpelling if by_position else CTCSpelling)(self.charset, self.text_length)


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
            from helpers.reading.onnx import load_onnx  # not above: it uses what is written here

            return load_onnx(Path(model), threads)
        if str(model).startswith("runs:"):
            from helpers.record.tracking import download_model  # not above: reading from a folder needs no MLflow

            model = download_model(str(model), Config())
        folder = Path(model)
        for name in (DESCRIPTION, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} holds no {name}: name a model folder, runs:/RUN_ID/model or an ONNX file"
                )
        description = Description.load(folder)
        from helpers.models.weights import load_network  # not above: a reader of ONNX files needs no torch

        return cls(load_network(folder, description, device), description)

    @property
    def recipe(self) -> "Recipe":
        """The recipe as it was trained. Needs torch."""
        from helpers.models.weights import recipe_of

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


if __name__ == "__main__":
    from helpers.reading.command_line import main

    sys.exit(main())
