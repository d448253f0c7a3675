"""Where readings are right and wrong: lists of strings in, rows of tables out; no network and no class ids here.

Each row is a named tuple whose fields are the columns of the table. Shares are in [0, 1], `low` and `high` their 95 % Wilson
intervals; None where there is nothing to take a share of. No data is a ValueError.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from helpers.text.metrics import align, character_error_rate, confusions, pairs, wilson_interval


class LengthRow(NamedTuple):
    """Captchas whose text has this length."""

    length: int  # characters of the truth
    n: int  # captchas
    right: int  # read without any error
    exact: float
    low: float
    high: float
    cer: float


class PositionRow(NamedTuple):
    """True characters at this place of the text, and how many were read right where the alignment puts them."""

    position: int  # from the left, from 1
    n: int  # texts that are so long
    right: int
    share: float
    low: float
    high: float


class CharacterRow(NamedTuple):
    """One character: of those that are true, how many were read (recall); of those read, how many are true (precision)."""

    character: str
    n_true: int
    n_read: int
    n_right: int
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    precision: float | None
    precision_low: float | None
    precision_high: float | None


class ErrorRow(NamedTuple):
    """One kind of error: substitution, deletion (a character not read) or insertion (one read from nothing)."""

    kind: str
    n: int
    share: float | None  # of all errors
    low: float | None
    high: float | None
    cer: float  # its part of the character error rate: errors per true character


class ConfusionRow(NamedTuple):
    """A true character and what it was read as; "" where nothing stands on that side."""

    true: str
    read: str
    n: int
    share: float | None  # of the times the true character stands there; None for what was read from nothing
    low: float | None
    high: float | None


def by_length(readings: Sequence[str], truths: Sequence[str]) -> list[LengthRow]:
    """Exact match and CER per length of the true text, shortest first."""
    groups: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for reading, truth in pairs(readings, truths):
        groups[len(truth)].append((reading, truth))
    rows = []
    for length, group in sorted(groups.items()):
        right = sum(reading == truth for reading, truth in group)
        rate = character_error_rate(*zip(*group, strict=True))
        rows.append(LengthRow(length, len(group), right, *_share(right, len(group)), rate))
    return rows


def by_position(readings: Sequence[str], truths: Sequence[str]) -> list[PositionRow]:
    """Character accuracy per place of the true text. An inserted character moves no other out of its place."""
    right: Counter[int] = Counter()
    n: Counter[int] = Counter()
    for reading, truth in pairs(readings, truths):
        kept = ((true, read) for true, read in align(reading, truth) if true)
        for position, (true, read) in enumerate(kept, 1):
            n[position] += 1
            right[position] += true == read
    return [PositionRow(place, n[place], right[place], *_share(right[place], n[place])) for place in sorted(n)]


def by_character(readings: Sequence[str], truths: Sequence[str]) -> list[CharacterRow]:
    """Recall and precision of every character that is true or read somewhere, in order of the characters."""
    found = _aligned(readings, truths)
    n_true, n_read = (Counter(pair[side] for pair in found if pair[side]) for side in (0, 1))
    n_right = Counter(true for true, read in found if true == read)
    return [
        CharacterRow(
            c, n_true[c], n_read[c], n_right[c], *_share(n_right[c], n_true[c]), *_share(n_right[c], n_read[c])
        )
        for c in sorted({*n_true, *n_read})
    ]


def by_error(readings: Sequence[str], truths: Sequence[str]) -> list[ErrorRow]:
    """How many of the errors are substitutions, deletions and insertions; their `cer` add up to the CER."""
    found = _aligned(readings, truths)
    characters = sum(map(len, truths))
    kinds = Counter(_kind(true, read) for true, read in found if true != read)
    return [
        ErrorRow(kind, kinds[kind], *_share(kinds[kind], kinds.total()), kinds[kind] / characters)
        for kind in ("substitution", "deletion", "insertion")
    ]


def by_confusion(readings: Sequence[str], truths: Sequence[str]) -> list[ConfusionRow]:
    """Every confusion, the most frequent first; empty where all was read right."""
    n_true = Counter(character for truth in truths for character in truth)
    falling = sorted(confusions(readings, truths).items(), key=lambda item: (-item[1], item[0]))
    return [ConfusionRow(true, read, n, *_share(n, n_true[true])) for (true, read), n in falling]


TABLES = {  # what makes the rows of each table, and their type
    "lengths": (by_length, LengthRow),
    "positions": (by_position, PositionRow),
    "characters": (by_character, CharacterRow),
    "errors": (by_error, ErrorRow),
    "confusions": (by_confusion, ConfusionRow),
}


def _kind(true: str, read: str) -> str:
    return "insertion" if not true else "deletion" if not read else "substitution"


def _aligned(readings: Sequence[str], truths: Sequence[str]) -> list[tuple[str, str]]:
    return [pair for reading, truth in pairs(readings, truths) for pair in align(reading, truth)]


def _share(successes: int, n: int) -> tuple[float, float, float] | tuple[None, None, None]:
    return (successes / n, *wilson_interval(successes, n)) if n else (None, None, None)
