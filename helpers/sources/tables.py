"""Tables and lists of captchas to samples: bounded, read as UTF-8, each row paired with the file it names."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from helpers.output import is_ours, plain, shown
from helpers.pictures.files import MAX_NAME, DataError, archive_of, first_names, list_pictures, read_bytes
from helpers.pictures.opening import UNREADABLE, why
from helpers.sources.names import SPLIT_NAMES, Sample, base_of
from helpers.text.spelling import one_spelling

FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMN = ("file", "filename", "image", "path"), ("label", "text"), "split"
MAX_TABLE, MOST_ROWS, MOST_COLUMNS = 16_000_000, 250_000, 1_000  # bytes of a table or list; its rows and columns


def is_table_of_captchas(source: Path) -> bool:
    """Whether the first line of a table names one column of files and one of texts, by the names known here."""
    with suppress(DataError):
        names = [name.strip(' "').lower() for name in re.split("[,;\\t]", _text(source)[:10_000].partition("\n")[0])]
        return all(sum(name in known for name in names) == 1 for known in (FILE_COLUMNS, LABEL_COLUMNS))
    return False


def _text(source: Path) -> str:
    """A text file in UTF-8, or in UTF-16 with its mark; line ends as `\\n`, none at the end."""
    try:
        content = read_bytes(source, MAX_TABLE)
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 ({error}): save it as UTF-8") from None
    except UNREADABLE as error:
        raise DataError(f"{source} cannot be read: {why(error)}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip()


def _check_count(source: Path, count: int) -> None:
    if count > MOST_ROWS:
        raise DataError(f"{source} has more than {MOST_ROWS:,} lines: split it, or let the files' names be the texts")


def _rows(source: Path, delimiter: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """(the number of its line, its cells) of each row of a table that is not empty, the one of the columns first."""
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for count, row in enumerate(rows):
            _check_count(source, count)
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{source} is no table near line {rows.line_num} ({error}): look for a quote too many"
        ) from None


def _table(source: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """(the columns of a table, the number of each row's line, the rows, which may be short)."""
    text = _text(source)
    delimiter = "\t" if source.suffix.lower() == ".tsv" else max(",;\t", key=text.partition("\n")[0].count)
    rows = _rows(source, delimiter, text)
    columns = [name.strip() for name in next(rows, (0, []))[1]]
    if len(columns) > MOST_COLUMNS:
        raise DataError(f"{source} has {len(columns)} columns in its first line; {MOST_COLUMNS:,} at most are read")
    if twice := sorted(name for name, count in Counter(columns).items() if name and count > 1):
        raise DataError(f"{source} has the columns {twice} twice: give each a name of its own")
    lines, table, long = [], [], []
    for line, row in rows:
        if len(row) > len(columns):
            long.append(str(line))
        lines.append(line)
        table.append(row[: len(columns)])
    if long:
        lines_named = ", ".join(long[:5])
        raise DataError(
            f"{source} has more cells than columns in line {lines_named}: put texts that hold {delimiter!r} in quotes"
        )
    return columns, lines, table


def _from_table(source: Path, file_column: str | None, label_column: str | None) -> list[Sample]:
    columns, lines, table = _table(source)
    label = _column(source, columns, label_column, LABEL_COLUMNS, "label_column")
    file = _column(source, columns, file_column, FILE_COLUMNS, "file_column")
    if label is None:
        raise DataError(
            f"{source} has the columns {columns}: `{FILE_COLUMNS[0]}` and `{LABEL_COLUMNS[0]}` are expected in its first"
            " line, or say with file_column and label_column (CAPTCHA_FILE_COLUMN, CAPTCHA_LABEL_COLUMN) which they are"
        )
    if not table:
        raise DataError(f"{source} has no rows below its first line")
    texts = _cells(columns, table, label)
    if file is None:
        samples = _paired(source, texts, lines)
    else:
        names = _cells(columns, table, file, path=True)
        if far := [str(line) for line, name in zip(lines, names, strict=True) if len(name) > MAX_NAME]:
            raise DataError(f"{source} names files with more than {MAX_NAME:,} characters in line {', '.join(far[:5])}")
        if empty := [str(line) for line, name in zip(lines, names, strict=True) if not name]:
            raise DataError(f"{source} names no file in line {', '.join(empty[:5])}")
        if wrong := [name for name, text in zip(names, texts, strict=True) if not text]:
            raise DataError(f"{source} gives no label for {first_names(wrong)}")
        samples = [Sample(path, text) for path, text in zip(_located(source, names), texts, strict=True)]
    split = next((name for name in columns if name.lower() == SPLIT_COLUMN), None)
    if split is None:
        return samples
    given = _cells(columns, table, split)
    sides = [SPLIT_NAMES.get(name.lower()) for name in given]
    if wrong := [f"{s.path.name} ({n!r})" for s, n, side in zip(samples, given, sides, strict=True) if not side]:
        raise DataError(
            f"the column {split} of {source} must hold train, val or test; it does not for {first_names(wrong)}"
        )
    return [replace(sample, side=side) for sample, side in zip(samples, sides, strict=True)]


def _cells(columns: Sequence[str], table: Iterable[Sequence[str]], column: str, path: bool = False) -> list[str]:
    """A column of a table, empty where a row is too short; what was put on the cells of our own is taken off."""
    place = columns.index(column)
    cells = (row[place].strip() if place < len(row) else "" for row in table)
    return [plain(cell, path) for cell in cells] if is_ours(columns) else [*cells]


def _column(source: Path, columns: Sequence[str], given: str | None, known: Sequence[str], setting: str) -> str | None:
    """The table's column that is meant; None where none of the known names is there."""
    if given is not None:
        if given not in columns:
            raise DataError(f"{source} has no column {given!r} ({setting}): its columns are {list(columns)}")
        return given
    found = [name for name in columns if name.lower() in known]
    if len(found) > 1:
        raise DataError(
            f"{source} has the columns {found}: say with {setting} (CAPTCHA_{setting.upper()}) which is meant"
        )
    return found[0] if found else None


def _located(source: Path, names: Sequence[str]) -> list[Path]:
    """The paths of a table's files: beside it, or, for a name that is not there, the only file of that name below it."""
    base = base_of(source)
    archive = archive_of(base) or (base if base.is_file() else None)
    there: dict[str, Path] = {}
    below: dict[str, list[Path]] = {}
    if archive is not None or not all(os.path.isfile(base / name) for name in names):
        for path in list_pictures(archive or base)[0]:
            if path.is_relative_to(base):
                name = one_spelling(path.relative_to(base).as_posix())
                there[name] = path
                below.setdefault(name.rpartition("/")[2], []).append(path)
    located = []
    for name in names:
        if not os.path.isfile(base / name) and one_spelling(name) not in there:
            name = name.replace("\\", "/")  # as Windows writes it
        known = there.get(one_spelling(Path(name).as_posix()))
        others = below.get(one_spelling(name), [])
        if known or len(others) < 2:
            located.append(known or next(iter(others), base / name))
        else:
            there_are = ", ".join(map(shown, others[:5]))
            raise DataError(f"{source} names {shown(name)}, which lies in several folders: {there_are}")
    return located


def _paired(source: Path, texts: Sequence[str], lines: Sequence[int] | None = None) -> list[Sample]:
    """Texts in the natural order of the pictures beside and below their list."""
    base = base_of(source)
    archive = archive_of(base) or (base if base.is_file() else None)
    paths = [path for path in list_pictures(archive or base)[0] if path.is_relative_to(base)]
    if empty := [line for line, text in zip(lines or range(1, len(texts) + 1), texts, strict=True) if not text]:
        raise DataError(f"{source} has no text in line {empty[0]}: one text per line and picture is expected")
    if len(paths) != len(texts):
        raise DataError(
            f"{source} has {len(texts)} texts for {len(paths)} pictures in {base}: one line per picture, in natural order"
            " of the names, is expected; or make it a table with the columns file,label"
        )
    return [Sample(path, text) for path, text in zip(paths, texts, strict=True)]
