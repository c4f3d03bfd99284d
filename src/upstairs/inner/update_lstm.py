"""The recurrent update rule of Andrychowicz et al.: every weight has its own state of one shared small LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from upstairs.inner.descent import Descent, Weights

__all__ = ["UpdateLSTM"]

_P = 10.0
"""Of the preprocessing: gradients below exp(-p) are handed over as they are, enlarged."""


@final
@dataclass(frozen=True)
class UpdateLSTM(Descent):
    """A learned update rule: two LSTM layers that see one coordinate of the gradient at a time.

    Learned over tasks: the weights of the network. On a task: the network's state, one for every weight. The gradient
    is split into its log and its sign, and counts as a constant: no derivative is taken of it. Departure from the
    paper: the first weights of the output are zero, so that the first training step starts from rest.

    Parameters
    ----------
    units : int
        Of each layer.
    scale : float
        By which the output is multiplied.
    seed : int
        Draws the first weights.

    References
    ----------
    Andrychowicz, M. et al. (2016). Learning to learn by gradient descent by gradient descent. NeurIPS, arXiv
    1606.04474; section 2.1 and appendix A.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> rule = UpdateLSTM(units=4)
    >>> weights = {"w": jnp.zeros(2)}
    >>> settings = rule.settings(weights)
    >>> weights, memory = rule.update(settings, rule.init(settings, weights), {"w": jnp.ones(2)}, weights)
    >>> memory["hidden/1/w"].shape
    (2, 4)
    """

    units: int = 20
    scale: float = 0.1
    seed: int = 0

    def settings(self, weights: Weights) -> dict[str, Array]:
        """Draw the network."""
        dtype = next(iter(weights.values())).dtype
        found: dict[str, Array] = {}
        for layer, (key, inputs) in enumerate(
            zip(jax.random.split(jax.random.key(self.seed), 2), (2, self.units), strict=True)
        ):
            shape = (inputs + self.units, 4 * self.units)
            found[f"lstm/{layer}/weight"] = jax.random.normal(key, shape, dtype) / np.sqrt(shape[0])
            found[f"lstm/{layer}/bias"] = jnp.zeros(4 * self.units, dtype)
        return found | {"out/weight": jnp.zeros((self.units, 1), dtype), "out/bias": jnp.zeros(1, dtype)}

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        """All states are zero."""
        return {
            f"{part}/{layer}/{name}": jnp.zeros((array.size, self.units), array.dtype)
            for part in ("hidden", "cell")
            for layer in (0, 1)
            for name, array in weights.items()
        }

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Make one step."""
        out: dict[str, Array] = {}
        new: dict[str, Array] = {}
        for name, array in weights.items():
            signal = _prepared(jax.lax.stop_gradient(gradient[name]).ravel())
            for layer in (0, 1):
                hidden, cell = memory[f"hidden/{layer}/{name}"], memory[f"cell/{layer}/{name}"]
                joined = jnp.concatenate([signal, hidden], axis=1)
                gates = joined @ settings[f"lstm/{layer}/weight"] + settings[f"lstm/{layer}/bias"]
                enter, forget, emit, value = jnp.split(gates, 4, axis=1)
                cell = jax.nn.sigmoid(forget + 1.0) * cell + jax.nn.sigmoid(enter) * jnp.tanh(value)
                signal = jax.nn.sigmoid(emit) * jnp.tanh(cell)
                new |= {f"hidden/{layer}/{name}": signal, f"cell/{layer}/{name}": cell}
            step = (signal @ settings["out/weight"] + settings["out/bias"])[:, 0] * self.scale
            out[name] = array + step.reshape(array.shape)
        return out, new

    def shown(self, settings: Weights) -> dict[str, Array]:
        """Nothing: the network's numbers say nothing by themselves."""
        return {}


def _prepared(slope: Float[Array, " weight"]) -> Float[Array, "weight 2"]:
    size = jnp.abs(slope)
    large = size >= np.exp(-_P)
    log = jnp.where(large, jnp.log(jnp.where(large, size, 1.0)) / _P, -1.0)
    return jnp.stack([log, jnp.where(large, jnp.sign(slope), np.exp(_P) * slope)], axis=1)
