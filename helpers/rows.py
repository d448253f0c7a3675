"""What `read` prints: pictures named on the command line in, a line of CSV or JSON per picture out."""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from helpers.config import Config
from helpers.output import READINGS, harmless, json_text, say
from helpers.pictures.opening import UNREADABLE, list_pictures, progress_bar, read_bytes, why
from helpers.sources.names import LISTS, TABLES, Sample, sample_text
from helpers.sources.samples import MAX_TEXT, find_samples
from helpers.sources.tables import MAX_TABLE
from helpers.text.spelling import Reading, one_spelling

Write = Callable[[Path, Reading], None]


def read_all(
    readings: Iterable[Reading], samples: Sequence[Sample], options: argparse.Namespace
) -> tuple[list[str], list[str], int]:
    """Prints a line per picture as it is read. Returns (texts read, what they should be, how many could not be read)."""
    write = json_lines(options) if options.json_lines else csv_rows(options)
    texts, truths, failed = [], [], 0
    for sample, reading in with_bar(zip(samples, readings, strict=True), len(samples)):
        write(sample.path, reading)
        if reading.error:
            say(f"could not read {sample.path}: {reading.error}", sys.stderr)
            failed += 1
        else:
            texts.append(reading.text)
            truths.append(sample.text)
    return texts, truths, failed


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that hold anything. Raises ValueError that names it where it cannot be used."""
    try:
        lines = [line.strip() for line in read_bytes(path, MAX_TABLE).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from None
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read: {why(error)}") from None
    if long := [str(number) for number, line in enumerate(lines, 1) if len(line) > MAX_TEXT]:
        raise ValueError(
            f"{path} has more than {MAX_TEXT} characters, as no captcha has, in line {', '.join(long[:5])}"
        )
    return [line for line in lines if line]


def samples_of(options: argparse.Namespace, case: str) -> tuple[list[Sample], list[Path]]:
    """(the pictures that are named, with their texts where known, the files among them that are none)."""
    settings = Config()
    pattern = options.label_pattern or settings.label_pattern
    case = options.case or (settings.case if settings.case != "keep" else case)
    samples, others = [], []
    for source in options.images:
        holds_many = os.path.isdir(source) or source.suffix.lower() == ".zip"
        if source.suffix.lower() in TABLES | LISTS or (options.score and holds_many):
            samples += find_samples(source, pattern, case, settings.file_column, settings.label_column)
        else:
            paths = list_pictures(source)[0] if holds_many else [source]
            samples += [Sample(path, one_spelling(sample_text(path, pattern), case)) for path in paths]
        others += list_pictures(source)[1] if holds_many else []
    return samples, others


def with_bar(items: Iterable, count: int) -> Iterable:
    """With a progress bar, unless the lines themselves show on the terminal how far it is."""
    return items if sys.stdout.isatty() else progress_bar(items, count, "reading")


def csv_rows(options: argparse.Namespace) -> Write:
    """Prints the header and gives what prints a row: the path alone where a picture could not be read."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    accepted = [] if options.accept is None else ["accepted"]
    places = range(2, options.best + 1)
    columns = [*READINGS, *accepted, *(f"{n}_{p}" for p in places for n in ("text", "probability"))]
    table.writerow(columns)

    def write(path: Path, reading: Reading) -> None:
        row = [path, reading.text, "" if reading.error else f"{reading.confidence:.4f}"]
        row += [int(reading.accepted(options.accept)) for _ in accepted]
        for text, probability in reading.alternatives[1:]:
            row += [text, f"{probability:.4f}"]
        lacking = max(0, len(places) - len(reading.alternatives[1:]))
        table.writerow(harmless(columns, row + ["", ""] * lacking))

    return write


def json_lines(options: argparse.Namespace) -> Write:
    """What prints an object per picture: path, text, confidence and, where they apply, accepted, alternatives, error."""

    def write(path: Path, reading: Reading) -> None:
        entry = {"path": str(path), "text": reading.text, "confidence": round(reading.confidence, 6)}
        if options.accept is not None:
            entry["accepted"] = reading.accepted(options.accept)
        if options.best:
            alternatives = ({"text": text, "probability": round(p, 6)} for text, p in reading.alternatives)
            entry["alternatives"] = list(alternatives)
        if reading.error:
            entry["error"] = reading.error
        print(json_text(entry))

    return write
