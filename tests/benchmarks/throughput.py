"""What the loader delivers beside what training consumes, and what training costs as the data grows 1, 4 and 16 times.

    python -m tests.benchmarks.throughput --data FOLDER

CPU-seconds and wall of whole epochs; every ratio is taken within one run. The second epoch of each training counts, the
first pays for what is done once.
"""

import time

from helpers.config import Config
from helpers.data.collection import collect
from helpers.training.trainer import fit, keep_memory
from tests.benchmarks.common import held_out, parse, parser, table

TIMES = (1, 4, 16)


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--epochs-measured", type=int, default=2)
    options = parse(options)
    keep_memory()
    loading, growing = [], []
    for recipe in options.recipes:
        settings = options.settings | {"epochs": options.epochs_measured + 1}
        config = Config(**settings, recipe=recipe)
        found = collect(config)
        most = len(held_out(found, config, 0, 10).train)
        costs = []
        for times in TIMES:
            count = most * times // TIMES[-1]
            data = held_out(found, config, 0, 10, count)
            history = fit(config, data).history
            images = sum(len(texts) for _, texts in data.train_dataloader())
            trained = (history[-1]["cpu_seconds"] - history[0]["cpu_seconds"]) / options.epochs_measured / images
            costs.append(trained)
            wall = images / history[-1]["images_per_s"]
            cells = (recipe, f"{times} x", images, f"{1e3 * trained:.3f}", f"{wall:.2f}")
            growing.append((*cells, f"{trained / costs[0]:.2f}"))
        loader = data.train_dataloader()
        next(iter(loader))
        rounds, seen = 0, 0
        started, cpu = time.perf_counter(), time.process_time()
        while rounds < options.epochs_measured or time.perf_counter() - started < 2:
            seen, rounds = seen + sum(len(texts) for _, texts in loader), rounds + 1
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        cells = (recipe, f"{seen / seconds:.0f}", f"{seen / cpu:.0f}", f"{1 / costs[-1]:.0f}")
        loading.append((*cells, f"{seen / cpu * costs[-1]:.1f}"))
    table(("recipe", "loader, images/s", "loader, images per CPU-s", "training, images per CPU-s", "ratio"), loading)
    header = ("recipe", "data", "images", "training, CPU-ms per image", "seconds per epoch", "cost per image, 1 x = 1")
    table(header, growing)


if __name__ == "__main__":
    main()
