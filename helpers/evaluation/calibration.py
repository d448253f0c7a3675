"""Can a confidence be trusted? Confidences and which readings were right in, a temperature and thresholds out.

`confidences` are probabilities in [0, 1], (n,), and `right` says of each reading whether it was right.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from helpers.evaluation.answers import Answers
from helpers.text.metrics import wilson_interval

LOWEST, HIGHEST = 0.05, 20.0  # temperatures between which the best one is searched
FEWEST = 30  # readings that a temperature is fitted on: what fewer ask for is chance
BINS = 15  # of a reliability diagram, equally wide
PRECISIONS = (0.99, 0.999)  # shares of right readings that thresholds are chosen for
TINY = 1e-15  # a probability is taken as no nearer than this to 0 or 1


def fit_temperature(confidences: Callable[[float], np.ndarray], right: Sequence[bool]) -> float:
    """The temperature in [LOWEST, HIGHEST] at which confidences foretell best on a validation side what is right.

    It minimises the binary cross-entropy of the confidence of whole readings against (n_right + 1) / (n_right + 2) for a
    right and 1 / (n_wrong + 2) for a wrong one, so that a side without an error does not ask for certainty.
    Of fewer than FEWEST readings it is 1: five right ones would ask for a confidence of 6 / 7, whatever the model.
    Sources: Guo et al. 2017, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599; J. Platt 1999,
    "Probabilistic Outputs for Support Vector Machines", section 2.2, for the targets.
    """
    right = np.asarray(right, dtype=bool)
    if not right.size:
        raise ValueError("no readings to fit a temperature on: at least one is expected")
    if right.size < FEWEST:
        return 1.0
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    def entropy(logarithm: float) -> float:
        shares = np.clip(confidences(math.exp(logarithm)), TINY, 1 - TINY)
        return float(-np.mean(targets * np.log(shares) + (1 - targets) * np.log1p(-shares)))

    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), 13)
    place = int(np.argmin([entropy(logarithm) for logarithm in grid]))
    around = grid[max(0, place - 1)], grid[min(len(grid) - 1, place + 1)]
    return math.exp(minimize_scalar(entropy, bounds=around, method="bounded", options={"xatol": 1e-3}).x)


class Bin(NamedTuple):
    """Readings whose confidence lies in (low, high]; the first bin holds 0 too."""

    low: float
    high: float
    n: int
    confidence: float  # mean
    right: int
    share: float  # that is right
    share_low: float  # 95 %, Wilson
    share_high: float


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """How many are right in each of `bins` equally wide intervals of confidence that is not empty."""
    confidences, right = _checked(confidences, right)
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for place in np.unique(places):
        inside = places == place
        n, good = int(inside.sum()), int(right[inside].sum())
        mean = float(confidences[inside].mean())
        rows.append(Bin(place / bins, (place + 1) / bins, n, mean, good, good / n, *wilson_interval(good, n)))
    return rows


def expected_calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Mean distance of confidence and share right over the bins of `reliability`, weighted by their sizes (ECE).

    Source: Guo et al. 2017, section 2, equation 3; equally wide bins as there.
    """
    rows = reliability(confidences, right, bins)
    return sum(row.n * abs(row.share - row.confidence) for row in rows) / sum(row.n for row in rows)


class Point(NamedTuple):
    """What is accepted at this threshold: all readings with at least this confidence."""

    threshold: float
    n: int  # accepted
    right: int
    coverage: float  # share accepted
    precision: float  # share of them that is right
    low: float  # of the precision; 95 %, Wilson
    high: float


def risk_coverage(confidences: Sequence[float], right: Sequence[bool]) -> list[Point]:
    """One point for each confidence that occurs, highest first; equal ones are accepted together.

    Source: El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification", JMLR 11.
    """
    confidences, right = _checked(confidences, right)
    order = np.argsort(-confidences, kind="stable")
    falling, good = confidences[order], right[order].cumsum()
    last = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))  # of each group of equal ones
    return [
        Point(
            *(float(falling[i]), int(i) + 1, int(good[i]), (i + 1) / len(order), good[i] / (i + 1)),
            *wilson_interval(int(good[i]), int(i) + 1),
        )
        for i in last
    ]


def threshold_for(precision: float, confidences: Sequence[float], right: Sequence[bool]) -> float | None:
    """The lowest threshold at and above which at least this share is right; None where none reaches it.

    Rounded down, to two decimals or as many as keep out the next less sure reading, so that a person can type it.
    """
    points = risk_coverage(confidences, right)
    reached = [index for index, point in enumerate(points) if point.right >= precision * point.n - 1e-9]
    if not reached:
        return None
    lowest = points[reached[-1]].threshold
    below = points[reached[-1] + 1].threshold if reached[-1] + 1 < len(points) else -1.0
    for digits in range(2, 16):
        rounded = round(math.floor(lowest * 10**digits) / 10**digits, digits)
        if below < rounded <= lowest:
            return rounded
    return lowest


@dataclass(frozen=True)
class Acceptance:
    """What a threshold that was chosen elsewhere, for a precision, gives on a set of readings."""

    precision: float  # asked for
    threshold: float | None  # None: no threshold reached the precision
    n: int  # readings
    accepted: int
    right: int  # of those accepted

    def __str__(self) -> str:
        if self.threshold is None:
            return f"no threshold makes {_percent(self.precision)} of the accepted readings right on validation"
        begin = f"accept above {self.threshold:.15g}"
        if not self.accepted:
            return f"{begin}: none of the {self.n} images is read so surely"
        low, high = wilson_interval(self.right, self.accepted)
        return (
            f"{begin}: {_percent(self.right / self.accepted)} right on {_percent(self.accepted / self.n)} of the images"
            f" ({self.right} of {self.accepted}; 95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        )


def accept(
    precision: float, threshold: float | None, confidences: Sequence[float], right: Sequence[bool]
) -> Acceptance:
    """What is accepted at the threshold, and how much of it is right."""
    confidences, right = _checked(confidences, right)
    inside = confidences >= (math.inf if threshold is None else threshold)
    return Acceptance(precision, threshold, len(right), int(inside.sum()), int(right[inside].sum()))


def acceptance_name(precision: float) -> str:
    """How the metrics of a run call the threshold for a precision: accept_99_9."""
    return f"accept_{100 * precision:g}".replace(".", "_")


@dataclass(frozen=True)
class Calibration:
    """How far a model's confidences can be trusted: what validation chose, and what that gives on the test side."""

    temperature: float
    n_validation: int
    n: int  # of the test side, as all below
    ece: float
    ece_uncalibrated: float  # at temperature 1
    acceptances: tuple[Acceptance, ...]

    def __str__(self) -> str:
        n, errors = self.n_validation, f"{100 * self.ece_uncalibrated:.2f} % before and {100 * self.ece:.2f} % after"
        chosen = (
            f"chosen on {n} validation images" if n >= FEWEST else f"{n} validation images are too few to choose one"
        )
        lines = [
            f"temperature {self.temperature:.3g}, {chosen}",
            f"expected calibration error (ECE) on {self.n} test images: {errors}",
        ]
        lines += [f"chosen for {_percent(each.precision)} right: {each}" for each in self.acceptances]
        return "\n".join(lines)

    def metrics(self, prefix: str = "test") -> dict[str, float]:
        """`temperature`, `test_ece`, `test_accept_99_share`, ...; without those that the data cannot tell."""
        found = {
            "temperature": self.temperature,
            f"{prefix}_ece": self.ece,
            f"{prefix}_ece_uncalibrated": self.ece_uncalibrated,
        }
        for each in self.acceptances:
            name = acceptance_name(each.precision)
            if each.threshold is not None:
                found |= {f"{name}_threshold": each.threshold, f"{prefix}_{name}_share": each.accepted / each.n}
            if each.accepted:
                found[f"{prefix}_{name}_precision"] = each.right / each.accepted
        return found


def calibrate(validation: Answers, test: Answers, temperature: float) -> Calibration:
    """Thresholds from the validation side, as is the temperature, judged on the test side."""
    sure, confidences = validation.confidences(temperature), test.confidences(temperature)
    chosen = [(precision, threshold_for(precision, sure, validation.right)) for precision in PRECISIONS]
    return Calibration(
        temperature=temperature,
        n_validation=len(validation.right),
        n=len(test.right),
        ece=expected_calibration_error(confidences, test.right),
        ece_uncalibrated=expected_calibration_error(test.confidences(), test.right),
        acceptances=tuple(accept(*pair, confidences, test.right) for pair in chosen),
    )


def _percent(share: float) -> str:
    """In percent with one decimal, or as many as tell it from 100."""
    digits = next(digits for digits in range(1, 16) if share >= 1 or round(100 * share, digits) < 100)
    return f"{100 * share:.{digits}f}".removesuffix(".0") + " %"


def _checked(confidences: Sequence[float], right: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    confidences, right = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=bool)
    if len(confidences) != len(right) or not len(right):
        raise ValueError(f"{len(confidences)} confidences and {len(right)} readings: one of each per image is expected")
    if not ((confidences >= 0) & (confidences <= 1 + 1e-9)).all():  # a sum over alignments may exceed 1 by rounding
        raise ValueError(f"confidences from {confidences.min():g} to {confidences.max():g}: they lie in [0, 1]")
    return confidences, right
