"""Pictures on disk, in a folder or a zip: listed, opened, decoded into memory; damaged ones told apart by name."""

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from helpers.transforms import prepare

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
# what Pillow and zipfile raise for damaged pictures
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    KeyError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


class DataError(ValueError):
    """Captcha files that cannot be used as they are; the message names them and says what would be right."""


def list_pictures(source: Path) -> tuple[list[Path], list[Path]]:
    """(pictures, other files) of a folder at any depth or a zip, by suffix, sorted; hidden files are passed over."""
    if source.is_dir():
        paths = [path for path in source.rglob("*") if path.is_file()]
    elif zipfile.is_zipfile(source):
        paths = [source / name for name in _open_zip(source).namelist() if not name.endswith("/")]
    else:
        raise DataError(f"{source} is neither a folder nor a zip nor a csv")
    paths = sorted(p for p in paths if not p.name.startswith(".") and "__MACOSX" not in p.parts)
    pictures = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return pictures, [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]


def sample_text(path: Path, pattern: str | None = None) -> str:
    """The text that a file's name gives: its stem, or group 1 of the pattern; empty where the pattern does not match."""
    if pattern is None:
        return path.stem
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"label_pattern={pattern!r} is no regular expression: {error}") from None
    if not compiled.groups:
        raise DataError(f"label_pattern={pattern!r} has no group: put the text's part in parentheses")
    match = compiled.fullmatch(path.stem)
    return match.group(1) if match else ""


def first_names(names: Sequence[object], most: int = 5) -> str:
    """'3 files: a, b, c', with at most `most` names."""
    names = [str(name) for name in names]
    return f"{len(names)} file{'s' * (len(names) > 1)}: {', '.join(names[:most])}{', ...' * (len(names) > most)}"


def _open_zip(path: Path) -> zipfile.ZipFile:
    return _open_version(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open_version(path: Path, _: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def open_picture(path: Path) -> Image.Image:
    """The picture, decoded whole; a truncated one raises OSError."""
    if not path.is_file() and (archive := next((p for p in path.parents if p.is_file()), None)):
        content = _open_zip(archive).read(PurePosixPath(path.relative_to(archive)).as_posix())
        picture = Image.open(io.BytesIO(content))
    else:
        picture = Image.open(path)
    picture.load()
    return picture


def why(error: Exception) -> str:
    """The reason that an UNREADABLE error gives, in words."""
    known = not isinstance(error, UnidentifiedImageError)
    return f"{type(error).__name__}: {error}" if known else "its content is no image format that Pillow knows"


def decode(paths: Sequence[Path], image_size: tuple[int, int], channels: int) -> tuple[np.ndarray, dict[int, str]]:
    """Pictures as uint8 (N, H, W, C), and for each that cannot be read its index and why; its image is left white."""
    images = np.full((len(paths), *image_size, channels), 255, dtype=np.uint8)

    def one(index: int) -> str | None:
        try:
            images[index] = prepare(open_picture(paths[index]), image_size, channels)
        except UNREADABLE as error:
            return why(error)
        return None

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(one, range(len(paths))))
    return images, {index: reason for index, reason in enumerate(reasons) if reason}
