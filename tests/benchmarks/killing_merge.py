"""Merges killed at random moments, and packs of a record that another process writes: is any record lost or half?

`python -m tests.benchmarks.killing_merge --count 20`
"""

import argparse
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from contextlib import chdir, closing
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from helpers.config import PROJECT
from mlruns_tools.dashboard import _client
from mlruns_tools.fixed_paths import DATABASE, PREFIX, write_marker
from mlruns_tools.merge import merge
from mlruns_tools.pack import pack

STEPS, KEYS = 50, 20  # of a run: steps, metrics in each
MERGE = "import sys; from mlruns_tools.merge import merge; print('begun', flush=True); merge(*sys.argv[1:])"
WRITE = """
import sys, time
from pathlib import Path
from mlflow.entities import Metric
from mlruns_tools.dashboard import _client
client = _client(Path(sys.argv[1]))
for step in range(10**6):
    client.log_batch(sys.argv[2], [Metric(f"m{key}", step, int(time.time() * 1000), step) for key in range(20)])
    print(step, flush=True)
"""


def make_record(mlruns: Path, runs: int, size: int) -> MlflowClient:
    """A record of finished runs, each with 50 steps of 20 metrics and three artifacts of `size` bytes."""
    mlruns.mkdir(parents=True)
    (mlruns / DATABASE).touch()
    with chdir(mlruns.parent):
        client = _client(mlruns / DATABASE)
    experiment = client.create_experiment("captcha-ocr", (mlruns / "artifacts").as_uri())
    for number in range(runs):
        run = client.create_run(experiment, run_name=f"run {number}").info.run_id
        metrics = [Metric(f"m{key}", step / 7, step, step) for step in range(STEPS) for key in range(KEYS)]
        client.log_batch(run, metrics)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("a.pth", "b.pth", "c.txt"):
                Path(folder, name).write_bytes(os.urandom(size))
            client.log_artifacts(run, folder, "model")
        client.set_terminated(run)
    write_marker(mlruns)
    return client


def contents(mlruns: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """{run id: (rows of metrics, {artifact: its hash})}; raises ValueError for an unsound database."""
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise ValueError(f"{mlruns / DATABASE} is damaged")
        rows = connection.execute(
            "SELECT r.run_uuid, count(m.run_uuid) FROM runs r LEFT JOIN metrics m USING (run_uuid) GROUP BY 1"
        ).fetchall()
    found = {}
    for run, count in rows:
        folder = mlruns / "artifacts" / run / "artifacts"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        found[run] = count, hashes
    return found


def kill_merges(count: int, source: Path, own: Path, folder: Path) -> dict[str, int]:
    """Kills `count` merges, by turns into a record with runs of its own and into a new one; counts what was found."""
    theirs, ours, outcomes = contents(source), contents(own), Counter()
    archive = pack(source).path
    started = time.perf_counter()
    merge(archive, folder / "timed")
    seconds = time.perf_counter() - started
    for attempt in range(count):
        target = folder / f"target {attempt}"
        before = {} if attempt % 2 else ours
        if before:
            shutil.copytree(own, target)
            subprocess.run(
                [sys.executable, "-m", "mlruns_tools.fixed_paths", target],
                cwd=PROJECT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        command = [sys.executable, "-c", MERGE, archive, target]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(random.uniform(0, seconds))
        process.kill()
        ended = process.wait() == 0
        midway = any(target.glob(f"{PREFIX}*"))
        there = contents(target) if (target / DATABASE).exists() else {}
        outcomes["killed midway"] += midway
        outcomes["killed before it touched the target"] += not midway and not ended
        outcomes["ended before the kill"] += ended
        outcomes["after a kill: rows were not there yet"] += midway and there == before
        outcomes["after a kill: all rows were there"] += midway and there == before | theirs
        outcomes["WRONG: half a merge, or a lost run, after the kill"] += there not in (before, before | theirs)
        merge(archive, target)
        right = contents(target) == before | theirs
        outcomes["the next merge ended right"] += right
        outcomes["WRONG: the next merge did not end right"] += not right
        shutil.rmtree(target)
    return dict(outcomes)


def pack_while_writing(count: int, mlruns: Path, client: MlflowClient, folder: Path) -> dict[str, int]:
    """Packs `count` times while another process commits twenty metrics at a time; counts what was found."""
    outcomes = Counter()
    run = client.create_run(client.get_experiment_by_name("captcha-ocr").experiment_id).info.run_id
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, mlruns, run], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        writer.stdout.readline()
        for attempt in range(count):
            with zipfile.ZipFile(pack(mlruns, folder / "packed.zip").path) as archive:
                copy = Path(archive.extract(f"mlruns/{DATABASE}", folder / f"unpacked {attempt}"))
            with closing(sqlite3.connect(copy)) as connection:
                sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                rows = connection.execute("SELECT count(*) FROM metrics WHERE run_uuid = ?", (run,)).fetchone()[0]
            outcomes["packs that are sound"] += sound and rows % KEYS == 0
            outcomes["WRONG: damaged packs, or half a commit in them"] += not sound or rows % KEYS != 0
        if writer.poll() is not None:
            raise RuntimeError("the writer ended early: nothing was measured")
    finally:
        writer.kill()
        last = writer.stdout.read().split()
        writer.wait()
    outcomes["commits of the other process meanwhile"] = len(last)
    return dict(outcomes)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--count", type=int, default=20, help="of merges to kill, and of packs")
    made.add_argument("--runs", type=int, default=20, help="of the record that is merged")
    made.add_argument("--size", type=int, default=1_000_000, help="bytes of an artifact")
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="captcha-killing-") as name:
        folder = Path(name).resolve()
        client = make_record(folder / "kaggle" / "mlruns", options.runs, options.size)
        make_record(folder / "own" / "mlruns", 3, 1000)
        outcomes = kill_merges(options.count, folder / "kaggle" / "mlruns", folder / "own" / "mlruns", folder)
        outcomes |= pack_while_writing(options.count, folder / "kaggle" / "mlruns", client, folder)
    print("| what | count |\n|---|---|")
    print(f"| merges killed at a random moment | {options.count} |")
    for what, count in outcomes.items():
        print(f"| {what} | {count} |")
    if any(count for what, count in outcomes.items() if what.startswith("WRONG")):
        sys.exit(1)


if __name__ == "__main__":
    main()
