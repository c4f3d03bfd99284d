"""Where the data of a step come from: all of them on the device from the start, or window after window."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

import numpy as np

__all__ = ["Source", "Whole"]

Put: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Puts arrays on the devices."""


class Source(abc.ABC):
    """Data by step; every window has arrays of the same shapes, so that one compiled program serves all."""

    waited: float = 0.0
    """Seconds that steps have waited for data."""

    @abc.abstractmethod
    def at(self, step: int, put: Put) -> tuple[Any, int]:
        """Return the data that this step draws from, on the devices, and the first step that needs others."""

    @abc.abstractmethod
    def named(self) -> Mapping[str, np.ndarray]:
        """Arrays that name the data: equal for equal data."""


@final
class Whole(Source):
    """All data at once."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._host = {name: np.asarray(array) for name, array in data.items()}
        self._put: Any = None

    def at(self, step: int, put: Put) -> tuple[Any, int]:
        """Return all data, whatever the step."""
        if self._put is None:
            self._put = put(self._host)
        return self._put, 2**32

    def named(self) -> Mapping[str, np.ndarray]:
        """Return the data themselves."""
        return self._host
