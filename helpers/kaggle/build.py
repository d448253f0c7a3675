"""What is uploaded to Kaggle: notebooks that need nothing beside them, and wheels for sessions without Internet.

`python -m helpers kaggle build`, the project in, `build/kaggle/` out. Standard library only.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from helpers import DOOR
from helpers.config import PRETRAINED, PROJECT
from helpers.kaggle.packages import REQUIREMENTS, WHEELS, exactly, pins

TRAINING = ("train_ctc", "train_resnet18")
NOTEBOOKS = (*TRAINING, "evaluate", "mlflow_dashboard")
PACKAGES = ("helpers", "mlruns_tools")
STAYS = ("helpers/kaggle/build.py", "mlruns_tools/push.py")  # of no use in a session
WINGS = ("models", "pictures", "reading", "text")
FOLDER = "captcha-ocr"  # where the notebook writes the files it carries; the setup cell looks there
PYTHONS = ("312", "313")  # of Kaggle's image today and soon
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
HEADING = f"""## The code that this notebook runs

The cell below writes it to `{FOLDER}/`, so that the notebook needs nothing beside it: the files of the project, in the order
in which captchas pass them. Read them if you like, or go on to *Setup*."""
MARK, QUOTES = "#===== ", 3 * chr(39)  # before the name of each file; around all of them
FLOW = "config output __init__ pictures text synthetic models record kaggle sources data reading evaluation plots"
ORDER = [*FLOW.split(), "training", "experiment", "lessons"]  # in which captchas pass the wings
WRITER = f"""
from pathlib import Path

for part in CODE.split("\\n{MARK}")[1:]:
    name, _, text = part.partition("\\n")
    file = Path("{FOLDER}", name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.strip("\\n") + "\\n", encoding="utf-8")
"""


def build(owner: str, data: Sequence[str], to: Path, offline: bool = False, wheels: bool = True) -> list[Path]:
    """Writes a folder per notebook and, with `wheels`, the one of wheels; returns them.

    `data` are the data sets to attach, OWNER/SLUG each; `offline` switches Internet off and attaches the wheels.
    Raises ValueError for names that Kaggle would refuse and OSError where wheels cannot be fetched.
    """
    if wrong := [name for name in (f"{owner}/any", *data) if not re.fullmatch(r"[\w-]+/[\w-]+", name)]:
        raise ValueError(f"{', '.join(wrong)}: OWNER/SLUG is expected, as in the address of the page on Kaggle")
    folders = []
    if wheels:  # first: where there is no network nothing is changed
        fetch_wheels(to / "offline-wheels")
        for file in sorted(PRETRAINED.glob("*/model*")):  # flat, as a data set's folders are not uploaded
            shutil.copyfile(file, to / "offline-wheels" / f"{file.parent.name}-{file.name}")
    for name in NOTEBOOKS:
        folders.append(folder := to / name)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / f"{name}.ipynb", embedded(name))
        sources = [*data, *([f"{owner}/{WHEELS}"] if offline else [])]
        _write_json(folder / "kernel-metadata.json", kernel_metadata(name, owner, sources, offline))
    if wheels:
        folders.append(to / "offline-wheels")
        about = {"title": "Captcha OCR offline wheels", "id": f"{owner}/{WHEELS}", "licenses": [{"name": "other"}]}
        _write_json(folders[-1] / "dataset-metadata.json", about)
    return folders


def embedded(name: str) -> dict:
    """The notebook with a cell, before its setup, that writes the files it needs."""
    notebook = json.loads((PROJECT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [
        cell | _unrun(cell) for cell in notebook["cells"]
    ]  # another machine's outputs would pass for the session's
    setup = next(i for i, cell in enumerate(cells) if "".join(cell["source"]).startswith("## Setup"))
    carried = [_cell("markdown", "code-heading", HEADING), _cell("code", "code", code_cell(needed_files(name)))]
    return notebook | {"cells": [*cells[:setup], *carried, *cells[setup:]]}


def code_cell(files: Sequence[str]) -> str:
    """A cell that writes these files of the project; their text stands in it as it is."""
    parts = []
    for file in files:
        text = (PROJECT / file).read_text(encoding="utf-8").rstrip("\n")
        if QUOTES in text or MARK in text.replace(f'"{MARK}"', ""):
            raise ValueError(
                f"{file} holds {QUOTES} or {MARK!r}, between which its text is carried: write it another way"
            )
        parts.append(f"\n{MARK}{file}\n{text}")
    return f"CODE = r'''{''.join(parts)}\n'''{WRITER}".rstrip("\n")


def needed_files(name: str) -> list[str]:
    """What a notebook needs of the project: the modules it imports, directly or not, its own script, the requirements."""
    script = f"notebooks/{name}.py"
    found, ahead = set(), [script]
    while ahead:
        file = ahead.pop()
        if file not in found and file not in STAYS and (PROJECT / file).is_file():
            found.add(file)
            ahead += imported((PROJECT / file).read_text(encoding="utf-8"))
    if "helpers/reading/serving.py" in found:  # which copies the wings that read beside each model
        found |= {
            file.relative_to(PROJECT).as_posix() for wing in WINGS for file in (PROJECT / "helpers" / wing).glob("*.py")
        }
    return ["requirements.txt", REQUIREMENTS.name, *sorted(found - {script}, key=_place), script]


def _place(file: str) -> tuple[int, str]:
    """By which files are put in the order of the data flow; what is none of helpers comes last."""
    wing = file.split("/")[1].removesuffix(".py")
    return ORDER.index(wing) if file.startswith("helpers/") and wing in ORDER else len(ORDER), file


def imported(source: str) -> list[str]:
    """The project's files that a module's imports may mean, wherever in the module they stand."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    names += [DOOR[name.partition(".")[2]] for name in names if name.partition(".")[2] in DOOR]
    paths = [path for path in (name.split(".") for name in names) if path[0] in PACKAGES]
    above = {"/".join([*path[:depth], "__init__.py"]) for path in paths for depth in range(1, len(path) + 1)}
    return [*above, *(f"{'/'.join(path)}.py" for path in paths if len(path) > 1)]


def kernel_metadata(name: str, owner: str, data: Sequence[str], offline: bool) -> dict:
    """What `kaggle kernels push` sends beside the notebook; only a training asks for GPUs, whose hours are counted."""
    title = f"Captcha OCR {name.replace('_', ' ')}"
    gpu = {"machine_shape": "NvidiaTeslaT4"} if name in TRAINING else {}
    return gpu | {
        "id": f"{owner}/{title.lower().replace(' ', '-')}",
        "title": title,
        "code_file": f"{name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": name in TRAINING,
        "enable_tpu": False,
        "enable_internet": not offline,
        "dataset_sources": list(data),
        "competition_sources": [],
        "kernel_sources": [] if name in TRAINING else [f"{owner}/captcha-ocr-{TRAINING[0].replace('_', '-')}"],
        "model_sources": [],
        "keywords": [],
    }


def fetch_wheels(folder: Path) -> None:
    """The wheels of requirements-kaggle.txt for the Pythons of Kaggle; fetches those that are not there, removes others."""
    wanted = {(line, python) for line in pins() for python in PYTHONS}
    there = {(line, python): _wheel(folder, line, python) for line, python in wanted}
    with tempfile.TemporaryDirectory() as fetched:
        for python in PYTHONS:
            if lines := [line for line in pins() if not there[line, python]]:
                _download(Path(fetched), lines, python)
        folder.mkdir(parents=True, exist_ok=True)
        for wheel in Path(fetched).iterdir():
            (folder / wheel.name).write_bytes(wheel.read_bytes())
    kept = {_wheel(folder, line, python) for line, python in wanted}
    for wheel in set(folder.glob("*.whl")) - kept:
        wheel.unlink()


def _wheel(folder: Path, line: str, python: str) -> Path | None:
    """The wheel in a folder that fits a requirement, its hashes and a Python."""
    package, version = line.split("==")
    pattern = f"{re.sub(r'[-_.]+', '[-_.]', package)}-{re.escape(version)}-.*"
    pattern += rf"(py3-none-any|cp{python}-cp{python}-.*|cp3\d+-abi3-.*)\.whl"
    found = (path for path in sorted(folder.glob("*.whl")) if re.fullmatch(pattern, path.name, re.IGNORECASE))
    return next((path for path in found if sha256(path.read_bytes()).hexdigest() in pins()[line]), None)


def _download(folder: Path, lines: Sequence[str], python: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--dest", str(folder)]
    command += ["--python-version", python, "--implementation", "cp", *(f"--platform={name}" for name in PLATFORMS)]
    with exactly(lines) as files:
        done = subprocess.run([*command, *files], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"cannot fetch wheels of {', '.join(lines)} (--no-wheels builds without):\n{done.stderr[-1000:]}")


def _unrun(cell: dict) -> dict:
    return {"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {}


def _cell(kind: str, label: str, source: str) -> dict:
    """A cell; one of code is folded on Kaggle."""
    cell = {"cell_type": kind, "id": label, "metadata": {}, "source": source.splitlines(keepends=True)}
    folded = {"metadata": {"_kg_hide-input": True, "_kg_hide-output": True}}
    return cell if kind == "markdown" else cell | folded | {"execution_count": None, "outputs": []}


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
