"""A closed-form NumPy rule on the features of a learned network."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import jax
import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.rule import AdaptationRule, Params, Prediction, Rows, State
from upstairs.nets.build import Net
from upstairs.tasks.batches import bucket

__all__ = ["OnFeatures", "features_of"]

MOST_ROWS = 1024


@final
@dataclass(frozen=True)
class OnFeatures(AdaptationRule):
    """Map rows through a network, then let a NumPy rule learn the task, in float64.

    Params: the network's arrays under ``net/...``, all others are the inner rule's.

    Parameters
    ----------
    rule : AdaptationRule
    net : Net
    raw : bool
        Whether the raw columns stand before the features.
    """

    rule: AdaptationRule
    net: Net
    raw: bool = False

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Hand settings on to the inner rule."""
        return dict(params) | dict(self.rule.override(params, settings))

    def adapt(self, params: Params, support: Rows) -> State:
        """Learn every task of the batch."""
        return self.rule.adapt(_rest(params), self._rows(params, support))

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Prediction:
        """Predict rows of every task."""
        return self.rule.predict(_rest(params), state, self._map(params, x))

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Evidence of the inner rule."""
        return self.rule.evidence(_rest(params), self._rows(params, support), state)

    @property
    def updates(self) -> bool:
        """Whether the inner rule offers `update`."""
        return self.rule.updates

    def update(self, params: Params, state: State, rows: Rows) -> State | None:
        """Update as the inner rule does."""
        return self.rule.update(_rest(params), state, self._rows(params, rows))

    @property
    def compact(self) -> bool:
        """Whether the inner rule's states stay as large as they are."""
        return self.rule.compact

    @property
    def fades(self) -> bool:
        """Whether the inner rule forgets."""
        return self.rule.fades

    def faded(self, state: State, kept: float) -> State | None:
        """Forget as the inner rule does."""
        return self.rule.faded(state, kept)

    def _rows(self, params: Params, rows: Rows) -> Rows:
        return replace(rows, x=self._map(params, rows.x) * rows.mask[..., None])

    def _map(self, params: Params, x: Float[np.ndarray, "task row feature"]) -> np.ndarray:
        arrays = {name[4:]: array for name, array in params.items() if name.startswith("net/")}
        mapped = features_of(self.net, arrays, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)
        return np.concatenate([x, mapped], axis=2) if self.raw else mapped


def features_of(
    net: Net, arrays: Mapping[str, np.ndarray], x: Shaped[np.ndarray, "row ..."]
) -> Float[np.ndarray, "row feature"]:
    """Map rows through a network, in float32 and in pieces of at most 1,024 rows whose sizes are powers of two."""
    held = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    found = [np.zeros((0, net.outputs))]
    for start in range(0, len(x), MOST_ROWS):
        piece = np.asarray(x[start : start + MOST_ROWS], np.float32)
        padded = np.zeros((bucket(len(piece)), *net.inputs), np.float32)
        padded[: len(piece)] = piece.reshape(len(piece), *net.inputs)
        found.append(np.asarray(_forward(net, held, padded), np.float64)[: len(piece)])
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=0)
def _forward(net: Net, arrays: Any, x: Any) -> Any:
    return net(arrays, x)


def _rest(params: Params) -> Params:
    return {name: array for name, array in params.items() if not name.startswith("net/")}
