"""Confidence, judged where the truth is known: simulated readings, cases counted by hand, all thresholds tried."""

import math
import random

import numpy as np
import pytest

from helpers.evaluation.answers import Answers
from helpers.evaluation.calibration import (
    FEWEST,
    HIGHEST,
    LOWEST,
    Acceptance,
    accept,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    reliability,
    risk_coverage,
    threshold_for,
)
from helpers.text.metrics import wilson_interval
from helpers.text.spelling import CTCSpelling, PositionSpelling, Reading

CONFIDENCES, RIGHT = [0.9, 0.9, 0.7, 0.7, 0.2], [True, True, True, False, False]


def simulated(n: int, temperature: float, seed: int = 0) -> Answers:
    """Answers of three characters whose true texts are drawn from what their logits say at the temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 4, (n, 3, 5))  # (B, T, K)
    shares = np.exp(logits / temperature)
    shares /= shares.sum(-1, keepdims=True)
    ids = (shares.cumsum(-1) < generator.random((n, 3, 1))).sum(-1).clip(max=4)
    return Answers(PositionSpelling("ABCDE", 3), list(logits), ["".join("ABCDE"[i] for i in row) for row in ids])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    answers = simulated(8000, temperature)
    assert 0.05 < answers.right.mean() < 0.99
    assert fit_temperature(answers.confidences, answers.right) == pytest.approx(temperature, rel=0.05)


def test_temperature_cures_what_is_overconfident() -> None:
    fitted_on, judged_on = simulated(5000, 2.0), simulated(5000, 2.0, seed=1)
    temperature = fit_temperature(fitted_on.confidences, fitted_on.right)
    before, after = (
        expected_calibration_error(judged_on.confidences(value), judged_on.right) for value in (1.0, temperature)
    )
    assert after < 0.03 < 0.15 < before


def test_a_side_without_an_error_asks_for_no_certainty() -> None:
    """One confidence for all, sigmoid(2 / T): the best one is Platt's target (n + 1) / (n + 2)."""
    temperature = fit_temperature(lambda t: np.full(98, 1 / (1 + math.exp(-2 / t))), [True] * 98)
    assert 1 / (1 + math.exp(-2 / temperature)) == pytest.approx(99 / 100, abs=1e-3)
    temperature = fit_temperature(lambda t: np.full(38, 1 / (1 + math.exp(2 / t))), [False] * 38)
    assert 1 / (1 + math.exp(2 / temperature)) == pytest.approx(1 / 40, abs=2e-3)


def test_the_fit_is_the_best_of_all_temperatures_tried() -> None:
    answers = simulated(300, 1.7)
    n, good = len(answers.right), answers.right.sum()
    targets = np.where(answers.right, (good + 1) / (good + 2), 1 / (n - good + 2))

    def entropy(temperature: float) -> float:
        shares = answers.confidences(temperature)
        return -np.mean(targets * np.log(shares) + (1 - targets) * np.log(1 - shares))

    fitted = fit_temperature(answers.confidences, answers.right)
    assert entropy(fitted) <= min(map(entropy, np.geomspace(0.3, HIGHEST, 300))) + 1e-5


def test_few_readings_leave_the_temperature_alone() -> None:
    for n, fitted in ((1, 1.0), (FEWEST - 1, 1.0), (FEWEST, pytest.approx(2 / math.log(FEWEST + 1), rel=1e-2))):
        assert fit_temperature(lambda t, n=n: np.full(n, 1 / (1 + math.exp(-2 / t))), [True] * n) == fitted
    answers = simulated(FEWEST - 1, 2.0)
    assert str(calibrate(answers, answers, 1.0)).startswith(
        f"temperature 1, {FEWEST - 1} validation images are too few"
    )


def test_temperature_stays_within_its_bounds() -> None:
    for power, bound in ((1, HIGHEST), (-1, LOWEST)):  # surer and surer towards one end, where all is right
        fitted = fit_temperature(lambda t, power=power: np.full(4000, t**power / (1 + t**power)), [True] * 4000)
        assert fitted == pytest.approx(bound, rel=6e-3) and LOWEST <= fitted <= HIGHEST
    assert LOWEST <= fit_temperature(lambda t: np.zeros(FEWEST), [False] * FEWEST) <= HIGHEST  # certain, as floats are
    assert LOWEST <= fit_temperature(lambda t: np.ones(FEWEST), [True] * FEWEST) <= HIGHEST


def test_calibrated_confidences_have_hardly_an_error() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.random(50000)
    right = generator.random(50000) < confidences
    assert expected_calibration_error(confidences, right) < 0.01
    assert expected_calibration_error(confidences, ~right) == pytest.approx(0.5, abs=0.01)  # mean of |1 - 2 c|
    assert expected_calibration_error([1.0, 1.0], [False, True]) == 0.5


def test_bins_by_hand() -> None:
    low, middle, high = reliability(CONFIDENCES, RIGHT, bins=5)
    assert low == (0, 1 / 5, 1, 0.2, 0, 0, *wilson_interval(0, 1))  # 0.2 closes its bin
    assert middle[:6] == pytest.approx((3 / 5, 4 / 5, 2, 0.7, 1, 0.5)) and high[:6] == pytest.approx(
        (0.8, 1, 2, 0.9, 2, 1)
    )
    assert expected_calibration_error(CONFIDENCES, RIGHT, bins=5) == pytest.approx((0.2 + 2 * 0.2 + 2 * 0.1) / 5)
    assert reliability([0.0, 1.0], [False, True])[0].low == 0 and reliability([1.0], [True])[0].high == 1


def test_equal_confidences_are_accepted_together() -> None:
    points = risk_coverage(CONFIDENCES, RIGHT)
    assert [point[:5] for point in points] == [(0.9, 2, 2, 2 / 5, 1), (0.7, 4, 3, 4 / 5, 3 / 4), (0.2, 5, 3, 1, 3 / 5)]
    assert points[1][5:] == wilson_interval(3, 4)
    assert len(risk_coverage([0.5] * 7, [True] * 6 + [False])) == 1


def test_thresholds_against_trying_all() -> None:
    draw = random.Random(0)
    for _ in range(300):
        n = draw.randint(1, 30)
        confidences = [draw.randint(0, 12) / 12 for _ in range(n)]  # with ties
        right = [draw.random() < confidence for confidence in confidences]
        for precision in (0.5, 0.75, 0.9, 1.0):
            fine = []
            for threshold in set(confidences):
                chosen = [ok for ok, c in zip(right, confidences, strict=True) if c >= threshold]
                fine += [threshold] * (sum(chosen) / len(chosen) >= precision)
            found = threshold_for(precision, confidences, right)
            if not fine:
                assert found is None
            else:
                accepted = {c for c in confidences if c >= found}
                assert accepted == {c for c in confidences if c >= min(fine)} and min(fine) - 0.01 <= found <= min(fine)


def test_thresholds_are_short_to_type() -> None:
    assert threshold_for(1, [0.9371, 0.91], [True, False]) == 0.93
    assert threshold_for(1, [0.9371, 0.9342], [True, False]) == 0.937
    assert threshold_for(1, [1 - 1e-7, 1 - 2e-7], [True, False]) == 0.9999999
    assert threshold_for(1, [math.nextafter(0.5, 1), 0.5], [True, False]) == math.nextafter(0.5, 1)
    assert threshold_for(0.5, [0.9], [False]) is None


def test_what_a_threshold_gives_is_said_in_words() -> None:
    right = [True] * 939 + [False] + [True] * 60
    confidences = [0.99] * 940 + [0.5] * 60
    assert str(accept(0.999, 0.97, confidences, right)) == (
        "accept above 0.97: 99.9 % right on 94 % of the images (939 of 940; 95 % interval 99.4 to 100.0 %)"
    )
    assert "99.97 % right on 100 % of" in str(Acceptance(0.999, 0.5, 3000, 3000, 2999))  # no error hides in a 100
    assert accept(0.5, 0.99, confidences, right).accepted == 940  # at the threshold is above it
    assert str(Acceptance(0.999, None, 10, 0, 0)).startswith("no threshold makes 99.9 % of the accepted readings right")
    assert str(Acceptance(0.99, 0.97, 10, 0, 0)) == "accept above 0.97: none of the 10 images is read so surely"


def test_thresholds_come_from_validation_and_results_from_test() -> None:
    validation, test = simulated(4000, 1.0), simulated(3000, 1.0, seed=1)
    found = calibrate(validation, test, temperature=1.0)
    assert (found.n_validation, found.n) == (4000, 3000) and found.ece == found.ece_uncalibrated
    acceptance = found.acceptances[0]
    assert acceptance.threshold == threshold_for(0.99, validation.confidences(), validation.right)
    chosen = test.right[test.confidences() >= acceptance.threshold]
    assert (acceptance.accepted, acceptance.right) == (len(chosen), chosen.sum()) and chosen.mean() > 0.97
    metrics = found.metrics()
    assert metrics["test_accept_99_share"] == len(chosen) / 3000 and metrics["temperature"] == 1
    assert metrics["test_accept_99_precision"] == chosen.mean()
    assert "4000 validation images" in str(found) and f"accept above {acceptance.threshold}" in str(found)


def test_a_model_that_is_always_wrong_is_accepted_never() -> None:
    answers = Answers(PositionSpelling("AB", 1), [np.zeros((1, 2))] * 3, ["B"] * 3)
    found = calibrate(answers, answers, fit_temperature(answers.confidences, answers.right))
    assert [each.threshold for each in found.acceptances] == [None, None]
    assert not [name for name in found.metrics() if "accept" in name] and str(found).count("no threshold") == 2


def test_answers_are_what_a_reader_says_in_the_order_of_the_images() -> None:
    generator = np.random.default_rng(0)
    spelling = CTCSpelling("AB")
    logits = [generator.normal(0, 2, (T, 3)) for T in (4, 6, 4, 5, 6)]  # pictures of several widths
    answers = Answers(spelling, logits, ["A"] * 5)
    alone = [spelling.read(scores[None], temperature=1.5)[0] for scores in logits]
    assert answers.texts == [reading.text for reading in alone]
    assert answers.confidences(1.5) == pytest.approx([reading.confidence for reading in alone])
    assert answers.readings(1.5)[3] == Reading(alone[3].text, pytest.approx(alone[3].confidence))
    assert answers.right.tolist() == [text == "A" for text in answers.texts]


@pytest.mark.parametrize(
    "judge", [reliability, expected_calibration_error, risk_coverage, lambda c, r: accept(1, 0, c, r)]
)
def test_no_data_and_what_is_no_confidence_are_errors(judge: object) -> None:
    for confidences, right, message in (
        ([], [], "one of each"),
        ([0.5], [True, False], "one of each"),
        ([1.5], [True], "lie in"),
        ([math.nan], [True], "lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(confidences, right)


def test_frames_say_what_the_reading_says() -> None:
    scores = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.1, 0.6, 0.3]])
    characters, shares = Answers(CTCSpelling("AB"), [scores], ["AA"]).frames(0)
    assert characters == ["", "A", "A", "", "A"] and shares == pytest.approx([0.7, 0.8, 0.8, 0.6, 0.6])
    forced = Answers(CTCSpelling("AB", length=1), [scores], ["A"]).frames(0)  # the likeliest path of one character
    assert forced[0] == ["", "A", "A", "A", "A"] and forced[1] == pytest.approx([0.7, 0.8, 0.8, 0.2, 0.6])
    assert Answers(PositionSpelling("AB", 1), [np.zeros((1, 2))], ["A"]).frames(0) is None


def test_nothing_to_fit_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="no readings"):
        fit_temperature(lambda t: np.empty(0), [])
    with pytest.raises(ValueError, match="one of each"):
        Answers(PositionSpelling("AB", 1), [], [])
