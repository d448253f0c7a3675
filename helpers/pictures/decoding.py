"""Files to pictures in memory: each read, checked, decoded and scaled once, in parallel, and kept in a cache on disk."""

import hashlib
import inspect
import json
import os
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from helpers.output import shown
from helpers.pictures import opening as pictures
from helpers.pictures import view
from helpers.pictures.opening import UNREADABLE, frames_of, open_picture, progress_bar, read_bytes, why
from helpers.pictures.view import WHOLE, as_seen, prepare

NO_IMAGE = np.zeros((0, 0, 0), np.uint8)
DECODERS = 2  # threads; more are no faster, and each keeps the memory of the largest picture that it has met
ROWS = 256  # of a picture, whose digest is made piece by piece


@dataclass(frozen=True)
class Picture:
    """What one file turned out to be. Where it cannot be read, `problem` says why and the rest is empty."""

    problem: str = ""
    content: str = ""  # `digest` of the file's bytes
    look: str = ""  # digest of the decoded pixels: equal for files that show the same
    format: str = ""  # by content, in Pillow's words, as is the mode
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # (width, height), pixels, before it was scaled
    frames: int = 1
    image: np.ndarray = field(default_factory=lambda: NO_IMAGE, repr=False, compare=False)  # uint8 (H, W, C), prepared


def decode(
    paths: Sequence[Path],
    image_size: tuple[int, int],
    channels: int,
    keep_aspect: bool = False,
    crop: tuple[float, float] = WHOLE,
    cache: Path | None = None,
) -> list[Picture]:
    """Every file as a Picture, in order, `prepare`d with these settings. Files that cannot be read stay in.

    `cache` names a file that keeps what was decoded, by the digest of each file's content: files are read again, but
    only new content is decoded. A cache that is damaged or was made by other code is made anew.
    """
    known = _load(cache) if cache else {}

    def one(path: Path) -> Picture:
        try:
            content = read_bytes(path)
        except UNREADABLE as error:
            return Picture(problem=why(error))
        key = digest(content)
        if key in known:
            return known[key]
        seen = decoders.submit(look_at, content, image_size, channels, keep_aspect, crop)
        return replace(seen.result(), content=key)

    with ThreadPoolExecutor(DECODERS) as decoders, ThreadPoolExecutor() as readers:
        found = list(progress_bar(readers.map(one, paths), len(paths), "reading pictures"))
    if cache and any(picture.content and picture.content not in known for picture in found):
        _save(cache, found)
    return found


def digest(content: bytes) -> str:
    """By which a file is known whatever its name: BLAKE2b of its bytes, 128 bits, as `b2sum -l 128 FILE` prints it.

    Of the bytes and not of the pixels, which for a JPEG depend on the version of the decoder: a record that was written
    on one machine is compared with files on another.
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def look_at(
    content: bytes,
    image_size: tuple[int, int],
    channels: int,
    keep_aspect: bool = False,
    crop: tuple[float, float] = WHOLE,
) -> Picture:
    """A file's content as a Picture."""
    try:
        picture = open_picture(content)
        seen = as_seen(picture)
        return Picture(
            look=_look(seen),
            format=picture.format or "",
            mode=picture.mode,
            size=seen.size,
            frames=frames_of(picture, content),
            image=prepare(seen, image_size, channels, keep_aspect, crop),
        )
    except UNREADABLE as error:
        return Picture(problem=why(error))


def _look(seen: Image.Image) -> str:
    made = hashlib.blake2b(f"{seen.size}".encode(), digest_size=16)
    for top in range(0, seen.height, ROWS):
        made.update(seen.crop((0, top, seen.width, min(top + ROWS, seen.height))).convert("RGB").tobytes())
    return made.hexdigest()


def images_differ_in_shape(found: Iterable[Picture], tolerance: float = 1.1) -> bool:
    """Whether width : height differs by more than a tenth among the pictures that could be read."""
    shapes = [picture.size[0] / picture.size[1] for picture in found if not picture.problem]
    return bool(shapes) and max(shapes) > tolerance * min(shapes)


def cache_file(folder: Path, source: Path, *settings: object) -> Path:
    """Where the pictures of a source are kept for these settings of `prepare`."""
    facts = "|".join(map(str, (source, *settings)))
    return folder / f"{source.stem}-{hashlib.blake2b(facts.encode(), digest_size=6).hexdigest()}.npz"


def _made_by() -> str:
    """What decides about pixels: Pillow and the code that prepares them."""
    code = "".join(map(inspect.getsource, (pictures, view, look_at, _look)))
    return f"Pillow {PIL.__version__} {hashlib.blake2b(code.encode(), digest_size=8).hexdigest()}"


def _save(cache: Path, found: Sequence[Picture]) -> None:
    """All or nothing, by way of a part file; a full disk costs the cache and not the training."""
    rows = {picture.content: picture for picture in found if picture.content}.values()
    facts = [asdict(replace(p, image=NO_IMAGE)) | {"image": p.image.shape} for p in rows]
    text = json.dumps({"made_by": _made_by(), "pictures": facts}).encode()
    part = cache.with_name(f".{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            pixels = np.concatenate([NO_IMAGE.ravel(), *(picture.image.ravel() for picture in rows)])
            np.savez(file, facts=np.frombuffer(text, np.uint8), pixels=pixels)
        os.replace(part, cache)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        warnings.warn(f"{shown(cache)} cannot be written ({error}): the next run decodes again", stacklevel=3)


def _load(cache: Path) -> dict[str, Picture]:
    """The kept pictures by the digest of their content; none where the cache is missing, damaged or of other code."""
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            kept, pixels = json.loads(arrays["facts"].tobytes()), arrays["pixels"]
        if kept["made_by"] != _made_by():
            return {}
        ends = np.cumsum([np.prod(facts["image"]) for facts in kept["pictures"]]).astype(int)
        images = np.split(pixels, ends[:-1]) if len(ends) else []
        return {
            facts["content"]: Picture(**facts | {"size": tuple(facts["size"]), "image": image.reshape(facts["image"])})
            for facts, image in zip(kept["pictures"], images, strict=True)
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        warnings.warn(f"{shown(cache)} is damaged ({error}): decoding again", stacklevel=3)
        return {}
