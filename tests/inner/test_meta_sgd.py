"""Meta-SGD and first-order MAML under its own name: the hand-worked case, and MAML where they are MAML."""

from __future__ import annotations

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
from upstairs.inner.fomaml import FirstOrderMaml
from upstairs.inner.gradient import Maml
from upstairs.inner.meta_sgd import MetaSGD


def test_hand_worked_case() -> None:
    """Rate .1: the start as MAML; the rate by -mean(g_Q g_S) = -(1.17 * 1.3 + 1.68 * 2.8) / 2."""
    with jax.enable_x64(True):
        found = hand_worked(MetaSGD(slope_net(), rate=0.1))
        assert float(found["net/t"]) == pytest.approx(0.0225, abs=1e-12)
        assert float(found["descent/rate/t"]) == pytest.approx(-3.1125, abs=1e-12)
        first = hand_worked(FirstOrderMaml(slope_net(), steps=1, descent=SGD(0.1)))
        assert float(first["net/t"]) == pytest.approx(-0.255, abs=1e-12)


@pytest.mark.parametrize("ways", [0, 3])
def test_equal_rates_are_maml(ways: int) -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(ways)
        rule, maml = MetaSGD(net, ways, 2, 0.2), Maml(net, ways, 2, SGD(0.2))
        params = double_params(maml, spec)
        rates = {f"descent/rate/{k[4:]}": jnp.full_like(v, 0.2) for k, v in params.items() if k.startswith("net/")}
        key = jax.random.key(0)
        mine = jax.jit(jax.grad(lambda p: rule.outer_loss(p, support, query, key)))(params | rates)
        theirs = jax.jit(jax.grad(lambda p: maml.outer_loss(p, support, query, key)))(params)
        for name, array in theirs.items():
            np.testing.assert_allclose(mine[name], array, rtol=1e-10, atol=1e-14)
        agrees_with_central_differences(lambda p: rule.outer_loss(p, support, query, key), params | rates)


def test_first_order_is_maml_on_a_task() -> None:
    spec, net, support, _ = problem(3)
    rule = FirstOrderMaml(net, 3, 2)
    params = rule.init(jax.random.key(0), spec)
    x, y = support.x.astype(jnp.float32), support.y
    theirs = jax.jit(Maml(net, 3, 2).adapt)(params, x, y, support.mask)
    for name, array in jax.jit(rule.adapt)(params, x, y, support.mask).items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ways", [0, 3])
def test_masked_rows(ways: int) -> None:
    spec, net, support, _ = problem(ways)
    masked_rows_count_for_nothing(MetaSGD(net, ways), spec, support)
