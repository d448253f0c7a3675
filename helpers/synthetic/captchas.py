"""Captchas from nothing: a seed and a charset in, labelled pictures out, the same on every call; in memory or as files.

On the command line: `python -m helpers.synthetic.captchas FOLDER --count N --style NAME --size WIDTHxHEIGHT ...`.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from helpers.config import SYNTHETIC
from helpers.output import say, sentence
from helpers.pictures.opening import progress_bar, read_bytes
from helpers.synthetic.styles import STYLES, fonts_for
from mlruns_tools.fixed_paths import place, sync_all

CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # digits and capitals without the look-alikes 0 O and 1 I
MARKER = "synthetic.json"  # written last: with it the folder is complete
# file names that Windows keeps for devices, whatever the suffix (Microsoft, "Naming Files, Paths, and Namespaces")
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}
WORTH_A_PROCESS = 250  # pictures: fewer are painted before a process has started


@dataclass(frozen=True)
class Synthetic:
    """A set of captchas that has yet to be painted: `zip(spec.texts(), spec.pictures())`.

    Texts are drawn uniformly, but for the characters of `often`, so doubled letters occur as they fall. Without `repeats`
    no two are the same on a file system that ignores case. Picture i depends on the seed, i and the other settings but
    not on `count`: a smaller set is the beginning of a larger one. Raises ValueError for settings that cannot be met.
    """

    count: int = 6000  # pictures
    charset: str = CHARSET  # letters and digits, each once
    length: int | tuple[int, int] = 5  # characters, or their (lowest, highest) number
    image_size: tuple[int, int] = (40, 150)  # (height, width), pixels, from 16 each
    style: str = "classic"  # a name in STYLES
    seed: int = 0
    often: str = ""  # characters of the charset, each drawn once more for every time that it stands here
    repeats: bool = False  # several pictures may have one text, which no folder can hold

    def __post_init__(self) -> None:
        _check_texts(self.count, self.charset, self.length, self.often, self.repeats)
        if min(self.image_size) < 16:
            raise ValueError(f"image_size={self.image_size} is too small for captchas: 16 x 16 pixels is the least")
        if self.style not in STYLES:
            raise ValueError(f"style={self.style!r} is unknown: one of {', '.join(STYLES)} is expected")
        if self.style != "classic" and not fonts_for(self.charset):
            raise ValueError(f"charset={self.charset!r} cannot be painted: no font has all of these characters")

    @classmethod
    def parse(
        cls, text: str, *, image_size: tuple[int, int] = (40, 150), length: int | tuple[int, int] = 5
    ) -> "Synthetic":
        """From `synthetic:count=20000,style=wavy,length=4-6,charset=abc,size=150x40,seed=1`, width before height.

        Every key is optional, in any order; the keywords stand in for `size` and `length`. Raises ValueError for
        anything else.
        """
        if not text.startswith(SYNTHETIC):
            raise ValueError(f"{text!r} names no synthetic captchas: {SYNTHETIC}KEY=VALUE,... is expected, {_KEYS_ARE}")
        words: dict[str, str] = {}
        for item in filter(None, text.removeprefix(SYNTHETIC).split(",")):
            key, equals, word = (part.strip() for part in item.partition("="))
            if not equals or key not in KEYS or key in words:
                raise ValueError(f"{item!r} in {text!r} cannot be used: KEY=VALUE is expected, each once, {_KEYS_ARE}")
            words[key] = word
        return cls(**{"image_size": image_size, "length": length} | _settings(words))

    def __str__(self) -> str:
        """Every setting, as `parse` reads it; `often` and `repeats` where they are given."""
        length = self.length if isinstance(self.length, int) else "{}-{}".format(*self.length)
        size = "{1}x{0}".format(*self.image_size)
        return (
            f"{SYNTHETIC}count={self.count},charset={self.charset},length={length},size={size},style={self.style},"
            f"seed={self.seed}" + f",often={self.often}" * bool(self.often) + ",repeats=yes" * self.repeats
        )

    def texts(self) -> list[str]:
        """What the pictures say, in their order."""
        return draw_texts(self.count, self.charset, self.length, self.seed, self.often, self.repeats)

    def pictures(self, workers: int | None = None, progress: bool = True) -> Iterator[bytes]:
        """PNG files in the order of the texts, each painted shortly before it is asked for.

        `workers` is the number of processes, None: by the machine; the bytes are the same whatever it is. Where there
        is no safe `fork` (other systems than Linux) one is used. Not for two threads at once: the captcha package's
        source of randomness is replaced process-wide. Raises ValueError for `workers` below 1.
        """
        texts = self.texts()
        return _stream(self, texts, range(self.count), _processes(workers, self.count), progress)


def make_captchas(
    folder: Path,
    count: int,
    *,
    charset: str = CHARSET,
    length: int | tuple[int, int] = 5,
    image_size: tuple[int, int] = (40, 150),
    seed: int = 0,
    style: str = "classic",
    often: str = "",
    workers: int | None = None,
) -> Path:
    """Writes the captchas of `Synthetic(count, ...)` as `<text>.png` into `folder` and returns it.

    A complete folder of the same settings is used again, a half-finished one is completed. Raises ValueError for
    settings that cannot be met and for a folder that holds anything else.
    """
    spec = Synthetic(count, charset, length, image_size, style, seed, often)
    texts = spec.texts()
    _processes(workers, count)  # raises before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    if not _complete(folder, texts, _marker(spec)):
        _write_missing(folder, texts, spec, workers)
        sync_all(folder)  # the pictures are on the disk before the marker says so
        place(folder / MARKER, [_marker(spec).encode()])
    return folder


def draw_texts(
    count: int, charset: str, length: int | tuple[int, int], seed: int, often: str = "", repeats: bool = False
) -> list[str]:
    """`count` seeded texts, without `repeats` no two equal when case-folded; ValueError where there are not that many."""
    low, high = _check_texts(count, charset, length, often, repeats)
    draw = random.Random(f"{seed}:texts")
    texts: dict[str | int, str] = {}
    while len(texts) < count:
        text = "".join(draw.choices(charset + often, k=draw.randint(low, high)))
        if text.casefold() not in RESERVED:
            texts.setdefault(len(texts) if repeats else text.casefold(), text)
    return list(texts.values())


def _check_texts(count: int, charset: str, length: int | tuple[int, int], often: str, repeats: bool) -> tuple[int, int]:
    """The lowest and highest length; ValueError where the settings do not allow `count` texts."""
    low, high = (length, length) if isinstance(length, int) else length
    folded = set(charset.casefold())
    usable = all(c.isalnum() and len(c.casefold()) == 1 for c in charset) and len(set(charset)) == len(charset) > 0
    if not usable:
        raise ValueError(f"charset={charset!r} cannot be used: one or more letters and digits, each once, are expected")
    if not set(often) <= set(charset):
        raise ValueError(f"often={often!r} cannot be used: characters of {charset=} are expected")
    if not 1 <= low <= high:
        raise ValueError(f"length={length!r} cannot be used: a whole number from 1, or (lowest, highest), is expected")
    devices = sum(low <= len(name) <= high and set(name) <= folded for name in RESERVED)
    possible = sum(len(folded) ** n for n in range(low, high + 1)) - devices
    if count < 1 or possible < (1 if repeats else count):
        raise ValueError(f"{count} captchas cannot be made: {possible} texts differ with {charset=} and {length=}")
    return low, high


def _read_length(word: str) -> int | tuple[int, int]:
    low, dash, high = word.partition("-")
    return (int(low), int(high)) if dash else int(low)


def _read_yes(word: str) -> bool:
    return {"yes": True, "no": False}[word.lower()]


def _read_size(word: str) -> tuple[int, int]:
    width, height = word.lower().split("x")
    return int(height), int(width)


# the keys of a `synthetic:` string and of the command line: field, reader, what is expected
KEYS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "count": ("count", int, "a whole number of captchas such as 6000"),
    "charset": ("charset", str, "letters and digits, each once"),
    "length": ("length", _read_length, "a number of characters such as 5, or 4-6"),
    "size": ("image_size", _read_size, "WIDTHxHEIGHT in pixels, as in image editors, such as 150x40"),
    "style": ("style", str, "a look"),
    "seed": ("seed", int, "a whole number"),
    "often": ("often", str, "characters to draw once more for every time they stand here, such as O0O0"),
    "repeats": ("repeats", _read_yes, "yes or no"),
}
_KEYS_ARE = f"with the keys {', '.join(KEYS)}"


def _settings(words: dict[str, str]) -> dict[str, Any]:
    """Fields of `Synthetic` from what was typed; ValueError for what cannot be read."""
    settings = {}
    for key, word in words.items():
        field, read, expected = KEYS[key]
        try:
            settings[field] = read(word)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{key}={word} cannot be used: {expected} is expected") from error
    return settings


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
    paths = [folder / f"{text}.png" for text in texts]
    present = [index for index, path in enumerate(paths) if path.exists()]
    missing = sorted(set(range(len(texts))) - set(present))
    pictures = _stream(spec, texts, present, _processes(workers, len(present)), progress=True)
    for index, picture in zip(present, pictures, strict=True):
        if read_bytes(paths[index]) != picture:
            raise ValueError(f"{paths[index]} is no picture of this set: name a new folder or empty this one")
    if present:
        said = f"{folder} is half-finished, {len(present)} of {len(texts)} captchas: making the rest"
        warnings.warn(said, stacklevel=3)
    pictures = _stream(spec, texts, missing, _processes(workers, len(missing)), progress=True)
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


def _processes(workers: int | None, pictures: int) -> int:
    """How many processes paint. Only a forked one leaves the caller's `__main__` alone; daemons may have no children."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} cannot be used: a whole number from 1 is expected, or None")
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 1
    wanted = workers or min(len(os.sched_getaffinity(0)), pictures // WORTH_A_PROCESS)
    return max(1, min(wanted, pictures))


def _stream(
    spec: Synthetic, texts: list[str], indices: Sequence[int], processes: int, progress: bool
) -> Iterator[bytes]:
    """The pictures of these indices, in their order. Process k of n paints k, k + n, ..., as far ahead as its pipe holds."""
    children = [_start(spec, texts, indices[k::processes]) for k in range(processes)] if processes > 1 else []
    bar = progress_bar(indices, len(indices), "painting captchas") if progress else indices
    try:
        for place, index in enumerate(bar):
            if children:
                yield children[place % processes][1].recv_bytes()
            else:
                yield STYLES[spec.style](spec, index, texts[index])
    except EOFError as error:
        raise RuntimeError(f"a process that paints {spec} has died: try workers=1") from error
    finally:
        for process, reader in children:
            process.kill()  # not `terminate`: the caller's own handler of that signal was inherited
            process.join()
            reader.close()


def _start(
    spec: Synthetic, texts: list[str], indices: Sequence[int]
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(reader, writer, spec, texts, indices), daemon=True)
    process.start()
    writer.close()  # or the end of the process would not be the end of the pipe
    return process, reader


def _send(reader: Connection, writer: Connection, spec: Synthetic, texts: list[str], indices: Sequence[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    reader.close()  # or a parent that was killed would go unnoticed
    with suppress(BrokenPipeError):
        for index in indices:
            writer.send_bytes(STYLES[spec.style](spec, index, texts[index]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: what was made on standard output; exit 2 and a sentence where it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.synthetic.captchas", description="Make captchas, <text>.png each."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new or empty one, or one of the same settings")
    defaults = dict(item.split("=") for item in str(Synthetic()).removeprefix(SYNTHETIC).split(","))
    keys = [key for key in KEYS if key != "repeats"]  # a file is named after its text
    for key in keys:
        expected = KEYS[key][2]
        names = f": {', '.join(STYLES)}" if key == "style" else ""
        default = defaults.get(key, "")
        said = f"{expected}{names}; {default or 'none'} if not given"
        parser.add_argument(f"--{key}", metavar=key.upper(), help=said, default=default)
    parser.add_argument("--workers", type=int, help="processes; by the machine if not given")
    options = vars(parser.parse_args(arguments))
    folder, started = options["folder"], time.perf_counter()
    try:
        spec = Synthetic(**_settings({key: options[key] for key in keys}))
        existed, before = folder.exists(), len([*folder.glob("*.png")])
        with warnings.catch_warnings(action="ignore"):  # the last line says how many were missing
            settings = {name: value for name, value in asdict(spec).items() if name != "repeats"}
            make_captchas(folder, **settings, workers=options["workers"])
    except ValueError as error:
        parser.exit(2, f"{sentence(error)}\n")
    except OSError as error:
        changed = (folder.exists(), len([*folder.glob("*.png")])) != (existed, before)
        parser.exit(1 if changed else 2, f"{sentence(error)}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped: the same command makes the rest\n")
    seconds, made = time.perf_counter() - started, spec.count - before
    rate = f"{made} painted in {seconds:.1f} s, {made / seconds:.0f} images per second" if made else "all there before"
    say(f"{spec.count} captchas in {folder}, style {spec.style}, seed {spec.seed}: {rate}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
