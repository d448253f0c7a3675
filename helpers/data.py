"""Captchas on disk to batches: samples found and split by name, decoded once into memory, served by a Lightning module."""

import csv
import hashlib
import multiprocessing
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from helpers.config import Config, on_kaggle
from helpers.kaggle import attached_data
from helpers.pictures import IMAGE_SUFFIXES, DataError, decode, first_names, list_pictures, sample_text
from helpers.recipes import Recipe, get_recipe
from helpers.synthetic import MARKER, make_captchas
from helpers.transforms import eval_transform, train_transform

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True)
class Sample:
    """One captcha: where its picture lies and its text. A picture in a zip has the path `archive.zip/name.png`."""

    path: Path
    text: str


def find_samples(source: Path, label_pattern: str | None = None) -> list[Sample]:
    """All captchas of a folder (any depth), a zip, or a csv with the columns `file,label`, in order of their names.

    The text is the file-name stem, or group 1 of `label_pattern` where it matches the whole stem. Files that are not
    pictures by their suffix are named in a warning. Raises DataError where nothing is found or a name does not match.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist: name a folder, a zip or a csv of labelled captchas")
    if source.suffix.lower() == ".csv":
        return _from_csv(source)
    paths, others = list_pictures(source)
    others = [path for path in others if path.name != MARKER]
    if others:
        warnings.warn(f"{source} holds {first_names([p.name for p in others])} that are no pictures", stacklevel=2)
    if not paths:
        raise DataError(f"{source} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    samples = [Sample(path, sample_text(path, label_pattern)) for path in paths]
    if wrong := [sample.path.name for sample in samples if not sample.text]:
        raise DataError(
            f"no text in {first_names(wrong)} of {source}: label_pattern={label_pattern!r} must match the stem"
        )
    return samples


def _from_csv(source: Path) -> list[Sample]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"file", "label"} <= set(rows.fieldnames or ()):
                raise DataError(
                    f"{source} has the columns {rows.fieldnames}: `file,label` is expected in its first line"
                )
            samples = [Sample(source.parent / (row["file"] or ""), row["label"] or "") for row in rows]
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 ({error}): save it as UTF-8") from None
    if not samples:
        raise DataError(f"{source} has no rows below its first line")
    if wrong := [str(sample.path.name) for sample in samples if not sample.text]:
        raise DataError(f"{source} gives no label for {first_names(wrong)}")
    return samples


def split(
    samples: Sequence[Sample], images: np.ndarray, seed: int, val_share: float = 0.1, test_share: float = 0.1
) -> list[str]:
    """'train', 'val' or 'test' per sample. Samples with the same text or the same image always stand on one side.

    Groups are ordered by a seeded hash of their text, so that the order of the files does not matter.
    """
    groups = _groups(samples, images)
    order = sorted(set(groups), key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    test, val = (max(1, round(share * len(order))) for share in (test_share, val_share))
    if len(order) <= test + val:
        raise DataError(f"{len(order)} different captchas are too few to split into train, val and test")
    side = (
        dict.fromkeys(order, "train") | dict.fromkeys(order[:test], "test") | dict.fromkeys(order[test:][:val], "val")
    )
    return [side[key] for key in groups]


def _groups(samples: Sequence[Sample], images: np.ndarray) -> list[str]:
    """Per sample the smallest text of those it is tied to, through equal texts or equal images."""
    parent: dict[object, object] = {}

    def root(key: object) -> object:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for sample, image in zip(samples, images, strict=True):
        parent[root(hashlib.sha256(image.tobytes()).digest())] = root(sample.text)
    smallest: dict[object, str] = {}
    for sample in samples:
        smallest[root(sample.text)] = min(sample.text, smallest.get(root(sample.text), sample.text))
    return [smallest[root(sample.text)] for sample in samples]


def own_splits(samples: Sequence[Sample], source: Path) -> list[str] | None:
    """The side that `train`, `val` and `test` folders below the source give each sample; None where there are none.

    Raises DataError for pictures beside those folders, since no side is theirs.
    """
    sides = [
        next((SPLIT_FOLDERS[part.lower()] for part in parts if part.lower() in SPLIT_FOLDERS), None)
        for parts in (sample.path.relative_to(source).parts[:-1] for sample in samples)
    ]
    if "train" not in sides or not {"val", "test"} & set(sides):
        return None
    if stray := [sample.path.name for sample, side in zip(samples, sides, strict=True) if side is None]:
        raise DataError(
            f"{first_names(stray)} of {source} stand beside its folders train, val, test: move them into one"
        )
    return sides


class CaptchaDataset(Dataset):
    """Decoded images with their texts: item i is (float tensor (C, H, W), text)."""

    def __init__(self, images: np.ndarray, samples: Sequence[Sample], transform: object) -> None:
        self.images = images  # uint8 (N, H, W, C)
        self.samples = list(samples)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.transform(image=self.images[index])["image"], self.samples[index].text

    @property
    def texts(self) -> list[str]:
        return [sample.text for sample in self.samples]


def relative_name(path: Path, source: Path | None) -> str:
    """The name under which split lists know a picture: relative to its folder, zip or csv, with forward slashes."""
    base = source.parent if source and source.suffix.lower() == ".csv" else source
    return path.relative_to(base).as_posix() if base and path.is_relative_to(base) else str(path)


def collate(items: Sequence[tuple[Tensor, str]]) -> tuple[Tensor, list[str]]:
    """Items to a batch: images (B, C, H, W) and B texts."""
    images, texts = zip(*items, strict=True)
    return torch.stack(images), list(texts)


def seed_worker(_: int) -> None:
    """Gives each loader process and each epoch its own augmentations; without it albumentations repeats itself."""
    worker = get_worker_info()
    worker.dataset.transform.set_random_seed(worker.seed % 2**32)


class CaptchaData(pl.LightningDataModule):
    """The three sides of a data set, in memory. Print it to see what it holds."""

    def __init__(
        self,
        samples: Sequence[Sample],
        images: np.ndarray,
        sides: Sequence[str],
        config: Config,
        recipe: Recipe,
        bad: Sequence[tuple[str, str]] = (),
        source: Path | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed, self.bad, self.source = recipe.batch_size, config.seed, list(bad), source
        self.workers = _workers() if config.workers is None else config.workers
        evaluate = eval_transform(recipe.mean, recipe.std)
        train = train_transform(recipe.mean, recipe.std, config.seed) if config.augment else evaluate
        self.sides: dict[str, CaptchaDataset] = {}
        for side in SPLITS:
            chosen = [index for index, name in enumerate(sides) if name == side]
            transform = train if side == "train" else evaluate
            self.sides[side] = CaptchaDataset(images[chosen], [samples[i] for i in chosen], transform)
        self.train, self.val, self.test = (self.sides[side] for side in SPLITS)
        self.charset = config.charset or "".join(sorted(set("".join(self.train.texts))))
        self.text_length = Counter(map(len, self.train.texts)).most_common(1)[0][0]

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test)

    def _loader(self, dataset: CaptchaDataset, shuffle: bool = False) -> DataLoader:
        workers = self.workers if shuffle else 0
        return DataLoader(
            dataset,
            self.batch_size if shuffle else max(64, self.batch_size),
            shuffle=shuffle,
            drop_last=shuffle and len(dataset) > self.batch_size,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=False,
            worker_init_fn=seed_worker,
            multiprocessing_context="fork" if workers else None,
            generator=torch.Generator().manual_seed(self.seed) if shuffle else None,
            pin_memory=torch.cuda.is_available(),
        )

    def __str__(self) -> str:
        lengths = sorted(set(map(len, self.train.texts)))
        lines = [f"captchas of {self.source}: " + ", ".join(f"{len(self.sides[s])} {s}" for s in SPLITS)]
        lines += [f"texts of {' or '.join(map(str, lengths))} characters out of {len(self.charset)}: {self.charset}"]
        lines += [f"images {self.train.images.shape[1:]} (height, width, channels), kept as {self.train.images.dtype}"]
        if self.bad:
            lines.append(f"left out: {first_names([f'{name} ({reason})' for name, reason in self.bad])}")
        return "\n".join(lines)

    def split_rows(self) -> list[tuple[str, str, str]]:
        """(file, label, split) per sample; the file's name is relative to the source."""
        return [(relative_name(s.path, self.source), s.text, side) for side in SPLITS for s in self.sides[side].samples]


def _workers() -> int:
    """Loader processes that pay: none without fork (Windows, macOS), none where the cores are busy computing anyway."""
    if not sys.platform.startswith("linux") or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return min(4, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0


def find_source(config: Config) -> Path:
    """The captchas that the configuration names, else those attached on Kaggle, else synthetic ones, made when missing."""
    if config.data is not None:
        return config.data
    if on_kaggle():
        if attached := attached_data():
            print(f"using the attached data set {attached}; CAPTCHA_DATA or Config(data=...) names another")
            return attached
        print("NO DATA SET IS ATTACHED: training on synthetic captchas. Attach one with Add Input to train on it.")
    recipe = get_recipe(config)
    length, (height, width) = 4 if recipe.fixed_length else 5, recipe.image_size
    folder = config.work / f"synthetic-{config.synthetic_count}x{length}-{height}x{width}"
    return make_captchas(folder, config.synthetic_count, length=length, image_size=recipe.image_size)


def load_data(config: Config) -> CaptchaData:
    """Finds, decodes and splits the captchas that a configuration names, for its recipe.

    Pictures that cannot be read raise a DataError that names the first ones; with `on_bad="skip"` they are left out and
    recorded in `.bad`.
    """
    source, recipe = find_source(config), get_recipe(config)
    samples = find_samples(source, config.label_pattern)
    images, reasons = decode([sample.path for sample in samples], recipe.image_size, recipe.channels)
    bad = [(relative_name(samples[index].path, source), reason) for index, reason in reasons.items()]
    if bad and config.on_bad == "error":
        listed = first_names([f"{name} ({reason})" for name, reason in bad])
        raise DataError(f"cannot read {listed}. Mend or remove them, or set on_bad='skip' (CAPTCHA_ON_BAD=skip)")
    good = [index for index in range(len(samples)) if index not in reasons]
    if not good:
        raise DataError(f"{source} holds no picture that can be read")
    samples, images = [samples[index] for index in good], images[good]
    own = None if source.suffix.lower() == ".csv" else own_splits(samples, source)
    return CaptchaData(samples, images, split_sides(samples, images, own, config), config, recipe, bad, source)


def split_sides(samples: Sequence[Sample], images: np.ndarray, sides: list[str] | None, config: Config) -> list[str]:
    """The folder's own split where it has one, else a seeded one; a missing side is cut from the training side."""
    if sides is None:
        return split(samples, images, config.seed, config.val_share, config.test_share)
    sides = list(sides)
    for missing, share in (("val", config.val_share), ("test", config.test_share)):
        if missing not in sides:
            train = [index for index, side in enumerate(sides) if side == "train"]
            cut = split([samples[i] for i in train], images[train], config.seed, 1e-9, share)
            for index, side in zip(train, cut, strict=True):
                sides[index] = missing if side == "test" else "train"
    groups = _groups(samples, images)
    seen: dict[str, set[str]] = {}
    for key, side in zip(groups, sides, strict=True):
        seen.setdefault(key, set()).add(side)
    if shared := sorted(key for key, names in seen.items() if len(names) > 1):
        warnings.warn(
            f"the folder's own split has {len(shared)} texts or images on two sides (such as {shared[:5]}):"
            " its figures will flatter",
            stacklevel=2,
        )
    return sides
