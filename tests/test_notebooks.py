"""The notebooks as files: script, .ipynb and stored outputs belong together, and they stay thin. (nbval runs them.)"""

import ast
import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import v4

from helpers.config import PROJECT, Config
from helpers.data.module import CaptchaData
from helpers.experiment import Result
from tests import refresh
from tests.refresh import LARGEST, Cleaner, problems

SCRIPTS = sorted((PROJECT / "notebooks").glob("*.py"))
NAMES = ["evaluate", "mlflow_dashboard", "train_ctc", "train_resnet18"]
every = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def test_all_four_are_there() -> None:
    assert [script.stem for script in SCRIPTS] == NAMES == sorted(refresh.ORDER)
    assert sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")) == NAMES


def cells(path: Path) -> list[tuple[str, str, list[str]]]:
    notebook = jupytext.read(path) if path.suffix == ".py" else nbformat.read(path, as_version=4)
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


@every
def test_pairs_agree_cell_by_cell(script: Path) -> None:
    assert cells(script) == cells(script.with_suffix(".ipynb")), "refresh with: jupytext --sync notebooks/*.py"


@every
def test_notebooks_are_thin(script: Path) -> None:
    """No def or class, no line magics, no long cells: what needs a name is a helper."""
    code = [source for kind, source, _ in cells(script) if kind == "code"]
    for source in code:
        tree = ast.parse(source)  # a line magic does not parse
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert len(source.splitlines()) <= 15
    assert any("assert " in source for source in code), "a notebook that asserts nothing cannot fail"


@every
def test_prose_has_one_title_headings_in_order_and_says_what_pictures_show(script: Path) -> None:
    prose = [source for kind, source, _ in cells(script) if kind == "markdown"]
    levels = [len(found) for source in prose for found in re.findall(r"(?m)^(#+) ", source)]
    assert cells(script)[0][0] == "markdown" and levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in zip(levels, levels[1:], strict=False))
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", "\n".join(prose))


@every
def test_code_stands_under_prose(script: Path) -> None:
    """No more than two cells of code on end."""
    kinds = "".join(kind[0] for kind, *_ in cells(script))
    assert "ccc" not in kinds and kinds[0] == "m"


@every
def test_prose_states_no_figure_that_a_cell_could_print(script: Path) -> None:
    """Numbers in prose are names only: ResNet18, or what stands in backquotes."""
    prose = "\n".join(source for kind, source, _ in cells(script) if kind == "markdown")
    plain = re.sub(r"`[^`]*`|ResNet18", "", prose)
    assert not re.findall(r"[^\n]*\d[^\n]*", plain)


@every
def test_stored_notebooks_hold_nothing_that_should_not_be_there(script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert problems(notebook) == []
    assert script.with_suffix(".ipynb").stat().st_size <= LARGEST
    before = nbformat.writes(notebook)
    Cleaner(PROJECT / "work").notebook(notebook)
    assert nbformat.writes(notebook) == before, "a run's own times or ids: refresh with python -m tests.refresh"


@every
def test_stored_notebooks_show_what_their_cells_print(script: Path) -> None:
    assert bare(script.with_suffix(".ipynb")) == []


def bare(path: Path) -> list[str]:
    """The cells of a stored notebook that were not run, or show nothing though they should."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [cell.source for cell in code if not cell.execution_count or (shows(cell.source) and not cell.outputs)]


def shows(source: str) -> bool:
    """Whether a cell leaves something to see: it prints, or ends in an expression. Setup shows nothing at home."""
    tree = ast.parse(source)
    prints = any(isinstance(node, ast.Call) and ast.unparse(node.func) == "print" for node in ast.walk(tree))
    return (prints or isinstance(tree.body[-1], ast.Expr)) and "session.prepare()" not in source


# --- the refresh -----------------------------------------------------------------------------------------------------


def printed(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    """A notebook of one cell that was run and printed the text."""
    return v4.new_notebook(
        cells=[v4.new_code_cell("x", execution_count=1, outputs=[v4.new_output("stream", name=name, text=text)])]
    )


RUN, OTHER = "ac17e671f0a64e238013941bd2d69663", "1cc7a5cb1d714ed7b96f23e4c5753c7f"
OUT = Path("/somewhere/out")  # a work folder
NOISY = {  # what a run prints: what is stored
    f"model in {PROJECT}/notebooks/model": "model in notebooks/model",
    f"href='{os.path.relpath(OUT, PROJECT / 'notebooks')}/mlruns.zip'": "href='work/mlruns.zip'",
    f"{OUT}/mlruns.zip  (49.5 MB: 2 run(s), 85 files)": "work/mlruns.zip  (... MB: 2 run(s), 85 files)",
    "epoch 1/9  train_loss 4.2065  val_cer 0.9583  23 images/s  0:07 left  warm-up": (
        "epoch 1/9  train_loss 4.2065  val_cer 0.9583  warm-up"
    ),
    "      right     CER trained, s\nfirst 0 of 6 96.67 %        45\nof 6\n": (
        "      right     CER trained, s\nfirst 0 of 6 96.67 %       ...\nof 6\n"
    ),
    "cpu_seconds      1.045549    0.388663": "cpu_seconds           ...         ...",
    f"data     {OUT}/made\ncase              keep": "data               work/made\ncase              keep",
    f"http://127.0.0.1:34667/runs/{RUN}/ ({RUN[:8]}), {OTHER}, {RUN}": (
        f"http://127.0.0.1:5000/runs/{'1' * 32}/ ({'1' * 8}), {'2' * 32}, {'1' * 32}"
    ),
    f"run ({RUN}) id  {RUN[:8]}": f"run ({'1' * 32}) id  {'1' * 8}",
    "val_exact 0.9790": "val_exact 0.9790",
}


@pytest.mark.parametrize("text", NOISY)
def test_what_differs_from_run_to_run_is_replaced_once_and_for_all(text: str) -> None:
    cleaner = Cleaner(OUT)
    assert cleaner.text(text) == NOISY[text] == cleaner.text(NOISY[text]) == Cleaner(PROJECT / "work").text(NOISY[text])


def test_cleaning_drops_progress_bars_and_the_times_of_cells() -> None:
    notebook = printed("painting:  11%|█         | 650/6000 [00:02<00:16, 317.14it/s]\r", "stderr")
    notebook.cells[0].metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    notebook.metadata["language_info"] = {"version": "3.11.7"}
    assert len(problems(notebook)) == 2
    Cleaner(PROJECT / "work").notebook(notebook)
    assert problems(notebook) == [] and notebook.cells[0].outputs == [] and "language_info" not in notebook.metadata


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("see /tmp/captchas/model", "stdout", "absolute path: /tmp/captchas/model"),
        (r"see C:\Users\somebody", "stdout", "absolute path"),
        ("a warning", "stderr", "stderr: a warning"),
        ("x" * LARGEST, "stdout", "bytes"),
    ],
)
def test_what_should_not_be_stored_is_named(text: str, name: str, why: str) -> None:
    (problem,) = problems(printed(text, name))
    assert why in problem


def test_errors_widgets_and_cells_run_twice_are_named() -> None:
    notebook = printed("fine")
    assert problems(notebook) == []
    notebook.cells[0].execution_count = 7
    notebook.cells[0].outputs.append(v4.new_output("error", ename="ValueError", evalue="no", traceback=[]))
    notebook.cells[0].outputs.append(v4.new_output("display_data", {refresh.WIDGET: {}}))
    assert [problem.split()[-1] for problem in problems(notebook)] == ["no", "cannot", "[7]"]


def test_addresses_are_no_absolute_paths() -> None:
    assert problems(printed("http://127.0.0.1:5000/#/home/x ../home/model work/home/x")) == []


def test_a_refresh_runs_a_notebook_on_a_record_and_stores_what_it_shows(
    journey: tuple[Config, CaptchaData, Result], tmp_path: Path
) -> None:
    config, _, result = journey
    assert refresh.refresh(["mlflow_dashboard"], config.work, tmp_path / "to") == []
    stored = tmp_path / "to" / "notebooks" / "mlflow_dashboard.ipynb"
    script = PROJECT / "notebooks" / "mlflow_dashboard.py"
    assert cells(stored) == cells(script)
    text = stored.read_text(encoding="utf-8")
    assert "1" * 8 in text and result.run_id[:8] not in text and str(config.work) not in text
    assert bare(stored) == []


def test_outputs_for_the_repository_come_from_the_defaults_alone(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        refresh.main(["train_ctc"])  # the tests set CAPTCHA_TINY
    assert "CAPTCHA_TINY" in capsys.readouterr().err
