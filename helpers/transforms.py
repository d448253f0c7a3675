"""Pictures to network input: `prepare` once per picture, then the train or the evaluation transform per use.

`prepare` and `eval_transform` are what training, evaluation and the reader share: a picture is seen the same everywhere.
"""

import albumentations as A
import numpy as np
from albumentations.pytorch import ToTensorV2
from PIL import Image, ImageOps

WIDTH_STEP = 16  # pixels; pictures that keep their aspect come in widths that are multiples, so that they fill batches
MAX_WIDTH = 4096  # pixels, of a picture that keeps its aspect


def prepare(picture: Image.Image, image_size: tuple[int, int], channels: int, keep_aspect: bool = False) -> np.ndarray:
    """A picture of any mode and size as uint8 (H, W, C) with 1 or 3 channels; `image_size` is (height, width), pixels.

    The picture `as_seen` is squeezed to `image_size`, or, with `keep_aspect`, scaled to its height and padded on the
    right, by what its last column shows, to the next multiple of WIDTH_STEP. So what a picture becomes never depends on
    those it is read with. Raises ValueError where that is wider than MAX_WIDTH.
    """
    picture = as_seen(picture).convert("L" if channels == 1 else "RGB")
    height, width = image_size
    if keep_aspect:
        width = max(1, round(picture.width * height / picture.height))
        if width > MAX_WIDTH:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too long for a captcha to keep its aspect")
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)  # antialiased when it shrinks
    pixels = np.asarray(picture).reshape(height, width, channels)
    missing = -width % WIDTH_STEP if keep_aspect else 0
    return np.pad(pixels, ((0, 0), (0, missing), (0, 0)), mode="edge")


def as_seen(picture: Image.Image) -> Image.Image:
    """The picture as a person sees it: EXIF orientation applied, 16 bits scaled to 8, transparency on white.

    Raises ValueError for gray values that have no known range.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or float as 8 bits, scaled; Pillow would clip. What stays below 256 was 8 bits already."""
    values = np.asarray(picture, dtype=np.float64)
    low, high = values.min(), values.max()
    top = next((top for top in ((1, 255) if picture.mode == "F" else (255, 65535)) if high <= top), None)
    if low < 0 or top is None:
        raise ValueError(f"gray values from {low:g} to {high:g} (mode {picture.mode}) have no known range: save 8 bits")
    return Image.fromarray((values / top * 255).round().astype(np.uint8))


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
