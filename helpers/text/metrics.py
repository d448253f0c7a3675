"""How well captchas are read: lists of strings in, shares in [0, 1] out; no network and no class ids here."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.stats import binomtest

Z = 1.96  # standard normal quantile of a two-sided 95 % interval
RESAMPLES = 1000
SIGNIFICANT = 0.05  # p below which a difference is called more than chance


def exact_match(readings: Sequence[str], truths: Sequence[str]) -> float:
    """Share of captchas read without any error."""
    _check(readings, truths)
    return sum(reading == truth for reading, truth in zip(readings, truths, strict=True)) / len(truths)


def character_error_rate(readings: Sequence[str], truths: Sequence[str]) -> float:
    """Edit distance of all readings over the characters of all truths (CER); above 1 where too much is read.

    Source: V. Levenshtein, Soviet Physics Doklady 10 (1966) 707, for the distance.
    """
    distances, lengths = _distances(readings, truths)
    return float(distances.sum() / lengths.sum())


def standard_error(readings: Sequence[str], truths: Sequence[str]) -> float:
    """Of the character error rate, from how far the edit distances of the captchas scatter."""
    distances, lengths = _distances(readings, truths)
    return float(distances.std() / lengths.mean() / math.sqrt(len(distances)))


def wilson_interval(successes: int, n: int, z: float = Z) -> tuple[float, float]:
    """(low, high) of a share measured as `successes` of `n`; honest at 0 and 1, where the normal interval is empty.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share: 0 <= successes <= n and n >= 1 are expected")
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)  # exactly so, but for rounding


def bootstrap_interval(readings: Sequence[str], truths: Sequence[str], seed: int = 0) -> tuple[float, float] | None:
    """(low, high) 95 % percentile interval of the CER over captchas drawn anew; None where all resamples are equal.

    None, not a width of 0: a set without an error cannot tell how rare errors are. Captchas with the same edit distance
    and length are one kind, P kinds in all, so that a resample is one multinomial draw over the kinds.
    Source: B. Efron, Annals of Statistics 7 (1979) 1-26.
    """
    pairs = np.stack(_distances(readings, truths), axis=1)  # (n, 2): edit distance, length
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)  # (P, 2), (P,)
    drawn = np.random.default_rng(seed).multinomial(len(pairs), counts / len(pairs), size=RESAMPLES)  # (RESAMPLES, P)
    distances, lengths = (drawn @ kinds).T  # (RESAMPLES,) each
    rates = distances / lengths
    if rates.min() == rates.max():
        return None
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)


def has_doubled(text: str) -> bool:
    """Two equal neighbours, as in 'AAB': what a CTC reading loses when it merges repeats wrongly."""
    return any(a == b for a, b in zip(text, text[1:], strict=False))


def align(reading: str, truth: str) -> list[tuple[str, str]]:
    """(true, read) characters along one shortest edit path; '' where nothing stands on that side."""
    blocks = Levenshtein.opcodes(truth, reading)
    slices = ((truth[b.src_start : b.src_end], reading[b.dest_start : b.dest_end]) for b in blocks)
    return [pair for true, read in slices for pair in zip_longest(true, read, fillvalue="")]


def pairs(readings: Sequence[str], truths: Sequence[str]) -> list[tuple[str, str]]:
    """(reading, truth) of every captcha; ValueError for no data, unequal numbers or an empty truth."""
    _check(readings, truths)
    return list(zip(readings, truths, strict=True))


def confusions(readings: Sequence[str], truths: Sequence[str]) -> Counter[tuple[str, str]]:
    """How often which (true, read) characters differ; ('x', '') is an x not read, ('', 'x') one read from nothing."""
    aligned = (pair for reading, truth in pairs(readings, truths) for pair in align(reading, truth))
    return Counter(pair for pair in aligned if pair[0] != pair[1])


@dataclass(frozen=True)
class Score:
    """What a set of readings is worth. Shares in [0, 1]; None where the set cannot tell."""

    n: int  # captchas
    exact: float
    exact_low: float  # 95 %, Wilson
    exact_high: float
    cer: float
    cer_low: float | None  # 95 %, bootstrap; None without spread
    cer_high: float | None
    n_doubled: int  # captchas with two equal neighbours
    exact_doubled: float | None  # exact match of those alone
    exact_casefold: float  # upper and lower case taken as the same
    cer_casefold: float

    def __str__(self) -> str:
        right, right_doubled = round(self.exact * self.n), round((self.exact_doubled or 0) * self.n_doubled)
        interval = f"95 % interval {100 * self.exact_low:.1f} to {_percent(self.exact_high, 1)}"
        spread = "no spread to give an interval"
        if self.cer_low is not None and self.cer_high is not None:
            spread = f"95 % interval {100 * self.cer_low:.2f} to {_percent(self.cer_high, 2)}"
        doubled = "none in this set"
        if self.exact_doubled is not None:
            doubled = f"exact match {_percent(self.exact_doubled, 1)} ({right_doubled} of {self.n_doubled})"
        folded = f"exact match {_percent(self.exact_casefold, 1)}, CER {_percent(self.cer_casefold, 2)}"
        return (
            f"exact match {_percent(self.exact, 1)} ({right} of {self.n}; {interval})\n"
            f"character error rate (CER) {_percent(self.cer, 2)} ({spread})\n"
            f"captchas with doubled letters: {doubled}\n"
            f"upper and lower case taken as the same: {folded}"
        )

    def metrics(self, prefix: str) -> dict[str, float]:
        """`{prefix}_exact`, `{prefix}_cer`, `{prefix}_exact_low`, ...: every field that is not None, as float."""
        return {f"{prefix}_{name}": float(value) for name, value in asdict(self).items() if value is not None}


def score(readings: Sequence[str], truths: Sequence[str], seed: int = 0) -> Score:
    """Everything about one set of readings; ValueError for no data, unequal numbers or an empty truth."""
    exact = exact_match(readings, truths)
    low, high = wilson_interval(round(exact * len(truths)), len(truths))
    cer_low, cer_high = bootstrap_interval(readings, truths, seed) or (None, None)
    doubled = [(r, t) for r, t in zip(readings, truths, strict=True) if has_doubled(t)]
    folded = [r.casefold() for r in readings], [t.casefold() for t in truths]
    return Score(
        n=len(truths),
        exact=exact,
        exact_low=low,
        exact_high=high,
        cer=character_error_rate(readings, truths),
        cer_low=cer_low,
        cer_high=cer_high,
        n_doubled=len(doubled),
        exact_doubled=exact_match(*zip(*doubled, strict=True)) if doubled else None,
        exact_casefold=exact_match(*folded),
        cer_casefold=character_error_rate(*folded),
    )


def right_of(readings: Sequence[str], truths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(how many are read right, of how many), in all, with case folded, and with and without doubled letters."""
    both = pairs(readings, truths)
    kinds = {
        "all": both,
        "all, case folded": [(reading.casefold(), truth.casefold()) for reading, truth in both],
        "with doubled letters": [pair for pair in both if has_doubled(pair[1])],
        "without doubled letters": [pair for pair in both if not has_doubled(pair[1])],
    }
    return {name: (sum(a == b for a, b in chosen), len(chosen)) for name, chosen in kinds.items() if chosen}


@dataclass(frozen=True)
class PairedTest:
    """Two readers, A and B, on the same captchas: how many both, only one or neither read right, and McNemar's p."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float  # of a difference this large or larger where neither reader is better

    def in_words(self, a: str = "A", b: str = "B", p: float | None = None) -> str:
        """What the numbers allow to say; `p` stands in for the test's own where it was corrected for several tests."""
        p = self.p if p is None else p
        n, differ = self.both + self.only_a + self.only_b + self.neither, self.only_a + self.only_b
        (low, high), right = wilson_interval(self.both + self.only_a, n), self.both + self.only_a
        (low_b, high_b), right_b = wilson_interval(self.both + self.only_b, n), self.both + self.only_b
        if not differ:
            where = f"they differ on no captcha; {_p_value(p)}: nothing tells them apart here"
        else:
            meaning = "hardly chance" if p < SIGNIFICANT else "chance alone explains such a difference"
            where = (
                f"they differ on {differ} captcha{'s' * (differ > 1)}: {self.only_a} only {a}, {self.only_b} only {b};"
                f" {_p_value(p)}: {meaning}"
            )
        return (
            f"{a} reads {right} of {n} ({100 * right / n:.1f} %; {100 * low:.1f} to {100 * high:.1f}),"
            f" {b} {right_b} of {n} ({100 * right_b / n:.1f} %; {100 * low_b:.1f} to {100 * high_b:.1f}); {where}"
        )


def mcnemar(a_right: Sequence[bool], b_right: Sequence[bool]) -> PairedTest:
    """Whether two readers of the same captchas differ by more than chance; the exact test, for any number of captchas.

    Only captchas that one of the two reads right count: without a difference each of them falls to A or B like a coin,
    and p is the two-sided binomial probability of a split this uneven or more. 1 where they differ on no captcha.
    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; the exact form, A. Agresti, Categorical Data Analysis (2002) 10.1.
    """
    if len(a_right) != len(b_right) or not len(a_right):
        raise ValueError(f"{len(a_right)} and {len(b_right)} verdicts: the same captchas, at least one, are expected")
    counts = Counter((bool(a), bool(b)) for a, b in zip(a_right, b_right, strict=True))
    only_a, only_b = counts[True, False], counts[False, True]
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return PairedTest(counts[True, True], only_a, only_b, counts[False, False], float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, corrected so that the chance of even one false alarm stays what it says.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    corrected, highest = list(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _p_value(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.2g}"


def _percent(share: float, digits: int) -> str:
    return f"{100 * share:.{digits}f} %"


def _distances(readings: Sequence[str], truths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Edit distances and truth lengths, (n,) each, characters."""
    _check(readings, truths)
    distances = [Levenshtein.distance(r, t) for r, t in zip(readings, truths, strict=True)]
    return np.array(distances), np.array([len(t) for t in truths])


def _check(readings: Sequence[str], truths: Sequence[str]) -> None:
    if len(readings) != len(truths):
        raise ValueError(f"{len(readings)} readings and {len(truths)} truths: one reading per truth is expected")
    if not len(truths):
        raise ValueError("no readings to score: at least one captcha is expected")
    if not all(truths):
        raise ValueError(f"truth {list(truths).index('')} is empty: every captcha has at least one character")
