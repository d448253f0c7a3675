"""Whether a repair or a packing that is killed (kill -9) leaves anything wrong: `python -m tests.benchmarks.killing`.

Each is killed at a random moment between its first change and its end; then it is run again,
and the record or the zip must be right and whole.
"""

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from helpers.config import PROJECT
from mlruns_tools.fixed_paths import DATABASE, MARKER, PREFIX, read_marker
from mlruns_tools.pack import pack
from tests.benchmarks.repairing import EXPERIMENT, make_database, make_file_store
from tests.hostile import run_meta

METRICS = 10  # of each run of `make_database`


def command(tool: str, *arguments: Path | str) -> list[str]:
    return [sys.executable, "-m", f"mlruns_tools.{tool}", *map(str, arguments)]


def span(arguments: list[str], *watched: Path, last: Path | None = None) -> float:
    """Seconds from the first change in a watched folder to the writing of `last`, or to the end; nothing kills it."""
    process, start = begin(arguments, watched), time.time()
    assert process.wait() == 0
    return (last.stat().st_mtime if last else time.time()) - start


def begin(arguments: list[str], watched: Sequence[Path]) -> subprocess.Popen[bytes]:
    """A process that has just made its first change, or has ended."""

    def state() -> list[int]:
        return [folder.stat().st_mtime_ns if folder.exists() else 0 for folder in watched]

    before = state()
    process = subprocess.Popen(arguments, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and state() == before:
        time.sleep(0.0005)
    return process


def kill(arguments: list[str], within: float, *watched: Path) -> bool:
    """Kill at a random moment within so many seconds of the first change; False when it had ended by then."""
    process = begin(arguments, watched)
    try:
        process.wait(random.uniform(0, within))
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def right(mlruns: Path, runs: int) -> int:
    """How many of the runs have the location of their folder here; raises AssertionError for a record that lost one."""
    if (mlruns / DATABASE).exists():
        with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
            (health,) = connection.execute("PRAGMA integrity_check").fetchone()
            metrics = connection.execute("SELECT count(*) FROM metrics").fetchone()[0]
            locations = dict(connection.execute("SELECT run_uuid, artifact_uri FROM runs"))
        assert health == "ok" and metrics == METRICS * runs
        folders = {run: mlruns / "artifacts" / run / "artifacts" for run in locations}
    else:
        files = list((mlruns / EXPERIMENT).glob("*/meta.yaml"))
        lines = {file.parent.name: file.read_text().splitlines() for file in files}
        assert all(len(values) == len(run_meta("", "", "").splitlines()) for values in lines.values())
        locations = {run: values[0].partition(": ")[2].strip("'") for run, values in lines.items()}
        folders = {run: mlruns / EXPERIMENT / run / "artifacts" for run in locations}
    assert len(locations) == runs and all((folder / "note.txt").is_file() for folder in folders.values())
    return sum(locations[run] == folder.as_uri() for run, folder in folders.items())


def killed_repairs(folder: Path, make: Callable[[Path, int], Path], runs: int, count: int) -> tuple[int, int]:
    """(kills that left a repair half done, records that the next repair made right)."""
    home = make(folder / "0" / "mlruns", runs).parent
    mlruns = home / "mlruns"
    seconds = span(command("fixed_paths", home), mlruns, mlruns / EXPERIMENT, last=mlruns / MARKER)
    inside = whole = 0
    for number in range(1, count + 1):
        home = home.rename(folder / str(number))
        start = time.time()
        was_killed = kill(command("fixed_paths", home), seconds, home / "mlruns", home / "mlruns" / EXPERIMENT)
        traces = [
            path for kind in (f"{PREFIX}*", "*-journal", "repair-*.undo.zip") for path in (home / "mlruns").rglob(kind)
        ]
        begun = any(path.stat().st_mtime >= start for path in traces) or 0 < right(home / "mlruns", runs) < runs
        inside += was_killed and begun and read_marker(home / "mlruns") != str(home / "mlruns")
        subprocess.run(command("fixed_paths", home), cwd=PROJECT, capture_output=True, check=True)
        whole += right(home / "mlruns", runs) == runs and read_marker(home / "mlruns") == str(home / "mlruns")
    return inside, whole


def killed_unpackings(folder: Path, runs: int, count: int) -> tuple[int, int]:
    archive = pack(make_database(folder / "made" / "mlruns", runs)).path
    seconds = span(command("fixed_paths", archive, "--to", folder / "first"), folder / "first")
    inside = whole = 0
    for number in range(count):
        to = folder / str(number)
        again = command("fixed_paths", archive, "--to", to)
        inside += kill(again, seconds, to) and any(to.glob(PREFIX + "*"))
        done = subprocess.run(again, cwd=PROJECT, capture_output=True, check=False)
        clean = [path.name for path in to.iterdir() if not path.name.startswith(PREFIX)] == ["mlruns"]
        whole += done.returncode == 0 and clean and right(to / "mlruns", runs) == runs
    return inside, whole


def killed_packings(folder: Path, runs: int, count: int) -> tuple[int, int]:
    archive = pack(make_database(folder / "mlruns", runs)).path
    seconds = span(command("pack", folder / "mlruns"), folder)
    inside = whole = 0

    def parts() -> set[Path]:
        return set(folder.glob(f"{PREFIX}*"))

    def sound() -> bool:
        with zipfile.ZipFile(archive) as members:
            return members.testzip() is None and len(members.namelist()) >= runs + 1

    for _ in range(count):
        before = parts()
        inside += kill(command("pack", folder / "mlruns"), seconds, folder) and parts() != before
        first = sound()  # the one from before, or the new one
        subprocess.run(command("pack", folder / "mlruns"), cwd=PROJECT, capture_output=True, check=True)
        whole += first and sound()
    return inside, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="kills of each kind")
    parser.add_argument("--runs", type=int, default=2000, help="of each record")
    parser.add_argument("--what", nargs="+", choices=["repair", "pack"], default=["repair", "pack"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    kinds: dict[str, Callable[[Path], tuple[int, int]]] = {}
    if "repair" in given.what:
        kinds["repair of SQLite"] = lambda folder: killed_repairs(folder, make_database, given.runs, given.count)
        kinds["repair of a file store"] = lambda folder: killed_repairs(
            folder, make_file_store, given.runs, given.count
        )
        kinds["repair of a zip"] = lambda folder: killed_unpackings(folder, given.runs, given.count)
    if "pack" in given.what:
        kinds["packing"] = lambda folder: killed_packings(folder, given.runs, given.count)
    print("| killed | times | half-way | right after the next run |")
    print("|---|---|---|---|")
    for name, measure in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            inside, whole = measure(Path(folder).resolve())
        print(f"| {name} | {given.count} | {inside} | {whole} |", flush=True)


if __name__ == "__main__":
    main()
