"""A process and a temporary folder that end with this process, however it ends: by itself, a signal, or kill -9.

Run as a script, this file is the guard: it makes the folder, starts the command in it, and waits until the pipe from the
process that started it closes. Then it ends the command, with all that this started, and removes the folder.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

ENDED, LOG = "ended", "log"  # files in the folder: the command's exit status once it has ended, and what it printed
PATIENCE = 10  # seconds that the command has to end by itself


class Guarded:
    """A temporary folder, and a command that runs in it; both end with this process, or before, as a context manager.

    Raises OSError where no folder can be made.
    """

    def __init__(self, *command: object, env: Mapping[str, str] | None = None) -> None:
        words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._guard = subprocess.Popen(words, env=env, **pipes, **_own_group())
        atexit.register(self.close)
        made = os.fsdecode(self._guard.stdout.readline().rstrip(b"\r\n"))
        if not made:
            self.close()
            raise OSError(f"no temporary folder can be made in {tempfile.gettempdir()}")
        self.folder = Path(made)

    @property
    def status(self) -> int | None:
        """The exit status of the command; None while it runs."""
        if (self.folder / ENDED).exists():
            return int((self.folder / ENDED).read_text())
        return self._guard.poll()

    @property
    def log(self) -> str:
        """What the command has printed."""
        return (self.folder / LOG).read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Until the command has ended; its exit status."""
        self._guard.stdout.read()
        return self._guard.wait() if self.status is None else self.status

    def close(self) -> None:
        """End the command and remove the folder; a second call does nothing."""
        atexit.unregister(self.close)
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        self._guard.wait()
        self._guard.stdout.close()

    def __enter__(self) -> "Guarded":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _own_group() -> dict[str, object]:
    """For Popen: a group of its own, which neither Ctrl-C at the terminal nor the terminal's end reaches."""
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}


def _end(process: subprocess.Popen) -> None:
    """The process and all of its group."""
    if process.poll() is None:
        process.send_signal(signal.CTRL_BREAK_EVENT) if os.name == "nt" else os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError):  # all of the group have ended
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _run(folder: Path, command: list[str], over: threading.Event) -> None:
    with (folder / LOG).open("wb") as log:
        given = {"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, **given, **_own_group())
    threading.Thread(target=lambda: (over.wait(), _end(process)), daemon=True).start()
    status = process.wait()
    if not over.is_set():
        (folder / f"{ENDED}.part").write_text(str(status))
        os.replace(folder / f"{ENDED}.part", folder / ENDED)
        os.close(1)  # who waits may go on
    over.wait()
    _end(process)


def _watch(parent: int, over: threading.Event) -> None:
    """Sets `over` when the pipe closes, or, where a child of the parent still holds it, when the parent is gone."""
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), over.set()), daemon=True).start()
    while not over.wait(1):
        if os.name != "nt" and os.getppid() != parent:
            over.set()


def main() -> None:
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)  # SIG_IGN would be the command's, too
    over = threading.Event()
    threading.Thread(target=_watch, args=(int(sys.argv[1]), over), daemon=True).start()
    folder = Path(tempfile.mkdtemp(prefix="mlruns-tools-"))
    try:
        (folder / LOG).touch()
        with contextlib.suppress(OSError):  # who asked may be gone
            os.write(1, os.fsencode(folder) + b"\n")
        if command := sys.argv[2:]:
            _run(folder, command, over)
        over.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
