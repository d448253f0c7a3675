"""Which model to judge, and on which captchas: the best run of the record, and only images it was not trained on."""

import csv
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from helpers.config import Config
from helpers.data import CaptchaDataset, find_samples, load_data, relative_name
from helpers.experiment import train
from helpers.pictures import DataError, decode
from helpers.reader import Reader
from helpers.tracking import best_run, record_folder, tracking_uri
from helpers.transforms import eval_transform


def choose_run(config: Config) -> Run | None:
    """The run with the best validation result; None where `config.model` names a model folder instead.

    Where the record holds no finished run yet, one is trained first with this configuration.
    """
    if config.model is not None:
        return None
    if best_run(config) is None:
        print(f"no finished run in {record_folder(config)} yet: training one")
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
    source = config.data or Path(run.data.params["data"])
    pattern = config.label_pattern or (run.data.params.get("label_pattern") if run else None)
    samples = find_samples(source, pattern)
    if run is None:
        print(f"all {len(samples)} images of {source}; whether the model was trained on some of them is not recorded")
    else:
        sides = _split_list(config, run)
        side_of = {sample.path: sides.get(relative_name(sample.path, source)) for sample in samples}
        own = set(side_of.values()) != {None}
        wanted = "test" if own else None
        print(f"{'the test side' if own else 'images the run has never seen'}: {source}")
        samples = [sample for sample in samples if side_of[sample.path] == wanted]
    if not samples:
        raise DataError(f"{source} holds no image that the model was not trained on")
    images, bad = decode([sample.path for sample in samples], reader.recipe.image_size, reader.recipe.channels)
    for index, reason in bad.items():
        print(f"left out: {samples[index].path.name} ({reason})")
    good = [index for index in range(len(samples)) if index not in bad]
    transform = eval_transform(reader.recipe.mean, reader.recipe.std)
    return CaptchaDataset(images[good], [samples[index] for index in good], transform)


def _split_list(config: Config, run: Run) -> dict[str, str]:
    """The side of every file, as the run recorded it."""
    uri = f"runs:/{run.info.run_id}/data/splits.csv"
    path = download_artifacts(uri, tracking_uri=tracking_uri(record_folder(config)))
    with open(path, encoding="utf-8", newline="") as file:
        return {row["file"]: row["split"] for row in csv.DictReader(file)}
