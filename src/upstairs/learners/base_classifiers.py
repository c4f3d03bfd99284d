"""Base classifiers that are combined: checked, fitted, and what each believes about rows that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from upstairs.errors import PriorMismatchError
from upstairs.learners.prior_svm import PriorSVC
from upstairs.outer.trials import held_out, with_settings

__all__ = ["BASES", "Bases", "checked_bases", "distributions", "fitted_bases", "known_name", "out_of_fold"]

Bases: TypeAlias = Sequence[tuple[str, Any]]
"""Names and unfitted classifiers."""

BASES: Mapping[str, Callable[[], Any]] = {
    "decision-tree": lambda: DecisionTreeClassifier(min_samples_leaf=5),
    "k-neighbors": KNeighborsClassifier,
    "naive-bayes": GaussianNB,
    "logistic-regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "svm": lambda: PriorSVC(encode=False),
}
"""The five that are combined where none are named: cheap, and unlike each other.

Leaves of the tree have five rows, since a tree whose leaves are pure is as sure of every row.
"""


def checked_bases(estimators: Any) -> list[tuple[str, Any]]:
    """Return names and classifiers, from classifiers, names of `BASES`, or pairs of a name and either.

    Raises
    ------
    ValueError
        If there are fewer than two, two of one name, or one that predicts no probabilities.

    Examples
    --------
    >>> checked_bases(["naive-bayes", ("near", KNeighborsClassifier(3))])
    [('naive-bayes', GaussianNB()), ('near', KNeighborsClassifier(n_neighbors=3))]
    """
    if estimators is None:
        estimators = list(BASES)
    if isinstance(estimators, str) or not isinstance(estimators, Sequence) or len(estimators) < 2:
        raise ValueError(
            "estimators must be a list of at least 2 classifiers, pairs of a name and a classifier, or None (five cheap "
            f"ones), but is {estimators!r}."
        )
    found = []
    for entry in estimators:
        name, estimator = entry if isinstance(entry, tuple | list) and len(entry) == 2 else (None, entry)
        if isinstance(estimator, str):
            if estimator not in BASES:
                raise ValueError(
                    f"estimators must hold classifiers or the names {', '.join(BASES)}, but holds {estimator!r}; pass an "
                    "instance of the classifier."
                )
            name, estimator = name or estimator, BASES[estimator]()
        if isinstance(estimator, type) or not hasattr(estimator, "get_params") or not _gives_probabilities(estimator):
            raise ValueError(
                f"estimators must hold unfitted classifiers with predict_proba, but holds {estimator!r}; wrap it in "
                "sklearn.calibration.CalibratedClassifierCV, or leave it out."
            )
        found.append((str(name or known_name(estimator) or type(estimator).__name__), estimator))
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"estimators must have different names, but two are called {twice!r}; pass (name, classifier)."
        )
    return found


def known_name(estimator: Any) -> str | None:
    """Name a classifier that is one of `BASES` with the same arguments; None for any other."""
    return next((name for name, make in BASES.items() if repr(estimator) == repr(make())), None)


def fitted_bases(
    bases: Bases, x: Float[np.ndarray, "row column"], y: Int[np.ndarray, " row"], seed: int | None
) -> dict[str, Any]:
    """Fit every base classifier; rows of one class are answered with it, by all."""
    if len(np.unique(y)) == 1:
        return {name: DummyClassifier().fit(x, y) for name, _ in bases}
    return {name: with_settings(base, {}, seed, len(y)).fit(x, y) for name, base in bases}


def distributions(
    models: Mapping[str, Any], x: Float[np.ndarray, "row column"], classes: int
) -> Float[np.ndarray, "row base class"]:
    """Say how likely each base classifier holds each class, 0 for those that it has not seen.

    Examples
    --------
    >>> models = {"any": DummyClassifier().fit(np.zeros((4, 1)), [0, 0, 2, 2])}
    >>> distributions(models, np.zeros((1, 1)), 3).tolist()
    [[[0.5, 0.0, 0.5]]]
    """
    found = np.zeros((len(x), len(models), classes))
    for number, model in enumerate(models.values()):
        found[:, number, np.asarray(model.classes_, dtype=np.intp)] = np.nan_to_num(model.predict_proba(x))
    total = found.sum(axis=2, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), 1.0 / classes)


def out_of_fold(
    bases: Bases, x: Float[np.ndarray, "row column"], y: Int[np.ndarray, " row"], *, classes: int, cv: int, seed: int
) -> Float[np.ndarray, "row base class"]:
    """Say the same for every row of a task, by classifiers that were fitted to the other folds.

    Rows of one class only need no folds: every base classifier answers with it.

    Raises
    ------
    PriorMismatchError
        If a base classifier cannot be fitted to a part of the rows.
    """
    if len(np.unique(y)) == 1:
        return distributions(fitted_bases(bases, x, y, seed), x, classes)
    found = np.zeros((len(x), len(bases), classes))
    for train, test in held_out(y, "classification", min(cv, len(y)), seed):
        try:
            models = fitted_bases(bases, x[train], y[train], seed)
        except ValueError as error:
            raise PriorMismatchError(
                f"estimators must fit {len(train)} rows of {len(x)}, but one does not: {error} Bring more rows, or leave it "
                "out."
            ) from error
        found[test] = distributions(models, x[test], classes)
    return found


def _gives_probabilities(estimator: Any) -> bool:
    return hasattr(estimator, "predict_proba")
