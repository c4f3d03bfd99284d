"""The settings of support vector machines that experience is made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upstairs.tasks.task import Kind

__all__ = ["GRID"]

_WIDTHS = (0.4, 0.6, 0.9, 1.3, 1.8, 2.6, 4.0)
"""In units of the median distance of two rows; gamma is ``1 / (2 width^2)`` over the median squared distance."""


def _classification() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for weights in ({}, {"class_weight": "balanced"}):
        for cost in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0):
            found += [{"C": cost, "width": width, **weights} for width in _WIDTHS]
        found += [{"C": cost, "kernel": "linear", **weights} for cost in (0.003, 0.03, 0.3, 3.0)]
    return found


def _regression() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for epsilon in (0.01, 0.1, 0.3):
        for cost in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
            found += [{"C": cost, "width": width, "epsilon": epsilon} for width in _WIDTHS]
        found += [{"C": cost, "kernel": "linear", "epsilon": epsilon} for cost in (0.01, 0.3)]
    return found


GRID: Mapping[Kind, list[dict[str, Any]]] = {"classification": _classification(), "regression": _regression()}
