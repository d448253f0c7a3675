"""A Kaggle session acted out in folders: attached captchas found, what the image lacks installed; and what is uploaded."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import requests

from helpers.__main__ import main
from helpers.config import PROJECT, Config
from helpers.data import collection
from helpers.kaggle import build as kaggle_build
from helpers.kaggle import inputs as kaggle
from helpers.kaggle import packages, session
from helpers.kaggle.build import NOTEBOOKS, TRAINING, fetch_wheels, needed_files
from helpers.kaggle.inputs import attached_wheels
from helpers.kaggle.packages import install, missing_packages, normal
from helpers.kaggle.session import prepare
from helpers.sources.attached import choose_data
from helpers.sources.samples import find_samples
from mlruns_tools.fixed_paths import fix_paths
from tests import captchas
from tests.records import sqlite_record

LAYOUTS = ["captchas", "datasets/somebody/captchas"]  # where Kaggle mounted a data set before and mounts it now
PINS = dict(line.split("==") for line in packages.requirements())


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", ["", "captchas", "captchas/captchas", "train", "captchas/train"])
@pytest.mark.parametrize("name", ["AB12.png", "AB12.JPG"])
def test_attached_data_is_found(tmp_path: Path, layout: str, inside: str, name: str) -> None:
    touch(tmp_path / layout / "README.txt")
    touch(tmp_path / layout / inside / name)
    assert choose_data(tmp_path)[0] == tmp_path / layout


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("own", ["a-project", "datasets/somebody/a-project", "a-project/captcha-ocr"])
def test_the_projects_own_copy_is_passed_over(tmp_path: Path, layout: str, own: str) -> None:
    touch(tmp_path / own / "helpers" / "config.py")
    touch(tmp_path / own / "assets" / "figure.png")
    assert choose_data(tmp_path)[0] is None
    touch(tmp_path / layout / "AB12.png")
    assert choose_data(tmp_path)[0] == tmp_path / layout


def test_what_holds_no_captchas_is_passed_over(tmp_path: Path) -> None:
    assert choose_data(tmp_path / "missing") == choose_data(tmp_path)
    assert choose_data(tmp_path)[0] is None and "NO DATA SET IS ATTACHED" in choose_data(tmp_path)[1]
    touch(tmp_path / "stray.png")
    captchas.table(tmp_path / "a-table" / "rows.csv", [("0001.png", "0001")])
    touch(tmp_path / "datasets" / "somebody" / "a-model" / "weights.pth")
    touch(tmp_path / "a-zip" / "broken.zip")
    captchas.pack(captchas.table(tmp_path / "rows" / "rows.csv", []).parent, tmp_path / "a-zip" / "of-tables.zip")
    touch(tmp_path / "notebooks" / "somebody" / "training" / "figure.png")
    touch(tmp_path / "training" / "mlruns" / "artifacts" / "figure.png")
    touch(tmp_path / "training" / "mlruns.zip")
    chosen, why = choose_data(tmp_path)
    assert chosen is None and "a-model" in why and "synthetic" in why
    touch(tmp_path / "captchas" / "AB12.png")
    assert choose_data(tmp_path)[0] == tmp_path / "captchas"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_table_of_the_pictures_is_taken(tmp_path: Path, layout: str) -> None:
    folder = captchas.write_all(tmp_path / layout / "pictures", range(3)).parent
    captchas.table(folder / "counts.csv", [("3", "png")], ("count", "kind"))
    assert choose_data(tmp_path)[0] == folder
    rows = [(f"pictures/{gray:04d}.png", f"AB{gray}") for gray in range(3)]
    table = captchas.table(folder / "labels.csv", rows)
    chosen, why = choose_data(tmp_path)
    assert chosen == table and "table" in why
    assert [sample.text for sample in find_samples(chosen)] == ["AB0", "AB1", "AB2"]
    captchas.table(folder / "other.csv", rows, ("Filename", "Text"))
    assert choose_data(tmp_path)[0] == folder  # of two, neither


def test_a_table_that_does_not_lie_above_the_pictures_is_not_taken(tmp_path: Path) -> None:
    captchas.write_all(tmp_path / "set" / "pictures", range(3))
    captchas.table(tmp_path / "set" / "tables" / "labels.csv", [("0001.png", "AB")])
    assert choose_data(tmp_path)[0] == tmp_path / "set"


@pytest.mark.parametrize("labelled", [False, True])
def test_pictures_in_a_zip_are_found(tmp_path: Path, labelled: bool) -> None:
    folder = captchas.write_all(tmp_path / "made", range(3))
    if labelled:
        captchas.table(folder / "labels.csv", [(f"{gray:04d}.png", f"AB{gray}") for gray in range(3)])
    archive = tmp_path / "input" / "captchas" / "all.zip"
    archive.parent.mkdir(parents=True)
    captchas.pack(folder, archive)
    chosen = choose_data(tmp_path / "input")[0]
    assert chosen == (archive / "labels.csv" if labelled else archive)
    assert [sample.text for sample in find_samples(chosen)] == [f"AB{n}" if labelled else f"000{n}" for n in range(3)]


def test_of_several_data_sets_the_same_one_is_taken_every_time_and_the_others_named(tmp_path: Path) -> None:
    for name in ("b", "c", "datasets/somebody/a"):
        touch(tmp_path / name / "AB12.png")
    chosen, why = choose_data(tmp_path)
    assert chosen == tmp_path / "b" and "first by its name" in why and "CAPTCHA_DATA" in why
    assert str(tmp_path / "c") in why and str(tmp_path / "datasets/somebody/a") in why
    touch(tmp_path / "my-Captchas" / "AB12.png")
    chosen, why = choose_data(tmp_path)
    assert chosen == tmp_path / "my-Captchas" and "called after captchas" in why


def test_a_data_set_under_two_names_is_one(tmp_path: Path) -> None:
    there = touch(tmp_path / "datasets" / "somebody" / "captchas" / "AB12.png").parent
    (tmp_path / "captchas").symlink_to(there)
    assert len(kaggle.mounts(tmp_path)) == 1 and "attached too" not in choose_data(tmp_path)[1]


def test_a_look_into_a_data_set_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in range(12):
        for file in range(30):
            touch(tmp_path / "captchas" / f"{folder:02d}" / "deep" / f"{file:04d}.png")
    monkeypatch.setattr(kaggle, "ENTRIES", 20)
    monkeypatch.setattr(kaggle, "FOLDERS", 3)
    listed = []
    monkeypatch.setattr(kaggle.os, "scandir", lambda place, real=os.scandir: listed.append(place) or real(place))
    assert choose_data(tmp_path)[0] == tmp_path / "captchas"
    inside = [place for place in listed if Path(place) != tmp_path]
    assert len(inside) == 1 + 3 + 3 and len(list(kaggle.files_of(tmp_path / "captchas"))) == 3 * 20
    monkeypatch.setattr(kaggle, "LEVELS", 2)
    assert choose_data(tmp_path)[0] is None


@pytest.fixture
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mlruns.zip of a training, no longer where it was written."""
    return sqlite_record(tmp_path_factory) / "mlruns.zip"


@pytest.mark.parametrize("place", ["notebooks/somebody/training", "training", "datasets/somebody/record/training"])
def test_the_record_of_an_earlier_notebook_is_brought_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, record: Path, place: str
) -> None:
    attached = touch(tmp_path / "input" / place / "mlruns.zip")
    attached.write_bytes(record.read_bytes())
    work = tmp_path / "work"
    work.mkdir()
    session.bring_record(work, tmp_path / "input")
    assert not list(work.iterdir())  # at home nothing is done
    monkeypatch.setattr(session, "on_kaggle", lambda: True)
    session.bring_record(work, tmp_path / "missing")
    assert not list(work.iterdir())
    session.bring_record(work, tmp_path / "input")
    assert str(attached) in capsys.readouterr().out and [*attached.parent.iterdir()] == [attached]
    assert not fix_paths(work / "mlruns", dry_run=True).changed.total()
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    session.bring_record(work, tmp_path / "input")
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before
    assert capsys.readouterr().out == ""


def test_attached_data_is_the_source_on_kaggle_unless_data_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(collection, "on_kaggle", lambda: True)
    monkeypatch.setattr(collection, "choose_data", lambda: (tmp_path / "captchas", "these, since"))
    assert collection.find_source(Config()) == tmp_path / "captchas"
    assert "these, since" in capsys.readouterr().out
    assert collection.find_source(Config(data=tmp_path / "named")) == tmp_path / "named"
    assert collection.find_source(Config(data="synthetic:count=20")) == "synthetic:count=20"
    monkeypatch.setattr(collection, "choose_data", lambda: choose_data(tmp_path))
    monkeypatch.setattr(collection, "make_captchas", lambda folder, *_, **__: folder)
    assert "synthetic" in collection.find_source(Config()).name
    assert "NO DATA SET IS ATTACHED" in capsys.readouterr().out


# --- what the image lacks --------------------------------------------------------------------------------------------


def test_pins_are_exact_and_those_of_the_other_requirements() -> None:
    assert len(PINS) == len(packages.requirements()) >= 3
    at_home = dict(line.split("==") for line in (PROJECT / "requirements.txt").read_text().splitlines() if "==" in line)
    assert PINS["mlflow-skinny"] == at_home["mlflow"]  # a newer one upgrades the record, an older cannot open it
    assert PINS["captcha"] == at_home["captcha"]


def test_each_pin_names_the_files_that_may_be_installed() -> None:
    for line, hashes in packages.pins().items():
        assert len(hashes) in (1, len(kaggle_build.PYTHONS) + 1) and line.count("==") == 1  # one wheel, or one a Python
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)


def test_pip_takes_no_file_of_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel of the right name and version, in an attached folder; the index is out of reach."""
    with zipfile.ZipFile(tmp_path / "captcha-0.7.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("captcha-0.7.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: captcha\nVersion: 0.7.1\n")
        wheel.writestr(
            "captcha-0.7.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("captcha-0.7.1.dist-info/RECORD", "")
    content = sha256((tmp_path / "captcha-0.7.1-py3-none-any.whl").read_bytes()).hexdigest()
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", f"--find-links={tmp_path}"]
    command += ["--ignore-installed", "--dry-run", "--disable-pip-version-check"]
    for hashes, taken in ((packages.pins()["captcha==0.7.1"], False), ({content}, True)):
        monkeypatch.setattr(packages, "pins", lambda hashes=hashes: {"captcha==0.7.1": hashes})
        with packages.exactly(["captcha==0.7.1"]) as files:
            done = subprocess.run([*command, *files], capture_output=True, text=True)
        assert (done.returncode == 0) == taken, done.stderr
        assert taken or "DO NOT MATCH THE HASHES" in done.stderr


def test_the_image_and_the_pins_hold_all_that_the_notebooks_import() -> None:
    lines = (PROJECT / "tests" / "kaggle-image.txt").read_text(encoding="utf-8").splitlines()
    image = {normal(line.split("==")[0]) for line in lines if line and not line.startswith("#")}
    pins = {normal(name) for name in PINS}
    assert not image & pins
    owners = metadata.packages_distributions()
    files = {file for name in NOTEBOOKS for file in needed_files(name) if file.endswith(".py")}
    files.remove("helpers/reading/onnx.py")  # imported for `.onnx` files alone; it names the packages that it lacks
    trees = [ast.parse((PROJECT / file).read_text(encoding="utf-8")) for file in files]
    modules = {
        name.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    modules |= {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {*kaggle_build.PACKAGES}
    assert {"torch", "mlflow", "captcha", "simplejpeg"} <= tops
    assert not [top for top in tops if not {normal(owner) for owner in owners[top]} & (image | pins)]


def test_missing_packages_are_those_of_which_no_version_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "captcha" in packages.installed()
    monkeypatch.setattr(packages, "installed", lambda: {"captcha": "0.0.1", "databricks-sdk": "1", "torch": "2"})
    assert missing_packages() == [
        line for line in packages.requirements() if line.split("==")[0] not in ("captcha", "databricks-sdk")
    ]


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A pip that installs into `.there`, from `.sources` only ("wheels", "index"); what it was asked for is `.asked`."""
    state = SimpleNamespace(there={"torch": "2.10.0"}, sources=["wheels", "index"], asked=[], spoil={})

    def run(command: list[str], **_: object) -> SimpleNamespace:
        state.asked.append(command)
        assert "--no-deps" in command and "--require-hashes" in command
        if ("wheels" if "--no-index" in command else "index") not in state.sources:
            return SimpleNamespace(returncode=1, stderr="no such package")
        wanted = Path(command[command.index("-r") + 1]).read_text().splitlines()
        assert all(line.split()[1:] for line in wanted)  # each with hashes
        state.there |= dict(line.split()[0].split("==") for line in wanted) | state.spoil
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(packages.subprocess, "run", run)
    monkeypatch.setattr(packages, "installed", lambda: dict(state.there))
    monkeypatch.setattr(session, "installed", lambda: dict(state.there))
    monkeypatch.setattr(packages, "needed_by", lambda lines: {"torch"})
    monkeypatch.setattr(packages, "attached_wheels", lambda: [tmp_path])
    return state


def test_attached_wheels_go_before_the_index(
    pip: SimpleNamespace, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    install(["captcha==0.7.1"])
    assert len(pip.asked) == 1 and f"--find-links={tmp_path}" in pip.asked[0] and pip.there["captcha"] == "0.7.1"
    assert str(tmp_path) in capsys.readouterr().out


def test_the_index_serves_what_attached_wheels_do_not(
    pip: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pip.sources = ["index"]
    install(["captcha==0.7.1"])
    assert len(pip.asked) == 2 and "from the index" in capsys.readouterr().out
    monkeypatch.setattr(packages, "attached_wheels", list)
    install(["rapidfuzz==3.14.6"])
    assert len(pip.asked) == 3 and "--no-index" not in pip.asked[2]


def test_one_sentence_says_how_to_get_what_cannot_be_installed(pip: SimpleNamespace) -> None:
    pip.sources = []
    with pytest.raises(RuntimeError, match="cannot install captcha==0.7.1: switch Internet on.*attach the data set"):
        install(["captcha==0.7.1"])


def test_an_installation_that_changes_or_lacks_a_package_is_an_error(
    pip: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip.spoil = {"torch": "2.11.0"}
    with pytest.raises(RuntimeError, match="torch 2.10.0 -> 2.11.0"):
        install(["captcha==0.7.1"])
    pip.spoil = {}
    monkeypatch.setattr(packages, "needed_by", lambda lines: {"torch", "sqlparse"})
    with pytest.raises(RuntimeError, match="lacks sqlparse"):
        install(["captcha==0.7.1"])


def test_what_a_package_needs_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["Pillow>=9", "sql_parse<1,>=0.4", 'boto3; extra == "aws"', "importlib_metadata!=4.7,<9"]
    monkeypatch.setattr(packages.metadata, "requires", lambda name: {"one": needs, "two": None}[name])
    assert packages.needed_by(["one==1", "two==2"]) == {"pillow", "sql-parse", "importlib-metadata"}


def test_wheels_are_found_in_both_layouts(tmp_path: Path) -> None:
    here = touch(tmp_path / "wheels" / "a-1-py3-none-any.whl").parent
    there = touch(tmp_path / "datasets" / "somebody" / "wheels" / "sub" / "b-1-py3-none-any.whl").parent
    touch(tmp_path / "captchas" / "AB12.png")
    assert attached_wheels(tmp_path) == sorted([here, there])


def test_prepare_does_nothing_at_home(pip: SimpleNamespace, capsys: pytest.CaptureFixture) -> None:
    prepare()
    assert pip.asked == [] and capsys.readouterr().out == ""


def test_prepare_installs_what_is_missing_and_says_what_there_is(
    pip: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "on_kaggle", lambda: True)
    monkeypatch.setattr(session, "gpus", lambda: "Tesla T4, 15360 MiB; Tesla T4, 15360 MiB")
    monkeypatch.setattr(session, "choose_data", lambda: (tmp_path, "captchas: these"))
    pip.there["captcha"] = "0.6"
    prepare()
    assert {name: pip.there[name] for name in PINS} == PINS | {"captcha": "0.6"}
    out = capsys.readouterr().out
    for part in (
        "torch 2.10.0",
        f"mlflow-skinny {PINS['mlflow-skinny']}",
        "GPU: Tesla T4, 15360 MiB;",
        "captchas: these",
    ):
        assert part in out
    assert "captcha 0.6 came with the image and stays" in out
    prepare()
    assert len(pip.asked) == 1  # nothing is missing any more


def test_gpus_are_those_that_the_driver_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert session.gpus() == ""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho Tesla T4, 15360 MiB\necho Tesla T4, 15360 MiB\n")
    tool.chmod(0o755)
    assert session.gpus() == "Tesla T4, 15360 MiB; Tesla T4, 15360 MiB"
    tool.write_text("#!/bin/sh\necho no devices were found\nexit 6\n")
    assert session.gpus() == ""


# --- what is uploaded ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build, without wheels."""
    folder = tmp_path_factory.mktemp("built")
    command = [
        "kaggle",
        "build",
        "--owner",
        "somebody",
        "--data",
        "another/captchas",
        "--to",
        str(folder),
        "--no-wheels",
    ]
    assert main(command) == 0
    return folder


def carried(notebook: dict) -> dict[str, str]:
    """{file: text} of the cell that writes them."""
    (code,) = [cell["source"] for cell in notebook["cells"] if cell["source"].startswith("CODE = ")]
    held: dict[str, str] = {}
    exec(code.rpartition("\nfrom pathlib import Path\n\nfor part")[0], held)
    parts = [part.partition("\n") for part in held["CODE"].split(f"\n{kaggle_build.MARK}")[1:]]
    return {name: text.strip("\n") + "\n" for name, _, text in parts}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_built_notebook_is_the_thin_one_and_the_files_it_needs(built: Path, name: str) -> None:
    notebook = nbformat.read(built / name / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    thin = nbformat.read(PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    ours = {cell.id for cell in thin.cells}
    for cell in thin.cells:
        cell |= {"execution_count": None, "outputs": []} if cell.cell_type == "code" else {}
    assert [cell for cell in notebook.cells if cell.id in ours] == thin.cells
    added = [index for index, cell in enumerate(notebook.cells) if cell.id not in ours]
    assert added == [*range(added[0], added[-1] + 1)]  # in one section
    assert notebook.cells[added[0]].cell_type == "markdown" and notebook.cells[added[0]].source.startswith("## ")
    assert notebook.cells[added[-1] + 1].source.startswith("## Setup")
    files = carried(notebook)
    assert [*files] == needed_files(name)
    for file, text in files.items():
        assert text == (PROJECT / file).read_text(encoding="utf-8"), file


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_imports_are_followed_to_their_end(name: str) -> None:
    files = needed_files(name)
    modules = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files if file.endswith(".py")
    }
    stay = {file.removesuffix(".py").replace("/", ".") for file in kaggle_build.STAYS}
    for file in files:
        for line in (PROJECT / file).read_text(encoding="utf-8").splitlines() if file.endswith(".py") else []:
            words = line.split()
            if words[:1] == ["from"] and words[1].split(".")[0] in kaggle_build.PACKAGES and words[2:3] == ["import"]:
                assert words[1] in modules or words[1] in stay, f"{file}: {line}"
    assert not [file for file in files if file.startswith("tests/")] and not {*kaggle_build.STAYS} & {*files}
    assert len(files) == len(set(files))
    assert ("helpers/training/trainer.py" in files) == (name != "mlflow_dashboard")
    assert ("helpers/evaluation/trial.py" in files) == (name == "evaluate")


def test_imports_of_every_form_are_seen() -> None:
    source = "import helpers.a, os\nfrom helpers import b as c\ndef f():\n    from mlruns_tools.d import e\n"
    assert {"helpers/__init__.py", "helpers/a.py", "helpers/b.py", "mlruns_tools/d.py"} <= {
        *kaggle_build.imported(source)
    }
    assert not [file for file in kaggle_build.imported(source) if file.startswith("os")]


def test_the_setup_cell_is_the_same_everywhere_and_finds_what_the_notebook_carries(built: Path, tmp_path: Path) -> None:
    cells: dict[str, str] = {}
    for name in NOTEBOOKS:
        notebook = nbformat.read(built / name / f"{name}.ipynb", as_version=4)
        setup = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("## Setup"))
        cells[notebook.cells[setup].source + notebook.cells[setup + 1].source] = name
        if name == "mlflow_dashboard":  # the smallest
            code = [cell.source for cell in notebook.cells[: setup + 2] if cell.cell_type == "code"]
    assert len(cells) == 1
    script = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell()\n"
    script += f"for cell in {code!r}:\n    shell.run_cell(cell).raise_error()\n"
    script += "shell.run_cell('print(session.__file__)').raise_error()\n"
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"IPYTHONDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-"], input=script, cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == str(tmp_path / kaggle_build.FOLDER / "helpers" / "kaggle" / "session.py")
    for file in needed_files("mlflow_dashboard"):
        assert (tmp_path / kaggle_build.FOLDER / file).read_bytes() == (PROJECT / file).read_bytes()


def test_the_setup_cell_says_what_is_missing(tmp_path: Path) -> None:
    notebook = nbformat.read(PROJECT / "notebooks" / "train_ctc.ipynb", as_version=4)
    code = next(cell.source for cell in notebook.cells if "session.prepare()" in cell.source)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert run.returncode and "python -m helpers kaggle build" in run.stderr.splitlines()[-1]


def test_building_twice_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in built.rglob("*") if path.is_file()}
    assert len(before) == 2 * len(NOTEBOOKS)
    kaggle_build.build("somebody", ["another/captchas"], built, wheels=False)
    kaggle_build.build("somebody", ["another/captchas"], tmp_path, wheels=False)
    for path, content in before.items():
        assert path.read_bytes() == content == (tmp_path / path.relative_to(built)).read_bytes()


def test_the_build_needs_no_package(tmp_path: Path, built: Path) -> None:
    command = [sys.executable, "-S", "-m", "helpers", "kaggle", "build", "--no-wheels", "--to", str(tmp_path)]
    bare = {name: value for name, value in os.environ.items() if name != "KAGGLE_USERNAME"}
    run = subprocess.run(command, cwd=PROJECT, env=bare, capture_output=True, text=True)
    assert run.returncode == 0 and "build with --owner" in run.stdout, run.stderr
    for name in NOTEBOOKS:
        assert (tmp_path / name / f"{name}.ipynb").read_bytes() == (built / name / f"{name}.ipynb").read_bytes()


@pytest.mark.parametrize("offline", [False, True])
def test_metadata_of_the_notebooks(tmp_path: Path, offline: bool) -> None:
    kaggle_build.build("somebody", ["another/captchas"], tmp_path, offline=offline, wheels=False)
    for name in NOTEBOOKS:
        about = json.loads((tmp_path / name / "kernel-metadata.json").read_text())
        assert about["enable_internet"] is (not offline) and about["enable_gpu"] is (name in TRAINING)
        assert about.get("machine_shape") == ("NvidiaTeslaT4" if name in TRAINING else None)
        assert about["dataset_sources"] == ["another/captchas", *["somebody/captcha-ocr-offline-wheels"] * offline]


@pytest.mark.parametrize("arguments", [["--owner", "a b"], ["--data", "captchas"], ["--data", "https://a/b/c"]])
def test_names_that_kaggle_would_refuse_are_refused(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["kaggle", "build", "--to", str(tmp_path / "built"), "--no-wheels", *arguments])
    assert ended.value.code == 2 and "OWNER/SLUG" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What was asked of the index, which has a wheel for every Python of captcha, and one for each of rapidfuzz."""
    asked: list[tuple[str, list[str]]] = []

    def download(folder: Path, lines: list[str], python: str) -> None:
        asked.append((python, lines))
        for line in lines:
            tag = f"cp{python}-cp{python}-manylinux_2_28_x86_64" if "rapid" in line else "py3-none-any"
            (folder / f"{line.replace('==', '-').replace('Some-', 'Some_')}-{tag}.whl").write_bytes(b"wheel")

    monkeypatch.setattr(kaggle_build, "_download", download)
    hashes = {sha256(b"wheel").hexdigest()}
    monkeypatch.setattr(kaggle_build, "pins", lambda: {"Some-captcha==0.7.1": hashes, "rapidfuzz==3.14.6": hashes})
    return asked


def test_wheels_are_fetched_once_and_others_removed(
    tmp_path: Path, wheels: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "rapidfuzz-3.14.5-cp312-cp312-manylinux_2_28_x86_64.whl")
    fetch_wheels(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    pythons = [f"rapidfuzz-3.14.6-cp{python}-cp{python}-manylinux_2_28_x86_64.whl" for python in kaggle_build.PYTHONS]
    assert names == ["Some_captcha-0.7.1-py3-none-any.whl", *pythons]
    count = len(wheels)
    fetch_wheels(tmp_path)
    assert len(wheels) == count  # needs no network
    (tmp_path / pythons[0]).write_bytes(b"another wheel of this name")
    fetch_wheels(tmp_path)
    assert wheels[count:] == [(kaggle_build.PYTHONS[0], ["rapidfuzz==3.14.6"])]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_build_without_the_index_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="no network")
    monkeypatch.setattr(kaggle_build.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(OSError, match="--no-wheels"):
        fetch_wheels(tmp_path)


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Callable[..., None], list[tuple[str, dict]]]:
    """(Kaggle's own command line, the requests that it would have sent), with invented credentials and no network."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("HOME", tmp_path), ("KAGGLE_CONFIG_DIR", tmp_path)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "none")
    sent: list[tuple[str, dict]] = []
    answers = {
        "SaveKernel": {"ref": "/code", "url": "https://kaggle.invalid/code", "versionNumber": 1},
        "StartBlobUpload": {"token": "token", "createUrl": "https://kaggle.invalid/upload"},
        "CreateDataset": {"status": "ok", "url": "https://kaggle.invalid/data", "ref": "data"},
    }

    def send(_: requests.Session, request: requests.PreparedRequest, **__: object) -> requests.Response:
        what = request.url.rpartition("/")[2]
        sent.append((what, json.loads(request.body) if request.method == "POST" else {}))
        answer = requests.Response()
        answer.status_code = 404 if what == "GetDatasetStatus" else 200  # no such data set yet
        answer.request, answer.url = request, request.url
        answer._content = json.dumps(answers.get(what, {})).encode()
        return answer

    monkeypatch.setattr(requests.Session, "send", send)

    def run(*arguments: str | Path) -> None:
        from kaggle.cli import main

        monkeypatch.setattr(sys, "argv", ["kaggle", *map(str, arguments)])
        main()

    return run, sent


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_kaggles_command_line_pushes_the_notebooks(
    built: Path, name: str, command_line: tuple, capsys: pytest.CaptureFixture
) -> None:
    run, sent = command_line
    run("kernels", "push", "-p", built / name)
    ((what, request),) = sent
    assert what == "SaveKernel" and "successfully pushed" in (out := capsys.readouterr().out)
    assert "does not resolve" not in out  # title and id name the same page
    assert request["slug"] == f"somebody/captcha-ocr-{name.replace('_', '-')}"
    assert request["enableInternet"] is True and request["isPrivate"] is True
    assert request["enableGpu"] is (name in TRAINING) and request["datasetDataSources"] == ["another/captchas"]
    assert request.get("machineShape") == ("NvidiaTeslaT4" if name in TRAINING else None)
    assert (request["language"], request["kernelType"]) == ("python", "notebook")
    notebook = json.loads(request["text"])
    assert carried(notebook) == carried(nbformat.read(built / name / f"{name}.ipynb", as_version=4))


def test_kaggles_command_line_creates_the_data_set(
    tmp_path: Path, wheels: list, command_line: tuple, capsys: pytest.CaptureFixture
) -> None:
    run, sent = command_line
    kaggle_build.build("somebody", [], tmp_path)
    folder = tmp_path / "offline-wheels"
    run("datasets", "create", "-p", folder)
    assert "is being created" in capsys.readouterr().out
    names = [request["name"] for what, request in sent if what == "StartBlobUpload"]
    brought = [path.name for path in [*folder.glob("*.whl"), *folder.glob("conv_ctc-*")]]
    assert sorted(names) == sorted(brought) and len(names) == 3 + 2
    what, request = sent[-1]
    assert what == "CreateDataset" and len(request["files"]) == 5 and request["isPrivate"] is True
    assert (request["ownerSlug"], request["slug"]) == ("somebody", packages.WHEELS)
