"""Captchas from nothing: a seed and a charset in, a folder of labelled `<text>.png` out, the same on every call."""

import json
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import captcha.image
import matplotlib

CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # digits and capitals without the look-alikes 0 O and 1 I
DEJAVU = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")  # matplotlib ships them
FONT_SHARES = (26 / 40, 30 / 40, 34 / 40)  # font sizes as shares of the picture's height
ROTATION = (-22, 22)  # degrees; and below: calmer than the package's +-30 and 0.25, where letters hide each other
OVERLAP = 0.12  # of the average character, at most
MARKER = "synthetic.json"  # written last: with it the folder is complete
# file names that Windows keeps for devices, whatever the suffix (Microsoft, "Naming Files, Paths, and Namespaces")
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}


def make_captchas(
    folder: Path,
    count: int,
    *,
    charset: str = CHARSET,
    length: int | tuple[int, int] = 5,
    image_size: tuple[int, int] = (40, 150),
    seed: int = 0,
) -> Path:
    """Writes `count` captchas as `<text>.png` into `folder` and returns it; `image_size` is (height, width), pixels.

    `length` is the number of characters, or its (lowest, highest) value. Texts are drawn uniformly, so doubled letters
    occur as they fall, and no two are the same on a file system that ignores case. Picture i depends on the seed, i and
    the other settings but not on `count`: a smaller set is the beginning of a larger one. A complete folder of the same
    settings is used again, a half-finished one is completed. Raises ValueError for settings that cannot be met and for
    a folder that holds anything else. Not for two threads at once: the source of randomness is replaced process-wide.
    """
    texts = draw_texts(count, charset, length, seed)
    settings = {"count": count, "charset": charset, "length": length, "image_size": image_size, "seed": seed}
    marker = json.dumps(settings, indent=2) + "\n"
    if min(image_size) < 16:
        raise ValueError(f"image_size={image_size} is too small for captchas: 16 x 16 pixels is the least")
    folder.mkdir(parents=True, exist_ok=True)
    if not _complete(folder, texts, marker):
        _write_missing(folder, texts, image_size, seed)
        _write(folder / MARKER, marker.encode())
    return folder


def draw_texts(count: int, charset: str, length: int | tuple[int, int], seed: int) -> list[str]:
    """`count` seeded texts, no two equal when case-folded; ValueError where the settings do not allow that many."""
    low, high = (length, length) if isinstance(length, int) else length
    folded = set(charset.casefold())
    usable = all(c.isalnum() and len(c.casefold()) == 1 for c in charset) and len(set(charset)) == len(charset) > 0
    if not usable:
        raise ValueError(f"charset={charset!r} cannot be used: one or more letters and digits, each once, are expected")
    if not 1 <= low <= high:
        raise ValueError(f"length={length!r} cannot be used: a whole number from 1, or (lowest, highest), is expected")
    devices = sum(low <= len(name) <= high and set(name) <= folded for name in RESERVED)
    possible = sum(len(folded) ** n for n in range(low, high + 1)) - devices
    if not 1 <= count <= possible:
        raise ValueError(f"{count} captchas cannot be made: {possible} texts differ with {charset=} and {length=}")
    draw = random.Random(f"{seed}:texts")
    texts: dict[str, str] = {}
    while len(texts) < count:
        text = "".join(draw.choices(charset, k=draw.randint(low, high)))
        if text.casefold() not in RESERVED:
            texts.setdefault(text.casefold(), text)
    return list(texts.values())


def _complete(folder: Path, texts: list[str], marker: str) -> bool:
    """Whether the folder holds exactly this set; ValueError where it holds anything else than a part of it."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    expected = {f"{text}.png" for text in texts}
    if MARKER in found and (other := (folder / MARKER).read_text(encoding="utf-8")) != marker:
        raise ValueError(
            f"{folder} holds another set of captchas, {other.strip()}: name a new folder or empty this one"
        )
    if strangers := sorted(found - expected - {MARKER}):
        raise ValueError(f"{folder} holds {strangers[0]}, no part of this set: name a new folder or empty this one")
    return found == expected | {MARKER}


def _write_missing(folder: Path, texts: list[str], image_size: tuple[int, int], seed: int) -> None:
    """Paints what is not there; what is there must be of this set, and is checked before anything is written."""
    painter = _painter(*image_size)
    paths = [folder / f"{text}.png" for text in texts]
    present = [index for index, path in enumerate(paths) if path.exists()]
    for index in present:
        if paths[index].read_bytes() != _paint(painter, texts[index], seed, index):
            raise ValueError(f"{paths[index]} is no picture of this set: name a new folder or empty this one")
    if present:
        said = f"{folder} is half-finished, {len(present)} of {len(texts)} captchas: making the rest"
        warnings.warn(said, stacklevel=3)
    for index in sorted(set(range(len(texts))) - set(present)):
        _write(paths[index], _paint(painter, texts[index], seed, index))


def _painter(height: int, width: int) -> captcha.image.ImageCaptcha:
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [*captcha.image.DEFAULT_FONTS, *(str(shipped / name) for name in DEJAVU)]
    sizes = tuple(round(share * height) for share in FONT_SHARES)
    painter = captcha.image.ImageCaptcha(width, height, fonts, sizes)
    painter.character_rotate, painter.word_offset_dx = ROTATION, OVERLAP
    return painter


def _paint(painter: captcha.image.ImageCaptcha, text: str, seed: int, index: int) -> bytes:
    with _secrets_from(random.Random(f"{seed}:{index}")):
        return painter.generate(text).getvalue()


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a session that dies leaves no half picture under the final name."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


@contextmanager
def _secrets_from(source: random.Random) -> Iterator[None]:
    """Lets captcha 0.7.1 draw from `source`; it knows no seed and asks its module-level `secrets` alone."""
    before = captcha.image.secrets
    captcha.image.secrets = SimpleNamespace(
        choice=source.choice, randbelow=source.randrange, randbits=source.getrandbits
    )
    try:
        yield
    finally:
        captcha.image.secrets = before
