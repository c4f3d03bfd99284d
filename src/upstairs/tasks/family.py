"""What a synthetic family of tasks is: concepts, and rows of a concept; between two concepts lie others."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias, final

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.errors import TaskError
from upstairs.tasks.splits import Range, task_streams
from upstairs.tasks.task import Kind, Labels, Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["Concept", "Family"]

Concept: TypeAlias = Mapping[str, np.ndarray]
"""What makes one task of a family: arrays by name (weights, a phase). For rows of several tasks, each has a first axis of rows."""


class Family(abc.ABC):
    """A distribution over tasks.

    ``concept`` draws what makes a task, ``rows`` draws rows of it, so that a stream can go from one concept to another
    (`upstairs.online.drift`) and its inputs can move while the concept stays.
    """

    name: ClassVar[str]

    @property
    @abc.abstractmethod
    def kind(self) -> Kind:
        """Regression or classification."""

    @property
    @abc.abstractmethod
    def columns(self) -> int:
        """Columns of X."""

    @abc.abstractmethod
    def concept(self, rng: np.random.Generator) -> Concept:
        """Draw what makes one task."""

    @abc.abstractmethod
    def rows(
        self, concept: Concept, rows: int, rng: np.random.Generator, shift: Any = 0.0
    ) -> tuple[Float[np.ndarray, "row feature"], Shaped[np.ndarray, " row"]]:
        """Draw rows.

        Parameters
        ----------
        concept : mapping from names to arrays
            Of one task for all rows, or with a first axis of rows.
        rows : int
        rng : Generator
        shift : float or array of shape (feature,) or (row, feature)
            Added to X; what is expected of y given X stays that of the concept.
        """

    def draw(
        self, rows: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "row feature"], Shaped[np.ndarray, " row"]]:
        """Draw one task and ``rows`` rows of it."""
        return self.rows(self.concept(rng), rows, rng)

    def between(self, one: Concept, other: Concept, share: Float[np.ndarray, " row"]) -> Concept:
        """Return the concepts on the way from one (share 0) to another (share 1), row by row.

        Parameters
        ----------
        one, other : mapping from names to arrays
            With a first axis of rows.
        share : array of shape (row,)
        """
        found = {}
        for key, start in one.items():
            weight = share.reshape(-1, *[1] * (start.ndim - 1))
            found[key] = (1.0 - weight) * start + weight * other[key]
        return found

    @final
    def sample(self, n_tasks: int, rows: Range, random_state: Any = 0) -> TaskSet:
        """Draw tasks; the first ones are the same however many are drawn.

        Parameters
        ----------
        n_tasks : int
        rows : int or (low, high)
            Rows a task; a range is drawn for each task, both ends included.
        random_state : int, Generator or None

        Raises
        ------
        TaskError
            If a task would have no row.
        """
        low, high = rows if isinstance(rows, tuple) else (rows, rows)
        if not 1 <= low <= high:
            raise TaskError(f"rows={rows!r} must be a number of at least 1, or a pair (low, high) with low <= high.")
        names = [f"{self.name}-{number:05d}" for number in range(n_tasks)]
        tasks = []
        for name, rng in task_streams(random_state, names).items():
            X, y = self.draw(int(rng.integers(low, high + 1)), rng)
            tasks.append(Task(X, y, name=name, kind=self.kind))
        labels: Labels | None = "shared" if self.kind == "classification" else None
        return TaskSet(tasks, labels=labels)
