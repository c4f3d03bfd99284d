"""Questions to an evaluation beyond its table: a certificate, a difference that matters, ranks, and tasks apart from seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.evaluate.certificate import Certificate, certify
from upstairs.evaluate.effects import Effect, effect_over_tasks_and_seeds
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.ranks import Ranks, rank_analysis
from upstairs.evaluate.result import EvaluationResult
from upstairs.evaluate.rope import PracticalDifference, practical_difference

__all__ = ["BOUNDED", "ROPE", "certificate_of", "compare", "effect_of", "ranks_of"]

BOUNDED: dict[str, tuple[str, float]] = {
    "accuracy": ("error rate", 1.0),
    "balanced_accuracy": ("balanced error rate", 1.0),
    "auc": ("1 - AUC", 1.0),
    "coverage": ("share of targets outside the interval", 1.0),
    "brier": ("Brier score", 2.0),
}
"""What is certified for a metric that lies in a range whatever the data, and the largest value of that (the least is 0)."""
ROPE = 0.01
"""Half the width of the region of practical equivalence of metrics with a range."""


def certificate_of(
    result: EvaluationResult,
    learner: str,
    metric: str | None = None,
    shots: int | None = None,
    *,
    confidence: float = 0.95,
    low: float | None = None,
    high: float | None = None,
    clip: bool = False,
    method: str = "betting",
) -> Certificate:
    """Bound the mean loss of a learner on new tasks; see `EvaluationResult.certificate`.

    Raises
    ------
    TaskError
        For a metric without a range where none is given, a result of several priors, or losses outside the range.
    """
    metric = metric or result.metric
    shots = result.shots[-1] if shots is None else shots
    if len(np.unique(result.columns["split"])) > 1:
        raise TaskError(
            f"A certificate is about one prior, but the result joins {len(np.unique(result.columns['split']))} splits with a prior each; "
            f"evaluate one prior on validation tasks that it was not learned from."
        )
    names, groups, column = _column(result, learner, shots, metric)
    said, most = BOUNDED.get(metric, (f"{metric}", np.nan))
    if low is None and high is None and np.isnan(most):
        remedy = (
            "give the range that its values can have (high=...), with clip=True if some lie outside"
            if METRICS[metric].goal == "lower"
            else "ask for a metric of which less is better (mse, mae) and give its range (high=..., clip=True)"
        )
        raise TaskError(f"A certificate needs a loss in a known range, but {metric!r} has none; {remedy}.")
    if METRICS[metric].goal != "lower":
        if metric not in BOUNDED:
            raise TaskError(
                f"A certificate needs a loss, but of {metric!r} more is better; ask for a metric of which less is better (mse, mae)."
            )
        column = 1.0 - column
    return certify(
        column,
        confidence=confidence,
        low=0.0 if low is None else low,
        high=most if high is None else high,
        clip=clip,
        method=method,
        names=names,
        clusters=groups,
        loss=said,
    )


def compare(
    result: EvaluationResult,
    learner: str,
    against: str,
    shots: int | None = None,
    metric: str | None = None,
    *,
    rope: float | None = None,
    seed: int = 0,
) -> PracticalDifference:
    """Compare two learners where small differences do not count; see `EvaluationResult.compare`.

    Raises
    ------
    TaskError
        For a metric without a range where ``rope`` is not given, or learners without a task in common.
    """
    metric = metric or result.metric
    shots = result.shots[-1] if shots is None else shots
    if rope is None:
        if metric not in BOUNDED:
            raise TaskError(
                f"rope must be given for {metric!r}: the largest difference in it that does not matter to you."
            )
        rope = ROPE
    groups, pair = _whole(result, [learner, against], shots, metric)
    pair = _as_losses(pair, metric) if isinstance(METRICS[metric].goal, float) else pair
    return practical_difference(
        pair[:, 0],
        pair[:, 1],
        rope,
        clusters=groups,
        learner=learner,
        against=against,
        metric=metric,
        higher=METRICS[metric].goal == "higher",
        seed=seed,
    )


def ranks_of(
    result: EvaluationResult,
    shots: int | None = None,
    metric: str | None = None,
    *,
    learners: Sequence[str] | None = None,
    level: float = 0.05,
) -> Ranks:
    """Rank learners over tasks; see `EvaluationResult.ranks`.

    Raises
    ------
    TaskError
        For a learner that was not measured, fewer than two learners, or fewer than two tasks that all were measured on.
    """
    metric = metric or result.metric
    shots = result.shots[-1] if shots is None else shots
    if learners is None:
        values = result.by_task(shots, metric)[2]
        learners = [name for n, name in enumerate(result.learners) if not np.isnan(values[:, n]).all()]
    groups, values = _whole(result, learners, shots, metric)
    return rank_analysis(_as_losses(values, metric), list(learners), clusters=groups, level=level)


def effect_of(
    result: EvaluationResult,
    learner: str,
    against: str,
    shots: int | None = None,
    metric: str | None = None,
    *,
    over: str | None = None,
) -> Effect:
    """Split the variance of a difference into tasks and seeds; see `EvaluationResult.effect`.

    Raises
    ------
    TaskError
        If no task was measured with every seed.
    """
    metric = metric or result.metric
    shots = result.shots[-1] if shots is None else shots
    over = over or ("seed" if "seed" in result.columns else "draw")
    if over not in result.columns:
        raise TaskError(
            f"over={over!r} is not a column of the result; there are {', '.join(map(repr, result.columns))}."
        )
    _column(result, learner, shots, metric), _column(result, against, shots, metric)
    here = result.columns["shots"] == shots
    columns = {name: result.columns[name][here] for name in ("task", "group", "learner", over, metric)}
    names, first, codes = np.unique(columns["task"], return_index=True, return_inverse=True)
    kinds, seeds = np.unique(columns[over], return_inverse=True)
    means = []
    for name in (learner, against):
        of = (columns["learner"] == name) & ~np.isnan(columns[metric])
        total, count = np.zeros((len(names), len(kinds))), np.zeros((len(names), len(kinds)))
        np.add.at(total, (codes[of], seeds[of]), columns[metric][of])
        np.add.at(count, (codes[of], seeds[of]), 1.0)
        means.append(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))
    differences = means[0] - means[1]
    whole = np.flatnonzero(~np.isnan(differences).any(axis=1))
    if not len(whole):
        raise TaskError(
            f"No task was measured by {learner!r} and {against!r} with each of the {len(kinds)} values of {over!r}; "
            f"choose another column (over=), such as 'draw'."
        )
    groups = columns["group"][first].tolist()
    found = effect_over_tasks_and_seeds(differences[whole], [groups[n] for n in whole.tolist()])
    return replace(found, over=over)


def _column(
    result: EvaluationResult, learner: str, shots: int, metric: str
) -> tuple[list[str], list[str], Float[np.ndarray, " task"]]:
    names, groups, values = result.by_task(shots, metric)
    if learner not in result.learners:
        raise TaskError(f"There is no learner {learner!r}; there are {', '.join(map(repr, result.learners))}.")
    return names, groups, values[:, result.learners.index(learner)]


def _whole(
    result: EvaluationResult, learners: Sequence[str], shots: int, metric: str
) -> tuple[list[str], Float[np.ndarray, "task learner"]]:
    """Groups and values of the tasks that all the learners were measured on."""
    values = np.stack([_column(result, name, shots, metric)[2] for name in learners], axis=1)
    whole = np.flatnonzero(~np.isnan(values).any(axis=1))
    if not len(whole):
        raise TaskError(f"{', '.join(map(repr, learners))} have no task in common at {shots} shots for {metric!r}.")
    groups = result.by_task(shots, metric)[1]
    return [groups[n] for n in whole.tolist()], values[whole]


def _as_losses(values: Float[np.ndarray, "task learner"], metric: str) -> Float[np.ndarray, "task learner"]:
    goal = METRICS[metric].goal
    if isinstance(goal, float):
        return np.abs(values - goal)
    return values if goal == "lower" else -values
