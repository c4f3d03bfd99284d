"""Meta decision trees: trees whose leaves say which base classifier to trust, by how sure each of them is.

A meta-row is a row that the base classifiers were not fitted to: how sure each of them was (`attributes`), and which of them
were right. Neither depends on the columns or the classes of a task, so that one tree can be grown over many tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np
from jaxtyping import Bool, Float, Int

from upstairs.inner.tree_nodes import LEAF, NAMES, ancestors, depths, descend

__all__ = ["ATTRIBUTES", "attributes", "best_split", "counted", "grow", "meta_tree", "price", "prune"]

ATTRIBUTES = ("maximum probability", "entropy")
"""What a base classifier's distribution is described by; attribute ``n`` of base classifier ``b`` has the number 2 b + n."""
FEWEST, SHARE, PRICE = 10, 0.03, 0.3
"""Rows that a leaf holds, as a number and as a share, and the price of a leaf: chosen on half of the groups of
``benchmarks/meta_trees.py``, whose other half is reported there."""


def attributes(probabilities: Float[np.ndarray, "row base class"]) -> Float[np.ndarray, "row attribute"]:
    """Describe how sure each base classifier is: its largest probability, and its entropy as a share of the largest possible.

    Entropy is divided by the logarithm of the number of classes, so that tasks with different numbers of classes can be
    compared; the paper has single tasks only. Its third attribute, the number of training rows behind an estimate, is left
    out: most base classifiers have none.

    References
    ----------
    Todorovski, L. and Dzeroski, S. (2003). Combining classifiers with meta decision trees. Machine Learning 50, 223-249.

    Examples
    --------
    >>> attributes(np.array([[[1.0, 0.0], [0.5, 0.5]]])).tolist()
    [[1.0, 0.0, 0.5, 1.0]]
    """
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))
    entropy = -(probabilities * logarithms).sum(axis=2) / np.log(max(probabilities.shape[2], 2))
    found = np.stack([probabilities.max(axis=2), np.maximum(entropy, 0.0)], axis=2)
    rounded = np.round(found, 12)  # sums in another order differ in the last digits, and would make splits of their own
    return rounded.reshape(len(found), -1)


def best_split(
    x: Float[np.ndarray, "row attribute"], right: Bool[np.ndarray, "row base"], least: int
) -> tuple[int, int, float]:
    """Find the split after which the best classifier of either side is right most often.

    The gain is ``info(S) - sum |S_v| / |S| info(S_v)`` with ``info(S) = 1 - max_j accuracy_j(S)``, in rows: how many more are
    predicted rightly. Ties go to the first attribute and the lowest threshold.

    Parameters
    ----------
    x
        Attributes.
    right
        Which base classifiers predicted which row rightly.
    least : int
        Rows that each side must keep.

    Returns
    -------
    gain : int
        In rows; 0 where no split is worth anything.
    attribute : int
    threshold : float

    References
    ----------
    Todorovski and Dzeroski (2003), the measure in place of entropy in C4.5's gain.

    Examples
    --------
    >>> sure = np.array([[0.1], [0.2], [0.8], [0.9]])
    >>> best_split(sure, np.array([[True, False], [True, False], [False, True], [False, True]]), 1)
    (2, 0, 0.5)
    """
    rows = len(x)
    if rows < 2 * least:
        return 0, 0, 0.0
    order = np.argsort(x, axis=0, kind="stable")
    in_order = np.take_along_axis(x, order, axis=0)
    left = np.cumsum(right[order], axis=0, dtype=np.int32)  # row x attribute x base
    after = left[least - 1 : rows - least]
    served = after.max(axis=2) + (left[-1] - after).max(axis=2)
    here, there = in_order[least - 1 : rows - least], in_order[least : rows - least + 1]
    served = np.where(here < there, served, 0)
    column, at = np.divmod(int(np.argmax(served.T)), len(served))
    gain = int(served[at, column]) - int(right.sum(axis=0).max())
    if gain <= 0:
        return 0, 0, 0.0
    return gain, int(column), float((here[at, column] + there[at, column]) / 2)


def grow(
    x: Float[np.ndarray, "row attribute"],
    right: Bool[np.ndarray, "row base"],
    *,
    least: int = 10,
    depth: int | None = None,
) -> dict[str, np.ndarray]:
    """Grow a tree on meta-rows until no split serves more rows.

    Parameters
    ----------
    x, right
        Meta-rows.
    least : int
        Rows that a leaf must hold.
    depth : int, optional
        Splits on the way to a leaf, at most.

    Returns
    -------
    dict
        The arrays `upstairs.inner.tree_nodes.NAMES`.
    """
    nodes: list[list[float]] = [[LEAF, 0.0, LEAF, LEAF]]
    waiting = [(0, np.arange(len(x)), 0)]
    while waiting:
        node, rows, level = waiting.pop()
        if level == depth:
            continue
        gain, column, threshold = best_split(x[rows], right[rows], least)
        if not gain:
            continue
        goes_left = x[rows, column] <= threshold
        nodes[node] = [column, threshold, len(nodes), len(nodes) + 1]
        waiting += [(len(nodes) + 1, rows[~goes_left], level + 1), (len(nodes), rows[goes_left], level + 1)]
        nodes += [[LEAF, 0.0, LEAF, LEAF], [LEAF, 0.0, LEAF, LEAF]]
    return dict(zip(NAMES, np.array(nodes, dtype=np.float64).T, strict=True))


def counted(
    tree: Mapping[str, np.ndarray], x: Float[np.ndarray, "row attribute"], right: Bool[np.ndarray, "row base"]
) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, "node base"]]:
    """Count, at every node, the rows that come by and how many each base classifier predicted rightly.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> tree = {name: np.array(values, dtype=float) for name, values in tree.items()}
    >>> rows, hits = counted(tree, np.array([[0.1], [0.9], [0.9]]), np.array([[True], [True], [False]]))
    >>> rows.tolist(), hits.ravel().tolist()
    ([3.0, 1.0, 2.0], [2.0, 1.0, 1.0])
    """
    leaf = descend(tree, x[None])[0]
    count = len(tree["feature"])
    rows = np.bincount(leaf, minlength=count).astype(np.float64)
    hits = np.zeros((count, right.shape[1]))
    np.add.at(hits, leaf, right.astype(np.float64))
    above = ancestors(tree).astype(np.float64)
    return above.T @ rows, above.T @ hits


def prune(
    tree: Mapping[str, np.ndarray], served: Float[np.ndarray, " node"], price: float
) -> tuple[dict[str, np.ndarray], Int[np.ndarray, " kept"]]:
    """Cut off, from below, what does not serve more than ``price`` rows for each leaf that it costs.

    Cost-complexity pruning with a price that is known beforehand. In place of the paper's pessimistic estimate of errors
    (C4.5), which looks at each leaf by itself: leaves share rows that are easy for all base classifiers, and what counts is the
    difference between two of them.

    Parameters
    ----------
    tree : mapping
        Arrays `NAMES`.
    served
        Rows that every node would predict rightly by its best base classifier, were it a leaf.
    price : float
        In rows.

    Returns
    -------
    tree : dict
    kept : array
        The numbers that its nodes had.

    References
    ----------
    Breiman, L., Friedman, J., Olshen, R. and Stone, C. (1984). Classification and regression trees, section 3.3.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> tree = {name: np.array(values, dtype=float) for name, values in tree.items()}
    >>> served = np.array([10.0, 6.0, 7.0])
    >>> [len(prune(tree, served, price)[1]) for price in (2, 3)]
    [3, 1]
    """
    level = depths(tree)
    feature = np.array(tree["feature"], dtype=np.float64)
    below, leaf_count = np.array(served, dtype=np.float64), np.ones(len(served))
    for node in np.argsort(-level, kind="stable"):
        if feature[node] < 0:
            continue
        sides = [int(tree["left"][node]), int(tree["right"][node])]
        total, count = below[sides].sum(), leaf_count[sides].sum()
        if total - served[node] <= price * (count - 1):
            feature[node] = LEAF
        else:
            below[node], leaf_count[node] = total, count
    kept = np.flatnonzero(depths({**tree, "feature": feature}) >= 0)
    number = np.full(len(feature), LEAF)
    number[kept] = np.arange(len(kept))
    inner = feature[kept] >= 0
    found = {"feature": feature[kept], "threshold": np.where(inner, tree["threshold"][kept], 0.0)}
    for side in ("left", "right"):
        found[side] = np.where(inner, number[tree[side][kept].astype(np.intp)], LEAF).astype(np.float64)
    return found, kept


def meta_tree(
    x: Float[np.ndarray, "row attribute"],
    right: Bool[np.ndarray, "row base"],
    *,
    least: int | None = None,
    depth: int | None = None,
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, " node"], Float[np.ndarray, "node base"]]:
    """Grow and prune a tree; returns it with the rows of its nodes and how many each base classifier predicted rightly.

    Parameters
    ----------
    x, right
        Meta-rows, of one task or of many.
    least : int, optional
        Rows that a leaf holds. None: 3 % of them, and at least ten.
    depth : int, optional
        Splits on the way to a leaf, at most.

    Returns
    -------
    tree : dict
        Pruned by the price that `price` says.
    rows, hits : arrays
        See `counted`.

    Examples
    --------
    >>> sure = np.linspace(0, 1, 100)[:, None]
    >>> tree, rows, hits = meta_tree(sure, np.hstack([sure < 0.4, sure > 0.4]))
    >>> tree["feature"].tolist(), rows.tolist(), hits.tolist()
    ([0.0, -1.0, -1.0], [100.0, 40.0, 60.0], [[40.0, 60.0], [40.0, 0.0], [0.0, 60.0]])
    """
    grown = grow(x, right, least=max(FEWEST, ceil(SHARE * len(x))) if least is None else least, depth=depth)
    rows, hits = counted(grown, x, right)
    tree, kept = prune(grown, hits.max(axis=1), price(len(x)))
    return tree, rows[kept], hits[kept]


def price(rows: int) -> float:
    """Say how many more rows must be predicted rightly for a tree to have one more leaf.

    A part of the square root of the rows, as the difference between two classifiers that are equally good varies with that.
    """
    return PRICE * float(np.sqrt(rows))
