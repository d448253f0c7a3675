"""Captchas to batches: found, audited, split, and served from memory by a Lightning module.

On the command line, an audit before any training: `python -m helpers.data.module FOLDER_ZIP_OR_CSV`.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from helpers.config import Config, on_kaggle
from helpers.data.audit import RARE, Audit, audit
from helpers.data.augment import BatchTransform
from helpers.data.samples import LISTS, SPLITS, TABLES, Sample, find_samples, one_spelling, relative_name
from helpers.data.splits import on_two_sides, split_folds, split_sides
from helpers.data.transforms import eval_transform, train_transform
from helpers.kaggle.inputs import choose_data
from helpers.models.recipes import RECIPES, Recipe, get_recipe
from helpers.output import SPLIT_LIST as SPLIT_LIST
from helpers.output import say, sentence, shown
from helpers.pictures.decoding import Picture, cache_file, decode, digest, images_differ_in_shape, look_at
from helpers.pictures.opening import UNREADABLE, DataError, first_names, open_picture
from helpers.pictures.view import WHOLE, as_seen, inked_columns
from helpers.plots import readings as plots
from helpers.synthetic.captchas import Synthetic, make_captchas

SHOWN = 24  # captchas on a contact sheet
SPLIT_FILE = "data/splits.csv"  # of a run: which captcha is on which side
LOOKED_AT = 400  # training pictures that tell where the margins are


class CaptchaDataset(Dataset):
    """Decoded images with their texts: item i is (float tensor (C, H, W), text)."""

    def __init__(self, images: Sequence[np.ndarray], samples: Sequence[Sample], transform: object) -> None:
        self.samples = list(samples)
        self.transform = transform
        self.places: dict[int, list[int]] = defaultdict(list)  # by width, pixels
        for index, image in enumerate(images):
            self.places[image.shape[1]].append(index)
        # all of one width in one block of memory: uint8 (N, H, W, C)
        self.blocks = {width: np.stack([images[i] for i in places]) for width, places in self.places.items()}
        rows = {i: row for w, places in self.places.items() for i, row in zip(places, self.blocks[w], strict=True)}
        self.images = [rows[index] for index in range(len(rows))]  # uint8 (H, W, C) each, of one height

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.transform(image=self.images[index])["image"], self.samples[index].text

    @property
    def texts(self) -> list[str]:
        return [sample.text for sample in self.samples]


class WidthBatches(Sampler[list[int]]):
    """Batches of images of one width. With a generator in an order drawn anew in each pass, else in order.

    A training whose images have all one width goes without its last batch where that is not full. Of several processes,
    whose generators agree, each takes its `share`, (which, of how many), as many batches as the others.
    """

    def __init__(
        self,
        widths: Sequence[int],
        batch_size: int,
        generator: torch.Generator | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.groups: dict[int, list[int]] = defaultdict(list)
        for index, width in enumerate(widths):
            self.groups[width].append(index)
        self.batch_size, self.generator, self.share = batch_size, generator, share
        self.whole_only = generator is not None and len(self.groups) == 1 and len(widths) > batch_size

    def __len__(self) -> int:
        return self._count() // self.share[1]

    def _count(self) -> int:
        if self.whole_only:
            return sum(len(group) // self.batch_size for group in self.groups.values())
        return sum(-(-len(group) // self.batch_size) for group in self.groups.values())

    def __iter__(self) -> Iterator[list[int]]:
        batches = []
        for group in self.groups.values():
            order = [group[place] for place in self._order(len(group))]
            batches += [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        if self.whole_only:
            batches = [batch for batch in batches if len(batch) == self.batch_size]
        which, of = self.share
        yield from (batches[place] for place in self._order(len(batches))[which : len(self) * of : of])

    def _order(self, count: int) -> list[int]:
        return (
            list(range(count)) if self.generator is None else torch.randperm(count, generator=self.generator).tolist()
        )


class Batches:
    """Batches (images (B, C, H, W), B texts) drawn from memory, transformed as a whole; nothing is done per image."""

    def __init__(self, dataset: CaptchaDataset, order: WidthBatches, transform: BatchTransform) -> None:
        self.dataset, self.order, self.transform = dataset, order, transform
        device = transform.generator.device
        fits = device.type != "cuda" or _fits(dataset, device)
        self.blocks = {  # (N, C, H, W)
            width: torch.from_numpy(block).permute(0, 3, 1, 2).to(device if fits else "cpu")
            for width, block in dataset.blocks.items()
        }
        self.rows = {i: row for places in dataset.places.values() for row, i in enumerate(places)}

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, list[str]]]:
        device = self.transform.generator.device
        for batch in self.order:
            block = self.blocks[self.dataset.images[batch[0]].shape[1]]
            rows = torch.tensor([self.rows[index] for index in batch]).to(block.device, non_blocking=True)
            images = block[rows].to(device, non_blocking=True)
            yield self.transform(images), [self.dataset.samples[index].text for index in batch]


def _fits(dataset: CaptchaDataset, device: torch.device) -> bool:
    """Whether the images take less than half of the memory that is free on the device."""
    return 2 * sum(block.nbytes for block in dataset.blocks.values()) < torch.cuda.mem_get_info(device)[0]


def collate(items: Sequence[tuple[Tensor, str]]) -> tuple[Tensor, list[str]]:
    """Items to a batch: images (B, C, H, W) and B texts."""
    images, texts = zip(*items, strict=True)
    return torch.stack(images), list(texts)


def seed_worker(_: int) -> None:
    """Gives each loader process and each epoch its own augmentations; without it albumentations repeats itself."""
    worker = get_worker_info()
    worker.dataset.transform.set_random_seed(worker.seed % 2**32)


class CaptchaData(pl.LightningDataModule):
    """The three sides of a data set, in memory. Print it to see what it holds, and its `audit` to see what is wrong."""

    def __init__(
        self,
        samples: Sequence[Sample],
        images: Sequence[np.ndarray],
        sides: Sequence[str],
        config: Config,
        recipe: Recipe,
        bad: Sequence[tuple[str, str]] = (),
        source: Path | str = "",
        audit: Audit | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.seed, self.bad, self.source, self.audit = recipe, config.seed, list(bad), source, audit
        self.workers = _workers() if config.workers is None else config.workers
        evaluate = eval_transform(recipe.mean, recipe.std)
        train = train_transform(recipe.mean, recipe.std, config.seed, recipe.strength) if config.augment else evaluate
        self.sides: dict[str, CaptchaDataset] = {}
        for side in SPLITS:
            chosen = [index for index, name in enumerate(sides) if name == side]
            transform = train if side == "train" else evaluate
            self.sides[side] = CaptchaDataset([images[i] for i in chosen], [samples[i] for i in chosen], transform)
        self.train, self.val, self.test = (self.sides[side] for side in SPLITS)
        self.charset = config.charset or "".join(sorted(set("".join(self.train.texts))))
        lengths = Counter(map(len, self.train.texts)).most_common()
        self.text_length = lengths[0][0] if recipe.fixed_length or len(lengths) == 1 else None  # None: they differ
        self.shared = on_two_sides(samples, sides)
        self.states: dict[str, Tensor] = {}  # of everything random, where a training goes on

    def state_dict(self) -> dict[str, Tensor]:
        """The states of everything random, which Lightning keeps in a checkpoint; of the first process."""
        loader = self.trainer.train_dataloader
        states = {"torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        if isinstance(loader, Batches):
            states |= {"order": loader.order.generator.get_state(), "transform": loader.transform.generator.get_state()}
        return states

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.states = state

    def train_dataloader(self) -> Batches | DataLoader:
        loader, states = self._loader(self.train, shuffle=True), self.states
        if "torch" in states:  # a training goes on
            torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])
        if "order" in states and isinstance(loader, Batches):
            loader.order.generator.set_state(states["order"])
            loader.transform.generator.set_state(states["transform"])
        return loader

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test)

    def _loader(self, dataset: CaptchaDataset, shuffle: bool = False) -> Batches | DataLoader:
        """From memory, batch by batch; image by image where the transform has no form for batches."""
        workers, size = (self.workers, self.recipe.batch_size) if shuffle else (0, max(64, self.recipe.batch_size))
        generator = torch.Generator().manual_seed(self.seed) if shuffle else None
        trainer = self.trainer
        share = (trainer.global_rank, trainer.world_size) if trainer and shuffle else (0, 1)  # all validate all
        size = max(1, size // share[1])
        order = WidthBatches([image.shape[1] for image in dataset.images], size, generator, share)
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        with suppress(NotImplementedError):
            return Batches(dataset, order, BatchTransform(dataset.transform, self.seed + share[0], device))
        return DataLoader(
            dataset,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=False,
            worker_init_fn=seed_worker,
            multiprocessing_context="fork" if workers else None,
            generator=generator,
            pin_memory=torch.cuda.is_available(),
        )

    def __str__(self) -> str:
        lines = [f"captchas of {shown(self.source)}: " + ", ".join(f"{len(self.sides[s])} {s}" for s in SPLITS)]
        for length in sorted({len(text) for side in SPLITS for text in self.sides[side].texts}):
            counts = [f"{sum(len(t) == length for t in self.sides[s].texts)} {s}" for s in SPLITS]
            lines.append(f"texts of {length} characters: " + ", ".join(counts))
        lines.append(f"charset of {len(self.charset)}: {shown(self.charset)}")
        widths = sorted({image.shape[1] for image in self.train.images})
        (height, _, channels), wide = self.train.images[0].shape, f"{widths[0]} to {widths[-1]}" * (len(widths) > 1)
        lines.append(f"images {height} high, {wide or widths[0]} wide (pixels), {channels} channels, kept as uint8")
        if (crop := self.recipe.crop or WHOLE) != WHOLE:
            lines.append(f"cut to the columns from {crop[0]:.1%} to {crop[1]:.1%} of the width: no strokes beyond")
        if self.bad:
            lines.append(f"left out: {first_names([f'{name} ({reason})' for name, reason in self.bad])}")
        if self.shared:
            some = ", ".join(map(repr, self.shared[:5]))
            lines.append(f"WARNING: the source's own split has {len(self.shared)} texts on two sides, such as {some}:")
            lines.append("figures of its sides flatter, since what was learned by heart counts as read")
        return "\n".join(lines)

    def split_rows(self) -> list[tuple[str, str, str, str]]:
        """What SPLIT_LIST name, per sample; the file's name is relative to the source."""
        sides = ((side, sample) for side in SPLITS for sample in self.sides[side].samples)
        return [(relative_name(s.path, self.source), s.text, side, s.content) for side, s in sides]

    def contact_sheet(self, shown: int = SHOWN) -> Figure:
        """Captchas of the training side with their texts."""
        return contact_sheet(self.train.samples, self.train.images, shown)


def contact_sheet(samples: Sequence[Sample], images: Sequence[np.ndarray], shown: int = SHOWN) -> Figure:
    """Captchas with their texts: one for each length of text and each width, then others evenly from the whole set."""
    kinds = {(len(s.text), image.shape[1]): i for i, (s, image) in enumerate(zip(samples, images, strict=True))}
    spread = [round(place * (len(samples) - 1) / max(1, shown - 1)) for place in range(shown)]
    chosen = sorted(dict.fromkeys([*list(kinds.values())[: shown // 2], *spread]))[:shown]
    return plots.samples_grid([images[i] for i in chosen], [samples[i].text for i in chosen])


def _workers() -> int:
    """Loader processes that pay: none without fork (Windows, macOS), none where the cores are busy computing anyway."""
    if not sys.platform.startswith("linux") or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return min(4, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0


def find_source(config: Config) -> Path | str:
    """The captchas that the configuration names, else those attached on Kaggle, else synthetic ones, made when missing."""
    if config.data is not None:
        return config.data
    if on_kaggle():
        attached, why = choose_data()
        say(why)
        if attached:
            return attached
    recipe = get_recipe(config)
    length, (height, width) = 4 if recipe.fixed_length else 5, recipe.image_size
    folder = config.work / f"synthetic-{config.synthetic_count}x{length}-{height}x{width}"
    return make_captchas(folder, config.synthetic_count, length=length, image_size=recipe.image_size)


@dataclass(frozen=True)
class Collection:
    """Everything found in a source, before anything is left out: samples, their pictures, and the audit of both."""

    source: Path | str
    samples: list[Sample]
    pictures: list[Picture]  # one per sample
    recipe: Recipe  # its `aspect` decided
    audit: Audit

    def usable(self, on_bad: str) -> tuple[list[Sample], list[np.ndarray], list[tuple[str, str]]]:
        """(samples, their images uint8 (H, W, C), what was left out and why).

        Raises DataError for the errors of the audit; with `on_bad="skip"` the files that they name are left out.
        """
        if self.audit.errors and on_bad == "error":
            causes = [finding for finding in self.audit.warnings if finding.about in ("suffixes", "running numbers")]
            raise DataError("\n".join(map(str, [*self.audit.errors, *causes])))
        bad = {name: f"{error.about}: {reason}" for error in self.audit.errors for name, reason in error.files}
        good = [i for i, s in enumerate(self.samples) if relative_name(s.path, self.source) not in bad]
        if not good:
            raise DataError(f"{self.source} holds no captcha that can be used: {first_names(list(bad.items()))}")
        samples = [replace(self.samples[i], content=self.pictures[i].content) for i in good]
        return samples, [self.pictures[i].image for i in good], list(bad.items())


def collect(config: Config, recipe: Recipe | None = None, rare: int = RARE) -> Collection:
    """Finds, decodes and audits the captchas that a configuration names, for its recipe or a given one."""
    source, recipe = find_source(config), recipe or get_recipe(config)
    if config.charset:
        recipe.codec(config.charset, None)  # raises for one that cannot be, before anything is decoded and kept
    if isinstance(source, Path):
        samples = find_samples(source, config.label_pattern, config.case, config.file_column, config.label_column)
        paths = [sample.path for sample in samples]
        train = _training(config, samples)
        framed = _framed(recipe, [paths[index] for index in train[:: -(-len(train) // LOOKED_AT) or 1]])
        pictures = _decoded(config, source, paths, framed)
        recipe = _suited(recipe, framed, images_differ_in_shape(pictures))
        pictures = pictures if recipe.view == framed.view else _decoded(config, source, paths, recipe)
    else:
        spec = Synthetic.parse(source, image_size=recipe.image_size, length=4 if recipe.fixed_length else 5)
        recipe = replace(recipe, aspect="squeeze" if recipe.aspect == "auto" else recipe.aspect)
        names = [f"{index}-{text}.png" if spec.repeats else f"{text}.png" for index, text in enumerate(spec.texts())]
        texts = [one_spelling(text, config.case) for text in spec.texts()]
        source, samples = str(spec), [Sample(Path(name), text) for name, text in zip(names, texts, strict=True)]
        train = set(_training(config, samples))
        painted = enumerate(spec.pictures(workers=1, progress=False))
        recipe = _framed(recipe, (content for index, content in painted if index in train))
        pictures = [replace(look_at(content, *recipe.view), content=digest(content)) for content in spec.pictures()]
    by_name = isinstance(source, Path) and (source.is_dir() or source.suffix.lower() not in TABLES | LISTS)
    return Collection(
        source, samples, pictures, recipe, audit(source, samples, pictures, recipe, config.charset, rare, by_name)
    )


def _framed(recipe: Recipe, training: Iterable[Path | bytes]) -> Recipe:
    """The recipe with the columns and the width that suit the first LOOKED_AT of the training pictures."""
    if recipe.crop is not None and not recipe.fit_width:
        return recipe
    sizes: Counter[tuple[int, int]] = Counter()

    def pictures() -> Iterator[Image.Image]:
        """One at a time: all together may fill the memory."""
        for source in islice(training, LOOKED_AT):
            with suppress(*UNREADABLE):  # the audit names it
                picture = as_seen(open_picture(source))
                sizes[picture.size] += 1
                yield picture

    looked_at = pictures()
    crop = recipe.crop or (WHOLE if recipe.aspect == "keep" else inked_columns(looked_at))
    deque(looked_at, maxlen=0)  # the sizes of those that nobody has asked for
    if not (recipe.fit_width and sizes):
        return replace(recipe, crop=crop)
    width, height = sizes.most_common(1)[0][0]
    fitting = recipe.image_size[0] * width * (crop[1] - crop[0]) / height
    return replace(recipe, crop=crop, image_size=(recipe.image_size[0], max(16, 8 * round(fitting / 8))))


def _suited(recipe: Recipe, framed: Recipe, shapes_differ: bool) -> Recipe:
    """The framed recipe with its aspect decided; where shapes differ, no margin that it found is that of all pictures."""
    if not shapes_differ:
        return replace(framed, aspect="squeeze" if framed.aspect == "auto" else framed.aspect)
    aspect = "keep" if framed.aspect == "auto" and not framed.fixed_length else framed.aspect
    return replace(framed, aspect=aspect, crop=WHOLE if recipe.crop is None else recipe.crop)


def _decoded(config: Config, source: Path, paths: Sequence[Path], recipe: Recipe) -> list[Picture]:
    """The pictures for the recipe, from the cache where they are known."""
    if not config.cache:
        return decode(paths, *recipe.view)
    # on Kaggle not under the work folder, all of which becomes the notebook's output
    folder = Path(tempfile.gettempdir()) / "captcha-ocr-cache" if on_kaggle() else config.work / "cache"
    return decode(paths, *recipe.view, cache=cache_file(folder, source, *recipe.view))


def _training(config: Config, samples: Sequence[Sample]) -> list[int]:
    """Where the samples of the training side stand; none where they cannot be split."""
    with suppress(DataError):
        return [index for index, side in enumerate(_sides(config, samples)) if side == "train"]
    return []


def _sides(config: Config, samples: Sequence[Sample]) -> list[str]:
    """The side of each sample, or its role in the fold."""
    if config.folds is None:
        return split_sides(samples, config.seed, config.val_share, config.test_share)
    return split_folds([sample.text for sample in samples], config.seed, config.folds, config.fold, config.val_share)


def load_data(config: Config) -> CaptchaData:
    """Finds, decodes, audits and splits the captchas that a configuration names, for its recipe.

    Errors of the audit raise a DataError that names the first files of each; with `on_bad="skip"` those files are left
    out and recorded in `.bad`.
    """
    found = collect(config)
    samples, images, bad = found.usable(config.on_bad)
    sides = _sides(config, samples)
    recipe = replace(found.recipe, aspect="squeeze" if found.recipe.aspect == "auto" else found.recipe.aspect)
    return CaptchaData(samples, images, sides, config, recipe, bad, found.source, found.audit)


def main(arguments: Sequence[str] | None = None) -> int:
    """The audit on the command line. Exit 0 without errors, 1 with, 2 where the source cannot be used at all."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.data.module", description="Audit captchas before training."
    )
    parser.add_argument(
        "data", help="a folder, zip, table (csv, tsv) or list (txt) of captchas, or synthetic:count=..."
    )
    for setting, meaning in (
        ("recipe", f"the recipe they are for: {', '.join(RECIPES)}"),
        ("label_pattern", "regex on the file-name stem whose group 1 is the text"),
        ("case", "keep, upper or lower"),
        ("charset", "the characters that texts may hold"),
        ("file_column", "the column of a table that names the files"),
        ("label_column", "the column of a table that holds the texts"),
        ("aspect", "auto, keep or squeeze"),
    ):
        parser.add_argument("--" + setting.replace("_", "-"), help=meaning, default=None)
    parser.add_argument("--rare", type=int, default=RARE, help="characters that occur less often are named")
    parser.add_argument("--json", type=Path, help="write the whole report, every file by its name, to this file")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of captchas and texts to this png")
    options = parser.parse_args(arguments)
    settings = {name: value for name, value in vars(options).items() if value and name not in ("rare", "json", "sheet")}
    try:
        _check_reports(options.json, options.sheet)
        found = collect(Config(**settings), rare=options.rare)
    except ValueError as error:
        parser.exit(2, f"{sentence(error)}\n")
    print(found.audit)
    good = [i for i, picture in enumerate(found.pictures) if not picture.problem]
    try:
        if options.json:
            options.json.write_text(found.audit.to_json(), encoding="utf-8")
        if options.sheet and good:
            sheet = contact_sheet([found.samples[i] for i in good], [found.pictures[i].image for i in good])
            sheet.savefig(options.sheet)
    except OSError as error:
        say(f"the report cannot be written: {error}", sys.stderr)
        return 1
    return 1 if found.audit.errors else 0


def _check_reports(report: Path | None, sheet: Path | None) -> None:
    """Raises ValueError, before anything is done, where one of them could not be written."""
    if sheet and sheet.suffix[1:].lower() not in (known := FigureCanvasBase.filetypes):
        raise ValueError(f"the report cannot be written: {sheet} is none of {', '.join(known)}")
    for path in (path for path in (report, sheet) if path):
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ValueError(f"the report cannot be written: {path} is a folder, or none may be made there")


if __name__ == "__main__":
    sys.exit(main())
