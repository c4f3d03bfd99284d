"""Pictures of an evaluation: curves over shots, differences task by task, familiarity. Needs matplotlib (extra ``plot``).

Learners are told apart by dashes and markers as well as by colours (those of Okabe and Ito), so that nothing is lost in black and white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from upstairs.errors import TaskError
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.result import EvaluationResult
from upstairs.report.descent_figures import axes
from upstairs.report.stream_figures import LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["differences", "plot_differences", "plot_familiarity", "plot_reliability", "plot_shots", "shown"]

MARKERS = "osD^vP"
MOST = len(LOOKS)


def plot_shots(
    result: EvaluationResult,
    *,
    learners: Sequence[str] | None = None,
    metric: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean over tasks against the number of support rows, with its 95 % interval.

    Parameters
    ----------
    result : EvaluationResult
    learners : sequence of str, optional
        At most six. None: those that are no baseline, then the baselines that are best on average.
    metric : str, optional
        The primary one by default.
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    TaskError
        For a learner that was not measured.
    """
    metric = metric or result.metric
    tables = {shots: {row.learner: row for row in result.table(shots, metric)} for shots in result.shots}
    chosen = list(learners or shown(result, metric))
    odd = [name for name in chosen if name not in result.learners]
    if odd:
        raise TaskError(f"There is no learner {odd[0]!r}; there are {', '.join(map(repr, result.learners))}.")
    ax = axes(ax, (6.4, 4.0))
    places = {shots: place for place, shots in enumerate(result.shots)}
    for number, name in enumerate(chosen[:MOST]):
        rows = [(places[shots], table[name]) for shots, table in tables.items() if name in table]
        at = [place + 0.04 * (number - 0.5 * (len(chosen) - 1)) for place, _ in rows]
        colour, dashes, width = LOOKS[number]
        means = [row.mean for _, row in rows]
        ax.plot(
            at, means, color=colour, linestyle=dashes, linewidth=width, marker=MARKERS[number], markersize=4, label=name
        )
        ax.vlines(at, [row.low for _, row in rows], [row.high for _, row in rows], color=colour, linewidth=0.8)
    ax.set_xticks(list(places.values()), [str(shots) for shots in places])
    ax.set(
        xlabel=f"support rows{' a class' if result.labels == 'own' else ''}",
        ylabel=f"{metric} ({METRICS[metric].said})",
    )
    ax.legend(fontsize="small", frameon=False)
    return ax


def shown(result: EvaluationResult, metric: str) -> list[str]:
    """Learners that are no baseline, then the best baselines, six in all."""
    own = [name for name in result.learners if name not in result.baselines]
    loss: dict[str, list[float]] = {}
    for shots in result.shots:
        for row in result.table(shots, metric):
            loss.setdefault(row.learner, []).append(METRICS[metric].loss(row.mean))
    rest = sorted((name for name in result.baselines if name in loss), key=lambda name: float(np.mean(loss[name])))
    return [*[name for name in own if name in loss], *rest][:MOST]


def plot_differences(
    result: EvaluationResult,
    learner: str,
    against: str,
    shots: int,
    *,
    metric: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw, for every task, how much a learner differs from another, sorted; filled where it is better.

    Parameters
    ----------
    result : EvaluationResult
    learner, against : str
    shots : int
    metric : str, optional
        The primary one by default.
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    TaskError
        If nothing was measured for both.
    """
    metric = metric or result.metric
    _, difference = differences(result, learner, against, shots, metric)
    difference = np.sort(difference)
    better = difference < 0 if METRICS[metric].goal == "lower" else difference > 0
    ax = axes(ax, (6.4, 3.2))
    at = np.arange(len(difference))
    ax.axhline(0.0, color="0.5", linewidth=0.8)
    for there, face, said in ((better, "#0072b2", "better"), (~better, "none", "not better")):
        ax.scatter(at[there], difference[there], s=18, facecolor=face, edgecolor="#0072b2", linewidth=0.9, label=said)
    ax.set(xlabel="test tasks, sorted", ylabel=f"{metric}: {learner}\nless {against}")
    ax.legend(fontsize="small", frameon=False)
    return ax


def differences(
    result: EvaluationResult, learner: str, against: str, shots: int, metric: str
) -> tuple[list[str], np.ndarray]:
    """Tasks that both were measured on, and the difference on each."""
    for name in (learner, against):
        if name not in result.learners:
            raise TaskError(f"There is no learner {name!r}; there are {', '.join(map(repr, result.learners))}.")
    names, _, values = result.by_task(shots, metric)
    pair = values[:, [result.learners.index(learner), result.learners.index(against)]]
    whole = np.flatnonzero(~np.isnan(pair).any(axis=1))
    if not len(whole):
        raise TaskError(f"{learner!r} and {against!r} share no task at shots={shots} on which {metric} was measured.")
    return [names[n] for n in whole.tolist()], pair[whole, 0] - pair[whole, 1]


def plot_familiarity(
    result: EvaluationResult,
    familiarity: Mapping[str, float],
    learner: str,
    against: str,
    shots: int,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the difference on each task against how familiar the task looks to the prior (percentile among known tasks).

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    TaskError
        If no task has both.
    """
    names, difference = differences(result, learner, against, shots, result.metric)
    pairs = [
        (familiarity[name], value)
        for name, value in zip(names, difference.tolist(), strict=True)
        if name in familiarity
    ]
    if not pairs:
        raise TaskError("familiarity holds none of the test tasks; give a percentile for each name.")
    ax = axes(ax, (6.4, 3.2))
    ax.axhline(0.0, color="0.5", linewidth=0.8)
    ax.axvspan(0.0, 2.5, color="0.92", zorder=0)
    at, values = zip(*pairs, strict=True)
    ax.scatter(at, values, s=18, color="#d55e00")
    ax.set(xlim=(-2, 102), xlabel="familiarity (percentile)", ylabel=f"{result.metric}: {learner}\nless {against}")
    return ax


def plot_reliability(
    result: EvaluationResult, shots: int, *, learners: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how often the predicted label is right against the confidence in it, over all query rows.

    A mark is a bin of confidence; those of fewer than ten rows are left out.

    Parameters
    ----------
    result : EvaluationResult
        Of a classification.
    shots : int
    learners : sequence of str, optional
        At most six. None: as `plot_shots`.
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    TaskError
        For a learner without probabilities.
    """
    chosen = list(learners or (name for name in shown(result, result.metric) if name in result.bins))
    odd = [name for name in chosen if shots not in result.bins.get(name, {})]
    if odd or not chosen:
        raise TaskError(f"No probabilities were measured of {odd[0] if odd else 'any learner'!r} with shots={shots}.")
    ax = axes(ax, (4.8, 4.0))
    ax.plot([0, 1], [0, 1], color="0.5", linewidth=0.8)
    for number, name in enumerate(chosen[:MOST]):
        rows, confidence, right = (part[result.bins[name][shots][:, 0] >= 10] for part in result.bins[name][shots].T)
        colour, dashes, width = LOOKS[number]
        ax.plot(
            confidence / rows,
            right / rows,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            marker=MARKERS[number],
            markersize=4,
            label=name,
        )
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence in the predicted label", ylabel="share of right labels")
    ax.legend(fontsize="small", frameon=False)
    return ax
