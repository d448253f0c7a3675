"""Figures say in words and marks what they show, name their axes, and leave no pyplot state behind."""

import string
import warnings
from collections import Counter
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from helpers.plots.readings import compare, confusion_bars, confusion_matrix, readings_grid, samples_grid
from helpers.plots.training import compare_runs, curves
from helpers.text.metrics import confusions

HISTORY = [
    {"epoch": e, "train_loss": 3 / e, "val_loss": 4 / e, "val_exact": 1 - 1 / e, "val_cer": 1 / e} for e in (1, 2, 3)
]


def images(count: int, shape: tuple[int, int, int] = (40, 150, 3)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8))


def drawn(figure: Figure) -> bytes:
    """The figure as a PNG; warnings, such as a glyph without a font or a layout that failed, are errors."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, dpi=50)
    assert not plt.get_fignums()
    return buffer.getvalue()


def examples() -> dict[str, Figure]:
    texts = ["A$1_{", "B2", "CC3"]
    return {
        "curves": curves(HISTORY),
        "curves of one epoch": curves(HISTORY[:1]),
        "samples": samples_grid(images(3), texts),
        "readings": readings_grid(images(3, (40, 150, 1)), texts, ["A$1_{", "B", "$$"], [0.9, 0.5, 0.1]),
        "bars": confusion_bars(Counter({("$", "S"): 3, ("", "x"): 2, ("_", ""): 1})),
        "no bars": confusion_bars(Counter()),
        "matrix": confusion_matrix(["A$", "B"], ["AS", "BB"]),
    }


@pytest.mark.parametrize("name", examples())
def test_every_figure_is_drawn_and_has_a_title_and_axis_names(name: str) -> None:
    figure = examples()[name]
    assert drawn(figure)[:4] == b"\x89PNG"
    assert "image/png" in DisplayFormatter().format(figure)[0], "a notebook would show no picture"
    assert figure.get_suptitle() or all(axes.get_title() for axes in figure.axes)
    for axes in figure.axes:
        assert axes.get_xlabel() or "pixels" in figure.get_supxlabel()
        assert axes.get_ylabel() or "pixels" in figure.get_supylabel()


def test_curves_show_the_history_and_tell_lines_apart_without_colour() -> None:
    losses, reading = curves(HISTORY).axes
    for axes, names in ((losses, ("train_loss", "val_loss")), (reading, ("val_exact", "val_cer"))):
        assert (
            len({line.get_marker() for line in axes.lines}) == len({line.get_linestyle() for line in axes.lines}) == 2
        )
        for line, name in zip(axes.lines, names, strict=True):
            assert name in line.get_label()
            assert line.get_xydata().tolist() == [[row["epoch"], row[name]] for row in HISTORY]


def test_curves_take_rows_that_lack_a_value() -> None:
    figure = curves([{"epoch": 1, "val_loss": 2.0}, HISTORY[1]])
    train, val = figure.axes[0].lines
    assert train.get_xdata().tolist() == [2] and val.get_xdata().tolist() == [1, 2]
    drawn(figure)


@pytest.mark.parametrize(("count", "columns", "grid"), [(1, 4, (1, 1)), (4, 4, (1, 4)), (5, 4, (2, 4)), (5, 2, (3, 2))])
def test_samples_stand_in_rows_each_under_its_text(count: int, columns: int, grid: tuple[int, int]) -> None:
    pictures, texts = images(count), [f"T{i}" for i in range(count)]
    figure = samples_grid(pictures, texts, columns)
    assert [axes.get_title() for axes in figure.axes] == texts
    assert figure.axes[0].get_gridspec().get_geometry() == grid
    for axes, picture in zip(figure.axes, pictures, strict=True):
        assert (axes.images[0].get_array() == picture).all()
    assert "150 pixels" in figure.get_supxlabel() and "40 pixels" in figure.get_supylabel()


def test_gray_is_shown_on_the_whole_scale() -> None:
    shown = samples_grid([np.full((4, 9, 1), 100, np.uint8)], ["A"]).axes[0].images[0]
    assert shown.get_clim() == (0, 255) and shown.get_array().shape == (4, 9)


def test_compare_marks_the_differing_places() -> None:
    assert compare("8AE5T", "8AEST") == "truth 8AE5T\nread  8AEST\n         ^ "
    assert compare("AB1", "B1X") == "truth AB1·\nread  ·B1X\n      ^  ^"
    assert compare("AB", "AB").splitlines()[2].strip() == ""


def test_readings_say_right_or_wrong_in_words() -> None:
    figure = readings_grid(images(2), ["AB1", "CD2"], ["AB1", "CX2"], [0.987, 0.5])
    right, wrong = (axes.get_title(loc="left").splitlines() for axes in figure.axes)
    assert right[-1] == "right, confidence 99 %" and "^" not in right[2]
    assert wrong[-1] == "WRONG, confidence 50 %" and wrong[2].index("^") == wrong[1].index("X")
    assert "2 readings, 1 right" in figure.get_suptitle()


def test_bars_are_in_words_longest_first_and_no_more_than_asked() -> None:
    counts = Counter({("0", "O"): 5, ("", "x"): 3, ("x", ""): 4, ("1", "I"): 1})
    axes = confusion_bars(counts, most=3).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "0 read as O",
        "x not read",
        "(nothing) read as x",
    ]
    assert [bar.get_width() for bar in axes.patches] == [5, 4, 3]
    assert axes.yaxis_inverted() and "3 most frequent of 4" in axes.get_title()


def test_no_confusion_is_said() -> None:
    axes = confusion_bars(confusions(["AB"], ["AB"])).axes[0]
    assert "no confusion" in axes.texts[0].get_text() and not axes.patches


def test_matrix_shares_by_hand() -> None:
    axes = confusion_matrix(["AB", "AA", "B", "AC"], ["AB", "AB", "AB", "A"]).axes[0]
    # of four A three are read and one is not; of three B two are read and one is an A; the C comes from nothing
    expected = [[3 / 4, 0, 0, 1 / 4], [1 / 3, 2 / 3, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "B", "C", "(nothing)"]
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array(expected))
    assert {text.get_text() for text in axes.texts} == {"75", "25", "33", "67", "100"}


@pytest.mark.parametrize("charset", ["01", string.digits + string.ascii_letters])
def test_matrix_takes_small_and_large_charsets(charset: str) -> None:
    shifted = charset[1:] + charset[0]
    figure = confusion_matrix(list(charset) + list(shifted), list(charset) * 2)
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert shares.shape == (len(charset), len(charset))
    assert shares.sum(axis=1) == pytest.approx(1) and np.diag(shares) == pytest.approx(0.5)
    assert max(figure.get_size_inches()) <= 11, "shown small, nothing of it can be read"
    drawn(figure)


def test_nothing_to_draw_is_an_error() -> None:
    for draw in (
        lambda: curves([]),
        lambda: samples_grid([], []),
        lambda: readings_grid([], [], [], []),
        lambda: confusion_matrix([], []),
    ):
        with pytest.raises(ValueError, match="no history|nothing to draw"):
            draw()


def test_unequal_numbers_and_wrong_pictures_are_errors() -> None:
    with pytest.raises(ValueError, match="unequal numbers"):
        samples_grid(images(2), ["A"])
    with pytest.raises(ValueError, match="unequal numbers"):
        confusion_matrix(["A"], ["A", "B"])
    for wrong in (np.zeros((4, 9), np.uint8), np.zeros((3, 4, 9), np.uint8), np.zeros((4, 9, 3), np.float32)):
        with pytest.raises(ValueError, match="image 0 is"):
            samples_grid([wrong], ["A"])


def test_runs_look_the_same_in_every_panel_and_stand_once_in_the_legend() -> None:
    losses = {"a (1)": [(1, 3.0), (2, 1.0)], "b (2)": [(1, 2.0)]}
    figure = compare_runs({"val_loss": losses, "val_exact": {"b (2)": [(1, 0.5), (2, 1.0)]}, "val_cer": {}})
    loss, exact, cer = figure.axes
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[1, 3], [2, 1]], [[1, 2]]]
    looks = [(line.get_color(), line.get_marker()) for line in (*loss.lines, *exact.lines)]
    assert looks[1] == looks[2] != looks[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(losses)
    assert cer.texts[0].get_text() == "no run has this metric" and exact.get_title() == "exact match (val_exact)"
