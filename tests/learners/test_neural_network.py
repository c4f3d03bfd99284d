"""MetaNeuralNetwork and its estimators: what they predict, whose word counts, and what they refuse."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtri
from sklearn.exceptions import NotFittedError

import upstairs as up
from upstairs.inner.gaussian import posterior
from upstairs.outer.calibrate import interpolate
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.synthetic import SharedSubspace
from upstairs.testing import cases_for

LINEAR = up.MetaNeuralNetwork(prior_mean="linear")


@pytest.fixture(scope="module")
def cases():
    return {case.name: case for case in cases_for(LINEAR)}


@pytest.fixture(scope="module")
def metas(cases):
    few = cases["shared"].train
    shared = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(few[3:], validation=few[:3])
    return {"shared": shared} | {name: cases[name].fitted(LINEAR) for name in ("regression", "own")}


@pytest.fixture(scope="module")
def framed():
    """Doses at three clinics: a named number column, a category that matters, and a missing cell here and there."""
    rng = np.random.default_rng(0)
    tasks = []
    for number in range(20):
        age, clinic = rng.normal(50, 10, size=12), rng.choice(["north", "south"], size=12)
        y = 0.1 * age + 2.0 * (clinic == "north") + rng.normal() + 0.1 * rng.normal(size=12)
        age[number % 12] = np.nan if number % 4 == 0 else age[number % 12]
        tasks.append(up.Task(pd.DataFrame({"age": age, "clinic": clinic}), y, name=f"p{number:02d}"))
    return up.TaskSet(tasks), up.MetaNeuralNetwork(prior_mean="linear").meta_fit(tasks)


def _few(case, number=0, shots=None):
    return case.few(number, shots=shots)


def _encoded(meta, X):
    return Encoder.from_spec(meta.prior_.settings["encoder"]).encode(X)


def _with_one(x):
    return np.column_stack([np.ones(len(x)), x])


# --- predictions ----------------------------------------------------------------------------------------------------
def test_regression_is_the_closed_form_posterior(cases, metas):
    meta, few = metas["regression"], _few(cases["regression"])
    arrays = meta.prior_.group("params")
    assert len(arrays["weight"]) == 1
    center, scale = meta.prior_.settings["target"]
    spread = arrays["factor"][0] @ arrays["factor"][0].T
    noise = float(arrays["noise"][0])
    phi = _with_one(_encoded(meta, few.X))
    mean, covariance = posterior(arrays["mean"][0], spread, noise, phi, (few.y - center) / scale)
    new = _with_one(_encoded(meta, few.X_query))
    got, std = meta.adapt(few.X, few.y).predict(few.X_query, return_std=True)
    assert_allclose(got, new @ mean * scale + center, rtol=1e-9)
    variance = np.einsum("np,pq,nq->n", new, covariance, new) + noise
    assert_allclose(std, np.sqrt(variance) * scale, rtol=1e-7)


def test_interval_is_normal_corrected_and_covers(cases, metas):
    case, meta = cases["regression"], metas["regression"]
    inside = []
    for number in range(len(case.test)):
        few = _few(case, number)
        model = meta.adapt(few.X, few.y)
        interval = model.predict_interval(few.X_query, coverage=0.8)
        mean, std = model.predict(few.X_query, return_std=True)
        reach = ndtri(0.9) * std * interpolate(meta.prior_.group("tables"), "calibration", len(few.y), default=np.nan)
        assert_allclose(interval, np.column_stack([mean - reach, mean + reach]), rtol=1e-12)
        inside.append(((few.y_query >= interval[:, 0]) & (few.y_query <= interval[:, 1])).mean())
    assert 0.7 < np.mean(inside) < 0.9


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90])
def test_interval_refuses_a_coverage_that_is_no_share(metas, cases, coverage):
    few = _few(cases["regression"])
    with pytest.raises(ValueError, match="coverage must lie between 0 and 1"):
        metas["regression"].adapt(few.X, few.y).predict_interval(few.X_query, coverage=coverage)


def test_without_rows_the_prior_mean_predicts(cases, metas):
    meta, few = metas["regression"], _few(cases["regression"])
    center, scale = meta.prior_.settings["target"]
    want = _with_one(_encoded(meta, few.X_query)) @ meta.prior_.arrays["params/mean"][0] * scale + center
    cold = meta.adapt_zero(like=few.X_query)
    assert_allclose(cold.predict(few.X_query), want, rtol=1e-9)
    assert cold.familiarity_ is None
    assert cold.used_prior_


@pytest.mark.parametrize("name", ["shared", "own"])
def test_probabilities_sum_to_one_and_agree_with_predict(cases, metas, name):
    few = _few(cases[name])
    model = metas[name].adapt(few.X, few.y)
    probability = model.predict_proba(few.X_query)
    assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-12)
    assert_array_equal(model.predict(few.X_query), model.classes_[probability.argmax(axis=1)])
    assert model.score(few.X_query, few.y_query) > 0.6


def test_without_prior_it_is_ridge_and_knows_no_familiarity():
    X = np.random.default_rng(0).normal(size=(50, 2))
    model = up.PriorNeuralNetworkRegressor().fit(X, X @ [1.0, -2.0] + 3.0)
    assert_allclose(model.predict([[1.0, 1.0]]), [2.0], atol=1e-3)
    assert model.familiarity_ is None
    assert not model.used_prior_
    assert not hasattr(model, "partial_fit")


@pytest.mark.parametrize("estimator", [up.PriorNeuralNetworkRegressor(), up.PriorNeuralNetworkClassifier()])
def test_predict_before_fit(estimator):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        estimator.predict([[1.0]])
    with pytest.raises(NotFittedError):
        _ = estimator.familiarity_


# --- whose word counts ----------------------------------------------------------------------------------------------
def test_explicit_noise_wins(cases, metas):
    meta, few = metas["regression"], _few(cases["regression"])
    scale = meta.prior_.settings["target"][1]
    learned = float(np.sqrt(meta.prior_.arrays["params/noise"][0])) * scale
    same = meta.learner(noise=learned).fit(few.X, few.y).predict(few.X_query)
    assert_allclose(same, meta.adapt(few.X, few.y).predict(few.X_query), rtol=1e-9)
    _, std = meta.learner(noise=50.0).fit(few.X, few.y).predict(few.X_query, return_std=True)
    assert (std >= 50.0).all()


@pytest.mark.parametrize("name", ["regression", "shared"])
def test_prior_weight_goes_from_the_rows_to_the_prior(cases, metas, name):
    meta, few = metas[name], _few(cases[name])
    ask = "predict_proba" if name == "shared" else "predict"
    learned = getattr(meta.adapt(few.X, few.y), ask)(few.X_query)
    one = getattr(meta.learner(prior_weight=1.0).fit(few.X, few.y), ask)(few.X_query)
    assert_array_equal(one, learned)
    heavy = getattr(meta.learner(prior_weight=1e9).fit(few.X, few.y), ask)(few.X_query)
    far = np.abs(heavy - learned).max()
    want = meta.prior_.arrays["params/mean"][0]
    phi = _with_one(_encoded(meta, few.X_query))
    if name == "shared":
        assert_allclose(heavy[:, 1], 1 / (1 + np.exp(-phi @ want[0])), atol=1e-5)
    else:
        center, scale = meta.prior_.settings["target"]
        assert_allclose(heavy, phi @ want * scale + center, atol=1e-5)
    assert far > 0.01


def test_what_the_user_sets_does_not_change_familiarity(cases, metas):
    few = _few(cases["regression"])
    plain = metas["regression"].adapt(few.X, few.y).familiarity_
    for settings in ({"noise": 0.01}, {"prior_weight": 5.0}):
        assert metas["regression"].learner(**settings).fit(few.X, few.y).familiarity_ == plain


@pytest.mark.parametrize("settings", [{"prior_weight": 0.0}, {"prior_weight": np.inf}, {"noise": -1.0}])
@pytest.mark.parametrize("with_prior", [True, False])
def test_settings_must_be_positive(cases, metas, settings, with_prior):
    few, name = _few(cases["regression"]), next(iter(settings))
    learner = metas["regression"].learner(**settings)
    with pytest.raises(ValueError, match=f"{name} must be a positive number"):
        learner.set_params(prior=learner.prior if with_prior else None).fit(few.X, few.y)


# --- labels ---------------------------------------------------------------------------------------------------------
def test_shared_labels_accept_one_class_and_keep_all(cases, metas):
    few = _few(cases["shared"])
    keep = few.y == few.y[0]
    model = metas["shared"].adapt(few.X[keep], few.y[keep])
    assert_array_equal(model.classes_, [0, 1])
    assert model.predict_proba(few.X_query).shape == (len(few.X_query), 2)


def test_own_labels_need_two_classes(cases, metas):
    few = _few(cases["own"])
    keep = few.y == few.y[0]
    with pytest.raises(up.TaskError, match=r"holds one class, '.*', but labels of a task's own need at least 2"):
        metas["own"].adapt(few.X[keep], few.y[keep])
    with pytest.raises(up.TaskError, match="a classifier without a prior"):
        up.PriorNeuralNetworkClassifier().fit(few.X[keep], few.y[keep])


def test_an_unknown_shared_label_is_named(cases, metas):
    few = _few(cases["shared"])
    with pytest.raises(up.PriorMismatchError, match=r"Label 7 is unknown: this task's labels are 0, 1"):
        metas["shared"].adapt(few.X, np.where(np.arange(len(few.y)) == 2, 7, few.y))


@pytest.mark.parametrize("names", [["no", "yes"], [False, True], [3.0, 4.0], [-5, 12]])
def test_classes_keep_their_values(names):
    X = np.array([[0.0], [0.1], [1.0], [1.1]])
    y = np.array(names)[[0, 0, 1, 1]]
    for method in (None, "prototype"):
        model = up.PriorNeuralNetworkClassifier(method=method).fit(X, y)
        assert_array_equal(model.classes_, np.array(names))
        assert_array_equal(model.predict(X), y)


# --- the wrong prior ------------------------------------------------------------------------------------------------
def test_wrong_priors_are_refused(cases, metas):
    few = _few(cases["regression"])
    prior = metas["regression"].prior_
    with pytest.raises(up.PriorMismatchError, match=r"learned on regression tasks, but PriorNeuralNetworkClassifier"):
        up.PriorNeuralNetworkClassifier(prior).fit(few.X, few.y > 0)
    foreign = up.Prior("svm", prior.settings, prior.arrays)
    with pytest.raises(up.PriorMismatchError, match=r"family 'svm', but PriorNeuralNetworkRegressor reads"):
        up.PriorNeuralNetworkRegressor(foreign).fit(few.X, few.y)
    with pytest.raises(up.PriorMismatchError, match=r"prior must be a Prior .* but is a MetaNeuralNetwork"):
        up.PriorNeuralNetworkRegressor().set_params(prior=metas["regression"]).fit(few.X, few.y)


def test_method_must_be_known_and_that_of_the_prior(cases, metas):
    few = _few(cases["shared"])
    with pytest.raises(ValueError, match="method must be one of bayesian-linear, prototype, maml"):
        up.PriorNeuralNetworkClassifier().set_params(method="mamal").fit(few.X, few.y)
    with pytest.raises(ValueError, match="method='maml' needs a prior"):
        up.PriorNeuralNetworkClassifier().set_params(method="maml").fit(few.X, few.y)
    with pytest.raises(up.PriorMismatchError, match="method='prototype' asks for another rule"):
        metas["shared"].learner(method="prototype").fit(few.X, few.y)


def test_targets_of_two_columns_are_refused(metas, cases):
    few = _few(cases["regression"])
    with pytest.raises(up.TaskError, match="y has 2 columns"):
        metas["regression"].adapt(few.X, np.column_stack([few.y, few.y]))


# --- guard and familiarity ------------------------------------------------------------------------------------------
def test_guard_says_why(cases, metas):
    case, learner = cases["regression"], metas["regression"].learner(guard=True)
    few = _few(case, shots=3)
    assert "3 rows are too few to tell" in learner.fit(few.X, few.y).guard_reason_
    few = _few(case, shots=20)
    model = learner.fit(few.X, few.y)
    assert model.used_prior_
    assert model.guard_reason_.startswith("kept the prior: rows say")
    assert metas["regression"].adapt(few.X, few.y).guard_reason_ == ""


def test_guard_falls_back_to_the_base_learner(cases, metas):
    meta = metas["regression"]
    task = SharedSubspace(features=4, rank=1, seed=9).sample(1, 40, random_state=0)[0]
    X, y = task.X[:20], -20.0 * task.y[:20]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", up.FamiliarityWarning)
        model = meta.learner(guard=True).fit(X, y)
    assert not model.used_prior_
    assert model.guard_reason_.startswith("dropped the prior: rows say -")
    plain = up.PriorNeuralNetworkRegressor().fit(X, y)
    for got, want in zip(
        model.predict(task.X[20:], return_std=True), plain.predict(task.X[20:], return_std=True), strict=True
    ):
        assert_allclose(got, want, rtol=1e-5)
    with pytest.raises(up.PriorMismatchError, match="guard=True dropped it"):
        model.partial_fit(X, y)


def test_a_foreign_task_warns_once_and_a_related_one_does_not(cases, metas):
    few = _few(cases["regression"])
    with pytest.warns(up.FamiliarityWarning, match=r"This task \(5 rows\) fits the prior worse") as caught:
        model = metas["regression"].adapt(few.X, few.y + 1000.0)
    assert len(caught) == 1
    assert model.familiarity_ == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0.5 < metas["regression"].adapt(few.X, few.y).familiarity_ <= 100.0


# --- many tasks at once, and more rows ------------------------------------------------------------------------------
@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("name", ["regression", "shared", "own"])
def test_adapt_many_equals_adapt_over_unequal_sizes(cases, metas, name, guard):
    case = cases[name]
    meta = up.MetaNeuralNetwork(prior_mean="linear", guard=guard)
    meta.prior_ = metas[name].prior_
    some = [_few(case, number, shots) for number, shots in enumerate((1, 4, 2, 9, 12, 5))]
    many = meta.adapt_many([up.Task(few.X, few.y, name=f"t{n}", kind=case.test.kind) for n, few in enumerate(some)])
    for few, model in zip(some, many, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", up.FamiliarityWarning)
            alone = meta.adapt(few.X, few.y)
        ask = "predict" if name == "regression" else "predict_proba"
        assert_allclose(getattr(model, ask)(few.X_query), getattr(alone, ask)(few.X_query), rtol=1e-8, atol=1e-10)
        assert (model.used_prior_, model.guard_reason_) == (alone.used_prior_, alone.guard_reason_)
        assert model.familiarity_ == pytest.approx(alone.familiarity_)
        assert model.n_features_in_ == alone.n_features_in_
        if name != "regression":
            assert_array_equal(model.classes_, alone.classes_)


def test_adapt_many_of_nothing(metas):
    assert metas["regression"].adapt_many([]) == []


def test_adapt_many_names_the_task_with_other_columns(cases, metas):
    tasks = [cases["regression"].test[0], up.Task(np.ones((3, 2)), np.arange(3.0), name="narrow")]
    with pytest.raises(up.PriorMismatchError, match="'narrow' has 2 features"):
        metas["regression"].adapt_many(tasks)


@pytest.mark.parametrize("name", ["regression", "own"])
def test_partial_fit_row_by_row_equals_fit(cases, metas, name):
    few = _few(cases[name])
    order = np.argsort(np.arange(len(few.y)) % 2, kind="stable")  # every own class is met at first
    X, y = few.X[order], few.y[order]
    model = metas[name].learner().partial_fit(X[: len(y) // 2], y[: len(y) // 2], classes=np.unique(y))
    for row in range(len(y) // 2, len(y)):
        model.partial_fit(X[[row]], y[[row]])
    ask = "predict" if name == "regression" else "predict_proba"
    want = getattr(metas[name].adapt(X, y), ask)(few.X_query)
    assert_allclose(getattr(model, ask)(few.X_query), want, rtol=1e-8, atol=1e-10)


def test_partial_fit_refuses_a_new_class_and_is_absent_for_logistic_regression(cases, metas):
    few = _few(cases["own"])
    with pytest.raises(up.PriorMismatchError, match="Label 'new' is unknown"):
        metas["own"].adapt(few.X, few.y).partial_fit(few.X[:1], np.array(["new"]))
    assert not hasattr(metas["shared"].learner(), "partial_fit")


# --- columns --------------------------------------------------------------------------------------------------------
def test_frames_go_by_name_and_arrays_by_position(framed):
    _, meta = framed
    frame = pd.DataFrame({"age": [40.0, 60.0, np.nan], "clinic": ["north", "south", "west"]})
    y = np.array([6.2, 6.2, 5.2])
    model = meta.adapt(frame, y)
    want = model.predict(frame)
    assert np.isfinite(want).all()
    turned = frame[["clinic", "age"]]
    assert_array_equal(meta.adapt(turned, y).predict(frame), want)
    assert_array_equal(model.predict(turned), want)
    assert_array_equal(meta.adapt(pl.from_pandas(frame, nan_to_null=True), y).predict(frame), want)
    assert_array_equal(meta.adapt_many([(turned, y)])[0].predict(frame), want)
    assert_array_equal(model.feature_names_in_, ["age", "clinic"])
    assert model.n_features_in_ == 2


def test_missing_and_unknown_columns_are_named(framed):
    _, meta = framed
    frame = pd.DataFrame({"age": [40.0, 60.0], "clinic": ["north", "south"]})
    with pytest.raises(up.PriorMismatchError, match="column 'clinic' is missing"):
        meta.adapt(frame[["age"]], [1.0, 2.0])
    with pytest.raises(up.PriorMismatchError, match="column 'sex' is unknown to the prior"):
        meta.adapt(frame.assign(sex=1.0), [1.0, 2.0])
    with pytest.raises(up.PriorMismatchError, match="column 'age' held numbers"):
        meta.adapt(frame.assign(age=["young", "old"]), [1.0, 2.0])
    with pytest.raises(up.PriorMismatchError, match="column 'clinic' is missing"):
        meta.adapt_zero(like=frame[["age"]])


def test_named_numbers_also_come_as_arrays():
    family = SharedSubspace(features=3, rank=1)
    tasks = family.sample(12, 10, random_state=0)
    by_name = tasks.map(lambda t: up.Task(pd.DataFrame(t.X, columns=list("abc")), t.y, name=t.name))
    meta, plain = (up.MetaNeuralNetwork(prior_mean="linear").meta_fit(some) for some in (by_name, tasks))
    few = family.sample(1, 8, random_state=3)[0]
    got = meta.adapt(few.X[:4], few.y[:4]).predict(few.X[4:])
    assert_allclose(got, plain.adapt(few.X[:4], few.y[:4]).predict(few.X[4:]), rtol=1e-9)


# --- meta_fit -------------------------------------------------------------------------------------------------------
def test_meta_fit_refuses_what_it_cannot_learn(cases):
    regression, shared, own = (cases[name].train for name in ("regression", "shared", "own"))
    for meta, tasks, said in (
        (up.MetaNeuralNetwork("prototype"), regression, "are a regression"),
        (up.MetaNeuralNetwork("prototype"), shared, "share their labels"),
        (up.MetaNeuralNetwork("bayesian-linear"), own, "labels of their own"),
    ):
        with pytest.raises(up.TaskError, match=said):
            meta.meta_fit(tasks)
    for settings, said in (
        ({"method": "mamal"}, "method must be"),
        ({"prior_mean": "quadratic"}, "prior_mean must be"),
        ({"shots": (5, 2)}, "shots must be"),
        ({"categorical": ["colour"]}, "categorical='colour' is not a column"),
    ):
        with pytest.raises(ValueError, match=said):
            up.MetaNeuralNetwork().set_params(**settings).meta_fit(regression)


def test_validation_tasks_must_be_others_of_the_same_kind(cases):
    regression, shared, own = (cases[name].train for name in ("regression", "shared", "own"))
    with pytest.raises(up.TaskError, match=r"'subspace-\d+' stands in tasks and in validation"):
        LINEAR.meta_fit(regression[:10], validation=regression[9:])
    with pytest.raises(up.TaskError, match="tasks are a regression and validation is a classification"):
        LINEAR.meta_fit(regression, validation=shared)
    with pytest.raises(up.TaskError, match="must both be"):
        LINEAR.meta_fit(regression, validation=own)


def test_validation_tasks_serve_the_choices(cases):
    tasks = cases["regression"].train
    meta = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(tasks[:25], validation=tasks[25:])
    assert meta.prior_.provenance["tasks"] == 25
    assert "familiarity/scores" in meta.prior_.group("tables")


def test_meta_partial_fit_refuses_old_names_other_kinds_and_new_labels(cases):
    regression, shared = cases["regression"].train, cases["shared"].train
    meta = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(regression[:10])
    with pytest.raises(up.TaskError, match="was learned already"):
        meta.meta_partial_fit(regression[9:12])
    with pytest.raises(up.TaskError, match="learned on regression tasks, but these are a classification"):
        meta.meta_partial_fit(shared)
    meta = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(shared[:9], validation=shared[9:10])
    third = shared[11:14].map(lambda task: up.Task(task.X, task.y + 5, name=task.name, kind="classification"))
    with pytest.raises(up.TaskError, match=r"Label 5 is unknown to the prior"):
        meta.meta_partial_fit(third)


def test_plain_learner_has_no_prior_and_learner_takes_settings(metas):
    assert metas["shared"].plain_learner("classification").prior is None
    learner = metas["regression"].learner(noise=2.0, guard=True)
    assert (learner.prior, learner.noise, learner.guard) == (metas["regression"].prior_, 2.0, True)


def test_own_labels_refuse_a_prediction_without_rows(metas):
    with pytest.raises(up.PriorMismatchError, match="labels of their own"):
        metas["own"].adapt_zero()


def test_three_shared_classes():
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(3, 2))
    tasks = []
    for number in range(16):
        y = np.arange(15) % 3
        X = centres[y] + rng.normal(size=2) + 0.5 * rng.normal(size=(15, 2))
        tasks.append(up.Task(X, np.array(["high", "low", "mid"])[y], name=f"t{number:02d}"))
    meta = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(tasks[:12], validation=tasks[13:15])
    task = tasks[12]
    two = task.y != "mid"  # a task need not show every label
    model = meta.adapt(task.X[two], task.y[two])
    assert_array_equal(model.classes_, ["high", "low", "mid"])
    assert (meta.adapt(task.X[:6], task.y[:6]).predict(task.X[6:]) == task.y[6:]).mean() > 0.7


def test_images_go_in_as_images():
    pool = up.tasks.bundled.digits()
    train, _, test = pool.split(valid=0.2, test=0.3, random_state=0)
    meta = up.MetaNeuralNetwork("prototype").meta_fit(train)
    rows = np.concatenate([np.flatnonzero(test.y == label)[:3] for label in test.classes])
    model = meta.adapt(test.X[rows], test.y[rows])
    flat = meta.adapt(test.X[rows].reshape(len(rows), -1), test.y[rows])
    assert model.predict(test.X[:20]).tolist() == flat.predict(test.X[:20].reshape(20, -1)).tolist()
    with pytest.raises(ValueError, match="dim 3"):
        meta.adapt(test.X[rows][:, :4], test.y[rows])
