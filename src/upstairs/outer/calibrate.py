"""What validation tasks say at several numbers of rows: how well they fit the prior, how often it helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.rule import AdaptationRule, Categorical, Params, Prediction, Rows
from upstairs.tasks.batches import pad

__all__ = ["SIZES", "interpolate", "percentile", "tables_from"]

SIZES = (1, 2, 5, 10, 20, 50)
"""Numbers of support rows at which validation tasks are looked at."""
QUANTILES = np.linspace(0.0, 1.0, 101)
DRAWS = 400
"""Draws a size, spread evenly over the validation tasks (at least two a task)."""


def tables_from(
    rule: AdaptationRule,
    folds: Sequence[tuple[Params, Sequence[tuple[Float[np.ndarray, "_ feature"], np.ndarray]]]],
    *,
    ways: int,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Replay validation tasks at every size of `SIZES` that they allow.

    Parameters
    ----------
    rule
        The chosen rule.
    folds
        Pairs of params and encoded tasks ``(x, y)`` that these params have not seen.
    ways
        Number of shared classes, 0 for a regression or for own classes.
    seed
        Draws the support rows.

    Returns
    -------
    dict
        ``familiarity/rows`` and ``familiarity/scores`` (size, quantile): how well validation tasks fit the prior;
        ``guard/rows`` and ``guard/value``: log odds that the prior helps.
    """
    tables: dict[str, list] = {"sizes": [], "scores": [], "odds": []}
    tasks = sum(len(part) for _, part in folds)
    for size in SIZES:
        scores, wins = [], []
        for fold, (params, part) in enumerate(folds):
            usable = [number for number, (_, y) in enumerate(part) if len(y) > size]
            draws = max(2, min(20, DRAWS // max(tasks, 1)))
            for number in np.random.default_rng([seed, fold, size]).permutation(usable)[: DRAWS // 2].astype(int):
                x, y = part[number]
                rng = np.random.default_rng([seed, fold, number, size])
                for draw in range(draws):
                    order = rng.permutation(len(y))
                    support, query = order[:size], order[size:][:50]
                    rows = Rows(*pad([(x[support], y[support])], size))
                    scores.append(float(rule.evidence(params, rows)[0]))
                    own_labels = ways == 0 and y.dtype.kind == "i"
                    if own_labels:  # a class without a support row cannot be predicted
                        query = query[np.isin(y[query], y[support])]
                    if draw < 2 and len(query) and not (own_labels and len(np.unique(y[support])) < 2):
                        predicted = rule.predict(params, rule.adapt(params, rows), x[query][None])
                        own = rule.own_params(x[support], y[support], ways or (int(y.max()) + 1 if own_labels else 0))
                        plain = rule.predict(own, rule.adapt(own, rows), x[query][None])
                        wins.append(_loss(predicted, y[query]) <= _loss(plain, y[query]))
        if len(scores) < 4:
            continue
        tables["sizes"].append(size)
        tables["scores"].append(np.quantile(scores, QUANTILES))
        tables["odds"].append(np.log((sum(wins) + 0.5) / (len(wins) - sum(wins) + 0.5)))
    if not tables["sizes"]:
        return {}
    sizes = np.array(tables["sizes"], dtype=np.int64)
    return {
        "familiarity/rows": sizes,
        "familiarity/scores": np.array(tables["scores"]),
        "guard/rows": sizes,
        "guard/value": np.array(tables["odds"]),
    }


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
    """Share of validation tasks (0 to 100) that fitted the prior worse, for tasks with the same number of rows."""
    at: Int[np.ndarray, " size"] = tables["familiarity/rows"]
    below = [np.interp(scores, line, QUANTILES, left=0.0, right=1.0) for line in tables["familiarity/scores"]]
    position = float(np.interp(np.log(max(rows, 1)), np.log(at), np.arange(len(at))))
    low = int(position)
    high = min(low + 1, len(at) - 1)
    return 100.0 * ((1.0 - position + low) * below[low] + (position - low) * below[high])


def _loss(predicted: Prediction, y: np.ndarray) -> float:
    if isinstance(predicted, Categorical):
        return float(-np.log(np.maximum(predicted.probability[0, np.arange(len(y)), y], 1e-12)).mean())
    return float(((y - predicted.mean[0]) ** 2).mean())
