"""Prefix beam search: log-probabilities (T, K) in, the likeliest texts and their probabilities out, under constraints.

A constraint is what a user knows of the texts: their length, a smaller charset, a pattern, or the list of valid ones.
Source: Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
DNNs", https://arxiv.org/abs/1408.2873, algorithm 1, without a language model.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

BEAM = 32  # prefixes kept in each frame, of those that lack the same number of characters


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
            members = re.sub(r"\\(.)", r"\1", re.sub(r"(.)-(.)", _spelled_out, members))
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


def _spelled_out(bounds: re.Match[str]) -> str:
    return re.escape("".join(map(chr, range(ord(bounds[1]), ord(bounds[2]) + 1))))


class Words:
    """A list of valid texts. Raises ValueError for an empty one."""

    start = ""

    def __init__(self, words: Iterable[str]) -> None:
        self.least: dict[str, int] = {}  # by beginning: characters to the end of the nearest word
        for word in words:
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


def prefix_beam_search(
    log_probabilities: np.ndarray,
    charset: str,
    constraint: Constraint | None = None,
    best: int = 1,
    beam: int = BEAM,
    blank: int = 0,
) -> list[tuple[str, float]]:
    """The `best` likeliest valid texts with their log-probabilities, likeliest first, of (T, K) in nats; class = index + 1.

    Each probability is exact, summed over all alignments. Which texts are found is exact where no prefix had to be
    dropped, at the latest with a `beam` of as many prefixes as there are. Fewer than `best`, or none, come back where the
    frames cannot spell more valid texts.
    """
    constraint = constraint or Pattern(".*", charset)
    scores = np.asarray(log_probabilities, dtype=np.float64)
    T = len(scores)
    states = {"": constraint.start}
    lacking = {"": constraint.missing(constraint.start)}
    beams = {"": (0.0, -np.inf)}  # log-probabilities of the paths so far: that end in a blank, that end in a character
    for t, frame in enumerate(scores):
        following: dict[str, list[float]] = defaultdict(lambda: [-np.inf, -np.inf])
        for prefix, (silent, spoken) in beams.items():
            entry = following[prefix]
            entry[0] = np.logaddexp(entry[0], np.logaddexp(silent, spoken) + frame[blank])
            for index, character in enumerate(charset):
                score, longer = frame[index + 1], prefix + character
                if prefix and prefix[-1] == character:  # goes on without a blank, begins anew behind one
                    entry[1] = np.logaddexp(entry[1], spoken + score)
                    before = silent
                else:
                    before = np.logaddexp(silent, spoken)
                if longer not in states:
                    states[longer] = constraint.step(states[prefix], character)
                    lacking[longer] = T + 1 if states[longer] is None else constraint.missing(states[longer])
                if lacking[longer] <= T - t - 1:
                    entry_of_longer = following[longer]
                    entry_of_longer[1] = np.logaddexp(entry_of_longer[1], before + score)
        groups: dict[int, list[str]] = defaultdict(list)
        for prefix in following:
            if lacking[prefix] <= T - t - 1:
                groups[lacking[prefix]].append(prefix)
        kept = [p for g in groups.values() for p in sorted(g, key=lambda p: -np.logaddexp(*following[p]))[:beam]]
        beams = {prefix: tuple(following[prefix]) for prefix in kept}
    texts = [prefix for prefix in beams if lacking[prefix] == 0]
    found = [(text, log_probability(scores, [charset.index(c) + 1 for c in text], blank)) for text in texts]
    return sorted((pair for pair in found if pair[1] > -np.inf), key=lambda pair: (-pair[1], pair[0]))[:best]


def log_probability(log_probabilities: np.ndarray, ids: Sequence[int], blank: int = 0) -> float:
    """log P(text) in nats: the sum over all alignments of the class ids with the frames of (T, K); minus the CTC loss.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 4.1.
    """
    labels = np.full(2 * len(ids) + 1, blank)
    labels[1::2] = ids
    skips = np.zeros(len(labels), dtype=bool)  # where the blank before a label may lack
    skips[2:] = (labels[2:] != blank) & (labels[2:] != labels[:-2])
    forward = np.full(len(labels), -np.inf)
    forward[:2] = log_probabilities[0, labels[:2]]
    for frame in log_probabilities[1:]:
        stay, step = forward, np.concatenate([[-np.inf], forward[:-1]])
        skip = np.where(skips, np.concatenate([[-np.inf, -np.inf], forward[:-2]])[: len(labels)], -np.inf)
        forward = np.logaddexp(np.logaddexp(stay, step), skip) + frame[labels]
    return float(np.logaddexp.reduce(forward[-2:]))
