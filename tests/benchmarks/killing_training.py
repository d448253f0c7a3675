"""Trainings killed (SIGKILL) at random moments, each started again until it ends: what then stands in the record.

    python -m tests.benchmarks.killing_training --count 10 [--two]

A training on a few synthetic captchas is run once without interruption. Then it is begun in a new folder, killed after a
random part of the time that takes, or as soon after it as a checkpoint or the zip is half-written, begun again, and so on;
the last start is left alone. Shown is what has to agree: one run, each epoch once, the values of the uninterrupted one.
With --two each start is of two trainings at once: of them one has to train, and one to be refused by a sentence that names
its process. The last table counts, by kind of end, those after which all that agreed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient

from helpers.config import PROJECT
from helpers.record.tracking import tracking_uri
from helpers.training.session import STATE
from mlruns_tools.fixed_paths import PREFIX
from tests.benchmarks.common import table

CODE = """
from helpers.config import Config
from helpers.data.module import load_data
from helpers.experiment import pack_record, train
config = Config()
train(config, load_data(config))
pack_record(config)
"""
SECOND = "a second training at once"
METRICS = ("train_loss", "val_loss", "val_cer", "test_exact", "test_cer")


def start(work: Path, epochs: int, said: int = subprocess.DEVNULL) -> subprocess.Popen:
    settings = {
        "WORK": work,
        "RECIPE": "conv_ctc",
        "DATA": "synthetic:count=300,length=4,charset=0123456789,style=clean",
    }
    settings |= {"EPOCHS": epochs, "DEVICE": "cpu"}
    environment = os.environ | {f"CAPTCHA_{name}": str(value) for name, value in settings.items()}
    environment["OMP_NUM_THREADS"] = "1"
    silent = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", CODE], cwd=PROJECT, env=environment, stdout=silent, stderr=said)


def start_two(work: Path, epochs: int) -> tuple[subprocess.Popen, bool]:
    """(the training that has the work folder, whether the other one was refused by a sentence that names it)."""
    both = [start(work, epochs, subprocess.PIPE) for _ in range(2)]
    while all(each.poll() is None for each in both):
        time.sleep(0.01)
    (ended,) = [each for each in both if each.poll() is not None][:1]
    (other,) = [each for each in both if each is not ended]
    sentence = f"Refused: process {other.pid} trains in {work} already"
    said = ended.stderr.read().decode().splitlines()
    if not (refused := any(line.startswith(sentence) for line in said)):
        print(*said[-3:], sep="\n", flush=True)
    return other, refused


def wait_for_part(process: subprocess.Popen, work: Path) -> str:
    """The name of a file that is half-written, a checkpoint or the zip, once there is one; "" where the process ends."""
    while process.poll() is None:
        for path in (work / "checkpoints").glob("*.part"):
            return path.name
        for folder, what in ((work / "checkpoints", "best.ckpt or training.json"), (work, "mlruns.zip")):
            if any(folder.glob(f"{PREFIX}*")):
                return what
        time.sleep(0.0005)
    return ""


def done(work: Path) -> bool:
    """Whether the training has ended: it has no state to go on from, and the run says so."""
    return not (work / STATE).exists() and (work / "mlruns" / "mlflow.db").exists() and record(work)[0] == ["FINISHED"]


def record(work: Path) -> tuple[list[str], list[list[tuple[int, float]]]]:
    """(the status of every run, the histories of the first one)."""
    client = MlflowClient(tracking_uri=tracking_uri(work / "mlruns"))
    runs = client.search_runs([client.get_experiment_by_name("captcha-ocr").experiment_id])
    histories = [[(p.step, p.value) for p in client.get_metric_history(runs[0].info.run_id, name)] for name in METRICS]
    return [run.info.status for run in runs], histories


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=10, help="kills")
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    options.add_argument("--two", action="store_true", help="start two trainings at once, each time")
    given = options.parse_args()
    draw, rows, kills, round_ = random.Random(given.seed), [], 0, 0
    tried, survived = Counter(), Counter()  # {kind of end: how often}

    share = (0.02, 0.4) if given.two else (0.1, 1)  # of two the first has begun when the second is refused

    def begin(work: Path) -> subprocess.Popen:
        if not given.two:
            return start(work, given.epochs)
        process, refused = start_two(work, given.epochs)
        tried[SECOND] += 1
        survived[SECOND] += refused
        return process

    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        assert start(Path(folder) / "whole", given.epochs).wait() == 0
        seconds = time.monotonic() - begun
        statuses, expected = record(Path(folder) / "whole")
        assert statuses == ["FINISHED"]
        while kills < given.count:
            work, moments, round_ = Path(folder) / str(round_), [], round_ + 1
            for _ in range(draw.randint(1, 3)):
                process, moment = begin(work), draw.uniform(*share) * seconds
                try:
                    process.wait(moment)
                    break  # it had ended before
                except subprocess.TimeoutExpired:
                    writing = wait_for_part(process, work) if draw.random() < 0.5 else ""
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    moments.append(writing or f"{moment / seconds:.2f}")
                    if done(work):
                        break  # only the zip was cut short
            else:
                assert begin(work).wait() == 0
            kills += len(moments)
            statuses, found = record(work)
            killed = ", ".join(moments)
            steps = all([s for s, _ in a] == [s for s, _ in b] for a, b in zip(found, expected, strict=True))
            rows.append((killed, ", ".join(statuses), "yes" if steps else "NO", "yes" if found == expected else "NO"))
            kinds = ["at a random moment" if moment[0].isdigit() else f"while writing {moment}" for moment in moments]
            tried.update(kinds)
            survived.update(kinds if len(statuses) == 1 and found == expected else ())
            print(*rows[-1], sep="  ", flush=True)
    print(f"\n{kills} kills; uninterrupted: {seconds:.0f} s")
    table(
        ("killed after (share of that), or while writing", "runs", "each epoch once", "values as uninterrupted"), rows
    )
    table(("kind", "tried", "survived"), [(kind, tried[kind], survived[kind]) for kind in sorted(tried)])


if __name__ == "__main__":
    main()
