"""The split: equal texts on one side, the shares that were asked for, and no side that another file could change."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from helpers.data.splits import on_two_sides, place, split, split_folds, split_sides
from helpers.pictures.opening import DataError
from helpers.sources.names import SPLITS, Sample

CHARSET = "ABCDEFGHKLMNPRSTUVWXYZ23456789abcdefghkmnprstuvwxyz"


def made_up(count: int, seed: int = 0, lengths: Iterable[int] = (5,)) -> list[str]:
    """That many texts, no two of which are equal when case does not count."""
    draw, lengths = random.Random(f"{count} {seed}"), [*lengths]
    found: dict[str, str] = {}
    while len(found) < count:
        text = "".join(draw.choices(CHARSET, k=draw.choice(lengths)))
        found.setdefault(text.casefold(), text)
    return list(found.values())


def samples_of(texts: Sequence[str], sides: Sequence[str | None] | None = None) -> list[Sample]:
    sides = sides or [None] * len(texts)
    return [Sample(Path(f"{i}.png"), text, side) for i, (text, side) in enumerate(zip(texts, sides, strict=True))]


def is_share(found: int, of: int, share: float) -> bool:
    """Whether a binomial draw may have given that many: within six standard deviations, so in all but 2 of 10^9."""
    return abs(found - of * share) <= 6 * math.sqrt(of * share * (1 - share))


def sides_by_text(texts: Sequence[str], sides: Sequence[str]) -> dict[str, set[str]]:
    together = defaultdict(set)
    for text, side in zip(texts, sides, strict=True):
        together[text.casefold()].add(side)
    return together


# --- by text and seed alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_equal_texts_stand_on_one_side_whatever_their_case(seed: int) -> None:
    draw = random.Random(seed)
    different = made_up(40, seed)
    texts = [draw.choice((str, str.upper, str.lower, str.swapcase))(draw.choice(different)) for _ in range(200)]
    sides = split(texts, seed)
    assert set(sides) == set(SPLITS)
    assert all(len(found) == 1 for found in sides_by_text(texts, sides).values())
    assert len({*texts}) > len(sides_by_text(texts, sides))  # some differ in case alone


def test_the_order_of_the_files_does_not_matter() -> None:
    texts = made_up(100) + made_up(100)[:20]
    for seed in range(10):
        sides = split(texts, seed)
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        assert split([texts[i] for i in order], seed) == [sides[i] for i in order]


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    texts = made_up(100)
    splits = [split(texts, seed) for seed in range(20)]
    assert splits == [split(texts, seed) for seed in range(20)]
    assert len({*map(tuple, splits)}) == 20


@pytest.mark.parametrize("added", [10, 1000])
def test_samples_added_later_move_no_other(added: int) -> None:
    for seed in range(20):
        before, more = made_up(200, seed), made_up(added, 1000 + seed)
        together = random.Random(seed).sample(before + more, 200 + added)
        after = dict(zip(together, split(together, seed), strict=True))
        assert split(before, seed) == [after[text] for text in before]


def test_no_texts_are_treated_apart() -> None:
    """The places of texts are spread evenly over [0, 1): the Kolmogorov-Smirnov distance is that of a fair draw."""
    for texts in (made_up(2000), [f"{number:04d}" for number in range(2000)]):
        places = sorted(place(text, 0) for text in texts)
        assert places[0] >= 0 and places[-1] < 1
        distance = max(abs(value - (rank + 0.5) / 2000) for rank, value in enumerate(places))
        assert distance < 3 / math.sqrt(2000)  # a fair draw stays below in all but 1 of 10^7


# --- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.1), (0.2, 0.05), (0.01, 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_shares(val: float, test: float, seed: int) -> None:
    counts = Counter(split(made_up(5000, seed), seed, val, test))
    assert is_share(counts["val"], 5000, val) and is_share(counts["test"], 5000, test)
    assert counts.total() == 5000


def test_every_length_has_the_same_shares() -> None:
    texts = made_up(8000, lengths=(4, 5, 6, 7, 7, 7))
    sides = split(texts, seed=1)
    for length in (4, 5, 6, 7):
        counts = Counter(side for text, side in zip(texts, sides, strict=True) if len(text) == length)
        assert counts.total() > 1000
        assert is_share(counts["val"], counts.total(), 0.1) and is_share(counts["test"], counts.total(), 0.1)


@pytest.mark.parametrize("count", range(3, 16))
def test_every_side_of_a_tiny_set_holds_something(count: int) -> None:
    for seed in range(30):
        for val, test in ((0.1, 0.1), (0.5, 0.4), (0.01, 0.98)):
            assert set(split(made_up(count, seed), seed, val, test)) == set(SPLITS)


@pytest.mark.parametrize("texts", [[], ["a"] * 30, ["a", "b"] * 10, ["a", "b", "A", "B"]])
def test_too_few_texts_to_split(texts: list[str]) -> None:
    with pytest.raises(DataError, match=f"{len({*map(str.casefold, texts)})} different texts are too few to split"):
        split(texts, 0)


# --- folds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
@pytest.mark.parametrize("seed", range(3))
def test_folds_test_every_text_once(folds: int, seed: int) -> None:
    different = made_up(500, seed)
    texts = different + [text.swapcase() for text in different[:50]]
    splits = [split_folds(texts, seed, folds, fold) for fold in range(folds)]
    for of_text in zip(*splits, strict=True):
        assert of_text.count("test") == 1
    for sides in splits:
        assert set(sides) == set(SPLITS)
        assert all(len(found) == 1 for found in sides_by_text(texts, sides).values())
        assert is_share(sides[:500].count("test"), 500, 1 / folds)


def test_folds_cut_the_validation_side_from_the_rest_by_its_share() -> None:
    texts = made_up(5000)
    for fold in range(4):
        counts = Counter(split_folds(texts, 0, 4, fold, val_share=0.2))
        assert is_share(counts["val"], counts["val"] + counts["train"], 0.2)


def test_folds_draw_their_validation_sides_apart() -> None:
    """Else the same texts would never be trained on."""
    texts = made_up(1000)
    val = [
        {t for t, side in zip(texts, split_folds(texts, 0, 5, fold), strict=True) if side == "val"} for fold in range(5)
    ]
    assert all(len(a & b) < 0.5 * len(a) for a in val for b in val if a is not b)


def test_samples_added_later_move_no_other_between_folds() -> None:
    for seed in range(10):
        before, more = made_up(200, seed), made_up(300, 1000 + seed)
        for fold in range(5):
            after = dict(zip(before + more, split_folds(before + more, seed, 5, fold), strict=True))
            assert split_folds(before, seed, 5, fold) == [after[text] for text in before]


def test_folds_follow_the_seed() -> None:
    texts = made_up(100)
    assert split_folds(texts, 0, 5, 0) == split_folds(texts, 0, 5, 0) != split_folds(texts, 1, 5, 0)


def test_too_few_texts_for_that_many_folds() -> None:
    with pytest.raises(DataError, match="fold 0 of 10 has nothing to .* with: take fewer folds"):
        split_folds(["a", "b"], 0, 10, 0)


# --- sides that the source gives -------------------------------------------------------------------------------------


def test_without_own_sides_the_split_is_drawn() -> None:
    texts = made_up(200)
    assert split_sides(samples_of(texts), 3, 0.2, 0.1) == split(texts, 3, 0.2, 0.1)


def test_own_sides_are_kept() -> None:
    own = [SPLITS[index % 3] for index in range(60)]
    assert split_sides(samples_of(made_up(60), own), 0, 0.5, 0.3) == own


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_side_is_cut_from_the_training_side(missing: str) -> None:
    given = "test" if missing == "val" else "val"
    own = ["train"] * 4000 + [given] * 1000
    texts = made_up(5000)
    shares = {"val_share": 0.1, "test_share": 0.1, missing + "_share": 0.25}
    sides = split_sides(samples_of(texts, own), 0, **shares)
    assert sides[4000:] == [given] * 1000
    counts = Counter(sides[:4000])
    assert set(counts) == {"train", missing} and is_share(counts[missing], 4000, 0.25)
    assert split_sides(samples_of(texts, own), 1, **shares) != sides


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.1), (0.2, 0.1), (0.1, 0.3)])
def test_two_missing_sides_are_cut_from_the_training_side(val: float, test: float) -> None:
    """As from a table whose column of sides says `train` alone."""
    counts = Counter(split_sides(samples_of(made_up(5000), ["train"] * 5000), 0, val, test))
    assert is_share(counts["val"], 5000, val) and is_share(counts["test"], 5000, test)


def test_a_side_that_is_cut_takes_all_samples_of_a_text() -> None:
    texts = [text for text in made_up(100) for _ in range(3)]
    sides = split_sides(samples_of(texts, ["train"] * 299 + ["val"]), 0, 0.1, 0.2)
    assert all(len(found) == 1 for found in sides_by_text(texts[:297], sides[:297]).values())


def test_texts_on_most_sides_are_told_first() -> None:
    texts = [letter for letter in "abcdefghij" for _ in range(3 if letter in "bdfhj" else 2)]
    sides = [side for letter in "abcdefghij" for side in SPLITS[: 3 if letter in "bdfhj" else 2]]
    told = on_two_sides(samples_of(texts), sides)
    assert {*told[:5]} == {*"bdfhj"} and {*told[5:]} == {*"acegi"}


def test_texts_on_two_sides_are_told() -> None:
    texts = ["AB", "CD", "ab", "EF", "GH", "EF", "Ef", "CD"]
    sides = ["train", "train", "val", "train", "test", "val", "test", "train"]
    assert sorted(on_two_sides(samples_of(texts), sides)) == ["ab", "ef"]
    assert on_two_sides(samples_of(texts), split(texts, 0)) == []
