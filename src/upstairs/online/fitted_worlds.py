"""Worlds whose estimator follows from experience: settings that suit the rows of a world so far, and one fit.

What was learned over tasks is which settings suit which data; of columns and targets nothing is known before a world's rows are seen.
Until an estimator can be fitted a world predicts what its targets are like: their frequencies, or their mean and variance. How far an
estimator can be trusted is learned from how it has predicted rows before it learned them [1]_: the probability that a class is as it
says and not as frequencies say, and the mean square of its errors.

References
----------
.. [1] Dawid, A. P. (1984). Present position and potential developments: the prequential approach. Journal of the Royal Statistical
   Society A 147.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import clone

from upstairs.errors import FamiliarityWarning
from upstairs.inner.rule import Categorical, Gaussian, Prediction
from upstairs.online.prior_worlds import ANEW
from upstairs.online.worlds import OpenWorlds, World

__all__ = ["Fitted", "FittedWorlds"]

LEAST_ROWS = 5
"""Rows that an estimator is fitted to at least."""
REMEMBERED = 60
"""Newest rows, about, whose predictions say how far an estimator is trusted."""
NOTHING = (float("nan"), float("nan"))
LEAST_VARIANCE = 1e-9
TRUSTED = (0.001, 0.999)
"""Least and most trust in classes: what an estimator rules out may happen, and one that was always wrong may be right."""


@final
@dataclass(frozen=True, slots=True)
class Fitted:
    """What was learned of a world besides its rows.

    ``trust`` is the probability that a class is drawn as the estimator says, or the mean square error of a regression; ``told`` how
    many predictions it rests on. ``level`` are mean and variance of the targets of the world before, NaN where there was none.
    """

    estimator: Any = None
    trust: float = 0.5
    told: int = 0
    level: tuple[float, float] = NOTHING


@final
@dataclass(frozen=True, slots=True)
class FittedWorlds(OpenWorlds):
    """Worlds that fit an estimator to their newest rows, whenever a tenth of them are new.

    Parameters
    ----------
    template : estimator
        Not fitted; with experience, and a random state.
    columns : int
        Of a row.
    classes : int
        0 for a regression.
    most_rows : int
        Newest rows that are fitted to.
    """

    template: Any
    columns: int
    classes: int
    most_rows: int

    def blank(self, after: World | None = None) -> World:
        """Return a world of which no row has been seen; what targets look like is known from the one before."""
        y = np.empty(0, dtype=np.int64 if self.classes else np.float64)
        state = Fitted()
        if not self.classes:
            level = NOTHING if after is None else self._level(after)
            state = Fitted(trust=level[1], level=level)
        return World(np.empty((0, self.columns)), y, state, 0, 0)

    def learn(
        self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], *, later: bool = False
    ) -> World:
        """Learn more rows, after they have told how far the estimator can be trusted."""
        state = self._judged(world, x, y)
        x, y, total = np.concatenate([world.x, x]), np.concatenate([world.y, y]), world.total + len(y)
        if total - world.learned <= ANEW * min(world.learned, self.most_rows):
            return World(x, y, state, world.learned, total)
        x, y = x[-self.most_rows :], y[-self.most_rows :]
        return World(x, y, replace(state, estimator=self._fit(x, y)), total, total)

    def predict(self, world: World, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict rows; the task axis has length one."""
        state = world.state
        if self.classes:
            found = np.broadcast_to(self._usual(world), (len(x), self.classes))
            if state.estimator is not None:
                found = found + state.trust * (self._probability(state, x) - found)
            return Categorical(found[None].copy())
        mean, variance = self._level(world)
        if np.isnan(mean):
            mean, variance = 0.0, 1.0
        said = np.full(len(x), mean) if state.estimator is None else np.asarray(state.estimator.predict(x), np.float64)
        spread = variance if state.estimator is None or np.isnan(state.trust) else state.trust * _unsure(state.told)
        least = LEAST_VARIANCE * (variance + mean**2 + 1e-18)  # of a constant target too
        return Gaussian(said[None], np.full((1, len(x)), spread + least))

    def again(self, world: World) -> World:
        """Fit anew to the rows that are kept."""
        if not len(world.y):
            return world
        x, y = world.x[-self.most_rows :], world.y[-self.most_rows :]
        return World(x, y, replace(world.state, estimator=self._fit(x, y)), world.total, world.total)

    def widened(self, world: World, places: Shaped[np.ndarray, " way"]) -> World:
        """Return a world for more classes."""
        return self.again(replace(world, y=places[world.y]))

    def stored(self, world: World) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Write the rows, and what they told; an estimator is fitted again from the same rows."""
        state = world.state
        told = np.array([state.trust, *state.level])
        entry = [world.learned, world.total, state.told, state.estimator is not None]
        return entry, {"x": world.x, "y": world.y, "told": told}

    def restored(self, entry: list[Any], arrays: Mapping[str, np.ndarray]) -> World:
        """Undo `stored`."""
        learned, total, told, fitted = entry
        trust, *level = arrays["told"].tolist()
        x, y = arrays["x"], arrays["y"]
        rows = len(y) - (total - learned)
        estimator = self._fit(x[:rows], y[:rows]) if fitted else None
        return World(x, y, Fitted(estimator, trust, told, (level[0], level[1])), learned, total)

    # --- inner workings -----------------------------------------------------------------------------------------
    def _fit(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]) -> Any:
        """One fit with recommended settings; None where the rows do not allow one."""
        if len(y) < LEAST_ROWS or (self.classes and y.min() == y.max()):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FamiliarityWarning)  # of every world that has just begun
            try:
                return clone(self.template, safe=False).fit(x, y)
            except ValueError:  # too few rows of a class, say: there will be more
                return None

    def _judged(self, world: World, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]) -> Fitted:
        state, trust = world.state, world.state.trust
        if not self.classes:
            if np.isnan(self._level(world)[0]):
                return state
            errors = np.square(y - self.predict(world, x).mean[0])  # type: ignore[union-attr]
            for told, error in enumerate(errors.tolist(), start=state.told):
                trust = error if np.isnan(trust) else trust + (error - trust) * _rate(told)
            return replace(state, trust=trust, told=state.told + len(y))
        if state.estimator is None:
            return state
        said = self._probability(state, x)[np.arange(len(y)), y]
        usual = self._usual(world)[y]
        for told, (own, other) in enumerate(zip(said.tolist(), usual.tolist(), strict=True), start=state.told):
            right = trust * own / (trust * own + (1.0 - trust) * other)
            trust = min(max(trust + (right - trust) * _rate(told), TRUSTED[0]), TRUSTED[1])
        return replace(state, trust=trust, told=state.told + len(y))

    def _probability(self, state: Fitted, x: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row way"]:
        found = np.zeros((len(x), self.classes))
        estimator = state.estimator
        if hasattr(estimator, "predict_proba"):
            found[:, estimator.classes_] = estimator.predict_proba(x)
        else:
            found[np.arange(len(x)), estimator.predict(x)] = 1.0
        return found

    def _usual(self, world: World) -> Float[np.ndarray, " way"]:
        """Frequencies of the classes, each counted once more."""
        count = np.bincount(world.y, minlength=self.classes) + 1.0
        share: np.ndarray = count / count.sum()
        return share

    def _level(self, world: World) -> tuple[float, float]:
        """Mean and variance of the targets, with those of the world before as one row more."""
        mean, variance = world.state.level
        rows = len(world.y)
        if not rows:
            return mean, variance
        own, spread = float(world.y.mean()), float(world.y.var())
        if np.isnan(mean):
            return own, spread
        both = rows * spread + variance + (own - mean) ** 2 * rows / (rows + 1)
        return (rows * own + mean) / (rows + 1), both / (rows + 1)


def _rate(told: int) -> float:
    """Weight of the newest of ``told + 1`` predictions: later ones count more, since an estimator gets better by its rows."""
    return 2.0 / (min(told, REMEMBERED) + 3.0)


def _unsure(told: int) -> float:
    """How much wider a prediction is because its variance is known from few errors, as that of Student's distribution is."""
    return 1.0 + 3.0 / (min(told, REMEMBERED) + 1.0)
