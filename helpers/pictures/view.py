"""A picture as the network sees it: any picture in, uint8 (H, W, C) and normalised float out. Pillow and numpy only.

`prepare` and `normalise` are what training, evaluation and every reader share: a picture is seen the same everywhere.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageOps

WIDTH_STEP = 16  # pixels; pictures that keep their aspect come in widths that are multiples, so that they fill batches
MAX_WIDTH = 4096  # pixels, of a picture that keeps its aspect
INKED, MARGIN = 0.4, 0.015  # of the change in strong columns; of the width
WHOLE = (0.0, 1.0)  # from the left to the right edge, as shares of the width


def prepare(
    picture: Image.Image,
    image_size: tuple[int, int],
    channels: int,
    keep_aspect: bool = False,
    crop: tuple[float, float] = WHOLE,
) -> np.ndarray:
    """A picture of any mode and size as uint8 (H, W, C) with 1 or 3 channels; `image_size` is (height, width), pixels.

    The picture `as_seen`, between the columns `crop` (left and right, as shares of its width), is squeezed to
    `image_size`, or, with `keep_aspect`, scaled to its height and padded on the right, by what its last column shows, to
    the next multiple of WIDTH_STEP. So what a picture becomes never depends on those it is read with. Raises ValueError
    where that is wider than MAX_WIDTH.
    """
    picture = as_seen(picture).convert("L" if channels == 1 else "RGB")
    height, width = image_size
    if keep_aspect:
        width = max(1, round(picture.width * (crop[1] - crop[0]) * height / picture.height))
        if width > MAX_WIDTH:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too long for a captcha to keep its aspect")
    box = (crop[0] * picture.width, 0, crop[1] * picture.width, picture.height)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR, box)  # antialiased when it shrinks
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
    values = np.array(picture, dtype=np.float64)
    low, high = values.min(), values.max()
    top = next((top for top in ((1, 255) if picture.mode == "F" else (255, 65535)) if high <= top), None)
    if low < 0 or top is None:
        raise ValueError(f"gray values from {low:g} to {high:g} (mode {picture.mode}) have no known range: save 8 bits")
    values /= top  # in place: a large picture takes enough memory once
    values *= 255
    return Image.fromarray(values.round(out=values).astype(np.uint8))


def inked_columns(pictures: Iterable[Image.Image]) -> tuple[float, float]:
    """The part of the width, (left, right) in shares, outside of which hardly a picture has strokes; with a small margin.

    A column counts as inked in a picture where its brightness changes from left to right at least INKED times as much
    as in the picture's strong columns; so slow shading is none, nor is a single thin line. One picture in a hundred on
    each side may have more. WHOLE where the pictures are fewer than 20.
    """
    ends = []
    for picture in pictures:
        gray = np.asarray(as_seen(picture).convert("L"), dtype=np.float32)
        change = np.abs(np.diff(gray, axis=1, prepend=gray[:, :1])).mean(0)
        change = np.convolve(change, np.ones(3) / 3, "same")  # of each column and its neighbours
        columns = np.flatnonzero(change > INKED * np.quantile(change, 0.8))
        ends.append((columns[0], columns[-1] + 1) / np.float64(gray.shape[1]) if len(columns) else WHOLE)
    if len(ends) < 20:
        return WHOLE
    left, right = np.quantile([end[0] for end in ends], 0.01), np.quantile([end[1] for end in ends], 0.99)
    return max(0.0, round(float(left) - MARGIN, 3)), min(1.0, round(float(right) + MARGIN, 3))


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 (H, W, C) to float32 (C, H, W), each channel less its mean and over its deviation, both of [0, 1]."""
    scale = 1 / (255 * np.array(std, np.float32))
    return ((pixels - 255 * np.array(mean, np.float32)) * scale).transpose(2, 0, 1)
