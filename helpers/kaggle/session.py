"""A Kaggle session, made ready: packages, GPU and data said, an earlier record brought, the zip offered."""

import argparse
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from helpers.config import on_kaggle
from helpers.kaggle.inputs import INPUT, earlier_records
from helpers.kaggle.packages import install, installed, missing_packages, normal, requirements
from helpers.output import say, sentence
from helpers.sources.attached import choose_data

SHOWN = ("torch", "torchvision", "pytorch-lightning", "albumentations", "numpy", "pillow")  # packages of the image


def prepare() -> None:
    """On Kaggle installs what the image lacks, then says what the session has; of a script answers `--help`.

    A script that is given arguments which it does not know ends here, with status 2.
    """
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    if script.parent.name == "notebooks" and script.stem != "mlflow_dashboard":  # which has arguments of its own
        _answer(script)
    if on_kaggle():
        if missing := missing_packages():
            install(missing)
        print(sentence(summary()))


def _answer(script: Path) -> None:
    title = next(line for line in script.read_text(encoding="utf-8").split("\n") if line.startswith("# # "))
    settings = "Settings are variables: CAPTCHA_DATA=my-captchas python notebooks/" + script.name
    argparse.ArgumentParser(script.name, description=title.removeprefix("# # "), epilog=settings).parse_args()


def summary() -> str:
    """Versions, GPU and data, a line each."""
    there, tested = installed(), dict(line.split("==") for line in requirements())
    names = [*SHOWN, *map(normal, tested)]
    lines = [f"Python {platform.python_version()}, " + ", ".join(f"{name} {there.get(name)}" for name in names)]
    for name, version in tested.items():
        if there.get(normal(name)) != version:
            lines.append(f"{name} {there.get(normal(name))} came with the image and stays; tested is {version}")
    lines.append(f"GPU: {gpus() or 'none; the notebook settings offer one as accelerator'}")
    return "\n".join([*lines, choose_data()[1]])


def gpus() -> str:
    """Names and memory of the GPUs as the driver tells them; empty where there is none."""
    with suppress(OSError):
        command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.returncode:
            return "; ".join(done.stdout.split("\n")).strip("; ")
    return ""


def bring_record(work: Path, folder: Path = INPUT) -> None:
    """On Kaggle unpacks an attached record into the work folder, its locations made right, unless there is one."""
    from mlruns_tools.fixed_paths import fix_paths

    if on_kaggle() and not (work / "mlruns").exists() and (records := earlier_records(folder)):
        fix_paths(records[0], work)
        others = f"; attached too: {', '.join(map(str, records[1:]))}" if records[1:] else ""
        say(f"the record of an earlier notebook: {records[0]}{others}")


def download_link(archive: Path | None) -> None:
    """In a notebook shows a link to click, relative to where it runs; as a script, or without a file, there is none."""
    from IPython import get_ipython
    from IPython.display import FileLink, display

    if archive and get_ipython():
        display(FileLink(os.path.relpath(archive)))
