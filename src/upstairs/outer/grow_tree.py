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
    bins = np.stack([np.searchsorted(e, column, side="left") for e, column in zip(edges, x.T, strict=True)], axis=1)
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
        seen, task = np.unique(self.task[rows], return_inverse=True)
        best: tuple[float, int, int] | None = None
        for column in range(self.bins.shape[1]):
            values = self.bins[rows, column]
            low, high = int(values.min()), int(values.max())
            if low == high:
                continue
            gain = self._gains(rows, task, len(seen), values - low, high - low + 1)
            cut = int(np.argmax(gain))
            if gain[cut] > 0 and (best is None or gain[cut] > best[0]):
                best = float(gain[cut]), column, low + cut
        return best

    def _gains(self, rows: np.ndarray, task: np.ndarray, tasks: int, bins: np.ndarray, count: int) -> np.ndarray:
        """Gain of a split after every bin but the last."""
        cell = task * count + bins
        size = tasks * count
        number = np.bincount(cell, minlength=size).reshape(tasks, count).cumsum(axis=1)
        all_rows = number[:, -1:]
        below, above = number[:, :-1], all_rows - number[:, :-1]
        weight = below * above / all_rows
        both = weight > 0
        gain = np.zeros(count - 1)
        total = weight.sum(axis=0)
        for output, noise in enumerate(self.noise):
            value = self.residual[rows, output]
            amount = np.bincount(cell, value, minlength=size).reshape(tasks, count).cumsum(axis=1)
            # w d = n_R s_L / n - n_L s_R / n, without dividing by an empty side
            moved = (above * amount[:, :-1] - below * (amount[:, -1:] - amount[:, :-1])) / all_rows
            square = np.divide(np.square(moved), weight, out=np.zeros_like(weight), where=both).sum(axis=0)
            common = np.divide(np.square(moved.sum(axis=0)), total, out=np.zeros_like(total), where=total > 0)
            own = square - common - noise * np.maximum(both.sum(axis=0) - 1, 0)
            gain += common - noise + self.share * np.maximum(own, 0.0)
        enough = (below.sum(axis=0) >= self.fewest) & (above.sum(axis=0) >= self.fewest)
        enough &= both.sum(axis=0) >= min(FEWEST_TASKS, tasks)
        return np.where(enough, gain, -np.inf)
