"""What a user may set of a support vector machine, checked and told to the rules as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError
from upstairs.inner.svm_kernel import KERNELS

__all__ = ["EQUAL", "as_numbers", "check_arguments"]

EQUAL = "equal"
"""Class weight that is one for every class, whatever a prior says."""


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse arguments that are out of range.

    Parameters
    ----------
    given : mapping
        From name to value; None is left to the prior.

    Raises
    ------
    ValueError
        Naming the argument, the rule and the value.
    """
    for name in ("C", "width"):
        value = given.get(name)
        if value is not None and not (_number(value) and value > 0):
            raise ValueError(f"{name} must be a positive number or None (from the prior), but is {value!r}.")
    epsilon = given.get("epsilon")
    if epsilon is not None and not (_number(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a number of at least 0 or None (from the prior), but is {epsilon!r}.")
    kernel = given.get("kernel")
    if kernel is not None and kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)} or None (from the prior), but is {kernel!r}.")
    gamma = given.get("gamma")
    if gamma is not None and gamma not in ("scale", "auto") and not (_number(gamma) and gamma > 0):
        raise ValueError(f"gamma must be 'scale', 'auto', a positive number or None, but is {gamma!r}.")
    if gamma is not None and given.get("width") is not None:
        raise ValueError(
            f"width={given['width']!r} and gamma={gamma!r} both say how wide the kernel is; leave one of them at None."
        )
    degree = given.get("degree")
    if degree is not None and not (isinstance(degree, int | np.integer) and degree >= 1):
        raise ValueError(f"degree must be a whole number of at least 1, but is {degree!r}.")
    weight = given.get("class_weight")
    if weight is not None and weight not in ("balanced", EQUAL) and not isinstance(weight, Mapping):
        raise ValueError(
            f"class_weight must be 'balanced', {EQUAL!r}, a mapping from labels to weights, or None (from the prior), but is "
            f"{weight!r}."
        )


def as_numbers(settings: Mapping[str, Any], classes: list[Any], scale: float) -> dict[str, float]:
    """Write settings as numbers, as `upstairs.inner.support_vectors.SupportVectors.override` takes them.

    Parameters
    ----------
    settings : mapping
        Checked; entries that are None are left out.
    classes : list
        Labels in the order of their numbers.
    scale : float
        Unit of the scaled target, for ``epsilon``.

    Raises
    ------
    PriorMismatchError
        For a class weight of a label that is not there, or that is negative.

    Examples
    --------
    >>> as_numbers({"C": 3, "kernel": "rbf", "class_weight": {"b": 2}}, ["a", "b"], 1.0)
    {'C': 3.0, 'kernel': 1.0, 'class 1': 2.0}
    """
    found: dict[str, float] = {}
    for name, value in settings.items():
        if value is None or value == EQUAL or (name == "gamma" and value == "scale"):
            continue
        if name == "class_weight":
            found |= {"balanced": 1.0} if value == "balanced" else _of_classes(value, classes)
        elif name == "kernel":
            found[name] = float(KERNELS.index(value))
        elif name == "gamma" and value == "auto":
            found[name] = 0.0
        else:
            found[name] = float(value) / (scale if name == "epsilon" else 1.0)
    return found


def _of_classes(weights: Mapping[Any, float], classes: list[Any]) -> dict[str, float]:
    found = {}
    for label, weight in weights.items():
        if label not in classes:
            raise PriorMismatchError(
                f"class_weight names the label {label!r}, but the labels are {', '.join(map(repr, classes[:10]))}; correct it."
            )
        if not (_number(weight) and weight > 0):
            raise PriorMismatchError(f"class_weight of {label!r} must be a positive number, but is {weight!r}.")
        found[f"class {classes.index(label)}"] = float(weight)
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))
