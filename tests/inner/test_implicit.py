"""Implicit MAML: the hand-worked case, finite differences of the solved problem, residual, and its limits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_cases import (
    agrees_with_central_differences,
    double_params,
    hand_worked,
    masked_rows_count_for_nothing,
    problem,
    slope_net,
)

from upstairs.inner.descent import SGD
from upstairs.inner.gradient import Maml
from upstairs.inner.implicit import ImplicitMaml, conjugate_gradients

KEY = jax.random.key(0)


def test_hand_worked_case() -> None:
    """Regulariser 2: phi = (h c + 2 t) / (h + 2), gradient 2 / (2 + h) * h (phi - c): (.57777 - .31111) / 2."""
    with jax.enable_x64(True):
        rule = ImplicitMaml(slope_net(), steps=200, regulariser=2.0, cg_steps=1)
        assert float(hand_worked(rule)["net/t"]) == pytest.approx(2 / 15, abs=1e-12)
        damped = dataclasses.replace(rule, damping=1.0)
        expected = (13 / 15 * 3 / 4 - 14 / 15 * 3 / 7) / 2
        assert float(hand_worked(damped)["net/t"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ways", [0, 3])
def test_gradient_is_that_of_the_solved_problem(ways: int) -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(ways)
        rule = ImplicitMaml(net, ways, 800, regulariser=1.0, cg_steps=60, descent=SGD(0.3))
        params = double_params(rule, spec)
        assert float(jax.jit(rule.residual)(params, *support)) < 1e-12
        agrees_with_central_differences(lambda p: rule.outer_loss(p, support, query, KEY), params, rel=1e-5)


def test_residual_tells_a_problem_that_is_not_solved() -> None:
    with jax.enable_x64(True):
        spec, net, support, _ = problem(0)
        rule = ImplicitMaml(net, 0, 0, descent=SGD(0.3))
        params = double_params(rule, spec)
        start, some, many = (
            float(jax.jit(dataclasses.replace(rule, steps=steps).residual)(params, *support)) for steps in (0, 3, 60)
        )
        assert start > some > 100 * many > 0


def test_a_strong_regulariser_adapts_nothing() -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(3)
        rule = ImplicitMaml(net, 3, 50, regulariser=1e8, descent=SGD(1e-8))
        params = double_params(rule, spec)
        mine = jax.jit(jax.grad(lambda p: rule.outer_loss(p, support, query, KEY)))(params)
        theirs = jax.jit(jax.grad(lambda p: Maml(net, 3, 0).outer_loss(p, support, query, KEY)))(params)
        for name in theirs:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("ways", [0, 3])
def test_masked_rows(ways: int) -> None:
    spec, net, support, _ = problem(ways)
    masked_rows_count_for_nothing(ImplicitMaml(net, ways), spec, support)


def test_conjugate_gradients_solve_and_stop() -> None:
    with jax.enable_x64(True):
        root = np.random.default_rng(0).normal(size=(5, 5))
        target = jnp.arange(1.0, 6.0)
        matrix = jnp.asarray(root @ root.T + np.eye(5))
        found = conjugate_gradients(lambda v: matrix @ v, target, 12)
        np.testing.assert_allclose(matrix @ found, target, rtol=1e-9)
        np.testing.assert_array_equal(conjugate_gradients(lambda v: -v, target, 3), target)
        np.testing.assert_array_equal(conjugate_gradients(lambda v: v, target, 3), target)


def test_settings_are_checked() -> None:
    net = slope_net()
    with pytest.raises(ValueError, match="regulariser must be positive, but is 0"):
        ImplicitMaml(net, regulariser=0.0)
    with pytest.raises(ValueError, match="damping must not be negative, but is -1"):
        ImplicitMaml(net, damping=-1.0)
