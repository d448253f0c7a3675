"""The learning curve: how many labelled captchas are enough.

    python -m tests.benchmarks.learning --data FOLDER --counts 50 100 200 400 800 --seeds 0 1 2

Every training tests on the same held-out fifth and learns from the first N of the others, in an order by seed. All N are
trained on; the epoch is chosen on those same N, unaugmented, so that N labelled captchas are all it takes.
"""

from helpers.config import Config
from helpers.data.collection import collect
from helpers.data.module import CaptchaData
from helpers.reading.export import reader_of
from helpers.text import metrics
from helpers.training.trainer import fit
from tests.benchmarks.common import held_out, parse, parser, table


def main() -> None:
    options = parser(__doc__.splitlines()[0], ["conv_ctc"])
    options.add_argument("--counts", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--pretrained", action="store_true", help="begin with the recipe's pretrained weights")
    options = parse(options)
    rows = []
    for recipe in options.recipes:
        found = collect(Config(**options.settings, recipe=recipe, pretrained=options.pretrained))
        for count in options.counts:
            texts, truths, cpu = [], [], 0.0
            for seed in options.seeds:
                config = Config(**options.settings, recipe=recipe, seed=seed, pretrained=options.pretrained)
                data = chosen_on_training(held_out(found, config, 0, options.folds, count), config)
                if len(data.train) < count:
                    print(f"only {len(data.train)} captchas to train on: {count} left out")
                    break
                fitted = fit(config, data)
                cpu += fitted.history[-1]["cpu_seconds"] / len(options.seeds)
                reader = reader_of(fitted.module.network, fitted.module.codec, data.recipe)
                texts += [reading.text for reading in reader.read_prepared(data.test.images)]
                truths += data.test.texts
            else:
                score = metrics.score(texts, truths)
                exact = f"{100 * score.exact:.2f} % ({100 * score.exact_low:.1f} to {100 * score.exact_high:.1f})"
                rows.append(
                    (recipe, count, len(options.seeds), score.n, exact, f"{100 * score.cer:.2f} %", f"{cpu:.0f}")
                )
                print(*rows[-1], sep="  ", flush=True)
    table(("recipe", "labelled images", "seeds", "readings", "exact match (95 %)", "CER", "CPU-s each"), rows)


def chosen_on_training(data: CaptchaData, config: Config) -> CaptchaData:
    """The same data with the training captchas in the place of the validation side."""
    sides = {"train": data.train, "val": data.train, "test": data.test}
    samples = [sample for side in sides.values() for sample in side.samples]
    images = [image for side in sides.values() for image in side.images]
    return CaptchaData(samples, images, [n for n, side in sides.items() for _ in side.samples], config, data.recipe)


if __name__ == "__main__":
    main()
