"""A few settings that together serve many data sets: the order in which settings are worth trying."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["greedy", "greedy_within"]

_SAME = 1e-5
"""Sums of regrets that differ by less are a tie (as in FLAML)."""


def greedy(
    losses: Float[np.ndarray, "task setting"],
    size: int,
    *,
    weights: Float[np.ndarray, " task"] | None = None,
    so_far: Float[np.ndarray, " task"] | None = None,
) -> list[int]:
    """Choose settings one by one, each the one that lowers the mean over tasks of the best loss so far the most.

    A cell that is missing (NaN) helps its task nothing. Ties go to the setting with the lower mean loss, then to the
    first.

    Parameters
    ----------
    losses : array of shape (task, setting)
        Comparable between tasks (see `upstairs.outer.experience.Experience.losses`); NaN where a setting was not tried.
    size : int
        Number of settings, at most all of them.
    weights : array of shape (task,), optional
        How much each task counts.
    so_far : array of shape (task,), optional
        The best loss of settings that were tried already.

    Returns
    -------
    list of int
        In the order in which to try them.

    Examples
    --------
    >>> losses = np.array([[0.0, 0.5, 0.9], [0.8, 0.3, 0.0], [0.7, 0.3, 0.9]])
    >>> greedy(losses, 3)
    [1, 0, 2]
    """
    count = np.ones(len(losses)) if weights is None else weights
    filled = np.where(np.isnan(losses), np.nanmax(losses, initial=1.0), losses)
    best = np.full(len(losses), filled.max(initial=1.0)) if so_far is None else so_far
    means = count @ filled
    chosen: list[int] = []
    for _ in range(min(size, losses.shape[1])):
        left = np.setdiff1d(np.arange(losses.shape[1]), chosen)
        gained = count @ np.minimum(best[:, None], filled[:, left])
        tied = left[gained <= gained.min() + 1e-12]
        chosen.append(int(tied[np.argmin(means[tied])]))
        best = np.minimum(best, filled[:, chosen[-1]])
    return chosen


def greedy_within(
    regrets: Float[np.ndarray, "task setting"], *, bound: float = 0.01, default: int | None = None
) -> list[int]:
    """Choose settings until every task is within a bound of its best, by the rule of FLAML's zero-shot portfolios.

    Each choice minimises the sum over tasks of what regret exceeds the bound; a tie is decided by the mean regret, and
    ends the portfolio if that mean is no lower than at the last tie. The portfolio also ends when nothing exceeds the
    bound. The default setting is put at the end if it was not chosen.

    Parameters
    ----------
    regrets : array of shape (task, setting)
        Best score of the task minus score; NaN where a setting was not tried.
    bound : float
        Regret that does not count.
    default : int, optional
        The setting that is always a part.

    References
    ----------
    .. [1] Wang, C. et al. (2022). Mining robust default configurations for resource-constrained AutoML.
       arXiv:2202.09927.

    Examples
    --------
    >>> greedy_within(np.array([[0.0, 0.10, 0.2], [0.3, 0.015, 0.2]]), bound=0.01, default=2)
    [1, 0, 2]
    """
    best = np.full(len(regrets), np.inf)
    chosen: list[int] = []
    last_tie = np.inf
    while len(chosen) < regrets.shape[1]:
        left = np.setdiff1d(np.arange(regrets.shape[1]), chosen)
        after = np.fmin(best[:, None], regrets[:, left])
        excess = np.maximum(after - bound, 0.0).sum(axis=0)
        lowest = excess.min()
        tied = np.flatnonzero(excess - lowest < _SAME)
        pick = int(tied[0])
        if len(tied) > 1:
            means = after[:, tied].mean(axis=0)
            pick = int(tied[np.argmin(means)])
            if means.min() > last_tie - _SAME:
                break
            last_tie = float(means.min())
        chosen.append(int(left[pick]))
        best = after[:, pick]
        if lowest <= _SAME:
            break
    if default is not None and default not in chosen:
        chosen.append(default)
    return chosen
