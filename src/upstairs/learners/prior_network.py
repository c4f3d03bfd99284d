"""The estimators that MetaNeuralNetwork makes: one task, learned from a prior or without one."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import numpy as np

from upstairs.errors import PriorMismatchError
from upstairs.inner.gaussian import BayesianLinear
from upstairs.learners.adaptation import Situation
from upstairs.learners.rule_estimators import RuleClassifier, RuleRegressor, situation_of
from upstairs.learners.rules import CLOSED, METHODS, plain_rule
from upstairs.prior import Prior

__all__ = ["PriorNeuralNetworkClassifier", "PriorNeuralNetworkRegressor"]


@final
class PriorNeuralNetworkRegressor(RuleRegressor):
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

    def _settings(self, scale: float) -> dict[str, float]:
        _check_positive("prior_weight", self.prior_weight)
        _check_positive("noise", self.noise)
        given = {"prior_weight": self.prior_weight, "noise": None if self.noise is None else self.noise / scale}
        return {name: float(value) for name, value in given.items() if value is not None}

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        situation = situation_of(self.prior, self.net)
        return dataclasses.replace(situation, settings=self._settings(situation.scale))

    def _situation_without_prior(self) -> Situation:
        return Situation(BayesianLinear(), BayesianLinear(), None, None, 0, settings=self._settings(1.0))


@final
class PriorNeuralNetworkClassifier(RuleClassifier):
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
        return dataclasses.replace(situation_of(self.prior, self.net), settings=self._settings())

    def _situation_without_prior(self) -> Situation:
        rule = plain_rule(self._method(), "classification")
        return Situation(rule, rule, None, None, 0, settings=self._settings())


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number or None (from the prior), but is {value!r}.")
