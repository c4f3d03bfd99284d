"""Scores of trials are scikit-learn's, folds keep the classes, and a trial sees no held-out row."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

import upstairs as up
from upstairs.outer.trials import Trials, held_out, scores_of
from upstairs.tasks import Task


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("model", [LogisticRegression(), DecisionTreeClassifier(random_state=0)])
def test_scores_of_classes_are_those_of_scikit_learn(labels, model):
    rng = np.random.default_rng(labels)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, labels, 200)
    model.fit(X[:100], y[:100])
    found = scores_of(model, X[100:], y[100:], np.arange(labels))
    said, p = model.predict(X[100:]), model.predict_proba(X[100:])
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y[100:], said))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y[100:], said))
    assert found["neg_log_loss"] == pytest.approx(-metrics.log_loss(y[100:], p, labels=np.arange(labels)))
    auc = metrics.roc_auc_score(y[100:], p[:, 1] if labels == 2 else p, multi_class="ovr")
    assert found["roc_auc"] == pytest.approx(auc)


def test_scores_of_numbers_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    model = Ridge().fit(X[:30], y[:30])
    found = scores_of(model, X[30:], y[30:], None)
    assert found["r2"] == pytest.approx(metrics.r2_score(y[30:], model.predict(X[30:])))
    assert found["neg_mean_absolute_error"] == pytest.approx(
        -metrics.mean_absolute_error(y[30:], model.predict(X[30:]))
    )


def test_a_class_that_was_not_fitted_has_probability_zero():
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 2])
    found = scores_of(model, np.array([[0.0], [1.0]]), np.array([0, 1]), np.arange(3))
    assert found["neg_log_loss"] < -17  # half of log(eps)


@pytest.mark.parametrize("cv", [2, 3, 5, 0.4])
def test_folds_hold_every_row_out_once_and_keep_the_classes(cv):
    y = np.repeat(["a", "b", "c"], [50, 20, 5])
    folds = held_out(y, "classification", cv, 0)
    out = np.concatenate([test for _, test in folds])
    assert len(np.unique(out)) == len(out) == (75 if isinstance(cv, int) else 30)
    for train, test in folds:
        assert not set(train) & set(test)
        shares = [np.mean(y[test] == label) for label in "abc"]
        np.testing.assert_allclose(shares, [50 / 75, 20 / 75, 5 / 75], atol=0.06)


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers which rows it was fitted to."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        SEEN.append((X, y))
        return self

    def predict(self, X):
        SEEN.append((X, None))
        return np.zeros(len(X), dtype=int)


SEEN: list = []


def test_the_encoder_knows_training_rows_only():
    SEEN.clear()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 1)) * 10 + 5
    task = Task(X, rng.integers(0, 2, 30).astype(str), "t")
    Trials(Spy(), cv=3)(task)({})
    for fitted, asked in zip(SEEN[::2], SEEN[1::2], strict=True):
        assert fitted[0].mean() == pytest.approx(0.0, abs=1e-12)
        assert fitted[0].std() == pytest.approx(1.0)
        assert abs(asked[0].mean()) > 1e-6


def test_large_tasks_are_thinned_out_and_hopeless_ones_named():
    SEEN.clear()
    rng = np.random.default_rng(0)
    task = Task(rng.normal(size=(1000, 2)), np.repeat(["a", "b"], [900, 100]), "large")
    Trials(Spy(), cv=0.5, max_rows=100)(task)({})
    (fitted, labels), _ = SEEN
    assert len(fitted) == 50
    assert np.mean(labels == 1) == pytest.approx(0.1)
    with pytest.raises(up.TaskError, match=r"Task 'one' \(2 rows\): no part of it has two classes"):
        Trials(Spy(), cv=2)(Task(np.zeros((2, 1)), np.array(["a", "b"]), "one"))
