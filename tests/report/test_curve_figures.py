"""The picture of a curve over training tasks."""

from __future__ import annotations

import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.report.curve_figures import plot_task_curve

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pyplot = pytest.importorskip("matplotlib.pyplot")


def test_a_forecast_goes_on_where_the_measured_curve_ends():
    values = np.stack([[np.full(6, 0.5 + 1.0 / n) for n in (10, 20, 40, 80)]] * 3)
    names = tuple("abcdef")
    curve = TaskCurve((10, 20, 40, 80), "tasks", "mse", {5: values}, {5: names}, {5: names}, np.ones((3, 4)), "")
    ax = plot_task_curve(curve)
    lines = ax.get_lines()
    assert len(lines) == 3 + 2
    assert (lines[-1].get_xdata()[0], lines[-1].get_xdata()[-1]) == (80, 320)
    assert lines[-1].get_ydata()[-1] == pytest.approx(curve.predict(320).mean)
    assert [text.get_text() for text in ax.get_legend().get_texts()][1] == "80 % interval"
    with pytest.raises(TaskError, match="most must be above the 80 tasks"):
        plot_task_curve(curve, 80)
    pyplot.close("all")
