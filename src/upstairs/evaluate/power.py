"""How small a gain a comparison over tasks could see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri

from upstairs.errors import TaskError
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.splits import folds, task_streams
from upstairs.tasks.taskset import TaskSet

__all__ = ["PairedSpread", "paired_spread", "smallest_difference", "tasks_needed"]

_MOST_ROWS = 20_000


def smallest_difference(sd: float, tasks: int, *, power: float = 0.8, level: float = 0.05) -> float:
    """Smallest mean paired difference that a two-sided test over so many tasks would find.

    Parameters
    ----------
    sd : float
        Standard deviation over tasks of the difference between two learners.
    tasks : int
        Held-out tasks (groups of tasks, where tasks come in groups).
    power : float
        Probability of finding it.
    level : float
        Probability of finding something where there is nothing.

    Returns
    -------
    float
        In the unit of ``sd``: ``(z(1 - level / 2) + z(power)) * sd / sqrt(tasks)``.

    Raises
    ------
    TaskError
        For no task, or a negative ``sd``.

    Examples
    --------
    >>> round(smallest_difference(0.5, 49), 3)
    0.2
    """
    if tasks < 1 or not sd >= 0:
        raise TaskError(f"tasks must be at least 1 and sd at least 0, but they are {tasks} and {sd}.")
    return float((ndtri(1 - level / 2) + ndtri(power)) * sd / np.sqrt(tasks))


def tasks_needed(sd: float, difference: float, *, power: float = 0.8, level: float = 0.05) -> int:
    """How many held-out tasks it takes to find a mean paired difference; the inverse of `smallest_difference`.

    Raises
    ------
    TaskError
        If the difference is not above zero.

    Examples
    --------
    >>> tasks_needed(0.5, 0.2)
    50
    """
    if not difference > 0:
        raise TaskError(f"difference must be above 0, but is {difference}.")
    return max(2, int(np.ceil(((ndtri(1 - level / 2) + ndtri(power)) * sd / difference) ** 2)))


@final
@dataclass(frozen=True, slots=True)
class PairedSpread:
    """How much two cheap methods differ from task to task.

    Attributes
    ----------
    sd : float
        Standard deviation over tasks (or groups) of their difference in loss, relative to the smaller mean loss.
    methods : tuple of str
        Which two, the better first.
    losses : dict of str to float
        Mean loss of every cheap method: squared error in standard deviations of the target, or log loss.
    units : int
        Tasks (or groups) that could be measured.
    """

    sd: float
    methods: tuple[str, str]
    losses: dict[str, float]
    units: int


def paired_spread(tasks: TaskSet, shots: int = 5, *, random_state: int = 0) -> PairedSpread | None:
    """Estimate how much the difference of two learners varies from task to task, from cheap methods.

    For numbers: the mean of the support rows, ridge regression on the rows of other tasks, and the latter shifted by
    what the support rows are off (shrunk). For shared labels: how often each label stands in the support, logistic
    regression on other tasks, and the product of both. The best two are compared. Learners that are more alike
    differ less, so the estimate is on the careful side.

    Parameters
    ----------
    tasks : TaskSet
        With the same columns in all tasks.
    shots : int
        Support rows a task; tasks with no more rows than that are left out.
    random_state : int

    Returns
    -------
    PairedSpread or None
        None for labels of a task's own, or where fewer than four tasks (or groups) are large enough.

    Raises
    ------
    PriorMismatchError
        If columns differ between tasks.
    """
    large = tasks.filter(min_rows=shots + 1).canonical()
    if tasks.labels == "own" or len(set(large.groups)) < 4:
        return None
    listed = list(large)
    streams = task_streams(random_state, large.names)
    orders = [streams[name].permutation(len(task)) for name, task in zip(large.names, listed, strict=True)]
    columns = concatenate_columns(listed)
    x = Encoder.fit(columns).encode(columns)
    offsets = np.concatenate([[0], np.cumsum(large.rows)])
    y: Shaped[np.ndarray, " row"] = np.concatenate([task.y for task in listed])
    regression = large.kind == "regression"
    y = (y - y.mean()) / (y.std() or 1.0) if regression else np.searchsorted(np.array(large.classes), y)
    names = (
        ("task mean", "pooled ridge", "pooled ridge, shifted")
        if regression
        else ("label rates", "pooled logistic", "both")
    )
    losses = np.empty((len(listed), len(names)))
    ways = 0 if regression else len(large.classes)
    for train, held in folds(large.groups, min(5, len(set(large.groups))), random_state):
        rows = np.concatenate([np.arange(offsets[t], offsets[t + 1]) for t in train])
        if len(rows) > _MOST_ROWS:
            rows = np.sort(np.random.default_rng(random_state).choice(rows, _MOST_ROWS, replace=False))
        pooled = _pooled(x[rows], y[rows], x, ways)
        for t in held:
            mine = offsets[t] + orders[t]
            support, query = mine[:shots], mine[shots:]
            measure = _square_losses if regression else _log_losses
            losses[t] = measure(y[support], y[query], pooled[support], pooled[query])
    return _compared(losses, names, large.groups)


def _compared(
    losses: Float[np.ndarray, "task method"], names: tuple[str, ...], groups: tuple[str, ...]
) -> PairedSpread:
    codes = np.unique(np.array(groups), return_inverse=True)[1]
    counts = np.bincount(codes)
    means = np.stack([np.bincount(codes, weights=column) / counts for column in losses.T], axis=1)
    mean = means.mean(axis=0)
    best, second = np.argsort(mean, kind="stable")[:2]
    spread = float(np.std(means[:, second] - means[:, best], ddof=1))
    return PairedSpread(
        spread / max(float(mean[best]), 1e-12),
        (names[best], names[second]),
        {name: float(value) for name, value in zip(names, mean, strict=True)},
        len(counts),
    )


def _pooled(x: Float[np.ndarray, "row feature"], y: np.ndarray, everything: np.ndarray, ways: int) -> np.ndarray:
    """Predict all rows by one model of some: values, shape ``(row, 1)``, or log probabilities, ``(row, way)``."""
    if ways == 0:
        from sklearn.linear_model import Ridge

        return Ridge(alpha=1.0).fit(x, y).predict(everything)[:, None]
    from sklearn.linear_model import LogisticRegression

    out = np.full((len(everything), ways), np.log(1e-3))
    if len(np.unique(y)) < 2:
        out[:, int(y[0])] = 0.0
        return out
    model = LogisticRegression(max_iter=500).fit(x, y)
    out[:, model.classes_.astype(int)] = model.predict_log_proba(everything)
    return out


def _square_losses(y: np.ndarray, y_query: np.ndarray, pooled: np.ndarray, pooled_query: np.ndarray) -> list[float]:
    shift = float((y - pooled[:, 0]).sum()) / (len(y) + 1)
    guesses = (np.full(len(y_query), y.mean()), pooled_query[:, 0], pooled_query[:, 0] + shift)
    return [float(np.square(y_query - guess).mean()) for guess in guesses]


def _log_losses(y: np.ndarray, y_query: np.ndarray, pooled: np.ndarray, pooled_query: np.ndarray) -> list[float]:
    rate = np.log((np.bincount(y, minlength=pooled.shape[1]) + 1.0) / (len(y) + pooled.shape[1]))
    expected = np.log(np.exp(pooled).mean(axis=0))
    scores = (np.tile(rate, (len(y_query), 1)), pooled_query, pooled_query + rate - expected)
    found = []
    for score in scores:
        log = score - np.logaddexp.reduce(score, axis=1, keepdims=True)
        found.append(float(-log[np.arange(len(y_query)), y_query].mean()))
    return found
