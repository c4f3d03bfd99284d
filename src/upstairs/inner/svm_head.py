"""A multi-class support vector machine on the features of a network: only the machine is learned on a task.

References
----------
.. [1] Lee, K., Maji, S., Ravichandran, A. and Soatto, S. (2019). Meta-learning with differentiable convex optimization.
   CVPR, arXiv 1904.03758; equations 4 to 12.
.. [2] Crammer, K. and Singer, Y. (2001). On the algorithmic implementation of multiclass kernel-based vector machines.
   JMLR 2, sections 3 and 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.inner.gradient import check_net, part
from upstairs.inner.svm_dual import solve_dual
from upstairs.inner.traced import Arrays, Logits, Spec, TracedRule
from upstairs.nets.build import Net

__all__ = ["SvmHead"]

COST = 0.1
"""Where the cost starts, as in [1]_ (section 4)."""


@final
@dataclass(frozen=True)
class SvmHead(TracedRule):
    """A support vector machine of all classes at once on the features of a network [1]_ [2]_.

    Learned over tasks: the network (``net/...``); ``cost``, the log of what a violated margin costs; ``scale``, the log of
    what scores are multiplied by; ``absent``, the logit of a class without support rows; with the RBF kernel ``width``,
    the log of the length in which features are measured. Learned on a task: one vector of weights for every class, or
    with the RBF kernel the support rows' features and dual variables. Gradients come from the optimality conditions of
    the dual, whatever the number of iterations that solved it.

    Departures from the paper: the cost is learned; classes without support rows have no weights, and a learned logit
    in their place; an interior-point method of its own, whose iterations cost ``O(way row^3)``, run until the solution is
    exact; the RBF kernel; ``regulariser``, which the paper's experiments have and its equations have not.

    Parameters
    ----------
    net : Net
        Maps a row to its features.
    ways : int
        Most classes of a task. The params do not depend on it.
    kernel : {"linear", "rbf"}
        Inner products of features, or ``exp(-|f - g|^2 / (2 width^2))``.
    regulariser : float
        What is added to the diagonal of the kernel matrix of the support rows. Positive, so that the dual variables are
        unique; as each row then pays for its own, smaller values come closer to the plain machine. In float32 the
        largest entry of the kernel matrix should be at most about 10,000 times as much.

    Raises
    ------
    ValueError
        If the kernel is not known, or the regulariser not positive.
    """

    net: Net
    ways: int
    kernel: str = "linear"
    regulariser: float = 1.0
    any_ways: ClassVar[bool] = True
    features: ClassVar[bool] = True
    serves: ClassVar[frozenset[str]] = frozenset({"shared", "own"})

    def __post_init__(self) -> None:
        if self.kernel not in ("linear", "rbf"):
            raise ValueError(f"kernel must be 'linear' or 'rbf', but is {self.kernel!r}; correct it.")
        if not 0.0 < self.regulariser < math.inf:
            raise ValueError(
                f"regulariser must be a positive number, but is {self.regulariser!r}; use a small one, such as 0.01, for a "
                "machine that is close to the plain one."
            )

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network; the cost starts at 0.1, the width at the root of the number of features."""
        check_net(self.net, spec, None)
        params = {f"net/{name}": array for name, array in self.net.init(key).items()}
        params |= {"cost": jnp.full((), math.log(COST)), "scale": jnp.zeros(()), "absent": jnp.zeros(())}
        return params if self.kernel == "linear" else params | {"width": jnp.full((), 0.5 * math.log(self.net.outputs))}

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Solve the dual on the support rows."""
        features = self.net(part(params, "net"), x, mask) * mask[:, None]
        target = (jax.nn.one_hot(y, self.ways, dtype=features.dtype) * mask[:, None]).T
        count = target.sum(axis=1)
        valid = (count > 0)[:, None] & mask
        eye = jnp.eye(len(mask), dtype=features.dtype)
        matrix = self._kernel(params, features, features) + self.regulariser * eye
        alpha = solve_dual(matrix, jnp.exp(params["cost"]), target, valid)
        if self.kernel == "linear":
            return {"weights": alpha @ features, "count": count}
        return {"alpha": alpha, "support": features, "count": count}

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Logits:
        """Scaled scores of the classes."""
        features = self.net(part(params, "net"), x, mask)
        if self.kernel == "linear":
            scores = features @ state["weights"].T
        else:
            scores = self._kernel(params, features, state["support"]) @ state["alpha"].T
        return Logits(jnp.where(state["count"] > 0, jnp.exp(params["scale"]) * scores, params["absent"]))

    def _kernel(
        self, params: Arrays, left: Float[Array, "left feature"], right: Float[Array, "right feature"]
    ) -> Float[Array, "left right"]:
        products = left @ right.T
        if self.kernel == "linear":
            return products
        squares = jnp.square(left).sum(axis=1)[:, None] + jnp.square(right).sum(axis=1)
        distance = jnp.maximum(squares - 2.0 * products, 0.0)
        return jnp.exp(-0.5 * distance * jnp.exp(-2.0 * params["width"]))
