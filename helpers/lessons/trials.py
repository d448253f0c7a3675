"""Small experiments of the notebooks, seconds each: one batch learned by heart, and what global pooling costs."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.data.module import CaptchaData
from helpers.plots.figure import NotebookFigure
from helpers.synthetic.captchas import Synthetic
from helpers.training.module import LitOCR

LETTERS = "ABCD"  # of the rows that `read_rows` learns
Step = dict[str, float]  # of a small training: step, loss, silent, right


def one_batch(data: CaptchaData, pictures: int) -> tuple[Tensor, list[str]]:
    """Training pictures of the most frequent width, (B, C, H, W), and their texts; not augmented.

    From all over the set: neighbours by name may have texts that begin alike.
    """
    widths = [image.shape[1] for image in data.train.images]
    ((width, _),) = Counter(widths).most_common(1)
    places = [index for index, other in enumerate(widths) if other == width]
    chosen = places[:: max(1, len(places) // pictures)][:pictures]
    images = [data.val.transform(image=data.train.images[index])["image"] for index in chosen]
    return torch.stack(images), [data.train.texts[index] for index in chosen]


def memorise(module: LitOCR, images: Tensor, texts: Sequence[str], steps: int, warmup_share: float = 0) -> list[Step]:
    """Trains the module on one batch alone and tells of each step; a sound network and loss learn it by heart.

    A row holds `step` from 1, `loss` (of the codec, nats per character), and how many of the pictures are `silent` (read
    as nothing at all) and read `right`, before the step. Over the first `warmup_share` of the steps the codec's warm-up
    loss takes part, as in training.
    """
    network, codec, rows = module.network.train(), module.codec, []
    optimizer = torch.optim.AdamW(network.parameters(), module.learning_rate)
    for step in range(steps):
        weight = max(0.0, 1 - step / (warmup_share * steps)) if warmup_share else 0.0
        logits = network(images)
        loss = codec.loss(logits, texts)
        right = sum(reading.text == text for reading, text in zip(codec.read(logits), texts, strict=True))
        rows.append({"step": step + 1, "loss": loss.item(), "silent": codec.silent(logits), "right": right})
        optimizer.zero_grad()
        ((1 - weight) * loss + weight * codec.warmup_loss(logits, texts)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    return rows


def memorise_figure(trainings: Mapping[str, Sequence[Step]], pictures: int) -> NotebookFigure:
    """The loss of each small training, and of how many pictures it says nothing or the right text, over its steps."""
    figure = NotebookFigure(figsize=(10, 4), layout="constrained")
    panels = {"loss": "CTC loss (nats per character)", "silent": "read as nothing", "right": "read right"}
    for axes, (key, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for (name, rows), style in zip(trainings.items(), ("--", "-", ":", "-."), strict=False):
            axes.plot([row["step"] for row in rows], [row[key] for row in rows], style, label=name)
        axes.set(title=title, xlabel="step", ylabel="loss (nats)" if key == "loss" else f"pictures (of {pictures})")
        if key == "loss":
            axes.set_yscale("log")  # a plateau is level, whatever came before it
        else:
            axes.set_ylim(-0.03 * pictures, 1.05 * pictures)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"The same {pictures} pictures at every step")
    return figure


def first_step(rows: Sequence[Step], key: str, count: int) -> str:
    """In words, at which step the count of pictures was first reached."""
    return next((f"at step {row['step']}" for row in rows if row[key] == count), f"not within {len(rows)} steps")


def letters(seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Each of LETTERS once per seed: images (B, 1, 32, 32) in [-1, 1], and their places among LETTERS (B,)."""
    images, ids = [], []
    for seed in seeds:
        spec = Synthetic(len(LETTERS), LETTERS, length=1, image_size=(32, 32), style="clean", seed=seed)
        for text, content in zip(spec.texts(), spec.pictures(1, progress=False), strict=True):
            images.append(np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=np.float32) / 127.5 - 1)
            ids.append(LETTERS.index(text))
    return torch.from_numpy(np.stack(images))[:, None], torch.tensor(ids)


def in_a_row(images: Tensor) -> Tensor:
    """Pictures (B, L, 1, H, W) of L letters each, side by side: (B, 1, H, L * W)."""
    return torch.cat(images.unbind(1), dim=3)


def small_network(pooled: bool, padding: str = "zeros", length: int = 4) -> nn.Module:
    """Three convolutions and one head per position, for rows of `length` letters: (B, 1, 32, 32 * L) to (B, L, K).

    `pooled`: the heads see the mean of the last feature map over the whole picture, as ImageNet's do; else the map whole.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        convolution = nn.Conv2d(before, after, kernel_size=5, stride=2, padding=2, padding_mode=padding)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    columns = 1 if pooled else 4 * 4 * length
    layers += [nn.AdaptiveAvgPool2d(1)] if pooled else []  # (B, 64, 4, 4 * L) -> (B, 64, 1, 1)
    heads = nn.Linear(64 * columns, length * len(LETTERS))
    return nn.Sequential(*layers, nn.Flatten(), heads, nn.Unflatten(1, (length, len(LETTERS))))


def read_rows(network: nn.Module, steps: int) -> tuple[float, float]:
    """Trains a small network; (share of letters, share of whole rows) that it reads of letters it has not seen."""
    length, _ = network[-1].unflattened_size
    learned, unseen = letters(range(150)), letters(range(150, 200))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=max(5, steps))

    def rows(side: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
        images, ids = side
        chosen = torch.randint(len(images), (count, length), generator=generator)
        return in_a_row(images[chosen]), ids[chosen]

    for _ in range(steps):
        images, truth = rows(learned, 32)
        optimizer.zero_grad()
        F.cross_entropy(network(images).flatten(0, 1), truth.flatten()).backward()
        optimizer.step()
        schedule.step()
    images, truth = rows(unseen, 1000)
    with torch.inference_mode():
        right = network.eval()(images).argmax(-1) == truth  # (B, L)
    return right.float().mean().item(), right.all(1).float().mean().item()
