"""Figures of a training and of what it reads: histories, images (H, W, C) and strings in, `Figure` out; no pyplot."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.metrics import confusion_matrix as count_pairs

from helpers.output import printable, shown
from helpers.plots.figure import MARKERS, NotebookFigure, show
from helpers.sources.names import Sample
from helpers.text.metrics import align, wilson_interval

SHOWN = 24  # captchas on a contact sheet
NOTHING = "(nothing)"  # the side of an alignment where no character stands
GAP = "·"  # the same, inside a line of text


def shares(rows: Mapping[str, tuple[int, int]], title: str, what: str) -> Figure:
    """Shares with their 95 % Wilson intervals, one row each from the top: {name: (right, of how many)}.

    `what` names the rows' axis. The shares axis ends at 0 and 1 only where an interval comes near it.
    """
    figure = NotebookFigure(figsize=(8, 1.4 + 0.45 * max(len(rows), 2)), layout="constrained")
    axes = figure.subplots()
    for row, (right, n) in enumerate(rows.values()):
        low, high = wilson_interval(right, n)
        errors = [[right / n - low], [high - right / n]]
        axes.errorbar(
            right / n, row, xerr=errors, fmt=MARKERS[row % len(MARKERS)], color=f"C{row}", capsize=5, markersize=7
        )
        label = f"{100 * right / n:.1f} % ({right} of {n})"
        axes.annotate(label, (right / n, row), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(rows)), list(map(shown, rows)), parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.set(title=title, xlabel="share of captchas (0 to 1), with its 95 % interval", ylabel=what)
    axes.margins(x=0.15)
    axes.grid(alpha=0.3, axis="x")
    return figure


def contact_sheet(samples: Sequence[Sample], images: Sequence[np.ndarray], shown: int = SHOWN) -> Figure:
    """Captchas with their texts: one for each length of text and each width, then others evenly from the whole set."""
    kinds = {(len(s.text), image.shape[1]): i for i, (s, image) in enumerate(zip(samples, images, strict=True))}
    spread = [round(place * (len(samples) - 1) / max(1, shown - 1)) for place in range(shown)]
    chosen = sorted(dict.fromkeys([*list(kinds.values())[: shown // 2], *spread]))[:shown]
    return samples_grid([images[i] for i in chosen], [samples[i].text for i in chosen])


def samples_grid(images: Sequence[np.ndarray], texts: Sequence[str], columns: int = 4) -> Figure:
    """Each picture, uint8 (H, W, C) with C 1 or 3, with its text above."""
    figure, grid = _picture_grid(images, columns, lines=1, texts=texts)
    for axes, text in zip(grid, texts, strict=True):
        axes.set_title(shown(text), family="monospace", parse_math=False)
    figure.suptitle(f"{len(texts)} captchas and their texts")
    return figure


def readings_grid(
    images: Sequence[np.ndarray],
    truths: Sequence[str],
    readings: Sequence[str],
    confidences: Sequence[float],
    columns: int = 4,
) -> Figure:
    """Each picture, uint8 (H, W, C), its truth and reading, right or wrong, where they differ, confidence."""
    figure, grid = _picture_grid(images, columns, lines=4, truths=truths, readings=readings, confidences=confidences)
    for axes, truth, reading, confidence in zip(grid, truths, readings, confidences, strict=True):
        right = truth == reading
        verdict = f"{'right' if right else 'WRONG'}, confidence {100 * confidence:.0f} %"
        lines = printable(f"{compare(truth, reading)}\n{verdict}", keep="\n")
        weight = "normal" if right else "bold"
        axes.set_title(lines, family="monospace", weight=weight, fontsize=9, loc="left", ma="left", parse_math=False)
    correct = sum(truth == reading for truth, reading in zip(truths, readings, strict=True))
    figure.suptitle(f"{len(truths)} readings, {correct} right  (^ a difference, {GAP} no character on this side)")
    return figure


def compare(truth: str, reading: str) -> str:
    """Three lines, aligned in a monospace font: the truth, the reading, a `^` under each place where they differ."""
    pairs = align(reading, truth)
    upper, lower = ("".join(pair[side] or GAP for pair in pairs) for side in (0, 1))
    marks = "".join(" " if true == read else "^" for true, read in pairs)
    return f"truth {upper}\nread  {lower}\n      {marks}"


def confusion_bars(confusions: Counter[tuple[str, str]], most: int = 15) -> Figure:
    """The `most` frequent (true, read) errors of `helpers.text.metrics.confusions`, longest bar on top."""
    rows = sorted(((n, pair) for pair, n in confusions.items() if n > 0), key=lambda row: (-row[0], row[1]))[:most]
    figure = NotebookFigure(figsize=(7, 1.5 + 0.28 * max(len(rows), 3)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="how often (characters)", ylabel="confusion (truth and reading)")
    axes.set_title(f"The {len(rows)} most frequent of {len(+confusions)} confusions" if rows else "Confusions")
    if not rows:
        axes.text(0.5, 0.5, "no confusion: every character was read right", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return figure
    bars = axes.barh(range(len(rows)), [n for n, _ in rows])
    axes.bar_label(bars, padding=3)
    axes.set_yticks(range(len(rows)), [_in_words(*pair) for _, pair in rows], family="monospace", parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _in_words(true: str, read: str) -> str:
    return shown(f"{true} not read" if not read else f"{true or NOTHING} read as {read}")


def confusion_matrix(readings: Sequence[str], truths: Sequence[str]) -> Figure:
    """Which true character (row) is read as which (column), shares of the row; `(nothing)` where a side has none."""
    _check(readings=readings, truths=truths)
    pairs = [pair for reading, truth in zip(readings, truths, strict=True) for pair in align(reading, truth)]
    true, read = zip(*((true or NOTHING, read or NOTHING) for true, read in pairs), strict=True)
    labels = sorted({*true, *read}, key=lambda label: (label == NOTHING, label))
    shares = count_pairs(true, read, labels=labels, normalize="true")  # (K, K)
    side = min(
        11.0, max(4.0, 0.3 * len(labels) + 2)
    )  # inches; wider, and nothing could be read where it is shown small
    cell = 72 * (side - 1.5) / len(labels)  # points
    figure = NotebookFigure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    display = ConfusionMatrixDisplay(shares, display_labels=list(map(shown, labels)))
    display.plot(include_values=False, cmap="Blues", ax=axes, colorbar=False, im_kw={"vmin": 0, "vmax": 1})
    for row, column in zip(*np.nonzero(shares), strict=True):  # numbers, since shades alone tell too little
        share = shares[row, column]
        shade = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=shade, fontsize=min(7, 0.5 * cell))
    axes.set(title="Characters as read (percent of the true ones)", xlabel="read character", ylabel="true character")
    style = {"family": "monospace", "fontsize": min(10, 0.8 * cell), "parse_math": False}
    labels = list(map(shown, labels))
    axes.set_xticklabels(labels, rotation=90 if NOTHING in labels else 0, **style)
    axes.set_yticklabels(labels, **style)
    return figure


def _picture_grid(
    images: Sequence[np.ndarray], columns: int, lines: int, **lists: Sequence[object]
) -> tuple[Figure, list[Axes]]:
    """A figure with one picture per axes, in rows of `columns`, and room for `lines` of text above each."""
    _check(images=images, **lists)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    heights, widths = ({image.shape[axis] for image in images} for axis in (0, 1))
    picture = 2.6 * max(image.shape[0] / image.shape[1] for image in images)  # inches high at 2.6 wide
    figure = NotebookFigure(
        figsize=(2.8 * columns + 0.4, rows * (picture + 0.18 * lines + 0.2) + 0.8), layout="constrained"
    )
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for index, image in enumerate(images):
        show(grid[index], image, f"image {index}")
        grid[index].set(xticks=[], yticks=[])
    for axes in grid[len(images) :]:
        axes.remove()
    figure.supxlabel(f"width ({_span(widths)} pixels)", fontsize=9)
    figure.supylabel(f"height ({_span(heights)} pixels)", fontsize=9)
    return figure, grid[: len(images)]


def _span(sizes: set[int]) -> str:
    return str(min(sizes)) if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"


def _check(**lists: Sequence[object]) -> None:
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"unequal numbers to draw, {lengths}: one of each per captcha is expected")
    if not all(lengths.values()):
        raise ValueError(f"nothing to draw: {' and '.join(lengths)} are empty")
