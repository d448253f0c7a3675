"""The captchas among the data sets that are attached on Kaggle."""

from collections.abc import Sequence
from pathlib import Path

from helpers.kaggle.inputs import INPUT, files_of, mounts
from helpers.output import say
from helpers.pictures.files import IMAGE_SUFFIXES, DataError, zip_names
from helpers.sources.names import TABLES
from helpers.sources.tables import is_table_of_captchas

HOW_TO_CHOOSE = "CAPTCHA_DATA or Config(data=...) names another"


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

    tables = [file for file in files if file.suffix.lower() in TABLES and is_table_of_captchas(file)]
    pictures = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if len(tables) == 1 and any(picture.is_relative_to(tables[0].parent) for picture in pictures):
        return tables[0], f"the table of its {holds}"
    return place, f"{holds} with their texts as names"
