"""Decoded captchas in memory to batches: pictures of one width together, transformed as a whole where that is possible."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from helpers.data.augment import BatchTransform
from helpers.sources.names import Sample


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
