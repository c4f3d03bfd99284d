"""Nearest class mean in a metric that was learned over tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from upstairs.inner.rule import Categorical, Params, PlainRule, Rows, State

__all__ = ["Prototype"]


@final
@dataclass(frozen=True, slots=True)
class Prototype(PlainRule):
    """Classify by the distance to the class means of the support rows [1]_.

    Params: ``transform`` (feature, dimension) maps rows into the metric space; ``anchor`` (1, dimension) is
    where a class mean is expected before a row is seen, and ``pull`` () is how many rows that expectation counts;
    ``temperature`` () multiplies squared distances; ``center`` and ``spread`` (dimension,) describe all training
    rows and serve `evidence`. With ``pull = 0`` and the identity as transform this is the prototype classifier of
    the paper on raw features. Departures from the paper: the temperature, the metric and the pull are learned, and
    the features are no network's.

    State: ``center`` (task, way, dimension) sums of mapped rows and ``count`` (task, way).

    References
    ----------
    .. [1] Snell, J., Swersky, K. and Zemel, R. (2017). Prototypical networks for few-shot learning, equations 1-2.
    """

    def own_params(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], ways: int) -> Params:
        """Distances in standardised columns, with a temperature from the spread of the rows inside their classes."""
        width = x.shape[1]
        unit = x.std(axis=0)
        unit = np.where(unit > 1e-12 * (1.0 + np.abs(x.mean(axis=0))), unit, 1.0)
        z = x / unit
        deviations = z - _class_means(z, y, ways)[y]
        freedom = max(len(y) - len(np.unique(y)), 1)
        within = float((deviations**2).sum()) / (freedom * width)
        scale = within if within > 1e-12 else max(float(z.var()), 1e-12)
        return {
            "transform": np.diag(1.0 / unit),
            "anchor": np.zeros((1, width)),
            "pull": np.asarray(0.0),
            "temperature": np.asarray(0.5 / scale / np.sqrt(width)),
            "center": z.mean(axis=0),
            "spread": np.maximum(z.std(axis=0), 1e-6),
        }

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take ``prior_weight``: how many times the rows behind ``pull`` count."""
        return dict(params) | {"pull": params["pull"] * settings.get("prior_weight", 1.0)}

    def adapt(self, params: Params, support: Rows) -> State:
        """Sum and count the mapped rows of every class."""
        ways = int(support.y.max(initial=0)) + 1
        member = _members(support, ways)
        z = support.x @ params["transform"]
        return {"center": np.einsum("tnk,tnd->tkd", member, z), "count": member.sum(axis=1)}

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Categorical:
        """Softmax over minus the scaled squared distances."""
        means = _shrunk(params, state["center"], state["count"])
        logits = -params["temperature"] * _squared_distances(x @ params["transform"], means)
        return Categorical(_softmax(logits, state["count"] > 0))

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Minus the mean squared distance to the centre of all training rows, in units of their spread."""
        z = (support.x @ params["transform"] - params["center"]) / params["spread"]
        distance = np.where(support.mask, (z**2).mean(axis=-1), 0.0).sum(axis=1)
        return -distance / np.maximum(support.counts, 1)

    def update(self, params: Params, state: State, rows: Rows) -> State:
        """Add rows to the sums and counts of their classes."""
        more = self.adapt(params, rows)
        ways = max(state["count"].shape[1], more["count"].shape[1])
        return {name: _widen(state[name], ways) + _widen(more[name], ways) for name in state}


def _members(support: Rows, ways: int) -> Float[np.ndarray, "task row way"]:
    return ((support.y[..., None] == np.arange(ways)) & support.mask[..., None]).astype(np.float64)


def _shrunk(
    params: Params, center: Float[np.ndarray, "task way dimension"], count: Float[np.ndarray, "task way"]
) -> Float[np.ndarray, "task way dimension"]:
    weight = count + params["pull"]
    mean = (center + params["pull"] * params["anchor"]) / np.maximum(weight, 1e-12)[..., None]
    return np.where((weight > 0)[..., None], mean, params["anchor"])


def _squared_distances(
    z: Float[np.ndarray, "task row dimension"], means: Float[np.ndarray, "task way dimension"]
) -> Float[np.ndarray, "task row way"]:
    squares = (z**2).sum(axis=-1)[..., None] + (means**2).sum(axis=-1)[:, None, :] - 2.0 * z @ means.transpose(0, 2, 1)
    return np.maximum(squares, 0.0)


def _softmax(
    logits: Float[np.ndarray, "task row way"], known: Bool[np.ndarray, "task way"]
) -> Float[np.ndarray, "task row way"]:
    masked = np.where(known[:, None, :], logits, -np.inf)
    shifted = masked - np.max(masked, axis=-1, keepdims=True, initial=-1e300)
    weight = np.exp(shifted)
    return weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1e-300)


def _class_means(
    x: Float[np.ndarray, "row feature"], y: Int[np.ndarray, " row"], ways: int
) -> Float[np.ndarray, "way feature"]:
    member = (y[:, None] == np.arange(ways)).astype(np.float64)
    return member.T @ x / np.maximum(member.sum(axis=0), 1.0)[:, None]


def _widen(array: np.ndarray, ways: int) -> np.ndarray:
    gap = ways - array.shape[1]
    return array if gap == 0 else np.pad(array, [(0, 0), (0, gap)] + [(0, 0)] * (array.ndim - 2))
