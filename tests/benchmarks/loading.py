"""How long captchas take from the disk into memory: the first time, and from the cache; and how much memory they need.

    python -m tests.benchmarks.loading --count 20000

Paints that many pictures of 150 x 40 pixels as files, loads them for a recipe, and scales the figures to 100,000.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from helpers.config import Config
from helpers.data.collection import collect
from helpers.synthetic.captchas import STYLES
from helpers.synthetic.folder import make_captchas

GOAL = 100_000  # pictures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--recipe", default="cnn_gru_ctc")
    parser.add_argument("--style", choices=STYLES, default="clean")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        captchas = make_captchas(Path(folder) / "captchas", options.count, style=options.style)
        config = Config(recipe=options.recipe, data=captchas, work=Path(folder))
        print(f"{options.count} pictures of 150 x 40 pixels, style {options.style}, {os.cpu_count()} cores")
        print(f"| pass | seconds | CPU-seconds | pictures/s | {GOAL} pictures, scaled |")
        print("|---|---|---|---|---|")
        for name in ("first", "from the cache"):
            started, cpu = time.perf_counter(), time.process_time()
            found = collect(config)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            rate = options.count / seconds
            print(f"| {name} | {seconds:.1f} | {cpu:.1f} | {rate:.0f} | {GOAL / rate:.0f} s |")
        held = sum(picture.image.nbytes for picture in found.pictures)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # bytes; Linux counts in KiB
        scaled = held * GOAL / options.count
        print(
            f"images in memory: {held / 1e6:.0f} MB, {scaled / 1e6:.0f} MB for {GOAL}; peak of the process {peak / 1e9:.1f} GB"
        )


if __name__ == "__main__":
    main()
