"""How right a recipe reads: k-fold cross-validation, or a fixed split, over several seeds.

    python -m tests.benchmarks.accuracy --data FOLDER --recipes conv_ctc --folds 5 --seeds 0 1
    python -m tests.benchmarks.accuracy --data FOLDER --recipes conv_ctc --seeds 0 1 2           # the seed's own split
    python -m tests.benchmarks.accuracy --data FOLDER/train --test FOLDER/val --seeds 0          # a test set of its own
    python -m tests.benchmarks.accuracy --data synthetic:often=O0,... --test synthetic:...       # of which the test side

With folds every captcha is tested once, by a model that was trained without its text. A model is the best epoch on its
validation side; test captchas are read once per model. CPU-seconds are those of the training alone. Of a synthetic test
set only the test side is read: no text of it stands on another side of any set, with the same seed and shares.
"""

import time
from pathlib import Path

from helpers.config import SYNTHETIC, Config
from helpers.data.module import load_data
from helpers.data.splits import split
from helpers.reading.export import reader_of
from helpers.sources.samples import find_samples
from helpers.synthetic.captchas import Synthetic
from helpers.text import metrics
from helpers.training.trainer import choose_device, fit
from tests.benchmarks.common import parse, parser, table


def captchas_to_test(source: str, config: Config) -> tuple[list[Path] | list[bytes], list[str]]:
    """(pictures, texts) of a labelled folder, or of the test side of synthetic captchas."""
    if not source.startswith(SYNTHETIC):
        samples = find_samples(Path(source), config.label_pattern, config.case)
        return [sample.path for sample in samples], [sample.text for sample in samples]
    spec = Synthetic.parse(source)
    sides = split(spec.texts(), config.seed, config.val_share, config.test_share)
    found = zip(spec.pictures(), spec.texts(), sides, strict=True)
    kept = [(picture, text) for picture, text, side in found if side == "test"]
    return [picture for picture, _ in kept], [text for _, text in kept]


def main() -> None:
    options = parser(__doc__.splitlines()[0], ["conv_ctc"])
    options.add_argument("--folds", type=int)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--test", help="a labelled folder, or synthetic:..., to test on instead of a part of the data")
    options.add_argument("--wrong", type=int, default=20, help="wrong readings to show")
    options = parse(options)
    for recipe in options.recipes:
        rows, texts, truths = [], [], []
        for seed in options.seeds:
            for fold in range(options.folds or 1):
                config = Config(**options.settings, recipe=recipe, seed=seed, folds=options.folds, fold=fold)
                data = load_data(config)
                started = time.perf_counter()
                fitted = fit(config, data)
                seconds = time.perf_counter() - started
                reader = reader_of(fitted.module.network, fitted.module.codec, data.recipe, choose_device(config))
                if options.test:
                    pictures, known = captchas_to_test(options.test, config)
                    readings = reader.read(pictures)
                else:
                    readings, known = reader.read_prepared(data.test.images), data.test.texts
                read = [reading.text for reading in readings]
                score = metrics.score(read, known)
                rows.append(
                    (
                        *(seed, fold if options.folds else "-", len(data.train), len(data.val)),
                        f"{int(fitted.best['epoch'])} of {len(fitted.history)}",
                        f"{round(score.exact * score.n)} of {score.n} ({100 * score.exact:.2f} %)",
                        f"{100 * score.exact_casefold:.2f} %",
                        *(f"{fitted.history[-1]['cpu_seconds']:.0f}", f"{seconds:.0f}"),
                    )
                )
                print(*rows[-1], sep="  ", flush=True)
                texts, truths = texts + read, truths + known
        size = "{1} x {0}".format(*data.recipe.image_size)
        weights = sum(parameter.numel() for parameter in fitted.module.parameters())
        print(f"\n{recipe}, {weights} weights, pictures of {size} pixels, columns {data.recipe.crop}")
        header = ("seed", "fold", "training", "validation", "best epoch", "right", "case-folded", "CPU-seconds", "wall")
        table(header, rows)
        print(f"\nall together:\n{metrics.score(texts, truths)}")
        wrong = [f"{truth} as {text!r}" for truth, text in zip(truths, texts, strict=True) if truth != text]
        print(f"wrong: {', '.join(wrong[: options.wrong])}")
        print("confused most:", dict(metrics.confusions(texts, truths).most_common(12)))


if __name__ == "__main__":
    main()
