"""Pictures on disk, in a folder or a zip: listed in natural order, read, opened whole; damaged ones told apart by name."""

import io
import re
import struct
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

try:  # neither is needed to read with an ONNX file
    import simplejpeg
except ModuleNotFoundError:  # then a damaged JPEG that Pillow decodes in part passes as a whole one
    simplejpeg = None
try:
    from tqdm import tqdm
except ModuleNotFoundError:  # then long work shows no bar
    tqdm = None

T = TypeVar("T")

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
# what Pillow, simplejpeg and zipfile raise for damaged pictures; NotImplementedError: a zip's unknown compression
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    RuntimeError,
    TypeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)
MAX_PIXELS = 10_000_000  # width times height; a damaged header may claim more than memory holds
BEGINNING = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}|II\*\0|MM\0\*|RIFF.{4}WEBP", re.DOTALL)  # of a picture


class DataError(ValueError):
    """Captcha files that cannot be used as they are; the message names them and says what would be right."""


def natural(name: str | Path) -> tuple[list[tuple[bool, int | str]], str]:
    """The key of the natural order, in which `captcha2` stands before `captcha10`; `01` and `1` are told apart last."""
    text = Path(name).as_posix()
    parts = enumerate(re.split(r"([0-9]+)", text))
    return [(False, int(part)) if index % 2 else (True, part) for index, part in parts], text


def list_pictures(source: Path) -> tuple[list[Path], list[Path]]:
    """(pictures, other files) of a folder at any depth or a zip, by suffix, in natural order of their names.

    A picture in a zip has the path `archive.zip/name.png`. Hidden files and what macOS adds are passed over.
    """
    if source.is_dir():
        paths = [path for path in source.rglob("*") if path.is_file()]
    elif zipfile.is_zipfile(source):
        paths = [source / name for name in _open_zip(source)[1]]
    else:
        raise DataError(f"{source} is neither a folder nor a zip of pictures, nor a table (csv, tsv) or list (txt)")
    below = len(source.parts)
    paths = [p for p in paths if not any(part.startswith(".") or part == "__MACOSX" for part in p.parts[below:])]
    paths.sort(key=natural)
    pictures = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return pictures, [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]


def first_names(names: Sequence[object], most: int = 5) -> str:
    """'3 files: a, b, c', with at most `most` names."""
    names = [str(name) for name in names]
    return f"{len(names)} file{'s' * (len(names) > 1)}: {', '.join(names[:most])}{', ...' * (len(names) > most)}"


def archive_of(path: Path) -> Path | None:
    """The zip that a path leads into; None for a path on disk."""
    return None if path.exists() else next((parent for parent in path.parents if parent.is_file()), None)


def read_bytes(path: Path) -> bytes:
    """A file's content, on disk or in a zip (whose checksum is verified). Raises what UNREADABLE lists."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if (archive := archive_of(path)) is None:
            raise
    file, members = _open_zip(archive)
    name = PurePosixPath(path.relative_to(archive)).as_posix()
    if name not in members:
        raise FileNotFoundError(f"{archive} holds no {name}")
    return file.read(members[name])


def _open_zip(path: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    return _open_version(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open_version(path: Path, _: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    file = zipfile.ZipFile(path)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in file.infolist():
        if not info.is_dir() and members.setdefault(_member_name(info), info) is not info:
            raise DataError(f"{path} holds {_member_name(info)} twice: pack it anew")
    return file, members


def _member_name(info: zipfile.ZipInfo) -> str:
    """The member's name, which never leads out of the zip, with forward slashes.

    macOS writes UTF-8 without saying so, and zipfile then reads it as cp437; old Windows tools write backslashes.
    """
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..") and not part.endswith(":"))


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
    picture = Image.open(io.BytesIO(content))
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels are no captcha; {MAX_PIXELS} at most are read")
    if picture.format == "PNG":
        picture.verify()  # the checksums, which load() passes over
        if b"IEND\xaeB`\x82" not in content:
            raise OSError("image file is truncated: its end is missing")
        picture = Image.open(io.BytesIO(content))
    elif picture.format in ("JPEG", "MPO") and simplejpeg:
        simplejpeg.decode_jpeg(content, "CMYK" if picture.mode == "CMYK" else "GRAY", strict=True)
    picture.load()
    return picture


def is_picture(path: Path) -> bool:
    """Whether a file that is not named like a picture begins like one."""
    archive, size = archive_of(path), 16  # bytes
    try:
        if archive is None:
            with path.open("rb") as file:
                return BEGINNING.match(file.read(size)) is not None
        archive_file, members = _open_zip(archive)
        with archive_file.open(members[path.relative_to(archive).as_posix()]) as file:
            return BEGINNING.match(file.read(size)) is not None
    except UNREADABLE:
        return False


def progress_bar(items: Iterable[T], count: int, doing: str) -> Iterable[T]:
    """The items, with a bar on standard error where they take longer than two seconds; a line each ten in a log."""
    pace = 0.5 if sys.stderr.isatty() else 10  # seconds
    return items if tqdm is None else tqdm(items, doing, count, delay=2, mininterval=pace, file=sys.stderr)


def why(error: Exception) -> str:
    """The reason that an UNREADABLE error gives, in words."""
    known = not isinstance(error, UnidentifiedImageError)
    return f"{type(error).__name__}: {error}" if known else "its content is no image format that Pillow knows"
