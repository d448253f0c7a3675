"""A trained model on disk, and reading with it: pictures in, texts with confidence out. Every evaluation goes through here.

On the command line: `python -m helpers.reader MODEL IMAGE_OR_FOLDER... [--score]`.
"""

import argparse
import csv
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from helpers import metrics
from helpers.codec import Codec, Reading
from helpers.config import Config
from helpers.pictures import UNREADABLE, DataError, list_pictures, open_picture, why
from helpers.recipes import RECIPES, Recipe
from helpers.samples import LISTS, TABLES, Sample, find_samples, one_spelling, sample_text
from helpers.transforms import WHOLE, eval_transform, prepare

WEIGHTS, DESCRIPTION = "model_weights.pth", "model.json"
BATCH_SIZE = 64  # images


def save_model(folder: Path, network: nn.Module, codec: Codec, recipe: Recipe, case: str = "keep") -> Path:
    """Writes the weights as plain tensors and, as JSON, all that is needed to build the same reader again."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    torch.save(weights, folder / WEIGHTS)
    description = {
        "recipe": recipe.name,
        "charset": codec.charset,
        "text_length": codec.length,  # in characters; null: any
        "case": case,  # that texts were brought to
        "image_size": recipe.image_size,  # (height, width), pixels
        "aspect": recipe.aspect,
        "crop": recipe.crop or WHOLE,  # the columns read, (left, right) in shares of the width
        "mean": recipe.mean,
        "std": recipe.std,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False), encoding="utf-8")
    return folder


class Reader:
    """Reads captchas with a trained model: `Reader.load(folder).read(images)`."""

    def __init__(
        self, network: nn.Module, codec: Codec, recipe: Recipe, device: str = "cpu", case: str = "keep"
    ) -> None:
        self.network = network.to(device).eval()
        self.codec, self.recipe, self.device, self.case = codec, recipe, device, case
        self.transform = eval_transform(recipe.mean, recipe.std)

    @classmethod
    def load(cls, model: str | Path, device: str = "cpu") -> "Reader":
        """From a model folder, or from a run of the local record as `runs:/<run id>/model`.

        Raises FileNotFoundError where there is no model, ValueError where it was written for another project version.
        """
        if str(model).startswith("runs:"):
            from helpers.tracking import download_model  # not above: reading from a folder needs no MLflow

            model = download_model(str(model), Config())
        folder = Path(model)
        for name in (DESCRIPTION, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} holds no {name}: name a model folder or runs:/RUN_ID/model")
        facts = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if facts["recipe"] not in RECIPES:
            raise ValueError(f"{folder / DESCRIPTION} names the recipe {facts['recipe']!r}; known are {[*RECIPES]}")
        recipe = replace(
            RECIPES[facts["recipe"]],
            image_size=tuple(facts["image_size"]),
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            fit_width=False,
            aspect=facts.get("aspect", "squeeze"),
            crop=tuple(facts.get("crop", WHOLE)),
        )
        codec = recipe.codec(facts["charset"], facts["text_length"])
        network = recipe.network(codec)
        network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
        return cls(network, codec, recipe, device, facts.get("case", "keep"))

    def read(self, images: Sequence[str | Path | Image.Image | np.ndarray]) -> list[Reading]:
        """One reading per image, in order; images are paths, PIL pictures or uint8 arrays (H, W) or (H, W, C).

        Raises ValueError that names the image which cannot be read.
        """
        readings: list[Reading] = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = enumerate(images[start : start + BATCH_SIZE], start)
            readings += self.read_prepared([self._prepared(image, index) for index, image in batch])
        return readings

    def read_prepared(self, images: Sequence[np.ndarray]) -> list[Reading]:
        """One reading per image, in order; images are what `transforms.prepare` gave, such as those of a CaptchaDataset."""
        readings: list[Reading] = []
        for start in range(0, len(images), BATCH_SIZE):
            tensors = [self.transform(image=image)["image"] for image in images[start : start + BATCH_SIZE]]
            read: dict[int, Reading] = {}
            for width in sorted({tensor.shape[2] for tensor in tensors}):  # a batch has one width
                places = [place for place, tensor in enumerate(tensors) if tensor.shape[2] == width]
                batch = torch.stack([tensors[place] for place in places]).to(self.device)  # (B, C, H, W)
                with torch.inference_mode():
                    read |= zip(places, self.codec.read(self.network(batch)), strict=True)
            readings += [read[place] for place in range(len(tensors))]
        return readings

    def _prepared(self, image: str | Path | Image.Image | np.ndarray, index: int) -> np.ndarray:
        try:
            if isinstance(image, np.ndarray):
                picture = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
            else:
                picture = image if isinstance(image, Image.Image) else open_picture(Path(image))
            return prepare(picture, *self.recipe.view)
        except UNREADABLE as error:
            name = image if isinstance(image, str | Path) else f"image {index}"
            raise ValueError(f"cannot read {name}: {why(error)}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: CSV on standard output, everything else on standard error. Exit 1 where a picture was unreadable."""
    parser = argparse.ArgumentParser(prog="python -m helpers.reader", description="Read captchas with a trained model.")
    parser.add_argument("model", help="a model folder, or runs:/RUN_ID/model of the record under CAPTCHA_WORK")
    parser.add_argument("images", nargs="+", type=Path, help="pictures, folders or zips of them, tables or lists")
    parser.add_argument(
        "--score", action="store_true", help="the texts are known, from names or a table: say how many were read right"
    )
    parser.add_argument("--label-pattern", help="with --score: regex on the file-name stem whose group 1 is the text")
    parser.add_argument(
        "--case", choices=("keep", "upper", "lower"), help="of the known texts; default: as in training"
    )
    options = parser.parse_args(arguments)
    try:
        reader = Reader.load(options.model)
        settings = Config()
        pattern = options.label_pattern or settings.label_pattern
        case = options.case or (settings.case if settings.case != "keep" else reader.case)
        paths, others, truths = [], [], {}
        for source in options.images:
            labelled = options.score or source.suffix.lower() in TABLES | LISTS
            if labelled and (source.is_dir() or source.suffix.lower() in TABLES | LISTS | {".zip"}):
                samples = find_samples(source, pattern, case, settings.file_column, settings.label_column)
            else:
                found = list_pictures(source)[0] if source.is_dir() or source.suffix.lower() == ".zip" else [source]
                samples = [Sample(path, one_spelling(sample_text(path, pattern), case)) for path in found]
            paths += [sample.path for sample in samples]
            truths |= {sample.path: sample.text for sample in samples}
            if source.is_dir() or source.suffix.lower() == ".zip":
                others += list_pictures(source)[1]
    except (DataError, FileNotFoundError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    for path in others:
        print(f"skipped {path}: not a picture by its suffix", file=sys.stderr)
    read, failed = _write_csv(reader, paths)
    if options.score and read:
        texts = [reading.text for _, reading in read]
        print(metrics.score(texts, [truths[path] for path, _ in read]), file=sys.stderr)
    return 1 if failed or not read else 0


def _write_csv(reader: Reader, paths: Sequence[Path]) -> tuple[list[tuple[Path, Reading]], int]:
    """Prints `path,text,confidence` per picture, batch by batch; names on standard error what cannot be read."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["path", "text", "confidence"])
    read: list[tuple[Path, Reading]] = []
    failed = 0
    for start in range(0, len(paths), BATCH_SIZE):
        good: list[tuple[Path, Image.Image]] = []
        for path in paths[start : start + BATCH_SIZE]:
            try:
                good.append((path, open_picture(path)))
            except UNREADABLE as error:
                print(f"skipped {path}: {why(error)}", file=sys.stderr)
                failed += 1
        for (path, _), reading in zip(good, reader.read([picture for _, picture in good]), strict=True):
            table.writerow([path, reading.text, f"{reading.confidence:.4f}"])
            read.append((path, reading))
    return read, failed


if __name__ == "__main__":
    sys.exit(main())
