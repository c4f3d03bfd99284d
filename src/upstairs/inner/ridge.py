"""Ridge regression on the features of a network, in closed form: only the last layer is learned on a task.

References
----------
.. [1] Bertinetto, L., Henriques, J. F., Torr, P. H. S. and Vedaldi, A. (2019). Meta-learning with differentiable
   closed-form solvers. ICLR, arXiv 1805.08136; equations 4 to 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.inner.gradient import LEAST_VARIANCE, check_net, part
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TracedRule
from upstairs.nets.build import Net

__all__ = ["RidgeHead", "ridge_weights"]

LEAST_PENALTY = 1e-4


def ridge_weights(
    features: Float[Array, "row feature"], y: Float[Array, "row output"], penalty: Float[Array, ""]
) -> Float[Array, "feature output"]:
    """Weights ``W`` that minimise ``|F W - Y|^2 + penalty |W|^2``; rows of zeros count for nothing.

    Solves with ``F F' + penalty I`` or with ``F' F + penalty I``, whichever is smaller: the results are the same
    (equations 4 and 5 of [1]_, Woodbury's identity).

    Examples
    --------
    >>> ridge_weights(jnp.array([[2.0]]), jnp.array([[5.0]]), jnp.array(1.0)).tolist()
    [[2.0]]
    """
    rows, columns = features.shape
    if rows <= columns:
        eye = jnp.eye(rows, dtype=features.dtype)
        lower = jnp.linalg.cholesky(features @ features.T + penalty * eye)
        return features.T @ jax.scipy.linalg.cho_solve((lower, True), y)
    eye = jnp.eye(columns, dtype=features.dtype)
    lower = jnp.linalg.cholesky(features.T @ features + penalty * eye)
    return jax.scipy.linalg.cho_solve((lower, True), features.T @ y)


@final
@dataclass(frozen=True)
class RidgeHead(TracedRule):
    """Ridge regression on the features of a network, of the target or of one-hot classes [1]_.

    Learned over tasks: the network (``net/...``); ``penalty``, the log of the ridge penalty; ``scale``, the log of what
    predictions are multiplied by; for a regression ``shift``, which is added to them, and ``noise``, the log of the
    variance around them; for classes ``absent``, the logit of a class without support rows. Learned on a task: the
    weights of ``[1, features]``.

    Departures from the paper: a column of ones, penalised as the features are; for classes no shift, which a softmax does
    not see, and ``absent`` in its place; the scale is positive; for a regression the noise, which makes the outer loss a
    likelihood.

    Parameters
    ----------
    net : Net
        Maps a row to its features.
    ways : int
        Most classes of a task; 0 for a regression. The params do not depend on a positive number.
    """

    net: Net
    ways: int = 0
    any_ways: ClassVar[bool] = True
    features: ClassVar[bool] = True

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network; the penalty starts at one."""
        check_net(self.net, spec, None)
        params = {f"net/{name}": array for name, array in self.net.init(key).items()}
        params |= {"penalty": jnp.zeros(()), "scale": jnp.zeros(())}
        if self.ways:
            return params | {"absent": jnp.zeros(())}
        return params | {"shift": jnp.zeros(()), "noise": jnp.zeros(())}

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Solve for the weights; a regression's targets may have several outputs."""
        features = self._features(params, x, mask) * mask[:, None]
        if self.ways:
            target = jax.nn.one_hot(y, self.ways, dtype=features.dtype) * mask[:, None]
        else:
            target = jnp.where(mask[:, None], y.reshape(len(mask), -1), 0.0).astype(features.dtype)
        weights = ridge_weights(features, target, jnp.exp(params["penalty"]) + LEAST_PENALTY)
        return {"weights": weights} | ({"count": target.sum(axis=0)} if self.ways else {})

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Scaled linear predictions."""
        out = jnp.exp(params["scale"]) * (self._features(params, x, mask) @ state["weights"])
        if self.ways:
            return Logits(jnp.where(state["count"] > 0, out, params["absent"]))
        out = out + params["shift"]
        mean = out[:, 0] if out.shape[1] == 1 else out
        return Normal(mean, jnp.broadcast_to(jnp.exp(params["noise"]) + LEAST_VARIANCE, mean.shape))

    def _features(self, params: Arrays, x: Array, mask: Array | None) -> Float[Array, "row column"]:
        features = self.net(part(params, "net"), x, mask)
        return jnp.concatenate([jnp.ones((len(features), 1), features.dtype), features], axis=1)
