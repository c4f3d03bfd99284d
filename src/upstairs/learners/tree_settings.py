"""The settings of decision trees that experience is made with, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from upstairs.tasks.task import Kind

__all__ = ["DECISION_POWER", "GRID"]

DECISION_POWER = 1.0
"""Where no rows say how far decisions are to be corrected for the shares of classes: the exact rule for balanced accuracy."""


def _every(**values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All combinations; None is scikit-learn's default and left out."""
    rows = product(*values.values())
    return [{name: value for name, value in zip(values, row, strict=True) if value is not None} for row in rows]


def _classification() -> list[dict[str, Any]]:
    either = (None, "entropy")
    found = _every(criterion=either, max_depth=(3, 5, 8, None), min_samples_leaf=(None, 4, 12), smoothing=(4, 12, 35))
    found += _every(criterion=either, ccp_alpha=(0.003, 0.01, 0.03), min_samples_leaf=(None, 5), smoothing=(8, 20, 50))
    found += _every(criterion=("entropy",), max_depth=(5, None), max_features=(0.5,), smoothing=(12, 35))
    found += _every(criterion=("entropy",), min_samples_split=(20, 60), smoothing=(12, 35))
    found += _every(max_depth=(3, 5), min_samples_leaf=(5, 20))
    found += _every(max_depth=(1, 2), smoothing=(4,))
    return found + _every(class_weight=("balanced",), max_depth=(4, 8), min_samples_leaf=(None, 5), smoothing=(4, 20))


def _regression() -> list[dict[str, Any]]:
    found = _every(max_depth=(3, 5, 8, None), min_samples_leaf=(None, 3, 8, 20), smoothing=(1, 4, 10, 25))
    found += _every(ccp_alpha=(0.001, 0.003, 0.01), min_samples_leaf=(None, 3), smoothing=(3, 8, 20))
    found += _every(max_features=(0.5, 0.75), max_depth=(5, 8, None), smoothing=(5, 15))
    found += _every(min_samples_split=(10, 30), smoothing=(5, 15))
    return found + _every(max_depth=(3, 5), min_samples_leaf=(3, 8))


GRID: Mapping[Kind, list[dict[str, Any]]] = {"classification": _classification(), "regression": _regression()}
