"""The notebooks as files: script and .ipynb belong together, and they stay thin. (nbval runs them.)"""

import ast
from pathlib import Path

import jupytext
import nbformat
import pytest

from helpers.config import PROJECT

SCRIPTS = sorted((PROJECT / "notebooks").glob("*.py"))
NAMES = ["evaluate", "mlflow_dashboard", "train_ctc", "train_resnet18"]


def test_all_four_are_there() -> None:
    assert [script.stem for script in SCRIPTS] == NAMES
    assert sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")) == NAMES


def cells(path: Path) -> list[tuple[str, str, list[str]]]:
    notebook = jupytext.read(path) if path.suffix == ".py" else nbformat.read(path, as_version=4)
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_pairs_agree_cell_by_cell(script: Path) -> None:
    assert cells(script) == cells(script.with_suffix(".ipynb")), "refresh with: jupytext --sync notebooks/*.py"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebooks_are_thin(script: Path) -> None:
    """No def or class, no line magics: what needs a name is a helper."""
    code = [source for kind, source, _ in cells(script) if kind == "code"]
    for source in code:
        tree = ast.parse(source)  # a line magic does not parse
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert any("assert " in source for source in code), "a notebook that asserts nothing cannot fail"
