"""An effect over tasks kept apart from chance over seeds: components of the variance of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.evaluate.statistics import cluster_sums

__all__ = ["Effect", "effect_over_tasks_and_seeds"]


@final
@dataclass(frozen=True, slots=True)
class Effect:
    """A mean difference, with what of its uncertainty is due to tasks and what to seeds; ``str`` says it in words.

    Attributes
    ----------
    mean : float
        Mean difference over tasks and seeds.
    error_over_tasks : float
        Standard error of the mean for other tasks and the same seeds. NaN for a single task (or cluster).
    spread_over_seeds : float
        Standard deviation over seeds of the mean over tasks: how far a repetition with another seed lies. NaN for one seed.
    error : float
        Standard error of the mean for other tasks and other seeds.
    var_tasks, var_seeds, var_rest : float
        Variance between tasks, between seeds, and of what is left (their interaction and chance), of a single difference.
    tasks, seeds : int
        ``tasks`` are clusters, where there are any.
    over : str
        What the seeds are.
    """

    mean: float
    error_over_tasks: float
    spread_over_seeds: float
    error: float
    var_tasks: float
    var_seeds: float
    var_rest: float
    tasks: int
    seeds: int
    over: str = "seed"

    def __str__(self) -> str:
        return (
            f"Mean difference {self.mean:+.4g}: standard error {self.error_over_tasks:.2g} over {self.tasks} tasks; "
            f"the mean over tasks has a standard deviation of {self.spread_over_seeds:.2g} over {self.seeds} {self.over}s; "
            f"{self.error:.2g} is the standard error for other tasks and {self.over}s."
        )


def effect_over_tasks_and_seeds(
    differences: Float[np.ndarray, "task seed"], clusters: Sequence[str] | None = None
) -> Effect:
    """Split the variance of paired differences into that between tasks, that between seeds, and the rest.

    The model is ``difference = mean + task + seed + rest`` with independent random terms, one difference a task and
    seed; its components follow from the mean squares of a two-way analysis of variance, negative ones set to zero.

    Parameters
    ----------
    differences : array of shape (task, seed)
        One learner minus another, on every task with every seed (or draw of support rows).
    clusters : sequence of str, optional
        What each task belongs to; each then counts once, by the mean of its tasks.

    Raises
    ------
    TaskError
        For no seed, or differences that are not finite.

    References
    ----------
    Searle, S. R., Casella, G. and McCulloch, C. E. (1992). Variance components (the two-way crossed
    classification, random model).

    Examples
    --------
    >>> found = effect_over_tasks_and_seeds(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    >>> found.mean, found.var_tasks, found.var_seeds, found.var_rest
    (3.5, 4.0, 0.5, 0.0)
    """
    if differences.shape[1] < 1 or not np.isfinite(differences).all():
        raise TaskError(
            f"differences must be finite, with a seed at least, but have the shape {differences.shape}; "
            f"leave out tasks that were not measured with every seed."
        )
    sums, sizes = cluster_sums(differences, clusters)
    values = sums / sizes[:, None]
    tasks, seeds = values.shape
    mean = float(values.mean())
    by_task, by_seed = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_task[:, None] - by_seed + mean
    square_tasks = _over(seeds * float(np.square(by_task - mean).sum()), tasks - 1)
    square_seeds = _over(tasks * float(np.square(by_seed - mean).sum()), seeds - 1)
    square_rest = _over(float(np.square(rest).sum()), (tasks - 1) * (seeds - 1))
    cells = tasks * seeds
    return Effect(
        mean=mean,
        error_over_tasks=float(np.sqrt(square_tasks / cells)),
        spread_over_seeds=float(np.sqrt(square_seeds / tasks)),
        error=float(np.sqrt(max(square_tasks + square_seeds - square_rest, square_tasks, square_seeds) / cells)),
        var_tasks=_positive((square_tasks - square_rest) / seeds),
        var_seeds=_positive((square_seeds - square_rest) / tasks),
        var_rest=square_rest,
        tasks=tasks,
        seeds=seeds,
    )


def _over(total: float, freedom: int) -> float:
    return total / freedom if freedom > 0 else np.nan


def _positive(value: float) -> float:
    return value if np.isnan(value) else max(value, 0.0)
