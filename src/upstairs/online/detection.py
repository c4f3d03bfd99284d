"""Changes that a learner declared, held against those that are true: delays, missed ones, false alarms.

A change at row ``t`` means that row ``t``, counted from 0, is the first one that may be of the new world. A change that a learner declared
at ``t`` means that it had had ``t`` rows: rows 0 to ``t - 1``.

References
----------
.. [1] Bifet, A. (2017). Classifier concept drift detection and the illusion of progress. ICAISC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import TaskError

__all__ = ["Detection", "declared_rows", "judge_changes", "rows_in_order"]


@final
@dataclass(frozen=True, eq=False)
class Detection:
    """How changes of a stream were found.

    Attributes
    ----------
    delay : array of shape (change,)
        Rows from each true change until it was declared; NaN where it was missed.
    false_alarms : int
        Changes that were declared and are none.
    stationary_rows : int
        Rows at which an alarm would have been false: all but those from a true change until it was found (or no longer counted), and
        but those that it took.
    """

    delay: Float[np.ndarray, " change"]
    false_alarms: int
    stationary_rows: int

    @property
    def found(self) -> int:
        """True changes that were declared."""
        return int(np.isfinite(self.delay).sum())

    @property
    def missed(self) -> int:
        """True changes that were not."""
        return len(self.delay) - self.found

    @property
    def false_alarm_rate(self) -> float:
        """False alarms in 10,000 stationary rows."""
        return 10_000.0 * self.false_alarms / self.stationary_rows if self.stationary_rows else float("nan")


def declared_rows(result: Any, found: Sequence[int], delay: int = 0) -> Int[np.ndarray, " found"]:
    """Turn rows that a learner had learned into rows of the stream that had come.

    A learner counts rows whose labels it was given. On a stream with missing or late labels more rows have come by then.

    Parameters
    ----------
    result : StreamResult
        Of the whole stream.
    found : sequence of int
        ``at`` of `upstairs.OnlineMetaLearner.changes_`, of a learner that began with the stream.
    delay : int
        Chunks by which labels were late.

    Raises
    ------
    TaskError
        If the learner says more rows than the stream had labels.

    Examples
    --------
    >>> from upstairs.online.stream import StreamResult
    >>> y, chunk = np.array([1.0, np.nan, 1.0, 1.0, 1.0, 1.0]), np.array([0, 0, 1, 1, 2, 2])
    >>> result = StreamResult(y, y, 0.0 * y, chunk, False, 1.0)
    >>> declared_rows(result, [2]).tolist(), declared_rows(result, [2], delay=1).tolist()
    ([3], [5])
    """
    labelled = np.flatnonzero([value is not None and value == value for value in result.actual.tolist()])
    at = np.asarray(found, dtype=np.int64)
    if len(at) and (at.min() < 1 or at.max() > len(labelled)):
        raise TaskError(f"found={list(found)} must be numbers of rows with a label, from 1 to {len(labelled)}.")
    last = labelled[at - 1]
    numbers = np.unique(result.chunk)
    ends = np.searchsorted(result.chunk, numbers, side="right")
    place = np.searchsorted(numbers, result.chunk[last])
    late = ends[np.minimum(place + delay, len(ends) - 1)] - ends[place]
    return last + 1 + late


def judge_changes(
    true: Sequence[int] | Int[np.ndarray, " change"],
    found: Sequence[int] | Int[np.ndarray, " found"],
    rows: int,
    *,
    within: int | None = None,
    widths: Sequence[int] | Int[np.ndarray, " change"] | None = None,
) -> Detection:
    """Hold changes that were declared against those that are true.

    A true change is found by the first change that is declared after it, before the next true one, and ``within`` so many rows.
    Every other one is a false alarm, but for those in the rows that a change takes (``widths``).

    Parameters
    ----------
    true, found : sequence of int
        In their order.
    rows : int
        Rows of the whole stream.
    within : int, optional
        Rows after which a change counts as missed. None: only the next true change ends it.
    widths : sequence of int, optional
        Rows that every true change takes; 0 where it is abrupt. None: all are.

    Raises
    ------
    TaskError
        If a row is outside the stream, or out of order.

    Examples
    --------
    >>> held = judge_changes(true=[100, 200], found=[50, 110, 130], rows=300, within=50)
    >>> held.delay.tolist(), held.missed, held.false_alarms, held.stationary_rows
    ([10.0, nan], 1, 2, 240)
    """
    starts, alarms = rows_in_order("true", true, rows, least=0), rows_in_order("found", found, rows, least=1)
    takes = np.zeros(len(starts), dtype=np.int64) if widths is None else np.asarray(widths, dtype=np.int64)
    if len(takes) != len(starts) or (takes < 0).any():
        raise TaskError(
            f"widths={takes.tolist()} must hold one number of rows of at least 0 for each of {len(starts)}."
        )
    if within is not None and within < 1:
        raise TaskError(f"within={within} must be a number of rows of at least 1.")
    ends = np.append(starts, rows)[1:]
    counts = ends if within is None else np.minimum(ends, starts + np.maximum(within, takes))
    delay, excused, moving = np.full(len(starts), np.nan), 0, 0
    for number, (start, end, last, take) in enumerate(zip(starts, ends, counts, takes, strict=True)):
        inside = alarms[(alarms > start) & (alarms <= last)]
        settled = min(start + take, end)
        if len(inside):
            delay[number] = inside[0] - start
        excused += int(((alarms > start) & (alarms <= settled)).sum())
        excused += bool(len(inside)) and bool(inside[0] > settled)
        moving += int(max(inside[0] if len(inside) else last, settled) - start)
    return Detection(delay, len(alarms) - excused, rows - moving)


def rows_in_order(name: str, given: Any, rows: int, *, least: int) -> Int[np.ndarray, " change"]:
    """Check rows of changes: from ``least`` on, those of the stream.

    Raises
    ------
    TaskError
        If one is outside, or out of order.
    """
    most = rows - 1 + least
    at = np.asarray(given, dtype=np.int64).reshape(-1)
    if len(at) and (at[0] < least or at[-1] > most or (np.diff(at) < 0).any()):
        raise TaskError(f"{name}={at[:10].tolist()} must be rows from {least} to {most}, the smallest first.")
    return at
