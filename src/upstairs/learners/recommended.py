"""Estimators whose settings follow from experience: describe the rows, look up what worked on data like these, fit."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from upstairs.errors import TaskError
from upstairs.learners.asking import ask
from upstairs.learners.rows import checked_columns, checked_targets
from upstairs.learners.stored_estimators import packed, unpacked
from upstairs.learners.tuner_prior import base_estimator, checked_prior
from upstairs.outer.trials import Settings, check_cv, with_settings
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.task import Kind

__all__ = ["Recommended", "RecommendedClassifier", "RecommendedRegressor"]

AnyRecommended = TypeVar("AnyRecommended", bound="Recommended")


class Recommended(BaseEstimator, abc.ABC):
    """What both kinds share: columns as they are, settings from the prior, one fit.

    Attributes after ``fit``: ``estimator_`` (the fitted scikit-learn estimator), ``settings_``, ``encoder_``,
    ``trials_`` (pairs of settings and score, where several were compared), ``familiarity_`` (0 to 100, None without a
    prior), ``used_prior_``, ``guard_reason_``, ``n_features_in_``, ``feature_names_in_`` (frames).
    """

    _kind: ClassVar[Kind]

    estimator: Any
    prior: Prior | None
    settings: Settings | None
    trials: int
    cv: int | float
    guard: bool
    random_state: int | None
    familiarity_: float | None
    trials_: tuple[tuple[Settings, float], ...]

    def fit(self: AnyRecommended, X: Any, y: Any) -> AnyRecommended:
        """Fit with the settings that the experience recommends for these rows.

        Parameters
        ----------
        X : array of shape (row, feature), or a data frame
            Columns as they are: numbers, categories, missing cells.
        y : array of shape (row,)

        Returns
        -------
        self

        Raises
        ------
        PriorMismatchError
            If the prior is of another family, kind or estimator.
        TaskError
            If rows and targets differ in number.
        ValueError
            If an argument is out of range, or the estimator refuses the rows with every setting.
        """
        prior = None if self.prior is None else checked_prior(self.prior, self._kind, type(self).__name__)
        base = base_estimator(self.estimator, prior, self._kind)
        self._check_arguments()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = checked_columns(self, X, reset=True)
        y = checked_targets(self, self._kind, y, len(X))
        self.encoder_ = Encoder.fit(X)
        self.familiarity_, self.trials_ = None, ()
        self.used_prior_, self.guard_reason_ = prior is not None and self.settings is None, ""
        rows, targets = self.encoder_.encode(X), self._targets(y)
        order = self._order(prior, base, X, y)
        self.estimator_, self.settings_ = self._first_that_fits(base, order, rows, targets)
        return self

    # --- for final classes --------------------------------------------------------------------------------------
    @abc.abstractmethod
    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Number the labels or scale the targets, and keep what undoes it."""

    def _said(self, X: Any, method: str) -> np.ndarray:
        if not hasattr(self, "estimator_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before using this estimator."
            )
        return np.asarray(getattr(self.estimator_, method)(self.encoder_.encode(checked_columns(self, X, reset=False))))

    # --- scikit-learn -------------------------------------------------------------------------------------------
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    # --- inner workings -----------------------------------------------------------------------------------------
    def _check_arguments(self) -> None:
        if not isinstance(self.trials, int) or isinstance(self.trials, bool) or self.trials < 1:
            raise ValueError(f"trials must be a whole number of at least 1, but is {self.trials!r}.")
        if self.settings is not None and not isinstance(self.settings, Mapping):
            raise ValueError(
                f"settings must be a mapping of arguments or None (from the prior), but is {self.settings!r}."
            )
        check_cv(self.cv)

    def _order(self, prior: Prior | None, base: Any, X: Any, y: np.ndarray) -> Sequence[Settings]:
        """Settings to fit with, the first that works."""
        if self.settings is not None:
            return (self.settings,)
        if prior is None:
            return ({},)
        advice = ask(
            prior,
            base,
            X,
            y,
            self._kind,
            trials=self.trials,
            cv=self.cv,
            guard=self.guard,
            seed=self.random_state,
        )
        self.familiarity_, self.trials_ = advice.familiarity, advice.trials
        self.used_prior_, self.guard_reason_ = advice.used_prior, advice.reason
        return advice.order

    def _first_that_fits(
        self, base: Any, order: Sequence[Settings], rows: np.ndarray, targets: np.ndarray
    ) -> tuple[Any, dict[str, Any]]:
        held = [*order, *([{}] if self.settings is None and {} not in order else [])]
        for number, settings in enumerate(held):
            model = with_settings(base, settings, self.random_state, len(rows))
            try:
                return model.fit(rows, targets), dict(settings)
            except ValueError:
                if number == len(held) - 1:
                    raise
        raise AssertionError("at least one setting is tried")

    # --- storage ------------------------------------------------------------------------------------------------
    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything fitted, as JSON values and arrays, for `upstairs.save`."""
        document = {
            "n_features": int(self.n_features_in_),
            "feature_names": list(getattr(self, "feature_names_in_", [])) or None,
            "encoder": self.encoder_.spec(),
            "target": list(getattr(self, "_target_", (0.0, 1.0))),
            "settings": json_value(self.settings_),
            "trials": [[json_value(settings), None if np.isinf(value) else value] for settings, value in self.trials_],
            "used_prior": self.used_prior_,
            "familiarity": self.familiarity_,
            "reason": self.guard_reason_,
        }
        return document, {"estimator": packed(self.estimator_)}

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `_stored`."""
        self.n_features_in_ = document["n_features"]
        if document["feature_names"]:
            self.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        self.encoder_ = Encoder.from_spec(document["encoder"])
        self._target_ = tuple(document["target"])
        self.settings_ = document["settings"]
        self.trials_ = tuple((settings, -np.inf if value is None else value) for settings, value in document["trials"])
        self.used_prior_, self.guard_reason_ = document["used_prior"], document["reason"]
        self.familiarity_ = document["familiarity"]
        self.estimator_ = unpacked(arrays["estimator"])


def _has(method: str) -> Any:
    """Tell whether the estimator inside has a method (the fitted one, or the one that would be fitted)."""

    def check(self: Recommended) -> bool:
        if hasattr(self, "estimator_"):
            return hasattr(self.estimator_, method)
        return hasattr(base_estimator(self.estimator, self.prior, self._kind), method)

    return check


@final
class RecommendedClassifier(ClassifierMixin, Recommended):
    """A scikit-learn classifier with the settings that worked on data sets like this one.

    Learned over tasks: which settings of the estimator suit which data. On one task: one fit (or as many as
    ``trials`` says), after the columns were encoded: missing cells filled and marked, numbers scaled, categories made
    into columns.

    Parameters
    ----------
    estimator : scikit-learn classifier or str, optional
        Unfitted, or a name such as ``"random-forest"``. None: the one that the prior was learned for.
    prior : Prior, optional
        From ``MetaTuner(...).meta_fit(tasks).prior_``, or one that ships (`upstairs.recommended`). None: the
        estimator with its own settings.
    settings : mapping, optional
        Arguments of the estimator. None: from the prior.
    trials : int
        How many recommended settings are compared by cross-validation before the last fit. 1: none, one fit.
    cv : int or float
        Folds, or a share of rows that is held out once, where settings are compared.
    guard : bool
        Whether to compare with the estimator's own settings as well, and use these where they are better.
    random_state : int, optional
        For the estimator and the folds.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = RecommendedClassifier("decision-tree", settings={"max_depth": 3}, random_state=0).fit(X, y)
    >>> model.estimator_
    PriorTreeClassifier(encode=False, max_depth=3, random_state=0)
    """

    _kind = "classification"

    def __init__(
        self,
        estimator: Any = None,
        prior: Prior | None = None,
        *,
        settings: Settings | None = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        random_state: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.prior = prior
        self.settings = settings
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.random_state = random_state

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels, array of shape (row,)."""
        said = self._said(X, "predict")
        labels: np.ndarray = self.classes_[said]
        return labels

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities, array of shape (row, class), columns as in ``classes_``."""
        said = self._said(X, "predict_proba")
        out = np.zeros((len(said), len(self.classes_)))
        out[:, self.estimator_.classes_] = said
        return out

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the estimator's own decision values."""
        return self._said(X, "decision_function")

    def _targets(self, y: np.ndarray) -> np.ndarray:
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise TaskError(f"y holds one class ({self.classes_[0]!r}, {len(y)} rows); a classifier needs 2 classes.")
        found: np.ndarray = codes
        return found


@final
class RecommendedRegressor(RegressorMixin, Recommended):
    """A scikit-learn regressor with the settings that worked on data sets like this one.

    Learned over tasks: which settings of the estimator suit which data. On one task: one fit (or as many as
    ``trials`` says), after columns were encoded and the target was scaled.

    Parameters
    ----------
    estimator : scikit-learn regressor or str, optional
        Unfitted, or a name such as ``"random-forest"``. None: the one that the prior was learned for.
    prior : Prior, optional
        From ``MetaTuner(...).meta_fit(tasks).prior_``, or one that ships (`upstairs.recommended`). None: the
        estimator with its own settings.
    settings : mapping, optional
        Arguments of the estimator. None: from the prior.
    trials : int
        How many recommended settings are compared by cross-validation before the last fit. 1: none, one fit.
    cv : int or float
        Folds, or a share of rows that is held out once, where settings are compared.
    guard : bool
        Whether to compare with the estimator's own settings as well, and use these where they are better.
    random_state : int, optional
        For the estimator and the folds.

    Examples
    --------
    >>> X = np.arange(20.0)[:, None]
    >>> model = RecommendedRegressor("ridge", settings={"alpha": 1e-6}).fit(X, 3.0 * X[:, 0] + 1.0)
    >>> model.predict([[4.0]]).round(3)
    array([13.])
    """

    _kind = "regression"

    def __init__(
        self,
        estimator: Any = None,
        prior: Prior | None = None,
        *,
        settings: Settings | None = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        random_state: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.prior = prior
        self.settings = settings
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.random_state = random_state

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets, array of shape (row,)."""
        center, scale = self._target_ if hasattr(self, "_target_") else (0.0, 1.0)
        return self._said(X, "predict") * scale + center

    def _targets(self, y: np.ndarray) -> np.ndarray:
        large = float(np.abs(y).max()) or 1.0
        inside = y / large  # so that squares of huge numbers are finite
        self._target_ = float(inside.mean()) * large, (float(inside.std()) or 1.0) * large
        return (y - self._target_[0]) / self._target_[1]
