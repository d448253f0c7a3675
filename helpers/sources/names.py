"""What names say of captchas: the text in a file's name, its place in the source; suffixes that belong to no text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.pictures.files import DataError
from helpers.pictures.opening import stem

TABLES, LISTS = {".csv", ".tsv"}, {".txt", ".lst"}
SPLITS = ("train", "val", "test")
SPLIT_NAMES = dict(zip(SPLITS, SPLITS, strict=True)) | {"training": "train", "valid": "val", "validation": "val"}


# what stands behind the text in names met in the wild: label (1), label - Copy, label-0 or label_1, label_<hash>
SUFFIXES = (
    r"(?: -)? [Cc]opy(?: \(?\d+\)?)?",
    r" ?\(\d+\)",
    *(separator + kind for kind in (r"\d{1,5}", "[0-9a-f]{6,}", "[0-9A-F]{6,}") for separator in "-_"),
)


@dataclass(frozen=True)
class Sample:
    """One captcha: where its picture lies, its text, and the side of the split that its source puts it on, if any."""

    path: Path
    text: str
    side: str | None = None
    content: str = ""  # `decoding.digest` of the picture's file, once it was read


def base_of(source: Path) -> Path:
    """What the names of a source are relative to: the folder or zip itself, or where the table or list lies."""
    return source.parent if source.suffix.lower() in TABLES | LISTS and not source.is_dir() else source


def relative_name(path: Path, source: Path | str) -> str:
    """The name under which reports and split lists know a picture, with forward slashes."""
    base = base_of(source) if isinstance(source, Path) else Path()
    try:
        return path.relative_to(base).as_posix()
    except ValueError:  # it lies elsewhere
        return str(path)


def sample_text(path: Path, pattern: str | None = None) -> str:
    """The text that a file's name gives: its stem, or group 1 of the pattern; empty where the pattern does not match."""
    if pattern is None:
        return stem(path)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"label_pattern={pattern!r} is no regular expression: {error}") from None
    if not compiled.groups:
        raise DataError(f"label_pattern={pattern!r} has no group: put the text's part in parentheses")
    match = compiled.fullmatch(stem(path))
    return (match.group(1) or "") if match else ""


def propose_pattern(stems: Sequence[str]) -> str | None:
    """A label pattern that takes off a suffix which these stems seem to have; None where they have none.

    Where not every stem has the suffix, the texts without it must be of lengths that the other stems have.
    """
    lengths = {len(stem) for stem in stems}
    for suffix in SUFFIXES:
        matches = [re.fullmatch(rf"(.+?){suffix}", stem) for stem in stems]
        short = {len(match.group(1)) for match in matches if match}
        plain = {len(stem) for stem, match in zip(stems, matches, strict=True) if not match}
        if len({match.group(1) for match in matches if match}) < 2:
            continue  # captcha_1, captcha_2: numbers, no texts
        if short and not plain and len(short) <= len(lengths):
            return rf"(.+?){suffix}"
        if short and plain and short <= plain and len(plain) < len(lengths):
            return rf"(.+?)(?:{suffix})?"
    return None
