"""What is known about one task that was met on a stream, and how more rows of it are learned.

A world is immutable: learning rows gives another one, so that what was believed before a change is still there when the
change is noticed. Where the rule learns more rows exactly (`upstairs.inner.rule.AdaptationRule.updates`), rows are learned one chunk at
a time; elsewhere the task is adapted anew from its newest rows, whenever these have become a tenth more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.rule import Prediction, log_density
from upstairs.learners.adaptation import Adapted, Situation, adapt_all, more_rows, predict_rows

__all__ = ["World", "Worlds"]

ANEW = 1.1
"""A task is adapted anew when it has so many times the rows that it was last adapted to."""


@dataclass(frozen=True, slots=True)
class World:
    """A task: its newest rows, encoded, with standardised targets or class numbers; how it is adapted; how many rows it had.

    ``total`` is how many rows the task has had in all, ``learned`` how many it had had when it was last adapted.
    """

    x: Float[np.ndarray, "row feature"]
    y: Shaped[np.ndarray, " row"]
    adapted: Adapted
    learned: int
    total: int


@dataclass(frozen=True, slots=True)
class Worlds:
    """How worlds begin, learn and predict.

    Parameters
    ----------
    situation : Situation
        A prior on columns, read.
    most_rows : int
        Newest rows that are kept of a world.
    """

    situation: Situation
    most_rows: int

    def blank(self) -> World:
        """Return a world of which no row has been seen: what the prior expects of any task."""
        encoder = self.situation.encoder
        assert encoder is not None
        classes = self.situation.ways > 0
        return self.of(np.empty((0, encoder.width)), np.empty(0, dtype=np.int64 if classes else np.float64), 0)

    def of(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], total: int) -> World:
        """Adapt to rows from scratch."""
        return World(x, y, adapt_all(self.situation, [x], [y])[0], total, total)

    def learn(self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]) -> World:
        """Learn more rows of a world."""
        kept_x = np.concatenate([world.x, x])[-self.most_rows :]
        kept_y = np.concatenate([world.y, y])[-self.most_rows :]
        total = world.total + len(y)
        if self.situation.updates:
            return World(kept_x, kept_y, more_rows(world.adapted, x, y), total, total)
        if total <= ANEW * world.learned:
            return replace(world, x=kept_x, y=kept_y, total=total)
        return self.of(kept_x, kept_y, total)

    def again(self, world: World) -> World:
        """Adapt to the rows that are kept, as under a prior that has changed."""
        return self.of(world.x, world.y, world.total)

    def predict(self, world: World, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict rows; the task axis has length one."""
        return predict_rows(world.adapted, x)

    def log_density(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]
    ) -> Float[np.ndarray, " row"]:
        """Log predictive density of rows that the world has not learned."""
        return log_density(self.predict(world, x), y[None])[0]
