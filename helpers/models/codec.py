"""What logits (B, T, K) mean: a codec gives the loss of texts and reads texts back. Only here live ids, blanks and frames.

Every codec has the same members: `spelling`, `charset`, `length`, `classes` (K), `steps`, `check`, `loss`, `warmup_loss`,
`read`, `silent`. How texts are read from logits stands in `spelling.py`, which needs no torch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.text.spelling import CTCSpelling, PositionSpelling, Reading, Spelling


class Codec:
    """The part that all codecs share: a spelling, and from it the charset, the length of the texts and reading."""

    spelling: Spelling

    @property
    def charset(self) -> str:
        return self.spelling.charset

    @property
    def length(self) -> int | None:
        """The number of characters of every text; None: any."""
        return self.spelling.length

    def read(self, logits: Tensor) -> list[Reading]:
        """One reading per image of (B, T, K): the best path, and the probability of what it spells."""
        return self.spelling.read(logits.detach().float().cpu().numpy())

    def shared_classes(self, other: "Codec") -> tuple[list[int], list[int]]:
        """The classes, own and the other's, that mean the same: by character, and those that are none as they are."""
        extra = self.classes - len(self.charset)
        both = "".join(character for character in self.charset if character in other.charset)
        return tuple([*range(extra), *codec.spelling.ids(both, extra)] for codec in (self, other))

    def can_spell(self, text: str) -> bool:
        """Whether every character of the text is in the charset."""
        return set(text) <= set(self.charset)

    def silent(self, logits: Tensor) -> int:
        """For how many images the network says nothing but blanks; 0 where there are none to say."""
        return 0


class FixedLengthCodec(Codec):
    """Exactly `length` characters: position t of the logits (B, T = length, K = charset) is character t of the text."""

    def __init__(self, charset: str, length: int) -> None:
        if length < 1:
            raise ValueError(f"the text length is {length}: it must be at least 1")
        self.spelling = PositionSpelling(charset, length)
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
        targets = torch.tensor([self.spelling.ids(text, 0) for text in texts], device=logits.device)  # (B, T)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    warmup_loss = loss  # positions are learned from the first step: there is no plateau to warm up from


class CTCCodec(Codec):
    """Texts of any length that the frames can hold: connectionist temporal classification, blank = 0.

    With a `length` in characters, which is known where all training texts have it, every reading has that length.
    Source: Graves et al. 2006, "Connectionist Temporal Classification", https://dl.acm.org/doi/10.1145/1143844.1143891
    """

    blank = CTCSpelling.blank

    def __init__(self, charset: str, length: int | None = None) -> None:
        self.spelling = CTCSpelling(charset, length)
        self.classes = len(charset) + 1

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
        spread = [
            [ids[int((t + 0.5) / T * len(ids))] for t in range(T)] for ids in (self.spelling.ids(x, 1) for x in texts)
        ]
        return F.cross_entropy(logits.float().flatten(0, 1), torch.tensor(spread, device=logits.device).flatten())

    def silent(self, logits: Tensor) -> int:
        return int((logits.argmax(-1) == self.blank).all(-1).sum())

    def _negative_log_likelihood(self, logits: Tensor, texts: Sequence[str]) -> Tensor:
        log_probabilities = logits.float().log_softmax(-1).transpose(0, 1)  # (T, B, K)
        T, B, _ = log_probabilities.shape
        targets = torch.tensor([i for text in texts for i in self.spelling.ids(text, 1)], dtype=torch.long)
        lengths = torch.tensor([len(text) for text in texts])
        steps = torch.full((B,), T)
        return F.ctc_loss(log_probabilities, targets.to(logits.device), steps, lengths, self.blank, reduction="none")
