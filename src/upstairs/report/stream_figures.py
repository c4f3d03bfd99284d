"""Pictures of a stream: how well it was predicted, where it changed, and which world held. Needs matplotlib (extra ``plot``).

Learners are told apart by the dashes of their lines as well as by colours (those of Okabe and Ito, which colour-blind people can tell
apart), changes by their marks, and worlds by the line that they are drawn on, so that nothing is lost in black and white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from upstairs.errors import TaskError
from upstairs.online.stream import StreamResult
from upstairs.online.summary import NO_WORLD, StreamSummary, summarised
from upstairs.report.descent_figures import axes, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_stream", "plot_worlds", "stream_figure"]

LOOKS: tuple[tuple[str, Any, float], ...] = (
    ("#000000", "solid", 1.8),
    ("#d55e00", (0, (5, 2)), 1.3),
    ("#0072b2", (0, (1, 1.2)), 1.6),
    ("#009e73", (0, (5, 2, 1, 2)), 1.3),
    ("#cc79a7", (0, (9, 3)), 1.3),
    ("#56b4e9", (0, (3, 1, 1, 1, 1, 1)), 1.3),
)
"""Colour, dashes and width of the lines of learners."""
MARKS = {
    "new": ("v", "full", "declared: new"),
    "recall": ("v", "none", "declared: back"),
    "border": ("|", "full", "told"),
}
WIDE = 30.0
"""Ratio of losses above which their scale is logarithmic."""


def plot_stream(
    results: StreamSummary | Mapping[str, StreamResult],
    *,
    found: Sequence[Any] = (),
    true: Sequence[int] | Int[np.ndarray, " change"] = (),
    rows: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw rolling accuracy or mean squared error of learners, and changes.

    A curve begins after a third of the rows that its mean is over: fewer say nothing. Errors that differ by more than thirty times
    stand on a logarithmic scale.

    Parameters
    ----------
    results : StreamSummary, or mapping from a learner's name to StreamResult
        On the same rows; the one that it is about first.
    found : sequence of dict or int
        Changes that were declared: ``changes_`` of an `upstairs.OnlineMetaLearner`, or rows. Those before the first row are left out.
    true : sequence of int
        Rows at which the world truly changed, if that is known.
    rows : int, optional
        Rows that the mean is over. None: a fiftieth of the stream, at least 30.
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    TaskError
        If the results are of different rows.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib").use("agg")
    >>> from upstairs.online.stream import StreamResult
    >>> loss = np.arange(100) % 2.0
    >>> result = StreamResult(loss, loss, loss, np.arange(100), True, 1.0)
    >>> ax = plot_stream({"mine": result}, found=[40], true=[35], rows=10)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['mine', 'true change', 'declared']
    """
    summary = _summary(results, None)
    span = max(summary.rows // 50, 30) if rows is None else rows
    if span < 1:
        raise TaskError(f"rows={rows} must be at least 1.")
    ax = axes(ax)
    heights = []
    for number, name in enumerate(summary.names):
        at, height = summary.curve(name, span)
        so_far = np.cumsum(summary.counted[number, : summary.bins])
        height = np.where(so_far < min(span / 3, summary.counted[number].sum() / 10), np.nan, height)
        colour, dashes, width = LOOKS[number % len(LOOKS)]
        ax.plot(at, height, color=colour, linestyle=dashes, linewidth=width, zorder=3 - 0.1 * number, label=_name(name))
        heights.append(height[np.isfinite(height) & (at >= min(span, summary.rows))])
    if not summary.classifies:
        positive = np.concatenate(heights) if heights else np.empty(0)
        if len(positive) and positive.min() > 0 and positive.max() > WIDE * positive.min():
            ax.set_yscale("log")
            ax.set_ylim(bottom=0.7 * positive.min())
    _mark_changes(ax, found, np.asarray(true, dtype=np.int64), summary.rows)
    measure = "accuracy" if summary.classifies else "mean squared error"
    ax.set_ylabel(f"{measure}\n(newest {max(span, summary.width):,} rows)")
    ax.set_xlabel("row of the stream")
    ax.set_xlim(0, max(summary.rows, 1))
    legend = ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return ax


def plot_worlds(world: StreamSummary | Int[np.ndarray, " row"], *, ax: Axes | None = None) -> Axes:
    """Draw which world held, each on a line of its own.

    Parameters
    ----------
    world : array of shape (row,), or StreamSummary
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib").use("agg")
    >>> plot_worlds(np.repeat([0, 1, 0], 10)).get_ylabel()
    'world'
    """
    ax = axes(ax, (6.0, 1.2))
    from matplotlib.collections import PolyCollection

    if isinstance(world, StreamSummary):
        held, width, end = world.world[: world.bins], world.width, world.rows
    else:
        held, width, end = np.asarray(world), 1, len(world)
    borders = np.concatenate([[0], np.flatnonzero(np.diff(held)) + 1, [len(held)]])
    found = [number for number in np.unique(held).tolist() if number != NO_WORLD]
    boxes = []
    for first, last in pairwise(borders.tolist()):
        if first < last and held[first] != NO_WORLD:
            place, left, right = found.index(int(held[first])), first * width, min(last * width, end)
            boxes.append([(left, place - 0.3), (right, place - 0.3), (right, place + 0.3), (left, place + 0.3)])
    ax.add_collection(PolyCollection(boxes, facecolors="#56b4e9", edgecolors="#000000", linewidths=0.5))
    shown = found if len(found) <= 12 else found[:: -(-len(found) // 12)]
    ax.set_yticks([found.index(number) for number in shown], [str(number) for number in shown])
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_xlim(0, max(end, 1))
    ax.set_ylabel("world")
    ax.set_xlabel("row of the stream")
    return ax


def stream_figure(
    results: StreamSummary | Mapping[str, StreamResult],
    *,
    found: Sequence[Any] = (),
    true: Sequence[int] | Int[np.ndarray, " change"] = (),
    world: Int[np.ndarray, " row"] | None = None,
    rows: int | None = None,
    size: tuple[float, float] = (5.0, 4.2),
) -> Figure:
    """Draw `plot_stream` above `plot_worlds`, on one scale of rows.

    Parameters
    ----------
    results, found, true, rows
        As in `plot_stream`.
    world : array of shape (row,), optional
        World that held at every row; a `StreamSummary` knows it. Without one there is no second picture.
    size : (float, float)
        Inches.

    Raises
    ------
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib").use("agg")
    >>> from upstairs.online.stream import StreamResult
    >>> loss = np.arange(100) % 2.0
    >>> result = StreamResult(loss, loss, loss, np.arange(100), True, 1.0)
    >>> len(stream_figure({"mine": result}, world=np.repeat([0, 1], 50)).axes)
    2
    """
    figure = blank_figure(size)
    summary = _summary(results, world)
    lanes = len({*summary.world[: summary.bins].tolist()} - {NO_WORLD})
    if not lanes:
        plot_stream(summary, found=found, true=true, rows=rows, ax=figure.subplots())
        return figure
    share = min(0.25 + 0.06 * lanes, 0.7)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, share])
    plot_stream(summary, found=found, true=true, rows=rows, ax=above)
    plot_worlds(summary, ax=below)
    above.set_xlabel("")
    return figure


def _summary(results: StreamSummary | Mapping[str, StreamResult], world: np.ndarray | None) -> StreamSummary:
    return results if isinstance(results, StreamSummary) else summarised(results, world)


def _mark_changes(ax: Axes, found: Sequence[Any], true: Int[np.ndarray, " change"], rows: int) -> None:
    """True changes are thick grey lines, declared ones thin lines with a triangle above them."""
    across = ax.get_xaxis_transform()
    if len(true):
        ax.vlines(
            true, 0, 1, transform=across, color="#999999", linewidth=3.0, alpha=0.6, zorder=1, label="true change"
        )
    kinds: dict[str, list[int]] = {}
    for change in found:
        kind, at = (change["kind"], change["at"]) if isinstance(change, Mapping) else ("", change)
        if 0 <= at <= rows:
            kinds.setdefault(kind, []).append(int(at))
    for kind, at in kinds.items():
        marker, fill, label = MARKS.get(kind, ("v", "full", "declared"))
        ax.vlines(at, 0, 1, transform=across, color="#000000", linewidth=0.6, linestyle=(0, (2, 2)), zorder=2)
        ax.plot(
            at, np.ones(len(at)), transform=across, linestyle="none", marker=marker, markersize=7, fillstyle=fill,
            color="#000000", clip_on=False, zorder=4, label=label,
        )  # fmt: skip


def _name(name: str) -> str:
    """A name that the legend shows: those that begin with an underscore are hidden by matplotlib."""
    return f" {name}" if name.startswith("_") else name
