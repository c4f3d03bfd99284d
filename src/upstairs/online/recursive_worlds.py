"""Classes that drift within a world: recursive logistic regression from the prior, with several rates of forgetting.

A follower (`upstairs.online.following`), where the prior is one of `upstairs.inner.logistic.BayesianLogistic`. The recursion knows one
normal distribution that all latents share, so the prior's mixture is taken by its first two moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.columns import features
from upstairs.inner.recursive_logistic import logistic_learn, logistic_params, logistic_predict, logistic_start
from upstairs.inner.rule import Categorical, Params, Prediction
from upstairs.online.worlds import World, Worlds

__all__ = ["RecursiveWorlds"]


@final
@dataclass(frozen=True)
class RecursiveWorlds(Worlds):
    """Worlds that forget, by the recursion of one rate.

    Parameters
    ----------
    prior : dict of arrays
        Params of the prior's rule: its weights, and what makes columns of features.
    recursion : dict of arrays
        Of `upstairs.inner.recursive_logistic.logistic_params`.
    columns : int
        Of encoded rows.
    """

    prior: Params
    recursion: Params
    columns: int

    @classmethod
    def of(cls, prior: Params, columns: int, rate: float) -> RecursiveWorlds:
        """Take a prior by its moments."""
        weight = np.asarray(prior["weight"])
        mean = np.einsum("k,klc->lc", weight, prior["mean"])
        spread = prior["factor"] @ np.swapaxes(prior["factor"], 2, 3)
        apart = prior["mean"] - mean
        around = np.einsum("k,klcd->lcd", weight, spread) + np.einsum("k,klc,kld->lcd", weight, apart, apart)
        return cls(prior, logistic_params(mean.T, around.mean(axis=0), np.array([rate])), columns)

    def blank(self, after: World | None = None) -> World:
        """Return what the prior expects."""
        return World(np.empty((0, self.columns)), np.empty(0, dtype=np.int64), logistic_start(self.recursion), 0, 0)

    def learn(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], *, later: bool = False
    ) -> World:
        """Learn more rows; always at once."""
        total = world.total + len(y)
        return World(world.x, world.y, logistic_learn(self.recursion, world.state, self._phi(x), y), total, total)

    def predict(self, world: World, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict rows; the task axis has length one."""
        said = logistic_predict(self.recursion, world.state, self._phi(x)).probability
        return Categorical(said / said.sum(axis=2, keepdims=True))

    def again(self, world: World) -> World:
        """Begin anew: what was learned is said in the coordinates of the prior that has changed."""
        return self.blank()

    def stored(self, world: World) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Write the state."""
        return [world.learned, world.total], {f"state/{name}": array for name, array in world.state.items()}

    def restored(self, entry: list[Any], arrays: Mapping[str, np.ndarray]) -> World:
        """Undo `stored`."""
        blank = self.blank()
        return World(blank.x, blank.y, {name[6:]: array for name, array in arrays.items()}, *entry)

    def _phi(self, x: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row column"]:
        mask = np.ones((1, len(x)), dtype=bool)
        return features(self.prior, x[None], mask)[0]
