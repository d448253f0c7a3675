"""The dashboard in a real browser, on a record that a real training wrote, before and after the repair."""

import os
import shutil
from pathlib import Path

import pytest

from helpers.config import Config
from helpers.data import load_data
from helpers.experiment import train
from mlruns_tools.dashboard import Dashboard, _free_port, open_dashboard
from mlruns_tools.fixed_paths import fix_paths
from tests.browser import chromium_page, curves_drawn, download, shows
from tests.record import ODD

WEIGHTS = "model/model_weights.pth"


def test_the_browser_shows_curves_and_weights_after_the_repair_and_no_weights_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("chromium") is None and not os.environ.get("CI"):
        pytest.skip("the browser test needs Debian's chromium on the PATH: apt-get install chromium")
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("CAPTCHA_EPOCHS", "3")
    config = Config(recipe="conv_ctc")
    result = train(config, load_data(config))
    moved = (tmp_path / "work").rename(tmp_path / ODD) / "mlruns"
    weights = (moved.parent / "model" / "model_weights.pth").read_bytes()

    with Dashboard(moved, _free_port(None)) as unrepaired:  # open_dashboard would refuse
        unrepaired.wait_until_it_answers()
        with chromium_page(unrepaired.url) as page:
            assert not shows(page, f"{unrepaired.url}/#/experiments/1/runs/{result.run_id}", WEIGHTS)

    fix_paths(moved)
    with open_dashboard(moved) as dashboard, chromium_page(dashboard.url) as page:
        run_page = f"{dashboard.url}/#/experiments/1/runs/{result.run_id}"
        assert shows(page, run_page, WEIGHTS)
        assert download(page) == weights
        assert curves_drawn(page, run_page, "val_", 3) == 3  # of val_cer, val_exact and val_loss
