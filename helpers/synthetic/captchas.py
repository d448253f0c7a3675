"""Captchas from nothing: a seed and a charset in, labelled pictures out, the same on every call; in memory or as files."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from helpers.config import SYNTHETIC
from helpers.synthetic.painting import paint, processes_for
from helpers.synthetic.styles import STYLES, Task, fonts_for

CHARSET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # digits and capitals without the look-alikes 0 O and 1 I


# file names that Windows keeps for devices, whatever the suffix (Microsoft, "Naming Files, Paths, and Namespaces")
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}


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
        return cls(**{"image_size": image_size, "length": length} | settings_of(words))

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
        return paint(self.style, self.tasks(), processes_for(workers, self.count), progress)

    def tasks(self) -> list[Task]:
        """What is painted, in the order of the texts."""
        numbered = enumerate(self.texts())
        return [Task(text, self.image_size, self.charset, f"{self.seed}:{index}") for index, text in numbered]


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


def settings_of(words: dict[str, str]) -> dict[str, Any]:
    """Fields of `Synthetic` from what was typed; ValueError for what cannot be read."""
    settings = {}
    for key, word in words.items():
        field, read, expected = KEYS[key]
        try:
            settings[field] = read(word)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{key}={word} cannot be used: {expected} is expected") from error
    return settings
