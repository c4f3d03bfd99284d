"""The hidden layers of a small tanh network as plain arrays: features that a task may use beside its columns.

The network is learned over tasks (``upstairs.outer.network_features``); here it is only evaluated, in NumPy and
float64, so that a model adapts in well under a millisecond without a compiler.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

__all__ = ["from_mlp", "hidden_features", "width"]


def from_mlp(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays ``hidden/0/weight`` and so on from those of an `upstairs.nets.mlp.MLP`, all of whose layers end in tanh."""
    held: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        _, layer, part = name.split(".")
        held[f"hidden/{layer}/{part}"] = np.asarray(array, np.float64)
    return held


def width(params: Mapping[str, np.ndarray]) -> int:
    """How many columns the features are; 0 without a network."""
    layers = _layers(params)
    return params[f"hidden/{layers - 1}/bias"].shape[0] if layers else 0


def hidden_features(
    params: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"]
) -> Float[np.ndarray, "row hidden"]:
    """Map rows through all layers.

    Examples
    --------
    >>> params = {"hidden/0/weight": np.array([[1.0, 0.0]]), "hidden/0/bias": np.zeros(2)}
    >>> hidden_features(params, np.array([[0.5]])).round(3).tolist()
    [[0.462, 0.0]]
    """
    for layer in range(_layers(params)):
        x = np.tanh(x @ params[f"hidden/{layer}/weight"] + params[f"hidden/{layer}/bias"])
    return x


def _layers(params: Mapping[str, np.ndarray]) -> int:
    return sum(name.startswith("hidden/") and name.endswith("/bias") for name in params)
