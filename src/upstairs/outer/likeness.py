"""Which past data sets is a new one like? Every form of recommendation here is a way to weigh them.

With weights over the data sets of an experience, what is expected of a setting is the weighted mean of its losses
there, and the settings to try one after another are a greedy portfolio for the weighted data sets.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Float

__all__ = ["FORMS", "Evenly", "Forest", "Kernel", "Likeness", "Nearest", "Spreads", "distances", "strangeness"]

Learned: TypeAlias = Mapping[str, np.ndarray]
_FAR, _VERY_FAR = 3.0, 10.0
"""A description further than so many spreads from the middle counts as that far: for likeness, and for strangeness."""


class Likeness(abc.ABC):
    """One way to weigh past data sets: frozen settings; what is learned over tasks is a set of arrays."""

    @abc.abstractmethod
    def learn(
        self, features: Float[np.ndarray, "task feature"], losses: Float[np.ndarray, "task setting"]
    ) -> dict[str, np.ndarray]:
        """Learn over tasks what the weights need beside the descriptions."""

    @abc.abstractmethod
    def weights(
        self, learned: Learned, features: Float[np.ndarray, "task feature"], x: Float[np.ndarray, " feature"]
    ) -> Float[np.ndarray, " task"]:
        """Weigh the past data sets for a new one with description ``x``; the sum is 1."""

    @property
    @abc.abstractmethod
    def meaning(self) -> str:
        """What this form does, in one sentence."""


@final
@dataclass(frozen=True)
class Evenly(Likeness):
    """Every data set counts alike, so that one setting (or one portfolio) serves all.

    Examples
    --------
    >>> Evenly().weights({}, np.zeros((2, 1)), np.zeros(1))
    array([0.5, 0.5])
    """

    def learn(self, features: Any, losses: Any) -> dict[str, np.ndarray]:
        """Nothing is learned."""
        return {}

    def weights(self, learned: Any, features: Any, x: Any) -> Any:
        """Equal weights."""
        return np.full(len(features), 1.0 / len(features))

    @property
    def meaning(self) -> str:
        """In one sentence."""
        return "one setting that is good on all data sets"


@final
@dataclass(frozen=True)
class Nearest(Likeness):
    """The nearest data sets count alike, the others not at all (sum of absolute differences in robust units).

    Examples
    --------
    >>> Nearest(1).weights({}, np.array([[0.0], [1.0], [2.0]]), np.array([1.9]))
    array([0., 0., 1.])
    """

    neighbors: int = 20

    def learn(self, features: Any, losses: Any) -> dict[str, np.ndarray]:
        """Nothing is learned."""
        return {}

    def weights(self, learned: Any, features: Any, x: Any) -> Any:
        """Equal weights for the nearest."""
        kept = min(self.neighbors, max(1, len(features) // 2))
        out = np.zeros(len(features))
        out[np.argsort(distances(features, x), kind="stable")[:kept]] = 1.0 / kept
        return out

    @property
    def meaning(self) -> str:
        """In one sentence."""
        return f"the setting that is best on the {self.neighbors} most similar data sets"


@final
@dataclass(frozen=True)
class Kernel(Likeness):
    """Ridge regression from descriptions to the losses of every setting, in a linear plus a Gaussian kernel.

    Weights may be negative. ``penalty`` is relative to a kernel whose largest values are near 1.
    """

    penalty: float = 3.0

    def learn(self, features: Any, losses: Any) -> dict[str, np.ndarray]:
        """Nothing is learned beside the descriptions."""
        return {}

    def weights(self, learned: Any, features: Any, x: Any) -> Any:
        """How much the prediction at ``x`` moves with the losses of each data set."""
        scaled = Spreads(features).scaled(np.vstack([features, x]), _FAR)
        squares = (scaled**2).sum(axis=1)
        inner = scaled @ scaled.T
        apart = np.maximum(squares[:, None] + squares[None, :] - 2 * inner, 0.0)
        old = apart[:-1, :-1]
        width = max(float(np.median(old[~np.eye(len(old), dtype=bool)])) if len(old) > 1 else 1.0, 1e-12)
        kernel = np.exp(-apart / width) + inner / max(scaled.shape[1], 1)
        solved = np.linalg.solve(kernel[:-1, :-1] + self.penalty * np.eye(len(old)), kernel[:-1, -1])
        return solved + (1.0 - solved.sum()) / len(old)

    @property
    def meaning(self) -> str:
        """In one sentence."""
        return "the setting whose loss, predicted from the description by kernel regression, is lowest"


@final
@dataclass(frozen=True)
class Forest(Likeness):
    """Data sets that fall into the same leaves of extremely randomised trees, grown to predict the losses [1]_.

    The weighted mean of past losses is then exactly what the forest predicts for every setting.

    References
    ----------
    .. [1] Geurts, P., Ernst, D. and Wehenkel, L. (2006). Extremely randomized trees. Machine Learning 63.
    """

    trees: int = 100
    leaf: int = 4
    columns: float = 0.5

    def learn(self, features: Any, losses: Any) -> dict[str, np.ndarray]:
        """Grow the trees; keep their splits and the leaf that each data set falls into."""
        from sklearn.ensemble import ExtraTreesRegressor

        filled = np.where(np.isnan(losses), np.nanmean(losses, axis=1, keepdims=True), losses)
        forest = ExtraTreesRegressor(
            self.trees, min_samples_leaf=self.leaf, max_features=self.columns, random_state=0, n_jobs=1
        ).fit(features.astype(np.float32), filled)
        grown = [tree.tree_ for tree in forest.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in grown)])
        shift = np.repeat(starts[:-1], np.diff(starts)).astype(np.int32)
        left, right = (
            np.concatenate([getattr(tree, side) for tree in grown]).astype(np.int32)
            for side in ("children_left", "children_right")
        )
        leaves = forest.apply(features.astype(np.float32)) + starts[:-1]
        return {
            "root": starts[:-1].astype(np.int32),
            "feature": np.concatenate([tree.feature for tree in grown]).astype(np.int16),
            "threshold": np.concatenate([tree.threshold for tree in grown]),
            "left": np.where(left < 0, left, left + shift).astype(np.int32),
            "right": np.where(right < 0, right, right + shift).astype(np.int32),
            "leaf": leaves.astype(np.int32),
        }

    def weights(self, learned: Any, features: Any, x: Any) -> Any:
        """Share of the trees' leaves that a data set has in common with the new one."""
        x = x.astype(np.float32)
        node = learned["root"].copy()
        while True:
            left = learned["left"][node]
            inner = left >= 0
            if not inner.any():
                break
            goes_left = x[learned["feature"][node]] <= learned["threshold"][node]
            node = np.where(inner, np.where(goes_left, left, learned["right"][node]), node)
        together = learned["leaf"] == node[None, :]
        return (together / np.maximum(together.sum(axis=0), 1)).mean(axis=1)

    @property
    def meaning(self) -> str:
        """In one sentence."""
        return "the setting whose loss, predicted from the description by a forest, is lowest"


FORMS: Mapping[str, Likeness] = {"one": Evenly(), "nearest": Nearest(), "kernel": Kernel(), "forest": Forest()}
"""The forms that leave-one-group-out chooses among, the simplest first."""


def distances(
    features: Float[np.ndarray, "task feature"], x: Float[np.ndarray, " feature"]
) -> Float[np.ndarray, " task"]:
    """How far a description lies from those of the tasks: mean absolute difference, in spreads of each number.

    Examples
    --------
    >>> distances(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([2.0, 5.0]))
    array([1., 0.])
    """
    units = Spreads(features)
    found: np.ndarray = np.abs(units.scaled(features, _FAR) - units.scaled(x, _FAR)).mean(axis=1)
    return found


def strangeness(
    known: Float[np.ndarray, "task feature"], own: Float[np.ndarray, " feature"]
) -> Float[np.ndarray, " task"]:
    """How far a description lies from those of the tasks, all in `Spreads`, where one number that is far off counts most.

    Root of the mean squared difference of each number, each difference at most 10.

    Examples
    --------
    >>> tasks = np.array([[0.0, 0.0], [2.0, 2.0]])
    >>> units = Spreads(tasks)
    >>> strangeness(units.scaled(tasks), units.scaled(np.array([5.0, 0.0]))).round(1)
    array([3.5, 2.5])
    """
    apart = known - own
    found: np.ndarray = np.sqrt((np.clip(apart, -_VERY_FAR, _VERY_FAR) ** 2).mean(axis=1))
    return found


@final
class Spreads:
    """Units that descriptions are compared in: how the tasks differ; what does not differ between them counts nothing.

    Parameters
    ----------
    features : array of shape (task, feature)
    """

    __slots__ = ("_middle", "_unit")

    def __init__(self, features: Float[np.ndarray, "task feature"]) -> None:
        spread = features.std(axis=0)
        self._middle, self._unit = np.median(features, axis=0), np.where(spread > 1e-9, spread, np.inf)

    def scaled(self, values: Float[np.ndarray, "*task feature"], far: float = _VERY_FAR) -> Any:
        """Write values in these units, as at most ``far`` from the middle."""
        return np.clip((values - self._middle) / self._unit, -far, far)
