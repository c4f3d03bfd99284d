"""Read a tree: in the units and names of the raw columns, as text, as records, as a picture."""

from __future__ import annotations

import abc
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from upstairs.inner.tree_nodes import TreeView, depths, parents
from upstairs.learners.base import PriorEstimator
from upstairs.tasks.encoder import Column, Encoder

__all__ = ["ReadNode", "ReadableTree"]

_SHOWN = 3
"""Classes that are named of a leaf, the most probable first."""


@dataclass(frozen=True)
class ReadNode:
    """One node of a tree, in raw units: what leads to it, and what is believed there.

    ``condition`` is what a row of its parent must fulfil (empty for the root); ``value`` and ``spread`` are class
    probabilities with their deviations, or mean and standard deviation of a new target; ``says`` is the same in words.
    """

    node: int
    parent: int
    depth: int
    leaf: bool
    condition: str
    value: Float[np.ndarray, " output"]
    spread: Float[np.ndarray, " output"]
    rows: float
    share: float
    says: str


class ReadableTree(PriorEstimator, abc.ABC):
    """Estimators whose rule shows its tree (``view``) and where rows fall in it (``apply``)."""

    def export_text(self, decimals: int = 2) -> str:
        """Write the tree as text, in raw units.

        A missing cell counts as the column's mean where its number is compared. Behind each leaf: rows of the task there,
        and how much of what is said comes from the node above (or, of a tree that tasks share, from the prior). A tree that
        stands on a pooled prediction says so in a last line: values are those at its mean in the leaf.

        Parameters
        ----------
        decimals : int
            Decimals of values and thresholds; more where a column's numbers are small.
        """
        lines = []
        for node in self._read_nodes(decimals):
            if node.depth == 0 and not node.leaf:
                continue
            indent = "|   " * max(node.depth - 1, 0)
            lines.append(indent + (node.condition or "all rows") + ":" + (f" {node.says}" if node.leaf else ""))
        if any(name.startswith("pooled/") for name in self._fitted().params):
            lines.append(
                "(on a pooled prediction, which differs from row to row: values are those at its mean in the leaf)"
            )
        return "\n".join(lines)

    def plot(self, ax: Any = None, *, decimals: int = 2) -> Any:
        """Draw the tree, with a bar for what each leaf says (needs matplotlib).

        Parameters
        ----------
        ax : matplotlib axes, optional
            None: new ones.
        decimals : int

        Returns
        -------
        matplotlib axes
        """
        figures = importlib.import_module("upstairs.report.tree_figures")
        labels = getattr(self, "classes_", None)
        return figures.draw_tree(
            list(self._read_nodes(decimals)), labels=None if labels is None else labels.tolist(), ax=ax
        )

    @property
    def leaves_(self) -> list[dict[str, Any]]:
        """What every leaf says: ``node``, ``conditions``, ``value``, ``spread``, ``rows`` and ``share``, from left to right.

        ``value`` and ``spread`` are dictionaries from labels for classes. A list of records, as data frames take it.
        """
        labels = getattr(self, "classes_", None)
        found, path = [], dict[int, tuple[str, ...]]()
        for node in self._read_nodes(2):
            path[node.node] = (*path.get(node.parent, ()), *([node.condition] if node.condition else []))
            if node.leaf:
                said = {
                    name: float(array[0]) if labels is None else dict(zip(labels.tolist(), array.tolist(), strict=True))
                    for name, array in (("value", node.value), ("spread", node.spread))
                }
                found.append(
                    {"node": node.node, "conditions": path[node.node], **said, "rows": node.rows, "share": node.share}
                )
        return found

    @property
    def feature_importances_(self) -> Float[np.ndarray, " feature"]:
        """How much splits by each raw column tell the values of their sides apart, in shares of the whole.

        The decrease of variance (of class shares: of the Gini impurity) at the splits, weighted by rows [1]_; all columns that a
        raw one is encoded in count for it.

        References
        ----------
        .. [1] Breiman, L. et al. (1984). Classification and regression trees, section 5.3.
        """
        view, encoder = self._view(), self._encoder()
        inner = np.flatnonzero((view.feature >= 0) & (depths(_nodes(view)) >= 0))
        gain = np.zeros(len(inner))
        for side in (view.left[inner], view.right[inner]):
            gain += view.rows[side] * np.square(view.value[side] - view.value[inner]).sum(axis=1)
        owner = np.repeat(np.arange(len(encoder.columns)), [column.width for column in encoder.columns])
        found = np.zeros(len(encoder.columns))
        np.add.at(found, owner[view.feature[inner]], gain)
        return found / found.sum() if found.sum() > 0 else found

    @property
    def n_leaves_(self) -> int:
        """How many leaves the tree has."""
        view = self._view()
        return int(((view.feature < 0) & (depths(_nodes(view)) >= 0)).sum())

    @property
    def depth_(self) -> int:
        """How many splits the longest path has."""
        return int(depths(_nodes(self._view())).max())

    def apply(self, X: Any) -> Int[np.ndarray, " row"]:
        """Return the number of the leaf that every row falls into.

        Parameters
        ----------
        X : array of shape (row, feature), or data frame
        """
        adapted = self._fitted()
        rule: Any = adapted.rule
        rows = self._encoder().encode(self._columns(X, reset=False))
        found: np.ndarray = rule.apply(adapted.params, adapted.state, rows[None])[0]
        return found

    def decision_path(self, X: Any) -> csr_matrix:
        """Return which nodes every row comes by: a sparse matrix of ones, rows x nodes.

        Parameters
        ----------
        X : array of shape (row, feature), or data frame
        """
        node, above = self.apply(X), parents(_nodes(self._view()))
        count, row = len(node), np.arange(len(node))
        path = [(row, node)]
        while (above[node] >= 0).any():
            inside = above[node] >= 0
            row, node = row[inside], above[node[inside]]
            path.append((row, node))
        where = tuple(np.concatenate(part) for part in zip(*path, strict=True))
        return csr_matrix((np.ones(len(where[0]), dtype=np.int64), where), shape=(count, len(above)))

    # --- inner workings -----------------------------------------------------------------------------------------
    def _view(self) -> TreeView:
        adapted = self._fitted()
        rule: Any = adapted.rule
        view: TreeView = rule.view(adapted.params, adapted.state)
        return view

    def _encoder(self) -> Encoder:
        self._fitted()
        encoder = self._situation_.encoder
        assert encoder is not None
        return encoder

    def _read_nodes(self, decimals: int) -> Iterator[ReadNode]:
        """Nodes in the order of reading: each before what is below it, the left side first."""
        view, places = self._view(), _places(self._encoder())
        center, scale = self._situation_.center, self._situation_.scale
        labels = getattr(self, "classes_", None)
        origin = "the prior" if self._fitted().used_prior and "encoder" in self._prior_read().settings else "above"
        waiting = [(0, -1, 0, "")]
        while waiting:
            node, parent, depth, condition = waiting.pop()
            value, spread = view.value[node], view.spread[node]
            if labels is None:
                value, spread = value * scale + center, spread * scale
            said = _said(value, spread, labels, scale, decimals)
            said += f" ({view.rows[node]:.10g} rows, {view.share[node]:.0%} from {origin})".replace("%", " %")
            leaf = bool(view.feature[node] < 0)
            yield ReadNode(
                node,
                parent,
                depth,
                leaf,
                condition,
                value,
                spread,
                float(view.rows[node]),
                float(view.share[node]),
                said,
            )
            if not leaf:
                column, part = places[view.feature[node]]
                words = _words(column, part, float(view.threshold[node]), decimals)
                for side, word in zip((view.right, view.left), reversed(words), strict=True):
                    waiting.append((int(side[node]), node, depth + 1, word))


def _nodes(view: TreeView) -> dict[str, np.ndarray]:
    return {name: getattr(view, name) for name in ("feature", "threshold", "left", "right")}


def _places(encoder: Encoder) -> list[tuple[Column, int]]:
    """The raw column of every encoded one, and the part of it that this is."""
    return [(column, part) for column in encoder.columns for part in range(column.width)]


def _words(column: Column, part: int, threshold: float, decimals: int) -> tuple[str, str]:
    """What holds on the left and on the right of a split."""
    if column.kind == "category":
        return f"{column.name} is not {column.categories[part]}", f"{column.name} = {column.categories[part]}"
    if part == 1:
        return f"{column.name} is there", f"{column.name} is missing"
    said = _number(threshold * column.scale + column.center, column.scale, decimals)
    return f"{column.name} <= {said}", f"{column.name} > {said}"


def _said(
    value: np.ndarray, spread: np.ndarray, labels: Sequence[Any] | np.ndarray | None, unit: float, decimals: int
) -> str:
    """Mean and deviation, or the most probable classes."""
    if labels is None:
        return " +- ".join(_number(float(part[0]), unit, decimals) for part in (value, spread))
    first = np.sort(np.argsort(-value, kind="stable")[:_SHOWN])
    return ", ".join(f"{labels[k]} {value[k]:.{decimals}f}" for k in first)


def _number(value: float, unit: float, decimals: int) -> str:
    """A number with so many decimals; with more where its unit is small."""
    more = max(0, int(np.ceil(-np.log10(unit))) - 1) if unit > 0 else 0
    if abs(value) >= 1e9:
        return f"{value:.{decimals + 4}g}"
    return f"{round(value, decimals + min(more, 12)) + 0.0:.{decimals + min(more, 12)}f}"  # minus zero becomes zero
