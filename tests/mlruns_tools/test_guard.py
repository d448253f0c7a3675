"""What a command, a notebook or a terminal started ends with it, however it ends; no folder of it stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlruns_tools.guard import Guarded
from tests.benchmarks.leftovers import ROUNDS, left_after
from tests.records import sqlite_record


def test_a_command_runs_in_its_folder_and_both_end() -> None:
    code = "import pathlib, sys; pathlib.Path('made').touch(); print('seen'); sys.exit(3)"
    with Guarded(sys.executable, "-c", code) as guarded:
        assert guarded.wait() == 3 and guarded.log.strip() == "seen" and (guarded.folder / "made").exists()
    assert not guarded.folder.exists()


def test_one_that_does_not_end_is_ended_with_what_it_started() -> None:
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with Guarded(sys.executable, "-c", code) as guarded:
        while not guarded.log.endswith("\n"):
            time.sleep(0.02)
        assert guarded.status is None
        child = int(guarded.log)
    with pytest.raises(ProcessLookupError):
        while True:  # until init has taken its exit status
            os.kill(child, 0)
            time.sleep(0.02)
    guarded.close()  # again, which does nothing


def test_a_folder_alone() -> None:
    with Guarded() as guarded:
        assert guarded.folder.is_dir()
    assert not guarded.folder.exists()


def test_where_no_folder_can_be_made_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlruns_tools.guard.sys.executable", "false")  # a guard that ends at once
    with pytest.raises(OSError, match="no temporary folder can be made in"):
        Guarded()


def test_a_child_that_holds_the_pipe_keeps_nothing_alive(tmp_path: Path) -> None:
    """As one that was forked, and not a program of its own."""
    code = (
        "import os, sys, time; from mlruns_tools.guard import Guarded; guarded = Guarded('sleep', '60');"
        " print(guarded.folder, flush=True); os.fork() or time.sleep(20); os.kill(os.getpid(), 9)"
    )
    done = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    folder = Path(done.stdout.readline().strip())
    done.wait()
    end = time.monotonic() + 10
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        *((signal.SIGKILL, moment) for moment in ROUNDS),
        (signal.SIGHUP, "when it answers"),
        (signal.SIGTERM, "while the server starts"),
        (signal.SIGINT, "when it answers"),
    ],
)
def test_the_dashboard_leaves_no_process_and_no_folder(
    number: signal.Signals, moment: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mlruns = sqlite_record(tmp_path_factory) / "mlruns"
    assert left_after(mlruns, number, moment, tmp_path) == []
