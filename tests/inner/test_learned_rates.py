"""Learned update rules beside the rules that they start as, and their gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from upstairs.inner.descent import Descent
from upstairs.inner.learned_rates import LearnedAdam, LearnedSGD, root
from upstairs.inner.preconditioner import Kronecker
from upstairs.inner.trajectory import begun, further
from upstairs.inner.update_lstm import UpdateLSTM
from upstairs.inner.update_network import UpdateNetwork

KEY = jax.random.key(0)
MATRIX = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 0.6]])


def bowl(weights, key=None):
    """A loss of a matrix and a vector, with its lowest point at (1, 1, 1)."""
    away = weights["w"] - 1.0
    return 0.5 * jnp.einsum("ic,ij,jc->", away, jnp.asarray(MATRIX, away.dtype), away) + jnp.cosh(weights["b"]).sum()


def start(dtype=jnp.float32):
    return {"w": jnp.asarray(np.arange(6.0).reshape(3, 2) / 4, dtype), "b": jnp.asarray([0.3, -0.7], dtype)}


def path(rule: Descent, settings, weights, steps=4):
    """Losses after every step."""
    return further(rule, settings, bowl, begun(rule, settings, weights), steps, KEY)[1]


def path_of_optax(rule, weights, steps=4):
    state, found = rule.init(weights), []
    for _ in range(steps):
        update, state = rule.update(jax.grad(bowl)(weights), state, weights)
        weights = optax.apply_updates(weights, update)
        found.append(bowl(weights))
    return jnp.stack(found)


@pytest.mark.parametrize(
    ("rule", "usual"),
    [
        (LearnedSGD(0.1, momentum=None), optax.sgd(0.1)),
        (LearnedSGD(0.1, momentum=0.9), optax.sgd(0.1, 0.9)),
        (LearnedSGD(0.1, momentum=0.9, nesterov=True, per="weight"), optax.sgd(0.1, 0.9, nesterov=True)),
        (LearnedSGD(0.1, momentum=0.9, per="array", steps=2), optax.sgd(0.1, 0.9)),
        (LearnedAdam(0.1), optax.adam(0.1)),
        (LearnedAdam(0.1, beta1=0.5, beta2=0.9, per="weight", steps=3), optax.adam(0.1, 0.5, 0.9)),
        (Kronecker(0.1, momentum=0.9), optax.sgd(0.1, 0.9)),
        (UpdateNetwork(0.1, pairs=0, bend=0), optax.adam(0.1, b2=0.999)),
        (UpdateNetwork(0.1, pairs=0, bend=3), optax.adam(0.1, b2=0.999)),
    ],
    ids=lambda held: type(held).__name__ if isinstance(held, Descent) else "",
)
def test_before_learning_it_is_the_usual_rule(rule, usual):
    mine = jax.jit(lambda weights: path(rule, rule.settings(weights), weights))(start())
    theirs = jax.jit(lambda weights: path_of_optax(usual, weights))(start())
    np.testing.assert_allclose(mine, theirs, rtol=2e-5)


def test_pairs_correct_the_preconditioner_as_bfgs_does():
    """Beside the update of the dense inverse Hessian (Nocedal and Wright, equation 6.17), from the scaled preconditioner."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        curvature = rng.normal(size=(6, 6))
        curvature = jnp.asarray(curvature @ curvature.T + np.eye(6))
        rule, weights = Kronecker(0.05, pairs=3), {"w": jnp.asarray(rng.normal(size=(3, 2)))}
        settings = rule.settings(weights)
        settings["left/w"] = jnp.asarray(np.diag([0.5, 1.0, 2.0]))
        settings["rescale"], settings["length"] = jnp.log(3.0), jnp.log(0.8)  # to the power .75, eight tenths of a step

        def slope(w):
            return (curvature @ w["w"].ravel()).reshape(3, 2)

        memory, places, slopes = rule.init(settings, weights), [], []
        first = 0.05 * np.diag(np.repeat([0.5, 1.0, 2.0], 2))
        for step in range(6):
            places.append(np.asarray(weights["w"]).ravel())
            slopes.append(np.asarray(slope(weights)).ravel())
            inverse = first
            pairs = list(zip(np.diff(places, axis=0), np.diff(slopes, axis=0), strict=True))[-3:]
            if pairs:
                s, y = pairs[-1]
                inverse = first * (s @ y / (y @ first @ y)) ** 0.75
            for s, y in pairs:
                left = np.eye(6) - np.outer(s, y) / (s @ y)
                inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
            weights, memory = rule.update(settings, memory, {"w": slope(weights)}, weights)
            expected = places[step] - 0.8 * inverse @ slopes[step]
            np.testing.assert_allclose(np.asarray(weights["w"]).ravel(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "rule",
    [
        LearnedSGD(0.1, per="array", steps=3),
        LearnedSGD(0.1, nesterov=True, per="weight"),
        LearnedAdam(0.05, beta2=0.9, epsilon=0.1, per="array", steps=2),
        Kronecker(0.1, momentum=0.5, steps=3),
        Kronecker(0.1, steps=3, pairs=2),
        UpdateNetwork(0.1, pairs=0, width=3, bend=2),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_gradients_are_central_differences(rule):
    with jax.enable_x64(True):
        weights = start(jnp.float64)
        rng = np.random.default_rng(0)
        settings = {
            name: jnp.asarray(np.asarray(array) + 0.2 * rng.normal(size=array.shape))
            for name, array in rule.settings(weights).items()
        }
        way = {name: jnp.asarray(rng.normal(size=array.shape)) for name, array in settings.items()}

        @jax.jit
        def value(size):
            moved = {name: array + size * way[name] for name, array in settings.items()}
            return path(rule, moved, weights)[-1]

        slope = jax.jit(jax.grad(value))(0.0)
        central = (value(1e-5) - value(-1e-5)) / 2e-5
        assert slope != 0.0
        np.testing.assert_allclose(slope, central, rtol=1e-6)


def test_the_lstm_takes_no_derivative_of_gradients():
    rule = UpdateLSTM(units=3)
    weights = start()
    settings = {name: array + 0.1 for name, array in rule.settings(weights).items()}

    @jax.jit
    def moved(gradient):
        new, _ = rule.update(settings, rule.init(settings, weights), gradient, weights)
        return sum(jnp.square(array).sum() for array in new.values())

    gradient = {"w": jnp.ones((3, 2)), "b": jnp.array([1e-8, -2.0])}
    assert moved(gradient) != moved({name: -array for name, array in gradient.items()})
    assert all(not np.any(array) for array in jax.grad(moved)(gradient).values())


def test_multiplying_the_loss_changes_nothing_for_a_network():
    rule = UpdateNetwork(0.1)
    settings = {name: array + 0.05 for name, array in rule.settings(start()).items()}

    @jax.jit
    def end(height):
        def loss(weights, key):
            return height * bowl(weights)

        return further(rule, settings, loss, begun(rule, settings, start()), 4, KEY)[0].weights

    for name, array in end(1.0).items():
        np.testing.assert_allclose(end(300.0)[name], array, rtol=1e-4, atol=1e-5)


def test_a_network_serves_weights_of_any_shape():
    rule = UpdateNetwork()
    shapes = [
        {name: array.shape for name, array in jax.eval_shape(rule.settings, weights).items()}
        for weights in (start(), {"alone": jnp.zeros(())}, {"deep": jnp.zeros((2, 3, 4)), "b": jnp.zeros(5)})
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_rule_shows_natural_numbers():
    weights = start()
    sgd, adam = LearnedSGD(0.25, momentum=0.8), LearnedAdam(0.1, 0.7, 0.8, 1e-3)
    assert {name: round(float(value), 5) for name, value in sgd.shown(sgd.settings(weights)).items()} == {
        "rate": 0.25,
        "momentum": 0.8,
    }
    assert {name: round(float(value), 5) for name, value in adam.shown(adam.settings(weights)).items()} == {
        "rate": 0.1,
        "beta1": 0.7,
        "beta2": 0.8,
        "epsilon": 0.001,
    }


def test_the_root_teaches_nothing_at_zero():
    assert jax.vmap(jax.grad(root))(jnp.array([0.0, 4.0])).tolist() == [0.0, 0.25]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LearnedSGD(-0.1), "rate must be a positive number"),
        (lambda: LearnedSGD(momentum=1.0), "momentum must lie between 0 and 1"),
        (lambda: LearnedAdam(beta2=1.5), "beta2 must lie between 0 and 1"),
        (lambda: LearnedAdam(steps=0), "steps must be a whole number of at least 1"),
        (lambda: Kronecker(rate=0.0), "rate must be a positive number"),
        (lambda: Kronecker(pairs=-1), "pairs must be a whole number of at least 0"),
        (lambda: Kronecker(pairs=True), "pairs must be a whole number of at least 0"),
        (lambda: Kronecker(pairs=2, momentum=0.5), "momentum must be None where pairs correct"),
        (lambda: UpdateNetwork(rate=-1.0), "rate must be a positive number"),
        (lambda: UpdateNetwork(width=0), "width must be a whole number of at least 1"),
    ],
)
def test_what_means_nothing_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
