"""Decide whether a task is better off without the prior, from its own few rows and what was seen on other tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from upstairs.inner.rule import AdaptationRule, Categorical, Gaussian, Params, PlainRule, Prediction, Rows, log_density
from upstairs.outer.calibrate import interpolate
from upstairs.tasks.batches import BATCH_CELLS, pad

__all__ = ["Verdict", "decide"]

FEWEST_ROWS = 5
"""With fewer rows their scores say nothing, and the prior is kept."""
ENOUGH_ROWS = 10
UNFAMILIAR = 0.5
"""Percentile of familiarity below which a user is warned."""
UNLIKE = 2.5
"""Percentile of familiarity below which other tasks do not speak for the prior."""
FOLDS = 10
MOST_A_ROW = 2.0
"""Log score that one row may add at most, so that the verdict rests on many rows and not on one surprise."""
CLEAR = 3.0
"""Log odds against the prior from which the evidence counts as clear."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keep the prior or not, and one sentence that says why."""

    keep: bool
    reason: str


def decide(
    rule: AdaptationRule,
    plain: PlainRule,
    params: Params,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    ways: int,
    tables: Mapping[str, np.ndarray],
    familiarity: float | None = None,
) -> Verdict:
    """Compare out-of-row log scores with and without the prior, and add the log prior odds.

    Each row is predicted from other rows (10 folds at most), with the prior and with the plain base learner, which is
    fitted anew each time, its own strength and noise included: chosen with the scored rows they would look better
    than they are. The sum of differences of log scores is a pseudo Bayes factor (Gelfand and Dey 1994, section 3). For a
    regression both predictions are scored with one variance, so that the question is which is nearer and not which is
    surer: the larger of the one that the prior states and the mean squared error of the nearer of the two. The prior
    odds at this number of rows were learned on validation tasks. The prior is dropped only if the total says so
    clearly; for a task unlike the validation tasks (``familiarity`` below `UNLIKE`) there are no odds in favour
    of the prior, and with `ENOUGH_ROWS` the balance decides.
    """
    if len(y) < FEWEST_ROWS:
        return Verdict(True, f"kept the prior: {len(y)} rows are too few to tell, {FEWEST_ROWS} are needed")
    difference = _difference(rule, plain, params, x, y, ways)
    odds = interpolate(tables, "guard", len(y), default=0.0)
    needed = CLEAR
    if familiarity is not None and familiarity < UNLIKE:
        odds, needed = min(odds, 0.0), 0.0 if len(y) >= ENOUGH_ROWS else CLEAR
    total = difference + odds
    said = f"rows say {difference:+.1f}, other tasks say {odds:+.1f} (log odds for the prior)"
    if total < -needed:
        return Verdict(False, f"dropped the prior: {said}")
    return Verdict(True, f"kept the prior: {said}")


def _difference(
    rule: AdaptationRule,
    plain: PlainRule,
    params: Params,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    ways: int,
) -> float:
    """Sum over rows of the log score with the prior minus that without.

    A row whose class would have no other row is passed over: without it neither side knows such a class.
    """
    mixed = np.random.default_rng(0).permutation(len(y))
    fold = np.empty(len(y), dtype=np.int64)
    fold[np.lexsort([*x.T, y])] = mixed % min(len(y), FOLDS)  # by content, so that the order of rows does not matter
    found: list[tuple[Prediction, Prediction, np.ndarray]] = []
    alike: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for number in range(fold.max() + 1):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if ways:
            inside = inside[np.isin(y[inside], y[outside])]
            if len(inside) == 0 or len(np.unique(y[outside])) < 2:
                continue
        alike.setdefault((len(outside), int(y[outside].max()) if ways else 0), []).append((inside, outside))
    for (size, _), folds in alike.items():
        most = 1 if rule.one_by_one else max(1, BATCH_CELLS // max(1, size * x.shape[1]))
        for start in range(0, len(folds), most):
            part = folds[start : start + most]
            for with_prior, (inside, outside) in zip(_with_prior(rule, params, x, y, part), part, strict=True):
                own = plain.own_params(x[outside], y[outside], ways)
                state = plain.adapt(own, Rows(*pad([(x[outside], y[outside])], size)))
                found.append((with_prior, plain.predict(own, state, x[inside][None]), y[inside][None]))
    if found and isinstance(found[0][0], Gaussian):
        return _nearer(found)
    return sum(float((log_density(one, target) - log_density(other, target)).sum()) for one, other, target in found)


def _with_prior(
    rule: AdaptationRule,
    params: Params,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Iterator[Prediction]:
    """Predict the rows inside each fold from the equally many outside of it, all folds in one batch."""
    query, support = (
        Rows(*pad([(x[rows], y[rows]) for rows in side], max(map(len, side)))) for side in zip(*folds, strict=True)
    )
    predicted = rule.predict_real(params, rule.adapt(params, support), query)
    for number, (inside, _) in enumerate(folds):
        own = slice(number, number + 1), slice(len(inside))
        if isinstance(predicted, Gaussian):
            yield Gaussian(predicted.mean[own], predicted.variance[own])
        else:
            yield Categorical(predicted.probability[own])


def _nearer(found: Sequence[tuple[Prediction, Prediction, np.ndarray]]) -> float:
    """Sum of differences of Gaussian log scores with one common variance, each row's share bounded."""
    with_prior, without = (
        np.concatenate([np.square(entry[2] - entry[side].mean)[0] for entry in found])  # type: ignore[union-attr]
        for side in (0, 1)
    )
    stated = np.concatenate([entry[0].variance[0] for entry in found])  # type: ignore[union-attr]
    variance = np.maximum(stated, min(with_prior.mean(), without.mean()))
    return float(np.clip(0.5 * (without - with_prior) / variance, -MOST_A_ROW, MOST_A_ROW).sum())
