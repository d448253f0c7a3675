"""A transform of albumentations for a whole batch at once, on any device.

The description stays the one in `transforms.py`; what is computed here agrees with it (tests/test_augment.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

import albumentations as A
import cv2
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor
from torch.nn import functional as F

Draw = Callable[[torch.Size, torch.Generator], Tensor]  # of the images' shape (B, C, H, W): parameters (B, ...)
Apply = Callable[[Tensor, Tensor], Tensor]  # of images (B, C, H, W) in levels [0, 255] and the parameters: such images


@dataclass(frozen=True)
class Step:
    """One transform of albumentations in two halves: parameters drawn for each image, and images changed by them."""

    draw: Draw
    apply: Apply


class BatchTransform:
    """uint8 images (B, C, H, W) to normalised floats, as a `Compose` of albumentations does it one by one.

    Raises NotImplementedError, naming it, for a transform or an option that has no form for batches.
    """

    def __init__(self, transform: A.Compose, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        *random, normalise, to_tensor = transform.transforms
        if not (isinstance(normalise, A.Normalize) and isinstance(to_tensor, ToTensorV2)):
            raise NotImplementedError("a transform ends with A.Normalize and ToTensorV2")
        self.steps = [as_step(step) for step in random]
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (normalise.mean, normalise.std))
        self.shift, self.factor = mean / std, 1 / (255 * std)  # (C, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        images = images.float()
        for step in self.steps:
            images = step.apply(images, step.draw(images.shape, self.generator))
        return (images * self.factor).sub_(self.shift)


def as_step(transform: A.BasicTransform) -> Step:
    """The form for batches of a transform of albumentations."""
    for kind, make in (
        (A.Affine, _affine),
        (A.RandomBrightnessContrast, _contrast),
        (A.GaussNoise, _noise),
        (A.ChannelShuffle, _shuffle),
    ):
        if type(transform) is kind and (step := make(transform)):
            return step
    raise NotImplementedError(f"no form for batches of {transform}")


def _affine(given: A.Affine) -> Step | None:
    plain = given.interpolation == cv2.INTER_LINEAR and given.border_mode == cv2.BORDER_REPLICATE
    if not plain or given.fit_output or given.balanced_scale or given.translate_percent is None:
        return None

    def draw(shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Matrices (B, 3, 3) from places in the image as it is to places in the new one, (x, y, 1) in pixels."""
        count, _, height, width = shape
        chosen = _chance(given.p, count, generator)
        scale_x = _uniform(given.scale["x"], count, generator)
        scale_y = scale_x if given.keep_ratio else _uniform(given.scale["y"], count, generator)
        shear_x, shear_y = (-_uniform(given.shear[axis], count, generator).deg2rad() for axis in "xy")
        shift_x, shift_y = (  # whole pixels
            (_uniform(given.translate_percent[axis], count, generator) * pixels).trunc()
            for axis, pixels in (("x", width), ("y", height))
        )
        turn = _uniform(given.rotate, count, generator).deg2rad()
        cos, sin, tan_x, tan_y = turn.cos(), turn.sin(), shear_x.tan(), shear_y.tan()
        a, b = scale_x * (cos - tan_x * sin), scale_y * (sin + tan_x * cos)  # shear @ rotation @ scale
        c, d = scale_x * (tan_y * cos - sin), scale_y * (tan_y * sin + cos)
        x, y = (width - 1) / 2, (height - 1) / 2  # the centre stays
        nil, one = torch.zeros_like(a), torch.ones_like(a)
        rows = [a, b, x + shift_x - a * x - b * y, c, d, y + shift_y - c * x - d * y, nil, nil, one]
        matrices = torch.stack(rows, dim=1).view(count, 3, 3)
        return torch.where(chosen[:, None, None], matrices, torch.eye(3, device=matrices.device))

    return Step(draw, warp)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Images moved by `matrices` (B, 3, 3), bilinear; beyond the edge its pixels go on."""
    height, width = images.shape[2:]
    back = torch.linalg.inv_ex(matrices).inverse[:, :2]  # (B, 2, 3); inv would wait for the device
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None]
    column, row = ((a * x + b * y + c) for a, b, c in (line[..., None, None].unbind(1) for line in back.unbind(1)))
    places = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)  # in [-1, 1]
    return F.grid_sample(images, places, padding_mode="border", align_corners=False)


def _contrast(given: A.RandomBrightnessContrast) -> Step | None:
    if not given.brightness_by_max or given.ensure_safe_range:
        return None

    def draw(shape: torch.Size, generator: torch.Generator) -> Tensor:
        """(factor, summand) per image, the summand in levels."""
        chosen = _chance(given.p, shape[0], generator)
        factor = 1 + _uniform(given.contrast_limit, shape[0], generator) * chosen
        return torch.stack([factor, _uniform(given.brightness_limit, shape[0], generator) * chosen * 255], dim=1)

    return Step(draw, lighten)


def lighten(images: Tensor, rows: Tensor) -> Tensor:
    """Levels times the first of each of the `rows` (B, 2), plus the second."""
    factor, summand = rows[..., None, None, None].unbind(1)
    return (images * factor).add_(summand).clamp_(0, 255)


def _noise(given: A.GaussNoise) -> Step | None:
    if given.mean_range != (0, 0) or not given.per_channel or given.noise_scale_factor != 1:
        return None

    def draw(shape: torch.Size, generator: torch.Generator) -> Tensor:
        """What is added to the images (B, C, H, W), in levels."""
        deviation = 255 * _uniform(given.std_range, shape[0], generator) * _chance(given.p, shape[0], generator)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        return noise.mul_(deviation[:, None, None, None])

    return Step(draw, add)


def add(images: Tensor, noise: Tensor) -> Tensor:
    """Images and noise (B, C, H, W), both in levels."""
    return (images + noise).clamp_(0, 255)


def _shuffle(given: A.ChannelShuffle) -> Step:
    def draw(shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The channels (B, C) to take, each once."""
        order = torch.rand(shape[:2], generator=generator, device=generator.device).argsort(1)
        chosen = _chance(given.p, shape[0], generator)
        return torch.where(chosen[:, None], order, torch.arange(shape[1], device=order.device))

    return Step(draw, take)


def take(images: Tensor, order: Tensor) -> Tensor:
    """Images (B, C, H, W) with their channels in `order` (B, C)."""
    return images.gather(1, order[..., None, None].expand_as(images))


def _uniform(bounds: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    low, high = bounds
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _chance(p: float, count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) < p
