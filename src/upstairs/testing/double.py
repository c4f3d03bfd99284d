"""A stand-in that always has the right prior, so that scikit-learn's own checks can run on estimators with one.

A prior fixes columns and often labels, and scikit-learn's checks fit one estimator to many data sets. The stand-in
looks at the rows of a fit, takes the prior made for their number of columns and their labels, and hands all else on.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal, final

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from upstairs.errors import FamiliarityWarning
from upstairs.learners.base import PriorEstimator
from upstairs.learners.meta import MetaLearner
from upstairs.prior import Prior
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["PriorDouble", "PriorShelf"]

Key = tuple[int, tuple[Any, ...]]
"""Number of columns, and the sorted labels (none for a regression)."""
_SOME: Key = (2, (0, 1))


@final
class PriorShelf:
    """Priors by number of columns and labels; one that is missing is learned from some tiny tasks and kept.

    Parameters
    ----------
    meta : MetaLearner
        What learns the priors; it is never changed.
    kind : {"regression", "shared", "own"}
        What the tasks' targets are.
    tasks : int
        How many.

    Examples
    --------
    >>> import upstairs as up
    >>> shelf = PriorShelf(up.MetaNeuralNetwork(prior_mean="linear"), "shared")
    >>> shelf[2, ("no", "yes")].settings["classes"]
    ['no', 'yes']
    >>> shelf[2, ("no", "yes")] is shelf[2, ("no", "yes")]
    True
    """

    def __init__(self, meta: MetaLearner, kind: Literal["regression", "shared", "own"], tasks: int = 24) -> None:
        self.meta = meta
        self.kind = kind
        self.tasks = tasks
        self._priors: dict[Key, Prior] = {}

    def __getitem__(self, key: Key) -> Prior:
        columns, labels = key
        if self.kind != "shared":
            labels = ()
        if (columns, labels) not in self._priors:
            tasks = _tiny_tasks(columns, labels, self.kind, self.tasks)
            self._priors[columns, labels] = clone(self.meta).meta_fit(tasks[1:], validation=tasks[:1]).prior_
        return self._priors[columns, labels]

    def __sklearn_clone__(self) -> PriorShelf:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PriorShelf:
        return self

    def __repr__(self) -> str:
        return f"PriorShelf({self.kind})"


def _offers(name: str) -> Any:
    """A method of the stand-in exists where the estimator, given some prior, has it."""
    return available_if(lambda double: hasattr(double._with(double.priors[_SOME]), name))


@final
class PriorDouble(BaseEstimator):
    """An estimator that takes the prior for the rows it is fitted to from a shelf.

    Parameters
    ----------
    estimator : PriorEstimator
        Without a prior; it is cloned.
    priors : PriorShelf or mapping
        Priors by number of columns and sorted labels. Rows whose columns or labels cannot be told go to the
        estimator without a prior, which says what is wrong with them.
    """

    def __init__(self, estimator: PriorEstimator | None = None, priors: Any = None) -> None:
        self.estimator = estimator
        self.priors = priors

    def fit(self, X: Any, y: Any) -> PriorDouble:
        """Fit the estimator with the prior for these columns and labels."""
        with _silence():
            self.model_ = self._chosen(X, y).fit(X, y)
        return self._named()

    @_offers("partial_fit")
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> PriorDouble:
        """Go on learning; the prior is chosen by the first rows (and ``classes``)."""
        if not hasattr(self, "model_"):
            self.model_ = self._chosen(X, y if classes is None else classes)
        with _silence():
            self.model_.partial_fit(X, y, classes)
        return self._named()

    def predict(self, X: Any, **settings: Any) -> Any:
        """Predict with the fitted estimator."""
        return self._fitted().predict(X, **settings)

    @_offers("predict_proba")
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities of the fitted estimator."""
        return self._fitted().predict_proba(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score of the fitted estimator."""
        return float(self._fitted().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.estimator)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _fitted(self) -> Any:
        assert self.estimator is not None
        return self.model_ if hasattr(self, "model_") else self.estimator  # which says that it is not fitted

    def _chosen(self, X: Any, y: Any) -> Any:
        assert self.estimator is not None
        key = _key(X, y, get_tags(self.estimator).estimator_type == "classifier")
        return self._with(None if key is None else self.priors[key])

    def _with(self, prior: Prior | None) -> Any:
        return clone(self.estimator).set_params(prior=prior)

    def _named(self) -> PriorDouble:
        for name in ("n_features_in_", "feature_names_in_", "classes_"):
            if hasattr(self.model_, name):
                setattr(self, name, getattr(self.model_, name))
        return self


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Rows of scikit-learn's checks belong to no family of tasks, and a warning that says so is not meant there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FamiliarityWarning)
        yield


def _key(X: Any, y: Any, classifier: bool) -> Key | None:
    """Columns and labels, or None where the rows are not even a table (the estimator then says what is wrong)."""
    try:
        shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    except ValueError:
        return None
    if len(shape) != 2 or 0 in shape:
        return None
    if not classifier:
        return shape[1], ()
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.dtype.kind in "iubUO" or (labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()))
    if labels.ndim != 1 or not whole or not np.isfinite(labels if labels.dtype.kind == "f" else 0).all():
        return None
    return shape[1], tuple(np.unique(labels).tolist())


def _tiny_tasks(columns: int, labels: tuple[Any, ...], kind: str, tasks: int, rows: int = 12) -> TaskSet:
    """Tasks that share columns and labels only: a random line each, or classes around random centres."""
    rng = np.random.default_rng(columns)
    ways = {"regression": 1, "own": 3}.get(kind, max(2, len(labels)))
    rows = max(rows, 2 * ways)
    code = np.arange(rows) % ways
    made = []
    for number in range(tasks):
        X = rng.normal(size=(rows, columns))
        if kind == "regression":
            y = X @ rng.normal(size=columns) + 0.3 * rng.normal(size=rows)
        else:
            X = X + 3.0 * rng.normal(size=(ways, columns))[code]
            names = [*labels, *_further(labels)] if kind == "shared" else [f"{number} {c}" for c in range(ways)]
            y = np.array(names)[code]
        made.append(
            Task(X, y, name=f"tiny-{number:02d}", kind="regression" if kind == "regression" else "classification")
        )
    return TaskSet(made, labels=None if kind == "regression" else kind)  # type: ignore[arg-type]


def _further(labels: tuple[Any, ...]) -> tuple[Any, ...]:
    """A second label where rows show only one: a classification has at least two."""
    if len(labels) != 1:
        return ()
    return (f"not {labels[0]}",) if isinstance(labels[0], str) else (labels[0] + 1,)
