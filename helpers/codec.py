"""What logits (B, T, K) mean: a codec gives the loss of texts and reads texts back. Only here live ids, blanks and frames.

Every codec has the same members: `charset`, `classes` (K), `length`, `steps`, `check`, `loss`, `warmup_loss`, `read`,
`silent`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Reading:
    """A text read from an image and the probability the model gives it, in [0, 1]."""

    text: str
    confidence: float


class Codec:
    """The part that all codecs share: a charset without repetitions, in which every text can be spelled."""

    def __init__(self, charset: str) -> None:
        if not charset:
            raise ValueError("the charset is empty: give the characters that texts consist of")
        if repeated := sorted({character for character in charset if charset.count(character) > 1}):
            raise ValueError(f"the charset {charset!r} holds {repeated} more than once")
        self.charset = charset

    def can_spell(self, text: str) -> bool:
        """Whether every character of the text is in the charset."""
        return set(text) <= set(self.charset)

    def silent(self, logits: Tensor) -> int:
        """For how many images the network says nothing but blanks; 0 where there are none to say."""
        return 0

    def _ids(self, text: str, offset: int) -> list[int]:
        if unknown := sorted(set(text) - set(self.charset)):
            raise ValueError(f"{text!r} has {unknown}, which the charset {self.charset!r} does not hold")
        return [self.charset.index(character) + offset for character in text]


class FixedLengthCodec(Codec):
    """Exactly `length` characters: position t of the logits (B, T = length, K = charset) is character t of the text."""

    def __init__(self, charset: str, length: int) -> None:
        super().__init__(charset)
        if length < 1:
            raise ValueError(f"the text length is {length}: it must be at least 1")
        self.length = length
        self.classes = len(charset)

    def steps(self, text: str) -> int:
        """The positions (T) that the text needs."""
        return len(text)

    def check(self, text: str, steps: int) -> None:
        """Raises ValueError where the text cannot be read from `steps` (T) positions."""
        if steps != self.length:
            raise ValueError(f"the network gives {steps} positions, the codec reads {self.length}")
        if len(text) != self.length:
            raise ValueError(f"{text!r} has {len(text)} characters; this recipe reads exactly {self.length}")

    def loss(self, logits: Tensor, texts: Sequence[str]) -> Tensor:
        """Mean cross-entropy over the positions, in nats; logits (B, T, K)."""
        for text in texts:
            self.check(text, logits.shape[1])
        targets = torch.tensor([self._ids(text, 0) for text in texts], device=logits.device)  # (B, T)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    warmup_loss = loss  # positions are learned from the first step: there is no plateau to warm up from

    def read(self, logits: Tensor) -> list[Reading]:
        """The likeliest character per position; the confidence is the product over positions."""
        shares, ids = logits.float().softmax(-1).max(-1)  # both (B, T)
        texts = np.array(list(self.charset))[ids.cpu().numpy()]
        return [Reading("".join(row), share) for row, share in zip(texts, shares.prod(-1).tolist(), strict=True)]


class CTCCodec(Codec):
    """Texts of any length that the frames can hold: connectionist temporal classification, blank = 0.

    With a `length` in characters, which is known where all training texts have it, every reading has that length.
    Source: Graves et al. 2006, "Connectionist Temporal Classification", https://dl.acm.org/doi/10.1145/1143844.1143891
    """

    blank = 0

    def __init__(self, charset: str, length: int | None = None) -> None:
        super().__init__(charset)
        self.length = length
        self.classes = len(charset) + 1
        self._characters = np.array(["", *charset])  # by class id; the blank spells nothing

    def steps(self, text: str) -> int:
        """The frames (T) that the text needs: one per character, and a blank between two equal neighbours."""
        return len(text) + sum(left == right for left, right in zip(text, text[1:], strict=False))

    def check(self, text: str, steps: int) -> None:
        """Raises ValueError where `steps` (T) frames cannot spell the text."""
        if (needed := self.steps(text)) > steps:
            raise ValueError(
                f"{text!r} needs {needed} frames ({len(text)} characters and {needed - len(text)} blanks between equal"
                f" neighbours), the network gives {steps}: use wider images or a network with less pooling"
            )

    def loss(self, logits: Tensor, texts: Sequence[str]) -> Tensor:
        """Mean over the texts of -log P(text) per character, in nats; logits (B, T, K)."""
        for text in texts:
            self.check(text, logits.shape[1])
        lengths = torch.tensor([len(text) for text in texts])
        return (self._negative_log_likelihood(logits, texts) / lengths.clamp(min=1).to(logits.device)).mean()

    def warmup_loss(self, logits: Tensor, texts: Sequence[str]) -> Tensor:
        """Cross-entropy per frame against evenly spread characters: frame t is taught `text[floor((t + 0.5) / T * L)]`.

        A rough alignment with no blank in it. It carries a network off the plateau where every frame is blank, on which
        CTC alone stays for dozens of epochs (tests/benchmarks/LOG.md).
        """
        T = logits.shape[1]
        spread = [[ids[int((t + 0.5) / T * len(ids))] for t in range(T)] for ids in (self._ids(x, 1) for x in texts)]
        return F.cross_entropy(logits.float().flatten(0, 1), torch.tensor(spread, device=logits.device).flatten())

    def read(self, logits: Tensor) -> list[Reading]:
        """Greedy (best-path) decoding: repeats collapsed first, blanks dropped after, so that doubled letters survive.

        Where the best path of all has another length than the texts, the best of those that have it counts. The
        confidence is P(text), summed over all alignments of the text read.
        """
        logits = logits.detach()
        ids = logits.argmax(-1).cpu().numpy()  # (B, T)
        if self.length is not None and self.length <= ids.shape[1]:
            new = (ids != self.blank) & (ids != np.pad(ids, ((0, 0), (1, 0)))[:, :-1])
            for row in np.flatnonzero(new.sum(1) != self.length):
                ids[row] = best_path(logits[row].float().log_softmax(-1).cpu().numpy(), self.length, self.blank)
        ids[:, 1:][ids[:, 1:] == ids[:, :-1]] = self.blank
        texts = ["".join(row) for row in self._characters[ids]]
        shares = self._negative_log_likelihood(logits, texts).neg().exp().tolist()
        return [Reading(text, share) for text, share in zip(texts, shares, strict=True)]

    def silent(self, logits: Tensor) -> int:
        return int((logits.argmax(-1) == self.blank).all(-1).sum())

    def _negative_log_likelihood(self, logits: Tensor, texts: Sequence[str]) -> Tensor:
        log_probabilities = logits.float().log_softmax(-1).transpose(0, 1)  # (T, B, K)
        T, B, _ = log_probabilities.shape
        targets = torch.tensor([i for text in texts for i in self._ids(text, 1)], dtype=torch.long)
        lengths = torch.tensor([len(text) for text in texts])
        steps = torch.full((B,), T)
        return F.ctc_loss(log_probabilities, targets.to(logits.device), steps, lengths, self.blank, reduction="none")


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
