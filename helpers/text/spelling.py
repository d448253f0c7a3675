"""What logits (B, T, K) spell, in numpy alone: texts, their probabilities, and which frame gave which character.

Two spellings with the same members: `CTCSpelling` and `PositionSpelling`. A codec (`codec.py`) holds one and adds the loss;
readers that know no torch hold one alone.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from helpers.text.beam import log_likelihoods, position_beam_search, prefix_beam_search
from helpers.text.constraint import Constraint, of_length


@dataclass(frozen=True)
class Reading:
    """A text read from an image and the probability the model gives it, in [0, 1]."""

    text: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...] = ()  # (text, probability), likeliest first; only where asked for
    name: str | None = field(default=None, compare=False)  # of the image, where it has one
    error: str | None = None  # why nothing could be read; the text is then empty, the confidence 0

    def accepted(self, threshold: float) -> bool:
        """Whether it was read, with a confidence of at least `threshold`."""
        return self.error is None and self.confidence >= threshold


class Spelling:
    """The part that both share: a charset without repetitions, and reading with and without constraints."""

    def __init__(self, charset: str, length: int | None = None) -> None:
        if not charset:
            raise ValueError("the charset is empty: give the characters that texts consist of")
        if repeated := sorted({character for character in charset if charset.count(character) > 1}):
            raise ValueError(f"the charset {charset!r} holds {repeated} more than once")
        self.charset, self.length = charset, length

    def read(
        self, logits: np.ndarray, temperature: float = 1.0, constraint: Constraint | None = None, best: int = 0
    ) -> list[Reading]:
        """One reading per image of (B, T, K), its confidence P(text) with the logits divided by `temperature`.

        With a constraint, or where the `best` alternatives are asked for, texts come from a beam search instead of the
        best path. A reading has an error where T frames cannot spell any text that the constraint allows.
        """
        if constraint is None and not best:
            texts = self.texts(logits)
            shares = np.exp(self.log_probabilities(logits, texts, temperature))
            return [Reading(text, float(share)) for text, share in zip(texts, shares, strict=True)]
        if constraint is None and self.length is not None:
            constraint = of_length(self.length, self.length, self.charset)
        readings = []
        for frames in log_softmax(logits / temperature):
            found = self.search(frames, constraint, max(1, best))
            pairs = tuple((text, float(np.exp(score))) for text, score in found)
            missing = None if pairs else f"{len(frames)} frames spell no text that is allowed"
            readings.append(Reading(*(pairs[0] if pairs else ("", 0.0)), pairs[:best], error=missing))
        return readings

    def ids(self, text: str, offset: int) -> list[int]:
        """The class of each character; ValueError for one that the charset does not hold."""
        if unknown := sorted(set(text) - set(self.charset)):
            raise ValueError(f"{text!r} has {unknown}, which the charset {self.charset!r} does not hold")
        return [self.charset.index(character) + offset for character in text]


class PositionSpelling(Spelling):
    """Exactly `length` characters: position t of the logits (B, T = length, K = charset) is character t of the text."""

    def texts(self, logits: np.ndarray) -> list[str]:
        """The likeliest character per position."""
        return ["".join(row) for row in np.array(list(self.charset))[logits.argmax(-1)]]

    def log_probabilities(self, logits: np.ndarray, texts: Sequence[str], temperature: float = 1.0) -> np.ndarray:
        """log P(text) in nats, (B,): the sum over positions."""
        ids = np.array([self.ids(text, 0) for text in texts], dtype=int).reshape(len(texts), -1)  # (B, T)
        return np.take_along_axis(log_softmax(logits / temperature), ids[..., None], 2).sum((1, 2))

    def search(self, frames: np.ndarray, constraint: Constraint | None, best: int) -> list[tuple[str, float]]:
        return position_beam_search(frames, self.charset, constraint, best)


class CTCSpelling(Spelling):
    """Texts of any length that the frames can hold; with a `length` in characters, every reading has that length.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", https://dl.acm.org/doi/10.1145/1143844.1143891
    """

    blank = 0

    def __init__(self, charset: str, length: int | None = None) -> None:
        super().__init__(charset, length)
        self._characters = np.array(["", *charset])  # by class id; the blank spells nothing

    def paths(self, logits: np.ndarray) -> np.ndarray:
        """The best path (B, T) of class ids; where it spells another length than the texts have, the best that does not."""
        ids = logits.argmax(-1)
        if self.length is not None and self.length <= ids.shape[1]:
            new = (ids != self.blank) & (ids != np.pad(ids, ((0, 0), (1, 0)))[:, :-1])
            for row in np.flatnonzero(new.sum(1) != self.length):
                ids[row] = best_path(log_softmax(logits[row]), self.length, self.blank)
        return ids

    def columns(self, logits: np.ndarray) -> np.ndarray:
        """The character that each frame of the best path names, (B, T); "" where it is the blank."""
        return self._characters[self.paths(logits)]

    def texts(self, logits: np.ndarray) -> list[str]:
        """Greedy (best-path) decoding: repeats collapsed first, blanks dropped after, so that doubled letters survive."""
        ids = self.paths(logits)
        ids[:, 1:][ids[:, 1:] == ids[:, :-1]] = self.blank
        return ["".join(row) for row in self._characters[ids]]

    def log_probabilities(self, logits: np.ndarray, texts: Sequence[str], temperature: float = 1.0) -> np.ndarray:
        """log P(text) in nats, (B,), summed over all alignments: minus the CTC loss of each text."""
        return log_likelihoods(log_softmax(logits / temperature), [self.ids(text, 1) for text in texts], self.blank)

    def search(self, frames: np.ndarray, constraint: Constraint | None, best: int) -> list[tuple[str, float]]:
        return prefix_beam_search(frames, self.charset, constraint, best, blank=self.blank)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities in nats over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def best_path(log_probabilities: np.ndarray, length: int, blank: int = 0) -> np.ndarray:
    """The likeliest path (T,) of class ids among those that spell exactly `length` characters, of (T, K), T >= length.

    Dynamic programming over (characters begun, class of the frame). A character begins where its class follows another.
    """
    T, K = log_probabilities.shape
    classes, rows = np.arange(K), np.arange(length + 1)
    score = np.full((length + 1, K), -np.inf)  # of the best path up to this frame
    score[0, blank] = log_probabilities[0, blank]
    score[1:2] = np.where(classes == blank, -np.inf, log_probabilities[0])
    came = np.zeros((T, length + 1, K), dtype=int)  # the class in the frame before
    for t in range(1, T):
        second, first = score.argsort(1)[:, -2:].T
        other = np.where(first[:, None] == classes, second[:, None], first[:, None])  # the best class but this one
        begins = np.vstack([np.full((1, K), -np.inf), score[rows[:, None], other][:-1]])
        came[t] = np.where(score >= begins, classes, np.vstack([other[:1], other[:-1]]))
        came[t, :, blank] = first  # a blank follows anything and begins nothing
        following = np.maximum(score, begins)
        following[:, blank] = score[rows, first]
        score = following + log_probabilities[t]
    path = np.zeros(T, dtype=int)
    path[-1], left = score[length].argmax(), length
    for t in range(T - 1, 0, -1):
        path[t - 1] = came[t, left, path[t]]
        left -= path[t] != blank and path[t - 1] != path[t]
    return path


def one_spelling(text: str, case: str = "keep") -> str:
    """The text in NFC and in "upper" or "lower" case; a character that case would turn into two, as `ß`, stays."""
    change: Callable[[str], str] = {"keep": str, "upper": str.upper, "lower": str.lower}[case]
    text = unicodedata.normalize("NFC", text)
    return "".join(change(character) if len(change(character)) == 1 else character for character in text)
