"""Small fits on one thread: on few rows the threads of a boosting wait for each other longer than they work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import threadpool_limits

__all__ = ["threads_for"]

ROWS_THAT_PAY = 200_000


def threads_for(rows: int) -> AbstractContextManager:
    """Return a context in which OpenMP uses one thread for few rows, and as many as it likes for many.

    Examples
    --------
    >>> with threads_for(100):
    ...     pass
    """
    return threadpool_limits(limits=1, user_api="openmp") if rows < ROWS_THAT_PAY else nullcontext()
