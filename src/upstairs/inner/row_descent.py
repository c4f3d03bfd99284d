"""Learn to descend on tasks made of rows: the start is given or learned, the update rule is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upstairs.inner.descent import Descent
from upstairs.inner.gradient import Composed, Maml, part
from upstairs.inner.learned_rates import LearnedSGD
from upstairs.inner.traced import Arrays, Spec, TaskRows, log_density, masked_mean
from upstairs.inner.trajectory import Objective, begun, further
from upstairs.nets.build import Net

__all__ = ["RowDescent"]

_DESCENT = LearnedSGD(0.1, momentum=None, per="array", steps=10)
_OBJECTIVE = Objective("last")


@final
@dataclass(frozen=True)
class RowDescent(Composed):
    """Some steps of a learned update rule down the loss of the support rows.

    Learned over tasks: the arrays of the update rule (``descent/...``), the start if ``learn_start``, and for a
    regression the noise (``noise``, the log of its variance). Learned on a task: the weights after the steps. A start
    that is not learned (``net/...``) is zero for a model without hidden layers, and drawn once otherwise.

    Parameters
    ----------
    net : Net
        Maps features to the mean of the target, or to the logits of a fixed number of classes.
    ways : int
        Classes; 0 for a regression.
    steps : int
    descent : Descent
    learn_start : bool
    goal : {"query", "support"}
        What is to be small after the steps: the loss of rows that were not seen, or that of the support rows, as
        ``objective`` says (how well a loss is optimised).
    objective : Objective
        For the goal "support".
    first_order : bool
        Leave second derivatives out of the outer gradient.

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> rule = RowDescent(NetSpec("mlp", (3,), (), 1), steps=2)
    >>> sorted(jax.eval_shape(lambda: rule.init(jax.random.key(0), Spec((3,)))))
    ['descent/rate/layers.0.bias', 'descent/rate/layers.0.weight', 'net/layers.0.bias', 'net/layers.0.weight', 'noise']
    """

    net: Net
    ways: int = 0
    steps: int = 10
    descent: Descent = _DESCENT
    learn_start: bool = True
    goal: Literal["query", "support"] = "query"
    objective: Objective = _OBJECTIVE
    first_order: bool = False

    def __post_init__(self) -> None:
        if self.goal not in ("query", "support"):
            raise ValueError(f"RowDescent: goal must be 'query' or 'support', but is {self.goal!r}.")

    @property
    def fixed(self) -> tuple[str, ...]:
        """Prefixes of params that are given, not learned."""
        return () if self.learn_start else ("net/",)

    @property
    def inside(self) -> Maml:
        """The same steps from the same start."""
        return Maml(self.net, self.ways, self.steps, self.descent, self.first_order)

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network, or start a linear model at zero."""
        params = self.inside.init(key, spec)
        if getattr(self.net, "sizes", None) == ():
            params |= {name: jnp.zeros_like(array) for name, array in params.items() if name.startswith("net/")}
        return params

    def outer_loss(self, params: Arrays, support: TaskRows, query: TaskRows, key: PRNGKeyArray) -> Float[Array, ""]:
        """Loss of the query rows after the steps, or what the run on the support rows counts for."""
        if self.goal == "query":
            return super().outer_loss(params, support, query, key)
        settings, inside = part(params, "descent"), self.inside

        def loss(weights: Arrays, key: PRNGKeyArray) -> Float[Array, ""]:
            return inside.inner_loss(weights, *support)

        run = begun(self.descent, settings, part(params, "net"))
        first = loss(run.weights, key)
        run, losses = further(self.descent, settings, loss, run, self.steps, key, first_order=self.first_order)
        found = self.objective(jnp.append(first, losses))
        if self.ways:
            return found
        predicted = self.predict(params, jax.lax.stop_gradient(run.weights), query.x, query.mask)
        return found + masked_mean(-log_density(predicted, query.y), query.mask)
