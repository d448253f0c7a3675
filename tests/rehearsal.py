"""A Kaggle session acted out on this machine: the built notebook in, a record that a reader at home can read out.

As root, in mount and network namespaces of its own: `/kaggle/input` read-only in both layouts, `/kaggle/working`, the session's
variables, papermill on `__notebook__.ipynb`, in a Python 3.12 environment with the versions of tests/kaggle-image.txt.

    python -m tests.rehearsal [--all] [--environment FOLDER]     # two sessions, or all eight
    python -m tests.rehearsal --resolve                          # what pip would do to the image's packages
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from helpers.config import PROJECT
from helpers.kaggle.build import NOTEBOOKS, TRAINING, build
from helpers.kaggle.packages import WHEELS, normal, requirements
from helpers.synthetic.folder import make_captchas

IMAGE = PROJECT / "tests" / "kaggle-image.txt"
KAGGLE = Path("/kaggle")
OUTPUT_LIMIT = 200_000  # bytes of outputs in an executed notebook
PLACES = {"new": "datasets/somebody/", "old": ""}  # of a data set under /kaggle/input
# arguments: the folder that becomes /kaggle/input, the one that becomes /kaggle/working, the interpreter
SESSION = """
set -eu
[ -z "$OFFLINE" ] || ip link set lo up
mount -t tmpfs tmpfs /kaggle
mkdir /kaggle/input /kaggle/working
mount --bind "$1" /kaggle/input
mount -o remount,bind,ro /kaggle/input
mount --bind "$2" /kaggle/working
cd /kaggle/working
if touch /kaggle/input/any 2>/dev/null; then echo "/kaggle/input can be written to"; exit 1; fi
exec "$3" -m papermill __notebook__.ipynb __notebook__.ipynb --no-progress-bar
"""


@dataclass(frozen=True)
class Session:
    """One session: a training notebook, where data sets are mounted, whether there is Internet, `Batch` or `Interactive`."""

    notebook: str
    layout: str
    internet: bool
    kind: str

    def __str__(self) -> str:
        packages = "index reachable" if self.internet else "wheels attached, no network"
        return f"{self.notebook}, {self.layout} layout, {packages}, {self.kind}"


ALL = [
    Session(notebook, layout, internet, "Batch" if internet == (layout == "old") else "Interactive")
    for layout in PLACES
    for internet in (False, True)
    for notebook in TRAINING
]
LOOKING = [Session(notebook, "new", False, "Batch") for notebook in NOTEBOOKS if notebook not in TRAINING]
FEW = [Session("train_ctc", "new", False, "Batch"), Session("train_resnet18", "old", True, "Batch")]


def python312() -> str | None:
    """A Python 3.12 of this machine: on the PATH or among pyenv's versions."""
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    found = [str(path) for root in roots for path in sorted(root.glob("versions/3.12*/bin/python3.12"))]
    for python in [*found, shutil.which("python3.12")]:
        if python and not subprocess.run([python, "-c", "import venv"], capture_output=True).returncode:
            return python
    return None


def why_not() -> str | None:
    """Why no session can be acted out here; None where one can."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return "it needs root on Linux, for namespaces"
    if missing := [tool for tool in ("unshare", "mount", "ip") if not shutil.which(tool)]:
        return f"it needs {', '.join(missing)}"
    if subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True).returncode:
        return "unshare is not allowed to make namespaces"
    return None if python312() else "it needs Python 3.12, on the PATH or in pyenv"


class Image:
    """An environment with the packages of Kaggle's image, made in `folder` unless it is there."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        whole = folder / "whole.txt"  # the list that it was made from
        if not whole.exists() or whole.read_bytes() != IMAGE.read_bytes():
            subprocess.run([python312(), "-m", "venv", "--clear", folder], check=True)
            self.pip(
                "install", "-qq", "--no-deps", "--no-compile", "-r", IMAGE
            )  # the list is whole: nothing to resolve
            whole.write_bytes(IMAGE.read_bytes())
        self.restore()

    def pip(self, *arguments: str | Path) -> str:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def versions(self) -> dict[str, str]:
        return {
            normal(package["name"]): package["version"] for package in json.loads(self.pip("list", "--format=json"))
        }

    def restore(self) -> None:
        """As a session finds it: without what an earlier one installed."""
        self.pip("uninstall", "-qq", "-y", *(line.partition("==")[0] for line in requirements()))

    def resolve(self) -> list[str]:
        """What pip would install to have the image's packages, at their versions, and those of requirements-kaggle.txt."""
        report = self.pip("install", "--dry-run", "-qq", "--report", "-", "-r", IMAGE, *requirements())
        return [
            f"{normal(item['metadata']['name'])}=={item['metadata']['version']}"
            for item in json.loads(report)["install"]
        ]


@dataclass(frozen=True)
class Outcome:
    """What a session left: its working folder, the executed notebook, what its environment held before and after."""

    session: Session
    working: Path
    before: dict[str, str]
    after: dict[str, str]
    seconds: float
    log: str  # of papermill

    @cached_property
    def cells(self) -> list[dict]:
        notebook = json.loads((self.working / "__notebook__.ipynb").read_text(encoding="utf-8"))
        return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]

    @property
    def outputs(self) -> list[dict]:
        return [output for cell in self.cells for output in cell["outputs"]]

    @property
    def text(self) -> str:
        return "".join("".join(output.get("text", "")) for output in self.outputs)

    @property
    def output_bytes(self) -> int:
        return len(json.dumps(self.outputs).encode())

    def check(self) -> str:
        """Asserts all that must be true after a session; returns what the reader at home read."""
        assert not [output for output in self.outputs if output["output_type"] == "error"], self.log[-3000:]
        assert [cell["execution_count"] for cell in self.cells] == [*range(1, len(self.cells) + 1)], self.log[-3000:]
        assert self.output_bytes < OUTPUT_LIMIT, self.output_bytes
        self._check_setup()
        if self.session.notebook not in TRAINING:
            assert "the record of an earlier notebook: " in self.text, self.text
            return "the record of the earlier notebook was found"
        shown = [output.get("data", {}).get("text/html", "") for output in self.cells[-1]["outputs"]]
        assert any("href='mlruns.zip'" in "".join(html) for html in shown), shown
        return self.read_at_home()

    def _check_setup(self) -> None:
        added = {normal(line.split("==")[0]): line.split("==")[1] for line in requirements()}
        assert self.after == self.before | added and not set(self.before) & set(added)
        for line in ("Python 3.12", "GPU: ", f"captchas: {KAGGLE}/input/{PLACES[self.session.layout]}captcha-pictures"):
            assert line in self.text, f"{line!r} was not printed:\n{self.text}"
        assert ("from the index" in self.text) == self.session.internet
        for file in (self.working / "captcha-ocr").rglob("*.py"):  # what the notebook carried, byte by byte
            assert file.read_bytes() == (PROJECT / file.relative_to(self.working / "captcha-ocr")).read_bytes(), file

    def read_at_home(self) -> str:
        """mlruns.zip taken elsewhere, repaired by fixed_paths.py copied alone, its model loaded, a picture read."""
        with tempfile.TemporaryDirectory(prefix="at home ") as folder:
            home = Path(folder)
            for file in (self.working / "mlruns.zip", PROJECT / "mlruns_tools" / "fixed_paths.py"):
                shutil.copy(file, home)
            output([sys.executable, "fixed_paths.py", "mlruns.zip"], home)
            run = next(home.glob("mlruns/artifacts/*/artifacts/model")).parents[1].name
            picture = next(self.working.parent.glob("input/**/captcha-pictures/**/*.png"))
            command = [sys.executable, "-m", "helpers", "read", picture, "--model", f"runs:/{run}/model"]
            line = output(command, PROJECT, {"CAPTCHA_WORK": folder}).splitlines()[-1]
            assert line.startswith(f"{picture},") and len(line.split(",")[1]) == len(picture.stem), line
            return f"{picture.stem} read as {line.split(',')[1]}"


def output(command: Sequence[str | Path], folder: Path, variables: dict[str, str] | None = None) -> str:
    """What a command prints; raises AssertionError with its errors where it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAPTCHA_")}
    done = subprocess.run(command, cwd=folder, env=kept | (variables or {}), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def act(
    session: Session, image: Image, built: Path, folder: Path, earlier: Path | None = None, wheels: bool = True
) -> Outcome:
    """Runs a session's built notebook; `folder` gets its `input`, its `working` folder and papermill's log.

    `earlier` is the mlruns.zip of an earlier notebook, to attach. Without `wheels` a session without Internet has nothing
    to install from.
    """
    data, working = folder / "input" / PLACES[session.layout], folder / "working"
    make_captchas(data / "captcha-pictures" / "samples" / "samples", 60, length=4, workers=1)
    (data / "a-model").mkdir()
    (data / "a-model" / "weights.pth").touch()
    left = folder / "input" / "notebooks" / "somebody" / "captcha-training"
    make_captchas(left / "captchas", 10, length=6, workers=1)  # what an earlier notebook left is no data
    if earlier:
        shutil.copy(earlier, left)
    if wheels and not session.internet:
        shutil.copytree(built / "offline-wheels", data / WHEELS)
    working.mkdir()
    shutil.copy(built / session.notebook / f"{session.notebook}.ipynb", working / "__notebook__.ipynb")
    image.restore()
    before, started = image.versions(), time.perf_counter()
    variables = {"PATH": f"{image.python.parent}:{os.environ['PATH']}", "HOME": str(folder), "OFFLINE": ""}
    variables |= {"KAGGLE_KERNEL_RUN_TYPE": session.kind, "CAPTCHA_TINY": "1"}
    variables["OMP_NUM_THREADS"] = "1"  # two that wait for each other on a busy machine take minutes
    if session.internet:
        variables |= {name: value for name, value in os.environ.items() if name.upper().startswith(("PIP_", "HTTP"))}
    else:
        variables |= {"OFFLINE": "1", "PIP_CONFIG_FILE": os.devnull}
    command = ["unshare", "-m", *([] if session.internet else ["-n"]), "bash", "-c", SESSION, "session"]
    made = not KAGGLE.exists()
    KAGGLE.mkdir(exist_ok=True)  # empty outside of the session
    try:
        arguments = [folder / "input", working, image.python]
        done = subprocess.run([*command, *arguments], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    finally:
        if made:
            KAGGLE.rmdir()
    (folder / "papermill.log").write_bytes(done.stdout)
    seconds = time.perf_counter() - started
    return Outcome(session, working, before, image.versions(), seconds, done.stdout.decode(errors="replace"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit 0: all sessions went well; 1: one did not; 2: none can be acted out here."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help=f"all {len(ALL)} sessions")
    parser.add_argument("--resolve", action="store_true", help="only say what pip would install on the image")
    parser.add_argument("--environment", type=Path, help="keep the image's environment here and use it again")
    options = parser.parse_args(arguments)
    if reason := why_not():
        parser.exit(2, f"no rehearsal here: {reason}\n")
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder, started = Path(name), time.perf_counter()
        image = Image(options.environment or folder / "environment")
        print(f"environment: {time.perf_counter() - started:.0f} s")
        if options.resolve:
            print(f"pip install --dry-run -r {IMAGE.relative_to(PROJECT)}", *requirements())
            would, there = image.resolve(), image.versions()
            changed = [line for line in would if line.split("==")[0] in there]
            print("would install", ", ".join(would))
            print(f"would change, of {len(there)} installed packages:", ", ".join(changed) or "none")
            return 1 if changed else 0
        build("somebody", [], folder / "built")
        first = folder / "session 0" / "working" / "mlruns.zip"
        for index, session in enumerate([*ALL, *LOOKING] if options.all else FEW):
            place = folder / f"session {index}"
            outcome = act(session, image, folder / "built", place, first if session in LOOKING else None)
            try:
                result = f"ok: {outcome.check()}"
            except AssertionError as error:
                result, failed = f"FAILED: {error}", failed + 1
            print(
                f"{session}: {outcome.seconds:.0f} s, {outcome.output_bytes / 1e3:.0f} kB of outputs; {result}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
