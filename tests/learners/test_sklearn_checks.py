"""scikit-learn's own checks, without a prior and (through a stand-in that finds the right one) with a prior."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import upstairs as up
from upstairs.testing import PriorDouble, PriorShelf

PLAIN = [
    up.PriorNeuralNetworkRegressor(),
    up.PriorNeuralNetworkClassifier(),
    up.PriorNeuralNetworkClassifier(method="prototype"),
    up.PriorGradientDescentRegressor(),
    up.PriorGradientDescentClassifier(),
    up.PriorSVR(),
    up.PriorSVC(),
    up.PriorSVC(kernel="linear"),
    up.PriorTreeRegressor(),
    up.PriorTreeClassifier(),
]
SHIPPED = [
    up.PriorSVR("tabular"),
    up.PriorSVC("tabular"),
    up.PriorTreeRegressor("tabular"),
    up.PriorTreeClassifier("tabular"),
]
META = up.MetaNeuralNetwork(prior_mean="linear")
MACHINE = up.MetaSVM(kernel="linear", prior_mean="linear")
TREE = up.MetaDecisionTree(prior_mean="none", structure="own")
DESCENT = up.MetaGradientDescent(steps=2, training=up.Training(steps=5))
WITH_PRIOR = [
    PriorDouble(up.PriorNeuralNetworkRegressor(), PriorShelf(META, "regression")),
    PriorDouble(up.PriorNeuralNetworkClassifier(), PriorShelf(META, "shared")),
    PriorDouble(up.PriorNeuralNetworkClassifier(), PriorShelf(META, "own")),
    PriorDouble(up.PriorGradientDescentRegressor(), PriorShelf(DESCENT, "regression")),
    PriorDouble(up.PriorSVR(), PriorShelf(MACHINE, "regression", 12)),
    PriorDouble(up.PriorTreeRegressor(), PriorShelf(TREE, "regression", 12)),
    PriorDouble(up.PriorTreeClassifier(), PriorShelf(TREE, "shared", 12)),
]


ONE_LABEL = {
    "check_classifiers_one_label": "labels are shared over tasks: a prior for classes 1 and 2 rightly goes on to "
    "predict 2 where ten rows of class 1 do not speak against it"
}


@pytest.fixture(autouse=True)
def _constructors_take_anything(monkeypatch):
    """Arguments are validated in ``fit``; the run-time type checks of the test suite would refuse them before."""
    named = [type(estimator) for estimator in PLAIN]
    for cls in {*named, PriorDouble}:
        monkeypatch.setattr(cls, "__init__", inspect.unwrap(cls.__init__))


FEW_STEPS = {
    "check_regressors_train": "two steps from a prior of 24 tiny tasks do not fit 200 rows of another task as closely as asked"
}


FEW_SPLITS = {
    "check_regressors_train": "a prior of tasks of twelve rows expects fewer and smaller splits than 200 rows of another task want"
}


SCALED = dict.fromkeys(
    ("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"),
    "columns, targets and probabilities are scaled by rows, whatever they weigh; weights are those of costs",
)


PURE = {
    "check_class_weight_classifiers": "leaves of a tree without bounds hold one class, whatever classes weigh; scikit-learn's own "
    "is given bounds for this check by an argument that is not here"
}


def _expected(estimator):
    if isinstance(estimator, up.PriorSVC | up.PriorSVR):
        sparse = isinstance(estimator, up.PriorSVC) and estimator.kernel == "linear"
        return SCALED if sparse else {name: said for name, said in SCALED.items() if "dense" in name}
    if isinstance(estimator, up.PriorTreeClassifier | up.PriorTreeRegressor):
        if estimator.prior is not None:
            return dict.fromkeys(list(SCALED)[:1], "data sets are described by their rows, whatever these weigh")
        return PURE if isinstance(estimator, up.PriorTreeClassifier) else {}
    if isinstance(estimator, PriorDouble) and isinstance(estimator.estimator, up.PriorGradientDescentRegressor):
        return FEW_STEPS
    if isinstance(estimator, PriorDouble) and isinstance(estimator.estimator, up.PriorTreeRegressor):
        return FEW_SPLITS
    if isinstance(estimator, PriorDouble) and isinstance(estimator.estimator, up.PriorTreeClassifier):
        return {}
    return ONE_LABEL if isinstance(estimator, PriorDouble) and estimator.priors.kind == "shared" else {}


@parametrize_with_checks(PLAIN, expected_failed_checks=_expected, xfail_strict=True)
def test_without_prior(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::upstairs.errors.FamiliarityWarning")
@parametrize_with_checks(SHIPPED, expected_failed_checks=_expected, xfail_strict=True)
def test_with_the_prior_that_ships(estimator, check):
    check(estimator)


@parametrize_with_checks(WITH_PRIOR, expected_failed_checks=_expected, xfail_strict=True)
def test_with_prior(estimator, check):
    check(estimator)


def test_the_stand_in_takes_the_prior_for_the_rows():
    double = WITH_PRIOR[1]
    X, y = np.random.default_rng(0).normal(size=(12, 3)), np.array(["no", "yes"])[np.arange(12) % 2]
    model = clone(double).fit(X, y)
    assert model.model_.prior is double.priors[3, ("no", "yes")]
    assert model.model_.used_prior_
    assert clone(double).fit(X[:, :2], y).model_.prior is double.priors[2, ("no", "yes")]
    assert hasattr(WITH_PRIOR[0], "partial_fit")
    assert not hasattr(double, "partial_fit")  # as for the estimator: no exact update of a logistic regression


def test_the_stand_in_takes_a_plain_mapping_too():
    prior = WITH_PRIOR[0].priors[3, ()]
    X = np.random.default_rng(0).normal(size=(12, 3))
    assert PriorDouble(up.PriorNeuralNetworkRegressor(), {(3, ()): prior}).fit(X, X[:, 0]).model_.prior is prior
    with pytest.raises(KeyError):
        PriorDouble(up.PriorNeuralNetworkRegressor(), {(3, ()): prior}).fit(X[:, :2], X[:, 0])
