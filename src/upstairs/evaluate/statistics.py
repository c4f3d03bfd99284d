"""Paired statistics over tasks: intervals, tests, and the correction for several of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from upstairs.errors import TaskError

__all__ = ["cluster_sums", "holm", "mean_interval", "paired_bootstrap", "ratio_interval", "wilcoxon_holm"]

_CELLS = 4_000_000
"""Numbers held at once while resampling."""


def mean_interval(
    values: Float[np.ndarray, " task"], clusters: Sequence[str] | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a mean over tasks: normal theory with a variance between clusters and Student's quantile.

    Parameters
    ----------
    values : array of shape (task,)
    clusters : sequence of str, optional
        What each task belongs to; tasks of one cluster may depend on each other. None: every task for itself.
    level : float

    Returns
    -------
    low, high : float
        NaN if there is only one cluster.

    References
    ----------
    Liang, K.-Y. and Zeger, S. L. (1986), Biometrika 73, with the factor G / (G - 1) for G clusters.

    Examples
    --------
    >>> low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    mean = float(values.mean())
    sums, _ = cluster_sums((values - mean)[:, None], clusters)
    number = len(sums)
    if number < 2:
        return np.nan, np.nan
    error = float(np.sqrt(number / (number - 1) * np.square(sums).sum())) / len(values)
    reach = float(stats.t.ppf(0.5 + level / 2, number - 1)) * error
    return mean - reach, mean + reach


def paired_bootstrap(
    differences: Float[np.ndarray, "task comparison"],
    clusters: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Float[np.ndarray, "comparison 2"]:
    """Interval of mean paired differences by resampling whole clusters of tasks, the same ones for all comparisons.

    The quantiles are moved outwards so that few clusters do not make the interval too narrow (the expanded
    percentile interval [1]_, exact for normal means).

    Parameters
    ----------
    differences : array of shape (task, comparison)
        One learner minus another on the same episodes.
    clusters : sequence of str, optional
        What each task belongs to. None: every task for itself.
    resamples : int
    seed : int
        The same seed gives the same interval, whatever order the tasks come in.
    level : float

    Returns
    -------
    array of shape (comparison, 2)
        Low and high ends; NaN if there is only one cluster.

    References
    ----------
    .. [1] Hesterberg, T. (2015). What teachers should know about the bootstrap. The American Statistician 69.

    Examples
    --------
    >>> paired_bootstrap(np.full((5, 1), -0.25)).tolist()
    [[-0.25, -0.25]]
    """
    sums, sizes = cluster_sums(differences, clusters)
    if len(sizes) < 2:
        return np.full((differences.shape[1], 2), np.nan)
    totals = _resampled(np.column_stack([sums, sizes]), resamples, seed)
    return np.quantile(totals[:, :-1] / totals[:, -1:], _tails(len(sizes), level), axis=0).T


def ratio_interval(
    above: Float[np.ndarray, " task"],
    below: Float[np.ndarray, " task"],
    clusters: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a ratio of two means over the same tasks, by the resampling of `paired_bootstrap`.

    Examples
    --------
    >>> ratio_interval(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0]))
    (0.5, 0.5)
    """
    sums, sizes = cluster_sums(np.column_stack([above, below]), clusters)
    if len(sizes) < 2:
        return np.nan, np.nan
    totals = _resampled(sums, resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.quantile(totals[:, 0] / totals[:, 1], _tails(len(sizes), level))
    return float(low), float(high)


def holm(p: Float[np.ndarray, " comparison"]) -> Float[np.ndarray, " comparison"]:
    """Correct p values for several comparisons; NaN are passed over.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return corrected


def wilcoxon_holm(
    differences: Float[np.ndarray, "task comparison"], clusters: Sequence[str] | None = None
) -> Float[np.ndarray, " comparison"]:
    """Two-sided Wilcoxon signed-rank p values of paired differences, corrected by Holm's method.

    The test looks at one number a cluster, the mean of its tasks. If all differences are zero, p is 1.

    Examples
    --------
    >>> wilcoxon_holm(np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])).tolist()
    [0.03125]
    """
    sums, sizes = cluster_sums(differences, clusters)
    p = np.ones(differences.shape[1])
    for number, column in enumerate((sums / sizes[:, None]).T):
        if np.any(column != 0):
            p[number] = _signed_rank_p(column[column != 0])
    return holm(p)


def _signed_rank_p(values: Float[np.ndarray, " unit"]) -> float:
    """SciPy's two-sided p; few values with ties, for which SciPy goes through all signs, are counted by rank sums."""
    sizes = np.abs(values)
    if len(values) > 13 or len(np.unique(sizes)) == len(values):
        return float(stats.wilcoxon(values, method="auto").pvalue)
    ranks = np.rint(2.0 * stats.rankdata(sizes)).astype(np.int64)  # twice the ranks: whole numbers
    ways = np.ones(1)
    for rank in ranks.tolist():
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    positive = int(ranks[values > 0].sum())
    tail = min(ways[: positive + 1].sum(), ways[positive:].sum())
    return float(min(2.0 * tail / ways.sum(), 1.0))


def cluster_sums(
    values: Float[np.ndarray, "task comparison"], clusters: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, "cluster comparison"], Float[np.ndarray, " cluster"]]:
    """Sum the tasks of every cluster, and count them; clusters come sorted by name.

    Raises
    ------
    TaskError
        If there is no task, or not one cluster a task.
    """
    if len(values) == 0:
        raise TaskError("Statistics over tasks need at least one task, but there is none.")
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise TaskError(f"clusters has {len(clusters)} entries for {len(values)} tasks; give one a task.")
    _, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums, np.bincount(codes).astype(np.float64)


def _resampled(
    sums: Float[np.ndarray, "cluster column"], resamples: int, seed: int
) -> Float[np.ndarray, "draw column"]:
    """Sums over clusters drawn with replacement, as many as there are."""
    number = len(sums)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // number)
    parts = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn: Int[np.ndarray, "draw cluster"] = rng.integers(number, size=(rows, number))
        drawn += number * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number)
        parts.append(times @ sums)
    return np.concatenate(parts)


def _tails(clusters: int, level: float) -> tuple[float, float]:
    quantile = np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(0.5 - level / 2, clusters - 1)
    tail = float(stats.norm.cdf(quantile))
    return tail, 1.0 - tail
