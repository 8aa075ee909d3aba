"""Pictures of thresholds: every group is drawn once, in the colour of what becomes of it."""

import math
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.image import imread

from pruning.bayesian.figures import DROPPED, histogram, overview
from pruning.bayesian.thresholds import Threshold, auto
from pruning.run.figures import KEPT
from yolo.figures import png

RANDOM = np.random.default_rng(0)
VALUES = np.concatenate([RANDOM.normal(-8, 1, 50), RANDOM.normal(2, 1, 14)])


def bars(axes, color):
    """Heights of the bars of a colour."""
    return [bar.get_height() for bar in axes.patches if bar.get_facecolor() == to_rgba(color)]


def words(figure):
    """The legend of a figure."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_histogram_counts_kept_and_dropped():
    threshold = auto(VALUES)
    figure = histogram(VALUES, threshold, "3 bayesian_connected")
    (axes,) = figure.axes
    dropped = threshold.value <= VALUES
    for color, own in ((KEPT, VALUES[~dropped]), (DROPPED, VALUES[dropped])):
        expected, _ = np.histogram(own, 20, (VALUES.min(), VALUES.max()))
        np.testing.assert_array_equal(bars(axes, color), expected)
    assert words(figure) == ["kept: 50", "dropped: 14", "threshold"]
    assert axes.get_title("left") == "3 bayesian_connected"
    assert axes.get_title("right") == threshold.note
    assert axes.lines[0].get_xdata() == [threshold.value] * 2


def test_a_bin_on_both_sides_has_both_colours():
    values = np.array([0.0, 9.1, 9.2, 9.8, 20.0])
    (axes,) = histogram(values, Threshold(9.5, "given: 9.5"), "").axes
    kept, dropped = bars(axes, KEPT), bars(axes, DROPPED)
    assert (kept[9], dropped[9]) == (2, 1)
    assert (sum(kept), sum(dropped)) == (3, 2)


@pytest.mark.parametrize("value", [math.inf, 1e6, -1e6])
def test_a_threshold_far_away_leaves_room_for_the_bars(value):
    figure = histogram(VALUES, Threshold(value, ""), "")
    (axes,) = figure.axes
    assert not axes.lines
    kept = 64 if value > 0 else 0
    assert words(figure) == [f"kept: {kept}", f"dropped: {64 - kept}"]
    low, high = axes.get_xlim()
    assert VALUES.min() - 2 < low < high < VALUES.max() + 2


@pytest.mark.parametrize("values", [np.array([1.0]), np.zeros(9)])
def test_groups_that_are_all_alike(values):
    (axes,) = histogram(values, auto(values), "").axes
    assert sum(bars(axes, KEPT)) == len(values)


@pytest.mark.parametrize("count", [1, 3, 5, 20])
def test_an_overview_has_a_panel_a_section(count):
    panels = [
        (f"{i} bayesian_convolutional", VALUES[i:], Threshold(-3.0, "given: -3"))
        for i in range(count)
    ]
    figure = overview(panels, "negative log-mode")
    assert len(figure.axes) == count
    for i, axes in enumerate(figure.axes):
        assert axes.get_title("left") == f"{i} bayesian_convolutional\n14 of {64 - i} dropped"
        assert sum(bars(axes, KEPT)) == 50 - i
        assert axes.get_xlim() == figure.axes[0].get_xlim()
    assert words(figure) == ["kept", "dropped", "threshold"]
    assert figure.get_supxlabel() == "negative log-mode"
    width, height = figure.get_size_inches()
    assert width <= 13
    assert height <= 13


def test_pictures_show_both_colours():
    panels = [("0 bayesian_connected", VALUES, auto(VALUES))]
    for figure in (histogram(VALUES, auto(VALUES), ""), overview(panels)):
        seen = {tuple(pixel) for pixel in imread(BytesIO(png(figure)))[..., :3].reshape(-1, 3)}
        for color in (KEPT, DROPPED):
            assert tuple(np.float32(to_rgba(color)[:3])) in seen


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no group"):
        histogram(np.zeros(0), Threshold(0.0, ""), "")
    with pytest.raises(ValueError, match="no section"):
        overview([])
