"""Runs of an update rule, and what they count for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.trajectory import Objective, rolled


@pytest.mark.parametrize("steps", [5, 6, 257, 289])
def test_a_rolled_loop_is_a_plain_one(steps):
    def end(rate):
        carry, seen = rolled(lambda x, _: (x - rate * jnp.sin(x), x), jnp.float32(2.0), steps)
        return carry, seen

    def plain(rate):
        return jax.lax.scan(lambda x, _: (x - rate * jnp.sin(x), x), jnp.float32(2.0), None, length=steps)

    mine, theirs = (jax.jit(jax.value_and_grad(make, has_aux=True)) for make in (end, plain))
    (value, seen), slope = mine(0.01)
    (value_of_plain, seen_of_plain), slope_of_plain = theirs(0.01)
    np.testing.assert_allclose(seen, seen_of_plain, rtol=1e-5)
    np.testing.assert_allclose([value, slope], [value_of_plain, slope_of_plain], rtol=1e-4)


def test_an_objective_counts_as_it_says():
    losses = jnp.array([4.0, 2.0, 1.0, jnp.nan])
    assert float(Objective("last", "loss", cap=7.0)(losses)) == 7.0
    assert float(Objective("last", "relative")(losses)) == 10.0
    assert float(Objective("mean", "loss")(losses, 2)) == 1.5
    assert float(Objective("last", "relative")(jnp.array([-2.0, -3.0]))) == 0.5
    np.testing.assert_allclose(float(Objective("last", "log")(losses, 1)), np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(float(Objective("last", "log", floor=0.5)(losses, 1)), np.log(4.0), rtol=1e-6)
    slope = jax.grad(lambda last: Objective()(jnp.array([4.0, 2.0, 1.0, 1.0]).at[3].set(last)))
    assert float(slope(1.0)) > 0.0
    assert float(slope(jnp.inf)) == 0.0


@pytest.mark.parametrize("bad", [{"over": "first"}, {"measure": "rank"}, {"cap": 0.0}])
def test_an_objective_that_means_nothing_is_refused(bad):
    with pytest.raises(Exception, match=next(iter(bad))):
        Objective(**bad)
