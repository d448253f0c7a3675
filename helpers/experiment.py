"""The whole journey of one training: data in, a tested model folder and one complete MLflow run out."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from zipfile import BadZipFile

import numpy as np
from matplotlib.figure import Figure
from pytorch_lightning import __version__ as lightning_version
from torch import __version__ as torch_version

from helpers.config import Config, on_kaggle
from helpers.data.dataset import CaptchaDataset
from helpers.data.module import SPLIT_FILE, CaptchaData
from helpers.evaluation import breakdown
from helpers.evaluation.answers import Answers, answers_of
from helpers.evaluation.calibration import (
    Bin,
    Calibration,
    Point,
    calibrate,
    fit_temperature,
    reliability,
    risk_coverage,
)
from helpers.models.weights import save_model
from helpers.output import SPLIT_LIST
from helpers.pictures.view import WHOLE
from helpers.plots import confidence as confidence_plots
from helpers.plots import readings as plots
from helpers.plots.readings import contact_sheet
from helpers.plots.training import curves
from helpers.reading.export import reader_of
from helpers.reading.reader import Reader
from helpers.reading.serving import make_servable
from helpers.record.runs import record_folder, record_link, tracking_server
from helpers.record.tracking import TrackedRun, track
from helpers.sources.names import relative_name
from helpers.text import metrics
from helpers.text.spelling import Reading
from helpers.training import session
from helpers.training.checkpoints import Diverged
from helpers.training.trainer import choose_device, choose_precision, fit, is_helper
from mlruns_tools.fixed_paths import DATABASE, Refused
from mlruns_tools.pack import pack

SHOWN = 12  # pictures in a figure
POINTS = 200  # of a risk-coverage curve in its table
REFRESHED = 600  # seconds after which the zip is made anew


@dataclass(frozen=True)
class Result:
    """A finished training; `score` and `readings` belong to the test side, which was read once, by the saved model."""

    run_id: str
    model: Path  # the model folder
    history: list[dict[str, float]]  # metrics per epoch
    best: dict[str, float]  # the row of the epoch whose weights were kept
    score: metrics.Score
    readings: list[Reading]  # of data.test, in its order
    calibration: Calibration  # how far their confidences can be trusted


def train(config: Config, data: CaptchaData, notebook: str | None = None) -> Result:
    """Trains the configured recipe, tests the weights kept through the reader, and records everything in one MLflow run.

    An interrupted training of the same settings and captchas goes on where it was, in the same run. Where several
    processes train, only the first returns; the others end here. Raises Refused where another training has the work
    folder, Diverged where the loss is no number any more; a script prints either as a sentence.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _say
    if is_helper():
        fit(config, data, resume=session.checkpoint(config))
    with session.alone(config):
        return _train(config, data, notebook)


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: what the reader can mend needs no traceback."""
    if issubclass(kind, (Refused, Diverged)):
        print(f"{kind.__name__}: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _train(config: Config, data: CaptchaData, notebook: str | None) -> Result:
    recipe, facts = data.recipe, _facts(config, data)
    started = time.perf_counter()
    sitting = session.begin(config, facts, data)
    with track(config, f"{recipe.name} seed {config.seed}", sitting.id) as run:
        run.params(facts)
        run.code(notebook)
        _record_data(run, data)
        fitted = fit(config, data, _recorder(config, run), sitting.resume, sitting.id)
        network, codec, device = fitted.module.network, fitted.module.codec, choose_device(config)
        validation = answers_of(reader_of(network, codec, recipe, device, config.case), data.val)
        temperature = fit_temperature(validation.confidences, validation.right)
        model = save_model(config.work / "model", network, codec, recipe, config.case, temperature)
        run.folder(make_servable(model), "model")
        run.figure(curves(fitted.history), "figures/curves.png")
        step = len(fitted.history) if sitting.tested else 0  # what was tested before stays in the history
        run.metrics({f"best_{name}": value for name, value in fitted.best.items() if name.startswith("val")}, step)
        test = answers_of(Reader.load(model, device), data.test)
        readings, calibration = test.readings(temperature), calibrate(validation, test, temperature)
        score = record_test(run, data, readings, step)
        record_calibration(run, data.test, test, calibration, step)
        run.metrics({"train_seconds": time.perf_counter() - started}, step)
        name = data.source.name if isinstance(data.source, Path) else data.source
        print(run.registered({"recipe": recipe.name, "data": name, "n_val": len(data.val)}), flush=True)
    session.pause(config) if fitted.cut_short else session.end(config)
    return Result(run.id, model, fitted.history, fitted.best, score, readings, calibration)


def _recorder(config: Config, run: TrackedRun) -> Callable[[dict[str, float]], None]:
    """Records each epoch, and packs a local record every REFRESHED seconds, so that a session that dies leaves a zip."""
    packed = time.monotonic()

    def record(row: dict[str, float]) -> None:
        nonlocal packed
        run.epoch(row)
        if time.monotonic() - packed > REFRESHED and not tracking_server(config):
            try:
                pack(record_folder(config))
            except (Refused, OSError, BadZipFile) as error:  # no reason to end a training
                print(f"the zip could not be made anew: {error}", flush=True)
            packed = time.monotonic()

    return record


def record_test(run: TrackedRun, data: CaptchaData, readings: Sequence[Reading], step: int = 0) -> metrics.Score:
    """Scores readings of the test side; records metrics, `predictions.csv`, tables and figures of what is right and wrong."""
    truths, texts = data.test.texts, [reading.text for reading in readings]
    score = metrics.score(texts, truths)
    run.metrics(score.metrics("test"), step)
    names = [relative_name(sample.path, data.source) for sample in data.test.samples]
    confidences = [f"{reading.confidence:.4f}" for reading in readings]
    right = [int(text == truth) for text, truth in zip(texts, truths, strict=True)]
    header = ("file", "truth", "reading", "confidence", "right")
    run.table(header, list(zip(names, truths, texts, confidences, right, strict=True)), "predictions.csv")
    run.figure(readings_figure(data.test, readings), "figures/readings.png")
    run.figure(plots.confusion_bars(metrics.confusions(texts, truths)), "figures/confusions.png")
    run.figure(plots.confusion_matrix(texts, truths), "figures/confusion_matrix.png")
    for name, (break_down, row) in breakdown.TABLES.items():
        run.table(row._fields, break_down(texts, truths), f"tables/{name}.csv")
    return score


def record_calibration(
    run: TrackedRun, captchas: CaptchaDataset, test: Answers, calibration: Calibration, step: int = 0
) -> None:
    """Records how far confidences of the test side can be trusted, and where the network looked when it was least sure."""
    run.metrics(calibration.metrics("test"), step)
    run.text(f"{calibration}\n", "tables/calibration.txt")
    temperature = calibration.temperature
    before, after = test.confidences(), test.confidences(temperature)
    run.table(Bin._fields, reliability(after, test.right), "tables/reliability.csv")
    points = risk_coverage(after, test.right)
    shown = np.unique(np.linspace(0, len(points) - 1, min(len(points), POINTS)).round().astype(int))
    run.table(Point._fields, [points[place] for place in shown], "tables/risk_coverage.csv")
    named = {"temperature 1": before, f"temperature {temperature:.2f}": after}
    run.figure(confidence_plots.reliability_diagram(named, test.right), "figures/reliability.png")
    curve = confidence_plots.risk_coverage_curve(after, test.right, calibration.acceptances)
    run.figure(curve, "figures/risk_coverage.png")
    least = int(after.argmin())
    if (frames := test.frames(least, temperature)) is not None:
        run.figure(confidence_plots.looked_at(captchas.images[least], *frames), "figures/looked_at.png")


def readings_figure(test: CaptchaDataset, readings: Sequence[Reading], shown: int = SHOWN) -> Figure:
    """The worst readings first: wrong ones by falling confidence, then right ones by rising confidence."""
    right = [reading.text == text for reading, text in zip(readings, test.texts, strict=True)]
    signed = [reading.confidence if ok else -reading.confidence for ok, reading in zip(right, readings, strict=True)]
    order = sorted(range(len(readings)), key=lambda index: signed[index])
    wrong, fine = [i for i in order if not right[i]], [i for i in order if right[i]]
    chosen = wrong[: max(shown // 2, shown - len(fine))]
    chosen += fine[: shown - len(chosen)]
    return plots.readings_grid(
        [test.images[i] for i in chosen],
        [test.texts[i] for i in chosen],
        [readings[i].text for i in chosen],
        [readings[i].confidence for i in chosen],
    )


def _record_data(run: TrackedRun, data: CaptchaData) -> None:
    run.table(SPLIT_LIST, data.split_rows(), SPLIT_FILE)
    if data.bad:
        run.table(("file", "reason"), data.bad, "data/bad_files.csv")
    if data.audit:
        run.text(data.audit.to_json(), "data/audit.json")
        run.text(f"{data.audit}\n{data}\n", "data/audit.txt")
    run.figure(contact_sheet(data.train.samples, data.train.images), "figures/contact_sheet.png")


def _facts(config: Config, data: CaptchaData) -> dict[str, object]:
    """What a person needs to repeat the training."""
    recipe, device = data.recipe, choose_device(config)
    facts = {
        name: value for name, value in asdict(config).items() if value is not None and name not in ("work", "model")
    }
    facts |= {
        "data": data.source,
        "image_size": "x".join(map(str, recipe.image_size)),
        "aspect": recipe.aspect,
        "crop": "{}-{}".format(*recipe.crop or WHOLE),
        "epochs": recipe.epochs_for(len(data.train)),
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "warmup_share": recipe.warmup_share,
        "small_share": recipe.small_share,
        "charset": data.charset,
        "device": device,
        "precision": choose_precision(config, device),
        "torch": torch_version,
        "pytorch_lightning": lightning_version,
    }
    return facts | {f"n_{side}": len(dataset) for side, dataset in data.sides.items()}


def pack_record(config: Config) -> Path | None:
    """`mlruns.zip` beside `mlruns`: the record as one file to take home. Prints its size and what to run there.

    None where a server keeps the record; then its page is printed. The record of a server that stayed away is packed.
    """
    tracking_server(config)  # or what else the variable holds is said
    try:
        if link := record_link(config):
            print(f"see it on the server: {link}")
            return None
    except ValueError as error:
        if not (record_folder(config) / DATABASE).is_file():
            raise
        print(error)
    packed = pack(record_folder(config))
    print(packed)
    where, name = ("at home", packed.path.name) if on_kaggle() else ("here", packed.path)
    print(f"see it {where}: python notebooks/mlflow_dashboard.py {name}")
    return packed.path
