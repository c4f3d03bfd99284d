"""What is learned over tasks beside the settings of trees: how decisions are made, and how far predictions are off."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from upstairs.inner.rule import Gaussian, Params, Rows
from upstairs.inner.smoothed_tree import SmoothedTree
from upstairs.outer.trials import balanced_accuracy

__all__ = ["POWERS", "Split", "learn_power", "learn_spread"]

Split = tuple[Params, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Params of a tree, rows to fit with their targets, and rows to judge by with theirs."""
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""How far decisions may be corrected for the shares of classes (see `upstairs.inner.smoothed_tree.SmoothedTree`)."""
_FEWEST = 5
"""Tasks that say something about a spread."""


def learn_power(splits: Iterable[Split]) -> float:
    """Choose the power with the best mean balanced accuracy on held-out rows, tasks of equal weight; one fit a task."""
    rule = SmoothedTree("classification")
    found = []
    for params, x, y, query, target in splits:
        if not len(target):
            continue
        state = rule.adapt(params, _rows(x, y))
        said = [rule.decide(rule.override(params, {"decision_power": a}), state, query[None])[0] for a in POWERS]
        found.append([balanced_accuracy(target, scores.argmax(axis=1)) for scores in said])
    return POWERS[int(np.argmax(np.sum(found, axis=0)))]


def learn_spread(splits: Iterable[Split]) -> float:
    """The usual ratio of squared errors on held-out rows to the variances that trees say; one fit a task."""
    rule = SmoothedTree("regression")
    found = []
    for params, x, y, query, target in splits:
        predicted = rule.predict(params, rule.adapt(params, _rows(x, y)), query[None])
        assert isinstance(predicted, Gaussian)
        found.append(float(np.mean((target - predicted.mean[0]) ** 2 / predicted.variance[0])))
    return float(np.median(found)) if len(found) >= _FEWEST else 1.0


def _rows(x: np.ndarray, y: np.ndarray) -> Rows:
    return Rows(x[None], y[None], np.ones((1, len(y)), dtype=bool))
