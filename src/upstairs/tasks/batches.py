"""Rows lie flat, tasks are stretches of them; batches of equal shape are gathered from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from upstairs.errors import PriorMismatchError
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task

__all__ = ["BATCH_CELLS", "FlatRows", "bucket", "concatenate_columns", "flatten", "pad"]

BATCH_CELLS = 4_000_000
"""Numbers (task x row x feature) in one batch at most; more tasks go into further batches."""


@dataclass(frozen=True, slots=True)
class FlatRows:
    """All rows of some tasks, one task after another; task t owns rows ``offsets[t]`` to ``offsets[t + 1]``."""

    x: Float[np.ndarray, "row feature"]
    y: Shaped[np.ndarray, " row"]
    offsets: Int[np.ndarray, " boundary"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int[np.ndarray, " task"]:
        """Rows of each task."""
        return np.diff(self.offsets)


def flatten(parts: Sequence[tuple[Float[np.ndarray, "_ feature"], Shaped[np.ndarray, " _"]]]) -> FlatRows:
    """Lay encoded tasks one after another."""
    offsets = np.concatenate([[0], np.cumsum([len(y) for _, y in parts])]).astype(np.int64)
    return FlatRows(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), offsets)


def concatenate_columns(tasks: Sequence[Task]) -> Float[np.ndarray, "row feature"] | Table:
    """Stack the raw rows of tasks that have the same columns.

    Raises
    ------
    PriorMismatchError
        If the columns of two tasks differ, naming both and one column.
    """
    first = tasks[0]
    odd_ones = [task for task in tasks if type(task.X) is not type(first.X) or task.columns != first.columns]
    for task in odd_ones:
        if isinstance(task.X, Table) != isinstance(first.X, Table):
            raise PriorMismatchError(
                f"Task {first.name!r} has {'named columns' if isinstance(first.X, Table) else 'an array'} and task {task.name!r} "
                "the other; give all tasks as frames or all as arrays."
            )
        mine, theirs = (set(t.columns) if isinstance(t.columns, tuple) else t.columns for t in (first, task))
        if mine != theirs:
            if isinstance(mine, set) and isinstance(theirs, set):
                odd = sorted(mine ^ theirs)[0]
                owner, other = (first, task) if odd in mine else (task, first)
                said = f"column {odd!r} stands in task {owner.name!r} and not in task {other.name!r}"
            else:
                said = f"task {first.name!r} has {mine} columns and task {task.name!r} has {theirs}"
            raise PriorMismatchError(
                f"This learner needs tasks with the same columns, but {said}; keep the common columns with tasks.map(...), or use "
                "a learner for different columns."
            )
    if isinstance(first.X, Table):
        return Table.concatenate([task.X for task in tasks])
    return np.concatenate([task.X for task in tasks])


def bucket(rows: int) -> int:
    """The padded size for a number of rows: powers of two, at least 4, so that few shapes occur.

    Examples
    --------
    >>> [bucket(rows) for rows in (0, 4, 5, 33)]
    [4, 4, 8, 64]
    """
    return max(4, 1 << max(0, int(rows) - 1).bit_length())


def pad(
    parts: Sequence[tuple[Float[np.ndarray, "_ feature"], Shaped[np.ndarray, " _"]]], rows: int
) -> tuple[Float[np.ndarray, "task row feature"], Shaped[np.ndarray, "task row"], Bool[np.ndarray, "task row"]]:
    """Stack tasks of at most ``rows`` rows into one batch; padding is zero and masked out.

    Returns
    -------
    x, y, mask : arrays
        Of shapes ``(task, row, feature)``, ``(task, row)`` and ``(task, row)``.
    """
    x = np.zeros((len(parts), rows, parts[0][0].shape[1]))
    y = np.zeros((len(parts), rows), dtype=parts[0][1].dtype)
    mask = np.zeros((len(parts), rows), dtype=bool)
    for number, (features, targets) in enumerate(parts):
        count = len(targets)
        x[number, :count], y[number, :count], mask[number, :count] = features, targets, True
    return x, y, mask
