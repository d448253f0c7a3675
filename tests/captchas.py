"""Captchas for the tests: pictures of one gray value, which their text names; as files, zips and tables."""

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write(path: Path, gray: int = 128, size: tuple[int, int] = (12, 8)) -> Path:
    """A picture of one gray value; `size` is (width, height), pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, gray).save(path)
    return path


def write_all(folder: Path, grays: Iterable[int], widths: Sequence[int] = (12,)) -> Path:
    """Pictures whose text is their gray value: `0007.png` is all 7; the widths, in pixels, take turns."""
    for index, gray in enumerate(grays):
        write(folder / f"{gray:04d}.png", gray, (widths[index % len(widths)], 8))
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """The folder as a zip."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))  # folders too, as most tools do
    return archive


def table(path: Path, rows: Iterable[Sequence[str]], columns: Sequence[str] = ("file", "label")) -> Path:
    """A csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def noise(size: tuple[int, int] = (12, 8), seed: int = 0) -> Image.Image:
    """An RGB picture in which no two pixels are alike, by and large; `size` is (width, height), pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(*size[::-1], 3), dtype=np.uint8))


def encoded(picture: Image.Image, format: str = "png", **options: object) -> bytes:
    """The picture as a file of that format."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def halves(mode: str) -> Image.Image:
    """12 x 8 pixels: the left half black; the right half white, or black and transparent where the mode can say so.

    "P transparent" and "RGB transparent" are P and RGB with a colour that stands for nothing.
    """
    levels = np.zeros((8, 12), np.uint8)
    levels[:, 6:] = 255
    gray, white = Image.fromarray(levels), Image.fromarray(255 - levels)
    if mode in ("LA", "RGBA"):
        picture = Image.new(mode, (12, 8))
        picture.putalpha(white)
    elif mode == "PA":
        picture = Image.new("P", (12, 8))
        picture.putalpha(white)
    elif mode == "P transparent":
        picture = Image.fromarray(levels // 255)
        picture.putpalette([0, 0, 0] * 2)
        picture.info["transparency"] = 1
    elif mode == "RGB transparent":  # a colour that stands for nothing, as PNG's tRNS chunk has it
        picture = Image.new("RGB", (12, 8))
        picture.paste((0, 0, 9), (6, 0, 12, 8))
        picture.info["transparency"] = (0, 0, 9)
    elif mode in ("I;16", "I"):
        picture = Image.fromarray((levels.astype(np.uint16) * 257).astype({"I;16": np.uint16, "I": np.int32}[mode]))
    elif mode == "F":
        picture = Image.fromarray(levels.astype(np.float32) / 255)
    else:
        picture = gray.convert(mode)
    assert picture.mode == mode.split()[0]
    return picture
