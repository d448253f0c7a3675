"""What is uploaded to Kaggle: notebooks that need nothing beside them, and wheels for sessions without Internet.

`python -m helpers.kaggle.inputs build`, the project in, `build/kaggle/` out. Standard library only.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from helpers.config import PROJECT
from helpers.kaggle.inputs import REQUIREMENTS, WHEELS, exactly, pins
from helpers.output import sentence

TRAINING = ("train_ctc", "train_resnet18")
NOTEBOOKS = (*TRAINING, "evaluate", "mlflow_dashboard")
PACKAGES = ("helpers", "mlruns_tools")
STAYS = "helpers/kaggle/build.py"  # of no use in a session
FOLDER = "captcha-ocr"  # where the notebook writes the files it carries; the setup cell looks there
PYTHONS = ("312", "313")  # of Kaggle's image today and soon
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
OWNER = "YOUR-KAGGLE-NAME"  # stands where no owner is given
HEADING = f"""## The code that this notebook runs

These cells write it to `{FOLDER}/`, so that the notebook needs nothing beside it: each is one file of the project, made by
`python -m helpers.kaggle.inputs build`. Read them if you like, or go on to *Setup*."""


def build(owner: str, data: Sequence[str], to: Path, offline: bool = False, wheels: bool = True) -> list[Path]:
    """Writes a folder per notebook and, with `wheels`, the one of wheels; returns them.

    `data` are the data sets to attach, OWNER/SLUG each; `offline` switches Internet off and attaches the wheels.
    Raises ValueError for names that Kaggle would refuse and RuntimeError where wheels cannot be fetched.
    """
    if wrong := [name for name in (f"{owner}/any", *data) if not re.fullmatch(r"[\w-]+/[\w-]+", name)]:
        raise ValueError(f"{', '.join(wrong)}: OWNER/SLUG is expected, as in the address of the page on Kaggle")
    folders = []
    if wheels:  # first: where there is no network nothing is changed
        fetch_wheels(to / "offline-wheels")
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
    """The notebook with cells, before its setup, that write the files it needs."""
    notebook = json.loads((PROJECT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [
        cell | _unrun(cell) for cell in notebook["cells"]
    ]  # another machine's outputs would pass for the session's
    setup = next(i for i, cell in enumerate(cells) if "".join(cell["source"]).startswith("## Setup"))
    files = needed_files(name)
    made = sorted({str(Path(FOLDER, file).parent.as_posix()) for file in files})
    make = "import os\n\n" + "\n".join(f'os.makedirs("{folder}", exist_ok=True)' for folder in made)
    carried = [_cell("markdown", "code-heading", HEADING), _cell("code", "code-folders", make)]
    for file in files:
        text = (PROJECT / file).read_text(encoding="utf-8").rstrip("\n")  # the magic ends the last line
        label = re.sub(r"[^A-Za-z0-9]+", "-", file)
        carried.append(_cell("code", f"code-{label}", f"%%writefile {FOLDER}/{file}\n{text}"))
    return notebook | {"cells": [*cells[:setup], *carried, *cells[setup:]]}


def needed_files(name: str) -> list[str]:
    """What a notebook needs of the project: the modules it imports, directly or not, its own script, the requirements."""
    script = f"notebooks/{name}.py"
    found, ahead = set(), [script]
    while ahead:
        file = ahead.pop()
        if file not in found and file != STAYS and (PROJECT / file).is_file():
            found.add(file)
            ahead += imported((PROJECT / file).read_text(encoding="utf-8"))
    return ["requirements.txt", REQUIREMENTS.name, *sorted(found - {script}), script]


def imported(source: str) -> list[str]:
    """The project's files that a module's imports may mean, wherever in the module they stand."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    ours = [name.split(".") for name in names if name.split(".")[0] in PACKAGES]
    return [f"{path[0]}/__init__.py" for path in ours] + [f"{'/'.join(path)}.py" for path in ours if len(path) > 1]


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
        raise RuntimeError(
            f"cannot fetch wheels of {', '.join(lines)} (--no-wheels builds without):\n{done.stderr[-1000:]}"
        )


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit 0: built; 2: it cannot be built as asked."""
    parser = argparse.ArgumentParser(prog="python -m helpers.kaggle.inputs", description=__doc__.splitlines()[0])
    command = parser.add_subparsers(required=True).add_parser("build", help="write what is uploaded to Kaggle")
    command.add_argument("--owner", default=os.environ.get("KAGGLE_USERNAME", OWNER), help="your name on Kaggle")
    command.add_argument("--data", nargs="+", default=[], metavar="OWNER/SLUG", help="data sets to attach")
    command.add_argument("--to", type=Path, default=PROJECT / "build" / "kaggle", metavar="FOLDER")
    command.add_argument("--offline", action="store_true", help="Internet off: attach the wheels' data set instead")
    command.add_argument("--no-wheels", dest="wheels", action="store_false", help="notebooks only; needs no network")
    options = parser.parse_args(arguments)
    try:
        folders = build(**vars(options))
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"{sentence(error)}\n")
    for folder in folders:
        print(folder, "-", ", ".join(sorted(path.name for path in folder.iterdir())))
    if options.owner == OWNER:
        print(f"before a push, build with --owner; the files name {OWNER}")
    return 0
