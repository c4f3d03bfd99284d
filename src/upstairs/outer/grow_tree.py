"""Grow one tree for many tasks: splits that matter inside tasks, whether in the same way everywhere or in a way of its own.

For a split of a node let ``d_t`` be the difference of the means of task t on its two sides and ``w_t = n_L n_R / (n_L + n_R)``
its weight, so that ``w_t d_t^2`` is what the split takes from the task's sum of squares. What all tasks have in common takes
``A = (sum w_t d_t)^2 / sum w_t``, what is each task's own takes the rest ``B = sum w_t d_t^2 - A``. Noise of variance ``s`` adds
about ``s`` a degree of freedom to both, which is taken off. The gain of a split is ``A + share * B``: a new task knows what is
in common at once, and learns only a ``share`` of its own part from few rows. Levels of tasks never count: means are
compared inside a task. With ``share = 0`` and one node this is the tree of targets centred per task [1]_.

References
----------
.. [1] Hajjem, A., Bellavance, F. and Larocque, D. (2011). Mixed effects regression trees for clustered data. Statistics and
   Probability Letters 81.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.tree_nodes import LEAF

__all__ = ["Grown", "grow_tree"]

BINS = 32
FEWEST_ROWS = 10
"""Rows on each side of a split."""
FEWEST_TASKS = 3
"""Tasks that have rows on both sides of a split."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree in the order in which it was grown: its first ``2 k + 1`` nodes are the tree after ``k`` splits.

    ``gain`` is that of the split at every node (0 at leaves).
    """

    feature: Int[np.ndarray, " node"]
    threshold: Float[np.ndarray, " node"]
    left: Int[np.ndarray, " node"]
    right: Int[np.ndarray, " node"]
    gain: Float[np.ndarray, " node"]

    def first(self, splits: int) -> dict[str, np.ndarray]:
        """Return the tree after so many splits, as `upstairs.inner.tree_nodes` has trees (float arrays)."""
        nodes = 2 * min(splits, len(self.feature) // 2) + 1
        open_ = (self.feature[:nodes] >= 0) & (self.right[:nodes] >= nodes)
        kept = {"feature": self.feature, "threshold": self.threshold, "left": self.left, "right": self.right}
        shut = {"feature": LEAF, "threshold": 0.0, "left": LEAF, "right": LEAF}
        return {name: np.where(open_, shut[name], array[:nodes]).astype(float) for name, array in kept.items()}


def grow_tree(
    x: Float[np.ndarray, "row feature"],
    residual: Float[np.ndarray, "row output"],
    offsets: Int[np.ndarray, " boundary"],
    *,
    noise: Float[np.ndarray, " output"],
    share: float,
    leaves: int,
    fewest_rows: int = FEWEST_ROWS,
) -> Grown:
    """Grow a tree, the best split first.

    Parameters
    ----------
    x, residual, offsets
        Rows task after task, and what is to be explained (targets less what is known anyway; one column a class).
    noise
        Variance of a row around its task's own values.
    share
        How much of what is a task's own counts, 0 to 1.
    leaves
        At most so many.
    fewest_rows
        On each side of a split.
    """
    task = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    edges = [_edges(column) for column in x.T]
    bins = np.empty(x.shape, dtype=np.int16)
    for number, (edge, column) in enumerate(zip(edges, x.T, strict=True)):
        bins[:, number] = np.searchsorted(edge, column, side="left")
    found = _Search(bins, residual, task, np.asarray(noise, dtype=float), share, fewest_rows)
    feature, threshold, left, right, gain = [LEAF], [0.0], [LEAF], [LEAF], [0.0]
    rows_of = [np.arange(len(x))]
    queue: list[tuple[float, int, int, int]] = []

    def consider(node: int) -> None:
        best = found.best(rows_of[node])
        if best is not None:
            heapq.heappush(queue, (-best[0], node, best[1], best[2]))

    consider(0)
    while queue and len(feature) < 2 * leaves - 1:
        negative, node, column, cut = heapq.heappop(queue)
        rows = rows_of[node]
        low = bins[rows, column] <= cut
        feature[node], threshold[node], gain[node] = column, float(edges[column][cut]), -negative
        left[node], right[node] = len(feature), len(feature) + 1
        for side in (rows[low], rows[~low]):
            feature.append(LEAF)
            threshold.append(0.0)
            left.append(LEAF)
            right.append(LEAF)
            gain.append(0.0)
            rows_of.append(side)
            consider(len(feature) - 1)
    return Grown(*(np.array(values) for values in (feature, threshold, left, right, gain)))


def _edges(column: Float[np.ndarray, " row"]) -> Float[np.ndarray, " edge"]:
    """Thresholds of a column: between all of its values if they are few, else at quantiles."""
    values = np.unique(column)
    if len(values) > BINS:
        values = np.unique(np.quantile(column, np.linspace(0.0, 1.0, BINS + 1), method="nearest"))
    return 0.5 * (values[:-1] + values[1:])


@dataclass(frozen=True, slots=True)
class _Search:
    bins: Int[np.ndarray, "row feature"]
    residual: Float[np.ndarray, "row output"]
    task: Int[np.ndarray, " row"]
    noise: Float[np.ndarray, " output"]
    share: float
    fewest: int

    def best(self, rows: Int[np.ndarray, " inside"]) -> tuple[float, int, int] | None:
        """Return gain, feature and bin of the best split of a node's rows."""
        if len(rows) < 2 * self.fewest:
            return None
        bins, residual = self.bins[rows], self.residual[rows]
        seen, start, task = np.unique(self.task[rows], return_index=True, return_inverse=True)
        total = np.add.reduceat(residual, start, axis=0)
        size = np.diff(np.append(start, len(rows)))[:, None]
        low, high = bins.min(axis=0), bins.max(axis=0)
        best: tuple[float, int, int] | None = None
        for column in np.flatnonzero(high > low + 1).tolist():
            below, amount = _sums(bins[:, column], residual, task, len(seen), int(low[column]), int(high[column]))
            best = _better(best, self._gains(below, amount, size, total), column, int(low[column]))
        binary = np.flatnonzero(high == low + 1)
        if len(binary):  # columns of two values all at once
            below = (bins[:, binary] == low[binary]).astype(float)
            amounts = [np.add.reduceat(below * value[:, None], start, axis=0) for value in residual.T]
            gain = self._gains(np.add.reduceat(below, start, axis=0), amounts, size, total)
            place = int(np.argmax(gain))
            best = _better(best, gain[place : place + 1], int(binary[place]), int(low[binary[place]]))
        return best

    def _gains(
        self,
        below: Float[np.ndarray, "task cut"],
        amounts: list[np.ndarray],
        size: Int[np.ndarray, "task 1"],
        total: Float[np.ndarray, "task output"],
    ) -> Float[np.ndarray, " cut"]:
        """Gain of cuts from the rows that lie below in every task, and from the sums of their residuals."""
        above = size - below
        weight = below * above / size
        both = weight > 0
        sides, whole = both.sum(axis=0), weight.sum(axis=0)
        gain = np.zeros(below.shape[1])
        for amount, of_task, noise in zip(amounts, total.T, self.noise, strict=True):
            # w d = n_L s_R / n - n_R s_L / n, without dividing by an empty side
            moved = (below * (of_task[:, None] - amount) - above * amount) / size
            square = np.divide(np.square(moved), weight, out=np.zeros_like(weight), where=both).sum(axis=0)
            common = np.divide(np.square(moved.sum(axis=0)), whole, out=np.zeros_like(whole), where=whole > 0)
            gain += common - noise + self.share * np.maximum(square - common - noise * np.maximum(sides - 1, 0), 0.0)
        enough = (below.sum(axis=0) >= self.fewest) & (above.sum(axis=0) >= self.fewest)
        enough &= sides >= min(FEWEST_TASKS, len(below))
        return np.where(enough, gain, -np.inf)


def _sums(
    bins: Int[np.ndarray, " row"],
    residual: Float[np.ndarray, "row output"],
    task: np.ndarray,
    tasks: int,
    low: int,
    high: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows, and sums of residuals, that lie at or below every bin but the last, for every task."""
    count = high - low + 1
    cell = task * count + (bins - low)
    rows, *sums = (
        np.bincount(cell, value, minlength=tasks * count).reshape(tasks, count).cumsum(axis=1)[:, :-1].astype(float)
        for value in (None, *residual.T)
    )
    return rows, sums


def _better(
    best: tuple[float, int, int] | None, gain: Float[np.ndarray, " cut"], column: int, low: int
) -> tuple[float, int, int] | None:
    cut = int(np.argmax(gain))
    if gain[cut] > 0 and (best is None or gain[cut] > best[0]):
        return float(gain[cut]), column, low + cut
    return best
