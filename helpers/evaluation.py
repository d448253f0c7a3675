"""Which model to judge, and on which captchas: the best run of the record, and only images it was not trained on."""

import csv
from dataclasses import replace

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from helpers.config import Config, as_source
from helpers.data import CaptchaDataset, collect, load_data
from helpers.experiment import train
from helpers.pictures import DataError
from helpers.reader import Reader
from helpers.samples import relative_name
from helpers.tracking import best_run, record_name, record_uri
from helpers.transforms import eval_transform


def choose_run(config: Config) -> Run | None:
    """The run with the best validation result; None where `config.model` names a model folder instead.

    Where the record holds no finished run yet, one is trained first with this configuration.
    """
    if config.model is not None:
        return None
    if best_run(config) is None:
        print(f"no finished run in {record_name(config)} yet: training one")
        train(config, load_data(config))
    return best_run(config)


def load_reader(config: Config, run: Run | None) -> Reader:
    """The reader of a run, or of the model folder that `config.model` names."""
    return Reader.load(f"runs:/{run.info.run_id}/model" if run else str(config.model))


def unseen(config: Config, run: Run | None, reader: Reader) -> CaptchaDataset:
    """Captchas that the model may be judged on: the run's own test side, or images that stand in none of its sides.

    They come from `config.data`, else from where the run's data lay. Says what was chosen and why. A model folder
    carries no list of what it was trained on, so that all images are taken, with a warning. Raises DataError where
    every image was used in training.
    """
    if config.data is None and run is None:
        raise DataError("name labelled captchas to judge the model on: CAPTCHA_DATA or Config(data=...)")
    config = _as_trained(config, run)
    found = collect(config, reader.recipe)
    source, samples = found.source, found.samples
    chosen = range(len(samples))
    if run is None:
        print(f"all {len(samples)} images of {source}; whether the model was trained on some of them is not recorded")
    else:
        sides = _split_list(config, run)
        side_of = [sides.get(relative_name(sample.path, source)) for sample in samples]
        own = set(side_of) != {None}
        wanted = "test" if own else None
        print(f"{'the test side' if own else 'images the run has never seen'}: {source}")
        chosen = [index for index, side in enumerate(side_of) if side == wanted]
    if not chosen:
        raise DataError(f"{source} holds no image that the model was not trained on")
    for index in chosen:
        if problem := found.pictures[index].problem:
            print(f"left out: {samples[index].path.name} ({problem})")
    good = [index for index in chosen if not found.pictures[index].problem]
    transform = eval_transform(reader.recipe.mean, reader.recipe.std)
    return CaptchaDataset([found.pictures[i].image for i in good], [samples[i] for i in good], transform)


def _as_trained(config: Config, run: Run | None) -> Config:
    """The configuration with the run's data and the run's way to find texts, where it names none of its own."""
    params = run.data.params if run else {}
    default = Config()
    names = ("label_pattern", "case", "file_column", "label_column")
    as_then = {
        name: params[name] for name in names if name in params and getattr(config, name) == getattr(default, name)
    }
    return replace(config, data=config.data or as_source(params["data"]), **as_then)


def _split_list(config: Config, run: Run) -> dict[str, str]:
    """The side of every file, as the run recorded it."""
    uri = f"runs:/{run.info.run_id}/data/splits.csv"
    path = download_artifacts(uri, tracking_uri=record_uri(config))
    with open(path, encoding="utf-8", newline="") as file:
        return {row["file"]: row["split"] for row in csv.DictReader(file)}
