"""Several learners on the same tasks: mean ranks, whether they differ at all, and which pairs do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr

from upstairs.errors import TaskError
from upstairs.evaluate.statistics import cluster_sums, wilcoxon_holm

__all__ = ["Ranks", "critical_difference", "friedman", "rank_analysis"]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Ranks:
    """Learners by mean rank over tasks, the best first; ``str`` says it in words.

    Attributes
    ----------
    learners : tuple of str
    mean_ranks : array of shape (learner,)
        1 is the best on every task.
    tasks : int
        Independent units: tasks, or groups of them.
    statistic, p : float
        Friedman's test that no learner differs.
    critical_difference : float
        Nemenyi: mean ranks that are this far apart differ at ``level``.
    nemenyi, wilcoxon : arrays of shape (learner, learner)
        p values of pairs: of Nemenyi's test, and of Wilcoxon's signed-rank test with Holm's correction over all pairs.
    level : float
    """

    learners: tuple[str, ...]
    mean_ranks: Float[np.ndarray, " learner"]
    tasks: int
    statistic: float
    p: float
    critical_difference: float
    nemenyi: Float[np.ndarray, "learner learner"]
    wilcoxon: Float[np.ndarray, "learner learner"]
    level: float = 0.05

    def cliques(self, by: Literal["wilcoxon", "nemenyi"] = "wilcoxon") -> tuple[tuple[str, ...], ...]:
        """Largest sets of learners, next to each other by rank, no two of which differ significantly.

        Parameters
        ----------
        by : {"wilcoxon", "nemenyi"}
            Wilcoxon (with Holm's correction) sees more, and whether two differ does not depend on who else took part.
        """
        differ = (self.wilcoxon if by == "wilcoxon" else self.nemenyi) < self.level
        number, found, reached = len(self.learners), [], 0
        for start in range(number):
            stop = start + 1
            while stop < number and not differ[start : stop + 1, start : stop + 1].any():
                stop += 1
            if stop - start > 1 and stop > reached:
                found.append(self.learners[start:stop])
                reached = stop
        return tuple(found)

    def __str__(self) -> str:
        ranked = ", ".join(
            f"{name} {rank:.2f}" for name, rank in zip(self.learners, self.mean_ranks.tolist(), strict=True)
        )
        cliques = "; ".join(" and ".join(names) for names in self.cliques())
        return (
            f"Mean ranks on {self.tasks} tasks: {ranked}. Friedman p = {self.p:.2g}, Nemenyi's critical difference "
            f"{self.critical_difference:.2f}. Not told apart at {self.level:g} (Wilcoxon, Holm): {cliques or 'none'}."
        )


def rank_analysis(
    losses: Float[np.ndarray, "task learner"],
    learners: Sequence[str],
    *,
    clusters: Sequence[str] | None = None,
    level: float = 0.05,
) -> Ranks:
    """Rank learners on every task and test which differ.

    Parameters
    ----------
    losses : array of shape (task, learner)
        Less is better; all learners on the same tasks.
    learners : sequence of str
    clusters : sequence of str, optional
        What each task belongs to; each then counts once, by the mean of its tasks.
    level : float
        Probability of calling learners different that are not.

    Raises
    ------
    TaskError
        For fewer than two learners or tasks, or losses that are not finite.

    References
    ----------
    .. [1] Demsar, J. (2006). Statistical comparisons of classifiers over multiple data sets. JMLR 7, section 3.2.
    .. [2] Benavoli, A., Corani, G. and Mangili, F. (2016). Should we really use post-hoc tests based on mean-ranks?
       JMLR 17(5): why pairs are tested by Wilcoxon's test.

    Examples
    --------
    >>> base = np.linspace(0.1, 0.9, 12)[:, None]
    >>> found = rank_analysis(base + np.array([0.2, 0.0, 0.1]), ["c", "a", "b"])
    >>> found.learners, found.mean_ranks.tolist(), found.cliques()
    (('a', 'b', 'c'), [1.0, 2.0, 3.0], ())
    """
    if losses.shape[1] != len(learners) or len(learners) < 2:
        raise TaskError(f"Ranks need two learners or more and a column for each, but learners are {list(learners)}.")
    if not np.isfinite(losses).all():
        raise TaskError("losses must be finite; leave out tasks on which a learner could not be measured.")
    sums, sizes = cluster_sums(losses, clusters)
    values = sums / sizes[:, None]
    number, ways = values.shape
    if number < 2:
        raise TaskError(f"Ranks need at least 2 independent tasks, but there is {number}; add tasks.")
    ranks = stats.rankdata(values, axis=1).mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    values, ranks = values[:, order], ranks[order]
    statistic, p = friedman(values)
    first, second = np.triu_indices(ways, 1)
    nemenyi, wilcoxon = np.ones((ways, ways)), np.ones((ways, ways))
    scale = np.sqrt(ways * (ways + 1) / (6.0 * number))
    gaps = np.sqrt(2.0) * np.abs(ranks[first] - ranks[second]) / scale
    nemenyi[first, second] = nemenyi[second, first] = _range_tail(gaps, ways)
    pairs = wilcoxon_holm(values[:, first] - values[:, second])
    wilcoxon[first, second] = wilcoxon[second, first] = pairs
    return Ranks(
        learners=tuple(learners[n] for n in order.tolist()),
        mean_ranks=ranks,
        tasks=number,
        statistic=statistic,
        p=p,
        critical_difference=critical_difference(number, ways, level),
        nemenyi=nemenyi,
        wilcoxon=wilcoxon,
        level=level,
    )


def friedman(values: Float[np.ndarray, "task learner"]) -> tuple[float, float]:
    """Friedman's chi-squared statistic with the correction for ties, and its p value.

    Where all learners are equal on all tasks the statistic is 0 and p is 1.

    References
    ----------
    Friedman, M. (1937). The use of ranks to avoid the assumption of normality. JASA 32. Ties: Conover, W. J. (1999).
    Practical nonparametric statistics, section 5.8.

    Examples
    --------
    >>> statistic, p = friedman(np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [2.0, 1.0, 3.0]]))
    >>> round(statistic, 3), round(p, 3)
    (4.5, 0.105)
    """
    number, ways = values.shape
    ranks = stats.rankdata(values, axis=1)
    middle = (ways + 1) / 2.0
    spread = float(np.square(ranks - middle).sum())
    if spread == 0.0:
        return 0.0, 1.0
    statistic = (ways - 1) * number**2 * float(np.square(ranks.mean(axis=0) - middle).sum()) / spread
    return statistic, float(stats.chi2.sf(statistic, ways - 1))


def critical_difference(tasks: int, learners: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: those further apart differ at ``level``.

    Raises
    ------
    TaskError
        For no task, fewer than two learners, or a level outside (0, 1).

    References
    ----------
    Demsar, J. (2006). JMLR 7, section 3.2, table 5a.

    Examples
    --------
    >>> round(critical_difference(14, 4), 2)
    1.25
    """
    if learners < 2 or tasks < 1 or not 0.0 < level < 1.0:
        raise TaskError(
            f"A critical difference needs a task, two learners and a level between 0 and 1, but got {tasks}, {learners} and {level}."
        )
    quantile = float(brentq(lambda gap: float(_range_tail(np.array([gap]), learners)[0]) - level, 0.0, 100.0))
    return float(quantile / np.sqrt(2.0) * np.sqrt(learners * (learners + 1) / (6.0 * tasks)))


def _range_tail(gaps: Float[np.ndarray, " pair"], number: int) -> Float[np.ndarray, " pair"]:
    """Probability that the range of so many standard normal numbers is larger; SciPy's integrals take a thousand times as long."""
    z = np.linspace(-9.0, 9.0, 721)
    between = ndtr(z) - ndtr(z - gaps[:, None])
    inside = (np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi) * between ** (number - 1)).sum(axis=1)
    return np.asarray(np.clip(1.0 - number * (z[1] - z[0]) * inside, 0.0, 1.0))
