"""Learn what to expect in the leaves of a tree by empirical Bayes: mean and covariance of the weights of ``[1, sides, m]``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.gaussian import factor
from upstairs.outer.candidates import pad_rows
from upstairs.outer.empirical_bayes import Moments, learn_gaussian, moments
from upstairs.outer.laplace_em import learn_logistic
from upstairs.outer.pooling import Data
from upstairs.outer.thinning import thinned

__all__ = ["Leaves"]

MOST_TASK_ROWS = 500
"""Classes: rows of a task from which the prior is learned, drawn at random if there are more."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """Columns of the largest tree of all training rows; priors of smaller trees take some of the columns.

    ``told`` is how many of the columns, the last ones, are pooled predictions.
    """

    data: Data
    phi: Float[np.ndarray, "row column"]
    told: int
    stats: Moments | None

    @classmethod
    def of(cls, data: Data, phi: Float[np.ndarray, "row column"], told: int) -> Leaves:
        """Sum up what is needed of the rows."""
        if data.kind == "regression":
            return cls(data, phi, told, moments(phi, data.y, data.offsets))
        rows, offsets = thinned(data.offsets, MOST_TASK_ROWS, data.seed)
        some = Data(data.x[rows], data.y[rows], offsets, data.fold, data.kind, data.ways, data.seed)
        return cls(some, phi[rows], told, None)

    def learn(
        self, columns: Int[np.ndarray, " column"], spread: str, *, most_steps: int, tolerance: float
    ) -> dict[str, np.ndarray]:
        """Learn the prior of some columns.

        Parameters
        ----------
        columns
            In rising order; the first is the level, the last are pooled predictions.
        spread
            What differs between tasks: "level" (and the weight of m), "diagonal" or "full".
        most_steps, tolerance
            Of expectation-maximisation.

        Returns
        -------
        dict
            ``weight``, ``mean``, ``factor``, and for a regression ``noise``, of one component.
        """
        width = len(columns)
        varying = np.arange(width)
        if spread == "level":
            varying = np.concatenate([[0], np.arange(width - self.told, width)])
        strength, target = (5.0, 0.01) if spread == "full" else (2.0, 0.005)
        if self.stats is not None:
            some = Moments(
                self.stats.gram[:, columns[:, None], columns],
                self.stats.cross[:, columns],
                self.stats.square,
                self.stats.rows,
            )
            found = learn_gaussian(
                some,
                random=varying,
                diagonal=spread == "diagonal",
                strength=strength,
                target=target,
                max_iter=most_steps,
                tolerance=tolerance,
            )
            return {
                "weight": np.ones(1),
                "mean": found.mean[None],
                "factor": factor(found.covariance)[None],
                "noise": np.array([found.noise]),
            }
        padded = pad_rows(self.phi[:, columns], self.data.offsets)
        counts = np.diff(self.data.offsets)
        logistic = learn_logistic(
            padded,
            pad_rows(self.data.y[:, None], self.data.offsets)[..., 0],
            np.arange(padded.shape[1]) < counts[:, None],
            self.data.ways,
            random=varying,
            diagonal=spread == "diagonal",
            strength=strength,
            target=target,
            max_iter=most_steps,
            tolerance=tolerance,
        )
        factors = [factor(covariance) for covariance in logistic.covariance]
        rank = max(part.shape[1] for part in factors)
        return {
            "weight": np.ones(1),
            "mean": logistic.mean[None],
            "factor": np.stack([np.pad(part, [(0, 0), (0, rank - part.shape[1])]) for part in factors])[None],
        }
