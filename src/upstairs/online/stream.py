"""Test-then-train: every chunk of a stream is predicted first and learned afterwards, at once or when its labels come.

References
----------
.. [1] Dawid, A. P. (1984). Present position and potential developments: the prequential approach. JRSS A 147.
.. [2] Gama, J., Sebastiao, R. and Rodrigues, P. P. (2013). On evaluating stream learning algorithms. Machine Learning 90.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError

from upstairs.errors import MissingExtraError, TaskError
from upstairs.outer.threads import threads_for

__all__ = ["StreamResult", "chunks", "prequential"]


@final
@dataclass(frozen=True, eq=False)
class StreamResult:
    """What a learner predicted on a stream before it learned, row by row.

    Attributes
    ----------
    predicted, actual : array of shape (row,)
        In the order of the stream.
    loss : array of shape (row,)
        1 for a wrong label and 0 for a right one; squared errors of a regression. NaN where nothing could be predicted yet or there
        is no label.
    chunk : array of shape (row,)
        Number of the chunk that a row came in.
    classifies : bool
    seconds : float
        Time spent predicting and learning.
    """

    predicted: Shaped[np.ndarray, " row"]
    actual: Shaped[np.ndarray, " row"]
    loss: Float[np.ndarray, " row"]
    chunk: Int[np.ndarray, " row"]
    classifies: bool
    seconds: float

    @property
    def total(self) -> float:
        """Accuracy over all rows that count, or their mean squared error."""
        if np.isnan(self.loss).all():
            return float("nan")
        mean = float(np.nanmean(self.loss))
        return 1.0 - mean if self.classifies else mean

    def rolling(self, rows: int = 500) -> Float[np.ndarray, " row"]:
        """Accuracy (or mean squared error) of the newest ``rows`` rows at every row; NaN while none of them counts."""
        if rows < 1:
            raise TaskError(f"rows={rows} must be at least 1.")
        counts = np.isfinite(self.loss)
        sums = np.concatenate([[0.0], np.cumsum(np.where(counts, self.loss, 0.0))])
        numbers = np.concatenate([[0], np.cumsum(counts)])
        last = np.arange(1, len(self.loss) + 1)
        first = np.maximum(last - rows, 0)
        number = numbers[last] - numbers[first]
        mean = np.divide(sums[last] - sums[first], number, out=np.full(len(last), np.nan), where=number > 0)
        return 1.0 - mean if self.classifies else mean

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a chunk: ``chunk, rows, first`` (its first row) and ``accuracy`` or ``mse``."""
        found: list[dict[str, Any]] = []
        name = "accuracy" if self.classifies else "mse"
        firsts = np.flatnonzero(np.diff(self.chunk, prepend=-1))
        for first, end in zip(firsts, [*firsts[1:], len(self.chunk)], strict=True):
            part = self.loss[first:end]
            mean = float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else float("nan")
            score = 1.0 - mean if self.classifies else mean
            found.append({"chunk": int(self.chunk[first]), "first": int(first), "rows": int(end - first), name: score})
        return found

    def to_frame(self) -> Any:
        """Return the records as a pandas data frame.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("to_frame() needs pandas; install it, or use records().") from error
        return pd.DataFrame(self.records())


def chunks(X: Any, y: Any, rows: int = 1) -> Iterator[tuple[Any, Shaped[np.ndarray, " row"]]]:
    """Cut arrays or data frames into chunks of ``rows`` rows, in their order.

    Examples
    --------
    >>> [len(y) for _, y in chunks(np.zeros((5, 1)), np.zeros(5), 2)]
    [2, 2, 1]
    """
    if rows < 1:
        raise TaskError(f"rows={rows} must be at least 1.")
    y = np.asarray(y)
    if len(X) != len(y):
        raise TaskError(f"X has {len(X)} rows and y has {len(y)}; they must be the same rows.")
    for first in range(0, len(y), rows):
        piece = slice(first, first + rows)
        yield X.iloc[piece] if hasattr(X, "iloc") else X[piece], y[piece]


def prequential(learner: Any, stream: Iterable[tuple[Any, Any]], delay: int = 0) -> StreamResult:
    """Predict every chunk of a stream, then learn it.

    Parameters
    ----------
    learner : estimator with ``predict`` and ``partial_fit``
        Goes on from where it is, and has learned the stream afterwards (but for labels that are still late). What it cannot
        predict before it has learned anything does not count.
    stream : iterable of (X, y)
        Chunks in their order, for example of `chunks`; any iterator, read once.
    delay : int, default=0
        Labels of a chunk come after so many more chunks have been predicted.

    Returns
    -------
    StreamResult

    Raises
    ------
    TaskError
        For a negative delay or a stream without rows.

    Examples
    --------
    >>> from upstairs.online.forgetful import ForgetfulClassifier
    >>> X = np.random.default_rng(0).standard_normal((300, 2))
    >>> result = prequential(ForgetfulClassifier(frequencies=10), chunks(X, (X[:, 0] > 0).astype(int), 10))
    >>> result.total > 0.9, result.records()[-1]["rows"]
    (True, 10)
    """
    if delay < 0:
        raise TaskError(f"delay={delay} must be 0 (labels come at once) or a number of chunks.")
    late: deque[tuple[Any, Any]] = deque()
    said, truth, losses, numbers, spent = [], [], [], [], 0.0
    classifies = hasattr(learner, "predict_proba") or (hasattr(learner, "__sklearn_tags__") and is_classifier(learner))
    with threads_for(1):  # chunks are small
        for number, (X, y) in enumerate(stream):
            begun = time.perf_counter()
            guess: Any = None
            with suppress(NotFittedError):
                guess = np.asarray(learner.predict(X))
            late.append((X, y))
            if len(late) > delay:
                learner.partial_fit(*late.popleft())
            spent += time.perf_counter() - begun
            y = np.asarray(y)
            said.append(np.full(len(y), None, dtype=object) if guess is None else guess.astype(object))
            truth.append(y)
            losses.append(_loss(guess, y, classifies))
            numbers.append(np.full(len(y), number))
    if not truth or not sum(map(len, truth)):
        raise TaskError("stream has no rows; give at least one chunk (X, y).")
    predicted = np.concatenate(said)
    if not classifies:
        predicted = predicted.astype(float)
    return StreamResult(
        predicted, np.concatenate(truth), np.concatenate(losses), np.concatenate(numbers), classifies, spent
    )


def _loss(guess: Any, y: np.ndarray, classifies: bool) -> Float[np.ndarray, " row"]:
    """Loss of every row; NaN where there is no prediction or no label."""
    if guess is None:
        return np.full(len(y), np.nan)
    if not classifies:
        return np.square(y.astype(float) - guess)
    missing = np.array([value is None or value != value for value in y], dtype=bool)
    return np.where(missing, np.nan, (guess != y).astype(float))
