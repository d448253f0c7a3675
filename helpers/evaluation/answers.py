"""What a model says of labelled images: logits and true texts in, readings out, at any temperature."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from helpers.reading.reader import Reader
from helpers.text.spelling import CTCSpelling, Reading, Spelling, log_softmax

if TYPE_CHECKING:
    from helpers.data.dataset import CaptchaDataset

CHUNK = 1000  # images whose logits are worked on at once


class Answers:
    """What a model says of labelled images: texts, which of them are right, and how sure it is at any temperature.

    `logits` are (T, K) per image; T may differ. The text read does not depend on the temperature.
    """

    def __init__(self, spelling: Spelling, logits: Sequence[np.ndarray], truths: Sequence[str]) -> None:
        if len(logits) != len(truths) or not len(truths):
            raise ValueError(f"{len(logits)} answers and {len(truths)} truths: one of each per image is expected")
        self.spelling, self.logits, self.truths = spelling, list(logits), list(truths)
        by_steps: dict[int, list[int]] = {}
        for index, scores in enumerate(logits):
            by_steps.setdefault(len(scores), []).append(index)
        self.chunks = [p[start : start + CHUNK] for p in by_steps.values() for start in range(0, len(p), CHUNK)]
        read: dict[int, str] = {}
        for places in self.chunks:
            read |= zip(places, spelling.texts(self._stacked(places)), strict=True)
        self.texts = [read[index] for index in range(len(logits))]
        self.right = np.array([text == truth for text, truth in zip(self.texts, self.truths, strict=True)])

    def _stacked(self, places: Sequence[int]) -> np.ndarray:
        return np.stack([self.logits[index] for index in places])  # (B, T, K)

    def confidences(self, temperature: float = 1.0) -> np.ndarray:
        """P(text read), (n,), with the logits divided by `temperature`."""
        shares = np.empty(len(self.texts))
        for places in self.chunks:
            texts = [self.texts[index] for index in places]
            shares[places] = np.exp(self.spelling.log_probabilities(self._stacked(places), texts, temperature))
        return shares

    def frames(self, index: int, temperature: float = 1.0) -> tuple[list[str], np.ndarray] | None:
        """Of one image, the character that each frame gives, "" for the blank, and its probability, (T,) each.

        None where the texts are not spelled by frames.
        """
        if not isinstance(self.spelling, CTCSpelling):
            return None
        logits = self.logits[index][None]  # (1, T, K)
        shares = np.exp(log_softmax(logits / temperature))
        chosen = np.take_along_axis(shares, self.spelling.paths(logits)[..., None], 2)  # (1, T, 1)
        return self.spelling.columns(logits)[0].tolist(), chosen[0, :, 0]

    def readings(self, temperature: float = 1.0) -> list[Reading]:
        """What a reader with this temperature gives."""
        return list(map(Reading, self.texts, self.confidences(temperature).tolist()))


def answers_of(reader: Reader, captchas: "CaptchaDataset") -> Answers:
    """What a reader's network says of prepared and labelled captchas."""
    return Answers(reader.spelling, reader.logits(captchas.images), captchas.texts)
