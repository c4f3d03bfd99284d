"""Arguments that estimators of several families have in common: numbers, and what a class counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError

__all__ = ["EQUAL", "agrees_on_weights", "check_class_weight", "class_numbers", "is_number", "is_whole"]

EQUAL = "equal"
"""Class weight that is one for every class, whatever a prior says."""


def check_class_weight(weight: Any) -> None:
    """Refuse what is no class weight.

    Raises
    ------
    ValueError
        Naming the argument, the rule and the value.
    """
    if weight is not None and weight not in ("balanced", EQUAL) and not isinstance(weight, Mapping):
        raise ValueError(
            f"class_weight must be 'balanced', {EQUAL!r}, a mapping from labels to weights, or None (from the prior), but is "
            f"{weight!r}."
        )


def class_numbers(weight: Any, classes: list[Any]) -> dict[str, float]:
    """Write class weights as `upstairs.inner.class_costs.override_costs` takes them.

    Raises
    ------
    PriorMismatchError
        For a class weight of a label that is not there, or that is not positive.

    Examples
    --------
    >>> class_numbers({"b": 2}, ["a", "b"]), class_numbers("balanced", ["a", "b"]), class_numbers("equal", ["a", "b"])
    ({'class 1': 2.0}, {'balanced': 1.0}, {})
    """
    if weight is None or weight == EQUAL:
        return {}
    if weight == "balanced":
        return {"balanced": 1.0}
    found = {}
    for label, value in weight.items():
        if label not in classes:
            raise PriorMismatchError(
                f"class_weight names the label {label!r}, but the labels are {', '.join(map(repr, classes[:10]))}; correct it."
            )
        if not (is_number(value) and value > 0):
            raise PriorMismatchError(f"class_weight of {label!r} must be a positive number, but is {value!r}.")
        found[f"class {classes.index(label)}"] = float(value)
    return found


def agrees_on_weights(settings: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether settings have the class weights that a user asked for by name."""
    asked = given.get("class_weight")
    return asked is None or isinstance(asked, Mapping) or settings.get("class_weight", EQUAL) == asked


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number that is not too small."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)
