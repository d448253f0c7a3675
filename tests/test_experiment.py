"""What a training says of its own figures: tables that agree with each other, and confidences judged on the right sides."""

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from helpers.config import Config
from helpers.evaluation.answers import Answers, answers_of
from helpers.evaluation.calibration import calibrate, fit_temperature
from helpers.experiment import record_calibration, record_test
from helpers.reading.reader import Reader
from helpers.record.runs import record_folder
from helpers.record.tracking import tracking_uri
from helpers.text.metrics import character_error_rate
from helpers.text.spelling import PositionSpelling

TABLES = ("lengths", "positions", "characters", "errors", "confusions", "reliability", "risk_coverage")
FIGURES = ("confusion_matrix", "confusions", "readings", "reliability", "risk_coverage")


def artifacts(config: Config, run_id: str) -> Path:
    return record_folder(config) / "artifacts" / run_id / "artifacts"


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "tables" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_tells_where_it_is_wrong(journey) -> None:
    config, data, result = journey
    folder = artifacts(config, result.run_id)
    texts = [reading.text for reading in result.readings]
    tables = {name: rows(folder, name) for name in TABLES}
    assert sum(int(row["n"]) for row in tables["lengths"]) == len(data.test)
    assert sum(int(row["n"]) for row in tables["positions"]) == sum(map(len, data.test.texts))
    cer = sum(float(row["cer"]) for row in tables["errors"])
    assert cer == pytest.approx(character_error_rate(texts, data.test.texts))
    assert sum(int(row["n"]) for row in tables["reliability"]) == len(data.test)
    assert int(tables["risk_coverage"][-1]["n"]) == len(data.test)
    for name in (*FIGURES, "looked_at"):
        assert (folder / "figures" / f"{name}.png").is_file(), name
    assert (folder / "tables" / "calibration.txt").read_text(encoding="utf-8") == f"{result.calibration}\n"


def test_temperature_comes_from_validation_and_is_what_the_model_reads_with(journey) -> None:
    config, data, result = journey
    reader = Reader.load(result.model)
    validation = answers_of(reader, data.val)
    assert reader.temperature == result.calibration.temperature != 1
    assert reader.temperature == pytest.approx(fit_temperature(validation.confidences, validation.right), rel=0.01)
    read = reader.read_prepared(data.test.images)
    assert [reading.text for reading in read] == [reading.text for reading in result.readings]
    assert [reading.confidence for reading in read] == pytest.approx([each.confidence for each in result.readings])
    assert result.calibration == calibrate(validation, answers_of(reader, data.test), reader.temperature)
    metrics = MlflowClient(tracking_uri=tracking_uri(record_folder(config))).get_run(result.run_id).data.metrics
    assert metrics.items() >= result.calibration.metrics("test").items()


def test_a_network_that_reads_nothing_says_so(journey) -> None:
    """As the tiny training does: no threshold reaches the precision, in words and not as a zero."""
    _, _, result = journey
    assert result.score.exact == 0, "the tiny network reads captchas by now: use another to test this"
    assert str(result.calibration).count("no threshold makes") == 2
    assert not [name for name in result.calibration.metrics() if "accept" in name]


class Written:
    """Stands in for a run, and keeps what is recorded."""

    def __init__(self) -> None:
        self.all: dict[str, object] = {}

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.all |= values

    def text(self, text: str, path: str) -> None:
        self.all[path] = text

    def figure(self, figure: Figure, path: str) -> None:
        figure.savefig(BytesIO(), dpi=30)
        self.all[path] = figure

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], path: str) -> None:
        assert all(len(row) == len(header) for row in rows)
        self.all[path] = rows


def test_a_perfect_model_has_tables_too(journey) -> None:
    _, data, result = journey
    test, run = answers_of(Reader.load(result.model), data.test), Written()
    test.texts, test.right = data.test.texts, np.ones(len(data.test), dtype=bool)
    assert record_test(run, data, test.readings()).exact == 1
    record_calibration(run, data.test, test, calibrate(test, test, 1.0))
    assert run.all["tables/confusions.csv"] == [] and run.all["test_accept_99_9_share"] == 1
    assert "100 % right on 100 % of the images" in run.all["tables/calibration.txt"]


def test_recipes_without_frames_have_no_picture_of_them(journey) -> None:
    _, data, _ = journey
    captchas, run = data.test, Written()
    logits = np.random.default_rng(0).normal(size=(len(captchas), 5, len(data.charset)))
    test = Answers(PositionSpelling(data.charset, 5), logits, captchas.texts)
    record_calibration(run, captchas, test, calibrate(test, test, 1.0))
    assert "figures/risk_coverage.png" in run.all and "figures/looked_at.png" not in run.all


def test_long_curves_are_thinned_to_their_last_point(journey) -> None:
    generator, run = np.random.default_rng(0), Written()
    truths = ["A"] * 3000
    test = Answers(PositionSpelling("AB", 1), generator.normal(size=(3000, 1, 2)), truths)
    record_calibration(run, journey[1].test, test, calibrate(test, test, 1.0))
    points = run.all["tables/risk_coverage.csv"]
    assert len(points) == 200 and points[0].n == 1 and points[-1].n == 3000
