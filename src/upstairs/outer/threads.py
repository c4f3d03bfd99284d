"""Small jobs on one thread: on few rows the threads of a boosting or a product wait longer than they work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import threadpool_limits

from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["threads_for", "total_rows"]

ROWS_THAT_PAY = 200_000


def threads_for(rows: int) -> AbstractContextManager:
    """Return a context in which OpenMP and BLAS use one thread for few rows, and as many as they like for many.

    Examples
    --------
    >>> with threads_for(100):
    ...     pass
    """
    return threadpool_limits(limits=1) if rows < ROWS_THAT_PAY else nullcontext()


def total_rows(tasks: TaskSet | ClassPool | None) -> int:
    """Count the rows of all tasks, or of a class pool; none without tasks."""
    if tasks is None:
        return 0
    return len(tasks.y) if isinstance(tasks, ClassPool) else int(tasks.rows.sum())
