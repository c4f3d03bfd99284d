"""The small sentences that checks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from upstairs.errors import PriorMismatchError
from upstairs.learners.meta import MetaLearner
from upstairs.tasks.table import Table
from upstairs.tasks.taskset import TaskSet
from upstairs.testing.families import MetaCase, mean_loss, quietly

__all__ = ["close", "gap", "models_of", "paired_losses", "refusal", "require", "same", "take"]


def require(true: bool | np.bool_, sentence: str) -> None:
    """Raise AssertionError with a sentence unless something holds."""
    if not true:
        raise AssertionError(sentence)


def refusal(call: Callable[[], Any], error: type[Exception], what: str) -> str:
    """Return the message of the error that a call must raise."""
    try:
        call()
    except error as raised:
        return str(raised)
    except Exception as raised:
        raise AssertionError(f"{what} must raise {error.__name__}, but raised {raised!r}") from raised
    raise AssertionError(f"{what} must raise {error.__name__}, but was accepted")


def gap(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, in units of 1 plus the size of what is wanted; infinite for other shapes or NaN."""
    if got.shape != want.shape:
        return float("inf")
    value = float(np.max(np.abs(got - want) / (1.0 + np.abs(want)), initial=0.0))
    return value if np.isfinite(value) else float("inf")


def close(got: np.ndarray, want: np.ndarray, most: float, sentence: str) -> None:
    """Two predictions must agree to ``most``, see `gap`."""
    distance = gap(got, want)
    require(distance <= most, f"{sentence} (by {distance:.2g}, allowed are {most:.0e})")


def same(got: np.ndarray, want: np.ndarray, sentence: str) -> None:
    """Two predictions must agree bit for bit."""
    equal = got.shape == want.shape and np.array_equal(got, want)
    require(equal, f"{sentence} (by {gap(got, want):.2g}, must be equal bit for bit)")


def take(X: Any, rows: Any) -> Any:
    """Rows of an array or a table by number or mask."""
    rows = np.asarray(rows)
    rows = rows if rows.dtype == bool else rows.astype(np.intp)
    return X.take(rows) if isinstance(X, Table) else X[rows]


def models_of(fitted: MetaLearner, tasks: MetaCase) -> Iterator[tuple[str, Any]]:
    """Every sort of adapted model: with the prior, without rows, without a prior, and with the prior dropped."""
    few = tasks.few(0)
    yield "adapted model", quietly(fitted, few.X, few.y)[0]
    if tasks.kind != "own" and tasks.columns == "same":
        yield "model without rows", fitted.adapt_zero()
    yield "model without a prior", plain(fitted).fit(few.X, few.y)
    careful = clone(fitted).set_params(guard=True)
    careful.prior_ = fitted.prior_
    for number in range(0 if tasks.unrelated is None else len(tasks.unrelated)):
        other = tasks.few(number, tasks.unrelated, shots=5 if tasks.kind == "own" else 20)
        model, _ = quietly(careful, other.X, other.y)
        if not model.used_prior_:
            yield "model whose guard dropped the prior", model
            return


def plain(fitted: MetaLearner) -> Any:
    """Return the base learner: the same rule, without a prior."""
    learner = fitted.plain_learner(fitted.prior_.settings["kind"])
    if "method" in learner.get_params():
        own = fitted.prior_.settings["labels"] == "own"
        learner.set_params(method="prototype" if own else "bayesian-linear")
    return learner


def paired_losses(
    fitted: MetaLearner, tasks: MetaCase, some: TaskSet, shots: int, *, guard: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean query loss of every task with the prior and without one; tasks that the base learner refuses are left out."""
    careful = clone(fitted).set_params(guard=guard)
    careful.prior_ = fitted.prior_
    with_prior, without = [], []
    for number in range(len(some)):
        few = tasks.few(number, some, shots)
        try:
            base = plain(fitted).fit(few.X, few.y)
        except ValueError as error:
            if isinstance(error, PriorMismatchError):
                raise
            continue
        without.append(mean_loss(base, few.X_query, few.y_query))
        with_prior.append(mean_loss(quietly(careful, few.X, few.y)[0], few.X_query, few.y_query))
    return np.array(with_prior), np.array(without)
