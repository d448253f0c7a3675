"""Metrics against hand computation, published values and brute force."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from helpers.evaluation.breakdown import TABLES
from helpers.text.metrics import (
    align,
    bootstrap_interval,
    character_error_rate,
    confusions,
    exact_match,
    has_doubled,
    right_of,
    score,
    standard_error,
    wilson_interval,
)

TRUTHS = ["AAB1", "C2D3", "EFGH", "JKKL"]
READINGS = ["AB1", "C2D3", "EFGh", "JKKLM"]  # one A lost, right, one letter in the wrong case, one M too many


def slow_distance(a: str, b: str) -> int:
    """Edit distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    diagonal = slow_distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(diagonal, slow_distance(a[1:], b) + 1, slow_distance(a, b[1:]) + 1)


def test_exact_match_and_cer_by_hand() -> None:
    assert exact_match(READINGS, TRUTHS) == 1 / 4
    assert character_error_rate(READINGS, TRUTHS) == 3 / 16
    assert character_error_rate(["", "C2D3xxxx"], ["AB", "C2D3"]) == (2 + 4) / 6
    assert character_error_rate(["AAAA"], ["B"]) == 4  # may well be above 1
    # of all characters, not a mean over captchas, which would be (1 + 0) / 2
    assert character_error_rate(["B", "AAA"], ["A", "AAA"]) == 1 / 4


def test_cer_is_the_brute_force_edit_distance() -> None:
    words = ["".join(w) for n in range(4) for w in itertools.product("AB", repeat=n)]
    for reading, truth in itertools.product(words, words[1:]):
        assert character_error_rate([reading], [truth]) == slow_distance(reading, truth) / len(truth)


def test_standard_error_is_how_far_the_cer_of_many_samples_scatters() -> None:
    draw = random.Random(0)
    samples = [["AB" if draw.random() < 0.8 else "A" for _ in range(200)] for _ in range(400)]
    rates = [character_error_rate(sample, ["AB"] * 200) for sample in samples]
    assert np.mean([standard_error(sample, ["AB"] * 200) for sample in samples]) == pytest.approx(
        np.std(rates), rel=0.1
    )
    assert standard_error(READINGS, TRUTHS) == pytest.approx(np.std([1, 0, 1, 1]) / 4 / 2)


@pytest.mark.parametrize(  # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_against_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=6e-5)


def test_wilson_bounds_are_where_the_measured_share_is_z_standard_errors_off() -> None:
    for successes, n, z in ((93, 94, 1.96), (7, 10, 1.96), (3, 50, 1.0)):
        for bound in wilson_interval(successes, n, z):
            assert abs(successes / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n))


def test_wilson_stays_in_zero_to_one() -> None:
    for n in range(1, 200):
        assert wilson_interval(0, n)[0] == 0 < wilson_interval(0, n)[1] < 1
        assert 0 < wilson_interval(n, n)[0] < wilson_interval(n, n)[1] == 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {n}"):
        wilson_interval(successes, n)


def test_has_doubled() -> None:
    assert [has_doubled(text) for text in ("", "A", "AA", "ABA", "ABB1", "aA")] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_confusions_by_hand() -> None:
    assert confusions(READINGS, TRUTHS) == Counter({("A", ""): 1, ("H", "h"): 1, ("", "M"): 1})
    assert confusions(["O8", "O"], ["08", "0"]) == Counter({("0", "O"): 2})
    assert confusions(TRUTHS, TRUTHS) == Counter()


def test_alignment_gives_both_texts_back_at_the_least_cost() -> None:
    draw = random.Random(0)
    for _ in range(200):
        reading, truth = ("".join(draw.choices("ABC", k=draw.randint(0, 5))) for _ in range(2))
        pairs = align(reading, truth)
        assert "".join(true for true, _ in pairs) == truth
        assert "".join(read for _, read in pairs) == reading
        assert sum(true != read for true, read in pairs) == slow_distance(reading, truth)
        assert ("", "") not in pairs


def test_bootstrap_agrees_with_plain_resampling() -> None:
    draw = random.Random(1)
    truths = ["".join(draw.choices("ABCDEF", k=draw.randint(3, 6))) for _ in range(150)]
    readings = [text[1:] if draw.random() < 0.3 else text for text in truths]
    errors = np.array([len(t) - len(r) for r, t in zip(readings, truths, strict=True)])
    lengths = np.array([len(t) for t in truths])
    drawn = np.random.default_rng(2).integers(150, size=(20000, 150))
    rates = errors[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)
    interval = bootstrap_interval(readings, truths)
    assert interval == pytest.approx(np.percentile(rates, (2.5, 97.5)), abs=0.0018)
    assert interval == bootstrap_interval(readings, truths) != bootstrap_interval(readings, truths, seed=1)


def test_bootstrap_claims_no_interval_without_spread() -> None:
    assert bootstrap_interval(TRUTHS, TRUTHS) is None
    assert bootstrap_interval(["AB", "ABC"], ["AB", "ABC"]) is None
    assert bootstrap_interval(["A"], ["B"]) is None
    assert "test_cer_low" not in score(TRUTHS, TRUTHS).metrics("test")


def test_score_by_hand() -> None:
    result = score(READINGS, TRUTHS)
    assert (result.n, result.exact, result.cer) == (4, 1 / 4, 3 / 16)
    assert (result.exact_low, result.exact_high) == wilson_interval(1, 4)
    assert (result.cer_low, result.cer_high) == bootstrap_interval(READINGS, TRUTHS)
    assert (result.n_doubled, result.exact_doubled) == (2, 0)  # AAB1 and JKKL, by the truth and not by the reading
    assert (result.exact_casefold, result.cer_casefold) == (2 / 4, 2 / 16)


def test_score_metrics_are_flat_floats_without_none() -> None:
    metrics = score(["AB", "CX"], ["AB", "CD"]).metrics("test")
    assert metrics["test_exact"] == 0.5 and metrics["test_cer"] == 0.25 and metrics["test_n_doubled"] == 0
    assert {"test_exact_low", "test_exact_high", "test_exact_casefold", "test_cer_high"} <= metrics.keys()
    assert "test_exact_doubled" not in metrics
    assert all(type(value) is float for value in metrics.values())
    assert score(["AA"], ["AA"]).metrics("val")["val_exact_doubled"] == 1


def test_score_reads_well() -> None:
    truths = ["AAB1"] * 94
    lines = str(score(["AAB", *truths[1:]], truths)).splitlines()
    assert lines[0] == "exact match 98.9 % (93 of 94; 95 % interval 94.2 to 99.8 %)"
    assert lines[1].startswith("character error rate (CER) 0.27 % (95 % interval 0.00 to ")
    assert lines[2] == "captchas with doubled letters: exact match 98.9 % (93 of 94)"
    assert "none in this set" in str(score(["AB"], ["AB"])) and "no spread" in str(score(["AB"], ["AB"]))


BREAKDOWNS = [break_down for break_down, _ in TABLES.values()]


@pytest.mark.parametrize(
    "measure", [exact_match, character_error_rate, confusions, bootstrap_interval, score, right_of, *BREAKDOWNS]
)
def test_no_data_is_an_error_and_never_a_zero(measure: object) -> None:
    with pytest.raises(ValueError, match="no readings"):
        measure([], [])
    with pytest.raises(ValueError, match="1 readings and 2 truths"):
        measure(["A"], ["A", "B"])
    with pytest.raises(ValueError, match="truth 1 is empty"):
        measure(["A", "B"], ["A", ""])
