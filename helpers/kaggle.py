"""What a Kaggle session needs: packages its image lacks, and the attached data set found. Standard library only."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from helpers.config import PROJECT, on_kaggle

INPUT = Path("/kaggle/input")


def missing_packages() -> list[str]:
    """The lines of requirements.txt that training needs and that are not installed."""
    needed = ("mlflow", "captcha", "rapidfuzz", "albumentations", "simplejpeg")  # modules, named like their packages
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").split()
    absent = {name for name in needed if importlib.util.find_spec(name) is None}
    return [line for line in lines if line.split("=")[0].split(">")[0] in absent]


def prepare() -> None:
    """On Kaggle installs what the image lacks, with Internet switched on; elsewhere does nothing."""
    if not on_kaggle() or not (missing := missing_packages()):
        return
    if subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing]).returncode:
        raise RuntimeError(
            f"cannot install {missing}: switch Internet on in the notebook's settings and run this again"
        )


def attached_data(folder: Path = INPUT) -> Path | None:
    """The first attached data set that holds pictures, in both mount layouts; the project's own copy is passed over."""
    from helpers.pictures import IMAGE_SUFFIXES  # not above: the packages it needs may still be missing

    for candidate in sorted([*folder.glob("datasets/*/*"), *(p for p in folder.glob("*") if p.name != "datasets")]):
        layers = [candidate.glob("/".join("*" * depth)) for depth in (1, 2, 3)]
        own = any(file for depth in range(4) for file in candidate.glob("*/" * depth + "helpers/config.py"))
        if not own and any(path.suffix.lower() in IMAGE_SUFFIXES for layer in layers for path in layer):
            return candidate
    return None


def download_link(archive: Path | None) -> None:
    """In a notebook shows a link to click, relative to where it runs; as a script, or without a file, there is none."""
    from IPython import get_ipython
    from IPython.display import FileLink, display

    if archive and get_ipython():
        display(FileLink(os.path.relpath(archive)))
