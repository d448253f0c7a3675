"""Figures of trainings: losses and metrics over the epochs, of one run or several."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from helpers.plots.figure import MARKERS, NotebookFigure

STYLES = {  # marker and line tell the curves apart without their colours
    "train_loss": {"marker": "o", "linestyle": "--"},
    "val_loss": {"marker": "s", "linestyle": "-"},
    "val_exact": {"marker": "^", "linestyle": "-"},
    "val_cer": {"marker": "v", "linestyle": "--"},
}


NAMES = {
    "val_exact": "exact match",
    "val_cer": "character error rate",
    "train_loss": "training",
    "val_loss": "validation",
}


def curves(history: Sequence[dict[str, float]]) -> Figure:
    """Losses (left) and reading (right) over the epochs; a row may lack any key but `epoch`."""
    if not history:
        raise ValueError("no history to draw: at least one row with `epoch` is expected")
    figure = NotebookFigure(figsize=(10, 4), layout="constrained")
    losses, reading = figure.subplots(1, 2)
    for axes, names in ((losses, ("train_loss", "val_loss")), (reading, ("val_exact", "val_cer"))):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            axes.plot(*np.reshape(points, (-1, 2)).T, label=f"{NAMES[name]} ({name})", markersize=4, **STYLES[name])
        axes.set_xlabel("epoch (passes over the training images)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    losses.set(title="Loss", ylabel="mean loss (nats)")
    reading.set(title="Reading of the validation images", ylabel="share (0 to 1)")
    reading.set_ylim(-0.03, max(1.03, reading.get_ylim()[1]))
    figure.suptitle(f"Training over {len(history)} epoch{'s' * (len(history) > 1)}")
    return figure


def compare_runs(metrics: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """One panel per metric, in it one curve per run: {metric: {run: [(epoch, value), ...]}}."""
    figure = NotebookFigure(figsize=(5 * len(metrics), 4.5), layout="constrained")
    lines = {}
    for axes, (metric, curves) in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics.items(), strict=True):
        for run, points in curves.items():
            index = list(lines).index(run) if run in lines else len(lines)  # a run looks the same in every panel
            style = {"color": f"C{index}", "marker": MARKERS[index % len(MARKERS)], "markersize": 4}
            (lines[run],) = axes.plot(*np.reshape(points, (-1, 2)).T, **style)
        axes.set(title=f"{NAMES.get(metric, metric)} ({metric})", xlabel="epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if not curves:
            axes.text(0.5, 0.5, "no run has this metric", ha="center", transform=axes.transAxes)
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2)
    figure.suptitle(f"{len(lines)} run{'s' * (len(lines) != 1)}")
    return figure
