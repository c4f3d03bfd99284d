"""A picture of the error over the number of training tasks, carried on to more. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from upstairs.errors import TaskError
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.report.descent_figures import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_task_curve"]


def plot_task_curve(
    curve: TaskCurve, most: int | None = None, *, shots: int | None = None, level: float = 0.8, ax: Axes | None = None
) -> Axes:
    """Draw each order and their mean over the number of training tasks, and from there on the forecast with its band.

    Parameters
    ----------
    curve : TaskCurve
    most : int, optional
        How far the forecast goes. Four times the tasks at hand by default.
    shots : int, optional
        The first by default.
    level : float
        Coverage of the band.
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    TaskError
        If ``most`` is not beyond the tasks at hand.
    """
    last = curve.sizes[-1]
    most = 4 * last if most is None else most
    if most <= last:
        raise TaskError(f"most must be above the {last} {curve.unit} at hand, but is {most}; for example {4 * last}.")
    measured = curve.measured(shots)
    ax = axes(ax, (6.4, 4.0))
    ax.plot(curve.sizes, measured.T, color="0.7", linewidth=0.8)
    ax.plot(
        curve.sizes, measured.mean(axis=0), color="#0072b2", marker="o", markersize=4, label="measured, mean of orders"
    )
    ahead = np.unique(np.geomspace(last, most, 25).round().astype(int)).tolist()
    there = [curve.predict(tasks, shots=shots, level=level) for tasks in ahead]
    low, high = [each.low for each in there], [each.high for each in there]
    ax.fill_between(ahead, low, high, color="#d55e00", alpha=0.2, linewidth=0, label=f"{100 * level:g} % interval")
    ax.plot(ahead, [each.mean for each in there], color="#d55e00", linestyle="--", label="forecast")
    ax.set(xscale="log", xlabel=f"training {curve.unit}", ylabel=f"{curve.metric} at {there[0].shots} shots")
    ax.legend(fontsize="small", frameon=False)
    return ax
