"""What a dashboard leaves when it is ended from outside: `python -m tests.benchmarks.leftovers RECORD --count 3`.

The script is started, and gets a signal at once, while its server starts, or when the page answers. Seconds later no
process of it may run and its folder for temporary files must be empty. Linux.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.config import PROJECT

ROUNDS = {"while it imports": (0.1, 2.0), "while the server starts": None, "when it answers": None}
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
PATIENCE = 60  # seconds for all to end; what does not end by itself is there for hours


def left_after(mlruns: Path, number: signal.Signals, moment: str, folder: Path) -> list[str]:
    """The processes and files that are left after the signal."""
    temporary = folder / "temporary"
    temporary.mkdir()
    record = shutil.copytree(mlruns, folder / "mlruns")
    script = PROJECT / "notebooks" / "mlflow_dashboard.py"
    mark = f"leftovers-{time.time_ns()}"
    environment = os.environ | {"TMPDIR": str(temporary), "LEFTOVERS": mark}
    environment.pop("CAPTCHA_TINY", None)  # which stops the dashboard at once
    with (folder / "said").open("w+") as said:
        command = [sys.executable, "-u", script, record, "--no-browser"]
        given = {"stdout": said, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(command, env=environment, cwd=folder, **given)
        _until(moment, process, temporary, folder / "said")
        ended_before = process.poll()
        process.send_signal(number)
        process.wait(60)
        end = time.monotonic() + PATIENCE
        while (left := [*_processes(mark), *map(str, temporary.rglob("*"))]) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in _processes(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.split()[0]), signal.SIGKILL)
    shutil.rmtree(record)
    return [*left, *([] if ended_before is None else [f"it had ended before: {(folder / 'said').read_text()}"])]


def _until(moment: str, process: subprocess.Popen, temporary: Path, said: Path) -> None:
    if within := ROUNDS[moment]:
        return time.sleep(random.uniform(*within))
    while process.poll() is None:
        if any(temporary.glob("*/log")) if moment == "while the server starts" else "Ctrl-C" in said.read_text():
            return None
        time.sleep(0.02)
    return None


def _processes(mark: str) -> list[str]:
    """Those with the mark in their environment, by number and command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(f"{folder.name} {(folder / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()[:80]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--count", type=int, default=2, help="of each signal at each moment")
    given = parser.parse_args()
    print(f"| moment | {' | '.join(number.name for number in SIGNALS)} |\n|{'---|' * (len(SIGNALS) + 1)}")
    for moment in ROUNDS:
        cells = []
        for number in SIGNALS:
            left = []
            for _ in range(given.count):
                with tempfile.TemporaryDirectory() as folder:
                    left.append(left_after(given.record, number, moment, Path(folder)))
            cells.append(f"{sum(not each for each in left)} of {given.count} clean")
            print(*(f"{number.name}, {moment}: {each}" for each in left if each), sep="\n", end="", file=sys.stderr)
        print(f"| {moment} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
