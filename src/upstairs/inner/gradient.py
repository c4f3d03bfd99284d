"""Learn a task by a few gradient steps from a learned start: MAML, its first-order form, and Reptile.

References
----------
.. [1] Finn, C., Abbeel, P. and Levine, S. (2017). Model-agnostic meta-learning for fast adaptation of deep
   networks. ICML; equations 1 and 2, algorithm 1.
.. [2] Nichol, A., Achiam, J. and Schulman, J. (2018). On first-order meta-learning algorithms. arXiv 1803.02999.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import SGD, Adam, Descent
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TaskRows, TracedRule, log_density, masked_mean
from upstairs.nets.build import Net

__all__ = ["Maml", "Reptile", "check_net", "descend", "part"]

LEAST_VARIANCE = 1e-6
_SGD, _ADAM = SGD(0.03, learned=True), Adam(1e-3)

Loss: TypeAlias = Callable[[Any], Float[Array, ""]]


def part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Arrays whose names start with ``prefix/``, under the rest of their names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def descend(
    loss: Loss,
    start: Arrays,
    *,
    steps: int,
    descent: Descent,
    settings: Arrays,
    first_order: bool = False,
) -> dict[str, Array]:
    """Make some steps down a loss.

    Parameters
    ----------
    loss : callable
        Of the weights.
    start : dict of arrays
    steps : int
    descent, settings
        The update rule, and its learned arrays.
    first_order : bool
        Whether the gradient of the result leaves out second derivatives: the gradients of the steps count as
        constants, the path of the weights does not.

    Examples
    --------
    >>> found = descend(lambda w: 0.5 * w["t"] ** 2, {"t": jnp.array(1.0)}, steps=2, descent=SGD(0.5), settings={})
    >>> float(found["t"])
    0.25
    """
    slope = jax.grad(loss)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        weights, memory = carry
        gradient = slope(weights)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        return descent.update(settings, memory, gradient, weights), None

    carry = (dict(start), descent.init(settings, start))
    if steps <= 5:
        for _ in range(steps):
            carry, _ = step(carry, None)
        return carry[0]
    # many steps: one compiled body, and only the weights between steps are kept for the way back
    return jax.lax.scan(jax.checkpoint(step), carry, None, length=steps)[0][0]


@final
@dataclass(frozen=True)
class Maml(TracedRule):
    """Model-agnostic meta-learning: a start from which a few gradient steps go far [1]_.

    Learned over tasks: the weights that every task starts from (``net/...``), what the update rule learns
    (``descent/...``), and for a regression the noise (``noise``, the log of its variance). Learned on a task: the
    weights after the steps. The loss of the steps is half the mean squared error, or the mean log loss.

    Parameters
    ----------
    net : Net
        Maps features to the mean of the target, or to the logits of a fixed number of classes.
    ways : int
        Classes; 0 for a regression.
    steps : int
    descent : Descent
    first_order : bool
        Leave second derivatives out of the outer gradient: about a third less work, and a little accuracy.
    """

    net: Net
    ways: int = 0
    steps: int = 5
    descent: Descent = _SGD
    first_order: bool = False

    @property
    def sequential(self) -> bool:
        """Whether tasks go one after another: where the network says so."""
        return self.net.heavy

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network."""
        check_net(self.net, spec, self.ways or None)
        weights = self.net.init(key)
        params = {f"net/{name}": array for name, array in weights.items()}
        params |= {f"descent/{name}": array for name, array in self.descent.settings(weights).items()}
        return params if self.ways else params | {"noise": jnp.zeros(())}

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Make the steps."""
        return descend(
            lambda weights: self._loss(weights, x, y, mask),
            part(params, "net"),
            steps=self.steps,
            descent=self.descent,
            settings=part(params, "descent"),
            first_order=self.first_order,
        )

    def predict(self, params: Arrays, state: Arrays, x: Float[Array, "row ..."]) -> Normal | Logits:
        """Evaluate the adapted network."""
        out = self.net(state, x)
        return Logits(out) if self.ways else _normal(out, params["noise"])

    def _loss(self, weights: Arrays, x: Array, y: Array, mask: Array) -> Float[Array, ""]:
        return _fit(self.net(weights, x), y, mask, self.ways)


@final
@dataclass(frozen=True)
class Reptile(TracedRule):
    """Reptile: move the start towards where tasks end [2]_.

    Learned over tasks and on a task: as `Maml`, but the outer loss is half the squared distance from the start to the
    adapted weights, whose gradient needs no derivative of the steps. Departures from the paper: each step uses all
    support rows, and the noise of a regression is learned beside it, from the query rows.

    Parameters
    ----------
    net, ways, steps, descent
        As for `Maml`. One step is joint training: use several.
    """

    net: Net
    ways: int = 0
    steps: int = 5
    descent: Descent = _ADAM

    @property
    def sequential(self) -> bool:
        """Whether tasks go one after another: where the network says so."""
        return self.net.heavy

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network."""
        return self._maml.init(key, spec)

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Make the steps."""
        return self._maml.adapt(params, x, y, mask)

    def predict(self, params: Arrays, state: Arrays, x: Float[Array, "row ..."]) -> Normal | Logits:
        """Evaluate the adapted network."""
        return self._maml.predict(params, state, x)

    def outer_loss(self, params: Arrays, support: TaskRows, query: TaskRows, key: PRNGKeyArray) -> Float[Array, ""]:
        """Half the squared distance to the adapted weights, plus what the noise needs to be learned."""
        state = jax.lax.stop_gradient(self.adapt(params, *support))
        start = part(params, "net")
        distance = sum((jnp.square(start[name] - state[name]).sum() for name in start), jnp.zeros(()))
        if self.ways:
            return 0.5 * distance
        predicted = self.predict(params, state, query.x)
        return 0.5 * distance + masked_mean(-log_density(predicted, query.y), query.mask)

    @property
    def _maml(self) -> Maml:
        return Maml(self.net, self.ways, self.steps, self.descent, first_order=True)


def check_net(net: Net, spec: Spec, outputs: int | None) -> None:
    """Refuse a network that does not fit the tasks.

    Raises
    ------
    PriorMismatchError
        If inputs or outputs differ from what the tasks need.
    """
    if net.inputs != spec.inputs:
        raise PriorMismatchError(f"The net takes rows of shape {net.inputs}, but the tasks' rows are {spec.inputs}.")
    if outputs is not None and net.outputs != outputs:
        raise PriorMismatchError(f"The net has {net.outputs} outputs, but the tasks need {outputs}; set outputs.")


def _fit(out: Array, y: Array, mask: Array, ways: int) -> Float[Array, ""]:
    if ways:
        return masked_mean(-log_density(Logits(out), y), mask)
    error = jnp.square(out.reshape(y.shape) - y)
    return masked_mean(0.5 * error.reshape(len(error), -1).sum(axis=1), mask)


def _normal(out: Array, noise: Array) -> Normal:
    mean = out[:, 0] if out.shape[1] == 1 else out
    return Normal(mean, jnp.broadcast_to(jnp.exp(noise) + LEAST_VARIANCE, mean.shape))
