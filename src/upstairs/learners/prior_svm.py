"""The estimators that MetaSVM makes: one support vector machine, fitted once, with a prior or without one."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.learners.experienced import asked
from upstairs.learners.rule_estimators import RuleClassifier, RuleRegressor
from upstairs.learners.svm_estimator import SvmEstimator
from upstairs.prior import Prior

__all__ = ["PriorSVC", "PriorSVR"]


@final
class PriorSVC(SvmEstimator, RuleClassifier):
    """A support vector classifier that knows its settings, or its kernel and what to expect, from other tasks.

    Learned over tasks with the same columns: the kernel, the costs, and a decision function that the task starts from.
    Learned over tasks with different columns: how C, width, kernel and class weights follow from the data. On one task:
    one fit. Probabilities come from rows left out of the one fit and a slope learned over tasks.

    Parameters
    ----------
    prior : Prior, "tabular" or None
        From ``MetaSVM(...).meta_fit(tasks).prior_``; the one that ships, learned on hundreds of tables; or none: the
        plain classifier with the defaults of scikit-learn, on columns that are encoded and scaled.
    C : float, optional
        Cost of a violated margin.
    kernel : {"linear", "rbf", "poly"}, optional
    width : float, optional
        Width of the kernel in units of the median distance of two rows.
    gamma : float, "scale" or "auto", optional
        As in scikit-learn, instead of ``width``.
    degree, coef0 : optional
        Of the polynomial kernel.
    class_weight : "balanced", "equal" or mapping from labels, optional
    trials : int
        How many recommended settings are compared by cross-validation before the fit (experience only); 1: none.
    cv : int or float
        Folds, or a share of rows held out, for that.
    guard : bool
        Whether to fall back to the plain classifier where the rows speak against the prior.
    encode : bool
        Whether the columns of arrays are centred and scaled (without a prior on columns); data frames always are.
    random_state : int, optional
        For folds.

    None is always "from the prior", or scikit-learn's default without one.

    Attributes
    ----------
    classes_, settings_, familiarity_, used_prior_, guard_reason_, trials_, n_features_in_, feature_names_in_

    Examples
    --------
    >>> X, y = np.array([[0.0], [0.2], [1.0], [1.2]]), np.array(["a", "a", "b", "b"])
    >>> PriorSVC().fit(X, y).predict([[1.1]]).tolist()
    ['b']

    References
    ----------
    Cortes, C. and Vapnik, V. (1995). Support-vector networks. Machine Learning 20.
    """

    def __init__(
        self,
        prior: Prior | str | None = None,
        *,
        C: float | None = None,
        kernel: str | None = None,
        width: float | None = None,
        gamma: float | str | None = None,
        degree: int | None = None,
        coef0: float | None = None,
        class_weight: Any = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        encode: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.prior = prior  # type: ignore[assignment]
        self.C = C
        self.kernel = kernel
        self.width = width
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.class_weight = class_weight
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.encode = encode
        self.random_state = random_state

    def decision_function(self, X: Any) -> Float[np.ndarray, "row ..."]:
        """How strongly each row belongs to a class: above zero for ``classes_[1]`` of two, else one number a class."""
        found = asked(self, X, "decide")[0]
        return found[:, 1] if found.shape[1] == 2 else found

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Return the label of every row, by `decision_function` (class weights count)."""
        best = asked(self, X, "decide")[0].argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities (class weights do not count), in the order of ``classes_``."""
        return asked(self, X, "predict").probability[0]

    def _explicit(self) -> dict[str, Any]:
        names = ("C", "kernel", "width", "gamma", "degree", "coef0", "class_weight")
        return {name: getattr(self, name) for name in names}


@final
class PriorSVR(SvmEstimator, RuleRegressor):
    """A support vector regression that knows its settings, or its kernel and what to expect, from other tasks.

    Learned over tasks with the same columns: the kernel, the cost, epsilon, and a function that the task starts from.
    Learned over tasks with different columns: how C, width, kernel and epsilon follow from the data. On one task: one
    fit. The standard deviation of ``predict(X, return_std=True)`` is that of rows left out of the one fit.

    Parameters
    ----------
    prior : Prior, "tabular" or None
        From ``MetaSVM(...).meta_fit(tasks).prior_``; the one that ships, learned on hundreds of tables; or none: the
        plain regression with the defaults of scikit-learn, on columns and a target that are scaled.
    C : float, optional
        Cost of a residual, for a target of unit variance.
    epsilon : float, optional
        Residuals up to this cost nothing, in units of ``y``. Default without a prior: .1 standard deviations.
    kernel : {"linear", "rbf", "poly"}, optional
    width : float, optional
        Width of the kernel in units of the median distance of two rows.
    gamma : float, "scale" or "auto", optional
        As in scikit-learn, instead of ``width``.
    degree, coef0 : optional
        Of the polynomial kernel.
    trials, cv, guard, encode, random_state
        As for `PriorSVC`.

    Examples
    --------
    >>> X = np.linspace(0.0, 6.0, 30)[:, None]
    >>> model = PriorSVR(C=100.0).fit(X, np.sin(X[:, 0]))
    >>> bool(abs(model.predict([[1.5]])[0] - np.sin(1.5)) < 0.15)
    True

    References
    ----------
    Smola, A. and Schoelkopf, B. (2004). A tutorial on support vector regression. Statistics and Computing 14.
    """

    def __init__(
        self,
        prior: Prior | str | None = None,
        *,
        C: float | None = None,
        epsilon: float | None = None,
        kernel: str | None = None,
        width: float | None = None,
        gamma: float | str | None = None,
        degree: int | None = None,
        coef0: float | None = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        encode: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.prior = prior  # type: ignore[assignment]
        self.C = C
        self.epsilon = epsilon
        self.kernel = kernel
        self.width = width
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.encode = encode
        self.random_state = random_state

    def _predict_rows(self, X: Any) -> Any:
        return asked(self, X, "predict")

    def _explicit(self) -> dict[str, Any]:
        names = ("C", "epsilon", "kernel", "width", "gamma", "degree", "coef0")
        return {name: getattr(self, name) for name in names}
