"""scikit-learn's own checks, without a prior and (through a stand-in that finds the right one) with a prior."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

import upstairs as up
from upstairs.testing import PriorDouble, PriorShelf

PLAIN = [
    up.PriorNeuralNetworkRegressor(),
    up.PriorNeuralNetworkClassifier(),
    up.PriorNeuralNetworkClassifier(method="prototype"),
]
META = up.MetaNeuralNetwork(prior_mean="linear")
WITH_PRIOR = [
    PriorDouble(up.PriorNeuralNetworkRegressor(), PriorShelf(META, "regression")),
    PriorDouble(up.PriorNeuralNetworkClassifier(), PriorShelf(META, "shared")),
    PriorDouble(up.PriorNeuralNetworkClassifier(), PriorShelf(META, "own")),
]


@parametrize_with_checks(PLAIN, xfail_strict=True)
def test_without_prior(estimator, check):
    check(estimator)


@parametrize_with_checks(WITH_PRIOR, xfail_strict=True)
def test_with_prior(estimator, check):
    check(estimator)
