"""Recommendation: forms are told apart where they should be, outcomes of trials are used, and nothing peeks."""

from __future__ import annotations

import numpy as np
import pytest

import upstairs as up
from upstairs.outer.likeness import FORMS, Forest, Kernel, Nearest
from upstairs.outer.recommend import Outcomes, Recommender, chosen, group_folds
from upstairs.outer.surrogate import Surrogate, coordinates

SETTINGS = [{"C": float(10.0**n)} for n in range(-4, 5)]


def smooth(tasks: int, seed: int, *, depends: bool) -> up.Experience:
    """Scores with one best strength a task, which follows from the first of three descriptions or from nothing."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(tasks, 3))
    best = 2.0 * features[:, 0] if depends else np.zeros(tasks)
    place = np.arange(-4, 5)
    scores = -((place[None, :] - best[:, None]) ** 2) / 20 + 0.02 * rng.normal(size=(tasks, len(place)))
    return up.Experience(SETTINGS, [f"t{n}" for n in range(tasks)], scores, features=features)


def regret(table: up.Experience, new: up.Experience, form: str) -> float:
    known = Recommender.learn(table, form)
    return float(np.mean([new.regrets[n, known.order(x, 1)[0]] for n, x in enumerate(new.features)]))


def test_descriptions_are_used_where_they_say_something():
    table, new = smooth(60, 0, depends=True), smooth(40, 1, depends=True)
    choice = chosen(table, default=4, trials=0)
    assert choice.form in ("kernel", "forest")
    assert choice.losses[choice.form] < 0.5 * choice.losses["one"]
    assert regret(table, new, choice.form) < 0.5 * regret(table, new, "one")
    assert choice.form in choice.reason


def test_and_are_not_where_they_say_nothing():
    assert chosen(smooth(60, 0, depends=False), default=None, trials=0).form == "one"
    assert chosen(smooth(60, 0, depends=False), default=4, trials=0).form == "default"  # which is the best here


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_weights_sum_to_one_and_reproduce_a_constant(form):
    table = smooth(30, 2, depends=True)
    learned = form.learn(table.features, table.losses)
    for x in table.features[:5] + 0.1:
        assert form.weights(learned, table.features, x).sum() == pytest.approx(1.0)


def test_a_forest_as_weights_is_the_forest_itself():
    from sklearn.ensemble import ExtraTreesRegressor

    table, form = smooth(50, 3, depends=True), Forest(trees=20)
    forest = ExtraTreesRegressor(20, min_samples_leaf=form.leaf, max_features=form.columns, random_state=0)
    forest.fit(table.features.astype(np.float32), table.losses)
    learned = form.learn(table.features, table.losses)
    for x in np.random.default_rng(0).normal(size=(10, 3)):
        want = forest.predict(x[None, :].astype(np.float32))[0]
        np.testing.assert_allclose(form.weights(learned, table.features, x) @ table.losses, want, atol=1e-12)


def test_a_kernel_as_weights_is_ridge_regression():
    table = smooth(20, 4, depends=True)
    x = table.features[3]
    near = Kernel(penalty=1e-6).weights({}, table.features, x)
    assert near[3] == pytest.approx(1.0, abs=1e-3)  # hardly any penalty: the task itself
    far = Kernel(penalty=1e6).weights({}, table.features, x)
    np.testing.assert_allclose(far, 1 / 20, atol=1e-4)  # all penalty: the mean


def test_nearest_takes_at_most_half_of_the_tasks():
    weights = Nearest(20).weights({}, np.arange(10.0)[:, None], np.array([0.0]))
    assert np.flatnonzero(weights).tolist() == [0, 1, 2, 3, 4]


def test_outcomes_lead_to_tasks_that_behaved_alike():
    # two kinds of tasks that descriptions do not tell apart: what one trial shows decides
    scores = np.array([[0.5, 0.9, 0.1, 0.2]] * 4 + [[0.5, 0.1, 0.9, 0.2]] * 4)
    settings = [{"C": float(n)} for n in range(4)]
    table = up.Experience(settings, [f"t{n}" for n in range(8)], scores, features=np.zeros((8, 1)))
    known = Recommender.learn(table, "one", Outcomes(pattern=0.2))
    assert known.order(np.zeros(1), 1, {0: 0.5, 3: 0.2, 1: 0.1}) == [2]
    assert known.weights(np.zeros(1), {0: 0.5, 1: 0.1})[4:].sum() > 0.95


def test_orders_name_every_setting_once():
    table = smooth(20, 5, depends=True)
    for outcomes in (Outcomes(), Outcomes(pattern=0.5, surrogate=True)):
        known = Recommender.learn(table, "forest", outcomes)
        assert sorted(known.order(table.features[0], 100)) == list(range(9))
        tried = {0: 0.1, 4: 0.3, 2: -np.inf, 3: 0.2}
        assert sorted(known.order(table.features[0], 100, tried)) == [1, 5, 6, 7, 8]


def test_a_strange_description_is_unfamiliar():
    known = Recommender.learn(smooth(30, 6, depends=True), "one")
    usual = np.mean([known.familiarity(x) for x in np.random.default_rng(1).normal(size=(50, 3))])
    assert 30 < usual < 70
    assert known.familiarity(np.full(3, 50.0)) < 0.5


def test_folds_keep_groups_together():
    groups = [f"g{n // 3}" for n in range(60)]
    fold = group_folds(groups, 5)
    assert all(len(set(fold[3 * g : 3 * g + 3])) == 1 for g in range(20))
    assert sorted(np.bincount(fold)) == [12] * 5


def test_cells_that_were_not_tried_are_of_no_use_but_do_not_break():
    scores = np.array([[0.9, np.nan, 0.1], [np.nan, 0.8, 0.2], [0.7, 0.6, -np.inf]])
    table = up.Experience([{"a": 1}, {"a": 2}, {"a": 3}], ["x", "y", "z"], scores, features=np.eye(3))
    for outcomes in (Outcomes(), Outcomes(level=3.0, pattern=0.2, surrogate=True)):
        known = Recommender.learn(table, "kernel", outcomes)
        assert set(known.order(np.zeros(3), 3)) == {0, 1, 2}
        assert known.order(np.zeros(3), 2, {0: 0.5})[0] in (1, 2)


def test_the_surrogate_is_a_gaussian_posterior():
    rng = np.random.default_rng(0)
    past = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 6))
    surrogate = Surrogate.learn(past, coordinates([{"a": float(n)} for n in range(6)]))
    mean, spread = surrogate.given({1: 0.3, 4: -0.2})
    # the same from the joint Gaussian of the two observations and setting 2
    seen, noise = [1, 4], surrogate.noise
    joint = surrogate.covariance
    gain = joint[2, seen] @ np.linalg.inv(joint[np.ix_(seen, seen)] + noise * np.eye(2))
    assert mean[2] == pytest.approx(surrogate.mean[2] + gain @ (np.array([0.3, -0.2]) - surrogate.mean[seen]))
    assert spread[2] ** 2 == pytest.approx(joint[2, 2] - gain @ joint[seen, 2])
