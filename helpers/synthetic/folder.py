"""Synthetic captchas as files, `<text>.png` each; a half-finished folder is completed."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path

from helpers.pictures.opening import read_bytes
from helpers.synthetic.captchas import Synthetic
from helpers.synthetic.painting import paint, processes_for
from mlruns_tools.fixed_paths import place, sync_all

MARKER = "synthetic.json"  # written last: with it the folder is complete


def make_captchas(folder: Path, count: int, *, workers: int | None = None, **settings: object) -> Path:
    """Writes the captchas of `Synthetic(count, **settings)` as `<text>.png` into `folder` and returns it.

    A complete folder of the same settings is used again, a half-finished one is completed. Raises ValueError for
    settings that cannot be met, texts that repeat among them, and for a folder that holds anything else.
    """
    spec = Synthetic(count, **settings)
    if spec.repeats:
        raise ValueError("repeats=yes makes several pictures of one text, which no folder can hold: leave it out")
    texts = spec.texts()
    processes_for(workers, count)  # raises before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    if not _complete(folder, texts, _marker(spec)):
        _write_missing(folder, texts, spec, workers)
        sync_all(folder)  # the pictures are on the disk before the marker says so
        place(folder / MARKER, [_marker(spec).encode()])
    return folder


def _marker(spec: Synthetic) -> str:
    """Names style and `often` only where they are not those that all folders once had."""
    names = ["count", "charset", "length", "image_size", "seed"] + ["style"] * (spec.style != "classic")
    names += ["often"] * bool(spec.often)
    return json.dumps({name: getattr(spec, name) for name in names}, indent=2) + "\n"


def _complete(folder: Path, texts: list[str], marker: str) -> bool:
    """Whether the folder holds exactly this set; ValueError where it holds anything else than a part of it."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    expected = {f"{text}.png" for text in texts}
    if MARKER in found and (other := read_bytes(folder / MARKER).decode()) != marker:
        raise ValueError(
            f"{folder} holds another set of captchas, {other.strip()}: name a new folder or empty this one"
        )
    if strangers := sorted(found - expected - {MARKER}):
        raise ValueError(f"{folder} holds {strangers[0]}, no part of this set: name a new folder or empty this one")
    return found == expected | {MARKER}


def _write_missing(folder: Path, texts: list[str], spec: Synthetic, workers: int | None) -> None:
    """Paints what is not there; what is there must be of this set, and is checked before anything is written."""
    tasks, paths = spec.tasks(), [folder / f"{text}.png" for text in texts]
    present = [index for index, path in enumerate(paths) if path.exists()]
    missing = sorted(set(range(len(texts))) - set(present))
    pictures = paint(spec.style, [tasks[i] for i in present], processes_for(workers, len(present)))
    for index, picture in zip(present, pictures, strict=True):
        if read_bytes(paths[index]) != picture:
            raise ValueError(f"{paths[index]} is no picture of this set: name a new folder or empty this one")
    if present:
        said = f"{folder} is half-finished, {len(present)} of {len(texts)} captchas: making the rest"
        warnings.warn(said, stacklevel=3)
    pictures = paint(spec.style, [tasks[i] for i in missing], processes_for(workers, len(missing)))
    for index, picture in zip(missing, pictures, strict=True):
        _write(paths[index], picture)


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a session that dies leaves no half picture under the final name."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
