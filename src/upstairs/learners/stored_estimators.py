"""Fitted estimators as bytes: scikit-learn's through skops, the library's own by their own means; only known types are read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import UInt8

from upstairs.errors import StorageError
from upstairs.learners.base import PriorEstimator
from upstairs.plain import json_value

__all__ = ["packed", "unpacked"]

_ALLOWED = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
"""Types beyond those that skops itself trusts: parts of scikit-learn's estimators that only hold numbers."""


_ZIP = b"PK"
"""What skops writes starts with this; what is written by the library's own means does not."""
_DOCUMENT = "document"


def packed(estimator: Any) -> UInt8[np.ndarray, " byte"]:
    """Write a fitted estimator as bytes.

    Raises
    ------
    StorageError
        If it holds a type that `unpacked` would refuse, such as a class of the user's own.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> model = Ridge().fit(np.arange(4.0)[:, None], np.arange(4.0))
    >>> bool(unpacked(packed(model)).predict([[2.0]]) == model.predict([[2.0]]))
    True
    """
    import skops.io

    if isinstance(estimator, PriorEstimator):
        return _packed_own(estimator)
    held = skops.io.dumps(estimator)
    unknown = _unknown(held)
    if unknown:
        raise StorageError(
            f"A fitted {type(estimator).__name__} holds {unknown[0]}, which is not among the types that this library "
            "reads back; store it by your own means, and the prior with upstairs.save(meta, path)."
        )
    return np.frombuffer(held, dtype=np.uint8)


def unpacked(held: UInt8[np.ndarray, " byte"]) -> Any:
    """Read a fitted estimator.

    Raises
    ------
    StorageError
        If the bytes hold a type that is not allowed.
    """
    import skops.io

    data = held.tobytes()
    if not data.startswith(_ZIP):
        return _unpacked_own(data)
    unknown = _unknown(data)
    if unknown:
        raise StorageError(
            f"The stored estimator holds {unknown[0]}, which this library does not read; it may be harmful."
        )
    return skops.io.loads(data, trusted=sorted(_ALLOWED))


def _packed_own(estimator: PriorEstimator) -> UInt8[np.ndarray, " byte"]:
    """An estimator of this library without a prior: its document and arrays in one piece."""
    from safetensors.numpy import save

    from upstairs.learners.registry import written

    document, arrays = written(estimator)
    text = np.frombuffer(json.dumps(json_value(document)).encode(), dtype=np.uint8)
    return np.frombuffer(save(arrays | {_DOCUMENT: text}), dtype=np.uint8)


def _unpacked_own(data: bytes) -> PriorEstimator:
    from safetensors.numpy import load

    from upstairs.learners.registry import rebuilt

    arrays = load(data)
    found: PriorEstimator = rebuilt(
        json.loads(arrays.pop(_DOCUMENT).tobytes()), arrays, where="The model inside the model"
    )
    return found


def _unknown(data: bytes) -> list[str]:
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=data)) - _ALLOWED)
