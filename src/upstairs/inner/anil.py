"""Inner steps on a part of the network: the last layer only (ANIL), or everything but the last layer (BOIL).

References
----------
.. [1] Raghu, A., Raghu, M., Bengio, S. and Vinyals, O. (2020). Rapid learning or feature reuse? Towards understanding
   the effectiveness of MAML. ICLR, arXiv 1909.09157; section 4.1.
.. [2] Oh, J., Yoo, H., Kim, C. and Yun, S.-Y. (2021). BOIL: towards representation change for few-shot learning. ICLR,
   arXiv 2008.08882; equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import DEFAULT, Descent
from upstairs.inner.gradient import Composed, check_net, descend, first_params, fit_loss, part, prediction, started
from upstairs.inner.traced import Arrays, Logits, Normal, Spec, TracedRule
from upstairs.nets.build import Net, flatten_shapes

__all__ = ["Anil", "Boil", "last_layer"]


@final
@dataclass(frozen=True)
class Anil(TracedRule):
    """Almost no inner loop: a few gradient steps on the last layer, the rest as it was learned over tasks [1]_.

    Learned over tasks: the weights that every task starts from (``net/...``), what the update rule learns
    (``descent/...``), and for a regression the noise (``noise``, the log of its variance). Learned on a task: the last
    layer, or with ``body`` everything else (BOIL [2]_). The loss of the steps is half the mean squared error, or the
    mean log loss; the outer gradient goes through the steps. Departure from BOIL: one rate for all layers of the body,
    unless ``descent`` has more.

    Parameters
    ----------
    net : Net
        Maps features to the mean of the target, or to the logits of a fixed number of classes; `last_layer` says what
        its last layer is.
    ways : int
        Classes; 0 for a regression.
    steps : int
    descent : Descent
    body : bool
        Take the steps on everything but the last layer.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from upstairs.nets import NetSpec
    >>> rule = Anil(NetSpec("mlp", (3,), (4,), 1))
    >>> params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), Spec((3,)))
    >>> sorted(jax.jit(rule.adapt)(params, jnp.ones((2, 3)), jnp.ones(2), jnp.ones(2, bool)))
    ['layers.1.bias', 'layers.1.weight']
    """

    net: Net
    ways: int = 0
    steps: int = 5
    descent: Descent = DEFAULT
    body: bool = False

    @property
    def sequential(self) -> bool:
        """Whether tasks go one after another: where the network says so."""
        return self.net.heavy

    def init(self, key: PRNGKeyArray, spec: Spec) -> dict[str, Array]:
        """Draw a network.

        Raises
        ------
        PriorMismatchError
            If the network does not fit the tasks, or has no last layer apart from the rest.
        """
        check_net(self.net, spec, self.ways or None)
        weights = self.net.init(key)
        return first_params(weights, self.descent.settings(self._moving(weights)), self.ways)

    def adapt(
        self, params: Arrays, x: Float[Array, "row ..."], y: Shaped[Array, "row ..."], mask: Bool[Array, " row"]
    ) -> dict[str, Array]:
        """Make the steps; the state holds only what moved."""
        weights = part(params, "net")
        return descend(
            lambda moved: fit_loss(self.net(weights | moved, x, mask), y, mask, self.ways),
            self._moving(weights),
            steps=self.steps,
            descent=self.descent,
            settings=part(params, "descent"),
        )

    def predict(
        self, params: Arrays, state: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Normal | Logits:
        """Evaluate the network with what moved in place."""
        return prediction(self.net(part(params, "net") | dict(state), x, mask), params, self.ways)

    def onward(self, params: Arrays, state: Arrays) -> dict[str, Array]:
        """Start with what moved in place."""
        return started(params, state)

    def _moving(self, weights: Arrays) -> dict[str, Array]:
        last = last_layer(self.net)
        return {name: array for name, array in weights.items() if (name in last) != self.body}


@final
@dataclass(frozen=True)
class Boil(Composed):
    """Body only update in the inner loop: `Anil` the other way round, the last layer as it was learned over tasks [2]_.

    Parameters
    ----------
    net, ways, steps, descent
        As for `Anil`.
    """

    net: Net
    ways: int = 0
    steps: int = 5
    descent: Descent = DEFAULT

    @property
    def inside(self) -> Anil:
        """The rule that does it."""
        return Anil(self.net, self.ways, self.steps, self.descent, body=True)


def last_layer(net: Net) -> frozenset[str]:
    """Names of the arrays of a network's last layer.

    The last layer is where the last array of the module lies, in the order of its fields: all arrays whose path is the
    same up to the last dot. That is the highest ``layers.N.*`` of an MLP and ``last.*`` of a convolution. A module of a
    user's own must therefore declare its last layer as its last field.

    Raises
    ------
    PriorMismatchError
        If no array would be left for the rest, or the last array does not lie in a layer.

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> sorted(last_layer(NetSpec("mlp", (3,), (4, 4), 1)))
    ['layers.2.bias', 'layers.2.weight']
    """
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    names = list(flatten_shapes(net.module(shapes)))  # a traced dictionary is sorted, the module is not
    prefix = names[-1].rpartition(".")[0] if names else ""
    last = frozenset(name for name in names if prefix and name.startswith(f"{prefix}."))
    if not last or len(last) == len(names):
        raise PriorMismatchError(
            f"net: adapting the last layer or the rest needs a network of at least two layers, but this one has the arrays "
            f"{', '.join(names) or 'none'}; give it another layer (as the last field of a module), or use method='maml'."
        )
    return last
