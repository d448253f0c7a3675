"""The command line of the reader, `python -m helpers.reading.reader`: pictures in, a line of CSV or JSON per picture out."""

import argparse
import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from helpers.config import Config
from helpers.data.samples import LISTS, MAX_TABLE, MAX_TEXT, TABLES, Sample, find_samples, one_spelling, sample_text
from helpers.output import READINGS, harmless, json_text, say, sentence
from helpers.pictures.opening import UNREADABLE, list_pictures, progress_bar, read_bytes, why
from helpers.reading.reader import Reader
from helpers.text.spelling import Reading

Write = Callable[[Path, Reading], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Results on standard output, everything else on standard error. Exit 1 where a picture was unreadable."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # the same bytes on every system, as soon as there are any
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True)
    try:
        if options.score:
            from helpers.text.metrics import score  # not above: reading alone needs no edit distances
        reader = Reader.load(options.model)
        words = None if options.words is None else lines_of(options.words)
        constraint = reader.constraint(options.length, options.chars, options.pattern, words)
        samples, others = samples_of(options, reader.case)
    except ModuleNotFoundError as error:
        hint = f": pip install {error.name}" if error.name and "." not in error.name else ""
        parser.exit(2, f"{sentence(error)}{hint}\n")
    except (OSError, ValueError) as error:
        parser.exit(2, f"{sentence(error)}\n")
    for path in others:
        say(f"skipped {path}: not a picture by its suffix", sys.stderr)
    try:
        texts, truths, failed = read_all(
            reader.stream([s.path for s in samples], constraint, options.best), samples, options
        )
    except BrokenPipeError:  # `| head` has seen enough; without this Python would say so once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if options.score and texts:
        print(score(texts, truths), file=sys.stderr)
    return 1 if failed or not texts else 0


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


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.reading.reader", description="Read captchas with a trained model."
    )
    parser.add_argument(
        "model", help="a model folder, runs:/RUN_ID/model of the record under CAPTCHA_WORK, or an ONNX file"
    )
    parser.add_argument("images", nargs="+", type=Path, help="pictures, folders or zips of them, tables or lists")
    known = parser.add_argument_group("what is known of the texts")
    known.add_argument("--length", help="in characters: 5, or 4-6")
    known.add_argument("--chars", help="the characters they consist of, if not all that the model knows: 0123456789")
    known.add_argument("--pattern", help="characters, classes and counts: [A-Z][0-9]{3}")
    known.add_argument("--words", type=Path, metavar="FILE", help="all valid texts, one per line, in UTF-8")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--accept", type=share, metavar="THRESHOLD", help="a column accepted: 1 where the confidence is at least this"
    )
    output.add_argument(
        "--best", type=positive, default=0, metavar="N", help="the N likeliest texts with their probabilities"
    )
    output.add_argument("--json-lines", action="store_true", help="one JSON object per picture instead of CSV")
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument(
        "--score", action="store_true", help="the texts are known, from names or a table: say how many were read right"
    )
    scoring.add_argument("--label-pattern", help="with --score: regex on the file-name stem whose group 1 is the text")
    scoring.add_argument(
        "--case", choices=("keep", "upper", "lower"), help="of the known texts; default: as in training"
    )
    return parser


def share(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise ValueError
    return float(text)


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


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
