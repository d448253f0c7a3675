"""Which side of the split a captcha stands on: by its text and the seed alone, so that files added later move no other."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from helpers.pictures.opening import DataError
from helpers.sources.names import SPLITS, Sample


def place(text: str, seed: int, purpose: str = "split") -> float:
    """A seeded number in [0, 1) that belongs to a text, whatever its case; uniform over different texts."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{text.casefold()}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def split(texts: Sequence[str], seed: int, val_share: float = 0.1, test_share: float = 0.1) -> list[str]:
    """'train', 'val' or 'test' per text; equal texts, whatever their case, stand on one side.

    The side follows from the text and the seed, not from the other texts: it stays when files are added or renamed, and
    every length of text gets the same shares, up to chance. Only where a side would be empty, the text next to it is
    taken. Identical pictures with different texts are an error of the audit, so that no picture stands on two sides.
    Raises DataError for fewer than three different texts.
    """
    places = {text.casefold(): place(text, seed) for text in texts}
    if len(places) < 3:
        raise DataError(f"{len(places)} different texts are too few to split into train, val and test")
    order = sorted(places, key=places.__getitem__)
    test = sum(value < test_share for value in places.values())
    val = sum(value < test_share + val_share for value in places.values()) - test
    test = min(max(1, test), len(order) - 2)
    val = min(max(1, val), len(order) - 1 - test)
    side = (
        dict.fromkeys(order, "train") | dict.fromkeys(order[:test], "test") | dict.fromkeys(order[test:][:val], "val")
    )
    return [side[text.casefold()] for text in texts]


def split_folds(texts: Sequence[str], seed: int, folds: int, fold: int, val_share: float = 0.1) -> list[str]:
    """The split of one fold of a cross-validation: over all folds each text is tested once; val is cut from the rest.

    Like `split`, the fold follows from the text and the seed. Raises DataError where a side is empty.
    """
    sides = []
    for text in texts:
        tested = int(place(text, seed) * folds) == fold
        kept_out = place(text, seed, f"val of fold {fold}") < val_share
        sides.append("test" if tested else "val" if kept_out else "train")
    if missing := set(SPLITS) - set(sides):
        raise DataError(f"fold {fold} of {folds} has nothing to {min(missing)} with: take fewer folds")
    return sides


def split_sides(samples: Sequence[Sample], seed: int, val_share: float, test_share: float) -> list[str]:
    """The source's own sides where it gives them, else a seeded split; a missing side is cut from the training side."""
    if not any(sample.side for sample in samples):
        return split([sample.text for sample in samples], seed, val_share, test_share)
    sides = [sample.side or "train" for sample in samples]
    missing = {"val", "test"} - set(sides)
    if missing:
        train = [index for index, side in enumerate(sides) if side == "train"]
        cut = split(
            [samples[index].text for index in train],
            seed,
            *(share if side in missing else 0 for side, share in (("val", val_share), ("test", test_share))),
        )
        for index, side in zip(train, cut, strict=True):
            sides[index] = side if side in missing else "train"
    return sides


def on_two_sides(samples: Sequence[Sample], sides: Sequence[str]) -> list[str]:
    """The texts that stand on more than one side, whatever their case, in order of how often."""
    pairs = {(sample.text.casefold(), side) for sample, side in zip(samples, sides, strict=True)}
    counts = Counter(text for text, _ in pairs)
    return [text for text, count in counts.most_common() if count > 1]
