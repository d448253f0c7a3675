"""What a Kaggle session needs: packages its image lacks, the attached captchas found. Standard library only at import.

`python -m helpers.kaggle.inputs build` makes what is uploaded there: see `helpers/kaggle_build.py`.
"""

import importlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from itertools import islice
from pathlib import Path

from helpers.config import PROJECT, on_kaggle
from helpers.output import say, sentence
from helpers.pictures.files import IMAGE_SUFFIXES, DataError, zip_names

INPUT = Path("/kaggle/input")
REQUIREMENTS = PROJECT / "requirements-kaggle.txt"  # what the image lacks, each with its version and hashes
HASH = "--hash=sha256:"
WHEELS = "captcha-ocr-offline-wheels"  # the data set of their wheels that the build makes
SHOWN = ("torch", "torchvision", "pytorch-lightning", "albumentations", "numpy", "pillow")  # packages of the image
HOW_TO_CHOOSE = "CAPTCHA_DATA or Config(data=...) names another"
# how far a look into a data set goes, which may hold 100,000 files: levels, folders per level, entries per folder
LEVELS, FOLDERS, ENTRIES = 5, 30, 1000


def prepare() -> None:
    """On Kaggle installs what the image lacks, then says what the session has; elsewhere does nothing."""
    if on_kaggle():
        if missing := missing_packages():
            install(missing)
        print(sentence(summary()))


def pins() -> dict[str, set[str]]:
    """{`name==version`: the SHA-256 of each of its files that may be installed}, of requirements-kaggle.txt."""
    text = REQUIREMENTS.read_text(encoding="utf-8").replace("\\\n", " ")
    words = [line.partition("#")[0].split() for line in text.splitlines()]
    return {line: {word.removeprefix(HASH) for word in hashes} for line, *hashes in filter(None, words)}


def requirements() -> list[str]:
    """The packages of requirements-kaggle.txt, `name==version` each."""
    return list(pins())


@contextmanager
def exactly(lines: Sequence[str]) -> Iterator[list[str]]:
    """pip's arguments for these packages of requirements-kaggle.txt: their files by hash, nothing that they need besides."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        wanted = [" ".join([line, *(HASH + sha256 for sha256 in sorted(pins()[line]))]) for line in lines]
        file.write_text("\n".join(wanted), encoding="utf-8")
        yield ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(file)]


def missing_packages() -> list[str]:
    """Those of them that are not installed; what is installed stays, whatever its version."""
    there = installed()
    return [line for line in requirements() if normal(line.partition("==")[0]) not in there]


def installed() -> dict[str, str]:
    """{package: version}; of a package found twice, the one that Python imports."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        if name := package.metadata["Name"]:
            found.setdefault(normal(name), package.version)
    return found


def normal(package: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", package).lower()


def install(lines: Sequence[str]) -> None:
    """Installs exactly these, from attached wheels where there are any, else from the index.

    Raises RuntimeError where neither has them, where another package changed, or where one that they need is missing.
    """
    before, folders = installed(), attached_wheels()
    sources = [["--no-index", *(f"--find-links={folder}" for folder in folders)]] if folders else []
    for source in [*sources, ["--retries=1"]]:
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *source]
        with exactly(lines) as files:
            done = subprocess.run([*command, *files], capture_output=True, text=True)
        if not done.returncode:
            break
    else:
        print(done.stderr[-1000:], file=sys.stderr)
        raise RuntimeError(
            f"cannot install {', '.join(lines)}: switch Internet on in the notebook's settings, or attach the data set"
            f" {WHEELS} that `python -m helpers.kaggle.inputs build` makes, and run this again"
        )
    importlib.invalidate_caches()
    after = installed()
    changed = [f"{name} {old} -> {after.get(name)}" for name, old in before.items() if after.get(name) != old]
    if changed:
        raise RuntimeError(f"the installation changed {', '.join(changed)}: start the session again, and report it")
    if lacking := needed_by(lines) - set(after):
        raise RuntimeError(
            f"this image lacks {', '.join(sorted(lacking))} besides: add it to {REQUIREMENTS.name} and build the notebook"
            " again, or switch Internet on and install it before this cell"
        )
    origin = ", ".join(map(str, folders)) if "--no-index" in source else "the index"
    say(f"installed {', '.join(lines)} from {origin}")


def needed_by(lines: Sequence[str]) -> set[str]:
    """The packages that these need everywhere: those of their requirements that carry no condition."""
    found = [metadata.requires(line.partition("==")[0]) or [] for line in lines]
    return {normal(re.match(r"[\w.-]+", need)[0]) for needs in found for need in needs if ";" not in need}


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


def mounts(folder: Path = INPUT) -> list[Path]:
    """The attached data sets, where Kaggle mounts them now and where it did before; outputs of notebooks are none."""
    before = (path for path in folder.glob("*") if path.name not in ("datasets", "notebooks", "models"))
    found: dict[Path, Path] = {}
    for path in sorted(path for path in [*folder.glob("datasets/*/*"), *before] if path.is_dir()):
        found.setdefault(path.resolve(), path)  # one that has two names, once
    return list(found.values())


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a data set level by level, as far as a bounded look goes."""
    level = [folder]
    for _ in range(LEVELS):
        below: list[Path] = []
        for place in sorted(level)[:FOLDERS]:
            with suppress(OSError), os.scandir(place) as entries:
                for entry in islice(entries, ENTRIES):
                    if entry.is_dir():
                        below.append(Path(entry.path))
                    else:
                        yield Path(entry.path)
        level = below


def attached_wheels(folder: Path = INPUT) -> list[Path]:
    """The attached folders that hold wheels."""
    return sorted({file.parent for mount in mounts(folder) for file in files_of(mount) if file.suffix == ".whl"})


def attached_data(folder: Path = INPUT) -> Path | None:
    """The attached captchas: a data set's folder, or the table or zip in it; None where there are none."""
    return choose_data(folder)[0]


def choose_data(folder: Path = INPUT) -> tuple[Path | None, str]:
    """(the attached captchas or None, a sentence that says why these and how to choose others).

    Of several data sets, one that is called after captchas goes first, then the first by its name. The project's own
    copy, wheels and what an earlier training left are passed over.
    """
    there = mounts(folder)
    found = [(mount, *captchas) for mount in there if (captchas := captchas_of(mount))]
    if not found:
        what = f"NONE OF THE ATTACHED DATA SETS HOLDS CAPTCHAS ({', '.join(path.name for path in there)})"
        return None, (
            f"{what if there else 'NO DATA SET IS ATTACHED'}: training on synthetic captchas."
            " Attach one with Add Input to train on it."
        )
    called = [captchas for captchas in found if "captcha" in captchas[0].name.lower()]
    mount, chosen, holds = (called or found)[0]
    others = [str(other) for other, *_ in found if other != mount]
    if not others:
        return chosen, f"captchas: {chosen}, {holds}; {HOW_TO_CHOOSE}"
    why = "the only one called after captchas" if len(called) == 1 else "the first by its name"
    return chosen, f"captchas: {chosen}, {holds}, {why}; attached too: {', '.join(others)}; {HOW_TO_CHOOSE}"


def captchas_of(mount: Path) -> tuple[Path, str] | None:
    """(what to read of a data set, what it holds); None where it holds no captchas."""
    files = list(files_of(mount))
    if any(file.parts[-2:] == ("helpers", "config.py") or file.name in ("mlruns.zip", "mlruns.json") for file in files):
        return None
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        return _labelled(mount, files, "pictures")
    for archive in sorted(file for file in files if file.suffix.lower() == ".zip"):
        try:
            names = [archive / name for name in zip_names(archive)]
        except DataError as error:
            say(f"passed over: {error}")
            continue
        if any(name.suffix.lower() in IMAGE_SUFFIXES for name in names):
            return _labelled(archive, names, "a zip of pictures")
    return None


def _labelled(place: Path, files: Sequence[Path], holds: str) -> tuple[Path, str]:
    """The place itself, or the one table in it that names its pictures and their texts."""
    from helpers.data.samples import (  # not above: the packages it needs may still be missing
        TABLES,
        is_table_of_captchas,
    )

    tables = [file for file in files if file.suffix.lower() in TABLES and is_table_of_captchas(file)]
    pictures = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if len(tables) == 1 and any(picture.is_relative_to(tables[0].parent) for picture in pictures):
        return tables[0], f"the table of its {holds}"
    return place, f"{holds} with their texts as names"


def earlier_records(folder: Path = INPUT) -> list[Path]:
    """The `mlruns.zip` of earlier trainings that are attached: outputs of notebooks, and data sets made of them."""
    places = [*folder.glob("notebooks/*/*"), *mounts(folder)]
    return sorted(file for place in places for file in files_of(place) if file.name == "mlruns.zip")


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


if __name__ == "__main__":
    from helpers.kaggle.build import main

    sys.exit(main())
