"""The estimators that MetaGradientDescent makes: one task, trained by some steps of what was learned."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.logistic import BayesianLogistic
from upstairs.learners.adaptation import Situation
from upstairs.learners.rule_estimators import RuleClassifier, RuleRegressor, situation_of
from upstairs.prior import Prior

__all__ = ["PriorGradientDescentClassifier", "PriorGradientDescentRegressor"]


@final
class PriorGradientDescentRegressor(RuleRegressor):
    """A regression that is trained by a few learned steps.

    Learned over tasks: how to step, where to start, and the noise. On one task: the weights of a linear model or a
    network, by that many steps down half the mean squared error of its rows.

    Parameters
    ----------
    prior : Prior, optional
        From ``MetaGradientDescent(...).meta_fit(tasks).prior_``. None is the plain base learner: ridge regression with
        its strength chosen by maximum evidence.
    steps : int, optional
        Steps down the task. None: as many as the prior was learned for.
    net : module of Equinox or Flax NNX, optional
        Your own network, if the prior was learned with one.
    guard : bool
        Whether to fall back to the plain base learner when the support rows clearly speak against the prior.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(6.0)[:, None], np.arange(6.0)
    >>> model = PriorGradientDescentRegressor().fit(X, y)
    >>> bool(abs(model.predict([[3.0]])[0] - 3.0) < 0.1)
    True
    """

    _family = "gradient-descent"

    def __init__(
        self, prior: Prior | None = None, *, steps: int | None = None, net: Any = None, guard: bool = False
    ) -> None:
        self.prior = prior
        self.steps = steps
        self.net = net
        self.guard = guard

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        return _with_steps(situation_of(self.prior, self.net), self.steps)

    def _situation_without_prior(self) -> Situation:
        _check_steps(self.steps)
        return Situation(BayesianLinear(), BayesianLinear(), None, None, 0)


@final
class PriorGradientDescentClassifier(RuleClassifier):
    """A classifier that is trained by a few learned steps.

    Learned over tasks: how to step, and where to start. On one task: the weights of a softmax regression or a network,
    by that many steps down the mean log loss of its rows.

    Parameters
    ----------
    prior : Prior, optional
        From ``MetaGradientDescent(...).meta_fit(tasks).prior_``. None is the plain base learner: logistic (softmax)
        regression with its strength chosen by maximum evidence.
    steps, net, guard
        As for `PriorGradientDescentRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0.0], [0.2], [1.0], [1.2]]), np.array(["a", "a", "b", "b"])
    >>> PriorGradientDescentClassifier().fit(X, y).predict([[1.1]]).tolist()
    ['b']
    """

    _family = "gradient-descent"

    def __init__(
        self, prior: Prior | None = None, *, steps: int | None = None, net: Any = None, guard: bool = False
    ) -> None:
        self.prior = prior
        self.steps = steps
        self.net = net
        self.guard = guard

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        return _with_steps(situation_of(self.prior, self.net), self.steps)

    def _situation_without_prior(self) -> Situation:
        _check_steps(self.steps)
        return Situation(BayesianLogistic(), BayesianLogistic(), None, None, 0)


def _with_steps(situation: Situation, steps: int | None) -> Situation:
    """Put a number of steps over the one that was learned."""
    _check_steps(steps)
    traced: Any = situation.rule
    if steps is None or steps == traced.rule.steps:
        return situation
    return dataclasses.replace(
        situation, rule=dataclasses.replace(traced, rule=dataclasses.replace(traced.rule, steps=int(steps)))
    )


def _check_steps(steps: Any) -> None:
    if steps is not None and not (isinstance(steps, int) and steps >= 1):
        raise ValueError(f"steps must be a whole number of at least 1 or None (from the prior), but is {steps!r}.")
