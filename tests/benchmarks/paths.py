"""The same pictures through every way of reading: evaluation, command line, ONNX Runtime, service. All must say the same.

    CAPTCHA_RECIPE=conv_ctc CAPTCHA_DATA=FOLDER python notebooks/train_ctc.py
    python -m tests.benchmarks.paths --model work/model --data FOLDER --to readings

Writes a csv of `file,text` per way into `--to`, prints in how many lines each differs from the first, and how far the
confidences are apart. Exit 1 where a text differs. FOLDER holds labelled pictures, of which the first `--count` are read.
"""

import argparse
import contextlib
import csv
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from helpers.config import Config
from helpers.evaluation.trial import judge
from helpers.pictures.opening import list_pictures
from helpers.reading.export import save_onnx
from helpers.reading.reader import Reader
from tests import verbs
from tests.benchmarks.common import table
from tests.service import served

Read = dict[str, tuple[str, float]]  # by file: text, confidence
AT_ONCE = 50  # pictures in a request


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--to", type=Path, required=True)
    options = options.parse_args()
    model, pictures = options.model.resolve(), list_pictures(options.data)[0][: options.count]
    names = [path.name for path in pictures]
    if len(set(names)) < len(names):
        sys.exit(f"{options.data} has pictures of the same name in several folders: name one of these")
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        captchas = Path(folder, "captchas")
        captchas.mkdir()
        for path in pictures:
            shutil.copy(path, captchas)
        (empty := Path(folder, "empty")).mkdir()
        ways = {
            "evaluation": by_evaluation(model, captchas, Path(folder, "work")),
            "command line": by_command_line(model, captchas),
            "ONNX Runtime": by_command_line(save_onnx(Reader.load(model), Path(folder, "model.onnx")), captchas),
            "service": by_service(model, captchas, empty),
        }
    first = ways["evaluation"]
    rows = []
    for way, read in ways.items():
        with (options.to / f"{way.replace(' ', '_')}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows((name, read[name][0]) for name in names)
        differ = sum(read[name][0] != first[name][0] for name in names)
        rows.append((way, len(read), differ, f"{max(abs(read[name][1] - first[name][1]) for name in names):.1e}"))
    table(("way", "pictures", "texts that differ from the first", "largest distance of confidences"), rows)
    return int(any(row[2] for row in rows))


def by_evaluation(model: Path, captchas: Path, work: Path) -> Read:
    """As the evaluation notebook reads."""
    trial = judge(Config(model=str(model), data=captchas, work=work))
    return {
        sample.path.name: (reading.text, reading.confidence)
        for sample, reading in zip(trial.test.samples, trial.readings[0], strict=True)
    }


def by_command_line(model: Path, captchas: Path) -> Read:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        verbs.read([str(model), str(captchas)])
    rows = csv.DictReader(printed.getvalue().splitlines())
    return {os.path.basename(row["path"]): (row["text"], float(row["confidence"])) for row in rows}


def by_service(model: Path, captchas: Path, empty: Path) -> Read:
    paths: Sequence[Path] = list_pictures(captchas)[0]
    read: Read = {}
    with served(model, empty) as service:
        for start in range(0, len(paths), AT_ONCE):
            chosen = paths[start : start + AT_ONCE]
            answers = service.read(*(path.read_bytes() for path in chosen))
            read |= {p.name: (a["text"], a["confidence"]) for p, a in zip(chosen, answers, strict=True)}
    return read


if __name__ == "__main__":
    sys.exit(main())
