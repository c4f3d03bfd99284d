"""Proto-MAML: a last layer that starts at the class means, and gradient steps on all weights.

References
----------
.. [1] Triantafillou, E. et al. (2020). Meta-Dataset: a dataset of datasets for learning to learn from few examples.
   ICLR, arXiv 1903.03096; section 3, "Proto-MAML".
.. [2] Snell, J., Swersky, K. and Zemel, R. (2017). Prototypical networks for few-shot learning; equation 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import DEFAULT, Descent
from upstairs.inner.gradient import check_net, descend, first_params, fit_loss, part
from upstairs.inner.traced import Arrays, Logits, Spec, TracedRule
from upstairs.nets.build import Net

__all__ = ["ProtoMaml"]


@final
@dataclass(frozen=True)
class ProtoMaml(TracedRule):
    """Gradient steps from a learned network and a linear last layer made of the task's own class means [1]_.

    The layer starts at ``w = 2 s c``, ``b = -s ||c||^2`` for a class with mean feature ``c``, which is the nearest
    class mean [2]_; then network and layer go down the mean log loss together. Learned over tasks: the network
    (``net/...``), what the update rule learns (``descent/...``) and ``temperature``, the log of ``s``. Learned on a
    task: the weights of network and layer after the steps. The outer gradient goes through the steps and through the
    class means. Departure from the paper: the temperature; there ``s`` is 1.

    Parameters
    ----------
    net : Net
        Maps a row to its features.
    ways : int
        Most classes of a task; a class without support rows is never predicted. The params do not depend on it.
    steps : int
    descent : Descent
        Must learn nothing whose shape depends on the number of classes.
    first_order : bool
        Leave second derivatives of the steps out of the outer gradient; that through the class means stays.

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> rule = ProtoMaml(NetSpec("mlp", (3,), (4,), 4), ways=2)
    >>> def learned(x, y):
    ...     params = rule.init(jax.random.key(0), Spec((3,), 2))
    ...     return rule.predict(params, rule.adapt(params, x, y, jnp.ones(3, bool)), x)
    >>> jax.jit(learned)(jnp.eye(3), jnp.array([0, 1, 1])).value.shape
    (3, 2)
    """

    net: Net
    ways: int
    steps: int = 5
    descent: Descent = DEFAULT
    first_order: bool = False
    serves: ClassVar[frozenset[str]] = frozenset({"own"})
    any_ways: ClassVar[bool] = True
    features: ClassVar[bool] = True

    @property
    def sequential(self) -> bool:
        """Whether tasks go one after another: where the network says so."""
        return self.net.heavy

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network; distances start divided by the root of the number of features.

        Raises
        ------
        PriorMismatchError
            If the network does not fit the tasks, or the update rule learns an array for the last layer whose shape
            depends on the number of classes.
        """
        check_net(self.net, spec, None)
        weights = self.net.init(key)
        width, dtype = self.net.outputs, jax.tree.leaves(weights)[0].dtype
        layers = (
            {"head/weight": jnp.zeros((width, ways), dtype), "head/bias": jnp.zeros(ways, dtype)} for ways in (2, 3)
        )
        body = {f"net/{name}": array for name, array in weights.items()}
        settings, other = (self.descent.settings(body | layer) for layer in layers)
        odd = [name for name, array in settings.items() if array.shape != other[name].shape]
        if odd:
            raise PriorMismatchError(
                f"descent: {type(self.descent).__name__} learns {odd[0]!r} for the last layer, whose shape is the number of "
                "classes of one task; use an update rule with one rate, such as SGD(0.03, learned=True)."
            )
        return first_params(weights, settings, ways=1) | {"temperature": jnp.full((), -0.5 * math.log(width))}

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Take the mean of every class, and make the steps from there."""
        body = {name: array for name, array in params.items() if name.startswith("net/")}
        features = self.net(part(body, "net"), x, mask)
        member = jax.nn.one_hot(y, self.ways, dtype=features.dtype) * mask[:, None]
        count = member.sum(axis=0)
        center = member.T @ features / jnp.maximum(count, 1.0)[:, None]
        scale = jnp.exp(params["temperature"])
        head = {"head/weight": 2.0 * scale * center.T, "head/bias": -scale * jnp.square(center).sum(axis=1)}
        found = descend(
            lambda weights: fit_loss(self._logits(weights, count, x, mask), y, mask, self.ways),
            body | head,
            steps=self.steps,
            descent=self.descent,
            settings=part(params, "descent"),
            first_order=self.first_order,
        )
        return found | {"count": count}

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Logits:
        """Evaluate the adapted network and layer."""
        return Logits(self._logits(state, state["count"], x, mask))

    def _logits(self, weights: Arrays, count: Array, x: Array, mask: Array | None) -> Float[Array, "row way"]:
        logits = self.net(part(weights, "net"), x, mask) @ weights["head/weight"] + weights["head/bias"]
        return jnp.where((count > 0) | ~(count > 0).any(), logits, -1e9)
