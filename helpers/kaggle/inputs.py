"""What a Kaggle session needs: packages its image lacks, the attached captchas found. Standard library only at import.

`python -m helpers kaggle build` makes what is uploaded there: see `build.py`.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

INPUT = Path("/kaggle/input")


# how far a look into a data set goes, which may hold 100,000 files: levels, folders per level, entries per folder
LEVELS, FOLDERS, ENTRIES = 5, 30, 1000


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


def attached_file(name: str, folder: Path = INPUT) -> Path | None:
    """The first attached file of that name; None where there is none, as at home."""
    found = (file for mount in mounts(folder) for file in files_of(mount) if file.name == name)
    return next(found, None)


def earlier_records(folder: Path = INPUT) -> list[Path]:
    """The `mlruns.zip` of earlier trainings that are attached: outputs of notebooks, and data sets made of them."""
    places = [*folder.glob("notebooks/*/*"), *mounts(folder)]
    return sorted(file for place in places for file in files_of(place) if file.name == "mlruns.zip")
