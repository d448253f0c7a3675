"""How long each recipe trains until it reads 95, 98 and 99 % of a held-out fold, beside the CNN-GRU-CTC as first published.

    python -m tests.benchmarks.time_to --data FOLDER --folds 5

CPU-seconds of training, with the held-out fold read after every epoch and those readings not counted; the median over
the folds, "-" where fewer than half of them get there. Nothing is chosen on the held-out fold: it is a stopwatch.
"""

import time
from statistics import median

from helpers.config import Config
from helpers.data.collection import collect
from helpers.training.trainer import fit
from tests.benchmarks import published
from tests.benchmarks.common import held_out, parse, parser, table

SHARES = (0.95, 0.98, 0.99)  # exact match


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--only", type=int, nargs="+", help="these folds of them")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--without-published", action="store_true")
    options = parse(options)
    folds = options.only or range(options.folds)
    rows, times = [], {}
    names = [*options.recipes, *([] if options.without_published else ["as published"])]
    for name in names:
        recipe = published.LIKE if name == "as published" else name
        config = Config(**options.settings, recipe=recipe, seed=options.seed, patience=10**6)
        found = collect(config)
        runs, walls = [], []
        for fold in folds:
            data, started = held_out(found, config, fold, options.folds), time.perf_counter()
            runs.append(published.train(data, config.seed) if name == "as published" else fit(config, data).history)
            walls.append(time.perf_counter() - started)
            reached = [first(runs[-1], share) for share in SHARES]
            print(f"{name}, fold {fold}: {reached} CPU-seconds to {SHARES}", flush=True)
        times[name] = [median(first(history, share) for history in runs) for share in SHARES]
        last = 100 * sum(history[-1]["val_exact"] for history in runs) / len(runs)
        best = 100 * sum(max(row["val_exact"] for row in history) for history in runs) / len(runs)
        cpu, epochs = (median(history[-1][of] for history in runs) for of in ("cpu_seconds", "epoch"))
        figures = [*map(shown, times[name]), f"{epochs:.0f}", f"{cpu:.1f}", f"{median(walls):.1f}"]
        rows.append((name, *figures, f"{last:.2f} %", f"{best:.2f} %"))
    fastest = min((times[name][1], name) for name in names)
    for index, name in enumerate(names):
        ratio = times[name][1] / fastest[0]
        rows[index] += (f"{ratio:.1f}" if ratio < float("inf") else "-",)
    shares = [f"CPU-s to {share:.0%}" for share in SHARES]
    ends = ("epochs", "CPU-s in all", "wall in all", "exact, last", "exact, best", f"to 98 %, {fastest[1]} = 1")
    table(("recipe", *shares, *ends), rows)


def first(history: list[dict[str, float]], share: float) -> float:
    """CPU-seconds until the share was first reached; infinite where it never was."""
    return next((round(row["cpu_seconds"], 1) for row in history if row["val_exact"] >= share), float("inf"))


def shown(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < float("inf") else "-"


if __name__ == "__main__":
    main()
