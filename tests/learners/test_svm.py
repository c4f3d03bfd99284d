"""MetaSVM and its estimators: what they learn, whose word counts, odd input, storage."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.datasets import make_friedman1
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

import upstairs as up
from upstairs.inner import prior_machine
from upstairs.outer.experience import Experience

FEATURES = [1, 4, 9]


def rows(seed, count=50, kind="regression", columns=12):
    """Three features that matter, each by waves that are shifted from task to task."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, columns))
    y = sum(np.sin(1.5 * X[:, k] + rng.uniform(0.0, 6.3)) for k in FEATURES) + 0.2 * rng.normal(size=count)
    return X, (y if kind == "regression" else np.where(y > np.median(y), "high", "low"))


def tasks(kind, count=60, start=0):
    made = [up.Task(*rows(start + n, kind=kind), name=f"t{n:03d}", kind=kind) for n in range(count)]
    return up.TaskSet(made, labels="shared" if kind == "classification" else None)


def score(learner, kind, seeds=range(1000, 1015)):
    """Mean score of a learner on new tasks, 35 rows each."""
    found = []
    for seed in seeds:
        X, y = rows(seed, 80, kind)
        found.append(learner.fit(X[:35], y[:35]).score(X[35:], y[35:]))
    return float(np.mean(found))


@pytest.fixture(scope="module")
def smooth():
    training = up.Training(steps=250, rate=0.05, validate_every=50)
    return up.MetaSVM(kernel="rbf", shots=(20, 35), prior_mean="linear", training=training).meta_fit(
        tasks("regression")
    )


@pytest.fixture(scope="module")
def experienced():
    """Tasks with different columns where narrow kernels are right."""
    made = []
    for number in range(12):
        rng = np.random.default_rng(number)
        X = rng.uniform(-1.0, 1.0, size=(40, 1 + number % 3))
        made.append(up.Task(X, np.where(np.sin(9.0 * X[:, 0]) > 0, "up", "down"), name=f"t{number}"))
    settings = [{"C": 30.0, "width": 0.3}, {"C": 1.0, "width": 3.0}, {"C": 1.0, "kernel": "linear"}]
    return up.MetaSVM(settings=settings, cv=0.4).meta_fit(made)


# --- without a prior ------------------------------------------------------------------------------------------------
def test_without_a_prior_it_is_the_plain_machine_on_scaled_columns():
    X, y = rows(0, 120, "classification")
    ours = up.PriorSVC().fit(X, y)
    other = make_pipeline(StandardScaler(), SVC(tol=1e-7)).fit(X, y)
    assert_allclose(ours.decision_function(X), other.decision_function(X), atol=1e-5)
    assert_array_equal(ours.predict(X), other.predict(X))
    X, y = rows(1, 120)
    scale = y.std()
    want = make_pipeline(StandardScaler(), SVR(tol=1e-7)).fit(X, (y - y.mean()) / scale).predict(X) * scale + y.mean()
    assert_allclose(up.PriorSVR().fit(X, y).predict(X), want, atol=1e-5)


def test_arguments_reach_the_machine():
    X, y = rows(0, 90, "classification")
    scaled = StandardScaler().fit_transform(X)
    apart = np.square(scaled[:, None] - scaled).sum(axis=2)[np.triu_indices(90, 1)]
    wide = up.PriorSVC(C=3.0, width=2.0, class_weight={"high": 2.0}).fit(X, y)
    other = SVC(C=3.0, gamma=0.5 / (4.0 * np.median(apart)), class_weight={"high": 2.0}, tol=1e-7).fit(scaled, y)
    assert_allclose(wide.decision_function(X), other.decision_function(scaled), atol=1e-4)
    assert wide.settings_ == {"C": 3.0, "width": 2.0, "class_weight": {"high": 2.0}}
    auto = up.PriorSVC(gamma="auto", class_weight="balanced").fit(X, y)
    other = SVC(gamma="auto", class_weight="balanced", tol=1e-7).fit(scaled, y)
    assert_allclose(auto.decision_function(X), other.decision_function(scaled), atol=1e-4)
    X, y = rows(0, 90)
    tube = up.PriorSVR(epsilon=0.5, kernel="poly", degree=2, coef0=1.0).fit(X, 10.0 * y)
    raw = up.PriorSVR(encode=False, kernel="linear").fit(X, y)
    assert np.isfinite(tube.predict(X)).all()
    assert raw.score(X, y) > 0


def test_sample_weights_count():
    X, y = rows(0, 80, "classification")
    twice = np.concatenate([np.arange(80), np.arange(20)])
    weight = np.where(np.arange(80) < 20, 2.0, 1.0)
    one = up.PriorSVC(encode=False, gamma=0.1).fit(X, y, sample_weight=weight)
    two = up.PriorSVC(encode=False, gamma=0.1).fit(X[twice], y[twice])
    assert_allclose(one.decision_function(X), two.decision_function(X), atol=1e-5)
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        up.PriorSVC().fit(X, y, sample_weight=-weight)


def test_sparse_rows_are_for_the_linear_kernel():
    X, y = rows(0, 80, "classification")
    X = X * (X > 0.5)
    model = up.PriorSVC(kernel="linear").fit(csr_matrix(X), y)
    dense = up.PriorSVC(kernel="linear", encode=False).fit(X, y)
    assert_allclose(model.decision_function(csr_matrix(X)), dense.decision_function(X), atol=1e-6)
    assert_allclose(model.predict_proba(X), dense.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="Sparse data are for the linear kernel"):
        up.PriorSVC().fit(csr_matrix(X), y)
    regression = up.PriorSVR(kernel="linear").fit(csr_matrix(X), X[:, 0])
    assert regression.score(csr_matrix(X), X[:, 0]) > 0.9
    with pytest.raises(up.PriorMismatchError, match="update needs the support vectors"):
        model.update(X[:5], y[:5])


def test_frames_with_categories_and_missing_cells():
    rng = np.random.default_rng(0)
    color = rng.choice(["red", "blue"], 60)
    frame = pd.DataFrame({"size": rng.normal(size=60), "color": color})
    frame.loc[::7, "size"] = np.nan
    model = up.PriorSVC(encode=False).fit(frame, color == "red")
    assert model.score(frame, color == "red") == 1.0


def test_update_keeps_support_vectors():
    X, y = rows(0, 200, "classification")
    whole = up.PriorSVC().fit(X, y)
    grown = up.PriorSVC().fit(X[:120], y[:120]).update(X[120:], y[120:])
    assert np.mean(grown.predict(X) == whole.predict(X)) > 0.9
    X, y = rows(0, 200)
    grown = up.PriorSVR().fit(X[:120], y[:120]).update(X[120:], y[120:])
    assert np.corrcoef(grown.predict(X), up.PriorSVR().fit(X, y).predict(X))[0, 1] > 0.97


@pytest.mark.parametrize(
    ("what", "X"),
    [
        ("duplicates", np.repeat(np.arange(4.0), 10)[:, None]),
        ("a constant column", np.column_stack([np.arange(40.0), np.ones(40)])),
        ("all constant", np.ones((40, 3))),
        ("huge scales", np.column_stack([np.arange(40.0) * 1e150, np.arange(40.0) * 1e-150])),
        ("more columns than rows", np.random.default_rng(0).normal(size=(40, 200))),
    ],
)
@pytest.mark.parametrize("prior", [None, "tabular"])
def test_odd_rows_give_a_result(what, X, prior):
    y = np.arange(40) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", up.FamiliarityWarning)
        model = up.PriorSVC(prior).fit(X, y)
        assert np.isfinite(model.predict_proba(X)).all()
        for target in (y.astype(float), np.full(40, 3.0), np.arange(40.0) * 1e200):
            predicted = up.PriorSVR(prior).fit(X, target).predict(X)
            assert np.isfinite(predicted).all(), what


def test_few_rows_and_one_class():
    assert up.PriorSVC().fit([[0.0], [1.0]], ["a", "b"]).predict([[0.9]]).tolist() == ["b"]
    assert up.PriorSVR().fit([[0.0]], [5.0]).predict([[0.9]]).tolist() == [5.0]
    with pytest.raises(up.TaskError, match="holds one class"):
        up.PriorSVC().fit([[0.0], [1.0]], ["a", "a"])


def test_many_rows_end_soon():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 4))
    y = X[:, 0] * X[:, 1] > 0
    start = time.perf_counter()
    with pytest.warns(up.ApproximationWarning, match="30000 rows are more than 20000"):
        model = up.PriorSVC(C=10.0).fit(X, y)
    assert model.score(X[:2000], y[:2000]) > 0.95
    with pytest.raises(up.PriorMismatchError, match="update needs the support vectors"):
        model.update(X[:9], y[:9])
    assert time.perf_counter() - start < 30.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"C": 0}, "C must be a positive number"),
        ({"width": -1}, "width must be a positive number"),
        ({"kernel": "sigmoid"}, "kernel must be one of linear, rbf, poly"),
        ({"gamma": "wide"}, "gamma must be 'scale', 'auto'"),
        ({"gamma": 1.0, "width": 1.0}, "both say how wide"),
        ({"degree": 0}, "degree must be a whole number"),
        ({"class_weight": "heavy"}, "class_weight must be 'balanced'"),
        ({"class_weight": {"c": 1.0}}, "class_weight names the label 'c'"),
        ({"class_weight": {"a": -1.0}}, "must be a positive number"),
        ({"trials": 0}, "trials must be a whole number"),
        ({"cv": 1, "trials": 2}, "cv must be a number of folds"),
        ({"prior": "tables"}, "prior must be a Prior, 'tabular'"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        up.PriorSVC().set_params(**arguments).fit([[0.0], [1.0]], ["a", "b"])


# --- the prior that ships -------------------------------------------------------------------------------------------
def test_the_prior_that_ships_beats_the_plain_machine_on_data_it_has_not_seen():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = np.where(np.sin(3.0 * X[:, 0]) + X[:, 1] > 0.9, "rare", "usual")
    scores = {
        prior: cross_val_score(up.PriorSVC(prior), X, y, scoring="balanced_accuracy", cv=3).mean()
        for prior in (None, "tabular")
    }
    assert scores["tabular"] > scores[None] + 0.02
    X, target = make_friedman1(300, noise=1.0, random_state=0)
    scores = {prior: cross_val_score(up.PriorSVR(prior), X, target, cv=3).mean() for prior in (None, "tabular")}
    assert scores["tabular"] > scores[None]


def test_explicit_kinds_of_machine_narrow_the_choice():
    X, y = rows(0, 120, "classification")
    assert up.PriorSVC("tabular", class_weight="equal").fit(X, y).settings_["class_weight"] == "equal"
    linear = up.PriorSVC("tabular", kernel="linear").fit(X, y)
    assert linear.settings_["kernel"] == "linear"
    assert linear.familiarity_ is not None
    assert linear.used_prior_
    several = up.PriorSVC("tabular", trials=3, guard=True, random_state=0).fit(X, y)
    assert len(several.trials_) == 4
    assert "cross-validated balanced_accuracy" in several.guard_reason_


def test_what_ships_says_where_it_comes_from():
    from upstairs.learners.shipped import shipped_prior

    for kind in ("classification", "regression"):
        provenance = shipped_prior("svm", kind).provenance
        assert provenance["tasks"] > 100
        assert {"date", "held_out", "measure", "script", "versions"} <= set(provenance)


# --- different columns ----------------------------------------------------------------------------------------------
def test_experience_recommends_what_worked(experienced):
    rng = np.random.default_rng(99)
    X = rng.uniform(-1.0, 1.0, size=(60, 2))
    y = np.where(np.sin(9.0 * X[:, 0]) > 0, "up", "down")
    model = experienced.adapt(X[:40], y[:40])
    assert model.settings_["width"] == 0.3
    assert model.score(X[40:], y[40:]) > up.PriorSVC().fit(X[:40], y[:40]).score(X[40:], y[40:]) + 0.05
    assert experienced.learner(C=2.0, width=1.0).fit(X, y).settings_ == {"C": 2.0, "width": 1.0}
    assert len(experienced.experience_) == 12
    with pytest.raises(up.PriorMismatchError, match="adapt_zero needs a prior on columns"):
        experienced.adapt_zero()


def test_a_table_of_trials_alone_gives_a_prior():
    scores = np.column_stack([np.full(5, 0.6), np.linspace(0.7, 0.9, 5)])
    table = Experience([{"C": 1.0}, {"C": 100.0, "gamma": 0.1}], list("abcde"), {"accuracy": scores})
    meta = up.MetaSVM().meta_fit(table)
    X, y = rows(0, 40, "classification")
    assert meta.adapt(X, y).settings_ == {"C": 100.0, "gamma": 0.1}
    meta.meta_partial_fit(Experience([{"C": 1.0}, {"C": 100.0, "gamma": 0.1}], ["f"], {"accuracy": [[0.1, 0.2]]}))
    assert len(meta.experience_) == 6


# --- same columns ---------------------------------------------------------------------------------------------------
def test_scales_find_the_features_that_matter(smooth):
    scales = np.array(list(smooth.feature_scales_.values()))
    assert sorted(np.argsort(-scales)[:3].tolist()) == FEATURES
    assert scales[FEATURES].min() > 3.0 * np.delete(scales, FEATURES).max()
    assert score(smooth.learner(), "regression") > score(up.PriorSVR(), "regression") + 0.3


def test_libsvm_learns_scales_too():
    kind = "classification"
    meta = up.MetaSVM(solver="libsvm", shots=(20, 35), training=up.Training(steps=80, rate=0.08)).meta_fit(tasks(kind))
    scales = np.array(list(meta.feature_scales_.values()))
    assert sorted(np.argsort(-scales)[:3].tolist()) == FEATURES
    assert score(meta.learner(), kind) > score(up.PriorSVC(), kind) + 0.1
    X, y = rows(5000, 30, kind)
    assert 0.0 <= meta.adapt(X, y).familiarity_ <= 100.0


def test_no_rows_and_more_rows(smooth):
    X, y = rows(2000, 40)
    cold = smooth.adapt_zero(like=X)
    assert np.isfinite(cold.predict(X)).all()
    grown = smooth.adapt(X[:20], y[:20]).update(X[20:], y[20:])
    assert_allclose(grown.predict(X), smooth.adapt(X, y).predict(X), rtol=1e-8)
    assert (grown.predict(X, return_std=True)[1] > 0).all()


def test_more_rows_than_a_prior_needs_are_thinned_out(smooth, monkeypatch):
    monkeypatch.setattr(prior_machine, "MOST_ROWS", 150)
    X, y = rows(2000, 400)
    with pytest.warns(up.ApproximationWarning, match="400 rows are more than 150"):
        model = smooth.adapt(X, y)
    assert model.score(X, y) > smooth.adapt(X[:40], y[:40]).score(X, y)
    assert len(model.adapted_.state["y"][0]) == 150
    with pytest.warns(up.ApproximationWarning):
        smooth.adapt(X[:140], y[:140]).update(X[140:], y[140:])


def test_learned_kernels_are_not_overridden(smooth):
    X, y = rows(2000, 40)
    with pytest.raises(up.PriorMismatchError, match="the kernel was learned on these columns"):
        smooth.learner(kernel="linear").fit(X, y)
    stiff = smooth.learner(C=1e-6).fit(X, y).predict(X)
    assert_allclose(stiff, smooth.adapt_zero().predict(X), atol=1e-3)


@pytest.mark.parametrize("name", ["smooth", "experienced"])
def test_storage_round_trip(tmp_path, request, name):
    meta = request.getfixturevalue(name)
    X, y = rows(3000, 30) if name == "smooth" else (np.linspace(-1, 1, 30)[:, None], np.array(["up", "down"] * 15))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", up.FamiliarityWarning)
        model = meta.adapt(X, y)
        up.save(meta, tmp_path / "prior")
        again = up.load(tmp_path / "prior")
        assert_array_equal(again.adapt(X, y).predict(X), model.predict(X))
    up.save(model, tmp_path / "model")
    loaded = up.load(tmp_path / "model")
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.settings_ == model.settings_


def test_a_model_of_the_prior_that_ships_is_stored_whole(tmp_path):
    X, y = rows(0, 60, "classification")
    model = up.PriorSVC("tabular").fit(X, y)
    up.save(model, tmp_path)
    assert_array_equal(up.load(tmp_path).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": "all"}, "columns must be"),
        ({"kernel": "sigmoid"}, "kernel must be one of"),
        ({"scales": 0}, "scales must be"),
        ({"solver": "quick"}, "solver must be"),
        ({"prior_mean": "none"}, "prior_mean must be"),
        ({"training": 3}, "training must be"),
    ],
)
def test_meta_arguments_out_of_range_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        up.MetaSVM().set_params(**arguments).meta_fit(tasks("regression", 4))


def test_what_does_not_go_together_is_refused(experienced):
    with pytest.raises(ValueError, match="learns kernel='linear' or 'rbf'"):
        up.MetaSVM(solver="libsvm", kernel="mixture").meta_fit(tasks("regression", 6))
    made = [up.Task(np.zeros((9, 1 + n)), np.arange(9) % 2, name=f"{n}", kind="classification") for n in range(4)]
    with pytest.raises(up.TaskError, match="validation is not used"):
        up.MetaSVM().meta_fit(made[:3], validation=made[3:])
    known = up.MetaSVM().meta_fit(Experience([{"C": 1.0}], list("abc"), {"r2": [[0.1]] * 3}))
    with pytest.raises(up.TaskError, match="as those of the experience are"):
        known.meta_partial_fit(made)
    with pytest.raises(up.PriorMismatchError, match="holds no table of trials"):
        _ = up.MetaSVM(kernel="linear", prior_mean="linear").meta_fit(tasks("regression", 6)).experience_
