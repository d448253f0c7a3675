"""How right the finished runs of a record read, and how far their confidences can be trusted.

    python -m tests.benchmarks.confidence --work FOLDER                           # FOLDER/mlruns, as CAPTCHA_WORK had it
    python -m tests.benchmarks.confidence --work FOLDER --data NAME --length 5    # prefix beam search beside greedy

Each run's model reads the run's own validation and test side, from where its data lay. Temperature and threshold are
chosen on validation, also for runs that were recorded without; all other figures are of the test side.
"""

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from helpers.config import Config
from helpers.data.collection import collect
from helpers.data.dataset import CaptchaDataset
from helpers.data.module import SPLIT_FILE
from helpers.evaluation.answers import Answers, answers_of
from helpers.evaluation.calibration import Acceptance, calibrate, fit_temperature
from helpers.evaluation.trial import as_trained
from helpers.reading.reader import Reader
from helpers.record.runs import download_model, finished_runs, record_uri
from helpers.sources.names import relative_name
from helpers.text import metrics
from helpers.text.constraint import of_length
from helpers.text.spelling import CTCSpelling
from tests.benchmarks.common import table

HEADER = (
    "data",
    "recipe",
    "test images",
    "exact match",
    "case folded",
    "CER",
    "doubled letters",
    "ECE at temperature 1",
)
HEADER += ("ECE after", "temperature", "validation images", "accepted for 99.9 %")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--work", type=Path, required=True, help="the folder that holds the record `mlruns`")
    options.add_argument("--data", nargs="+", help="only runs on data of these names")
    options.add_argument("--length", type=int, help="of every text, known: read with prefix beam search too")
    options.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["CAPTCHA_WORK"] = str(options.work)  # what is named here is stronger
    config = Config()
    rows = []
    for run in sorted(finished_runs(config), key=lambda run: run.info.start_time):
        if not options.data or Path(run.data.params["data"]).name in options.data:
            rows.append(figures(config, run, options.length))
            print(*rows[-1], sep="  ", flush=True)
    constrained = ("greedy, of any length", f"prefix beam search, {options.length} characters")
    table(HEADER + constrained * (options.length is not None), rows)


def figures(config: Config, run: Run, length: int | None) -> tuple[object, ...]:
    """The row of one run."""
    reader = Reader.load(download_model(f"runs:/{run.info.run_id}/model", config))
    validation, test = (answers_of(reader, side) for side in sides(config, run, reader, ("val", "test")))
    temperature = fit_temperature(validation.confidences, validation.right)
    trust, score = calibrate(validation, test, temperature), metrics.score(test.texts, test.truths)
    doubled = "none"
    if score.exact_doubled is not None:
        doubled = _share(round(score.exact_doubled * score.n_doubled), score.n_doubled)
    cer = f"{100 * score.cer:.2f} %"
    if score.cer_low is not None:
        cer += f" ({100 * score.cer_low:.2f} to {100 * score.cer_high:.2f})"
    row = (
        *(Path(run.data.params["data"]).name, run.info.run_name, score.n),
        *(_share(round(share * score.n), score.n) for share in (score.exact, score.exact_casefold)),
        *(cer, doubled, f"{100 * trust.ece_uncalibrated:.2f} %", f"{100 * trust.ece:.2f} %", f"{temperature:.2f}"),
        *(len(validation.texts), _accepted(trust.acceptances[-1])),
    )
    return row + (_by_length(test, length) if length is not None else ())


def sides(config: Config, run: Run, reader: Reader, names: Sequence[str]) -> list[CaptchaDataset]:
    """Sides of the run's data, as its split list has them."""
    found = collect(as_trained(config, run), reader.recipe)
    path = download_artifacts(f"runs:/{run.info.run_id}/{SPLIT_FILE}", tracking_uri=record_uri(config))
    with open(path, encoding="utf-8", newline="") as file:
        side_of = {row["file"]: row["split"] for row in csv.DictReader(file)}
    of = [side_of.get(relative_name(sample.path, found.source)) for sample in found.samples]
    chosen = [[place for place, side in enumerate(of) if side == name] for name in names]
    return [CaptchaDataset([found.pictures[i].image for i in p], [found.samples[i] for i in p], None) for p in chosen]


def _by_length(test: Answers, length: int) -> tuple[str, str]:
    """Exact match without the length, and of the likeliest texts that have it."""
    if not isinstance(test.spelling, CTCSpelling):
        return "-", "-"
    greedy = CTCSpelling(test.spelling.charset)
    constraint = of_length(length, length, greedy.charset)
    right = [0, 0]
    for logits, truth in zip(test.logits, test.truths, strict=True):
        right[0] += greedy.texts(logits[None])[0] == truth
        right[1] += greedy.read(logits[None], constraint=constraint)[0].text == truth
    return _share(right[0], len(test.truths)), _share(right[1], len(test.truths))


def _share(successes: int, n: int) -> str:
    low, high = metrics.wilson_interval(successes, n)
    return f"{100 * successes / n:.1f} % ({successes} of {n}; {100 * low:.1f} to {100 * high:.1f})"


def _accepted(found: Acceptance) -> str:
    if found.threshold is None:
        return "no threshold"
    right = _share(found.right, found.accepted) + " right" if found.accepted else "none"
    return f"above {found.threshold:.15g}: {100 * found.accepted / found.n:.1f} % accepted, {right}"


if __name__ == "__main__":
    main()
