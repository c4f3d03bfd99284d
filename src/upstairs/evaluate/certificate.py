"""A certificate: an upper bound on the mean loss of a new task that holds whatever the distribution of losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from types import MappingProxyType
from typing import final

import numpy as np
from jaxtyping import Float, Real

from upstairs.errors import TaskError
from upstairs.evaluate.statistics import cluster_sums

__all__ = ["METHODS", "TRUNCATION", "Certificate", "betting_bound", "certify", "empirical_bernstein", "hoeffding"]

METHODS = ("betting", "empirical Bernstein", "Hoeffding")
TRUNCATION = 0.75
"""Largest share of the capital that is put at risk on one task. A constant: it may not be chosen by the losses."""
_HALVINGS = 50


@final
@dataclass(frozen=True, slots=True)
class Certificate:
    """An upper confidence bound on the mean loss of a new task, with what it rests on; ``str`` says it in words.

    Attributes
    ----------
    bound, mean : float
        The bound, and the mean over the validation tasks, in the unit of the loss.
    tasks : int
        Independent units: tasks, or groups of tasks where tasks of one group may depend on each other.
    confidence : float
        Probability, over draws of validation tasks, that the bound holds.
    method : str
        Whose bound it is.
    bounds : mapping of str to float
        What each method says. Only ``bound`` has the confidence: the least of several would not.
    low, high : float
        Range of the losses.
    loss : str
        What was measured.
    unit : {"task", "group"}
    missing : int
        Tasks without a loss, which the bound does not speak of.
    clipped : int
        Losses that were moved to an end of the range.
    """

    bound: float
    mean: float
    tasks: int
    confidence: float
    method: str
    bounds: Mapping[str, float]
    low: float
    high: float
    loss: str = "loss"
    unit: str = "task"
    missing: int = 0
    clipped: int = 0

    def __str__(self) -> str:
        return self.in_words()

    def in_words(self) -> str:
        """Say the bound in plain words, with its assumptions.

        Examples
        --------
        >>> print(certify(np.full(40, 0.1)).in_words())
        With 95 % confidence the mean loss of new tasks is at most 0.185 (0.1 on the 40 tasks seen; betting bound).
        It holds for any distribution of losses, if the tasks seen are independent and drawn like those of the future,
        every loss lies in [0, 1], and neither the prior nor the learner was chosen on these tasks.
        It is about the mean over new tasks: a single one may be worse.
        """
        thing = "new tasks" if self.unit == "task" else "new groups of tasks"
        seen = "tasks" if self.unit == "task" else "groups"
        lines = [
            f"With {100 * self.confidence:g} % confidence the mean {self.loss} of {thing} is at most {_up(self.bound)} "
            f"({self.mean:.3g} on the {self.tasks} {seen} seen; {self.method} bound).",
            f"It holds for any distribution of losses, if the {seen} seen are independent and drawn like those of the future,",
            f"every loss lies in [{self.low:g}, {self.high:g}], and neither the prior nor the learner was chosen on these tasks.",
            "It is about the mean over new tasks: a single one may be worse.",
        ]
        if self.bound >= self.high:
            lines.append("It says nothing beyond the range: there are too few tasks.")
        if self.clipped:
            lines.append(
                f"Losses outside the range that were clipped: {self.clipped}; the bound is on the mean of clipped losses."
            )
        if self.missing:
            lines.append(f"Tasks that could not be measured: {self.missing}; the bound is about tasks that can be.")
        return "\n".join(lines)


def certify(
    losses: Real[np.ndarray, " task"],
    *,
    confidence: float = 0.95,
    low: float = 0.0,
    high: float = 1.0,
    clip: bool = False,
    method: str = "betting",
    truncation: float = TRUNCATION,
    names: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
    loss: str = "loss",
) -> Certificate:
    """Bound the mean loss of a new task from validation tasks, whatever the distribution of losses.

    Parameters
    ----------
    losses : array of shape (task,)
        Mean loss of each validation task. The tasks must be independent and drawn as those of the future will be, and
        the prior must not have been chosen on them. NaN: not measured; counted in ``missing``.
    confidence : float
        Probability that the bound holds. For the best of k learners, chosen on these tasks, ask for ``1 - 0.05 / k``.
    low, high : float
        Range of the losses, known beforehand.
    clip : bool
        Move losses outside the range to its ends, and bound the mean of these, instead of refusing them.
    method : {"betting", "empirical Bernstein", "Hoeffding"}
        To be chosen before the losses are seen.
    truncation : float
        See `betting_bound`.
    names : sequence of str, optional
        One a task. The betting bound depends on the order of tasks, which must not depend on losses: with names it is
        the order of names. None: the order given.
    clusters : sequence of str, optional
        What each task belongs to: tasks of one cluster may depend on each other. A cluster then counts as one unit
        with the mean of its tasks, and the order is that of clusters' names.
    loss : str
        How `Certificate.in_words` calls it.

    Raises
    ------
    TaskError
        For losses outside the range, no losses, or an argument that is not as described.

    Examples
    --------
    >>> losses = np.clip(np.random.default_rng(0).normal(0.1, 0.05, size=40), 0, 1)
    >>> found = certify(losses)
    >>> {name: round(bound, 3) for name, bound in found.bounds.items()}
    {'betting': 0.183, 'empirical Bernstein': 0.335, 'Hoeffding': 0.291}
    """
    if method not in METHODS:
        raise TaskError(f"method must be one of {', '.join(map(repr, METHODS))}, but is {method!r}.")
    if not (np.isfinite([low, high]).all() and low < high):
        raise TaskError(f"low and high must be finite and ascending, but are {low} and {high}; give the loss's range.")
    values = np.asarray(losses, dtype=np.float64)
    for said, given in (("names", names), ("clusters", clusters)):
        if given is not None and len(given) != len(values):
            raise TaskError(f"{said} has {len(given)} entries for {len(values)} losses; give one a task.")
    known = np.flatnonzero(~np.isnan(values))
    if names is not None:
        known = known[np.argsort(np.asarray(names, dtype=str)[known], kind="stable")]
    if not len(known):
        raise TaskError(f"A certificate needs at least one measured loss, but {len(values)} losses hold none.")
    values, missing = values[known], len(values) - len(known)
    slack = 1e-9 * (high - low)
    outside = (values < low - slack) | (values > high + slack)
    if outside.any() and not clip:
        place = int(np.flatnonzero(outside)[0])
        task = f"of task {list(names)[known[place]]!r}" if names is not None else f"number {int(known[place])}"
        raise TaskError(
            f"Losses must lie in [{low:g}, {high:g}], but loss {task} is {values[place]:.6g} ({int(outside.sum())} lie outside); "
            f"give the range that losses can have (low=, high=), or bound clipped losses (clip=True)."
        )
    values = np.clip(values, low, high)
    sums, sizes = cluster_sums(values[:, None], None if clusters is None else [clusters[n] for n in known.tolist()])
    units = sums[:, 0] / sizes
    scaled = (units - low) / (high - low)
    found = (
        betting_bound(scaled, confidence, truncation=truncation),
        empirical_bernstein(scaled, confidence),
        hoeffding(scaled, confidence),
    )
    bounds = {name: low + (high - low) * float(bound) for name, bound in zip(METHODS, found, strict=True)}
    return Certificate(
        bound=bounds[method],
        mean=float(units.mean()),
        tasks=len(units),
        confidence=confidence,
        method=method,
        bounds=MappingProxyType(bounds),
        low=low,
        high=high,
        loss=loss,
        unit="task" if clusters is None or len(units) == len(values) else "group",
        missing=missing,
        clipped=int(outside.sum()),
    )


def betting_bound(
    losses: Float[np.ndarray, "*batch task"], confidence: float = 0.95, *, truncation: float = TRUNCATION
) -> Float[np.ndarray, "*batch"]:
    """Upper bound on a mean of values in [0, 1], by betting against every larger mean.

    Against the hypothesis that the mean is m a capital that starts at 1 bets that losses will be smaller: it is multiplied
    by ``1 + bet * (m - loss)``, task after task. If the mean is m (or less), it exceeds ``1 / (1 - confidence)`` at any
    time with a probability of at most ``1 - confidence`` (Ville), so the bound is the smallest m whose capital ever did.

    Parameters
    ----------
    losses : array of shape (..., task)
        In an order that does not depend on their values.
    confidence : float
    truncation : float
        Largest share of the capital at risk on one task, above 0 and below 1, fixed beforehand. Larger ones give closer bounds for
        small losses of small spread and wider ones for losses of 0 and 1.

    Returns
    -------
    array of shape (...)

    Raises
    ------
    TaskError
        For a confidence or truncation outside (0, 1).

    References
    ----------
    .. [1] Waudby-Smith, I. and Ramdas, A. (2024). Estimating means of bounded random variables by betting. Journal of
       the Royal Statistical Society B 86, 1-27: theorem 3 (hedged capital) with predictable plug-in bets for a fixed
       number of values. Departures: only the half of the capital that bets against large means, with the whole error
       probability (log 1 / alpha in the bets). It grows with m, so that halving finds the bound.

    Examples
    --------
    >>> round(float(betting_bound(np.zeros(100))), 3)
    0.039
    """
    _check(confidence)
    if not 0.0 < truncation < 1.0:
        raise TaskError(f"truncation must lie between 0 and 1, but is {truncation}; {TRUNCATION} is usual.")
    number, wanted = losses.shape[-1], -np.log1p(-confidence)
    steps = np.arange(2, number + 2)
    mean = (0.5 + np.cumsum(losses, axis=-1)) / steps
    spread = (0.25 + np.cumsum(np.square(losses - mean), axis=-1)) / steps
    before = np.concatenate([np.full((*losses.shape[:-1], 1), 0.25), spread[..., :-1]], axis=-1)
    bets = np.sqrt(2.0 * wanted / (number * before))
    low, high = np.zeros(losses.shape[:-1]), np.ones(losses.shape[:-1])
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        m = middle[..., None]
        capital = np.cumsum(np.log1p(np.minimum(bets, truncation / (1.0 - m)) * (m - losses)), axis=-1)
        refused = capital.max(axis=-1) >= wanted
        low, high = np.where(refused, low, middle), np.where(refused, middle, high)
    return np.asarray(high)


def empirical_bernstein(
    losses: Float[np.ndarray, "*batch task"], confidence: float = 0.95
) -> Float[np.ndarray, "*batch"]:
    """Upper bound on a mean of values in [0, 1] from their variance; 1 for a single value.

    References
    ----------
    Maurer, A. and Pontil, M. (2009). Empirical Bernstein bounds and sample variance penalization. COLT, theorem 4.

    Examples
    --------
    >>> round(float(empirical_bernstein(np.zeros(100))), 3)
    0.087
    """
    _check(confidence)
    number = losses.shape[-1]
    if number < 2:
        return np.ones(losses.shape[:-1])
    size = np.log(2.0) - np.log1p(-confidence)
    reach = np.sqrt(2.0 * losses.var(axis=-1, ddof=1) * size / number) + 7.0 * size / (3.0 * (number - 1))
    return np.asarray(np.minimum(losses.mean(axis=-1) + reach, 1.0))


def hoeffding(losses: Float[np.ndarray, "*batch task"], confidence: float = 0.95) -> Float[np.ndarray, "*batch"]:
    """Upper bound on a mean of values in [0, 1] from their number alone.

    References
    ----------
    Hoeffding, W. (1963). Probability inequalities for sums of bounded random variables. JASA 58, theorem 1.

    Examples
    --------
    >>> round(float(hoeffding(np.zeros(100))), 3)
    0.122
    """
    _check(confidence)
    reach = np.sqrt(-np.log1p(-confidence) / (2 * losses.shape[-1]))
    return np.asarray(np.minimum(losses.mean(axis=-1) + reach, 1.0))


def _check(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise TaskError(f"confidence must lie between 0 and 1, but is {confidence}; 0.95 is usual.")


def _up(value: float) -> str:
    """Three digits, rounded upwards: a bound that is said must not be lower than the bound."""
    return f"{float(Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(value)):g}"
