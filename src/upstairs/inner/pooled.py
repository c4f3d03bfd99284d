"""One function of all tasks together, kept as arrays: the pooled prediction that a task may use as a feature.

``m`` is absent, a linear function, or a sum of small trees (`upstairs.inner.columns` puts it among the features). A
tree of at most 32 leaves is held as one bit mask a node [1]_: a node whose test fails ("greater than") strikes
out the leaves of its left branch, and the first leaf left is the one that the row falls into. Rows are then
compared with all nodes at once, without walking.

References
----------
.. [1] Lucchese, C. et al. (2015). QuickScorer: a fast algorithm to rank documents with additive ensembles of
   regression trees. SIGIR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

_ALL = np.uint32(0xFFFFFFFF)
_LEAVES = 32


def width(params: Mapping[str, np.ndarray]) -> int:
    """How many columns the pooled prediction adds to the features."""
    if "pooled/coef" in params:
        return params["pooled/coef"].shape[1]
    return len(params["pooled/base"]) if "pooled/base" in params else 0


def pooled_prediction(
    params: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"]
) -> Float[np.ndarray, "row output"]:
    """The pooled prediction of every row: a value, log-odds (two classes) or one score a class."""
    if "pooled/coef" in params:
        return x @ params["pooled/coef"] + params["pooled/intercept"]
    base = params["pooled/base"]
    trees = len(params["pooled/start"])
    leaf = _leaves(params, np.asarray(x, dtype=float))
    value = params["pooled/leaf"].ravel()[leaf + np.arange(0, trees * _LEAVES, _LEAVES)]
    return base + value.reshape(len(x), trees // len(base), len(base)).sum(axis=1)


def _leaves(params: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"]) -> np.ndarray:
    """The number of the leaf of every row in every tree, shape ``(row, tree)``."""
    feature = params["pooled/feature"].astype(np.intp)
    struck = params["pooled/mask"].astype(np.uint32)
    start = params["pooled/start"].astype(np.intp)
    threshold = params["pooled/threshold"]
    if len(x) <= 200:
        right = x[:, feature] > threshold
        left_over = np.bitwise_and.reduceat(np.where(right, struck, _ALL), start, axis=1)
    else:
        left_over = _by_table(feature, threshold, struck, start, x)
    return np.bitwise_count((left_over - np.uint32(1)) & ~left_over)


def _by_table(
    feature: np.ndarray, threshold: np.ndarray, struck: np.ndarray, start: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Leaves still possible in every tree, for many rows: one look-up a row and column.

    For each column the masks of its thresholds are accumulated in rising order, so that the place of a value
    among the thresholds gives the masks of all trees at once.
    """
    tree = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(feature))))
    looked_up: list[tuple[np.ndarray, np.ndarray]] = []
    for column in np.unique(feature):
        node = np.flatnonzero(feature == column)
        edge, place = np.unique(threshold[node], return_inverse=True)
        table = np.full((len(edge) + 1, len(start)), _ALL)
        np.bitwise_and.at(table, (place + 1, tree[node]), struck[node])
        np.bitwise_and.accumulate(table, axis=0, out=table)
        looked_up.append((table, np.searchsorted(edge, x[:, column], side="left")))
    out = np.full((len(x), len(start)), _ALL)
    for begin in range(0, len(x), 512):  # a part of the rows at a time stays in the cache over all columns
        part = slice(begin, begin + 512)
        for table, rank in looked_up:
            out[part] &= table[rank[part]]
    return out


def from_linear(
    coef: Float[np.ndarray, "feature output"], intercept: Float[np.ndarray, " output"]
) -> dict[str, np.ndarray]:
    """Arrays of a linear pooled prediction."""
    return {"pooled/coef": np.asarray(coef, dtype=float), "pooled/intercept": np.asarray(intercept, dtype=float)}


def from_boosting(model: Any) -> dict[str, np.ndarray]:
    """Arrays of a fitted scikit-learn histogram gradient boosting model of at most 32 leaves a tree.

    Parameters
    ----------
    model
        ``HistGradientBoostingRegressor`` or ``HistGradientBoostingClassifier`` without categorical columns.

    Returns
    -------
    dict of arrays
        ``pooled/feature``, ``pooled/threshold`` and ``pooled/mask`` of every node of every tree in turn,
        ``pooled/start`` (the first node of every tree), ``pooled/leaf`` (values of the leaves from left to
        right) and ``pooled/base``. ``pooled_prediction`` equals ``predict`` or ``decision_function``.

    Raises
    ------
    ValueError
        If a tree has more than 32 leaves or splits on categories.
    """
    feature: list[float] = []
    threshold: list[float] = []
    mask: list[float] = []
    start: list[float] = []
    leaves: list[list[float]] = []
    base = np.asarray(model._baseline_prediction, dtype=float).ravel()
    for iteration in model._predictors:
        for predictor in iteration:
            nodes = predictor.nodes
            start.append(len(feature))
            leaves.append(_walk(nodes, feature, threshold, mask))
    table = np.zeros((len(leaves), _LEAVES))
    for row, values in zip(table, leaves, strict=True):
        row[: len(values)] = values
    return {
        "pooled/feature": np.array(feature),
        "pooled/threshold": np.array(threshold),
        "pooled/mask": np.array(mask),
        "pooled/start": np.array(start, dtype=float),
        "pooled/leaf": table,
        "pooled/base": base,
    }


def _walk(nodes: np.ndarray, feature: list[float], threshold: list[float], mask: list[float]) -> list[float]:
    """Append the inner nodes of one tree to the lists; return its leaf values from left to right."""
    if nodes["is_categorical"].any():
        raise ValueError("from_boosting() needs trees without categorical splits; encode categories as columns.")
    if nodes["is_leaf"].sum() > _LEAVES:
        raise ValueError(f"from_boosting() needs trees of at most {_LEAVES} leaves; lower max_leaf_nodes.")
    values: list[float] = []
    _visit(nodes, 0, feature, threshold, mask, values)
    if len(values) == 1:  # a tree without a split: one node that never strikes anything out
        feature.append(0.0)
        threshold.append(np.inf)
        mask.append(float(_ALL))
    return values


def _visit(
    nodes: np.ndarray,
    index: int,
    feature: list[float],
    threshold: list[float],
    mask: list[float],
    values: list[float],
) -> None:
    """Append what lies below a node, from left to right."""
    node = nodes[index]
    if node["is_leaf"]:
        values.append(float(node["value"]))
        return
    first = len(values)
    _visit(nodes, int(node["left"]), feature, threshold, mask, values)
    gone = sum(1 << leaf for leaf in range(first, len(values)))
    feature.append(float(node["feature_idx"]))
    threshold.append(float(node["num_threshold"]))
    mask.append(float(int(_ALL) - gone))
    _visit(nodes, int(node["right"]), feature, threshold, mask, values)
