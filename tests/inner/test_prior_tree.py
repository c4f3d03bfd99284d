"""The tree with a prior against closed forms worked out by hand."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from upstairs.inner.gaussian import log_evidence
from upstairs.inner.logistic import BayesianLogistic
from upstairs.inner.prior_tree import PriorTree, columns_of, sides, tree_of
from upstairs.inner.rule import Rows
from upstairs.inner.tree_nodes import descend, leaves

NOISE, FEATURES = 0.3, 2


def prior(kind="regression", *, latents=1, split=0.0, most=0, seed=0):
    """A tree of three leaves on two features, a pooled line, and a prior on its four columns."""
    rng = np.random.default_rng(seed)
    tree = {"feature": [0, -1, 1, -1, -1], "threshold": [0.0, 0, 0.5, 0, 0]}
    tree |= {"left": [1, -1, 3, -1, -1], "right": [2, -1, 4, -1, -1]}
    params = {f"tree/{name}": np.array(values, dtype=float) for name, values in tree.items()}
    outputs = latents
    params |= {"pooled/coef": rng.normal(size=(FEATURES, outputs)), "pooled/intercept": np.zeros(outputs)}
    params |= {"tree/offset": rng.normal(size=(5, outputs)), "weight": np.ones(1)}
    columns = 3 + outputs
    params |= {"grow/effect": np.array(0.4), "grow/split": np.array(split), "grow/feature": np.log([0.25, 0.75])}
    params |= {"grow/least": np.array(2.0), "grow/most": np.array(float(most)), "grow/noise": np.array([NOISE])}
    if kind == "regression":
        mean, factor = rng.normal(size=(1, columns)), rng.normal(size=(1, columns, columns))
        return params | {"mean": mean, "factor": factor, "noise": np.array([NOISE])}
    mean, factor = rng.normal(size=(1, latents, columns)), rng.normal(size=(1, latents, columns, columns))
    return params | {"mean": mean, "factor": factor}


def rows(tasks=1, count=6, ways=0, seed=1):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(tasks, count)) if ways == 0 else rng.integers(0, ways, (tasks, count))
    return Rows(rng.normal(size=(tasks, count, FEATURES)), y, np.ones((tasks, count), dtype=bool))


def test_sides_and_leaves_of_a_tree():
    tree = tree_of(prior())
    assert leaves(tree).tolist() == [1, 3, 4]
    assert sides(tree, np.array([0, 2])).tolist() == [[0, 0], [-1, 0], [1, 0], [1, -1], [1, 1]]
    assert descend(tree, np.array([[[-1.0, 0.0], [1.0, 0.5], [1.0, 0.6]]])).tolist() == [[1, 3, 4]]


def test_leaf_values_are_the_closed_form_posterior():
    params, support, new = prior(), rows(), rows(count=4, seed=2)
    rule = PriorTree("regression")
    predicted = rule.predict(params, rule.adapt(params, support), new.x)
    phi, phi_new = columns_of(params, support.x)[0][0], columns_of(params, new.x)[0][0]
    covariance = params["factor"][0] @ params["factor"][0].T
    between = phi @ covariance @ phi.T + NOISE * np.eye(len(phi))
    gain = np.linalg.solve(between, phi @ covariance @ phi_new.T).T
    mean = phi_new @ params["mean"][0] + gain @ (support.y[0] - phi @ params["mean"][0])
    variance = np.diag(phi_new @ covariance @ phi_new.T - gain @ phi @ covariance @ phi_new.T) + NOISE
    np.testing.assert_allclose(predicted.mean[0], mean, atol=1e-8)
    np.testing.assert_allclose(predicted.variance[0], variance, atol=1e-8)
    evidence = log_evidence(params["mean"][0], covariance, NOISE, phi, support.y[0]) / len(phi)
    np.testing.assert_allclose(rule.evidence(params, support), evidence, atol=1e-8)


def test_more_rows_are_learned_exactly():
    params, support = prior(), rows(tasks=2, count=8)
    rule = PriorTree("regression")
    first = Rows(support.x[:, :3], support.y[:, :3], support.mask[:, :3])
    rest = Rows(support.x[:, 3:], support.y[:, 3:], support.mask[:, 3:])
    assert rule.updates
    assert not PriorTree("regression", grows=True).updates
    whole, state = rule.adapt(params, support), rule.update(params, rule.adapt(params, first), rest)
    for name in whole:
        np.testing.assert_allclose(state[name], whole[name], atol=1e-9)


@pytest.mark.parametrize("latents", [1, 3])
def test_classes_are_a_logistic_regression_on_the_columns_of_the_tree(latents):
    params, support = prior("classification", latents=latents), rows(tasks=2, ways=max(latents, 2))
    rule, base = PriorTree("classification"), BayesianLogistic()
    phi, _ = columns_of(params, support.x)
    other = base.predict_on(params, base.adapt_on(params, phi, support), phi)
    found = rule.predict(params, rule.adapt(params, support), support.x)
    np.testing.assert_allclose(found.probability, other.probability, atol=1e-12)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_weight_of_two_is_a_row_twice(kind):
    ways = 0 if kind == "regression" else 2
    params, support = prior(kind, split=2.0, most=3), rows(count=12, ways=ways)
    twice = Rows(*(np.repeat(array, 2, axis=1) for array in (support.x, support.y, support.mask)))
    weighted = dataclasses.replace(support, weight=np.full(support.y.shape, 2.0))
    rule = PriorTree(kind)
    one, other = rule.adapt(params, weighted), rule.adapt(params, twice)
    np.testing.assert_allclose(one["mean"], other["mean"], atol=1e-8)
    np.testing.assert_allclose(one["root"], other["root"], atol=1e-8)


def test_the_gain_of_a_split_is_the_gain_of_evidence():
    params, support = prior(split=1.0, most=1), rows(count=20, seed=3)
    rule = PriorTree("regression", grows=True)
    state = rule.adapt(params, support)
    assert state["own"].shape == (1, 1), "the prior is in favour of splits here"
    node = int(state["own"][0, 0])
    phi, fallen = columns_of(params, support.x)
    inside = fallen[0] == node
    feature, threshold = int(state["feature"][0, node]), state["threshold"][0, node]
    column = np.where(support.x[0, :, feature] > threshold, 1.0, -1.0) * inside
    wide = {**params, "mean": np.pad(params["mean"], [(0, 0), (0, 1)])}
    wide["factor"] = np.pad(params["factor"], [(0, 0), (0, 1), (0, 1)])
    wide["factor"][0, -1, -1] = np.sqrt(params["grow/effect"])
    covariance = wide["factor"][0] @ wide["factor"][0].T
    together = np.column_stack([phi[0], column])
    after = log_evidence(wide["mean"][0], covariance, NOISE, together, support.y[0])
    np.testing.assert_allclose(state["evidence"][0, 0], after, atol=1e-8)
    before = rule.adapt({**params, "grow/most": np.array(0.0)}, support)["evidence"][0, 0]
    places = len(np.unique(support.x[0, inside, feature])) - 1
    assert after - before + 1.0 + params["grow/feature"][feature] - np.log(places) > 0.0


def test_no_other_split_gains_more():
    params, support = prior(split=3.0, most=1), rows(count=9, seed=4)
    state = PriorTree("regression", grows=True).adapt(params, support)
    phi, fallen = columns_of(params, support.x)
    wide = {**params, "mean": np.pad(params["mean"], [(0, 0), (0, 1)])}
    wide["factor"] = np.pad(params["factor"], [(0, 0), (0, 1), (0, 1)])
    wide["factor"][0, -1, -1] = np.sqrt(params["grow/effect"])
    covariance = wide["factor"][0] @ wide["factor"][0].T
    scores = {}
    for node in np.unique(fallen[0]):
        inside = fallen[0] == node
        for feature in range(FEATURES):
            values = np.unique(support.x[0, inside, feature])
            for low, high in pairwise(values):
                right = inside & (support.x[0, :, feature] > low)
                if min(right.sum(), inside.sum() - right.sum()) < 2:
                    continue
                phi_ = np.column_stack([phi[0], np.where(right, 1.0, -1.0) * inside])
                value = log_evidence(wide["mean"][0], covariance, NOISE, phi_, support.y[0])
                prior_ = params["grow/feature"][feature] - np.log(len(values) - 1)
                scores[int(node), feature, 0.5 * (low + high)] = value + prior_
    node, feature, threshold = max(scores, key=scores.get)
    assert int(state["own"][0, 0]) == node
    assert int(state["feature"][0, node]) == feature
    np.testing.assert_allclose(state["threshold"][0, node], threshold)


@pytest.mark.parametrize(("kind", "latents"), [("regression", 1), ("classification", 1), ("classification", 3)])
def test_growing_many_tasks_is_growing_each(kind, latents):
    ways = 0 if kind == "regression" else max(latents, 2)
    params, support = prior(kind, latents=latents, split=2.0, most=4), rows(tasks=3, count=24, ways=ways, seed=5)
    mask = support.mask.copy()
    mask[1, 10:] = False
    support = Rows(support.x * mask[..., None], np.where(mask, support.y, 0).astype(support.y.dtype), mask)
    rule, new = PriorTree(kind, grows=True), rows(tasks=3, count=5, seed=6)
    state = rule.adapt(params, support)
    together = rule.predict(params, state, new.x)
    assert (state["own"] >= 0).sum() > 3, "trees grow here"
    for task in range(3):
        count = int(mask[task].sum())
        alone = Rows(*(array[task : task + 1, :count] for array in (support.x, support.y, support.mask)))
        predicted = rule.predict(params, rule.adapt(params, alone), new.x[task : task + 1])
        for name in predicted.__dataclass_fields__:
            np.testing.assert_allclose(getattr(predicted, name)[0], getattr(together, name)[task], atol=1e-8)


def test_settings_of_a_user_bound_what_grows():
    params, support = prior(split=3.0, most=20), rows(count=40, seed=7)
    rule = PriorTree("regression", grows=True)
    free = rule.adapt(params, support)
    bounded = rule.override(params, {"max_depth": 2.0})
    shallow = rule.adapt(bounded, support)
    coarse = rule.adapt(rule.override(params, {"min_samples_leaf": 15.0}), support)
    assert shallow["own"].shape[1] < free["own"].shape[1]
    assert coarse["own"].shape[1] < free["own"].shape[1]
    view = rule.view(bounded, shallow)
    assert len(view.feature) <= 7


def test_a_user_may_cut_the_learned_tree():
    params, support = prior(), rows()
    rule = PriorTree("regression")
    cut = rule.override(params, {"max_depth": 1.0})
    assert tree_of(cut)["feature"].tolist() == [0, -1, -1]
    phi, node = columns_of(cut, support.x)
    whole, _ = columns_of(params, support.x)
    np.testing.assert_allclose(phi, whole[:, :, [0, 1, 3]])
    np.testing.assert_allclose(cut["mean"], params["mean"][:, [0, 1, 3]])
    assert set(node.ravel().tolist()) <= {1, 2}
    same = rule.override(params, {"max_depth": 9.0})
    np.testing.assert_array_equal(same["factor"], params["factor"])
    np.testing.assert_array_equal(same["tree/left"], params["tree/left"])


@pytest.mark.parametrize(("kind", "latents"), [("regression", 1), ("classification", 1), ("classification", 3)])
def test_the_view_says_what_is_predicted_and_where_it_comes_from(kind, latents):
    ways = 0 if kind == "regression" else max(latents, 2)
    params = prior(kind, latents=latents, split=2.0, most=3)
    params |= {"pooled/coef": np.zeros((FEATURES, latents)), "tree/offset": np.zeros((5, latents))}
    support = rows(count=20, ways=ways, seed=8)
    rule = PriorTree(kind, grows=True)
    state = rule.adapt(params, support)
    view = rule.view(params, state)
    tree = {name: getattr(view, name) for name in ("feature", "threshold", "left", "right")}
    node = descend(tree, support.x)[0]
    predicted = rule.predict(params, state, support.x)
    said = predicted.mean[0][:, None] if kind == "regression" else predicted.probability[0]
    np.testing.assert_allclose(view.value[node], said, atol=1e-9)
    np.testing.assert_array_equal(rule.apply(params, state, support.x)[0], node)
    assert view.rows[0] == view.rows[leaves(tree)].sum() == 20
    assert ((view.share >= 0) & (view.share <= 1 + 1e-9)).all()
    assert view.share[0] < 0.5
    nothing = Rows(support.x[:, :0], support.y[:, :0], support.mask[:, :0])
    np.testing.assert_allclose(rule.view(params, rule.adapt(params, nothing)).share, 1.0)
