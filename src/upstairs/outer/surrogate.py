"""What the trials on a task say about the settings that were not tried: a Gaussian process whose covariance was learned.

Past tasks say which settings do well together (their covariance over tasks); a kernel over the settings' coordinates
says that near settings do alike, which is what a surrogate without experience knows. As trials grow, the task's own
outcomes decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from upstairs.outer.journal import settings_key

__all__ = ["Surrogate", "coordinates"]

_LOCAL, _NOISE, _WIDTH = 0.3, 0.1, 0.3
"""Share of the local kernel, noise of a score (both of the mean variance of a setting), width of the local kernel."""
_LEVEL = 25.0
"""Variance of a task's level, in mean variances of a setting: how hard a task is says little about its settings."""


@final
@dataclass(frozen=True)
class Surrogate:
    """A Gaussian over the scores of all settings on a new task.

    Attributes
    ----------
    mean : array of shape (setting,)
    covariance : array of shape (setting, setting)
    noise : float
        Variance of an observed score around it.

    Examples
    --------
    >>> past = np.array([[0.9, 0.8, 0.1], [0.7, 0.8, 0.2], [0.1, 0.2, 0.8]])
    >>> surrogate = Surrogate.learn(past, coordinates([{"C": 1}, {"C": 2}, {"C": 100}]))
    >>> mean, spread = surrogate.given({0: 0.9})
    >>> bool(mean[1] > mean[2]), bool(spread[0] < spread[1] < spread[2])
    (True, True)
    >>> surrogate.improvement({0: 0.9})[0]
    np.float64(0.0)
    """

    mean: Float[np.ndarray, " setting"]
    covariance: Float[np.ndarray, "setting setting"]
    noise: float

    @classmethod
    def learn(cls, score: Float[np.ndarray, "task setting"], places: Float[np.ndarray, "setting axis"]) -> Surrogate:
        """Estimate mean and covariance over tasks.

        Parameters
        ----------
        score : array of shape (task, setting)
            Finite where tried; a missing cell counts as the task's and the setting's usual score.
        places : array of shape (setting, axis)
            See `coordinates`.
        """
        level = np.nanmean(score, axis=1, keepdims=True)
        own = score - level
        usual = np.nanmean(own, axis=0)
        usual = np.where(np.isnan(usual), 0.0, usual)
        moved = np.where(np.isnan(own), 0.0, own - usual)
        learned = moved.T @ moved / len(score)
        unit = max(float(np.trace(learned)) / len(usual), 1e-12)
        squares = ((places[:, None, :] - places[None, :, :]) ** 2).sum(axis=-1)
        width = _WIDTH * max(float(np.median(squares)), 1e-12)
        local = unit * np.exp(-squares / width)
        covariance = (1.0 - _LOCAL) * learned + _LOCAL * local + _LEVEL * unit
        return cls(usual + float(level.mean()), covariance, _NOISE * unit)

    def given(self, tried: Mapping[int, float]) -> tuple[Float[np.ndarray, " setting"], Float[np.ndarray, " setting"]]:
        """Mean and standard deviation of every setting's score, given the scores of some."""
        columns = list(tried)
        seen = self.covariance[np.ix_(columns, columns)] + self.noise * np.eye(len(columns))
        gain = np.linalg.solve(seen, self.covariance[columns]).T
        mean = self.mean + gain @ (np.array([tried[n] for n in columns]) - self.mean[columns])
        variance = np.diag(self.covariance) - (gain * self.covariance[:, columns]).sum(axis=1)
        return mean, np.sqrt(np.maximum(variance, 1e-18))

    def improvement(self, tried: Mapping[int, float]) -> Float[np.ndarray, " setting"]:
        """Return the expected improvement of each setting over the best one tried; 0 for those tried."""
        mean, spread = self.given(tried)
        columns = list(tried)
        z = (mean - mean[columns].max()) / spread
        found = spread * (z * norm.cdf(z) + norm.pdf(z))
        found[columns] = 0.0
        return found


def coordinates(settings: Sequence[Mapping[str, Any]]) -> Float[np.ndarray, "setting axis"]:
    """Places of settings in a space in which near ones are alike: numbers between 0 and 1, the rest one axis a value.

    Positive numbers over more than a factor of ten are placed by their logarithm.

    Examples
    --------
    >>> coordinates([{"C": 0.1}, {"C": 10.0}, {"C": 1000.0}]).ravel().round(9).tolist()
    [0.0, 0.5, 1.0]
    >>> coordinates([{"kernel": "rbf"}, {"kernel": "linear"}]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    axes: list[np.ndarray] = []
    for name in sorted({name for entry in settings for name in entry}):
        values = [entry.get(name) for entry in settings]
        number = np.array([isinstance(value, int | float) and not isinstance(value, bool) for value in values])
        if number.any():
            axes.append(_placed(values, number))
        others = sorted(
            {settings_key({"": value}) for value, is_number in zip(values, number, strict=True) if not is_number}
        )
        if len(others) > 1 or (others and number.any()):
            keys = np.array([settings_key({"": value}) for value in values])
            axes += [((keys == other) & ~number).astype(np.float64) for other in others]
    return np.stack(axes, axis=1) if axes else np.zeros((len(settings), 1))


def _placed(values: Sequence[Any], number: np.ndarray) -> Float[np.ndarray, " setting"]:
    there = np.array([float(value) for value, is_number in zip(values, number, strict=True) if is_number])
    if there.min() > 0 and there.max() > 10 * there.min():
        there = np.array([math.log(value) for value in there])
    low, high = there.min(), there.max()
    out = np.full(len(values), 0.5)
    out[number] = (there - low) / (high - low) if high > low else 0.5
    return out
