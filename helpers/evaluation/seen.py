"""What a run was trained on: its split list in, which captchas are no test for it out."""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from helpers.output import PATHS, SPLIT_LIST, plain, say
from helpers.pictures.files import DataError, first_names, open_regular

MAX_LIST = 64_000_000  # bytes of a split list


class Captcha(NamedTuple):
    """One captcha, as a split list knows it."""

    file: str  # its name, relative to the source
    text: str
    content: str = (
        ""  # `decoding.digest` of its file; empty in the lists of runs that were recorded before there was one
    )


@dataclass(frozen=True)
class Seen:
    """Which of some captchas a run was trained on; places in their list."""

    images: frozenset[int]
    texts: frozenset[int]  # of these and of other images; whatever their case
    chance: float  # how many texts of other images would be among them, were all drawn anew

    @property
    def leaked(self) -> list[int]:
        """Those that are no test: seen images, and seen texts too where there are more of them than by chance.

        More: three standard deviations. Where few texts are possible, as with four digits, new captchas have texts of
        the training as often as those that the model will meet in use, which says nothing against the test.
        """
        by_chance = len(self.texts - self.images) <= self.chance + 3 * math.sqrt(self.chance)
        return sorted(self.images if by_chance else self.images | self.texts)


class SplitList:
    """The captchas of a run by the sides of its split, from the `data/splits.csv` that it recorded."""

    def __init__(self, path: Path) -> None:
        rows = _rows(path)
        self.by_content = all(captcha.content for _, captcha in rows)
        self.test = [captcha for side, captcha in rows if side == "test"]
        learned = [captcha for side, captcha in rows if side != "test"]  # the validation side chose the weights
        self._test, self._learned = (set(map(self._key, captchas)) for captchas in (self.test, learned))
        self._texts = {captcha.text.casefold() for captcha in learned}
        self._lengths = Counter(map(len, self._texts))
        self._characters = max(1, len(set("".join(self._texts))))

    def _key(self, captcha: Captcha) -> object:
        """By which an image is known: its digest; where the list has none, its name and text."""
        return captcha.content if self.by_content else (captcha.file, captcha.text)

    def in_test(self, captchas: Sequence[Captcha]) -> list[int]:
        """The places of those that stand on the run's test side."""
        return [place for place, captcha in enumerate(captchas) if self._key(captcha) in self._test]

    def has_test_side_of(self, other: "SplitList") -> bool:
        """Whether both have the same test side, by names and texts, which every list holds."""
        return {captcha[:2] for captcha in self.test} == {captcha[:2] for captcha in other.test}

    def seen(self, captchas: Sequence[Captcha]) -> Seen:
        """Those that stand on the train or val side, by image and by text.

        Chance: K characters make K**L texts of length L. Had each captcha one of them drawn anew, its text would be
        among the n of that length that the run was trained on with a probability of n / K**L.
        """
        images = frozenset(place for place, captcha in enumerate(captchas) if self._key(captcha) in self._learned)
        texts = frozenset(place for place, captcha in enumerate(captchas) if captcha.text.casefold() in self._texts)
        lengths = [len(captcha.text.casefold()) for place, captcha in enumerate(captchas) if place not in images]
        return Seen(images, texts, sum(self._lengths[length] / self._characters**length for length in lengths))


def _rows(path: Path) -> list[tuple[str, Captcha]]:
    """(side, captcha) of each line. Raises DataError for what is no split list."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_LIST:
                raise DataError(f"{path} has {size:,} bytes; of a split list {MAX_LIST:,} at most are read")
            table = csv.DictReader(file)
            escaped = tuple(table.fieldnames or ()) == SPLIT_LIST  # older ones are as they are
            rows = [{name: plain(row[name], name in PATHS) if escaped else row[name] for name in row} for row in table]
        if short := [
            str(number) for number, row in enumerate(rows, 2) if None in (row["split"], row["file"], row["text"])
        ]:
            raise DataError(f"{path} is no split list of this project: cells lack in line {', '.join(short[:5])}")
        return [(row["split"], Captcha(row["file"], row["text"], row.get("content") or "")) for row in rows]
    except (OSError, KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no split list of this project: {type(error).__name__}: {error}") from None


def judge_on(captchas: Sequence[Captcha], source: object, run: str, sides: SplitList, remedy: str) -> list[int]:
    """The places of the captchas that the run may be judged on; says which it may not, and why.

    Raises DataError where these are more than half: what is left would be no test of the captchas that were named.
    """
    seen = sides.seen(captchas)
    leaked, others = seen.leaked, seen.texts - seen.images
    known = "images" if sides.by_content else "names, as it was recorded before images had digests"
    counts = f"{known}: {len(seen.images)}, texts: {len(seen.texts)}"
    if 2 * len(leaked) > len(captchas):
        raise DataError(
            f"not a test: {len(leaked)} of {len(captchas)} captchas of {source} were trained on by run {run} ({counts}):"
            f" {remedy}"
        )
    if leaked:
        named = first_names([captchas[place].file for place in leaked])
        say(f"left out, as run {run} was trained on them ({counts}): {named}")
    if kept := others.difference(leaked):
        say(f"{len(kept)} texts of {source} were trained on by run {run} in other images, {seen.chance:.1f} by chance")
    if not sides.by_content:
        say(f"run {run} was recorded before images had digests: what it was trained on is told by names and texts")
    return sorted({*range(len(captchas))}.difference(leaked))
