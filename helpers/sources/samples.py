"""Where captchas and their texts come from: a folder, a zip, a table or a list in, samples out; suffixes of names proposed."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from helpers.output import shown
from helpers.pictures.files import IMAGE_SUFFIXES, DataError, archive_of, first_names, list_pictures
from helpers.sources.names import LISTS, SPLIT_NAMES, TABLES, Sample, base_of, relative_name, sample_text
from helpers.sources.tables import _check_count, _from_table, _paired, _text
from helpers.text.spelling import one_spelling

MAX_TEXT = 255  # characters, as a name of a file has at most


def find_samples(
    source: Path,
    label_pattern: str | None = None,
    case: str = "keep",
    file_column: str | None = None,
    label_column: str | None = None,
) -> list[Sample]:
    """All captchas of a folder (any depth) or a zip by their names, or of a table or a list, in natural or its own order.

    - folder, zip: the text is the file-name stem, or group 1 of `label_pattern`, which must match the whole stem.
    - table (`.csv`, `.tsv`; first line the columns): FILE_COLUMNS and LABEL_COLUMNS, or what `file_column` and
      `label_column` name; a column `split` gives the sides. Without a column of files, as for a list:
    - list (`.txt`, `.lst`): one text per line, for the pictures beside and below it in natural order.

    A table or list may lie in a zip: `archive.zip/labels.csv`. Folders `train`, `val` and `test` give sides, where there
    are at least two of them. `case` is "keep", "upper" or "lower". Texts are NFC. Raises DataError that names the file.
    """
    if not os.path.exists(source) and archive_of(source) is None:
        raise DataError(
            f"{source} does not exist: name a folder, a zip, a table (csv, tsv) or a list (txt) of captchas"
        )
    if source.suffix.lower() in TABLES and not source.is_dir():
        samples = _from_table(source, file_column, label_column)
    elif source.suffix.lower() in LISTS and not source.is_dir():
        text = _text(source)
        _check_count(source, 1 + text.count("\n"))
        samples = _paired(source, [line.strip() for line in text.split("\n")])
    else:
        samples = _from_names(source, label_pattern)
    if long := [relative_name(s.path, source) for s in samples if len(s.text) > MAX_TEXT]:
        raise DataError(
            f"{source} gives texts of more than {MAX_TEXT} characters, as no captcha has, to {first_names(long)}"
        )
    samples = [replace(sample, text=one_spelling(sample.text, case)) for sample in samples]
    return samples if any(sample.side for sample in samples) else _sides_by_folder(samples, base_of(source))


def _from_names(source: Path, pattern: str | None) -> list[Sample]:
    paths, others = list_pictures(source)
    if not paths:
        tables = [relative_name(path, source) for path in others if path.suffix.lower() in TABLES | LISTS]
        hint = f"; name {shown(tables[0])} itself if it is a table of them" if tables else ""
        raise DataError(f"{source} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}){hint}")
    samples = [Sample(path, sample_text(path, pattern)) for path in paths]
    if wrong := [relative_name(sample.path, source) for sample in samples if not sample.text]:
        raise DataError(f"no text in {first_names(wrong)} of {source}: label_pattern={pattern!r} must match the stem")
    return samples


def _sides_by_folder(samples: Sequence[Sample], base: Path) -> list[Sample]:
    """With the sides that folders `train`, `val`, `test` give; as they are where there are not at least two of them."""
    sides = [
        next(
            (SPLIT_NAMES[part.lower()] for part in reversed(Path(name).parts[:-1]) if part.lower() in SPLIT_NAMES), None
        )
        for name in (relative_name(sample.path, base) for sample in samples)
    ]
    if "train" not in sides or not {"val", "test"} & set(sides):
        return list(samples)
    if stray := [relative_name(s.path, base) for s, side in zip(samples, sides, strict=True) if side is None]:
        raise DataError(f"{first_names(stray)} of {base} stand beside its folders train, val, test: move them into one")
    return [replace(sample, side=side) for sample, side in zip(samples, sides, strict=True)]
