"""Estimators with the experience of hundreds of real data sets, which ships with the library."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from upstairs.errors import PriorMismatchError
from upstairs.learners.catalogue import known
from upstairs.learners.recommended import Recommended, RecommendedClassifier, RecommendedRegressor
from upstairs.prior import Prior
from upstairs.storage import read_folder
from upstairs.tasks.task import Kind, infer_kind

__all__ = ["AnyKind", "kind_of", "recommended", "shipped_prior"]

_MOST_CODES = 20
_ROWS_A_CODE = 3


def recommended(estimator: str = "hist-gradient-boosting", kind: Kind | None = None, **settings: Any) -> Any:
    """Make an estimator whose settings follow from the experience that ships: one fit, no search.

    Parameters
    ----------
    estimator : str
        ``"decision-tree"``, ``"random-forest"``, ``"extra-trees"``, ``"hist-gradient-boosting"``, ``"k-neighbors"``,
        ``"logistic-regression"`` (classification only), ``"ridge"`` (regression only) or ``"mlp"``.
    kind : {"classification", "regression"}, optional
        None: seen from ``y`` when ``fit`` is called (see `kind_of`).
    **settings
        Further arguments of `RecommendedClassifier` or `RecommendedRegressor`: ``trials``, ``cv``, ``guard``,
        ``random_state``, ``settings``.

    Returns
    -------
    RecommendedClassifier, RecommendedRegressor, or (with ``kind=None``) an estimator that becomes one of them

    Raises
    ------
    PriorMismatchError
        For a name that is not known, or that does not exist for the kind.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = recommended("decision-tree", random_state=0).fit(X, y)
    >>> model.kind_, bool(model.score(X, y) > 0.85)
    ('classification', True)
    """
    entry = known(estimator, kind)
    if kind is None and len(entry.places) == 1:
        kind = next(iter(entry.places))
    if kind is None:
        return AnyKind(estimator, **settings)
    cls: type[Any] = RecommendedRegressor if kind == "regression" else RecommendedClassifier
    return cls(estimator, shipped_prior(estimator, kind), **settings)


@functools.cache
def shipped_prior(estimator: str, kind: Kind) -> Prior:
    """Read the prior of an estimator that ships with the library.

    Examples
    --------
    >>> shipped_prior("ridge", "regression").provenance["tasks"] > 50
    True
    """
    if estimator != "svm":  # whose settings have a class of their own, PriorSVC or PriorSVR
        known(estimator, kind)
    folder = Path(__file__).parent.parent / "priors" / "tuner" / f"{estimator}-{kind}"
    if not folder.is_dir():
        raise PriorMismatchError(
            f"No prior for {estimator!r} ({kind}) ships with this version; learn one with MetaTuner."
        )
    document, arrays = read_folder(folder)
    stored = document["prior"]
    held = {name.removeprefix("prior/"): array for name, array in arrays.items() if name.startswith("prior/")}
    return Prior(stored["family"], stored["settings"], held, document["provenance"])


def kind_of(y: Any) -> Kind:
    """Tell classes from quantities in the targets of one data set.

    Text and truth values are classes, as are whole numbers that count from 0 or 1 up to at most 20 without a gap, each
    three times or more on average; everything else with more than two values is a regression. Say ``kind=`` where this
    is not what you mean (ratings from 1 to 5 as quantities, for example).

    Examples
    --------
    >>> kind_of(["a", "b"]), kind_of([0, 1, 2] * 5), kind_of([0.5, 1.0, 2.0]), kind_of([3, 5, 9] * 5)
    ('classification', 'classification', 'regression', 'regression')
    """
    y = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
    kind = infer_kind(y) if y.dtype.kind != "O" else infer_kind(np.array(y.tolist()))
    if kind == "regression" and y.ndim == 1 and len(y) and np.isfinite(y.astype(np.float64)).all():
        found = np.unique(y)
        counted = len(found) <= _MOST_CODES and len(y) >= _ROWS_A_CODE * len(found)
        if counted and found[0] in (0, 1) and np.array_equal(found, found[0] + np.arange(len(found))):
            return "classification"
    return kind


def _fitted_has(method: str) -> Any:
    return lambda self: hasattr(getattr(self, "model_", None), method)


@final
class AnyKind(BaseEstimator):
    """An estimator of the catalogue that becomes a classifier or a regressor when it sees ``y``.

    ``model_`` is the fitted `RecommendedClassifier` or `RecommendedRegressor`, ``kind_`` says which; their attributes
    (``classes_``, ``settings_``, ``familiarity_`` ...) can be read here as well. Inside a pipeline or a grid search
    say ``kind=``: scikit-learn asks for the kind before ``fit``.
    """

    def __init__(
        self,
        estimator: str = "hist-gradient-boosting",
        *,
        settings: Any = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        random_state: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.settings = settings
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> AnyKind:
        """Fit, as the kind that ``y`` shows."""
        self.kind_ = kind_of(y)
        params = {name: value for name, value in self.get_params(deep=False).items() if name != "estimator"}
        self.model_: Recommended = recommended(self.estimator, self.kind_, **params).fit(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels or targets, array of shape (row,)."""
        return cast(Any, self._model()).predict(X)

    @available_if(_fitted_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities, array of shape (row, class)."""
        return cast(Any, self._model()).predict_proba(X)

    def score(self, X: Any, y: Any) -> float:
        """Accuracy, or R2."""
        return float(cast(Any, self._model()).score(X, y))

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_") and not name.startswith("_") and "model_" in self.__dict__:
            return getattr(self.__dict__["model_"], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __sklearn_is_fitted__(self) -> bool:
        return "model_" in self.__dict__

    def _model(self) -> Recommended:
        if "model_" not in self.__dict__:
            raise NotFittedError("This estimator is not fitted yet; call fit(X, y) first.")
        return self.model_
