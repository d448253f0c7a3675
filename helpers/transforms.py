"""Pictures to network input: `prepare` once per picture, then the train or the evaluation transform per use.

`prepare` and `eval_transform` are what training, evaluation and the reader share: a picture is seen the same everywhere.
"""

import albumentations as A
import numpy as np
from albumentations.pytorch import ToTensorV2
from PIL import Image, ImageOps


def prepare(picture: Image.Image, image_size: tuple[int, int], channels: int) -> np.ndarray:
    """A picture of any mode and size as uint8 (H, W, C) with `image_size` (height, width) and 1 or 3 channels.

    Transparency is composited on white, 16-bit gray scaled to 8, EXIF orientation applied; the aspect is not kept.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # 16 or 32 bits per pixel, which Pillow would clip instead of scale
        values = np.asarray(picture, dtype=np.float64)
        picture = Image.fromarray((values / (65535 if values.max() > 255 else 255) * 255).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    picture = picture.resize(image_size[::-1], Image.Resampling.BILINEAR)  # antialiased when it shrinks
    return np.asarray(picture).reshape(*image_size, channels)


def eval_transform(mean: tuple[float, ...], std: tuple[float, ...]) -> A.Compose:
    """uint8 (H, W, C) to normalised float (C, H, W), nothing random."""
    return A.Compose([A.Normalize(mean, std), ToTensorV2()])


def train_transform(mean: tuple[float, ...], std: tuple[float, ...], seed: int) -> A.Compose:
    """The evaluation transform after light random geometry, contrast and noise; add an augmentation as one more item."""
    return A.Compose(
        [
            A.Affine(
                scale=(0.92, 1.08),
                translate_percent={"x": (-0.03, 0.03), "y": (-0.06, 0.06)},
                rotate=(-3, 3),
                shear={"x": (-6, 6), "y": (0, 0)},
                border_mode=1,  # the edge pixels go on
                p=0.8,
            ),
            A.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            A.GaussNoise(std_range=(0.01, 0.05), p=0.3),
            *eval_transform(mean, std),
        ],
        seed=seed,
    )
