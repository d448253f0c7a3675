"""Sessions on Kaggle as tests/rehearsal.py acts them out; the environment that it makes takes minutes and 8 GB for a while.

Where none can be acted out the tests are skipped, with CI=1 they fail. REHEARSAL_ENVIRONMENT names a folder that keeps the
environment.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.kaggle.build import build
from helpers.kaggle.packages import normal, requirements
from tests import rehearsal


@pytest.fixture(scope="module")
def image() -> Iterator[rehearsal.Image]:
    if reason := rehearsal.why_not():
        (pytest.fail if os.environ.get("CI") == "1" else pytest.skip)(f"no rehearsal here: {reason}")
    with tempfile.TemporaryDirectory() as folder:  # pytest keeps its own folders, three times 8 GB
        yield rehearsal.Image(Path(os.environ.get("REHEARSAL_ENVIRONMENT", folder)))


def test_all_layouts_networks_and_notebooks_are_among_the_sessions() -> None:
    whole = {(session.notebook, session.layout, session.internet) for session in rehearsal.ALL}
    assert len(whole) == len(rehearsal.ALL) == 8
    assert {session.kind for session in rehearsal.ALL} == {"Batch", "Interactive"}
    for part in (lambda session: session.notebook, lambda session: session.layout, lambda session: session.internet):
        assert {part(session) for session in rehearsal.FEW} == {part(session) for session in rehearsal.ALL}


def test_the_pins_change_no_package_of_the_image(image: rehearsal.Image) -> None:
    lines = rehearsal.IMAGE.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert image.versions().items() >= {normal(name): version for name, version in pins.items()}.items()
    wanted = {f"{normal(name)}=={version}" for name, version in (line.split("==") for line in requirements())}
    assert {*image.resolve()} == wanted


@pytest.fixture(scope="module")
def built(image: rehearsal.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build("somebody", [], folder)
    return folder


@pytest.mark.parametrize("session", rehearsal.FEW, ids=str)
def test_a_session_leaves_a_record_that_is_read_at_home(
    image: rehearsal.Image, built: Path, tmp_path: Path, session: rehearsal.Session
) -> None:
    print(rehearsal.act(session, image, built, tmp_path).check())


def test_a_session_with_nothing_to_install_from_says_what_to_do(
    image: rehearsal.Image, built: Path, tmp_path: Path
) -> None:
    outcome = rehearsal.act(rehearsal.FEW[0], image, built, tmp_path, wheels=False)
    (error,) = [output for output in outcome.outputs if output["output_type"] == "error"]
    assert error["evalue"].startswith("cannot install mlflow-skinny") and "switch Internet on" in error["evalue"]
    assert outcome.after == outcome.before


def test_a_session_that_failed_does_not_pass(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": "1 / 0", "execution_count": 1}
    error = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "", "traceback": []}
    text = {"output_type": "stream", "name": "stdout", "text": "x" * rehearsal.OUTPUT_LIMIT}
    for outputs in ([error], [text], []):
        content = rehearsal.json.dumps({"cells": [cell | {"outputs": outputs}]})
        (tmp_path / "__notebook__.ipynb").write_text(content, encoding="utf-8")
        outcome = rehearsal.Outcome(rehearsal.FEW[0], tmp_path, {}, {}, 1.0, "log")
        with pytest.raises(AssertionError):
            outcome.check()
