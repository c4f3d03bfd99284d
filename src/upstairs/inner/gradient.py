"""Learn a task by a few gradient steps from a learned start: MAML, its first-order form, and Reptile.

References
----------
.. [1] Finn, C., Abbeel, P. and Levine, S. (2017). Model-agnostic meta-learning for fast adaptation of deep
   networks. ICML; equations 1 and 2, algorithm 1.
.. [2] Nichol, A., Achiam, J. and Schulman, J. (2018). On first-order meta-learning algorithms. arXiv 1803.02999.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import DEFAULT, Adam, Descent
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TaskRows, TracedRule, log_density, masked_mean
from upstairs.inner.trajectory import rolled
from upstairs.nets.build import Net

__all__ = [
    "Composed",
    "Maml",
    "Reptile",
    "check_net",
    "descend",
    "first_params",
    "fit_loss",
    "part",
    "prediction",
    "started",
    "watched",
]

LEAST_VARIANCE = 1e-6
_ADAM = Adam(1e-3)

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
    >>> from upstairs.inner.descent import SGD
    >>> found = descend(lambda w: 0.5 * w["t"] ** 2, {"t": jnp.array(1.0)}, steps=2, descent=SGD(0.5), settings={})
    >>> float(found["t"])
    0.25
    """
    found, _ = watched(
        loss, start, lambda weights: None, steps=steps, descent=descent, settings=settings, first_order=first_order
    )
    return found


def watched(
    loss: Loss,
    start: Arrays,
    watch: Callable[[Any], Any],
    *,
    steps: int,
    descent: Descent,
    settings: Arrays,
    first_order: bool = False,
) -> tuple[dict[str, Array], Any]:
    """Make some steps down a loss as `descend` does, and look at the weights after each.

    Parameters
    ----------
    loss, start, steps, descent, settings, first_order
        As for `descend`; ``steps`` must be at least 1 where there is something to see.
    watch : callable
        Of the weights; returns an array, or None.

    Returns
    -------
    weights : dict of arrays
        After the last step.
    seen : array of shape (step, ...)
        What ``watch`` returned after each step.

    Examples
    --------
    >>> from upstairs.inner.descent import SGD
    >>> loss = lambda w: 0.5 * w["t"] ** 2
    >>> start = {"t": jnp.array(1.0)}
    >>> _, seen = watched(loss, start, lambda w: w["t"], steps=3, descent=SGD(0.5), settings={})
    >>> seen.tolist()
    [0.5, 0.25, 0.125]
    """
    slope = jax.grad(loss)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        weights, memory = carry
        gradient = slope(weights)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        carry = descent.update(settings, memory, gradient, weights)
        return carry, watch(carry[0])

    carry = (dict(start), descent.init(settings, start))
    (weights, _), seen = rolled(step, carry, steps)
    return weights, seen


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
    descent: Descent = DEFAULT
    first_order: bool = False

    @property
    def sequential(self) -> bool:
        """Whether tasks go one after another: where the network says so."""
        return self.net.heavy

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network."""
        check_net(self.net, spec, self.ways or None)
        weights = self.net.init(key)
        return first_params(weights, self.descent.settings(weights), self.ways)

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Make the steps."""
        return descend(
            lambda weights: self.inner_loss(weights, x, y, mask),
            part(params, "net"),
            steps=self.steps,
            descent=self.descent,
            settings=part(params, "descent"),
            first_order=self.first_order,
        )

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Evaluate the adapted network."""
        return prediction(self.net(state, x, mask), params, self.ways)

    def onward(self, params: Arrays, state: Arrays) -> dict[str, Array]:
        """Start from adapted weights."""
        return started(params, state)

    def inner_loss(
        self, weights: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> Float[Array, ""]:
        """What the steps go down."""
        return fit_loss(self.net(weights, x, mask), y, mask, self.ways)


class Composed(TracedRule):
    """A rule under a name of its own that starts, adapts and predicts as another rule does, but for what it overrides."""

    @property
    @abc.abstractmethod
    def inside(self) -> TracedRule:
        """The rule that does it."""

    @property
    def sequential(self) -> bool:
        """Whether tasks go one after another: where that rule says so."""
        return self.inside.sequential

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network."""
        return self.inside.init(key, spec)

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Make the steps."""
        return self.inside.adapt(params, x, y, mask)

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Evaluate the adapted network."""
        return self.inside.predict(params, state, x, mask)

    def onward(self, params: Arrays, state: Arrays) -> dict[str, Array] | None:
        """Start where that rule would."""
        return self.inside.onward(params, state)


@final
@dataclass(frozen=True)
class Reptile(Composed):
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
    def inside(self) -> Maml:
        """The same steps."""
        return Maml(self.net, self.ways, self.steps, self.descent, first_order=True)

    def outer_loss(self, params: Arrays, support: TaskRows, query: TaskRows, key: PRNGKeyArray) -> Float[Array, ""]:
        """Half the squared distance to the adapted weights, plus what the noise needs to be learned."""
        state = jax.lax.stop_gradient(self.adapt(params, *support))
        start = part(params, "net")
        distance = sum((jnp.square(start[name] - state[name]).sum() for name in start), jnp.zeros(()))
        if self.ways:
            return 0.5 * distance
        predicted = self.predict(params, state, query.x, query.mask)
        return 0.5 * distance + masked_mean(-log_density(predicted, query.y), query.mask)


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


def first_params(weights: Arrays, settings: Arrays, ways: int) -> dict[str, Array]:
    """Params of a gradient rule before learning.

    Parameters
    ----------
    weights : dict of arrays
        Of the network.
    settings : dict of arrays
        What the update rule learns.
    ways : int
        Classes; 0 for a regression, whose noise is learned as well (``noise``, the log of its variance).
    """
    params = {f"net/{name}": array for name, array in weights.items()}
    params |= {f"descent/{name}": array for name, array in settings.items()}
    return params if ways else params | {"noise": jnp.zeros(())}


def started(params: Arrays, state: Arrays) -> dict[str, Array]:
    """Params whose network has the weights of ``state``, as far as they are there.

    Examples
    --------
    >>> started({"net/a": jnp.zeros(1), "net/b": jnp.zeros(1)}, {"b": jnp.ones(1)})["net/b"].tolist()
    [1.0]
    """
    return {**params, **{f"net/{name}": array for name, array in state.items()}}


def fit_loss(
    out: Float[Array, "row output"], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"], ways: int
) -> Float[Array, ""]:
    """Half the mean squared error of a network's outputs, or the mean log loss of its logits."""
    if ways:
        return masked_mean(-log_density(Logits(out), y), mask)
    error = jnp.square(out.reshape(y.shape) - y)
    return masked_mean(0.5 * error.reshape(len(error), -1).sum(axis=1), mask)


def prediction(out: Float[Array, "row output"], params: Arrays, ways: int) -> Normal | Logits:
    """Logits, or the mean of a regression with the noise of ``params``."""
    if ways:
        return Logits(out)
    mean = out[:, 0] if out.shape[1] == 1 else out
    return Normal(mean, jnp.broadcast_to(jnp.exp(params["noise"]) + LEAST_VARIANCE, mean.shape))
