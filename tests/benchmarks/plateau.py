"""How soon a CTC recipe leaves the blank plateau, by length of the warm-up and by seed; one row per training.

    python -m tests.benchmarks.plateau --data FOLDER --warmups 0 0.03 0.1 --seeds 0 1 2 --epochs 30

Every row comes from the validation side; the test side is read only with --test.
"""

import argparse
import tempfile
import time
from pathlib import Path

from helpers.config import Config
from helpers.data.module import load_data
from helpers.reading.export import reader_of
from helpers.text import metrics
from helpers.training.trainer import fit


def first_epoch(history: list[dict[str, float]], share: float) -> str:
    """The first epoch, counted from 1, whose validation exact match reaches the share."""
    return next((str(int(row["epoch"])) for row in history if row["val_exact"] >= share), "-")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="cnn_gru_ctc")
    parser.add_argument("--warmups", type=float, nargs="+", default=[0, 0.03, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for warmup in options.warmups:
            config = Config(
                recipe=options.recipe,
                data=options.data,
                work=Path(tempfile.mkdtemp()),
                seed=seed,
                epochs=options.epochs,
                warmup_share=warmup,
                learning_rate=options.learning_rate,
            )
            data = load_data(config)
            started = time.process_time()
            fitted = fit(config, data)
            seconds = time.process_time() - started
            row = [seed, warmup, *(first_epoch(fitted.history, share) for share in (0.01, 0.5, 0.9, 0.97))]
            row += [f"{fitted.best['val_exact']:.4f}", f"{seconds:.0f}"]
            if options.test:
                reader = reader_of(fitted.module.network, fitted.module.codec, data.recipe)
                texts = [reading.text for reading in reader.read_prepared(data.test.images)]
                row.append(f"{metrics.exact_match(texts, data.test.texts):.4f} of {len(texts)}")
            rows.append(row)
            print("row", *row, flush=True)
    print("\n| seed | warm-up share | epoch of 1 % | 50 % | 90 % | 97 % | best val_exact | CPU-seconds | test_exact |")
    print("|---" * 9 + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
