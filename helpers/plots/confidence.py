"""Figures of how sure a model is and where it looked: confidences, images (H, W, C) and strings in, `Figure` out; no pyplot.

Colours are of Okabe and Ito, https://jfly.uni-koeln.de/color/, which the colour-blind tell apart; nothing hangs on them alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.evaluation.calibration import Acceptance, expected_calibration_error, reliability, risk_coverage
from helpers.output import shown
from helpers.plots.figure import NotebookFigure, show

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"
NUMBER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}


def reliability_diagram(confidences: Mapping[str, Sequence[float]], right: Sequence[bool]) -> Figure:
    """Share right over confidence, one panel for each named set of confidences of the same readings.

    With 95 % intervals, the number of readings in each bin, and the expected calibration error (ECE).
    """
    if not confidences:
        raise ValueError("nothing to draw: at least one named set of confidences is expected")
    figure = NotebookFigure(figsize=(4.6 * len(confidences) + 0.4, 4.6), layout="constrained")
    panels = figure.subplots(1, len(confidences), squeeze=False)[0]
    for axes, (name, values) in zip(panels, confidences.items(), strict=True):
        rows = reliability(values, right)
        axes.plot([0, 1], [0, 1], "--", color=GRAY, label="as sure as right")
        x, y = ([getattr(row, field) for row in rows] for field in ("confidence", "share"))
        spread = [[row.share - row.share_low for row in rows], [row.share_high - row.share for row in rows]]
        axes.errorbar(x, y, np.maximum(spread, 0), fmt="o", color=BLUE, capsize=3, label="readings, 95 % interval")
        for row in rows:  # the number stands where the interval leaves room
            end, beyond, side = (row.share_high, 6, "bottom") if row.share < 0.5 else (row.share_low, -6, "top")
            where = {"xytext": (0, beyond), "textcoords": "offset points", "ha": "center", "va": side}
            axes.annotate(str(row.n), (row.confidence, end), fontsize=9, bbox=NUMBER, **where)
        error = expected_calibration_error(values, right)
        axes.set(title=f"{name}: ECE {100 * error:.2f} %", xlabel="confidence (percent)", ylabel="right (percent)")
        _in_percent(axes)
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axes.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"Is it right as often as it is sure?\n{len(right)} readings, numbers: readings per bin")
    return figure


def risk_coverage_curve(
    confidences: Sequence[float], right: Sequence[bool], acceptances: Sequence[Acceptance] = ()
) -> Figure:
    """Share right of the readings accepted, surest first, over the share accepted; marks what thresholds give."""
    points = risk_coverage(confidences, right)
    figure = NotebookFigure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    coverage = [point.coverage for point in points]
    axes.fill_between(
        coverage, [p.low for p in points], [p.high for p in points], color=BLUE, alpha=0.15, label="95 % interval"
    )
    style = {"marker": "."} if len(points) < 30 else {}
    axes.plot(coverage, [point.precision for point in points], color=BLUE, label="accepted readings", **style)
    for index, each in enumerate(marked := [each for each in acceptances if each.accepted]):
        marker, colour, size = (("s", ORANGE, 12), ("D", GREEN, 7))[index % 2]  # both are seen where they coincide
        name = f"above {each.threshold:.15g}, chosen for {100 * each.precision:g} %"
        style = {"color": colour, "markersize": size, "markeredgecolor": "black", "linestyle": "", "label": name}
        axes.plot(each.accepted / each.n, each.right / each.accepted, marker, **style)
    lowest = min([point.precision for point in points] + [each.right / each.accepted for each in marked])
    axes.set(title=f"What is right if only sure readings are accepted ({len(right)} images)")
    axes.set(xlabel="accepted, surest first (percent of the images)", ylabel="right (percent of the accepted)")
    _in_percent(axes)
    margin = max(0.01, 0.5 * (1 - lowest))
    axes.set(xlim=(0, 1.02), ylim=(max(-0.02, lowest - margin), 1 + 0.1 * margin))
    axes.legend(loc="lower left", fontsize=9)
    return figure


def looked_at(image: np.ndarray, characters: Sequence[str], probabilities: Sequence[float]) -> Figure:
    """Which columns of a picture, uint8 (H, W, C), gave which character: framed and named above it, likelihoods below.

    `characters`, "" for a blank, and their `probabilities`, (T,) each, are what the frames gave to the reading. The T
    frames share the width of the picture evenly. Of a character that goes on over several frames, one letter is drawn.
    """
    T = len(characters)
    if not T or len(probabilities) != T:
        raise ValueError(f"{T} characters and {len(probabilities)} probabilities: one of each per frame is expected")
    height, width = image.shape[:2]
    tall = min(5.0, 7.2 * height / width)  # inches at 7.2 wide
    figure = NotebookFigure(figsize=(8, tall + 2.9), layout="constrained")
    seen, sure = figure.subplots(2, 1, sharex=True, height_ratios=[tall, 1.4])
    show(seen, image)
    seen.set(ylabel="row (pixels)", aspect="auto")
    edges = np.arange(T + 1) * width / T - 0.5  # of the frames, pixels; pixel 0 reaches from -0.5 to 0.5
    runs = _runs(characters)
    letter = {"family": "monospace", "weight": "bold", "fontsize": 15, "ha": "center", "parse_math": False}
    for start, end in runs:
        seen.axvspan(edges[start], edges[end], facecolor="none", edgecolor=ORANGE, linewidth=2)
        seen.text((edges[start] + edges[end]) / 2, -1.5, shown(characters[start]), va="bottom", **letter)
    spoken = np.array([bool(character) for character in characters])
    looks = {"character": {"color": BLUE}, "blank": {"facecolor": "white", "hatch": "////"}}
    for chosen, (name, look) in zip((spoken, ~spoken), looks.items(), strict=True):
        places, shares = edges[:-1][chosen], np.asarray(probabilities)[chosen]
        sure.bar(places, shares, width / T, align="edge", edgecolor=GRAY, linewidth=0.6, label=name, **look)
    sure.set(xlabel=f"column (pixels); {T} frames of {width / T:.3g} pixels", ylabel="probability")
    sure.set(xlim=(-0.5, width - 0.5), ylim=(0, 1.05), yticks=[0, 0.5, 1])
    sure.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2)
    text = shown("".join(characters[start] for start, _ in runs))
    figure.suptitle(f"Which columns gave which character: {text or 'all blank'}", parse_math=False)
    return figure


def _runs(characters: Sequence[str]) -> list[tuple[int, int]]:
    """(first frame, frame behind the last) of every stretch of one character."""
    bounds = [0, *(t for t in range(1, len(characters)) if characters[t] != characters[t - 1]), len(characters)]
    return [(start, end) for start, end in zip(bounds, bounds[1:], strict=False) if characters[start]]


def _in_percent(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.grid(alpha=0.3)
