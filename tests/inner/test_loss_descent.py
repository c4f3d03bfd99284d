"""Learning an update rule on losses: gradients of a run by everything that is learned, four ways."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.descent import SGD
from upstairs.inner.learned_rates import LearnedSGD
from upstairs.inner.loss_descent import LossDescent, Problem
from upstairs.inner.trajectory import Objective
from upstairs.outer.estimators import Forward, Reverse

KEY = jax.random.key(0)
SHAPES = (("a", (3,)), ("b", ()))
LAST = Objective("last", "loss", cap=1e9)


def loss(weights, data, key):
    fit = data["x"] @ weights["a"] + weights["b"] - data["y"]
    return 0.5 * jnp.square(fit).mean()


def judge(weights, data, key):
    fit = data["new x"] @ weights["a"] + weights["b"] - data["new y"]
    return 0.5 * jnp.square(fit).mean()


def problem():
    rng = np.random.default_rng(1)
    data = {
        "x": rng.normal(size=(8, 3)),
        "y": rng.normal(size=8),
        "new x": rng.normal(size=(20, 3)),
        "new y": rng.normal(size=20),
    }
    start = {"a": jnp.asarray(rng.normal(size=3)), "b": jnp.asarray(0.1)}
    return Problem({name: jnp.asarray(array) for name, array in data.items()}, start)


def central(value, params):
    """Finite differences, number by number."""
    found = {}
    for name, array in params.items():
        slope = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            ends = []
            for size in (1e-5, -1e-5):
                moved = np.array(array)
                moved[place] += size
                ends.append(float(value({**params, name: jnp.asarray(moved)})))
            slope[place] = (ends[0] - ends[1]) / 2e-5
        found[name] = slope
    return found


def test_forward_reverse_and_implicit_gradients_are_central_differences():
    """A strongly convex problem: ridge regression with learned penalties, rate and momentum, solved to the end."""
    with jax.enable_x64(True):
        task = problem()
        usual = LossDescent(
            loss, SHAPES, LearnedSGD(0.1, momentum=0.5), 300, None, LAST, judge=judge, penalty=0.3, name=1
        )
        params = {name: jnp.asarray(array, jnp.float64) for name, array in usual.init(KEY).items()}
        value = jax.jit(lambda params: usual.outer_loss(params, task, None, KEY))
        truth = central(value, params)
        for estimator in (Reverse(), Forward()):
            found = jax.jit(
                lambda params, estimator=estimator: estimator(usual.outer_loss, params, task, None, KEY)[1]
            )(params)
            for name in params:
                np.testing.assert_allclose(
                    found[name], truth[name], atol=1e-6, rtol=1e-6, err_msg=f"{estimator} {name}"
                )
        implicit = LossDescent(
            loss, SHAPES, SGD(0.3), 2000, None, LAST, judge=judge, penalty=0.3, implicit=True, learn_start=True, name=1
        )
        params = {name: array for name, array in params.items() if name.startswith("penalty")}
        params |= {f"start/{name}": array for name, array in task.start.items()}
        solved = LossDescent(
            loss, SHAPES, SGD(0.3), 2000, None, LAST, judge=judge, penalty=0.3, learn_start=True, name=1
        )
        truth = central(jax.jit(lambda params: solved.outer_loss(params, task, None, KEY)), params)
        found = jax.jit(jax.grad(lambda params: implicit.outer_loss(params, task, None, KEY)))(params)
        for name in params:
            assert np.abs(truth[name]).max() > 1e-4
            np.testing.assert_allclose(found[name], truth[name], atol=1e-6, rtol=1e-6, err_msg=name)


def test_forward_mode_needs_little_memory_over_many_steps():
    rule = LossDescent(
        loss, (("a", (200,)), ("b", ())), LearnedSGD(0.1, per="array"), 2000, None, LAST, penalty=None, name=2
    )
    rng = np.random.default_rng(0)
    data = {"x": jnp.asarray(rng.normal(size=(8, 200)), jnp.float32), "y": jnp.zeros(8)}
    task = Problem(data, {"a": jnp.ones(200), "b": jnp.zeros(())})
    five = {"a": jnp.zeros(()), "b": jnp.zeros(()), "c": jnp.zeros(()), "d": jnp.zeros(()), "e": jnp.zeros(())}

    def value(five, keep):
        """Five numbers: the rule's four and one that scales the start, with or without a loop that keeps every step."""
        params = {
            "descent/rate/a": five["a"] - 3,
            "descent/rate/b": five["b"] - 3,
            "descent/momentum/a": five["c"],
            "descent/momentum/b": five["d"],
        }
        begin = {name: array * (1.0 + five["e"]) for name, array in task.start.items()}
        return rule.outer_loss(params, Problem(task.data, begin), None, KEY)

    def plain(five):
        """The same run in a loop that keeps everything that reverse mode needs."""
        rates = {"a": jnp.exp(five["a"] - 3), "b": jnp.exp(five["b"] - 3)}
        kept = {"a": jax.nn.sigmoid(five["c"]), "b": jax.nn.sigmoid(five["d"])}
        weights = {name: array * (1.0 + five["e"]) for name, array in task.start.items()}
        speed = {name: jnp.zeros_like(array) for name, array in weights.items()}

        def step(carry, _):
            weights, speed = carry
            slope = jax.grad(loss)(weights, data, KEY)
            speed = {name: kept[name] * speed[name] + slope[name] for name in weights}
            return ({name: weights[name] - rates[name] * speed[name] for name in weights}, speed), None

        return loss(jax.lax.scan(step, (weights, speed), None, length=2000)[0][0], data, KEY)

    def bytes_of(function):
        return jax.jit(function).lower(five).compile().memory_analysis().temp_size_in_bytes

    forward = bytes_of(lambda five: Forward()(lambda five, key: value(five, key), five, KEY)[1])
    rematerialised = bytes_of(jax.grad(lambda five: value(five, KEY)))
    assert forward < 0.1 * bytes_of(jax.grad(plain))
    assert forward < rematerialised


def test_what_is_stretched_is_the_same_problem():
    """In other units the loss of the same place is another multiple of what it was, the same for every place."""
    descent = LearnedSGD(0.1, momentum=None, per="array")
    rule = LossDescent(loss, SHAPES, descent, 3, None, LAST, rescale=4.0, name=3, judge=judge)
    task = problem()
    moved, stretched = rule._stretched(task, KEY)
    units = {name: task.start[name] / moved.start[name] for name in task.start}
    assert all(0.25 <= float(jnp.ravel(unit)[0]) <= 4.0 for unit in units.values())
    heights = []
    for factor in (1.0, -2.0):
        there = {name: factor * array for name, array in moved.start.items()}
        as_was = {name: units[name] * array for name, array in there.items()}
        heights.append(stretched.loss(there, task.data, KEY) / loss(as_was, task.data, KEY))
        heights.append(stretched.judge(there, task.data, KEY) / judge(as_was, task.data, KEY))
    np.testing.assert_allclose(heights, heights[0], rtol=1e-4)
    assert not np.isclose(heights[0], 1.0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"rescale": 0.5}, "rescale must be at least 1"),
        ({"shortest": 9}, "shortest must lie between 1 and steps=3"),
        ({"penalty": 0.1}, "pass judge"),
        ({"penalty": -0.1, "judge": judge}, "penalty must be a positive number"),
        ({"implicit": True}, "needs a penalty"),
    ],
)
def test_what_means_nothing_is_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        LossDescent(loss, SHAPES, LearnedSGD(), 3, **bad)
