"""The CNN-GRU-CTC pipeline as first published, in our own words: what the recipe `cnn_gru_ctc` descends from.

Every picture is opened, resized and normalised anew each time, by an albumentations pipeline composed anew for each; Adam
at 1e-3, halved after 5 epochs without a better validation loss, stopped after 10, at most 50; a reading drops the blanks
first and then collapses repeats, so that doubled letters are lost. Nothing is done against the blank plateau.
"""

import time
import warnings

import albumentations as A
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from helpers.data.module import CaptchaData
from helpers.models.recipes import IMAGENET_MEAN, IMAGENET_STD

LIKE = "cnn_gru_ctc"  # the recipe for which the captchas are collected; the files themselves are read here
BATCH_SIZE, EPOCHS, PATIENCE = 32, 50, 10


class Files(Dataset):
    """Pictures from their files and texts as numbers from 1."""

    def __init__(self, samples: list, charset: str) -> None:
        self.samples, self.charset = samples, charset

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.samples[index]
        pixels = np.array(Image.open(sample.path).convert("RGB"))
        pixels = A.Compose([A.Resize(40, 150), A.Normalize(IMAGENET_MEAN, IMAGENET_STD)])(image=pixels)["image"]
        target = torch.tensor([self.charset.index(character) + 1 for character in sample.text])
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), target


class Network(nn.Module):
    """Conv 128, pool, conv 64, pool, columns of 640, a bidirectional GRU of 32 in two layers: (B, 37, K) logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 64, 3, padding=1)
        self.gru = nn.GRU(640, 32, num_layers=2, bidirectional=True, dropout=0.25, batch_first=True)
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = F.max_pool2d(F.relu(self.conv1(images)), 2)
        features = F.max_pool2d(F.relu(self.conv2(features)), 2)  # (B, 64, 10, 37)
        return self.head(self.gru(features.permute(0, 3, 1, 2).flatten(2))[0])


def train(data: CaptchaData, seed: int) -> list[dict[str, float]]:
    """A row per epoch: epoch, cpu_seconds of training so far, val_exact with its own decoding, val_loss."""
    torch.manual_seed(seed)
    warnings.filterwarnings("ignore", message=".*epoch parameter in.*")
    charset = "".join(sorted(set("".join(data.train.texts + data.val.texts))))
    network = Network(len(charset) + 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
    lengths = {len(text) for text in data.train.texts + data.val.texts}
    if len(lengths) != 1:
        raise ValueError(f"the published pipeline stacks texts of one length; these have {sorted(lengths)}")
    sides = (data.train, data.val)
    loaders = [DataLoader(Files(side.samples, charset), BATCH_SIZE, shuffle=side is data.train) for side in sides]
    history, cpu, best, waited = [], 0.0, float("inf"), 0
    for epoch in range(1, EPOCHS + 1):
        started = time.process_time()
        for images, targets in loaders[0]:
            optimizer.zero_grad()
            _loss(network(images), targets).backward()
            optimizer.step()
        cpu += time.process_time() - started
        network.eval()
        losses, right = [], 0
        with torch.no_grad():
            for images, targets in loaders[1]:
                logits = network(images)
                losses += [_loss(logits, targets).item()] * len(targets)
                right += sum(a == b for a, b in zip(_read(logits), targets.tolist(), strict=True))
        network.train()
        loss = sum(losses) / len(losses)
        schedule.step(loss)
        history.append({"epoch": epoch, "cpu_seconds": cpu, "val_exact": right / len(losses), "val_loss": loss})
        print(f"as published, epoch {epoch}: val_loss {loss:.3f}, exact {right} of {len(losses)}", flush=True)
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited >= PATIENCE:
            break
    return history


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    steps = torch.full((len(logits),), logits.shape[1])
    return F.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), targets, steps, torch.full((len(logits),), targets.shape[1])
    )


def _read(logits: Tensor) -> list[list[int]]:
    """Blanks removed, then repeats collapsed: the order that loses doubled letters."""
    texts = []
    for row in logits.argmax(-1).tolist():
        ids = [i for i in row if i]
        texts.append([i for place, i in enumerate(ids) if place == 0 or ids[place - 1] != i])
    return texts


if __name__ == "__main__":
    raise SystemExit("python -m tests.benchmarks.time_to measures it beside the recipes")
