"""What is known of texts - length, characters, pattern, words - as a beam search asks it, character by character."""

import re
from collections.abc import Iterable
from typing import Protocol

NEVER = 2**31 - 1  # characters: more than any text has


class Constraint(Protocol):
    """Which texts are valid, as an automaton that reads them character by character."""

    start: object

    def step(self, state: object, character: str) -> object | None:
        """The state behind a character; None where no valid text goes on so."""

    def missing(self, state: object) -> int:
        """The least number of characters that make the text so far a valid one; 0: it is."""


class Pattern:
    """A pattern over a charset: characters, `.`, classes such as `[A-Z]` and `[^0O]`, each with `{2}`, `{4,6}`, `?`, `*`, `+`.

    Raises ValueError for what is none of these and for a class without a character of the charset.
    """

    TOKEN = re.compile(r"(?:\[(\^?)((?:\\.|[^]\\])+)\]|\\(.)|([^][(){}?*+|\\^$]))(?:\{(\d+)(?:(,)(\d+)?)?\}|([?*+]))?")
    MEMBER = re.compile(r"(\\.|[^\\])-(\\.|[^\\])|\\.|.")

    def __init__(self, pattern: str, charset: str) -> None:
        # one part per character of the longest text: (characters, whether it may lack, whether it may repeat)
        self.parts: list[tuple[frozenset[str], bool, bool]] = []
        place = 0
        while place < len(pattern):
            token = self.TOKEN.match(pattern, place)
            if not token:
                raise ValueError(
                    f"{pattern!r} cannot be used from {pattern[place:]!r} on: {self.__doc__.split('; ')[0]}"
                )
            self._add(token, pattern, charset)
            place = token.end()
        self.start = self._closed({0})

    def _add(self, token: re.Match[str], pattern: str, charset: str) -> None:
        negated, members, escaped, plain, least, comma, most, sign = token.groups()
        if members:
            members = self.MEMBER.sub(_spelled_out, members)
        chosen = set(charset) if plain == "." else set(members or escaped or plain)
        characters = frozenset(set(charset) - chosen if negated else chosen & set(charset))
        if not characters:
            raise ValueError(f"{token[0]!r} in {pattern!r} allows no character of the charset {charset!r}")
        low = {"?": 0, "*": 0, "+": 1}.get(sign, int(least) if least else 1)
        high = {"?": 1, "*": None, "+": None}.get(sign, low if not comma else int(most) if most else None)
        if high is not None and high < low:
            raise ValueError(f"{token[0]!r} in {pattern!r} asks for at least {low} and at most {high}")
        self.parts += [(characters, False, False)] * low
        self.parts += [(characters, True, True)] if high is None else [(characters, True, False)] * (high - low)

    def _closed(self, places: Iterable[int]) -> frozenset[int]:
        """The places with all that are reached over parts that may lack."""
        found, waiting = set(), list(places)
        while waiting:
            place = waiting.pop()
            if place not in found:
                found.add(place)
                waiting += [place + 1] if place < len(self.parts) and self.parts[place][1] else []
        return frozenset(found)

    def step(self, state: frozenset[int], character: str) -> frozenset[int] | None:
        after = [
            place if self.parts[place][2] else place + 1
            for place in state
            if place < len(self.parts) and character in self.parts[place][0]
        ]
        return self._closed(after) if after else None

    def missing(self, state: frozenset[int]) -> int:
        return min(sum(not optional for _, optional, _ in self.parts[place:]) for place in state)


def _spelled_out(member: re.Match[str]) -> str:
    """What a member of a class stands for: a range such as `A-Z`, or a character, which may be escaped."""
    first, last = member[1] or member[0], member[2] or member[0]
    return "".join(map(chr, range(ord(first[-1]), ord(last[-1]) + 1)))


class Words:
    """A list of valid texts. Raises ValueError for an empty one, and for one that the charset, where given, cannot spell."""

    start = ""

    def __init__(self, words: Iterable[str], charset: str | None = None) -> None:
        self.least: dict[str, int] = {}  # by beginning: characters to the end of the nearest word
        for word in words:
            if charset is not None and not set(word) <= set(charset):
                raise ValueError(f"{word!r} is no valid text: {charset!r} are the characters that can be read")
            for place in range(len(word) + 1):
                missing = len(word) - place
                self.least[word[:place]] = min(missing, self.least.get(word[:place], missing))
        if not self.least:
            raise ValueError("the list of valid texts is empty")

    def step(self, state: str, character: str) -> str | None:
        return state + character if state + character in self.least else None

    def missing(self, state: str) -> int:
        return self.least[state]


def of_length(low: int, high: int, charset: str) -> Pattern:
    """Texts of `low` to `high` characters."""
    return Pattern(f".{{{low},{high}}}", charset)


def constrained(
    charset: str,
    length: int | str | None = None,
    chars: str | None = None,
    pattern: str | None = None,
    words: Iterable[str] | None = None,
) -> Constraint | None:
    """What a user knows of the texts, as a constraint; None where nothing is given.

    A `length` (5, or "4-6") or a smaller charset `chars` or both; else a `pattern`; else the list of valid texts,
    `words`. Raises ValueError for other combinations and for what the charset cannot spell.
    """
    named = {"pattern": pattern, "words": words, "length": length, "chars": chars}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1 and given != ["length", "chars"]:
        raise ValueError(f"{' and '.join(given)} cannot be combined: only length and chars can, the others stand alone")
    if pattern is not None:
        return Pattern(pattern, charset)
    if words is not None:
        return Words(words, charset)
    if not given:
        return None
    allowed = "".join(character for character in charset if chars is None or character in chars)
    if not allowed:
        raise ValueError(f"none of the characters {chars!r} is in the charset {charset!r}")
    return Pattern(".*", allowed) if length is None else of_length(*_bounds(length), allowed)


def _bounds(length: int | str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(length))
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise ValueError(f"length={length!r} cannot be used: give a number of characters, or a range such as 4-6")
    return int(match[1]), int(match[2] or match[1])
