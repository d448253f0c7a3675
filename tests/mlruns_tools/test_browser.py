"""The dashboard in a real browser, on a record that a real training wrote, before and after the repair."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from helpers.config import PROJECT, Config
from helpers.data.module import load_data
from helpers.experiment import train
from mlruns_tools.dashboard import Dashboard, _free_port, open_dashboard
from mlruns_tools.fixed_paths import fix_paths, look
from tests.browser import chromium_page, curves_drawn, download, shows
from tests.records import ODD

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

    with Dashboard(look(moved), _free_port(None)) as unrepaired:  # open_dashboard would refuse
        unrepaired.wait_until_it_answers()
        with chromium_page(unrepaired.url) as page:
            assert not shows(page, f"{unrepaired.url}/#/experiments/1/runs/{result.run_id}", WEIGHTS)

    fix_paths(moved)
    with open_dashboard(moved) as dashboard, chromium_page(dashboard.url) as page:
        run_page = f"{dashboard.url}/#/experiments/1/runs/{result.run_id}"
        assert shows(page, run_page, WEIGHTS)
        assert download(page) == weights
        assert curves_drawn(page, run_page, "val_", 3) == 3  # of val_cer, val_exact and val_loss


def test_what_a_server_left_zipped_by_hand_is_shown_by_one_command(tmp_path: Path) -> None:
    """`mlflow server` with its own options, on SQLite: artifacts in `mlartifacts`, a folder above them all in the zip."""
    if shutil.which("chromium") is None and not os.environ.get("CI"):
        pytest.skip("the browser test needs Debian's chromium on the PATH: apt-get install chromium")
    folder = tmp_path / "written" / "project-main"
    folder.mkdir(parents=True)
    run = logged_over_http(folder)
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "written")
    shutil.rmtree(tmp_path / "written")
    (tmp_path / ODD).mkdir()
    archive = Path(shutil.move(tmp_path / "archive.zip", tmp_path / ODD))

    command = [sys.executable, PROJECT / "notebooks" / "mlflow_dashboard.py", archive, "--no-browser"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAPTCHA_")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as shown:
        lines = []
        for line in shown.stdout:
            lines.append(line)
            if line.startswith("Open "):
                break
        url, _, rest = lines[-1].split()[1].partition("/#/")
        try:
            with chromium_page(url) as page:
                run_page = f"{url}/#/{rest.partition('?')[0]}/{run}"
                assert shows(page, run_page, WEIGHTS)
                assert download(page) == b"weights"
        finally:
            shown.send_signal(signal.SIGINT)
            assert shown.wait(60) == 0
    assert len(lines) <= 6 and "MLflow finds 1 of 1 run(s)" in "".join(lines), lines


def logged_over_http(folder: Path) -> str:
    """The id of a run with one file, logged to a server that ran in the folder."""
    port = _free_port(None)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--port",
        str(port),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder.parent.parent / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            assert server.poll() is None, (folder.parent.parent / "log").read_text()
            time.sleep(0.2)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        run = client.create_run(client.create_experiment("served")).info
        assert run.artifact_uri.startswith("mlflow-artifacts:/")
        (folder.parent.parent / "model_weights.pth").write_bytes(b"weights")
        client.log_artifact(run.run_id, str(folder.parent.parent / "model_weights.pth"), "model")
        client.set_terminated(run.run_id)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert (folder / "mlartifacts").is_dir() and not (folder / "mlruns").exists()
    return run.run_id
