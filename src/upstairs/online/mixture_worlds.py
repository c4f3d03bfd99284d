"""Worlds without a prior: each is a forgetful mixture of its own (`upstairs.inner.forgetful_mixture`), in bounded memory.

A new world starts with the running scales of the one before: what its columns and targets look like is known, what they have to do
with each other is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.forgetful_mixture import ForgetfulMixture
from upstairs.inner.rule import Params, Prediction
from upstairs.online.worlds import OpenWorlds, World

__all__ = ["MixtureWorlds"]

TOGETHER = 10
"""Rows that are learned together by a world that may learn later: ten at once cost little more than one."""


@final
@dataclass(frozen=True, slots=True)
class MixtureWorlds(OpenWorlds):
    """Worlds that know nothing at first; ``x`` and ``y`` of a world are rows that it has not learned yet.

    Parameters
    ----------
    mixture : ForgetfulMixture
    params : dict of arrays
        Of ``mixture.params``.
    """

    mixture: ForgetfulMixture
    params: Params

    def blank(self, after: World | None = None) -> World:
        """Return a world of which no row has been seen, in the scales of the one before."""
        columns = len(self.params["frequency"])
        nothing = np.empty((0, columns)), np.empty(0, dtype=np.int64 if self.mixture.outputs else np.float64)
        state = self.mixture.start(self.params) if after is None else self.mixture.anew(self.params, after.state)
        return World(*nothing, state, 0, 0)

    def learn(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], *, later: bool = False
    ) -> World:
        """Learn more rows of a world."""
        x, y, total = np.concatenate([world.x, x]), np.concatenate([world.y, y]), world.total + len(y)
        if later and len(y) < TOGETHER:
            return replace(world, x=x, y=y, total=total)
        state = self.mixture.learn(self.params, world.state, x, y)
        return World(x[:0], y[:0], state, total, total)

    def predict(self, world: World, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict rows; the task axis has length one."""
        return self.mixture.predict(self.params, world.state, x)

    def widened(self, world: World, places: Shaped[np.ndarray, " way"]) -> World:
        """Return a world for more classes."""
        return replace(world, y=places[world.y], state=self.mixture.widened(world.state, places))

    def stored(self, world: World) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Write the rows that wait and the state."""
        state = {f"state/{name}": array for name, array in world.state.items()}
        return [world.learned, world.total], {"x": world.x, "y": world.y, **state}

    def restored(self, entry: list[Any], arrays: Mapping[str, np.ndarray]) -> World:
        """Undo `stored`."""
        state = {name[6:]: array for name, array in arrays.items() if name.startswith("state/")}
        return World(arrays["x"], arrays["y"], state, *entry)
