"""What a user may set of a support vector machine, checked and told to the rules as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upstairs.inner.svm_kernel import KERNELS
from upstairs.learners.argument_checks import check_class_weight, class_numbers, is_number, is_whole

__all__ = ["as_numbers", "check_arguments"]


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
        if value is not None and not (is_number(value) and value > 0):
            raise ValueError(f"{name} must be a positive number or None (from the prior), but is {value!r}.")
    epsilon = given.get("epsilon")
    if epsilon is not None and not (is_number(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a number of at least 0 or None (from the prior), but is {epsilon!r}.")
    kernel = given.get("kernel")
    if kernel is not None and kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)} or None (from the prior), but is {kernel!r}.")
    gamma = given.get("gamma")
    if gamma is not None and gamma not in ("scale", "auto") and not (is_number(gamma) and gamma > 0):
        raise ValueError(f"gamma must be 'scale', 'auto', a positive number or None, but is {gamma!r}.")
    if gamma is not None and given.get("width") is not None:
        raise ValueError(
            f"width={given['width']!r} and gamma={gamma!r} both say how wide the kernel is; leave one of them at None."
        )
    degree = given.get("degree")
    if degree is not None and not is_whole(degree, 1):
        raise ValueError(f"degree must be a whole number of at least 1, but is {degree!r}.")
    check_class_weight(given.get("class_weight"))


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
        if value is None or (name == "gamma" and value == "scale"):
            continue
        if name == "class_weight":
            found |= class_numbers(value, classes)
        elif name == "kernel":
            found[name] = float(KERNELS.index(value))
        elif name == "gamma" and value == "auto":
            found[name] = 0.0
        else:
            found[name] = float(value) / (scale if name == "epsilon" else 1.0)
    return found
