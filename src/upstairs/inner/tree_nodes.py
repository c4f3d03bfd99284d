"""A decision tree as arrays: one entry a node, children by number, so that rows of many tasks walk down at once.

A row goes left where ``x[feature] <= threshold``. Node 0 is the root; a leaf has the feature -1 and no children.
Everything is kept as floats, as params and states of rules are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["LEAF", "NAMES", "TreeView", "ancestors", "depths", "descend", "leaves", "parents"]

LEAF = -1
NAMES = ("feature", "threshold", "left", "right")
"""What a tree consists of; arrays of shape ``(node,)``, or ``(task, node)`` for a tree a task."""


@dataclass(frozen=True, slots=True)
class TreeView:
    """A tree to be read: its nodes, and what is believed at each of them.

    ``value`` and ``spread`` are means and standard deviations (regression) or class probabilities and their deviations, in
    the units of the rule's targets; ``rows`` is how many rows of the task came by; ``share`` is how much of the value comes
    from the prior, from 0 (the rows alone) to 1 (no row seen).
    """

    feature: Int[np.ndarray, " node"]
    threshold: Float[np.ndarray, " node"]
    left: Int[np.ndarray, " node"]
    right: Int[np.ndarray, " node"]
    value: Float[np.ndarray, "node output"]
    spread: Float[np.ndarray, "node output"]
    rows: Float[np.ndarray, " node"]
    share: Float[np.ndarray, " node"]


def descend(tree: Mapping[str, np.ndarray], x: Float[np.ndarray, "task row feature"]) -> Int[np.ndarray, "task row"]:
    """Return the leaf that every row falls into, as its node's number.

    Parameters
    ----------
    tree : mapping
        With the arrays `NAMES`, of shape ``(node,)`` for one tree of all tasks or ``(task, node)`` for one each.
    x
        Rows.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> tree = {name: np.array(values, dtype=float) for name, values in tree.items()}
    >>> descend(tree, np.array([[[0.0], [1.0]]])).tolist()
    [[1, 2]]
    """
    feature, threshold, left, right = (np.atleast_2d(tree[name]) for name in NAMES)
    task = np.arange(len(x))[:, None] if len(feature) > 1 else 0
    feature, left, right = feature.astype(np.intp), left.astype(np.intp), right.astype(np.intp)
    node = np.zeros(x.shape[:2], dtype=np.intp)
    lane, row = np.ogrid[: x.shape[0], : x.shape[1]]
    while True:
        column = feature[task, node]
        inner = column >= 0
        if not inner.any():
            return node
        goes_left = x[lane, row, np.maximum(column, 0)] <= threshold[task, node]
        node = np.where(inner, np.where(goes_left, left[task, node], right[task, node]), node)


def leaves(tree: Mapping[str, np.ndarray]) -> Int[np.ndarray, " leaf"]:
    """Return the numbers of the nodes that are leaves and that the root leads to, in rising order."""
    return np.flatnonzero((np.asarray(tree["feature"]) < 0) & (depths(tree) >= 0))


def depths(tree: Mapping[str, np.ndarray]) -> Int[np.ndarray, " node"]:
    """Return how many splits lead to each node; -1 for entries that the root does not lead to."""
    found = np.full(len(tree["feature"]), -1)
    layer, depth = np.zeros(1, dtype=np.intp), 0
    while len(layer):
        found[layer] = depth
        inner = layer[np.asarray(tree["feature"])[layer] >= 0]
        layer = np.concatenate([tree["left"][inner], tree["right"][inner]]).astype(np.intp)
        depth += 1
    return found


def parents(tree: Mapping[str, np.ndarray]) -> Int[np.ndarray, " node"]:
    """Return the node that each node is split off from; -1 for the root.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> parents({name: np.array(values) for name, values in tree.items()}).tolist()
    [-1, 0, 0]
    """
    found = np.full(len(tree["feature"]), -1)
    inner = np.flatnonzero(np.asarray(tree["feature"]) >= 0)
    for side in ("left", "right"):
        found[np.asarray(tree[side])[inner].astype(np.intp)] = inner
    return found


def ancestors(tree: Mapping[str, np.ndarray]) -> Bool[np.ndarray, "node node"]:
    """Return which nodes (columns) lie on the way to which node (rows), itself included.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> ancestors({name: np.array(values) for name, values in tree.items()}).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    count = len(tree["feature"])
    found = np.eye(count, dtype=bool)
    for node in np.argsort(depths(tree), kind="stable"):
        if tree["feature"][node] >= 0:
            for side in ("left", "right"):
                found[int(tree[side][node])] |= found[node]
    return found
