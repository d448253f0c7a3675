"""How long the repair of a moved record takes: `python -m tests.benchmarks.repairing --runs 10000`."""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mlruns_tools.fixed_paths import DATABASE, fix_paths
from tests.hostile import experiment_meta, run_meta

OLD = "file:///kaggle/working/mlruns"
EXPERIMENT = "123456789012345678"
TABLES = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT);
CREATE TABLE metrics (run_uuid TEXT, key TEXT, value REAL, step INTEGER);
"""


def run_id(number: int) -> str:
    return f"{number:032x}"


def make_database(mlruns: Path, runs: int) -> Path:
    """A record with a database: for each run its row, ten metrics and a folder with one artifact."""
    mlruns.mkdir(parents=True)
    ids = [run_id(number) for number in range(runs)]
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO experiments VALUES (1, ?)", (f"{OLD}/artifacts",))
        connection.executemany("INSERT INTO runs VALUES (?, ?)", ((i, f"{OLD}/artifacts/{i}/artifacts") for i in ids))
        metrics = ((i, "val_loss", 1 / (1 + step), step) for i in ids for step in range(10))
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", metrics)
    for i in ids:
        _make_artifact(mlruns / "artifacts" / i / "artifacts")
    return mlruns


def make_file_store(mlruns: Path, runs: int) -> Path:
    """The same as a file store: `meta.yaml`, a parameter and an artifact of each run."""
    experiment = mlruns / EXPERIMENT
    experiment.mkdir(parents=True)
    location = f"{OLD}/{EXPERIMENT}"
    (experiment / "meta.yaml").write_text(experiment_meta(location, EXPERIMENT))
    for i in (run_id(number) for number in range(runs)):
        _make_artifact(experiment / i / "artifacts")
        (experiment / i / "params").mkdir()
        (experiment / i / "params" / "recipe").write_text("conv_ctc")
        (experiment / i / "metrics").mkdir()
        points = "".join(f"{1700000000000 + step} {1 / (1 + step)} {step}\n" for step in range(10))
        (experiment / i / "metrics" / "val_loss").write_text(points)
        (experiment / i / "meta.yaml").write_text(run_meta(f"{location}/{i}/artifacts", i, EXPERIMENT))
    return mlruns


def _make_artifact(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "note.txt").write_text("a note")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    makers: dict[str, Callable[[Path, int], Path]] = {"SQLite": make_database, "file store": make_file_store}
    print("| record | runs | seconds | a second time |")
    print("|---|---|---|---|")
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as folder:
            mlruns, seconds = make(Path(folder) / "mlruns", runs), []
            for _ in range(2):
                start = time.perf_counter()
                report = fix_paths(mlruns)
                seconds.append(time.perf_counter() - start)
            assert report.right["runs"] == runs and not report.exit_code
            print(f"| {name} | {runs:,} | {seconds[0]:.2f} | {seconds[1]:.2f} |")


if __name__ == "__main__":
    main()
