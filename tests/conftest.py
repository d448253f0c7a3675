"""What several test files share: one tiny training and the service of its model, made once."""

from collections.abc import Iterator

import pytest

from helpers.config import Config
from helpers.data.module import CaptchaData, load_data
from helpers.experiment import Result, train
from helpers.record.registry import CHAMPION, NAME
from helpers.record.runs import record_folder
from helpers.record.tracking import tracking_uri
from tests import service

CHAMPION_URI = f"models:/{NAME}@{CHAMPION}"


@pytest.fixture(scope="session")
def journey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, CaptchaData, Result]:
    """(config, data, result) of a tiny `cnn_gru_ctc` training in a work folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTCHA_WORK", str(tmp_path_factory.mktemp("work")))
        config = Config(recipe="cnn_gru_ctc", val_share=0.6)  # enough to fit a temperature on
    data = load_data(config)
    return config, data, train(config, data, notebook="train_ctc")


@pytest.fixture(scope="session")
def served(journey, tmp_path_factory) -> Iterator[service.Service]:
    """The champion of the record, served as README says it."""
    record = tracking_uri(record_folder(journey[0]))
    folder = tmp_path_factory.mktemp("served")
    with service.served(CHAMPION_URI, folder, MLFLOW_TRACKING_URI=record) as running:
        yield running
