"""Captchas to batches: found, audited, split, and served from memory by a Lightning module."""

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from helpers.config import Config
from helpers.data.audit import Audit
from helpers.data.augment import BatchTransform
from helpers.data.collection import collect, sides_of
from helpers.data.dataset import Batches, CaptchaDataset, WidthBatches, collate, seed_worker
from helpers.data.splits import on_two_sides
from helpers.data.transforms import eval_transform, train_transform
from helpers.models.recipes import Recipe
from helpers.output import shown
from helpers.pictures.opening import first_names
from helpers.pictures.view import WHOLE
from helpers.sources.names import SPLITS, Sample, relative_name

SPLIT_FILE = "data/splits.csv"  # of a run: which captcha is on which side


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


def _workers() -> int:
    """Loader processes that pay: none without fork (Windows, macOS), none where the cores are busy computing anyway."""
    if not sys.platform.startswith("linux") or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return min(4, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0


def load_data(config: Config) -> CaptchaData:
    """Finds, decodes, audits and splits the captchas that a configuration names, for its recipe.

    Errors of the audit raise a DataError that names the first files of each; with `on_bad="skip"` those files are left
    out and recorded in `.bad`.
    """
    found = collect(config)
    samples, images, bad = found.usable(config.on_bad)
    sides = sides_of(config, samples)
    recipe = replace(found.recipe, aspect="squeeze" if found.recipe.aspect == "auto" else found.recipe.aspect)
    return CaptchaData(samples, images, sides, config, recipe, bad, found.source, found.audit)
