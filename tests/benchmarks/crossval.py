"""Cross-validation of a recipe: every captcha is tested once, by a model that was trained without its text.

    python -m tests.benchmarks.crossval --data FOLDER --recipe conv_ctc --folds 5

Every model is chosen on the validation side of its fold; the readings of all folds are scored together.
"""

import argparse
import tempfile
import time
from pathlib import Path

from helpers import metrics
from helpers.config import Config
from helpers.data import load_data
from helpers.reader import Reader
from helpers.training import fit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="conv_ctc")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    rows, texts, truths = [], [], []
    with tempfile.TemporaryDirectory() as work:
        for fold in range(options.folds):
            config = Config(
                recipe=options.recipe,
                data=options.data,
                work=Path(work),
                seed=options.seed,
                epochs=options.epochs,
                folds=options.folds,
                fold=fold,
            )
            data = load_data(config)
            started, cpu = time.perf_counter(), time.process_time()
            fitted = fit(config, data)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            reader = Reader(fitted.module.network, fitted.module.codec, data.recipe)
            read = [reading.text for reading in reader.read(data.test.images)]
            right = sum(text == truth for text, truth in zip(read, data.test.texts, strict=True))
            rows.append(
                (fold, len(data.train), len(data.val), f"{right} of {len(read)}", f"{cpu:.0f}", f"{seconds:.0f}")
            )
            texts, truths = texts + read, truths + data.test.texts
    print("\n| fold | training images | validation images | right | CPU-seconds | wall seconds |")
    print("|---" * 6 + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(f"\n{options.recipe}, {options.folds} folds, seed {options.seed}, all together:")
    print(metrics.score(texts, truths))


if __name__ == "__main__":
    main()
