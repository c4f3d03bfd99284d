"""Replay unseen tasks at several numbers of support rows, the same draws for everything that is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from upstairs.inner.rule import Gaussian, Prediction
from upstairs.outer.pooling import Data

__all__ = ["Replay", "replays", "sizes_for"]

SIZES = {"regression": (1, 2, 5, 10, 20, 50), "classification": (1, 2, 5, 10, 20, 50, 100, 200)}
"""Default numbers of support rows, as far as tasks allow; a class label tells less than a number does."""
EPISODES = 300
QUERIES = 50


@dataclass(frozen=True, slots=True)
class Replay:
    """Draws of ``size`` support rows and at most `QUERIES` others from tasks, as many from each.

    ``support`` and ``query`` are numbers of rows, -1 where there is none.
    """

    size: int
    tasks: Int[np.ndarray, " task"]
    support: Int[np.ndarray, "draw shot"]
    query: Int[np.ndarray, "draw asked"]

    @property
    def all_support(self) -> Bool[np.ndarray, "draw shot"]:
        """A mask without padding: every draw has as many support rows."""
        return np.ones(self.support.shape, dtype=bool)

    def loss(self, predicted: Prediction, y: Shaped[np.ndarray, " row"]) -> Float[np.ndarray, " task"]:
        """Squared error, or log loss, of every task.

        Parameters
        ----------
        predicted
            Of the query rows.
        y
            Targets of all rows.
        """
        target, real = y[self.query], self.query >= 0
        if isinstance(predicted, Gaussian):
            line = np.square(target - predicted.mean)
        else:
            taken = np.take_along_axis(predicted.probability, target[..., None], axis=2)[..., 0]
            line = -np.log(np.maximum(taken, 1e-12))
        mean = np.where(real, line, 0.0).sum(axis=1) / real.sum(axis=1)
        return mean.reshape(len(self.tasks), -1).mean(axis=1)


def replays(test: Data, shots: int | tuple[int, int] | None, episodes: int = EPISODES) -> Iterator[Replay]:
    """Draw support and query rows of unseen tasks at every number of rows that is asked for and that tasks allow.

    Parameters
    ----------
    test
        Unseen tasks; its seed draws.
    shots
        Number of support rows, or least and most; None: `SIZES`.
    episodes
        Draws a size, about.
    """
    counts = np.diff(test.offsets)
    for size in sizes_for(shots, test.kind):
        usable = np.flatnonzero(counts > size)
        if len(usable) < 2:
            continue
        rng = np.random.default_rng([test.seed, size])
        if len(usable) > episodes:
            usable = np.sort(rng.choice(usable, episodes, replace=False))
        draws = int(np.clip(episodes // len(usable), 1, 8))
        task = np.repeat(usable, draws)
        order = [test.offsets[t] + rng.permutation(counts[t])[: size + QUERIES] for t in task]
        longest = max(len(rows) for rows in order)
        index = np.stack([np.pad(rows, (0, longest - len(rows)), constant_values=-1) for rows in order])
        yield Replay(size, usable, index[:, :size], index[:, size:])


def sizes_for(shots: int | tuple[int, int] | None, kind: str = "regression") -> tuple[int, ...]:
    """Numbers of support rows at which candidates are compared.

    Examples
    --------
    >>> sizes_for((3, 20)), sizes_for(5)
    ((3, 6, 11, 20), (5,))
    """
    if shots is None:
        return SIZES[kind]
    if isinstance(shots, int | np.integer):
        return (int(shots),)
    low, high = max(int(shots[0]), 1), max(int(shots[-1]), 1)
    return tuple(sorted({round(float(v)) for v in np.geomspace(low, high, 4)}))
