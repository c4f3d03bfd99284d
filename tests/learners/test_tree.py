"""MetaDecisionTree and its estimators on tasks with different columns: what they learn, whose word counts, odd input, reading."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris, make_friedman1
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import upstairs as up
from upstairs.learners.shipped import shipped_prior
from upstairs.outer.experience import Experience


def rows(seed, count=120, kind="classification"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 4))
    y = X[:, 0] + np.abs(X[:, 1]) + 0.7 * rng.normal(size=count)
    return X, (y if kind == "regression" else np.where(y > 1.5, "rare", "usual"))


def tasks(kind="classification", count=12):
    """Tasks with 2 to 4 columns of which one says something, behind much noise: shallow and smooth trees are right."""
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        X = rng.uniform(-1.0, 1.0, size=(60, 2 + number % 3))
        y = (X[:, 0] > 0.4) + 0.5 * rng.normal(size=60)
        target = y if kind == "regression" else np.where(y > 0.6, "up", "down")
        made.append(up.Task(X, target, name=f"t{number:02d}", kind=kind))
    return made


SETTINGS = [{"max_depth": 1, "smoothing": 2.0}, {"smoothing": 2.0}, {"max_depth": 6}]


@pytest.fixture(scope="module")
def experienced():
    return up.MetaDecisionTree(settings=SETTINGS, max_seconds=None).meta_fit(tasks(count=9))


# --- without a prior ------------------------------------------------------------------------------------------------
def test_without_a_prior_it_is_the_plain_tree():
    X, y = rows(0)
    query = rows(1)[0]
    ours, other = up.PriorTreeClassifier(encode=False).fit(X, y), DecisionTreeClassifier(random_state=0).fit(X, y)
    assert_array_equal(ours.predict_proba(query), other.predict_proba(query))
    assert_array_equal(ours.predict(query), other.predict(query))
    assert_array_equal(up.PriorTreeClassifier().fit(X, y).predict(query), ours.predict(query))
    X, y = rows(0, kind="regression")
    ours = up.PriorTreeRegressor(encode=False, min_samples_leaf=3).fit(X, y)  # splits of two rows are ties
    other = DecisionTreeRegressor(random_state=0, min_samples_leaf=3).fit(X, y)
    assert_allclose(ours.predict(query), other.predict(query), atol=1e-9)


def test_arguments_reach_the_tree():
    X, y = rows(0)
    given = {"max_depth": 4, "min_samples_leaf": 3, "criterion": "entropy", "class_weight": {"rare": 2.0, "usual": 1.0}}
    ours = up.PriorTreeClassifier(encode=False, **given).fit(X, y)
    other = DecisionTreeClassifier(random_state=0, **given).fit(X, y)
    assert_array_equal(ours.predict_proba(X), other.predict_proba(X))
    assert ours.settings_ == given
    assert (ours.depth_, ours.n_leaves_) == (other.get_depth(), other.get_n_leaves())
    balanced = up.PriorTreeClassifier(max_depth=3, smoothing=10.0, decision_power=1.0).fit(X, y)
    plain = up.PriorTreeClassifier(max_depth=3, smoothing=10.0).fit(X, y)
    assert_array_equal(balanced.predict_proba(X), plain.predict_proba(X))
    assert (balanced.predict(X) == "rare").sum() > (plain.predict(X) == "rare").sum()
    free = up.PriorTreeClassifier(max_depth="none", max_features=1.0, class_weight="equal").fit(X, y)
    assert_array_equal(free.predict_proba(X), up.PriorTreeClassifier().fit(X, y).predict_proba(X))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_depth": 0}, "max_depth must be a whole number"),
        ({"min_samples_leaf": 1.5}, "min_samples_leaf must be a whole number of at least 1, a share"),
        ({"min_samples_split": 1}, "min_samples_split must be a whole number of at least 2"),
        ({"criterion": "squared_error"}, "criterion must be one of gini, entropy"),
        ({"max_features": 1.5}, "max_features must be 'sqrt'"),
        ({"ccp_alpha": -1.0}, "ccp_alpha must be a number of at least 0"),
        ({"smoothing": np.nan}, "smoothing must be a number of at least 0"),
        ({"decision_power": "all"}, "decision_power must be"),
        ({"class_weight": "heavy"}, "class_weight must be 'balanced'"),
        ({"class_weight": {"c": 1.0}}, "class_weight names the label 'c'"),
        ({"trials": 0}, "trials must be a whole number"),
        ({"prior": "tables"}, "prior must be a Prior, 'tabular'"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        up.PriorTreeClassifier().set_params(**arguments).fit([[0.0], [1.0]], ["a", "b"])


@pytest.mark.parametrize(
    "X",
    [
        np.repeat(np.arange(4.0), 10)[:, None],
        np.ones((40, 3)),
        np.column_stack([np.arange(40.0) * 1e150, np.arange(40.0) * 1e-150]),
        np.random.default_rng(0).normal(size=(40, 200)),
    ],
    ids=["duplicates", "constant", "huge scales", "wide"],
)
@pytest.mark.parametrize("prior", [None, "tabular"])
def test_odd_rows_give_a_result(X, prior):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", up.FamiliarityWarning)
        for encode in (True, False):
            model = up.PriorTreeClassifier(prior, encode=encode).fit(X, np.arange(40) % 2)
            assert np.isfinite(model.predict_proba(X)).all()
            assert model.export_text()
        for target in (np.full(40, 3.0), np.arange(40.0) * 1e200):
            assert np.isfinite(up.PriorTreeRegressor(prior).fit(X, target).predict(X)).all()


def test_few_rows_and_one_class():
    assert up.PriorTreeClassifier().fit([[0.0], [1.0]], ["a", "b"]).predict([[0.9]]).tolist() == ["b"]
    assert up.PriorTreeRegressor().fit([[0.0]], [5.0]).predict([[0.9]]).tolist() == [5.0]
    with pytest.raises(up.TaskError, match="holds one class"):
        up.PriorTreeClassifier().fit([[0.0], [1.0]], ["a", "a"])


# --- reading --------------------------------------------------------------------------------------------------------
def frame():
    size = np.array([1.0, 2.0, 3.0, np.nan, 6.0, 7.0, 8.0, 9.0])
    return pd.DataFrame({"size": size, "color": ["red", "red", "blue", "red", "red", "blue", "blue", "red"]})


def test_a_tree_is_read_in_raw_units():
    y = np.array([10.0, 10.0, 10.0, 70.0, 30.0, 30.0, 30.0, 30.0])
    model = up.PriorTreeRegressor().fit(frame(), y)
    lines = model.export_text(1).splitlines()
    assert lines[0] == "size is there:"
    assert lines[1].startswith("|   size <= 4.5: 10.0 +- ")
    assert lines[2].endswith("(4 rows, 0 % from above)")
    assert lines[3].startswith("size is missing: 70.0 +- ")
    last = model.leaves_[-1]
    assert (last["conditions"], last["rows"]) == (("size is missing",), 1.0)
    assert last["value"] == pytest.approx(70.0)
    colors = up.PriorTreeClassifier(smoothing=1.0).fit(frame(), frame()["color"] == "red")
    assert [leaf["conditions"] for leaf in colors.leaves_] in (
        [("color is not blue",), ("color = blue",)],
        [("color is not red",), ("color = red",)],
    )
    assert sum(colors.leaves_[0]["value"].values()) == pytest.approx(1.0)
    assert_array_equal(colors.feature_importances_, [0.0, 1.0])


def test_importances_paths_and_leaves_are_those_of_scikit_learn():
    X, y = load_iris(return_X_y=True)
    ours = up.PriorTreeClassifier(encode=False, max_depth=4).fit(X, y)
    other = DecisionTreeClassifier(random_state=0, max_depth=4).fit(X, y)
    assert_allclose(ours.feature_importances_, other.feature_importances_, atol=1e-12)
    assert_array_equal(ours.apply(X), other.apply(X))
    assert_array_equal(ours.decision_path(X).toarray(), other.decision_path(X).toarray())
    X, y = make_friedman1(80, random_state=0)
    ours = up.PriorTreeRegressor(encode=False, max_depth=3).fit(X, y)
    other = DecisionTreeRegressor(random_state=0, max_depth=3).fit(X, y)
    assert_allclose(ours.feature_importances_, other.feature_importances_, atol=1e-9)
    smooth = up.PriorTreeRegressor(smoothing=1e12).fit(X, y)
    assert smooth.feature_importances_.sum() == pytest.approx(1.0)
    assert_array_equal(up.PriorTreeRegressor().fit(np.zeros((5, 2)), np.arange(5.0)).feature_importances_, [0.0, 0.0])


def test_pictures():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    X, y = load_iris(return_X_y=True)
    ax = up.PriorTreeClassifier(max_depth=2).fit(X, np.array(["se", "ve", "vi"])[y]).plot()
    said = [text.get_text() for text in ax.texts]
    assert any(text.startswith("x3 <= 0.80") for text in said)
    assert any("se 1.00" in text for text in said)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["se", "ve", "vi"]
    _, own = pyplot.subplots()
    assert up.PriorTreeRegressor(max_depth=2).fit(X[:, :2], X[:, 2]).plot(own) is own
    pyplot.close("all")


# --- the prior that ships -------------------------------------------------------------------------------------------
def test_the_prior_that_ships_beats_the_plain_tree_on_data_it_has_not_seen():
    X, y = rows(5, 300)
    losses, scores, balanced = {}, {}, {}
    for prior, power in ((None, None), ("tabular", 1.0)):
        model = up.PriorTreeClassifier(prior)
        losses[prior] = log_loss(y, cross_val_predict(model, X, y, cv=3, method="predict_proba"))
        scores[prior] = cross_val_score(model, X, y, cv=3).mean()
        ruled = up.PriorTreeClassifier(prior, decision_power=power)
        balanced[prior] = cross_val_score(ruled, X, y, cv=3, scoring="balanced_accuracy").mean()
    assert losses["tabular"] < 0.2 * losses[None]
    assert scores["tabular"] > scores[None], "accuracy, by the most probable class"
    assert balanced["tabular"] > balanced[None]
    X, y = make_friedman1(300, noise=1.0, random_state=0)
    fits = {prior: cross_val_score(up.PriorTreeRegressor(prior), X, y, cv=3).mean() for prior in (None, "tabular")}
    assert fits["tabular"] > fits[None] + 0.05


def test_one_table_serves_trees_and_tuners():
    X, y = rows(5, 200)
    one, other = (
        up.PriorTreeClassifier("tabular").fit(X, y),
        up.recommended("decision-tree", "classification").fit(X, y),
    )
    assert one.settings_ == other.settings_
    assert (
        one.settings_["decision_power"]
        == shipped_prior("decision-tree", "classification").settings["fixed"]["decision_power"]
    )
    assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-12)
    assert_array_equal(one.predict(X), other.predict(X))
    assert one.familiarity_ == other.familiarity_


def test_explicit_settings_win_and_narrow_the_choice():
    X, y = rows(0)
    assert up.PriorTreeClassifier("tabular", criterion="entropy").fit(X, y).settings_["criterion"] == "entropy"
    usual = up.PriorTreeClassifier("tabular", criterion="gini", decision_power=0.0).fit(X, y)
    assert usual.settings_["decision_power"] == 0.0
    assert_array_equal(usual.predict(X), usual.classes_[usual.predict_proba(X).argmax(axis=1)])
    assert up.PriorTreeClassifier("tabular", class_weight="balanced").fit(X, y).settings_["class_weight"] == "balanced"
    careful = up.PriorTreeClassifier("tabular", trials=3, guard=True, random_state=0).fit(X, y)
    assert len(careful.trials_) == 4
    assert "cross-validated neg_log_loss" in careful.guard_reason_


def test_intervals_are_learned_to_be_wide_enough():
    X, y = make_friedman1(400, noise=2.0, random_state=1)
    low, high = up.PriorTreeRegressor("tabular").fit(X[:200], y[:200]).predict_interval(X[200:]).T
    assert 0.8 < np.mean((y[200:] >= low) & (y[200:] <= high)) < 0.99


# --- different columns ----------------------------------------------------------------------------------------------
def test_experience_recommends_what_worked(experienced):
    new = tasks(count=20)[19]
    model = experienced.adapt(new.X[:40], new.y[:40])
    assert model.settings_["max_depth"] == 1
    assert model.score(new.X[40:], new.y[40:]) > 0.6
    assert "decision_power" in model.settings_
    assert len(experienced.experience_) == 9
    assert experienced.learner(max_depth=2).fit(new.X, new.y).settings_["max_depth"] == 2
    with pytest.raises(up.PriorMismatchError, match="adapt_zero needs a prior on columns"):
        experienced.adapt_zero()
    by_accuracy = up.MetaDecisionTree(measure="accuracy").meta_fit(experienced.experience_)
    assert by_accuracy.adapt(new.X, new.y).settings_["decision_power"] == 0.0


def test_regressions_learn_how_far_they_are_off():
    meta = up.MetaDecisionTree(settings=SETTINGS, max_seconds=None).meta_fit(tasks("regression", 7))
    assert meta.prior_.settings["spread"] > 0.5
    assert meta.prior_.settings["fixed"] == {}
    spread = meta.prior_.settings["spread"]
    assert len(meta.meta_partial_fit(meta.experience_.take([0, 1])).experience_) == 7
    assert meta.prior_.settings["spread"] == spread


def test_a_table_of_trials_alone_gives_a_prior():
    scores = np.column_stack([np.full(5, 0.6), np.linspace(0.7, 0.9, 5)])
    table = Experience([{"max_depth": 9}, {"max_depth": 2}], list("abcde"), {"balanced_accuracy": scores})
    meta = up.MetaDecisionTree().meta_fit(table)
    X, y = rows(0, 40)
    assert meta.adapt(X, y).settings_ == {"max_depth": 2, "decision_power": 1.0}
    more = Experience([{"max_depth": 9}, {"max_depth": 2}], ["f"], {"balanced_accuracy": [[0.1, 0.2]]})
    assert len(meta.meta_partial_fit(more).experience_) == 6


def test_storage_round_trip(tmp_path, experienced):
    new = tasks(count=20)[19]
    model = experienced.adapt(new.X, new.y)
    up.save(experienced, tmp_path / "prior")
    assert_array_equal(up.load(tmp_path / "prior").adapt(new.X, new.y).predict(new.X), model.predict(new.X))
    for number, fitted in enumerate((model, up.recommended("decision-tree", "classification").fit(new.X, new.y))):
        up.save(fitted, tmp_path / f"model {number}")
        again = up.load(tmp_path / f"model {number}")
        assert_array_equal(again.predict_proba(new.X), fitted.predict_proba(new.X))
        assert again.settings_ == fitted.settings_
    assert up.load(tmp_path / "model 0").export_text() == model.export_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": "all"}, "columns must be"),
        ({"structure": "both"}, "structure must be"),
        ({"leaves": 1}, "leaves must be"),
        ({"prior_mean": "ridge"}, "prior_mean must be"),
    ],
)
def test_meta_arguments_out_of_range_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        up.MetaDecisionTree().set_params(**arguments).meta_fit(tasks(count=4))


def test_what_does_not_go_together_is_refused(experienced):
    with pytest.raises(up.TaskError, match="validation is not used"):
        up.MetaDecisionTree().meta_fit(tasks(count=3), validation=tasks(count=5)[3:])
    with pytest.raises(up.TaskError, match="as those of the experience are"):
        up.MetaDecisionTree().meta_fit(experienced.experience_).meta_partial_fit(tasks("regression", 4)[3:])


# --- which classifier to trust ------------------------------------------------------------------------------------------
def test_combinations_are_learned_over_tasks(tmp_path):
    made = tasks(count=6)
    meta = up.MetaDecisionTree(kind="combine", estimators=["naive-bayes", "logistic-regression"]).meta_fit(made[:4])
    model = meta.adapt(made[5].X, made[5].y)
    assert set(model.trusted(made[5].X)) <= {"naive-bayes", "logistic-regression"}
    assert len(meta.adapt_many(made[4:])) == 2
    assert meta.plain_learner("classification").prior is None
    up.save(model, tmp_path)
    assert_array_equal(up.load(tmp_path).predict(made[5].X), model.predict(made[5].X))
    first = meta.prior_
    assert meta.meta_partial_fit(made[4:5]).prior_.hash != first.hash
    with pytest.raises(up.PriorMismatchError, match="adapt_zero needs a prior on columns"):
        meta.adapt_zero()
    with pytest.raises(up.TaskError, match="kind='combine' learns from a TaskSet"):
        meta.meta_fit(made[:4], validation=made[4:])
    with pytest.raises(ValueError, match="kind must be"):
        up.MetaDecisionTree().set_params(kind="both").meta_fit(made)
