"""Combined classifiers: which base classifier is asked, what is learned over tasks, storage, scikit-learn's checks."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from upstairs.errors import PriorMismatchError, StorageError, TaskError
from upstairs.learners.combine import CombinedClassifier
from upstairs.learners.learn_combination import learn_combination, learn_combination_on
from upstairs.learners.prior_svm import PriorSVC
from upstairs.learners.stored_bases import stored_bases
from upstairs.plain import json_value
from upstairs.tasks import Task, TaskSet

PAIR = ["logistic-regression", "k-neighbors"]


def two_regimes(rows: int, seed: int, extra: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Half of the rows lie in four corners, which neighbours know; a sum decides the others."""
    rng = np.random.default_rng(seed)
    X, near = rng.normal(size=(rows, 2 + extra)), rng.random(rows) < 0.5
    corner = rng.choice([-1.0, 1.0], size=(rows, 2))
    X[near] = 0.0
    X[near, :2] = 0.2 * corner[near] + 0.02 * rng.normal(size=(near.sum(), 2))
    return X, np.where(near, corner.prod(axis=1) > 0, X.sum(axis=1) > 0)


def some_tasks(count: int, seed: int = 0) -> TaskSet:
    """Tasks with different columns and, for a third of them, three classes."""
    tasks = []
    for n in range(count):
        X, y = two_regimes(90, 100 * seed + n, extra=4 + n % 3)
        y = np.where(X[:, 0] > 1.0, 2, y) if n % 3 == 0 else y.astype(int)
        tasks.append(Task(X, y, f"{seed}-{n}", "classification"))
    return TaskSet(tasks, labels="own")


@pytest.fixture(scope="module")
def prior():
    return learn_combination(some_tasks(9), PAIR, cv=3)


PRIOR = learn_combination(some_tasks(3), ["naive-bayes", "decision-tree"], cv=2)


@pytest.fixture
def _constructors_take_anything(monkeypatch):
    """Arguments are validated in ``fit``; the run-time type checks of the test suite would refuse them before."""
    monkeypatch.setattr(CombinedClassifier, "__init__", inspect.unwrap(CombinedClassifier.__init__))


@pytest.mark.usefixtures("_constructors_take_anything")
@parametrize_with_checks([CombinedClassifier(), CombinedClassifier(prior=PRIOR, cv=2)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("seed", range(3))
def test_each_is_asked_where_it_is_right(seed):
    X, y = two_regimes(1200, seed)
    model = CombinedClassifier(PAIR, random_state=0).fit(X[:400], y[:400])
    rows = model.encoder_.encode(X[400:])
    alone = [(base.predict(rows) == y[400:]).mean() for base in model.estimators_.values()]
    assert model.n_leaves_ > 1
    assert model.score(X[400:], y[400:]) > max(alone) + 0.03
    assert set(model.trusted(X[400:])) == set(PAIR)
    assert model.cv_scores_[model.best_by_cv_] == max(model.cv_scores_.values())
    assert not model.used_prior_


@pytest.mark.parametrize("seed", range(3))
def test_where_one_is_always_best_it_is_asked_for_all_rows(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(300, 5))
    y = (X @ [1.0, -1.0, 1.0, 0.5, 0.0] + 0.3 * rng.normal(size=300)) > 0
    model = CombinedClassifier(["naive-bayes", "logistic-regression", "k-neighbors"]).fit(X, y)
    assert (model.n_leaves_, set(model.trusted(X))) == (1, {"logistic-regression"})
    assert model.export_text().startswith("trust logistic-regression (")


def test_the_order_of_rows_does_not_matter(prior):
    X, y = two_regimes(150, 0)
    order = np.random.default_rng(0).permutation(150)
    for how in ({"estimators": ["decision-tree", "k-neighbors"]}, {"prior": prior}):
        one, other = (CombinedClassifier(**how).fit(X[rows], y[rows]) for rows in (slice(None), order))
        assert one.export_text() == other.export_text()
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-9)


def test_a_frame_with_text_and_missing_cells_and_a_class_of_one_row():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=80), "shape": rng.choice(["round", "flat"], 80)})
    y = np.where(frame["size"] > 0, "large", "small").astype(object)
    y[3] = "odd"
    frame.loc[::9, "size"] = np.nan
    frame.loc[::11, "shape"] = None
    model = CombinedClassifier(cv=4).fit(frame, y)
    assert model.classes_.tolist() == ["large", "odd", "small"]
    assert model.predict_proba(frame).shape == (80, 3)
    np.testing.assert_allclose(model.predict_proba(frame).sum(axis=1), 1.0)
    assert model.score(frame, y) > 0.85


def test_renamed_classes_give_renamed_predictions():
    X, y = two_regimes(120, 0)
    names = np.array(["no", "yes"])
    told = CombinedClassifier(PAIR).fit(X, y).predict(X)
    np.testing.assert_array_equal(
        CombinedClassifier(PAIR).fit(X, names[y.astype(int)]).predict(X), names[told.astype(int)]
    )


def test_what_is_learned_over_tasks_helps_a_task_of_few_rows(prior):
    gains, used = [], 0
    for seed in range(12):
        X, y = two_regimes(540, 50 + seed, extra=9)  # columns that no task had
        informed, alone = (CombinedClassifier(PAIR, p, cv=3).fit(X[:40], y[:40]) for p in (prior, None))
        gains.append(informed.score(X[40:], y[40:]) - alone.score(X[40:], y[40:]))
        if informed.used_prior_:
            used += 1
            assert informed.tree_.rows[0] == 40
            np.testing.assert_array_equal(informed.tree_.prior_right, prior.arrays["prior/right"])
            assert "other tasks: " in informed.export_text()
    assert used >= 9
    assert np.mean(gains) > 0.02


def test_more_tasks_change_what_is_expected_and_not_the_tree(prior):
    more = learn_combination_on(prior, some_tasks(4, seed=1))
    np.testing.assert_array_equal(more.arrays["tree/feature"], prior.arrays["tree/feature"])
    np.testing.assert_array_equal(more.arrays["counts/right"][:9], prior.arrays["counts/right"])
    assert more.provenance["tasks"] == 13
    assert (more.arrays["prior/right"] != prior.arrays["prior/right"]).any()
    assert all(array.dtype == np.float64 for array in more.arrays.values())


def test_stored_and_restored(prior):
    X, y = two_regimes(150, 0)
    bases = [("near", KNeighborsClassifier(3)), ("machine", PriorSVC())]
    for model in (CombinedClassifier(bases), CombinedClassifier(prior=prior), CombinedClassifier(PAIR, encode=False)):
        model.fit(X, y)
        document, arrays = model._stored()
        again = CombinedClassifier(model.estimators, model.prior, encode=model.encode)
        again.classes_ = np.asarray(json.loads(json.dumps(model.classes_.tolist())))
        again._restore(json.loads(json.dumps(json_value(document))), arrays)
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        assert (again.export_text(), again.best_by_cv_) == (model.export_text(), model.best_by_cv_)
        assert (again.used_prior_, again.cv_scores_) == (model.used_prior_, model.cv_scores_)
        assert again.fit(X, y).export_text() == model.export_text()
    with pytest.raises(StorageError, match="a prior of its own"):
        stored_bases({"machine": PriorSVC(prior)})


@pytest.mark.usefixtures("_constructors_take_anything")
def test_errors_say_what_to_do(prior):
    X, y = two_regimes(30, 0)
    for arguments, words in (
        ({"estimators": ["naive-bayes"]}, "at least 2 classifiers"),
        ({"estimators": ["naive-bayes", "forest"]}, "the names decision-tree, k-neighbors"),
        ({"estimators": ["naive-bayes", LinearSVC()]}, "with predict_proba.*CalibratedClassifierCV"),
        ({"estimators": [LogisticRegression(), LogisticRegression()]}, "two are called 'LogisticRegression'"),
        ({"cv": 1}, "cv must be a whole number of at least 2, but is 1"),
        ({"min_samples_leaf": 0.5}, "min_samples_leaf must be"),
        ({"max_depth": -1}, "max_depth must be"),
    ):
        with pytest.raises(ValueError, match=words):
            CombinedClassifier(**arguments).fit(X, y)
    with pytest.raises(PriorMismatchError, match="was learned with logistic-regression"):
        CombinedClassifier(["naive-bayes", "svm"], prior).fit(X, y)
    with pytest.raises(PriorMismatchError, match="family 'combination'"):
        CombinedClassifier(prior=5).fit(X, y)
    own = learn_combination(some_tasks(3), [("near", KNeighborsClassifier(3)), "naive-bayes"], cv=2)
    with pytest.raises(
        PriorMismatchError, match=r"'near' \(sklearn.KNeighborsClassifier\), whose settings are not stored"
    ):
        CombinedClassifier(prior=own).fit(X, y)
    with pytest.raises(TaskError, match="are a regression"):
        learn_combination(TaskSet([Task(X, X[:, 0], name="numbers")]), PAIR)


def test_no_split_is_selection_by_cross_validation():
    X, y = two_regimes(300, 0)
    model = CombinedClassifier(PAIR, max_depth=0).fit(X, y)
    assert set(model.trusted(X)) == {model.best_by_cv_}
