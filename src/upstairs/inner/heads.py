"""Closed-form last layers on the features of a network: only the last layer is learned on a task.

Both are differentiable, so that the network and the head's prior can be learned through them. Once learned, the same
closed forms can be had in float64 from `upstairs.inner.prototype` and `upstairs.inner.gaussian` on the features
(`upstairs.inner.features`); `prototype_params` and `linear_params` hand the params over.

References
----------
.. [1] Snell, J., Swersky, K. and Zemel, R. (2017). Prototypical networks for few-shot learning, equations 1-2.
.. [2] Harrison, J., Sharma, A. and Pavone, M. (2018). Meta-learning priors for efficient online Bayesian
   regression. WAFR; equations 3 to 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.inner.gradient import check_net, part
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TracedRule
from upstairs.nets.build import Net

__all__ = ["BayesianLinearHead", "PrototypeHead", "linear_params", "prototype_params"]

LEAST_NOISE = 1e-4


@final
@dataclass(frozen=True)
class PrototypeHead(TracedRule):
    """Nearest class mean of the features of a network [1]_.

    Learned over tasks: the network (``net/...``); ``temperature``, the log of what squared distances are multiplied by;
    and with ``diagonal`` also ``scale``, the log of what every feature is multiplied by: squared Mahalanobis distances
    with one diagonal covariance, which the paper names among the Bregman divergences (section 2.3). Learned on a task:
    the class means. Departures from the paper: the temperature and the learned scales.

    Parameters
    ----------
    net : Net
        Maps a row to its features.
    ways : int
        Most classes of a task; a class without support rows is never predicted. The params do not depend on it, so
        that a prior can be trained with more classes than it is used with, as the paper does.
    diagonal : bool
        Whether features have learned scales.
    """

    net: Net
    ways: int
    diagonal: bool = False
    any_ways: ClassVar[bool] = True
    features: ClassVar[bool] = True

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network; distances start divided by the root of the number of features."""
        check_net(self.net, spec, None)
        params = {f"net/{name}": array for name, array in self.net.init(key).items()}
        params["temperature"] = jnp.full((), -0.5 * math.log(self.net.outputs))
        return params | {"scale": jnp.zeros(self.net.outputs)} if self.diagonal else params

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Take the mean of every class."""
        features = self._features(params, x, mask)
        member = jax.nn.one_hot(y, self.ways, dtype=features.dtype) * mask[:, None]
        count = member.sum(axis=0)
        return {"center": member.T @ features / jnp.maximum(count, 1.0)[:, None], "count": count}

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Logits:
        """Minus scaled squared distances to the class means."""
        features, center = self._features(params, x, mask), state["center"]
        squares = jnp.square(features).sum(axis=1)[:, None] + jnp.square(center).sum(axis=1)
        distance = jnp.maximum(squares - 2.0 * features @ center.T, 0.0)
        logits = -jnp.exp(params["temperature"]) * distance
        return Logits(jnp.where(state["count"] > 0, logits, -1e9))

    def _features(self, params: Arrays, x: Array, mask: Array | None) -> Float[Array, "row feature"]:
        features = self.net(part(params, "net"), x, mask)
        return features * jnp.exp(params["scale"]) if self.diagonal else features


@final
@dataclass(frozen=True)
class BayesianLinearHead(TracedRule):
    """Bayesian linear regression on the features of a network [2]_.

    Learned over tasks: the network (``net/...``), the prior ``N(mean, F F')`` of the weights of ``[1, features]``
    (``mean``, ``factor``) and ``noise``, the log of its variance. Learned on a task: the posterior of the weights.
    The outer loss is the negative log of the predictive density of each query row, the weights integrated out.

    Parameters
    ----------
    net : Net
        Maps a row to its features; bounded ones (``final=True`` with tanh) are the safest.
    """

    net: Net

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network; the prior of the weights starts with total variance one, the noise at one."""
        check_net(self.net, spec, None)
        params = {f"net/{name}": array for name, array in self.net.init(key).items()}
        columns = self.net.outputs + 1
        return params | {
            "mean": jnp.zeros(columns),
            "factor": jnp.eye(columns) * columns**-0.5,
            "noise": jnp.zeros(()),
        }

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Condition the weights on the rows: mean, and a root R with covariance ``R' R``."""
        phi = self._features(params, x, mask) * mask[:, None]
        noise, factor = self._noise(params), params["factor"]
        scaled = phi @ factor
        residual = jnp.where(mask, y, 0.0) - phi @ params["mean"]
        precision = jnp.eye(factor.shape[1], dtype=phi.dtype) + scaled.T @ scaled / noise
        lower = jnp.linalg.cholesky(precision)
        root = jax.scipy.linalg.solve_triangular(lower, factor.T, lower=True)
        white = jax.scipy.linalg.solve_triangular(lower, scaled.T @ residual / noise, lower=True)
        return {"mean": params["mean"] + white @ root, "root": root}

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal:
        """Mean and variance, noise of one new row included."""
        phi = self._features(params, x, mask)
        variance = jnp.square(phi @ state["root"].T).sum(axis=1) + self._noise(params)
        return Normal(phi @ state["mean"], variance)

    def _features(self, params: Arrays, x: Array, mask: Array | None) -> Float[Array, "row column"]:
        features = self.net(part(params, "net"), x, mask)
        return jnp.concatenate([jnp.ones((len(features), 1), features.dtype), features], axis=1)

    def _noise(self, params: Arrays) -> Float[Array, ""]:
        return jnp.exp(params["noise"]) + LEAST_NOISE


def linear_params(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Params of `BayesianLinearHead` as those of `upstairs.inner.gaussian.BayesianLinear` on its features, in float64."""
    held = {name: np.asarray(params[name], np.float64) for name in ("mean", "factor", "noise")}
    noise = np.exp(held["noise"]) + LEAST_NOISE
    return {"weight": np.ones(1), "mean": held["mean"][None], "factor": held["factor"][None], "noise": noise.reshape(1)}


def prototype_params(
    params: Mapping[str, np.ndarray], features: Float[np.ndarray, "row feature"]
) -> dict[str, np.ndarray]:
    """Params of `PrototypeHead` as those of `upstairs.inner.prototype.Prototype` on its features, in float64.

    Parameters
    ----------
    params
        Of the head.
    features : array of shape (row, feature)
        Of training rows, as the network gives them; their centre and spread serve `evidence`.
    """
    width = features.shape[1]
    scale = np.exp(np.asarray(params["scale"], np.float64)) if "scale" in params else np.ones(width)
    features = features * scale
    return {
        "transform": np.diag(scale),
        "anchor": np.zeros((1, width)),
        "pull": np.asarray(0.0),
        "temperature": np.exp(np.asarray(params["temperature"], np.float64)),
        "center": features.mean(axis=0),
        "spread": np.maximum(features.std(axis=0), 1e-6),
    }
