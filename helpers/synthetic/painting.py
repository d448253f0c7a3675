"""Pictures painted in order, by as many processes as pay."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from helpers.pictures.opening import progress_bar
from helpers.synthetic.styles import STYLES, Task

WORTH_A_PROCESS = 250  # pictures: fewer are painted before a process has started


def processes_for(workers: int | None, pictures: int) -> int:
    """How many processes paint. Only a forked one leaves the caller's `__main__` alone; daemons may have no children."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} cannot be used: a whole number from 1 is expected, or None")
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 1
    wanted = workers or min(len(os.sched_getaffinity(0)), pictures // WORTH_A_PROCESS)
    return max(1, min(wanted, pictures))


def paint(style: str, tasks: Sequence[Task], processes: int, progress: bool = True) -> Iterator[bytes]:
    """The pictures of the tasks, in their order, as PNG files; process k of n paints k, k + n, ..., as its pipe has room."""
    children = [_start(style, tasks[k::processes]) for k in range(processes)] if processes > 1 else []
    bar = progress_bar(tasks, len(tasks), "painting captchas") if progress else tasks
    try:
        for place, task in enumerate(bar):
            if children:
                yield children[place % processes][1].recv_bytes()
            else:
                yield STYLES[style](task)
    except EOFError as error:
        raise RuntimeError("a process that paints captchas has died: try workers=1") from error
    finally:
        for process, reader in children:
            process.kill()  # not `terminate`: the caller's own handler of that signal was inherited
            process.join()
            reader.close()


def _start(style: str, tasks: Sequence[Task]) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(reader, writer, style, tasks), daemon=True)
    process.start()
    writer.close()  # or the end of the process would not be the end of the pipe
    return process, reader


def _send(reader: Connection, writer: Connection, style: str, tasks: Sequence[Task]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    reader.close()  # or a parent that was killed would go unnoticed
    with suppress(BrokenPipeError):
        for task in tasks:
            writer.send_bytes(STYLES[style](task))
