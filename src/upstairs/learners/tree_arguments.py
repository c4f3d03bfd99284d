"""What a user may set of a decision tree, checked and told to the rules as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.inner.smoothed_tree import ALL, CRITERIA, LOG2, SQRT
from upstairs.learners.argument_checks import check_class_weight, class_numbers, is_number, is_whole
from upstairs.tasks.task import Kind

__all__ = ["as_numbers", "check_arguments"]

UNBOUNDED = "none"
"""Depth of trees that grow as far as they can, whatever a prior says."""
_FEATURES = {"sqrt": SQRT, "log2": LOG2}


def check_arguments(given: Mapping[str, Any], kind: Kind) -> None:
    """Refuse arguments that are out of range.

    Parameters
    ----------
    given : mapping
        From name to value; None is left to the prior.
    kind : {"classification", "regression"}

    Raises
    ------
    ValueError
        Naming the argument, the rule and the value.
    """
    depth = given.get("max_depth")
    if depth is not None and not (is_whole(depth, 1) or depth == UNBOUNDED):
        raise ValueError(
            f"max_depth must be a whole number of at least 1, {UNBOUNDED!r} (no bound) or None (from the prior), but is {depth!r}."
        )
    for name, least in (("min_samples_leaf", 1), ("min_samples_split", 2)):
        value = given.get(name)
        if value is not None and not (is_whole(value, least) or (is_number(value) and 0 < value < 1)):
            raise ValueError(
                f"{name} must be a whole number of at least {least}, a share of the rows between 0 and 1, or None (from the "
                f"prior), but is {value!r}."
            )
    for name in ("ccp_alpha", "smoothing", "decision_power"):
        value = given.get(name)
        if value is not None and not (is_number(value) and value >= 0):
            raise ValueError(f"{name} must be a number of at least 0 or None (from the prior), but is {value!r}.")
    criterion = given.get("criterion")
    if criterion is not None and criterion not in CRITERIA[kind]:
        raise ValueError(
            f"criterion must be one of {', '.join(CRITERIA[kind])} or None (from the prior), but is {criterion!r}."
        )
    features: Any = given.get("max_features")
    share = is_number(features) and not is_whole(features, 1) and 0 < features <= 1
    if features is not None and not (share or is_whole(features, 1) or features in _FEATURES):
        raise ValueError(
            "max_features must be 'sqrt', 'log2', a share of the columns (1.0: all), a whole number of at least 1, or None "
            f"(from the prior), but is {features!r}."
        )
    check_class_weight(given.get("class_weight"))


def as_numbers(settings: Mapping[str, Any], classes: list[Any], kind: Kind) -> dict[str, float]:
    """Write settings as numbers, as `upstairs.inner.smoothed_tree.SmoothedTree.override` takes them.

    Parameters
    ----------
    settings : mapping
        Checked; entries that are None are left out.
    classes : list
        Labels in the order of their numbers.
    kind : {"classification", "regression"}

    Raises
    ------
    PriorMismatchError
        For a class weight of a label that is not there, or that is not positive.

    Examples
    --------
    >>> as_numbers({"max_depth": 3, "criterion": "entropy", "max_features": 1.0}, ["a", "b"], "classification")
    {'max_depth': 3.0, 'criterion': 1.0, 'max_features': 0.0}
    """
    found: dict[str, float] = {}
    for name, value in settings.items():
        if value is None:
            continue
        if name == "class_weight":
            found |= class_numbers(value, classes)
        elif name == "criterion":
            found[name] = float(CRITERIA[kind].index(value))
        elif name == "max_features" and not is_whole(value, 1):
            found[name] = _FEATURES[value] if value in _FEATURES else ALL if value == 1.0 else float(value)
        else:
            found[name] = np.inf if value == UNBOUNDED else float(value)
    return found
