"""Differences that matter and differences that do not: a region of practical equivalence (ROPE) around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.evaluate.statistics import cluster_sums

__all__ = ["PracticalDifference", "bayesian_signed_rank", "practical_difference", "win_tie_loss"]

_CELLS = 4_000_000
"""Numbers held at once while drawing."""


@final
@dataclass(frozen=True, slots=True)
class PracticalDifference:
    """How a learner compares with another where small differences do not count; ``str`` says it in words.

    Attributes
    ----------
    learner, against, metric : str
    rope : float
        Differences of at most this much do not matter.
    tasks : int
        Independent units that were compared: tasks, or groups of them.
    mean : float
        Mean difference of the two in the unit of the metric, learner minus the other.
    better, equal, worse : float
        Posterior probability that a difference on a new pair of tasks most likely lies beyond the region on the good side, inside, or
        beyond on the bad side; they sum to 1.
    wins, ties, losses : int
        Units with a difference beyond the region on the good side, inside, and on the bad side.
    """

    learner: str
    against: str
    metric: str
    rope: float
    tasks: int
    mean: float
    better: float
    equal: float
    worse: float
    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        return (
            f"{self.learner} against {self.against} on {self.tasks} tasks, {self.metric} within {self.rope:g} counts as equal: "
            f"better with probability {self.better:.3f}, equal {self.equal:.3f}, worse {self.worse:.3f} "
            f"(Bayesian signed rank); won {self.wins}, tied {self.ties}, lost {self.losses}."
        )


def practical_difference(
    losses: Float[np.ndarray, " task"],
    others: Float[np.ndarray, " task"],
    rope: float,
    *,
    clusters: Sequence[str] | None = None,
    learner: str = "first",
    against: str = "second",
    metric: str = "loss",
    higher: bool = False,
    seed: int = 0,
) -> PracticalDifference:
    """Compare two learners on the same tasks, by `bayesian_signed_rank` and `win_tie_loss`.

    Parameters
    ----------
    losses, others : arrays of shape (task,)
        Of the learner and of the one it is compared with.
    rope : float
        What difference does not matter, in the unit of the metric.
    clusters : sequence of str, optional
        What each task belongs to; each then counts once, by the mean of its tasks.
    learner, against, metric : str
        Names for the result.
    higher : bool
        Whether more is better.
    seed : int

    Examples
    --------
    >>> found = practical_difference(np.linspace(0.1, 0.2, 20), np.linspace(0.2, 0.25, 20), rope=0.01)
    >>> found.wins, found.ties, found.losses, found.better > 0.99
    (20, 0, 0, True)
    """
    differences = losses - others
    below, inside, above = bayesian_signed_rank(differences, rope, clusters=clusters, seed=seed)
    less, tied, more = win_tie_loss(differences, rope, clusters=clusters)
    good, bad = ((above, more), (below, less)) if higher else ((below, less), (above, more))
    return PracticalDifference(
        learner=learner,
        against=against,
        metric=metric,
        rope=rope,
        tasks=less + tied + more,
        mean=float(differences.mean()),
        better=good[0],
        equal=inside,
        worse=bad[0],
        wins=good[1],
        ties=tied,
        losses=bad[1],
    )


def win_tie_loss(
    differences: Float[np.ndarray, " task"], rope: float = 0.0, *, clusters: Sequence[str] | None = None
) -> tuple[int, int, int]:
    """Count differences below the region, inside (ends included), and above.

    Raises
    ------
    TaskError
        For a negative ``rope``.

    Examples
    --------
    >>> win_tie_loss(np.array([-0.3, -0.01, 0.0, 0.02, 0.2]), rope=0.02)
    (1, 3, 1)
    """
    values = _units(differences, rope, clusters)
    below, above = int((values < -rope).sum()), int((values > rope).sum())
    return below, len(values) - below - above, above


def bayesian_signed_rank(
    differences: Float[np.ndarray, " task"],
    rope: float = 0.0,
    *,
    clusters: Sequence[str] | None = None,
    prior: float = 0.5,
    draws: int = 50_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Posterior probabilities that differences mostly lie below, inside, or above the region: a Bayesian signed-rank test.

    The distribution of differences has a Dirichlet process as prior: one pseudo-observation at zero of weight ``prior``.
    A draw from the posterior weighs the tasks; what counts in it is where the mean of two differences, drawn with
    these weights, lies most often. Without a region only below and above are told apart.

    Parameters
    ----------
    differences : array of shape (task,)
        One learner minus another on the same tasks.
    rope : float
        Half the width of the region around zero.
    clusters : sequence of str, optional
        What each task belongs to; each then counts once, by the mean of its tasks.
    prior : float
        Weight of the pseudo-observation, in observations.
    draws : int
    seed : int
        The same seed gives the same answer, whatever order the tasks come in.

    Returns
    -------
    below, inside, above : float
        They sum to 1.

    Raises
    ------
    TaskError
        For a negative ``rope``, a ``prior`` that is not positive, or no draw.

    References
    ----------
    Benavoli, A., Corani, G., Demsar, J. and Zaffalon, M. (2017). Time for a change: a tutorial for comparing multiple
    classifiers through Bayesian analysis. JMLR 18(77). Means on an edge of the region count half for either side.

    Examples
    --------
    >>> below, inside, above = bayesian_signed_rank(np.linspace(-0.3, -0.02, 12), rope=0.01)
    >>> below > 0.99, inside < 0.01
    (True, True)
    """
    if not prior > 0 or draws < 1:
        raise TaskError(f"prior must be above 0 and draws at least 1, but they are {prior} and {draws}.")
    values = np.sort(np.append(_units(differences, rope, clusters), 0.0))
    shape = np.ones(len(values))
    shape[int(np.flatnonzero(values == 0.0)[0])] = prior  # zeros are alike: any of them may be the pseudo-observation
    low = [np.searchsorted(values, -2.0 * rope - values, side=side) for side in ("left", "right")]
    high = [np.searchsorted(values, 2.0 * rope - values, side=side) for side in ("left", "right")]
    rng = np.random.default_rng(seed)
    counts = np.zeros(3)
    step = max(1, _CELLS // len(values))
    for start in range(0, draws, step):
        weights = rng.standard_gamma(shape, size=(min(step, draws - start), len(values)))
        weights /= weights.sum(axis=1, keepdims=True)
        mass = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
        below = (weights * (mass[:, low[0]] + mass[:, low[1]])).sum(axis=1) / 2.0
        above = 1.0 - (weights * (mass[:, high[0]] + mass[:, high[1]])).sum(axis=1) / 2.0
        inside = 1.0 - below - above if rope > 0 else np.full_like(below, -1.0)
        shares = np.stack([below, inside, above])
        most = shares >= shares.max(axis=0) - 1e-12
        counts += (most / most.sum(axis=0)).sum(axis=1)
    found = counts / draws
    return float(found[0]), float(found[1]), float(found[2])


def _units(
    differences: Float[np.ndarray, " task"], rope: float, clusters: Sequence[str] | None
) -> Float[np.ndarray, " unit"]:
    if not rope >= 0:
        raise TaskError(f"rope must be at least 0, but is {rope}; it is the largest difference that does not matter.")
    sums, sizes = cluster_sums(differences[:, None], clusters)
    return sums[:, 0] / sizes
