"""What the leaves of a meta decision tree hold: counts of right predictions, from other tasks and from one's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from upstairs.inner.tree_nodes import descend, leaves
from upstairs.outer.meta_tree import ATTRIBUTES, counted, meta_tree, price

__all__ = ["MetaTree", "learned_counts", "own_tree", "trusted_tree"]

CLOSEST, WIDEST = 1e-4, 0.9
"""Bounds of how alike the rows of a task are (an intraclass correlation): 9999 or a ninth of a row as prior counts."""


def learned_counts(
    rows: Float[np.ndarray, "task node"], right: Float[np.ndarray, "task node base"]
) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, "node base"]]:
    """Estimate the Beta prior of every node and base classifier over tasks, as counts of rows and of right predictions.

    Of ``n`` rows of a task, ``k`` are predicted rightly, ``k ~ Beta-binomial(n, s m, s (1 - m))``. ``m`` is the share over all
    rows; the strength ``s`` of a node, which its base classifiers have in common, follows from
    ``E (k - n m)^2 = n m (1 - m) (1 + (n - 1) rho)`` with ``rho = 1 / (s + 1)``, summed over tasks and base classifiers.

    Returns
    -------
    rows
        ``s``.
    right
        ``s m``.

    References
    ----------
    Kleinman, J. (1973). Proportions with extraneous variance: single and independent samples. JASA 68, 46-54.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.beta(8, 2, size=(2000, 1, 1))
    >>> rows, right = learned_counts(np.full((2000, 1), 30.0), rng.binomial(30, truth).astype(float))
    >>> bool(8 < rows[0] < 12), bool(0.78 < right[0, 0] / rows[0] < 0.82)
    (True, True)
    """
    n = rows[:, :, None]
    share = (right.sum(axis=0) + 0.5) / (rows.sum(axis=0) + 1.0)[:, None]  # no base classifier is always right
    binomial = share * (1.0 - share)
    beyond = ((right - n * share) ** 2 - n * binomial).sum(axis=(0, 2))
    pairs = (n * (n - 1.0) * binomial).sum(axis=(0, 2))
    alike = np.clip(np.where(pairs > 0, beyond / np.where(pairs > 0, pairs, 1.0), WIDEST), CLOSEST, WIDEST)
    strength = 1.0 / alike - 1.0
    return strength, strength[:, None] * share


@dataclass(frozen=True)
class MetaTree:
    """A tree whose leaves name base classifiers, to be asked and to be read.

    ``rows`` and ``right`` count rows of the task; ``prior_rows`` and ``prior_right`` are what other tasks count for, zero
    without any.

    Examples
    --------
    >>> sure = np.linspace(0, 1, 100)
    >>> x = np.stack([1 - sure / 2, sure, np.full(100, 0.8), np.full(100, 0.5)], axis=1)
    >>> tree = own_tree(x, np.stack([sure < 0.4, sure > 0.2], axis=1), ("tree", "neighbours"))
    >>> print(tree.export_text())
    maximum probability of tree <= 0.801
        trust neighbours (60 of 60 right)
    maximum probability of tree > 0.801
        trust tree (40 of 40 right)
    """

    nodes: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    rows: Float[np.ndarray, " node"]
    right: Float[np.ndarray, "node base"]
    prior_rows: Float[np.ndarray, " node"]
    prior_right: Float[np.ndarray, "node base"]

    @property
    def choice(self) -> Int[np.ndarray, " node"]:
        """The base classifier of each node: most right predictions, those of other tasks included; the first of equals."""
        return np.argmax(np.round(self.prior_right + self.right, 9), axis=1)  # all have the same number of rows

    @property
    def served(self) -> float:
        """Rows of the task that the chosen base classifiers predict rightly."""
        at = leaves(self.nodes)
        return float(self.right[at, self.choice[at]].sum())

    @property
    def n_leaves(self) -> int:
        """Leaves of the tree."""
        return len(leaves(self.nodes))

    def trusted(self, x: Float[np.ndarray, "row attribute"]) -> Int[np.ndarray, " row"]:
        """Say which base classifier each row's leaf names."""
        return self.choice[descend(self.nodes, x[None])[0]]

    def export_text(self) -> str:
        """Write the tree, one condition or leaf a line."""
        return "\n".join(self._lines(0, ""))

    def _lines(self, node: int, indent: str) -> list[str]:
        column = int(self.nodes["feature"][node])
        if column < 0:
            trusted = self.choice[node]
            said = f"{self.right[node, trusted]:.0f} of {self.rows[node]:.0f} right"
            if self.prior_rows[node] > 0:
                expected = self.prior_right[node, trusted] / self.prior_rows[node]
                said += f"; other tasks: {expected:.0%}, counting as {self.prior_rows[node]:.0f} rows"
            return [f"{indent}trust {self.names[trusted]} ({said})"]
        base, attribute = divmod(column, len(ATTRIBUTES))
        condition = f"{indent}{ATTRIBUTES[attribute]} of {self.names[base]}"
        threshold = f"{self.nodes['threshold'][node]:.3g}"
        below, above = (self._lines(int(self.nodes[side][node]), indent + "    ") for side in ("left", "right"))
        return [f"{condition} <= {threshold}", *below, f"{condition} > {threshold}", *above]


def own_tree(
    x: Float[np.ndarray, "row attribute"],
    right: Bool[np.ndarray, "row base"],
    names: tuple[str, ...],
    *,
    least: int | None = None,
    depth: int | None = None,
) -> MetaTree:
    """Grow a tree on the meta-rows of one task."""
    nodes, rows, hits = meta_tree(x, right, least=least, depth=depth)
    return MetaTree(nodes, names, rows, hits, np.zeros_like(rows), np.zeros_like(hits))


def trusted_tree(
    own: MetaTree,
    learned: Mapping[str, np.ndarray],
    counts: tuple[Float[np.ndarray, " node"], Float[np.ndarray, "node base"]],
    x: Float[np.ndarray, "row attribute"],
    right: Bool[np.ndarray, "row base"],
) -> tuple[MetaTree, bool]:
    """Put a task's meta-rows into the tree that was learned over tasks, or keep the task's own tree where that is clearly better.

    Counts of the task are added to those of the prior: the posterior of a Beta prior. The task's own tree must serve more rows
    by more than the price of all its leaves (see `upstairs.outer.meta_tree.price`).

    Parameters
    ----------
    own : MetaTree
        Grown on the task's meta-rows.
    learned : mapping
        The nodes of the tree that was learned over tasks.
    counts : tuple
        What these start from, as `learned_counts` says.
    x, right
        The task's meta-rows.

    Returns
    -------
    tree : MetaTree
    used_prior : bool
    """
    informed = MetaTree(learned, own.names, *counted(learned, x, right), *counts)
    if own.served - informed.served > price(len(x)) * own.n_leaves:
        return own, False
    return informed, True
