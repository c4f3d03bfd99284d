"""A stream in bounded memory: the losses of several learners in bins that grow with it, and what was lost in every world.

A stream may have no end; its summary has at most `BINS` bins. When they are full, two become one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import TaskError

__all__ = ["StreamSummary", "begin_summary", "summarised", "with_rows"]

BINS = 1024
NO_WORLD = -1


@final
@dataclass(frozen=True, eq=False)
class StreamSummary:
    """What happened on a stream.

    Attributes
    ----------
    names : tuple of str
        Of learners, the one that it is about first.
    classifies : bool
        Losses are errors of classes, or squared ones.
    width : int
        Rows of a bin.
    rows : int
        In all.
    loss, counted : array of shape (learner, bin)
        Sums of losses, and rows that count: those with a label, that the learner could predict.
    world : array of shape (bin,)
        Number of the world that held at the end of a bin; -1 where there is none.
    worlds : mapping from number to (rows, counted, loss)
        How long each world held, and the first learner's losses in it.
    labels : int
        Rows with a label.
    """

    names: tuple[str, ...]
    classifies: bool
    width: int
    rows: int
    loss: Float[np.ndarray, "learner bin"]
    counted: Int[np.ndarray, "learner bin"]
    world: Int[np.ndarray, " bin"]
    worlds: Mapping[int, tuple[int, int, float]] = field(default_factory=dict)
    labels: int = 0

    @property
    def bins(self) -> int:
        """Bins that have rows."""
        return -(-self.rows // self.width)

    def total(self, name: str) -> float:
        """Accuracy or mean squared error of a learner, over its rows that count."""
        place = self.names.index(name)
        return self._score(float(self.loss[place].sum()), int(self.counted[place].sum()))

    def total_of_world(self, world: int) -> float:
        """Accuracy or mean squared error of the first learner while a world held."""
        _, counted, loss = self.worlds[world]
        return self._score(loss, counted)

    def curve(self, name: str, rows: int) -> tuple[Int[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
        """Accuracy or mean squared error of the newest ``rows`` rows (a bin at least) at the end of every bin."""
        place, span = self.names.index(name), max(round(rows / self.width), 1)
        sums = np.concatenate([[0.0], np.cumsum(self.loss[place, : self.bins])])
        numbers = np.concatenate([[0], np.cumsum(self.counted[place, : self.bins])])
        last = np.arange(1, self.bins + 1)
        first = np.maximum(last - span, 0)
        number = numbers[last] - numbers[first]
        mean = np.divide(sums[last] - sums[first], number, out=np.full(self.bins, np.nan), where=number > 0)
        return np.minimum(last * self.width, self.rows), 1.0 - mean if self.classifies else mean

    def _score(self, loss: float, counted: int) -> float:
        if not counted:
            return float("nan")
        return 1.0 - loss / counted if self.classifies else loss / counted


def begin_summary(names: Sequence[str], classifies: bool) -> StreamSummary:
    """Return the summary of a stream of which nothing has come."""
    blank = np.zeros((len(names), BINS))
    return StreamSummary(
        tuple(names), classifies, 1, 0, blank, blank.astype(np.int64), np.full(BINS, NO_WORLD, dtype=np.int64)
    )


def with_rows(
    summary: StreamSummary, loss: Float[np.ndarray, "learner row"], world: int = NO_WORLD, labels: int | None = None
) -> StreamSummary:
    """Add the rows of a chunk.

    Parameters
    ----------
    summary : StreamSummary
    loss : array of shape (learner, row)
        NaN for rows that do not count.
    world : int
        That held when the rows were predicted.
    labels : int, optional
        Rows that have a label. None: those that count for one of the learners.

    Examples
    --------
    >>> found = with_rows(begin_summary(["mine", "other"], True), np.array([[0.0, 1.0], [1.0, np.nan]]))
    >>> found.total("mine"), found.total("other"), found.rows
    (0.5, 0.0, 2)
    """
    rows = loss.shape[1]
    if rows == 0:
        return summary
    while summary.rows + rows > summary.width * BINS:
        summary = _halved(summary)
    counts = np.isfinite(loss)
    places = (summary.rows + np.arange(rows)) // summary.width
    sums, counted, worlds = summary.loss.copy(), summary.counted.copy(), summary.world.copy()
    for place in range(len(summary.names)):
        np.add.at(sums[place], places, np.where(counts[place], loss[place], 0.0))
        np.add.at(counted[place], places, counts[place].astype(np.int64))
    worlds[places] = world
    held = dict(summary.worlds)
    if world != NO_WORLD:
        had = held.get(world, (0, 0, 0.0))
        held[world] = (had[0] + rows, had[1] + int(counts[0].sum()), had[2] + float(loss[0][counts[0]].sum()))
    known = int(counts.any(axis=0).sum()) if labels is None else labels
    return replace(
        summary,
        loss=sums,
        counted=counted,
        world=worlds,
        worlds=held,
        rows=summary.rows + rows,
        labels=summary.labels + known,
    )


def summarised(results: Mapping[str, Any], world: Int[np.ndarray, " row"] | None = None) -> StreamSummary:
    """Summarise whole results.

    Parameters
    ----------
    results : mapping from a learner's name to StreamResult
        On the same rows, the one that it is about first.
    world : array of shape (row,), optional
        World that held at every row.

    Raises
    ------
    TaskError
        If the results are of different rows, or there are none.
    """
    found = list(results.values())
    if not found:
        raise TaskError("results must hold one learner at least, but is empty.")
    lengths = {name: len(result.loss) for name, result in results.items()}
    if len(set(lengths.values())) > 1 or len({result.classifies for result in found}) > 1:
        raise TaskError(f"results must be of the same rows and the same kind, but there are {lengths} rows.")
    total = len(found[0].loss)
    held = np.full(total, NO_WORLD) if world is None else np.asarray(world)
    if len(held) != total:
        raise TaskError(f"world has {len(held)} rows, but the results have {total}; they must be the same rows.")
    labels = np.array([value is not None and value == value for value in found[0].actual.tolist()], dtype=bool)
    table = np.stack([result.loss for result in found])
    summary = begin_summary(tuple(results), found[0].classifies)
    borders = [0, *(np.flatnonzero(np.diff(held)) + 1).tolist(), total]
    for first, end in pairwise(borders):
        part = slice(first, end)
        summary = with_rows(summary, table[:, part], int(held[first]), int(labels[part].sum()))
    return summary


def _halved(summary: StreamSummary) -> StreamSummary:
    """Make one bin of two."""
    half = BINS // 2
    loss, counted = np.zeros_like(summary.loss), np.zeros_like(summary.counted)
    loss[:, :half] = summary.loss[:, ::2] + summary.loss[:, 1::2]
    counted[:, :half] = summary.counted[:, ::2] + summary.counted[:, 1::2]
    world = np.full_like(summary.world, NO_WORLD)
    pairs = summary.world.reshape(half, 2)
    world[:half] = np.where(pairs[:, 1] == NO_WORLD, pairs[:, 0], pairs[:, 1])
    return replace(summary, width=2 * summary.width, loss=loss, counted=counted, world=world)
