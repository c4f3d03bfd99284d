"""Hypergradient descent: steps worked out by hand, one rate for all arrays, and recovery from a rate that is too small."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from upstairs.optim.hypergradient import HypergradientState, hypergradient_adam, hypergradient_sgd

RULES = {
    "sgd": hypergradient_sgd,
    "momentum": lambda rate, **more: hypergradient_sgd(rate, momentum=0.9, **more),
    "nesterov": lambda rate, **more: hypergradient_sgd(rate, momentum=0.9, nesterov=True, **more),
    "adam": hypergradient_adam,
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
every_form = pytest.mark.parametrize("form", ["additive", "multiplicative"])


def rate_of(state: HypergradientState) -> float:
    return float(state.hyperparams["learning_rate"])


def descend(
    rule: optax.GradientTransformation, start: Any, steps: int, gradient: Callable[[Any], Any] = lambda w: w
) -> tuple[list[Any], list[float]]:
    """Weights and rates after each step; by default on half the square, whose gradient is the weights."""
    weights, state = start, rule.init(start)
    path, rates = [], []
    for _ in range(steps):
        update, state = rule.update(gradient(weights), state)
        weights = optax.apply_updates(weights, update)
        path.append(weights)
        rates.append(rate_of(state))
    return path, rates


def by_hand(rule: optax.GradientTransformation, rates: list[float], weights: list[float]) -> None:
    with jax.enable_x64(True):
        path, found = descend(rule, jnp.asarray([1.0], jnp.float64), len(rates))
        np.testing.assert_allclose(found, rates, rtol=1e-12)
        np.testing.assert_allclose(np.ravel(path), weights, rtol=1e-12)


def test_three_additive_steps_of_sgd() -> None:
    # a = .1, then .1 + .1 * .9 * 1 = .19, then .19 + .1 * .729 * .9 = .25561
    # w = 1 - .1, then .9 - .19 * .9, then .729 - .25561 * .729
    by_hand(
        hypergradient_sgd(0.1, hyper_rate=0.1, form="additive"), [0.1, 0.19, 0.25561], [0.9, 0.729, 0.729 * 0.74439]
    )


def test_three_additive_steps_with_momentum() -> None:
    # v = 1, .5 + .9 = 1.4, .7 + .634 = 1.334; a = .1, .1 + .1 * .9 * 1, .19 + .1 * .634 * 1.4 = .27876
    # w = .9, .9 - .19 * 1.4 = .634, .634 - .27876 * 1.334
    rule = hypergradient_sgd(0.1, hyper_rate=0.1, momentum=0.5, form="additive")
    by_hand(rule, [0.1, 0.19, 0.27876], [0.9, 0.634, 0.26213416])


def test_two_additive_steps_with_nesterov_use_the_direction_that_was_applied() -> None:
    # d = 1 + .5 * 1 = 1.5, w = .85; a = .1 + .1 * .85 * 1.5 = .2275; d = .85 + .5 * (.5 + .85) = 1.525
    rule = hypergradient_sgd(0.1, hyper_rate=0.1, momentum=0.5, nesterov=True, form="additive")
    by_hand(rule, [0.1, 0.2275], [0.85, 0.85 - 0.2275 * 1.525])


def test_three_additive_steps_of_adam() -> None:
    # step 1: m = v = .5, both over 1 - .5, so d = 1
    # step 2: g = .9, m = .25 + .45 = .7, v = .25 + .405 = .655, both over 1 - .25
    d2 = 0.7 / 0.75 / math.sqrt(0.655 / 0.75)
    w2 = 0.9 - 0.19 * d2
    # step 3: halves again, over 1 - .125
    d3 = (0.35 + w2 / 2) / 0.875 / math.sqrt((0.3275 + w2**2 / 2) / 0.875)
    a3 = 0.19 + 0.1 * w2 * d2
    rule = hypergradient_adam(0.1, hyper_rate=0.1, beta1=0.5, beta2=0.5, epsilon=1e-30, form="additive")
    by_hand(rule, [0.1, 0.19, a3], [0.9, w2, w2 - a3 * d3])


def test_multiplicative_steps() -> None:
    # all cosines are one, so that the logarithm grows by .4 sqrt(g_t / g_1), with g_1 = 1, g_2 = .9, g_3 = w_2
    a2 = 0.1 * math.exp(0.4 * math.sqrt(0.9))
    w2 = 0.9 * (1 - a2)
    a3 = a2 * math.exp(0.4 * math.sqrt(w2))
    by_hand(hypergradient_sgd(0.1), [0.1, a2, a3], [0.9, w2, w2 * (1 - a3)])
    # rate 3 goes from 1 to -2, the longest gradient: the cosine is -1, so n = 1 and the fall is .4 / sqrt(1 + 3)
    a2 = 3 * math.exp(-0.2)
    by_hand(hypergradient_sgd(3.0), [3.0, a2], [-2.0, -2.0 + 2 * a2])


@every_rule
@pytest.mark.parametrize(("form", "hyper_rate"), [("additive", 0.01), ("multiplicative", None)])
def test_the_rate_is_corrected_once_for_all_arrays(rule: Any, form: str, hyper_rate: float | None) -> None:
    with jax.enable_x64(True):
        scale = jnp.array([1.0, 3.0, 0.2, 2.0, 0.5], jnp.float64)
        whole = jnp.array([1.0, -2.0, 0.3, 0.7, -1.1], jnp.float64)

        def parts(array: Any) -> dict[str, Any]:
            return {"a": array[:2], "b": {"c": array[2:3], "d": array[3:].reshape(2, 1)}, "none": None}

        made = rule(0.05, form=form, hyper_rate=hyper_rate)
        one, rates = descend(made, whole, 6, lambda w: scale * w)
        several, others = descend(
            made, parts(whole), 6, lambda tree: jax.tree.map(lambda s, w: s * w, parts(scale), tree)
        )
        np.testing.assert_allclose(rates, others, rtol=1e-12)
        np.testing.assert_allclose(one[-1][2:3], several[-1]["b"]["c"], rtol=1e-12)
        assert len(set(rates)) > 2


@every_rule
@every_form
def test_the_rate_stays_positive_whatever_the_gradients(rule: Any, form: str) -> None:
    made = rule(0.1, form=form, hyper_rate=5.0)
    weights = jnp.zeros(2)
    state = made.init(weights)
    update = jax.jit(made.update)
    for step in range(40):
        _, state = update(jnp.full(2, (-1.0) ** step * 10.0 ** (step % 9)), state)
        assert rate_of(state) > 0.0
        assert math.isfinite(rate_of(state))


def test_the_additive_rate_falls_to_a_tenth_at_most() -> None:
    made = hypergradient_sgd(0.5, hyper_rate=100.0, form="additive")
    state = made.init(jnp.zeros(1))
    _, state = made.update(jnp.ones(1), state)
    _, state = made.update(-jnp.ones(1), state)
    assert rate_of(state) == pytest.approx(0.05)


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e12])
def test_the_multiplicative_form_does_not_see_the_scale_of_the_loss(scale: float) -> None:
    curvature = jnp.array([1.0, 10.0])
    start = jnp.array([1.0, -1.0])
    path, rates = descend(hypergradient_sgd(0.01), start, 15, lambda w: curvature * w)
    other, others = descend(hypergradient_sgd(0.01 / scale), start, 15, lambda w: scale * curvature * w)
    np.testing.assert_allclose(np.array(others) * scale, rates, rtol=1e-4)
    np.testing.assert_allclose(other[-1], path[-1], rtol=1e-3)


@every_rule
def test_hyper_rate_zero_is_the_plain_rule(rule: Any) -> None:
    plain = {
        "sgd": optax.sgd(0.1),
        "momentum": optax.sgd(0.1, momentum=0.9),
        "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
        "adam": optax.adam(0.1),
    }[next(name for name, found in RULES.items() if found is rule)]
    made, start = rule(0.1, hyper_rate=0.0), jnp.array([1.0, -3.0])
    weights = start
    state = plain.init(start)
    for found in descend(made, start, 4)[0]:
        update, state = plain.update(weights, state)
        weights = optax.apply_updates(weights, update)
        np.testing.assert_allclose(found, weights, rtol=1e-5)


@every_rule
@every_form
def test_gradients_without_meaning_leave_the_rate(rule: Any, form: str) -> None:
    made = rule(0.25, form=form)
    state = made.init(jnp.zeros(3))
    for gradient in (jnp.zeros(3), jnp.ones(3)):  # the memory is zero before the second
        update, state = made.update(gradient, state)
        assert rate_of(state) == 0.25
        assert bool(jnp.isfinite(update).all())
    for gradient in (jnp.zeros(3), jnp.array([1.0, jnp.nan, 0.0])):
        _, state = made.update(gradient, state)
        assert rate_of(state) == 0.25


def test_in_a_chain_and_a_compiled_scan_as_step_by_step() -> None:
    rule = optax.chain(optax.clip_by_global_norm(1.0), hypergradient_sgd(1e-3, momentum=0.5))
    start = {"w": jnp.array([3.0, -5.0]), "b": jnp.zeros((), jnp.float32)}

    def step(carry: Any, _: Any) -> Any:
        weights, state = carry
        update, state = rule.update(weights, state, weights)
        return (optax.apply_updates(weights, update), state), state[1].hyperparams["learning_rate"]

    (weights, state), rates = jax.jit(lambda: jax.lax.scan(step, (start, rule.init(start)), None, length=5))()
    carry = (start, rule.init(start))
    for rate in rates:
        carry, found = step(carry, None)
        assert float(found) == pytest.approx(float(rate), rel=1e-5)
    np.testing.assert_allclose(weights["w"], carry[0]["w"], rtol=1e-5)
    assert int(state[1].count) == 5


def test_the_rate_can_be_read_and_set() -> None:
    rule = hypergradient_sgd(0.1)
    state = rule.init(jnp.ones(1))
    assert isinstance(state, HypergradientState)
    assert list(state.hyperparams) == ["learning_rate"]
    state = state._replace(hyperparams={"learning_rate": jnp.asarray(0.5)})
    update, _ = rule.update(jnp.ones(1), state)
    assert update.tolist() == [-0.5]


def test_half_precision_weights_keep_their_type_and_a_float32_rate() -> None:
    rule = hypergradient_adam(1e-3)
    state = rule.init(jnp.ones(3, jnp.bfloat16))
    for _ in range(2):
        update, state = rule.update(jnp.ones(3, jnp.bfloat16), state)
    assert update.dtype == jnp.bfloat16
    assert state.moments["first"].dtype == state.direction.dtype == jnp.bfloat16
    assert state.hyperparams["learning_rate"].dtype == jnp.float32


@pytest.mark.parametrize(("name", "rate"), [("sgd", 1e-3), ("momentum", 1e-4), ("nesterov", 1e-4), ("adam", 1e-3)])
def test_recovers_from_a_rate_a_hundred_times_too_small(name: str, rate: float) -> None:
    rule = RULES[name]
    curvature = jnp.array([1.0, 2.0, 4.0])
    start = jnp.array([1.0, -1.0, 1.0])

    def loss(made: optax.GradientTransformation) -> float:
        def step(carry: Any, _: Any) -> Any:
            weights, state = carry
            update, state = made.update(curvature * weights, state)
            return (weights + update, state), None

        (weights, _), _ = jax.lax.scan(step, (start, made.init(start)), None, length=100)
        return float(jnp.sum(curvature * weights**2) / 2)

    first = float(jnp.sum(curvature * start**2) / 2)
    assert loss(rule(rate, hyper_rate=0.0)) > 0.5 * first
    assert loss(rule(rate)) < 0.005 * first


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hypergradient_sgd(0.0), "rate must be a finite number above 0, but is 0.0"),
        (lambda: hypergradient_adam(-1.0), "rate must be .* but is -1.0"),
        (lambda: hypergradient_sgd(math.nan), "rate must be"),
        (lambda: hypergradient_sgd(0.1, hyper_rate=-1.0), "hyper_rate must be .* at least 0"),
        (lambda: hypergradient_adam(0.1, hyper_rate=math.inf), "hyper_rate must be"),
        (lambda: hypergradient_sgd(0.1, momentum=1.0), r"momentum must be in \[0, 1\), but is 1.0"),
        (lambda: hypergradient_sgd(0.1, nesterov=True), "nesterov=True needs momentum"),
        (lambda: hypergradient_adam(0.1, beta1=-0.1), r"beta1 must be in \[0, 1\)"),
        (lambda: hypergradient_adam(0.1, beta2=1.0), r"beta2 must be in \[0, 1\)"),
        (lambda: hypergradient_adam(0.1, epsilon=0.0), "epsilon must be"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_an_unknown_form_is_refused() -> None:
    form: Any = "other"
    with pytest.raises(Exception, match="form"):
        hypergradient_sgd(0.1, form=form)
