"""What is known about one task that was met on a stream, and how more rows of it are learned.

A world is immutable: learning rows gives another one, so that what was believed before a change is still there when the
change is noticed.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.rule import Prediction, log_density

__all__ = ["OpenWorlds", "World", "Worlds"]


@dataclass(frozen=True, slots=True)
class World:
    """A task: the rows that are kept of it (encoded, with standardised targets or class numbers), and what was learned.

    ``total`` is how many rows the task has had in all, ``learned`` how many of them are in ``state``.
    """

    x: Float[np.ndarray, "row feature"]
    y: Shaped[np.ndarray, " row"]
    state: Any
    learned: int
    total: int


class Worlds(abc.ABC):
    """How worlds begin, learn and predict; itself immutable."""

    __slots__ = ()

    @abc.abstractmethod
    def blank(self, after: World | None = None) -> World:
        """Return a world of which no row has been seen.

        Parameters
        ----------
        after
            The world that held before it, whose columns may say how columns are scaled; nothing else of it is used.
        """

    @abc.abstractmethod
    def learn(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], *, later: bool = False
    ) -> World:
        """Learn more rows of a world; ``later`` allows to put that off until there are more, where that is faster."""

    @abc.abstractmethod
    def predict(self, world: World, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict rows; the task axis has length one."""

    def log_density(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]
    ) -> Float[np.ndarray, " row"]:
        """Log predictive density of rows that the world has not learned."""
        return log_density(self.predict(world, x), y[None])[0]

    def again(self, world: World) -> World:
        """Learn the rows that are kept anew, as under a prior that has changed."""
        return world

    def merged(self, one: World, other: World) -> tuple[float, World] | None:
        """Return two worlds as one, rows of ``other`` the newer ones, and the log evidence that this gains; None: cannot be."""
        return None

    @abc.abstractmethod
    def stored(self, world: World) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Write a world as JSON values and arrays; what all worlds share is written elsewhere."""

    @abc.abstractmethod
    def restored(self, entry: list[Any], arrays: Mapping[str, np.ndarray]) -> World:
        """Undo `stored`."""


class OpenWorlds(Worlds):
    """Worlds whose classes are known when they come."""

    __slots__ = ()

    @abc.abstractmethod
    def widened(self, world: World, places: Shaped[np.ndarray, " way"]) -> World:
        """Return a world for more classes: class ``k`` is now ``places[k]``; ``self`` is for the new number of classes."""
