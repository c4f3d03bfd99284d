"""Families of tasks whose best answer is known.

A family is a frozen dataclass. ``sample`` draws tasks from it; where tasks share something, ``best`` predicts a new
task as someone would who knows the family and has seen the same support rows, which nobody can beat on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.errors import TaskError
from upstairs.tasks.family import Concept, Family
from upstairs.tasks.hidden_rule import HiddenRule
from upstairs.tasks.task import Kind

__all__ = ["Family", "HiddenRule", "SharedSubspace", "Sinusoids", "Unrelated"]


@final
@dataclass(frozen=True)
class Sinusoids(Family):
    """Waves ``y = A sin(x - phase)`` with amplitude and phase of their own: the regression protocol of MAML.

    Phases lie evenly in [0, pi], x in [-5, 5].

    Parameters
    ----------
    noise : float
        Standard deviation added to y; none in the published protocol.
    amplitudes : (float, float)
        Between which amplitudes lie evenly.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine, Model-agnostic meta-learning for fast adaptation of deep networks, ICML 2017,
    section 5.1.

    Examples
    --------
    >>> task = Sinusoids().sample(3, rows=20)[0]
    >>> best = Sinusoids().best(task.X[:5], task.y[:5], task.X[5:])
    >>> bool(np.allclose(best, task.y[5:]))
    True
    """

    noise: float = 0.0
    amplitudes: tuple[float, float] = (0.1, 5.0)
    name: ClassVar[str] = "sinusoid"

    def __post_init__(self) -> None:
        if not 0.0 <= self.amplitudes[0] < self.amplitudes[1]:
            raise TaskError(f"amplitudes={self.amplitudes!r} must be a pair (low, high) with 0 <= low < high.")

    @property
    def kind(self) -> Kind:
        """Always regression."""
        return "regression"

    @property
    def columns(self) -> int:
        """One."""
        return 1

    def concept(self, rng: np.random.Generator) -> Concept:
        """Draw an amplitude and a phase."""
        return {
            "amplitude": np.asarray(rng.uniform(*self.amplitudes)),
            "phase": np.asarray(rng.uniform(0.0, np.pi)),
        }

    def rows(
        self, concept: Concept, rows: int, rng: np.random.Generator, shift: Any = 0.0
    ) -> tuple[Float[np.ndarray, "row 1"], Float[np.ndarray, " row"]]:
        """Draw points of a wave."""
        X = rng.uniform(-5.0, 5.0, size=rows)[:, None] + shift
        height = concept["amplitude"] * np.sin(X[:, 0] - concept["phase"])
        return X, height + self.noise * rng.normal(size=rows)

    def best(
        self, X: Float[np.ndarray, "row 1"], y: Float[np.ndarray, " row"], X_new: Float[np.ndarray, "new 1"]
    ) -> Float[np.ndarray, " new"]:
        """Predict new rows by the posterior mean.

        Without rows this is the family's mean, ``-2 A cos(x) / pi`` with the mean amplitude A. Without noise two rows fix the wave, and
        least squares in (sin x, cos x) finds it; otherwise amplitude and phase are summed over a grid of 200 x 200
        points (with a noise of at least 0.05).
        """
        x, x_new = X[:, 0], X_new[:, 0]
        low, high = self.amplitudes
        if len(x) == 0:
            return -(low + high) / np.pi * np.cos(x_new)
        if self.noise == 0 and len(x) >= 2:
            weights = np.linalg.lstsq(np.stack([np.sin(x), np.cos(x)], axis=1), y, rcond=None)[0]
            return np.stack([np.sin(x_new), np.cos(x_new)], axis=1) @ weights
        amplitude = np.linspace(low, high, 401)[1::2, None]
        phase = np.linspace(0.0, np.pi, 401)[1::2][None, :]
        misfit = sum((b - amplitude * np.sin(a - phase)) ** 2 for a, b in zip(x, y, strict=True))
        log_weight = -0.5 * np.asarray(misfit) / max(self.noise, 0.05) ** 2
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        along_sine, along_cosine = (
            (weight * amplitude * np.cos(phase)).sum(),
            (weight * amplitude * np.sin(phase)).sum(),
        )
        return along_sine * np.sin(x_new) - along_cosine * np.cos(x_new)

    def prior_error(self) -> float:
        """Return the mean squared error of the best prediction without rows, in closed form (3.0 without noise)."""
        low, high = self.amplitudes
        second_moment = (high**3 - low**3) / (3 * (high - low))
        mean_cos2 = 0.5 + np.sin(10.0) / 20
        return float(second_moment / 2 - ((low + high) / np.pi) ** 2 * mean_cos2 + self.noise**2)


@final
@dataclass(frozen=True)
class SharedSubspace(Family):
    """Linear regressions whose weights differ in a few hidden directions: ``w = mu + B z``, z normal, rows normal.

    The mean ``mu`` and the directions ``B`` belong to the family; learning them is all there is to learn upstairs.

    Parameters
    ----------
    features, rank : int
        Features, and hidden directions (at most ``features + 1``, the intercept included).
    noise : float
        Standard deviation of y given its expectation, above 0.
    spread : float
        Standard deviation of the task's part of an expectation, at a row of average size.
    seed : int
        Fixes ``mu`` and ``B``.

    Examples
    --------
    >>> family = SharedSubspace(features=10, rank=2)
    >>> family.bayes_error(0) > family.bayes_error(5) > family.noise**2
    True
    """

    features: int = 10
    rank: int = 2
    noise: float = 0.5
    spread: float = 2.0
    seed: int = 0
    name: ClassVar[str] = "subspace"

    def __post_init__(self) -> None:
        if not (1 <= self.rank <= self.features + 1 and self.noise > 0):
            raise TaskError(
                "SharedSubspace needs rank from 1 to features + 1 and noise above 0, but has "
                f"features={self.features}, rank={self.rank}, noise={self.noise}; change the one that breaks this."
            )

    @property
    def kind(self) -> Kind:
        """Always regression."""
        return "regression"

    def _truth(self) -> tuple[Float[np.ndarray, " coefficient"], Float[np.ndarray, "coefficient rank"]]:
        rng = np.random.default_rng(self.seed)
        mean = rng.normal(size=self.features + 1)
        directions = np.linalg.qr(rng.normal(size=(self.features + 1, self.rank)))[0]
        return mean, directions * (self.spread / np.sqrt(self.rank))

    @property
    def columns(self) -> int:
        """As many as features."""
        return self.features

    def concept(self, rng: np.random.Generator) -> Concept:
        """Draw weights over ``[1, x]``."""
        mean, directions = self._truth()
        return {"weights": mean + directions @ rng.normal(size=self.rank)}

    def rows(
        self, concept: Concept, rows: int, rng: np.random.Generator, shift: Any = 0.0
    ) -> tuple[Float[np.ndarray, "row feature"], Float[np.ndarray, " row"]]:
        """Draw rows of a regression."""
        X = rng.normal(size=(rows, self.features)) + shift
        return X, _along(_with_intercept(X), concept["weights"]) + self.noise * rng.normal(size=rows)

    def prior(self) -> tuple[Float[np.ndarray, " coefficient"], Float[np.ndarray, "coefficient coefficient"], float]:
        """Return mean and covariance of the weights over ``[1, x]``, and the noise variance."""
        mean, directions = self._truth()
        return mean, directions @ directions.T, self.noise**2

    def best(
        self, X: Float[np.ndarray, "row feature"], y: Float[np.ndarray, " row"], X_new: Float[np.ndarray, "new feature"]
    ) -> Float[np.ndarray, " new"]:
        """Predict new rows by the posterior mean: normal prior, normal noise."""
        mean, directions = self._truth()
        seen = _with_intercept(X)
        inside = seen @ directions
        precision = np.eye(self.rank) + inside.T @ inside / self.noise**2
        z = np.linalg.solve(precision, inside.T @ (y - seen @ mean) / self.noise**2)
        return _with_intercept(X_new) @ (mean + directions @ z)

    def bayes_error(self, rows: int, draws: int = 2000) -> float:
        """Return the mean squared error of ``best`` on new rows after ``rows`` rows.

        The error given the support's X is exact (posterior variance plus noise, averaged over new rows); it is
        averaged over ``draws`` random supports, always the same ones.
        """
        _, directions = self._truth()
        X = np.random.default_rng(0).normal(size=(draws, rows, self.features))
        inside = np.concatenate([np.ones((draws, rows, 1)), X], axis=2) @ directions
        precision = np.eye(self.rank) + np.swapaxes(inside, 1, 2) @ inside / self.noise**2
        remaining = np.trace(np.linalg.inv(precision) @ (directions.T @ directions), axis1=1, axis2=2)
        return float(self.noise**2 + remaining.mean())


@final
@dataclass(frozen=True)
class Unrelated(Family):
    """Tasks that share nothing but their shape: for showing that a prior does no harm.

    Each task draws the size of its weights and the size of its intercept (both log-uniform in [0.1, 10]), then the
    weights and the intercept, from scratch. Nothing learned on other tasks says anything about the weights of a new
    one. A classification has both classes whenever it has two rows.

    Parameters
    ----------
    target : {"regression", "classification"}
    features : int
    noise : float
        Standard deviation of the noise, as a share of that of the linear part without the intercept. It is added to
        y, or to the score whose sign is the label.

    Examples
    --------
    >>> Unrelated("classification").sample(4, rows=20)
    TaskSet(4 tasks, 80 rows, classification, shared labels)
    """

    target: Kind = "regression"
    features: int = 5
    noise: float = 0.5
    name: ClassVar[str] = "unrelated"

    @property
    def kind(self) -> Kind:
        """As asked for."""
        return self.target

    @property
    def columns(self) -> int:
        """As many as features."""
        return self.features

    def concept(self, rng: np.random.Generator) -> Concept:
        """Draw weights and an intercept."""
        size, level = 10.0 ** rng.uniform(-1, 1, size=2)
        weights = size * rng.normal(size=self.features)
        return {"weights": weights, "intercept": np.asarray(level * rng.normal())}

    def rows(
        self, concept: Concept, rows: int, rng: np.random.Generator, shift: Any = 0.0
    ) -> tuple[Float[np.ndarray, "row feature"], Shaped[np.ndarray, " row"]]:
        """Draw rows."""
        weights = concept["weights"]
        X = rng.normal(size=(rows, self.features)) + shift
        noise = self.noise * np.sqrt(np.vecdot(weights, weights)) * rng.normal(size=rows)
        y = _along(X, weights) + concept["intercept"] + noise
        return X, y if self.kind == "regression" else (y > 0).astype(np.int64)

    def draw(
        self, rows: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "row feature"], Shaped[np.ndarray, " row"]]:
        """Draw one task; a classification again until it has both classes."""
        while True:
            X, y = self.rows(self.concept(rng), rows, rng)
            if self.kind == "regression" or rows < 2 or 0 < y.sum() < rows:
                return X, y


def _with_intercept(X: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row coefficient"]:
    return np.concatenate([np.ones((len(X), 1)), X], axis=1)


def _along(
    X: Float[np.ndarray, "row coefficient"], weights: Float[np.ndarray, "... coefficient"]
) -> Float[np.ndarray, " row"]:
    """Weighted sums of columns; weights of one task, or of every row."""
    return X @ weights if weights.ndim == 1 else np.einsum("rc,rc->r", X, weights)
