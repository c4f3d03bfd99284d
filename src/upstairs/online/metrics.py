"""How well a stream was followed: recovery from changes, transfer to new tasks, forgetting, regret.

Losses are those of `upstairs.online.stream.StreamResult`, row by row; rows whose loss is NaN (no label, or nothing could be predicted
yet) are left out of every mean and sum. A change at row ``t`` means that row ``t``, counted from 0, is the first one that may be of the new
world. Changes that were found are held against those that are true by `upstairs.online.detection`.

References
----------
.. [1] Lopez-Paz, D. and Ranzato, M. (2017). Gradient episodic memory for continual learning. NeurIPS (forward and backward transfer).
.. [2] Herbster, M. and Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32 (regret to the best of every segment).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import TaskError
from upstairs.online.detection import rows_in_order

__all__ = [
    "Return",
    "Segment",
    "forgetting",
    "forward_transfer",
    "regret",
    "rows_back",
    "rows_to_recover",
    "segments_of",
]


@final
@dataclass(frozen=True)
class Segment:
    """A stretch of rows, ``first`` to ``end - 1``, in which one world holds."""

    first: int
    end: int
    world: int


@final
@dataclass(frozen=True)
class Return:
    """A world that is met again: ``at`` which row, its loss ``left`` when it had been left and ``back`` when it was met again."""

    at: int
    world: int
    left: float
    back: float

    @property
    def forgotten(self) -> float:
        """How much larger the loss is than it had been."""
        return self.back - self.left


def segments_of(world: Int[np.ndarray, " row"]) -> list[Segment]:
    """Stretches of rows of the same world.

    Examples
    --------
    >>> segments_of(np.array([0, 0, 1]))
    [Segment(first=0, end=2, world=0), Segment(first=2, end=3, world=1)]
    """
    borders = np.flatnonzero(np.diff(world)) + 1
    ends = [*borders.tolist(), len(world)]
    return [
        Segment(first, end, int(world[first]))
        for first, end in zip([0, *borders.tolist()], ends, strict=True)
        if end > first
    ]


def rows_back(loss: Float[np.ndarray, " row"], stationary: float, *, window: int = 30, close: float = 1.05) -> float:
    """Rows after which the running mean of losses is back within 5 % of the stationary loss.

    The smallest ``k`` such that rows ``k`` to ``k + window - 1`` have a mean loss of at most ``close * stationary``.

    Parameters
    ----------
    loss : array of shape (row,)
        From the change on, until the next one; or a mean of several such curves.
    stationary : float
        Loss of someone who has adapted to the world.
    window : int
        Rows of the running mean: more are surer, and hide what happens in fewer rows.
    close : float
        At least 1.

    Returns
    -------
    float
        Infinity if it never is.

    Raises
    ------
    TaskError
        If an argument is out of range.

    Examples
    --------
    >>> rows_back(np.array([9.0, 9.0, 1.0, 1.0, 1.0]), stationary=1.0, window=2)
    2.0
    """
    if window < 1 or close < 1.0 or not stationary >= 0.0:
        raise TaskError(
            f"window={window} must be at least 1 row, close={close} at least 1, and stationary={stationary} a loss of at least 0."
        )
    if len(loss) < window:
        return float("inf")
    counts = np.isfinite(loss)
    sums = np.concatenate([[0.0], np.cumsum(np.where(counts, loss, 0.0))])
    numbers = np.concatenate([[0], np.cumsum(counts)])
    total, number = sums[window:] - sums[:-window], numbers[window:] - numbers[:-window]
    back = np.flatnonzero((number > 0) & (total <= close * stationary * number * (1.0 + 1e-12)))
    return float(back[0]) if len(back) else float("inf")


def rows_to_recover(
    loss: Any,
    changes: Sequence[int] | Int[np.ndarray, " change"],
    stationary: float | Sequence[float] | Float[np.ndarray, " change"] | None = None,
    *,
    window: int = 30,
    close: float = 1.05,
) -> Float[np.ndarray, " change"]:
    """Rows after each change until the loss is back, as `rows_back` says; infinity where it is not before the next change.

    Parameters
    ----------
    loss : StreamResult, or array of shape (row,)
    changes : sequence of int
        True ones, in their order.
    stationary : float, or one for each change, optional
        None: the mean loss over the last half of the stretch that a change begins. It is then judged by where it gets itself: a
        learner that never adapts recovers at once, so give the loss of one that has adapted to compare several.
    window, close
        As in `rows_back`.

    Examples
    --------
    >>> loss = np.repeat([1.0, 9.0, 1.0], [10, 4, 16])
    >>> rows_to_recover(loss, [10], window=5).tolist(), rows_to_recover(loss, [10], 0.5, window=5).tolist()
    ([4.0], [inf])
    """
    values = _losses(loss)
    starts = rows_in_order("changes", changes, len(values), least=0)
    ends = np.append(starts, len(values))[1:]
    given = None if stationary is None else np.broadcast_to(np.asarray(stationary, dtype=np.float64), starts.shape)
    found = np.full(len(starts), np.inf)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        goal = _mean(values[(start + end) // 2 : end]) if given is None else float(given[number])
        if np.isfinite(goal):
            found[number] = rows_back(values[start:end], goal, window=window, close=close)
    return found


def forward_transfer(
    loss: Any, without: Any, segments: Sequence[Segment], rows: int = 10
) -> Float[np.ndarray, " task"]:
    """How much smaller the loss is on the first rows of every new world than that of a learner without experience.

    Parameters
    ----------
    loss, without : StreamResult, or array of shape (row,)
        Of the learner, and of one that begins each task knowing nothing, on the same rows.
    segments : sequence of Segment
        `upstairs.online.drift.Stream.segments`, or `segments_of`. Only the first stretch of every world counts.
    rows : int
        First rows of each.

    Returns
    -------
    array of shape (task,)
        Loss without experience less loss, in the order in which worlds were met: positive where experience helps. NaN where no row
        counts for both.

    Examples
    --------
    >>> worlds = segments_of(np.array([0, 0, 0, 1, 1, 1, 0, 0]))
    >>> forward_transfer(np.array([4.0, 4, 0, 1, 1, 0, 0, 0]), np.array([4.0, 4, 0, 4, 3, 0, 9, 9]), worlds, rows=2).tolist()
    [0.0, 2.5]
    """
    values, others = _losses(loss), _losses(without)
    if len(values) != len(others):
        raise TaskError(f"loss has {len(values)} rows and without has {len(others)}; they must be the same rows.")
    met: dict[int, float] = {}
    for segment in _checked(segments, len(values), rows):
        if segment.world not in met:
            part = slice(segment.first, min(segment.first + rows, segment.end))
            met[segment.world] = _mean(others[part] - values[part])
    return np.array(list(met.values()))


def forgetting(loss: Any, segments: Sequence[Segment], rows: int = 10) -> list[Return]:
    """Hold the loss on the first rows of every world that is met again against that on its last rows before.

    Parameters
    ----------
    loss : StreamResult, or array of shape (row,)
    segments : sequence of Segment
        As in `forward_transfer`.
    rows : int
        Rows after the return, and before the leave.

    Examples
    --------
    >>> worlds = segments_of(np.array([0, 0, 0, 1, 1, 1, 0, 0]))
    >>> forgetting(np.array([4.0, 1, 1, 4, 4, 4, 3, 1]), worlds, rows=2)
    [Return(at=6, world=0, left=1.0, back=2.0)]
    """
    values = _losses(loss)
    left: dict[int, float] = {}
    found = []
    for segment in _checked(segments, len(values), rows):
        if segment.world in left:
            back = _mean(values[segment.first : min(segment.first + rows, segment.end)])
            found.append(Return(segment.first, segment.world, left[segment.world], back))
        left[segment.world] = _mean(values[max(segment.end - rows, segment.first) : segment.end])
    return found


def regret(losses: Mapping[str, Any], segments: Sequence[Segment]) -> dict[str, Float[np.ndarray, " segment"]]:
    """Loss of every learner, summed over each stretch, less that of the learner that is best in it.

    Parameters
    ----------
    losses : mapping from a learner's name to StreamResult or array of shape (row,)
        On the same rows. Rows that do not count for one count for none.
    segments : sequence of Segment
        As in `forward_transfer`.

    Returns
    -------
    dict from name to array of shape (segment,)

    Examples
    --------
    >>> found = regret({"a": np.array([0.0, 0, 5, 5]), "b": np.array([1.0, 1, 2, 2])}, segments_of(np.array([0, 0, 1, 1])))
    >>> {name: array.tolist() for name, array in found.items()}
    {'a': [0.0, 6.0], 'b': [2.0, 0.0]}
    """
    if not losses:
        raise TaskError("losses must hold one learner at least, but is empty.")
    each = {name: _losses(loss) for name, loss in losses.items()}
    lengths = {name: len(values) for name, values in each.items()}
    if len(set(lengths.values())) > 1:
        raise TaskError(f"losses must be of the same rows, but there are {lengths}.")
    table = np.stack(list(each.values()))
    table = np.where(np.isfinite(table).all(axis=0), table, 0.0)
    kept = _checked(segments, table.shape[1], 1)
    sums = np.stack([table[:, segment.first : segment.end].sum(axis=1) for segment in kept], axis=1)
    return dict(zip(each, sums - sums.min(axis=0), strict=True))


def _losses(loss: Any) -> Float[np.ndarray, " row"]:
    values = np.asarray(getattr(loss, "loss", loss), dtype=np.float64)
    if values.ndim != 1:
        raise TaskError(f"loss must be a StreamResult or an array of shape (row,), but has the shape {values.shape}.")
    return values


def _mean(values: Float[np.ndarray, " row"]) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def _checked(segments: Sequence[Segment], length: int, rows: int) -> list[Segment]:
    if rows < 1:
        raise TaskError(f"rows={rows} must be at least 1.")
    found = list(segments)
    if not found or any(not 0 <= entry.first < entry.end <= length for entry in found):
        raise TaskError(
            f"segments must be stretches of the {length} rows, one at least; segments_of(world) finds them."
        )
    return found
