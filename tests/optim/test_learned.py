"""Learned rules as Optax transformations, in anyone's training code."""

from __future__ import annotations

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import upstairs as up
from upstairs.errors import PriorMismatchError
from upstairs.inner.learned_rates import LearnedSGD
from upstairs.optim import run, transformation


def bowls(count=8):
    scales = jnp.linspace(0.5, 2.0, count)
    return up.optim.Problems(lambda w, d: (d * jnp.square(w["x"] - 1.0)).sum(), scales, start={"x": jnp.zeros(3)})


@pytest.fixture(scope="module")
def learned():
    options = {"per": "array", "schedule": True}
    training = up.Training(steps=60, rate=0.1)
    return up.MetaGradientDescent("sgd", steps=5, options=options, training=training).meta_fit(bowls())


def test_it_keeps_the_conventions_of_optax(learned):
    weights = {"x": jnp.array([3.0, -1.0, 0.5])}
    gradient = {"x": jnp.array([1.0, 2.0, -1.0])}
    rule = learned.transformation()
    state = rule.init(weights)
    updates, later = jax.jit(rule.update)(gradient, state, weights)
    assert jax.tree.structure(updates) == jax.tree.structure(weights)
    assert jax.tree.structure(later) == jax.tree.structure(state)
    assert int(later.count) == 1
    # inspection, and the one number that may be changed
    assert state.hyperparams["rate/x"].shape == (5,)
    assert bool((state.hyperparams["rate/x"] > 0).all())
    half = state._replace(hyperparams=state.hyperparams | {"scale": jnp.asarray(0.5)})
    np.testing.assert_allclose(rule.update(gradient, half, weights)[0]["x"], updates["x"] / 2, rtol=1e-6)
    # chained with others
    chained = optax.chain(optax.scale(2.0), rule, optax.scale(0.5))
    doubled, _ = chained.update(gradient, chained.init(weights), weights)
    twice, _ = rule.update({"x": 2 * gradient["x"]}, state, weights)
    np.testing.assert_allclose(doubled["x"], twice["x"] / 2, rtol=1e-6)
    # a checkpoint in the middle: the state is a tree of arrays
    leaves, tree = jax.tree.flatten(later)
    restored = jax.tree.unflatten(tree, [jnp.asarray(np.asarray(leaf)) for leaf in leaves])
    one, two = (rule.update(gradient, at, weights)[0]["x"] for at in (later, restored))
    np.testing.assert_array_equal(one, two)


def test_it_descends_as_it_did_in_training(learned):
    loss = lambda w: (1.3 * jnp.square(w["x"] - 1.0)).sum()  # noqa: E731
    _, losses = learned.descend(loss, {"x": jnp.zeros(3)})
    assert losses.shape == (6,)
    assert losses[-1] < 0.02 * losses[0]
    _, longer = run(learned.transformation(), loss, {"x": jnp.zeros(3)}, 5)
    np.testing.assert_array_equal(losses, longer)


def test_a_penalty_pulls_back_to_the_start():
    rule = transformation(LearnedSGD(0.1, momentum=None), None, {"x": np.log(2.0)})
    weights = {"x": jnp.array([1.0])}
    state = rule.init(weights)
    updates, _ = rule.update({"x": jnp.array([0.0])}, state, {"x": jnp.array([4.0])})
    np.testing.assert_allclose(updates["x"], [-0.1 * 2.0 * 3.0], rtol=1e-5)


def test_pairs_learn_what_is_a_problems_own():
    """Common curvature is in the learned matrix, a problem's own can only be met on the way."""
    rng = np.random.default_rng(0)
    common = np.diag(np.logspace(-1, 1, 6))
    own = rng.normal(size=(40, 6, 2))
    curvature = jnp.asarray(common + 2.0 * own @ own.transpose(0, 2, 1), jnp.float32)

    def loss(weights, matrix):
        return 0.5 * weights["x"] @ matrix @ weights["x"]

    start = {"x": jnp.ones(6)}
    reached = {}
    for pairs in (0, 6):
        meta = up.MetaGradientDescent(
            "kronecker",
            steps=8,
            options={"rate": 0.05, "schedule": True, "pairs": pairs},
            objective=up.optim.Objective("last"),
            training=up.Training(steps=200, rate=0.03, batch=8),
        ).meta_fit(up.optim.Problems(loss, curvature[:30], start=start))
        rule = meta.transformation()
        losses = jax.vmap(lambda matrix, rule=rule: run(rule, lambda w: loss(w, matrix), start, 8)[1])(curvature[30:])
        reached[pairs] = float((losses[:, -1] / losses[:, 0]).mean())
        shown = rule.init(start).hyperparams
        assert shown["scale"] == 1.0
        assert ("length" in shown) == (pairs > 0)
    assert reached[6] < 0.2 * reached[0]


def test_weights_of_other_names_or_shapes_are_refused(learned):
    with pytest.raises(PriorMismatchError, match=r"needs '(rate|momentum)/y'"):
        learned.transformation().init({"y": jnp.zeros(3)})
    whole = up.MetaGradientDescent("sgd", steps=2, options={"per": "weight"}, training=up.Training(steps=1)).meta_fit(
        bowls()
    )
    with pytest.raises(PriorMismatchError, match=r"shape \(4,\)"):
        whole.transformation().init({"x": jnp.zeros(4)})
    with pytest.raises(ValueError, match="needs the weights"):
        learned.transformation().update({"x": jnp.zeros(3)}, learned.transformation().init({"x": jnp.zeros(3)}))
    with pytest.raises(PriorMismatchError, match="prior of a MetaGradientDescent"):
        up.optim.from_prior(up.Prior("neural-network", {"kind": "regression"}, {}))


def example():
    path = pathlib.Path(__file__).parents[2] / "examples" / "optimisation.py"
    if not path.exists():
        pytest.skip("a source distribution has no examples")
    spec = importlib.util.spec_from_file_location("optimisation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_module_of_equinox_is_trained():
    net, losses = example().equinox_model(40)
    assert losses[-1] < 0.2 * losses[0]
    assert net(jnp.ones(3)).shape == ()


def test_a_module_of_flax_is_trained():
    pytest.importorskip("flax.nnx")
    net, losses = example().flax_model(40)
    assert losses[-1] < 0.2 * losses[0]
    assert net(jnp.ones((2, 3))).shape == (2, 1)
