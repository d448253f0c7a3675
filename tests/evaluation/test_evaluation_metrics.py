"""The paired test against brute force over every outcome, and what it says in words."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from helpers.text.metrics import holm, mcnemar, right_of, wilson_interval


def verdicts(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Right or wrong per captcha, of A and of B."""
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


def brute_force(only_a: int, only_b: int) -> Fraction:
    """The share of all ways in which the coins may fall that are as uneven as this one or more."""
    falls = [*itertools.product((0, 1), repeat=only_a + only_b)]
    uneven = [fall for fall in falls if abs(2 * sum(fall) - len(fall)) >= abs(only_a - only_b)]
    return Fraction(len(uneven), len(falls))


@pytest.mark.parametrize("only_a", range(7))
@pytest.mark.parametrize("only_b", range(7))
def test_mcnemar_is_the_share_of_all_falls_of_the_coins(only_a: int, only_b: int) -> None:
    test = mcnemar(*verdicts(5, only_a, only_b, 2))
    assert (test.both, test.only_a, test.only_b, test.neither) == (5, only_a, only_b, 2)
    assert test.p == pytest.approx(float(brute_force(only_a, only_b)), rel=1e-12)
    assert mcnemar(*reversed(verdicts(5, only_a, only_b, 2))).p == test.p  # whoever is called A
    assert mcnemar(*verdicts(500, only_a, only_b, 77)).p == test.p  # what both read, or neither, says nothing


def test_mcnemar_with_many_captchas_is_the_normal_test() -> None:
    only_a, only_b = 20_500, 20_000
    z = (abs(only_a - only_b) - 1) / math.sqrt(only_a + only_b)
    assert mcnemar(*verdicts(0, only_a, only_b, 0)).p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert mcnemar(*verdicts(0, 3000, 0, 0)).p == 0.5**2999 == 0  # too small for a float, and no error


def test_where_readers_are_alike_small_p_values_are_as_rare_as_they_say() -> None:
    draw = np.random.default_rng(0)
    right = draw.random((2000, 2, 60)) < 0.8
    small = np.mean([mcnemar(*pair).p < 0.05 for pair in right])
    assert 0.01 < small < 0.05  # an exact test stays below


def test_verdicts_that_are_no_pairs_are_errors() -> None:
    for a, b in (([], []), ([True], [True, False])):
        with pytest.raises(ValueError, match="the same captchas, at least one, are expected"):
            mcnemar(a, b)


def test_it_says_what_a_person_understands() -> None:
    said = mcnemar(*verdicts(100, 2, 1, 1)).in_words()
    low, high = wilson_interval(102, 104)
    assert said == (
        f"A reads 102 of 104 (98.1 %; {100 * low:.1f} to {100 * high:.1f}), B 101 of 104 (97.1 %; 91.9 to 99.0); "
        "they differ on 3 captchas: 2 only A, 1 only B; p = 1.00: chance alone explains such a difference"
    )
    assert "13 only wide, 0 only slim; p = 0.00024: hardly chance" in mcnemar(*verdicts(80, 13, 0, 1)).in_words(
        "wide", "slim"
    )
    assert "p < 0.0001: hardly chance" in mcnemar(*verdicts(80, 20, 0, 1)).in_words()
    assert "differ on no captcha; p = 1.00: nothing tells them apart" in mcnemar(*verdicts(80, 0, 0, 1)).in_words()
    corrected = mcnemar(*verdicts(80, 7, 0, 1))
    assert "p = 0.016: hardly chance" in corrected.in_words()
    assert "p = 0.062: chance alone explains" in corrected.in_words(p=0.0625)


def test_holm_by_hand_and_by_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x 0.01; 2 x 0.03; no less than that
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []
    draw = np.random.default_rng(0)
    for p_values in draw.random((200, 4)) ** 3:
        for level in (
            0.01,
            0.05,
            0.2,
        ):  # step by step: the smallest at level / 4, the next at level / 3, ... until one fails
            rejected: set[int] = set()
            for rank, index in enumerate(np.argsort(p_values)):
                if p_values[index] > level / (4 - rank):
                    break
                rejected.add(int(index))
            assert {index for index, p in enumerate(holm(list(p_values))) if p <= level} == rejected


def test_right_ones_are_counted_apart_by_kind_of_text() -> None:
    read = right_of(["AAB", "aab", "XYZ", "ab"], ["AAB", "AAB", "XYW", "AB"])
    assert read == {
        "all": (1, 4),
        "all, case folded": (3, 4),
        "with doubled letters": (1, 2),
        "without doubled letters": (0, 2),
    }
    assert right_of(["AB"], ["AB"]) == {"all": (1, 1), "all, case folded": (1, 1), "without doubled letters": (1, 1)}
