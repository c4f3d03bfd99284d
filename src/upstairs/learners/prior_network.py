"""The estimators that MetaNeuralNetwork makes: one task, learned from a prior or without one."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri
from sklearn.base import ClassifierMixin, RegressorMixin

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.rule import Categorical, Gaussian
from upstairs.learners.adaptation import Situation
from upstairs.learners.base import PriorEstimator
from upstairs.learners.rules import CLOSED, METHODS, plain_rule, rule_from
from upstairs.outer.calibrate import interpolate
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder

__all__ = ["PriorNeuralNetworkClassifier", "PriorNeuralNetworkRegressor"]

_read: weakref.WeakKeyDictionary[Prior, tuple[Any, Situation]] = weakref.WeakKeyDictionary()


def _situation(prior: Prior, net: Any) -> Situation:
    """Read a prior once; the result is kept as long as the prior lives and is asked for with the same network."""
    known = _read.get(prior)
    if known is None or known[0] is not net:
        settings = prior.settings
        center, scale = settings["target"]
        situation = Situation(
            rule_from(settings, net),
            plain_rule(settings["rule"], settings["kind"], settings["labels"]),
            prior.group("params"),
            Encoder.from_spec(settings["encoder"]),
            len(settings["classes"]) if settings["labels"] == "shared" else 0,
            center,
            scale,
            prior.group("tables"),
        )
        known = net, situation
        _read[prior] = known
    return known[1]


@final
class PriorNeuralNetworkRegressor(RegressorMixin, PriorEstimator):
    """Bayesian linear regression on learned features: the prior over its weights comes from other tasks.

    Learned over tasks: mean and covariance of the weights, the noise, and (where it helps) a pooled model whose
    prediction the task starts from. On one task: the posterior of the weights, in closed form.

    Parameters
    ----------
    prior : Prior, optional
        From ``MetaNeuralNetwork(...).meta_fit(tasks).prior_``. None is the plain base learner: ridge regression with
        its strength chosen by maximum evidence.
    prior_weight : float, optional
        How many times the prior counts (above 1: trust it more). None: as learned, 1.
    noise : float, optional
        Standard deviation of the noise, in units of ``y``. None: as learned (without a prior: by maximum evidence).
    net : module of Equinox or Flax NNX, optional
        Your own network, if the prior was learned with one; it is a template whose arrays the prior fills.
    guard : bool
        Whether to fall back to the plain base learner when the support rows clearly speak against the prior.

    Examples
    --------
    >>> X, y = np.arange(6.0)[:, None], np.arange(6.0)
    >>> model = PriorNeuralNetworkRegressor().fit(X, y)
    >>> bool(abs(model.predict([[3.0]])[0] - 3.0) < 0.1)
    True

    References
    ----------
    Harrison, J., Sharma, A. and Pavone, M. (2018). Meta-learning priors for efficient online Bayesian regression.
    """

    _family = "neural-network"
    _kind = "regression"

    def __init__(
        self,
        prior: Prior | None = None,
        *,
        prior_weight: float | None = None,
        noise: float | None = None,
        net: Any = None,
        guard: bool = False,
    ) -> None:
        self.prior = prior
        self.prior_weight = prior_weight
        self.noise = noise
        self.net = net
        self.guard = guard

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the mean of every row.

        Parameters
        ----------
        X : array of shape (row, feature) or data frame
        return_std : bool
            Whether to return the standard deviation of a new observation, noise included, too.

        Returns
        -------
        array of shape (row,), or a pair of them
        """
        predicted = self._predict_rows(X)
        assert isinstance(predicted, Gaussian)
        center, scale = self._situation_.center, self._situation_.scale
        mean = predicted.mean[0] * scale + center
        return (mean, np.sqrt(predicted.variance[0]) * scale) if return_std else mean

    def predict_interval(self, X: Any, coverage: float = 0.9) -> Float[np.ndarray, "row 2"]:
        """Lower and upper end of the interval in which a new observation lies with probability ``coverage``.

        With a prior the width of `predict`'s normal distribution is corrected by a factor, learned on validation
        tasks at this number of support rows, with which 90 % intervals cover 90 % of the rows of an average task.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 1.
        """
        if not 0.0 < coverage < 1.0:
            raise ValueError(f"coverage must lie between 0 and 1, but is {coverage}; 0.9 is usual.")
        mean, std = self.predict(X, return_std=True)
        adapted = self._fitted()
        if adapted.used_prior:
            std = std * interpolate(self._situation_.tables, "calibration", adapted.rows, default=1.0)
        reach = float(ndtri(0.5 + coverage / 2)) * std
        return np.column_stack([mean - reach, mean + reach])

    def _settings(self, scale: float) -> dict[str, float]:
        _check_positive("prior_weight", self.prior_weight)
        _check_positive("noise", self.noise)
        given = {"prior_weight": self.prior_weight, "noise": None if self.noise is None else self.noise / scale}
        return {name: float(value) for name, value in given.items() if value is not None}

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        situation = _situation(self.prior, self.net)
        return dataclasses.replace(situation, settings=self._settings(situation.scale))

    def _situation_without_prior(self) -> Situation:
        return Situation(BayesianLinear(), BayesianLinear(), None, None, 0, settings=self._settings(1.0))

    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        return (y - situation.center) / situation.scale

    def _more_targets(self, y: np.ndarray) -> np.ndarray:
        return (y - self._situation_.center) / self._situation_.scale


@final
class PriorNeuralNetworkClassifier(ClassifierMixin, PriorEstimator):
    """A classifier whose weights (or class means) have a prior that comes from other tasks.

    Learned over tasks: for labels that tasks share, mean and covariance of the weights of a logistic (softmax)
    regression and a pooled model that the task starts from; for labels of a task's own, the metric in which class
    means are compared. On one task: Laplace's approximation around the prior, or the class means.

    Parameters
    ----------
    prior : Prior, optional
        From ``MetaNeuralNetwork(...).meta_fit(tasks).prior_``. None is the plain base learner.
    method : str, optional
        None: the prior's, and without a prior ``"bayesian-linear"`` (logistic regression); the other without a prior
        is ``"prototype"``.
    prior_weight : float, optional
        How many times the prior counts. None: as learned, 1.
    net : module of Equinox or Flax NNX, optional
        Your own network, if the prior was learned with one; it is a template whose arrays the prior fills.
    guard : bool
        Whether to fall back to the plain base learner when the support rows clearly speak against the prior.

    Examples
    --------
    >>> X, y = np.array([[0.0], [0.2], [1.0], [1.2]]), np.array(["a", "a", "b", "b"])
    >>> PriorNeuralNetworkClassifier().fit(X, y).predict([[1.1]]).tolist()
    ['b']

    References
    ----------
    Snell, J., Swersky, K. and Zemel, R. (2017). Prototypical networks for few-shot learning.
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian processes for machine learning, chapter 3.
    """

    _family = "neural-network"
    _kind = "classification"

    def __init__(
        self,
        prior: Prior | None = None,
        *,
        method: str | None = None,
        prior_weight: float | None = None,
        net: Any = None,
        guard: bool = False,
    ) -> None:
        self.prior = prior
        self.method = method
        self.prior_weight = prior_weight
        self.net = net
        self.guard = guard

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities, in the order of ``classes_``."""
        predicted = self._predict_rows(X)
        assert isinstance(predicted, Categorical)
        return predicted.probability[0]

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Return the most probable label of every row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _method(self) -> str:
        if self.method is not None and self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)} or None, but is {self.method!r}.")
        if self.prior is None:
            if self.method not in (None, *CLOSED):
                raise ValueError(f"method={self.method!r} needs a prior; without one use {' or '.join(CLOSED)}.")
            return self.method or "bayesian-linear"
        learned = str(self.prior.settings["rule"])
        if self.method not in (None, learned):
            raise PriorMismatchError(
                f"method={self.method!r} asks for another rule than the prior was learned for ({learned!r}); "
                "leave it at None, or learn a prior with that method."
            )
        return learned

    def _settings(self) -> dict[str, float]:
        _check_positive("prior_weight", self.prior_weight)
        return {} if self.prior_weight is None else {"prior_weight": float(self.prior_weight)}

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        self._method()
        return dataclasses.replace(_situation(self.prior, self.net), settings=self._settings())

    def _situation_without_prior(self) -> Situation:
        rule = plain_rule(self._method(), "classification")
        return Situation(rule, rule, None, None, 0, settings=self._settings())

    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        if self.prior is not None and self.prior.settings["labels"] == "shared":
            self.classes_ = np.asarray(self.prior.settings["classes"])
            return self._more_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            where = "labels of a task's own" if self.prior is not None else "a classifier without a prior"
            raise TaskError(
                f"The support ({len(y)} rows) holds one class, {self.classes_.tolist()[0]!r}, but {where} need at least 2; "
                "add rows of another class."
            )
        return codes

    def _more_targets(self, y: np.ndarray) -> np.ndarray:
        number = {label: code for code, label in enumerate(self.classes_.tolist())}
        codes = [number.get(label, -1) for label in y.tolist()]
        if -1 in codes:
            unknown = y.tolist()[codes.index(-1)]
            raise PriorMismatchError(
                f"Label {unknown!r} is unknown: this task's labels are {', '.join(map(repr, self.classes_.tolist()[:10]))}; "
                "correct the label, or learn a prior on tasks that have it."
            )
        return np.array(codes, dtype=np.int64)


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number or None (from the prior), but is {value!r}.")
