"""Odd rows on a stream, each as documented: late, missing, twice, out of order, NaN, a new class, a new category, constant."""

import numpy as np
import pandas as pd
import pytest

import upstairs as up
from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
from upstairs.online.learner import OnlineMetaLearner
from upstairs.tasks import TaskSet

FAMILY = up.tasks.synthetic.SharedSubspace()
FEW = {"frequencies": 5, "forgetting": (1.0, 0.95)}


@pytest.fixture(scope="module")
def learner():
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10)
    return meta.meta_fit(FAMILY.sample(12, 20, random_state=0)).learner()


@pytest.fixture(scope="module")
def rows():
    task = FAMILY.sample(1, 60, random_state=3)[0]
    return task.X, task.y


def still(learner):
    """One world that nobody doubts, in closed form."""
    return OnlineMetaLearner(learner, hazard=0.0, forgetting=None)


def test_a_late_label_is_learned_when_it_comes(learner, rows):
    X, y = rows
    late = np.where(np.arange(60) % 3, y, np.nan)
    model = still(learner).partial_fit(X, late)
    assert model.rows_seen_ == 40
    model.partial_fit(X[::3], y[::3])
    np.testing.assert_allclose(model.predict(X), learner.fit(X, y).predict(X), atol=1e-6)


def test_the_order_of_rows_of_one_world_does_not_matter(learner, rows):
    X, y = rows
    other = np.random.default_rng(0).permutation(60)
    one, two = still(learner).partial_fit(X, y), still(learner).partial_fit(X[other], y[other])
    np.testing.assert_allclose(one.predict(X), two.predict(X), atol=1e-8)


def test_a_row_that_comes_twice_is_learned_twice(learner, rows):
    X, y = rows
    model = still(learner).partial_fit(X[:20], y[:20]).partial_fit(X[:20], y[:20])
    assert model.rows_seen_ == 40
    twice = learner.fit(np.concatenate([X[:20], X[:20]]), np.concatenate([y[:20], y[:20]]))
    np.testing.assert_allclose(model.predict(X), twice.predict(X), atol=1e-6)


@pytest.mark.parametrize("plain", [None, ForgetfulRegressor(**FEW)])
def test_rows_of_nothing_and_constant_streams(learner, rows, plain):
    X, y = rows
    model = OnlineMetaLearner(plain or learner).partial_fit(X, y)
    nothing = np.full((3, X.shape[1]), np.nan)
    said, std = model.predict(nothing, return_std=True)
    assert np.isfinite(said).all()
    assert (std > 0).all()
    before = model.rows_seen_
    model.partial_fit(nothing, y[:3])
    assert model.rows_seen_ == before + 3
    assert np.isfinite(model.predict(X)).all()
    constant = OnlineMetaLearner(plain or learner)
    for _ in range(20):
        constant.partial_fit(np.ones((10, X.shape[1])), np.full(10, 2.5))
    assert constant.predict(np.ones((1, X.shape[1])))[0] == pytest.approx(2.5, abs=0.1)
    assert constant.changes_ == []
    empty = model.predict(X)
    model.partial_fit(X[:0], y[:0])
    np.testing.assert_array_equal(model.predict(X), empty)


def test_a_new_class_is_learned_without_a_prior_and_refused_with_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = np.where(x[:, 0] > 0, "b", "d")
    model = OnlineMetaLearner(ForgetfulClassifier(**FEW)).partial_fit(x, y)
    third = np.where(x[:, 1] > 0.5, "c", y)
    for start in range(0, 200, 20):
        model.partial_fit(x[start : start + 20], third[start : start + 20])
    assert model.classes_.tolist() == ["b", "c", "d"]
    assert np.mean(model.predict(x) == third) > 0.75
    assert model.predict_proba_one({"p": 0.0, "q": 2.0})["c"] > 0.5
    tasks = [(x[k : k + 25], y[k : k + 25]) for k in range(0, 200, 25)]
    shared = TaskSet.from_arrays(
        [X for X, _ in tasks], [labels for _, labels in tasks], kind="classification", labels="shared"
    )
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10).meta_fit(shared)
    known = OnlineMetaLearner(meta.learner()).partial_fit(x[:50], y[:50])
    before = known.predict_proba(x)
    with pytest.raises(up.PriorMismatchError, match="Label 'c' is unknown"):
        known.partial_fit(x[50:], third[50:])
    np.testing.assert_array_equal(known.predict_proba(x), before)
    assert known.rows_seen_ == 50


def test_a_new_category_is_one_that_was_never_seen():
    rng = np.random.default_rng(1)

    def frame(count, kinds):
        return pd.DataFrame({"kind": rng.choice(kinds, count), "size": rng.normal(size=count)})

    X = frame(240, ["a", "b"])
    y = 2.0 * (X["kind"] == "a") + X["size"] + 0.1 * rng.normal(size=240)
    table = X.assign(task=np.repeat(np.arange(12), 20), y=y + np.repeat(rng.normal(size=12), 20))
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10)
    meta.meta_fit(TaskSet.from_frame(table, task="task", target="y", kind="regression"))
    model = OnlineMetaLearner(meta.learner()).partial_fit(X[:50], y[:50])
    new = frame(30, ["z"])
    assert np.isfinite(model.predict(new)).all()
    for row in new.to_dict("records"):
        model.learn_one(row, 5.0 + row["size"])
    assert model.predict(new)[0] == pytest.approx(5.0 + new["size"][0], abs=0.6)


@pytest.mark.parametrize("model", [ForgetfulRegressor(**FEW), OnlineMetaLearner(ForgetfulRegressor(**FEW))])
def test_text_is_refused_by_name_where_the_learner_knows_no_columns(model):
    X = pd.DataFrame({"size": np.arange(8.0), "kind": ["1.5", "2"] * 3 + ["red", "blue"]})
    said = "column 'kind' has 'red'; encode it"
    with pytest.raises(up.TaskError, match=said):
        model.partial_fit(X, np.arange(8.0))
    with pytest.raises(up.TaskError, match="column 1 has 'red'; encode it"):
        model.partial_fit(X.to_numpy(), np.arange(8.0))
    model.partial_fit(X[:6], np.arange(6.0))  # text that is a number is one
    before = model.predict(X[:6])
    for asked in (lambda: model.predict(X), lambda: model.learn_one({"size": 1.0, "kind": "red"}, 1.0)):
        with pytest.raises(up.TaskError, match=said):
            asked()
    with pytest.raises(up.TaskError, match=r"column 'size' has \[1.0\]; encode it"):
        model.learn_one({"size": [1.0], "kind": 1.0}, 1.0)
    np.testing.assert_array_equal(model.predict(X[:6]), before)
