"""What lies in a folder or a zip: listed in natural order and read, within bounds whatever a stranger put there.

Only regular files are opened. What is too large is refused by its name before a byte of it is read.
"""

import io
import os
import re
import stat
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from helpers.output import sentence, shown

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
MAX_BYTES = 4_000_000  # of a picture's file
MAX_NAME = 1_000  # characters of a name in a zip or a table, with its folders
MOST_FILES = 120_000  # in a zip
MAX_DIRECTORY = 64_000_000  # bytes of a zip's list of its files
MAX_RATIO, FREE = 100, 100_000_000  # of a zip's unpacked bytes to its own; unpacked bytes that may always be
KINDS = {"p": "a FIFO", "s": "a socket", "c": "a device", "b": "a device", "d": "a folder"}  # by `stat.filemode`
OPENING = sum(getattr(os, flag, 0) for flag in ("O_RDONLY", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))  # by the system
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # whose reading ends where it is told to


class DataError(ValueError):
    """Captcha files that cannot be used as they are; the message names them and says what would be right."""

    def __init__(self, said: str) -> None:
        super().__init__(sentence(said))


def natural(name: str | Path) -> tuple[list[tuple[bool, int, str]], str]:
    """The key of the natural order, in which `captcha2` stands before `captcha10`; `01` and `1` are told apart last."""
    text = (name if isinstance(name, Path) else Path(name)).as_posix()
    parts = enumerate(re.split(r"([0-9]+)", text))
    numbers = ((index % 2, part.lstrip("0") if index % 2 else part) for index, part in parts)
    return [(False, len(part), part) if number else (True, 0, part) for number, part in numbers], text


def list_pictures(source: Path) -> tuple[list[Path], list[Path]]:
    """(pictures, other files) of a folder at any depth or a zip, by suffix, in natural order of their names.

    A picture in a zip has the path `archive.zip/name.png`. Hidden files and what macOS adds are passed over. Links to
    folders, folders that cannot be listed, FIFOs and the like stand among the files, so that whoever reads names them.
    """
    paths = _below(source) if source.is_dir() else [source / name for name in zip_names(source)]
    paths.sort(key=natural)
    pictures = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return pictures, [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]


def _below(folder: Path) -> list[Path]:
    """Everything in a folder at any depth that is no folder."""
    found: list[Path] = []
    ahead = [folder]
    while ahead:
        place = ahead.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if not _hidden(entry.name):
                        (ahead if entry.is_dir(follow_symlinks=False) else found).append(Path(entry.path))
        except OSError as error:
            if place == folder:
                raise DataError(f"{folder} cannot be listed: {error.strerror}") from None
            found.append(place)
    return found


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def zip_names(archive: Path) -> list[str]:
    """The names in a zip, without hidden ones. Raises DataError where it is none, or none that is read."""
    return [name for name in _open_zip(archive)[1] if not any(map(_hidden, name.split("/")))]


def first_names(names: Sequence[object], most: int = 5) -> str:
    """'3 files: a, b, c', with at most `most` names."""
    named = ", ".join(map(shown, names[:most]))
    return f"{len(names)} file{'s' * (len(names) > 1)}: {named}{', ...' * (len(names) > most)}"


def archive_of(path: Path) -> Path | None:
    """The zip that a path leads into; None for a path on disk."""
    return None if os.path.exists(path) else _file_above(path)


def _file_above(path: Path) -> Path | None:
    return next((parent for parent in path.parents if os.path.isfile(parent)), None)


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """A file's content, on disk or in a zip (whose checksum is verified), of `most` bytes.

    Raises what UNREADABLE lists; ValueError for more bytes.
    """
    file, size = _opened(path)
    with file:
        check_size(size, most)
        return file.read(size)


def check_size(size: int, most: int = MAX_BYTES) -> None:
    """Raises ValueError for more bytes than are read."""
    if size > most:
        raise ValueError(f"{size:,} bytes are too many: {most:,} at most are read")


def first_bytes(path: Path, count: int) -> bytes:
    """The beginning of a file's content. Raises what `read_bytes` raises."""
    file, size = _opened(path)
    with file:
        return file.read(min(count, size))


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """(a file on disk or in a zip, its size in bytes)."""
    try:
        file = open_regular(path)
        return file, os.fstat(file.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError):
        if (archive := _file_above(path)) is None:
            raise
    file, members = _open_zip(archive)
    name = "/".join(path.parts[len(archive.parts) :])
    if name not in members:
        raise FileNotFoundError(f"{archive} holds no {name}")
    member = members[name]
    if member.compress_type not in METHODS:
        method = zipfile.compressor_names.get(member.compress_type, member.compress_type)
        raise ValueError(f"it is packed by the method {method}: pack the zip anew, by deflate")
    return file.open(member), member.file_size


def open_regular(path: Path) -> BinaryIO:
    """A file on disk. Raises OSError for what is no regular file, which is not opened: a FIFO would wait for ever.

    What says that it has no bytes, as all in `/proc` does, is to be believed: read as many bytes as it says.
    """
    _check_regular(path.stat().st_mode)
    return os.fdopen(os.open(path, OPENING), "rb")


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {KINDS.get(stat.filemode(mode)[0], 'something else')} and no regular file")


class _Directory(io.BufferedReader):
    """A zip's file, in which nothing is read at once that is longer than the list of its files may be."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"the list of its files has {size:,} bytes; {MAX_DIRECTORY:,} at most are read")
        content = super().read(size)
        if content.count(b"PK\1\2") > MOST_FILES:  # each file's entry begins so
            raise zipfile.BadZipFile(f"it holds more than {MOST_FILES:,} files: unpack it and name the folder")
        return content

    def __del__(self) -> None:
        self.close()  # as a ZipFile closes a file that it has opened itself


Archive = tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]


def _open_zip(path: Path) -> Archive:
    """(the zip, its files by their names). Raises DataError where it cannot be used."""
    try:
        return _open_version(path, path.stat().st_mtime_ns)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise error if isinstance(error, DataError) else DataError(f"{path} cannot be used as a zip: {error}") from None


@lru_cache(maxsize=8)
def _open_version(path: Path, _: int) -> Archive:
    file = _Directory(open_regular(path).detach())
    try:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path} is neither a folder nor a zip of pictures, nor a table (csv, tsv) or list (txt)")
        archive = zipfile.ZipFile(file)
        return archive, _members(path, archive, os.fstat(file.fileno()).st_size)
    except BaseException:
        file.close()
        raise


def _members(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip of so many bytes by their names. Raises DataError for what is not read."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if len(info.filename) > MAX_NAME:
            raise DataError(f"{path} holds the name {shown(info.filename)}: {MAX_NAME:,} at most are read")
        if not info.is_dir() and members.setdefault(_member_name(info), info) is not info:
            raise DataError(f"{path} holds {shown(_member_name(info))} twice: pack it anew")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > MAX_RATIO * size + FREE:
        raise DataError(
            f"{path} would unpack from {size:,} to {unpacked:,} bytes, as no pictures do: unpack it yourself"
        )
    return members


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
