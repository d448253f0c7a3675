"""Runs the four notebooks on the default data and puts what they show into the repository.

`python -m tests.refresh` makes each .ipynb from its .py, runs it, and writes its outputs, then README's figures in `assets`
and, with Debian's chromium, the pictures of the dashboard: some half an hour on one core. `--to FOLDER` writes there instead,
to try it with settings such as CAPTCHA_TINY=1, which are refused for the repository itself.

A second time it gives the same notebooks, because what differs from run to run is replaced: see NOISE and `Cleaner`. The
pictures of the dashboard show times and run ids, and so are never twice the same.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from shutil import copyfile

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from helpers.config import PREFIX, PROJECT
from mlruns_tools.dashboard import runs_table

ORDER = ("train_resnet18", "train_ctc", "evaluate", "mlflow_dashboard")  # the last two see the record of the first
FIGURES = ("readings.png", "curves.png", "looked_at.png", "risk_coverage.png")  # of train_ctc's run, for README
LARGEST = 300_000  # bytes of a notebook with its outputs
NOISE: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (  # times, ports and sizes: pattern, replacement
    (r"  \d+ images/s  \d+:\d\d left", ""),  # of an epoch line
    (r"(?m)^(images_per_s|cpu_seconds|train_seconds) .*$", lambda row: re.sub(r" [\d.]+", _dots, row[0])),
    (r"(?m)^.* trained, s\n(?:.*%.*\n)+", lambda table: re.sub(r"(?m) \d+$", _dots, table[0])),
    (r"(?<=127\.0\.0\.1:)\d+", "5000"),
    (r"\d+\.\d MB", "... MB"),
)
PROGRESS = re.compile(r"[^\n\r]*\d+%\|[^\n\r]*[\n\r]*")  # tqdm's lines
ABSOLUTE = re.compile(r"(?<![\w.:/#-])/(tmp|home|root|work|kaggle/working|Users|var|opt)/|\b[A-Z]:\\")
WIDGET = "application/vnd.jupyter.widget-view+json"


def _dots(number: re.Match[str]) -> str:
    return "...".rjust(len(number[0]))


class Cleaner:
    """Replaces what differs from run to run in all notebooks of one record: places, run ids, and what NOISE lists."""

    def __init__(self, work: Path) -> None:
        self.ids: dict[str, str] = {}  # the first run is 111..., the second 222...
        beside = os.path.relpath(work, PROJECT / "notebooks")
        self.places = {beside: "work", str(work): "work", f"{PROJECT}{os.sep}": ""}

    def learn(self, ids: Iterable[str]) -> None:
        """Gives run ids, oldest first, the digits that stand for them."""
        for found in ids:
            if len(set(found)) > 1:  # else it is such a digit already
                self.ids.setdefault(found, str(len(self.ids) + 1) * 32)

    def text(self, text: str) -> str:
        for place, name in self.places.items():
            padded = re.compile(rf"(  )?{re.escape(place)}")  # after two spaces stands a column, flush right
            lost = len(place) - len(name)
            text = padded.sub(
                lambda found, name=name, lost=lost: (found[1] + " " * lost if found[1] else "") + name, text
            )
        self.learn(re.findall(r"\b[0-9a-f]{32}\b", text))
        for found, name in self.ids.items():
            text = re.sub(rf"\b{found[:8]}\b", name[:8], text.replace(found, name[:32]))
        for pattern, replacement in NOISE:
            text = re.sub(pattern, replacement, text)
        return text

    def notebook(self, notebook: NotebookNode) -> None:
        """In place; metadata of the run goes as well."""
        notebook.metadata.pop("language_info", None)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            for output in cell.get("outputs", ()):
                if output.output_type == "stream":
                    shown = PROGRESS.sub("", output.text) if output.name == "stderr" else output.text
                    output.text = self.text(shown)
                for kind in [kind for kind in output.get("data", ()) if kind.startswith("text/")]:
                    output.data[kind] = self.text(output.data[kind])
            if "outputs" in cell:
                cell.outputs = [output for output in cell.outputs if output.get("text") != ""]


def problems(notebook: NotebookNode) -> list[str]:
    """What should not stand in a notebook of the repository, in words; empty for one that was never run."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            shown = output.get("text", "") + "".join(
                text for kind, text in output.get("data", {}).items() if kind.startswith("text/")
            )
            if output.output_type == "error":
                found.append(f"cell {number} ended in {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"cell {number} writes to stderr: {shown.strip()[:200]}")
            if place := ABSOLUTE.search(shown):
                found.append(f"cell {number} shows an absolute path: {shown[place.start() :].split()[0]}")
            if WIDGET in output.get("data", {}):
                found.append(f"cell {number} shows a widget, which a stored notebook cannot")
        if "execution" in cell.metadata:
            found.append(f"cell {number} carries the times of its run")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if any(counts) and counts != [*range(1, len(counts) + 1)]:
        found.append(f"its cells were not run once, from the first to the last: {counts}")
    if (size := len(nbformat.writes(notebook).encode())) > LARGEST:
        found.append(f"it has {size:,} bytes, more than {LARGEST:,}")
    return found


def executed(name: str, work: Path) -> NotebookNode:
    """The notebook made from its script and run in a kernel of its own, telling of its cells. Raises CellExecutionError."""
    script = PROJECT / "notebooks" / f"{name}.py"
    before = nbformat.read(script.with_suffix(".ipynb"), as_version=4)  # cells that are still there keep their ids
    notebook = combine_inputs_with_outputs(jupytext.read(script), before)
    environment = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", f"{PREFIX}WORK": str(work)}
    started = time.monotonic()

    def tell(cell: NotebookNode, cell_index: int, **_: object) -> None:
        if cell.cell_type == "code":
            first = cell.source.splitlines()[0]
            print(f"{name} {time.monotonic() - started:6.0f} s  cell {cell_index + 1}: {first[:80]}", flush=True)

    NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(script.parent)}},
        on_cell_start=tell,
    ).execute(env=os.environ | environment)
    return notebook


def refresh(names: Sequence[str], work: Path, to: Path) -> list[str]:
    """Runs the notebooks with one record in `work`, writes them and the pictures below `to`; what is wrong, in words."""
    cleaner, wrong = Cleaner(work), []
    for folder in (to / "notebooks", to / "assets"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            notebook = executed(name, work)
        except CellExecutionError as error:
            return [*wrong, f"{name}: {error}"]
        cleaner.learn(row["id"] for row in reversed(runs_table(work / "mlruns")))
        cleaner.notebook(notebook)
        nbformat.write(notebook, to / "notebooks" / f"{name}.ipynb")
        wrong += [f"{name}: {problem}" for problem in problems(notebook)]
    if "train_ctc" in names:
        newest = runs_table(work / "mlruns")[0]["id"]
        figures = work / "mlruns" / "artifacts" / newest / "artifacts" / "figures"
        for figure in FIGURES:
            copyfile(figures / figure, to / "assets" / figure)
        wrong += _pictures_of_the_dashboard(work / "mlruns", to / "assets")
    return wrong


def _pictures_of_the_dashboard(mlruns: Path, to: Path) -> list[str]:
    from tests.browser import take_pictures  # not above: playwright is of no use to the tests that import this file

    try:
        take_pictures(mlruns, to)
    except FileNotFoundError as error:
        return [f"the pictures of the dashboard are as they were: {error}"]
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit 0: all refreshed; 1: something is wrong with what was written, or a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.refresh", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=ORDER, help="notebooks, by default all four")
    parser.add_argument("--to", type=Path, default=PROJECT, metavar="FOLDER", help="where to write; the repository")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="a record to go on with; a new one, not kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(ORDER):
        parser.error(f"no notebook is called {', '.join(sorted(unknown))}: {', '.join(ORDER)}")
    if options.to == PROJECT and (given := sorted(name for name in os.environ if name.startswith(PREFIX))):
        parser.error(f"{', '.join(given)} set: the repository's outputs come from the defaults. Unset, or name --to")
    with tempfile.TemporaryDirectory(prefix="captcha-ocr-", ignore_cleanup_errors=True) as folder:
        wrong = refresh(options.names, (options.work or Path(folder)).resolve(), options.to.resolve())
    print("\n".join(wrong) or "refreshed: look at the difference, then commit it")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
