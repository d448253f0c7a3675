"""Pictures: opened whole from a file in a folder or a zip; damaged and hostile ones told apart by name."""

import io
import lzma
import re
import struct
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from helpers.output import sentence
from helpers.pictures.files import (
    IMAGE_SUFFIXES,
    DataError,
    archive_of,
    check_size,
    first_bytes,
    first_names,
    list_pictures,
    natural,
    read_bytes,
)

try:  # neither is needed to read with an ONNX file
    import simplejpeg
except ModuleNotFoundError:  # then a damaged JPEG that Pillow decodes in part passes as a whole one
    simplejpeg = None
try:
    from tqdm import tqdm
except ModuleNotFoundError:  # then long work shows no bar
    tqdm = None

__all__ = ["IMAGE_SUFFIXES", "DataError", "archive_of", "first_names", "list_pictures", "natural", "read_bytes"]
__all__ += ["UNREADABLE", "frames_of", "is_picture", "open_picture", "progress_bar", "stem", "why"]

T = TypeVar("T")

FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
)  # Pillow's words; it knows more, PostScript among them, which runs
# what Pillow, simplejpeg and zipfile raise for damaged pictures; NotImplementedError: a zip's unknown compression
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
MAX_PIXELS = 10_000_000  # width times height, of a picture or a tile; a damaged header may claim more than memory holds
MOST_SCANS = 50  # of a JPEG, each of which goes over all pixels; a dozen is usual
MOST_STRIPS, MOST_FRAMES = 10_000, 100  # of a TIFF, each of which Pillow keeps a note of; frames that are counted
STRIPS, TILE_WIDTH, TILE_HEIGHT, TILES = 273, 322, 323, 324  # tags of a TIFF
BEGINNING = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}|II\*\0|MM\0\*|RIFF.{4}WEBP", re.DOTALL)  # of a picture


def stem(path: Path) -> str:
    """The file's name without its last suffix, in one spelling (NFC): macOS writes `ö` as `o` and dots."""
    return unicodedata.normalize("NFC", path.stem)


def open_picture(source: Path | bytes) -> Image.Image:
    """The picture, decoded whole, by its content and not its name.

    Raises what UNREADABLE lists where it is damaged: for a PNG wherever a checksum is wrong, for a JPEG wherever the
    decoder has to guess, which simplejpeg tells. Pillow alone would give a half-decoded picture for many of these.
    """
    content = source if isinstance(source, bytes) else read_bytes(source)
    if not content:
        raise ValueError("the file is empty")
    check_size(len(content))
    try:
        return _decoded(content)
    except UNREADABLE:
        raise
    except Exception as error:  # of a decoder that a stranger's bytes led where nobody has been
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _decoded(content: bytes) -> Image.Image:
    if content[:2] in (b"II", b"MM"):
        _check_tiff(content)
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    _check_pixels(picture.width, picture.height)
    if picture.format == "PNG":
        picture.verify()  # the checksums, which load() passes over
        if b"IEND\xaeB`\x82" not in content:
            raise OSError("image file is truncated: its end is missing")
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    elif picture.format in ("JPEG", "MPO"):
        if (scans := content.count(b"\xff\xda")) > MOST_SCANS:
            raise ValueError(f"{scans} scans are no captcha; {MOST_SCANS} at most are read")
        if simplejpeg:
            simplejpeg.decode_jpeg(content, "CMYK" if picture.mode == "CMYK" else "GRAY", strict=True)
    picture.load()
    return picture


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are no captcha; {MAX_PIXELS} at most are read")


def _check_tiff(content: bytes) -> None:
    """Before Pillow opens it, which makes a note of every strip, and when it decodes takes memory for a whole tile."""
    tags = next(_directories(content), {})
    _check_pixels(*(tags.get(side, 1) for side in (TILE_WIDTH, TILE_HEIGHT)))
    if (strips := max(len(tags.get(tag) or ()) for tag in (STRIPS, TILES))) > MOST_STRIPS:
        raise ValueError(f"{strips} strips are no captcha; {MOST_STRIPS:,} at most are read")


def _directories(content: bytes) -> Iterator[TiffImagePlugin.ImageFileDirectory_v2]:
    """The tags of a TIFF, frame by frame, which may be a chain without an end: MOST_FRAMES at most."""
    file, seen = io.BytesIO(content), set()
    tags = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2:3] == b"+" else 8])  # BigTIFF has 16
    while tags.next and tags.next not in seen and len(seen) < MOST_FRAMES:
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        yield tags


def frames_of(picture: Image.Image, content: bytes) -> int:
    """How many pictures follow one another in the content; of a TIFF no more than MOST_FRAMES count."""
    return sum(1 for _ in _directories(content)) if picture.format == "TIFF" else getattr(picture, "n_frames", 1)


def is_picture(path: Path) -> bool:
    """Whether a file that is not named like a picture begins like one."""
    try:
        return BEGINNING.match(first_bytes(path, 16)) is not None
    except UNREADABLE:
        return False


def progress_bar(items: Iterable[T], count: int, doing: str) -> Iterable[T]:
    """The items, with a bar on standard error where they take longer than two seconds; a line each ten in a log."""
    pace = 0.5 if sys.stderr.isatty() else 10  # seconds
    return items if tqdm is None else tqdm(items, doing, count, delay=2, mininterval=pace, file=sys.stderr)


def why(error: Exception) -> str:
    """The reason that an UNREADABLE error gives, in words, on one line."""
    known = not isinstance(error, UnidentifiedImageError)
    return sentence(f"{type(error).__name__}: {error}" if known else "its content is no image format that Pillow knows")
