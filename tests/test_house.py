"""The house itself: wings of a few files, arrows that run one way, what imports no torch, the command line, the front door."""

import ast
import json
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import helpers
from helpers.config import PROJECT

HOUSE = PROJECT / "helpers"
WINGS = sorted(path.parent for path in HOUSE.glob("*/__init__.py"))
FILES = sorted(HOUSE.rglob("*.py"))
HEAVY = {"torch", "torchvision", "pytorch_lightning", "mlflow", "matplotlib", "sklearn", "albumentations"}
VERBS = ("audit", "train", "read", "export", "synthetic", "kaggle build")


def test_a_wing_has_3_to_9_files_and_says_what_comes_in_and_goes_out() -> None:
    for wing in WINGS:
        files = [path for path in wing.glob("*.py") if path.name != "__init__.py"]
        said = ast.get_docstring(ast.parse((wing / "__init__.py").read_text(encoding="utf-8")))
        few = 2 if wing.name == "lessons" else 3  # each of which belongs to a notebook
        assert few <= len(files) <= 9 and said and said.endswith("."), wing


def test_no_file_is_several_things() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: count for name, count in lines.items() if count > 280}


def test_there_is_no_circle() -> None:
    graph = grimp.build_graph("helpers", cache_dir=None)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def lint(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def test_arrows_run_one_way_and_a_wrong_one_is_found(tmp_path: Path) -> None:
    shutil.copytree(HOUSE, tmp_path / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    right = lint(tmp_path)
    assert right.returncode == 0 and "Contracts: 1 kept, 0 broken" in right.stdout, right.stdout
    with (tmp_path / "helpers" / "text" / "beam.py").open("a") as file:
        file.write("\nfrom helpers.training import module\n")
    wrong = lint(tmp_path)
    assert wrong.returncode == 1 and "helpers.text is not allowed to import helpers.training" in wrong.stdout


def test_an_import_inside_a_function_says_why() -> None:
    """A comment behind it, or behind the first of several; libraries that are optional or slow need none."""
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            for inner in ast.walk(node) if isinstance(node, ast.FunctionDef) else ():
                if isinstance(inner, ast.ImportFrom) and inner.module.startswith("helpers"):
                    above = (line for line in lines[node.lineno : inner.end_lineno] if re.match(r"\s+from ", line))
                    assert any("#" in line for line in above), f"{path}:{inner.lineno}"


@pytest.mark.parametrize("names", ["text pictures", "reading.reader reading.onnx rows sources.samples"])
def test_reading_an_onnx_file_imports_no_torch(names: str) -> None:
    modules = []
    for name in names.split():
        path = HOUSE / name
        modules += (
            [f"helpers.{name}.{file.stem}" for file in path.glob("*.py")] if path.is_dir() else [f"helpers.{name}"]
        )
    code = f"import importlib, sys\n[importlib.import_module(name) for name in {modules}]\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules)"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}


def test_the_front_door_has_a_dozen_names_loaded_when_used() -> None:
    assert len(helpers.DOOR) <= 12 and helpers.__all__ == [*helpers.DOOR]
    assert [getattr(helpers, name).__name__ for name in helpers.DOOR] == [*helpers.DOOR]
    code = "import sys, json, helpers; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert not HEAVY & set(json.loads(done.stdout))
    with pytest.raises(AttributeError, match="has no 'nothing'; it has Config"):
        _ = helpers.nothing


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_without_anything_heavy(verb: str) -> None:
    code = (
        "import sys\nfrom helpers.__main__ import main\ntry:\n    main(sys.argv[1:])\nfinally:\n    print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, *verb.split(), "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and f"example: python -m helpers {verb.split()[0]}" in " ".join(done.stdout.split())
    assert not (HEAVY | {"numpy", "PIL"}) & set(done.stdout.split())
    options = re.split(r"\n  (?=-)", done.stdout.partition("options:")[2])[1:]
    assert options and all("default" in each or "--help" in each or "--score" in each for each in options)


def test_unknown_arguments_and_verbs_are_refused() -> None:
    for arguments in (["red"], ["read"], ["audit", "x", "--colour"], ["train", "--epoch", "3"], []):
        done = subprocess.run(
            [sys.executable, "-m", "helpers", *arguments], cwd=PROJECT, capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stderr.startswith("usage: "), arguments


@pytest.mark.parametrize("script", sorted((PROJECT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_as_a_script_answers_and_starts_nothing(script: Path, tmp_path: Path) -> None:
    for arguments, status in ((["--help"], 0), (["--no-such"], 2)):
        done = subprocess.run([sys.executable, str(script), *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status and "usage: " in done.stdout + done.stderr
    assert not [*tmp_path.iterdir()]


def test_the_setup_cell_has_five_lines_at_most() -> None:
    for script in (PROJECT / "notebooks").glob("*.py"):
        cell = script.read_text(encoding="utf-8").partition("# %%\nimport glob")[2].partition("\n\n# %%")[0]
        assert 0 < len([line for line in cell.split("\n") if line]) <= 5
