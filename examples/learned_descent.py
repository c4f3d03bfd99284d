"""Train an Equinox and a Flax model with a learned update rule, which is a plain Optax transformation.

    python examples/learned_descent.py

The rule is the one that ships; `upstairs.MetaGradientDescent(...).meta_fit(problems).transformation()` gives one that was made
for your kind of problem, used in the same way.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import upstairs as up

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 3)).astype(np.float32)
Y = np.sin(X @ np.array([1.0, -2.0, 0.5], np.float32))


def equinox_model(steps: int = 60) -> tuple[Any, Any]:
    """An Equinox network, in a training loop of one's own."""
    net = eqx.nn.MLP(3, "scalar", 16, 1, key=jax.random.key(0))
    rule = up.optim.pretrained()
    state = rule.init(eqx.filter(net, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(net: Any, state: Any) -> Any:
        loss, gradient = eqx.filter_value_and_grad(lambda net: jnp.square(jax.vmap(net)(X) - Y).mean())(net)
        updates, state = rule.update(gradient, state, eqx.filter(net, eqx.is_inexact_array))
        return eqx.apply_updates(net, updates), state, loss

    losses = []
    for _ in range(steps):
        net, state, loss = step(net, state)
        losses.append(float(loss))
    return net, losses


def flax_model(steps: int = 60) -> tuple[Any, Any]:
    """A Flax NNX network, in one compiled loop; clipping is chained in front as with any other transformation."""
    from flax import nnx

    net = nnx.Sequential(nnx.Linear(3, 16, rngs=nnx.Rngs(0)), jax.nn.tanh, nnx.Linear(16, 1, rngs=nnx.Rngs(1)))
    graph, weights = nnx.split(net)
    rule = optax.chain(optax.clip_by_global_norm(10.0), up.optim.pretrained())
    weights, losses = up.optim.run(
        rule, lambda weights: jnp.square(nnx.merge(graph, weights)(X)[:, 0] - Y).mean(), weights, steps
    )
    return nnx.merge(graph, weights), losses


if __name__ == "__main__":
    for name, train in (("Equinox", equinox_model), ("Flax", flax_model)):
        _, losses = train()
        print(f"{name}: {losses[0]:.3f} at the start, {losses[-1]:.5f} after {len(losses) - 1} steps")
