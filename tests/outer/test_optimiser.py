"""Settings become the Optax rule that they name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from upstairs.outer.optimiser import Optimiser, built
from upstairs.values import restored, stored


def test_muon_moves_matrices_by_orthogonal_steps_and_the_rest_as_adam_does() -> None:
    params = {"matrix": jnp.zeros((3, 5)), "vector": jnp.zeros(4)}
    gradient = {"matrix": jax.random.normal(jax.random.key(0), (3, 5)), "vector": jnp.array([3.0, -2.0, 0.1, 1.0])}
    update = {}
    for name, rule in (("muon", built(Optimiser("muon", 0.02, clip=None))), ("adam", optax.nadam(0.002))):
        update[name] = jax.jit(lambda g, p, rule=rule: rule.update(g, rule.init(p), p)[0])(gradient, params)
    values = np.linalg.svd(update["muon"]["matrix"], compute_uv=False)
    assert (
        values.max() / values.min() < 2.0
    )  # five steps of Newton and Schulz come near, those of the gradient are apart
    spread = np.linalg.svd(gradient["matrix"], compute_uv=False)
    assert spread.max() / spread.min() > 1.5 * values.max() / values.min()
    assert (np.sign(np.diag(update["muon"]["matrix"] @ gradient["matrix"].T)) == -1).all()
    np.testing.assert_allclose(update["muon"]["vector"], update["adam"]["vector"], rtol=1e-5)


def test_settings_are_stored_and_refused() -> None:
    rule = Optimiser("muon", 0.02, "cosine", 100, warmup=10, clip=1.0)
    assert restored(stored(rule)) == rule
    assert rule.rate_at(4) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="schedule='cosine' needs steps"):
        Optimiser("muon", schedule="cosine")
