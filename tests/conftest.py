"""What several test files share: one tiny training, made once."""

import pytest

from helpers.config import Config
from helpers.data import CaptchaData, load_data
from helpers.experiment import Result, train


@pytest.fixture(scope="session")
def journey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, CaptchaData, Result]:
    """(config, data, result) of a tiny `cnn_gru_ctc` training in a work folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTCHA_WORK", str(tmp_path_factory.mktemp("work")))
        config = Config(recipe="cnn_gru_ctc", val_share=0.6)  # enough to fit a temperature on
    data = load_data(config)
    return config, data, train(config, data, notebook="train_ctc")
