"""MAML++: rates per layer and step, a loss after every step, and first derivatives early in training.

References
----------
.. [1] Antoniou, A., Edwards, H. and Storkey, A. (2019). How to train your MAML. ICLR, arXiv 1810.09502; section 4,
   equation 4 (the loss of several steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from upstairs.inner.descent import PerStepSGD
from upstairs.inner.gradient import Composed, Maml, part, watched
from upstairs.inner.traced import Arrays, TaskRows, log_density, masked_mean
from upstairs.nets.build import Net

__all__ = ["MamlPlusPlus", "step_weights"]


@final
@dataclass(frozen=True)
class MamlPlusPlus(Composed):
    """MAML with what makes its training steadier [1]_.

    Learned over tasks: as for `Maml`, with one rate for each array of weights and step (``descent/rate/<name>``).
    Learned on a task: the weights after the steps. The outer loss is a weighted sum of the losses of the query rows
    after every step (`step_weights`); the weight moves to the last step over the first part of the training. In another
    first part, the outer gradient leaves second derivatives out. The falling outer rate of the paper is that of every
    training by gradients here. Departures from the paper: a rate belongs to an array (weights and biases apart), and
    there are no statistics of a batch, and so none per step, as networks here normalise inside an example.

    Parameters
    ----------
    net : Net
        Maps features to the mean of the target, or to the logits of a fixed number of classes.
    ways : int
        Classes; 0 for a regression.
    steps : int
        At least 1.
    rate : float
        Where every rate starts.
    anneal : float
        Share of the training over which weight moves to the last step; 0: the last step counts from the start.
    floor : float
        Least weight of a step, as a share of an even weight.
    first_order : float
        Share of the training without second derivatives.

    Raises
    ------
    ValueError
        If steps is less than 1, or a share lies outside [0, 1].

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> MamlPlusPlus(NetSpec("mlp", (3,), (4,), 1), steps=2).inside.descent
    PerStepSGD(rate=0.05, steps=2)
    """

    net: Net
    ways: int = 0
    steps: int = 5
    rate: float = 0.05
    anneal: float = 0.15
    floor: float = 0.03
    first_order: float = 0.3
    scheduled: ClassVar[bool] = True
    """That `outer_loss` is to be told how far the training is."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"MamlPlusPlus: steps must be at least 1, but is {self.steps}; use 1 or more.")
        for name in ("anneal", "floor", "first_order"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"MamlPlusPlus: {name} is a share and must lie in [0, 1], but is {value}; correct it.")

    @property
    def inside(self) -> Maml:
        """The same steps."""
        return Maml(self.net, self.ways, self.steps, PerStepSGD(self.rate, self.steps))

    def outer_loss(
        self,
        params: Arrays,
        support: TaskRows,
        query: TaskRows,
        key: PRNGKeyArray,
        progress: Shaped[Array, ""] | float = 1.0,
    ) -> Float[Array, ""]:
        """Weighted sum over the steps of the mean negative log-likelihood of the query rows.

        Parameters
        ----------
        params, support, query, key
            As for every rule.
        progress : scalar
            How much of the training is over, from 0 to 1.
        """

        def loss(first_order: bool) -> Any:
            return lambda params: self._outer_loss(params, support, query, progress, first_order)

        if self.first_order == 0.0:
            return loss(False)(params)
        early = jnp.asarray(progress) < self.first_order
        return jax.lax.cond(early, loss(True), loss(False), dict(params))

    def _outer_loss(
        self, params: Arrays, support: TaskRows, query: TaskRows, progress: Any, first_order: bool
    ) -> Float[Array, ""]:
        maml = self.inside

        def query_loss(weights: Arrays) -> Float[Array, ""]:
            return masked_mean(-log_density(maml.predict(params, weights, query.x, query.mask), query.y), query.mask)

        _, losses = watched(
            lambda weights: maml.inner_loss(weights, *support),
            part(params, "net"),
            query_loss,
            steps=self.steps,
            descent=maml.descent,
            settings=part(params, "descent"),
            first_order=first_order,
        )
        done = jnp.asarray(1.0 if self.anneal == 0.0 else progress / self.anneal, losses.dtype)
        return losses @ step_weights(self.steps, done, self.floor)


def step_weights(steps: int, done: Float[Array, ""], floor: float = 0.03) -> Float[Array, " step"]:
    """Weights of the losses after every step; they sum to one.

    Parameters
    ----------
    steps : int
    done : scalar array
        From 0 (even weights) to 1 (the last step has all but the floor).
    floor : float
        Least weight of a step, as a share of an even weight.

    Examples
    --------
    >>> step_weights(4, jnp.array(0.0)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> step_weights(4, jnp.array(0.5)).tolist()
    [0.125, 0.125, 0.125, 0.625]
    """
    each = jnp.maximum(1.0 - done, floor) / steps
    return jnp.full(steps, each).at[-1].set(1.0 - (steps - 1) * each)
