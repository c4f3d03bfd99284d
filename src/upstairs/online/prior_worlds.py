"""Worlds that start from a prior.

Where the rule learns more rows exactly (`upstairs.inner.rule.AdaptationRule.updates`), rows are learned one chunk at a time;
elsewhere, and with a window, a world is adapted anew from its newest rows, whenever a tenth of them are new, or makes further steps of
the learned update rule down the loss of its newest rows, from where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.rule import Prediction, Rows
from upstairs.learners.adaptation import Adapted, Situation, adapt_all, more_rows, predict_rows, steps_on
from upstairs.online.worlds import World, Worlds

__all__ = ["PriorWorlds"]

ANEW = 0.1
"""A task is adapted anew when this share of its rows are new."""


@final
@dataclass(frozen=True)
class PriorWorlds(Worlds):
    """Worlds under a prior on columns.

    Parameters
    ----------
    situation : Situation
        The prior, read.
    most_rows : int
        Newest rows that are kept of a world.
    forgetting : float
        What a row counts after one more row; below 1 only where the rule forgets.
    moves : bool
        Whether each chunk is followed by steps from where a world stands, with a rule that knows such steps.
    """

    situation: Situation
    most_rows: int
    forgetting: float = 1.0
    moves: bool = False

    def blank(self, after: World | None = None) -> World:
        """Return what the prior expects of any task."""
        return self._blank

    @cached_property
    def _blank(self) -> World:
        encoder = self.situation.encoder
        assert encoder is not None
        classes = self.situation.ways > 0
        return self._of(np.empty((0, encoder.width)), np.empty(0, dtype=np.int64 if classes else np.float64), 0)

    def learn(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], *, later: bool = False
    ) -> World:
        """Learn more rows of a world; always at once."""
        kept_x = np.concatenate([world.x, x])[-self.most_rows :]
        kept_y = np.concatenate([world.y, y])[-self.most_rows :]
        total = world.total + len(y)
        rule = self.situation.rule
        if self.moves:
            moved = World(kept_x, kept_y, steps_on(world.state, kept_x, kept_y), total, total)
            return moved if self._fits(moved) >= self._fits(replace(moved, state=world.state)) else self.again(moved)
        if self.situation.updates and (rule.compact or total <= self.most_rows):
            return World(kept_x, kept_y, more_rows(world.state, x, y, self.forgetting), total, total)
        if total - world.learned <= ANEW * min(world.learned, self.most_rows):
            return replace(world, x=kept_x, y=kept_y, total=total)
        return self._of(kept_x, kept_y, total)

    def predict(self, world: World, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict rows; the task axis has length one."""
        return predict_rows(world.state, x)

    def again(self, world: World) -> World:
        """Adapt to the rows that are kept."""
        return self._of(world.x, world.y, world.total)

    def merged(self, one: World, other: World) -> tuple[float, World] | None:
        """Return two worlds as one, and the log evidence that their rows gain as one task."""
        x, y = np.concatenate([one.x, other.x]), np.concatenate([one.y, other.y])
        gain = self._evidence(x, y) - self._evidence(one.x, one.y) - self._evidence(other.x, other.y)
        if gain <= 0.0:
            return None
        return gain, self._of(x[-self.most_rows :], y[-self.most_rows :], one.total + other.total)

    def stored(self, world: World) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Write the rows and the state."""
        arrays = {"x": world.x, "y": world.y}
        arrays |= {f"state/{name}": np.asarray(array) for name, array in world.state.state.items()}
        return [world.learned, world.total, world.state.rows, world.state.familiarity], arrays

    def restored(self, entry: list[Any], arrays: Mapping[str, np.ndarray]) -> World:
        """Undo `stored`."""
        learned, total, rows, familiarity = entry
        state = {name[6:]: array for name, array in arrays.items() if name.startswith("state/")}
        situation = self.situation
        assert situation.params is not None
        params = situation.rule.override(situation.params, situation.settings)
        adapted = Adapted(situation.rule, params, state, rows, True, familiarity)
        return World(arrays["x"], arrays["y"], adapted, learned, total)

    def _fits(self, world: World) -> float:
        """Mean log density of the rows that are kept; minus infinity where weights have left all bounds."""
        return float(np.nan_to_num(self.log_density(world, world.x, world.y), nan=-np.inf).mean())

    def _of(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], total: int) -> World:
        """Adapt to rows from scratch."""
        return World(x, y, adapt_all(self.situation, [x], [y])[0], total, total)

    def _evidence(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]) -> float:
        situation = self.situation
        assert situation.params is not None
        if not len(y):
            return 0.0
        rows = Rows(x[None], y[None], np.ones((1, len(y)), dtype=bool))
        return float(situation.rule.evidence(situation.params, rows)[0]) * len(y)
