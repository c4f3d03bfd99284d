"""What validation tasks say at several numbers of rows: how well they fit the prior, how often it helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from upstairs.inner.rule import AdaptationRule, Categorical, Gaussian, Params, PlainRule, Prediction, Rows, log_density
from upstairs.tasks.batches import pad

__all__ = ["SIZES", "interpolate", "interval_factors", "percentile", "tables_from"]

SIZES = (1, 2, 5, 10, 20, 50)
"""Numbers of support rows at which validation tasks are looked at."""
QUANTILES = np.linspace(0.0, 1.0, 101)
DRAWS = 400
"""Draws a size, spread evenly over the validation tasks (at least two a task)."""
COMPARED = 150
"""Draws a size in which the plain base learner is fitted too, for the odds."""
QUERIES = 50
COVERAGE = 0.9
FEWEST = 10


def tables_from(
    rule: AdaptationRule,
    folds: Sequence[tuple[Params, Sequence[tuple[Float[np.ndarray, "_ feature"], np.ndarray]]]],
    *,
    plain: PlainRule,
    ways: int,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, np.ndarray]:
    """Replay validation tasks at every size of `SIZES` that they allow.

    Parameters
    ----------
    rule
        The chosen rule.
    folds
        Pairs of params and encoded tasks ``(x, y)`` that these params have not seen.
    plain
        The plain base learner, for the odds.
    ways
        Number of shared classes, 0 for a regression or for own classes.
    seed
        Draws the support rows.
    draws
        Draws a size; fewer where a prediction takes long.

    Returns
    -------
    dict
        ``familiarity/rows``, ``familiarity/tasks`` and ``familiarity/scores`` (size, quantile): how well how many
        validation tasks fit the prior;
        ``guard/rows`` and ``guard/value``: log odds that the prior helps.
    """
    tables: dict[str, list] = {"sizes": [], "tasks": [], "scores": [], "odds": []}
    tasks = sum(len(part) for _, part in folds)
    repeats = max(2, min(20, draws // max(tasks, 1)))
    width = _width(rule, folds)
    for size in SIZES:
        scores: list[float] = []
        wins: list[bool] = []
        seen = 0
        for fold, (params, part) in enumerate(folds):
            rng = np.random.default_rng([seed, fold, size])
            usable = rng.permutation([number for number, (_, y) in enumerate(part) if len(y) > size])[: draws // 2]
            if len(usable) == 0:
                continue
            seen += len(usable)
            drawn = [_draw(*part[int(number)], size, rng, ways) for _ in range(repeats) for number in usable]
            support, query = (
                Rows(*pad([pair[side] for pair in drawn], rows)) for side, rows in ((0, width or size), (1, QUERIES))
            )
            state = rule.adapt(params, support)
            scores += rule.evidence(params, support, state).tolist()
            first = slice(0, max(1, COMPARED // len(folds)))
            some = {name: array[first] for name, array in state.items()}
            asked = Rows(query.x[first], query.y[first], query.mask[first])
            with_prior = _losses(rule.predict_real(params, some, asked), asked.y, asked.mask)
            for loss, ((x, y), (x_new, y_new)) in zip(with_prior, drawn, strict=False):
                if len(y_new) and (y.dtype.kind != "i" or ways or len(np.unique(y)) > 1):
                    wins.append(bool(loss <= _own_loss(plain, x, y, x_new, y_new, ways)))
        if len(scores) < 4:
            continue
        tables["sizes"].append(size)
        tables["tasks"].append(seen)
        tables["scores"].append(np.quantile(scores, QUANTILES))
        tables["odds"].append(np.log((sum(wins) + 0.5) / (len(wins) - sum(wins) + 0.5)))
    if not tables["sizes"]:
        return {}
    sizes = np.array(tables["sizes"], dtype=np.int64)
    return {
        "familiarity/rows": sizes,
        "familiarity/tasks": np.array(tables["tasks"], dtype=np.int64),
        "familiarity/scores": np.array(tables["scores"]),
        "guard/rows": sizes,
        "guard/value": np.array(tables["odds"]),
    }


def interval_factors(
    rule: AdaptationRule,
    folds: Sequence[tuple[Params, Sequence[tuple[Float[np.ndarray, "_ feature"], np.ndarray]]]],
    *,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Factors on the predictive standard deviation with which 90 % intervals cover 90 % on validation tasks.

    Parameters are those of `tables_from`, for a regression. Every task counts the same at every number of rows.

    Returns
    -------
    dict
        ``calibration/rows`` and ``calibration/value``, for `interpolate`; empty if there are fewer
        than `FEWEST` validation tasks at every number of rows.
    """
    sizes, factors = [], []
    width = _width(rule, folds)
    for size in SIZES:
        reach: list[np.ndarray] = []
        weight: list[np.ndarray] = []
        tasks = 0
        for fold, (params, part) in enumerate(folds):
            rng = np.random.default_rng([seed, fold, size, 1])
            usable = rng.permutation([number for number, (_, y) in enumerate(part) if len(y) > size])[:DRAWS]
            if len(usable) == 0:
                continue
            tasks += len(usable)
            repeats = max(1, min(8, DRAWS // len(usable)))
            drawn = [_draw(*part[int(number)], size, rng, 1) for _ in range(repeats) for number in usable]
            support, query = (
                Rows(*pad([pair[side] for pair in drawn], rows)) for side, rows in ((0, width or size), (1, QUERIES))
            )
            predicted = rule.predict_real(params, rule.adapt(params, support), query)
            assert isinstance(predicted, Gaussian), "intervals are for a regression"
            distance = np.abs(query.y - predicted.mean) / np.sqrt(predicted.variance)
            reach.append(distance[query.mask])
            weight.append(np.broadcast_to(1.0 / np.maximum(query.counts, 1)[:, None], query.mask.shape)[query.mask])
        if tasks >= FEWEST:
            sizes.append(size)
            factors.append(
                _quantile(np.concatenate(reach), np.concatenate(weight), COVERAGE) / ndtri(0.5 + COVERAGE / 2)
            )
    if not sizes:
        return {}
    return {"calibration/rows": np.array(sizes, dtype=np.int64), "calibration/value": np.maximum(factors, 1e-3)}


def interpolate(tables: Mapping[str, np.ndarray], name: str, rows: int, *, default: float) -> float:
    """Read a table at a number of rows: linear in the logarithm between sizes, flat outside.

    Examples
    --------
    >>> tables = {"guard/rows": np.array([1, 100]), "guard/value": np.array([0.0, 2.0])}
    >>> round(interpolate(tables, "guard", 10, default=0.0), 6)
    1.0
    """
    if f"{name}/rows" not in tables:
        return default
    at = np.log(tables[f"{name}/rows"])
    return float(np.interp(np.log(max(rows, 1)), at, tables[f"{name}/value"]))


def percentile(tables: Mapping[str, np.ndarray], rows: int, scores: Float[np.ndarray, " task"]) -> np.ndarray:
    """Share of tasks (0 to 100) that fit the prior worse, for tasks with the same number of rows.

    Among validation tasks, as far as there are enough; what lies below all but two of them is judged by an exponential
    tail, for being the lowest of n says no more than one in n.
    """
    at: Int[np.ndarray, " size"] = tables["familiarity/rows"]
    tasks = tables["familiarity/tasks"] if "familiarity/tasks" in tables else np.full(len(at), 10**6)
    below = [_share_below(scores, line, int(n)) for line, n in zip(tables["familiarity/scores"], tasks, strict=True)]
    position = float(np.interp(np.log(max(rows, 1)), np.log(at), np.arange(len(at))))
    low = int(position)
    high = min(low + 1, len(at) - 1)
    return 100.0 * ((1.0 - position + low) * below[low] + (position - low) * below[high])


def _share_below(
    scores: Float[np.ndarray, " task"], line: Float[np.ndarray, " quantile"], tasks: int
) -> Float[np.ndarray, " task"]:
    found = np.interp(scores, line, QUANTILES, left=0.0, right=1.0)
    place = int(np.ceil(100 * min(2.0 / tasks, 0.25))) if tasks < len(line) else 1
    upper = min(4 * place, 50)
    decay = max(float(line[upper] - line[place]) / np.log(upper / place), 1e-12)
    tail = QUANTILES[place] * np.exp(np.minimum(scores - line[place], 0.0) / decay)
    return np.where(scores < line[place], tail, found)


_Part = tuple[np.ndarray, np.ndarray]


def _width(rule: AdaptationRule, folds: Sequence[tuple[Params, Sequence[_Part]]]) -> int | None:
    """Rows that all sizes are padded to, where every width is compiled for itself; None: each has its own."""
    longest = max((len(y) for _, part in folds for _, y in part), default=0)
    return max((size for size in SIZES if size < longest), default=None) if rule.compiles else None


def _draw(
    x: Float[np.ndarray, "row feature"], y: np.ndarray, size: int, rng: np.random.Generator, ways: int
) -> tuple[_Part, _Part]:
    """Draw support and query rows of a task; a class of its own without a support row is not asked for."""
    order = rng.permutation(len(y))
    support, query = order[:size], order[size : size + QUERIES]
    if ways == 0 and y.dtype.kind == "i":
        query = query[np.isin(y[query], y[support])]
    return (x[support], y[support]), (x[query], y[query])


def _losses(predicted: Prediction, y: np.ndarray, mask: np.ndarray) -> Float[np.ndarray, " task"]:
    """Mean squared error, or log loss, of every task over its real rows."""
    line = -log_density(predicted, y) if isinstance(predicted, Categorical) else (y - predicted.mean) ** 2
    return np.where(mask, line, 0.0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)


def _own_loss(plain: PlainRule, x: np.ndarray, y: np.ndarray, x_new: np.ndarray, y_new: np.ndarray, ways: int) -> float:
    """Loss of the plain base learner, fitted to the support rows alone."""
    own = plain.own_params(x, y, ways or (int(y.max()) + 1 if y.dtype.kind == "i" else 0))
    state = plain.adapt(own, Rows(x[None], y[None], np.ones((1, len(y)), dtype=bool)))
    predicted = plain.predict(own, state, x_new[None])
    return float(_losses(predicted, y_new[None], np.ones((1, len(y_new)), dtype=bool))[0])


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(reached, share)), len(values) - 1)])
