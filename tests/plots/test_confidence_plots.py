"""Figures of confidence show the figures that they are made of, and where the network looked."""

import warnings
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers.evaluation.calibration import accept, expected_calibration_error, reliability, risk_coverage
from helpers.plots.confidence import looked_at, reliability_diagram, risk_coverage_curve

CONFIDENCES, RIGHT = [0.95, 0.95, 0.7, 0.7, 0.2], [True, True, True, False, False]
GRAY, COLOUR = (np.full((8, 20, channels), 200, np.uint8) for channels in (1, 3))


def examples() -> dict[str, Figure]:
    accepted = [accept(0.99, 0.9, CONFIDENCES, RIGHT), accept(0.999, None, CONFIDENCES, RIGHT)]
    return {
        "reliability": reliability_diagram({"temperature 1": CONFIDENCES, "temperature 2": [0.5] * 5}, RIGHT),
        "risk": risk_coverage_curve(CONFIDENCES, RIGHT, accepted),
        "risk of one": risk_coverage_curve([0.1], [False]),
        "looked": looked_at(GRAY, ["", "$", "$", "", "_"], [0.5, 1, 0.9, 1, 0.2]),
        "looked, all blank": looked_at(COLOUR, [""] * 5, [1.0] * 5),
    }


@pytest.mark.parametrize("name", examples())
def test_every_figure_is_drawn_and_has_a_title_and_axis_names(name: str) -> None:
    figure = examples()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(BytesIO(), dpi=50)
    assert not plt.get_fignums()
    assert figure.get_suptitle() or all(axes.get_title() for axes in figure.axes)
    assert all(axes.get_ylabel() for axes in figure.axes) and figure.axes[-1].get_xlabel()


def test_reliability_shows_bins_their_sizes_and_the_error_before_and_after() -> None:
    figure = reliability_diagram({"before": CONFIDENCES, "after": [0.6] * 5}, RIGHT)
    before, after = figure.axes
    rows = reliability(CONFIDENCES, RIGHT)
    assert before.lines[1].get_xydata().tolist() == [[row.confidence, row.share] for row in rows]
    assert [text.get_text() for text in before.texts] == ["1", "2", "2"]
    assert f"ECE {100 * expected_calibration_error(CONFIDENCES, RIGHT):.2f} %" in before.get_title()
    assert after.get_title() == "after: ECE 0.00 %" and after.texts[0].get_text() == "5"
    bars = before.collections[0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [pytest.approx([row.share_low, row.share_high]) for row in rows]


def test_risk_coverage_marks_what_thresholds_accept() -> None:
    chosen = [accept(0.99, 0.9, CONFIDENCES, RIGHT), accept(0.6, 0.5, CONFIDENCES, RIGHT)]
    curve, first, second = risk_coverage_curve(CONFIDENCES, RIGHT, chosen).axes[0].lines
    assert curve.get_xydata().tolist() == [[p.coverage, p.precision] for p in risk_coverage(CONFIDENCES, RIGHT)]
    assert first.get_xydata().tolist() == [[2 / 5, 1]] and second.get_xydata().tolist() == [[4 / 5, 3 / 4]]
    assert first.get_marker() != second.get_marker() and "above 0.9, chosen for 99 %" in first.get_label()


def test_letters_stand_over_the_columns_of_their_frames() -> None:
    seen, sure = looked_at(GRAY, ["", "A", "A", "", "A"], [0.5, 1, 0.9, 0.8, 0.2]).axes
    assert (seen.images[0].get_array() == GRAY[..., 0]).all()
    # 20 columns, 5 frames of 4: frames 1 and 2 are the columns 4 to 11, frame 4 the columns 16 to 19
    assert [(text.get_text(), text.get_position()[0]) for text in seen.texts] == [("A", 7.5), ("A", 17.5)]
    assert [(box.get_x(), box.get_x() + box.get_width()) for box in seen.patches] == [(3.5, 11.5), (15.5, 19.5)]
    characters, blanks = sure.containers
    assert [(bar.get_x(), bar.get_height()) for bar in characters] == [(3.5, 1), (7.5, 0.9), (15.5, 0.2)]
    assert [(bar.get_x(), bar.get_height()) for bar in blanks] == [(-0.5, 0.5), (11.5, 0.8)]
    assert blanks[0].get_hatch() and not characters[0].get_hatch(), "only their colours would tell them apart"


def test_neighbouring_characters_are_two_letters() -> None:
    assert len(looked_at(COLOUR, ["A", "A", "B", "", "B"], [1.0] * 5).axes[0].texts) == 3


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        reliability_diagram({}, RIGHT)
    with pytest.raises(ValueError, match="one of each"):
        risk_coverage_curve([], [])
    for characters, shares in (([], []), (["A"], [0.1, 0.2])):
        with pytest.raises(ValueError, match="one of each per frame"):
            looked_at(GRAY, characters, shares)
    with pytest.raises(ValueError, match="the image is float64"):
        looked_at(GRAY / 255, ["A"], [1.0])
