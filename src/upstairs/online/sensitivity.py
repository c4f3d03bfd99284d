"""How sensitive to be, and how fast to forget: learned over past streams.

Each setting is tried on each stream, test-then-train; what counts is the log loss of what was predicted (for a regression minus the log
density). Of all settings that are no worse than the best by more than one standard error of the difference over streams, that one is
taken that believes least in change: the fewest false alarms cost nothing then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float
from sklearn.exceptions import NotFittedError

from upstairs.errors import TaskError
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.stream import chunks

__all__ = ["Sensitivity", "learn_sensitivity"]

HAZARDS = (0.0001, 0.0005, 0.002, 0.01)
TEMPERS = (0.5, 0.75, 1.0)
FORGETTING = (None, "auto")


@final
@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What was learned over streams.

    Attributes
    ----------
    settings : dict
        ``hazard``, ``temper`` and ``forgetting``, for ``OnlineMetaLearner(learner, **settings)``.
    records : list of dict
        One a setting that was tried: itself, ``log_loss`` (mean over streams), ``worse`` (mean difference to the best) and ``error``
        (its standard error over streams).
    """

    settings: dict[str, Any]
    records: list[dict[str, Any]]


def learn_sensitivity(
    model: OnlineMetaLearner,
    streams: Iterable[tuple[Any, Any]],
    *,
    hazards: Sequence[float] = HAZARDS,
    tempers: Sequence[float] = TEMPERS,
    forgetting: Sequence[Any] = FORGETTING,
    chunk: int = 10,
) -> Sensitivity:
    """Learn from past streams how likely a change is, how much a row says about it, and whether to forget within a world.

    Parameters
    ----------
    model : OnlineMetaLearner
        Everything else is as it is set here; the model itself stays as it is. Its prior does not grow while settings are tried, if
        ``learner`` is ``meta.learner()``.
    streams : iterable of (X, y)
        At least two, none of which is used for testing later; more than one change in them makes the answer worth something.
    hazards, tempers, forgetting : sequence
        What is tried: forgetting first, at the model's hazard and temper, then hazards with tempers.
    chunk : int
        Rows that are predicted before they are learned.

    Returns
    -------
    Sensitivity

    Raises
    ------
    TaskError
        For fewer than two streams, a stream without a row, or nothing to try.

    Examples
    --------
    >>> import upstairs as up
    >>> from upstairs.online.drift import recurring
    >>> family = up.tasks.synthetic.SharedSubspace()
    >>> meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear")
    >>> model = up.OnlineMetaLearner(meta.meta_fit(family.sample(12, 20, random_state=0)).learner())
    >>> past = [recurring(family, worlds=2, length=60, random_state=seed) for seed in (1, 2)]
    >>> learned = learn_sensitivity(model, [(s.X, s.y) for s in past], hazards=(0.0001, 0.02), tempers=(0.75,))
    >>> sorted(learned.settings), len(learned.records)
    (['forgetting', 'hazard', 'temper'], 4)
    """
    listed = list(streams)
    if len(listed) < 2:
        raise TaskError(f"streams must be at least two past streams (X, y), but there are {len(listed)}.")
    if not (len(hazards) and len(tempers) and len(forgetting)):
        raise TaskError("hazards, tempers and forgetting must each hold something to try.")
    settings = {"hazard": model.hazard, "temper": model.temper}
    first = [settings | {"forgetting": rates} for rates in forgetting]
    losses = np.array([_losses(model, listed, tried, chunk) for tried in first])
    rates = forgetting[_chosen(losses, first)]
    second = [
        {"hazard": hazard, "temper": temper, "forgetting": rates}
        for hazard in sorted(hazards)
        for temper in sorted(tempers)
    ]
    more = np.array([_losses(model, listed, tried, chunk) for tried in second])
    place = _chosen(more, second)
    return Sensitivity(second[place], _records(losses, first) + _records(more, second))


def _chosen(losses: Float[np.ndarray, "setting stream"], tried: list[dict[str, Any]]) -> int:
    """The first setting, in the order in which they believe in change, that is not clearly worse than the best."""
    return next(place for place, record in enumerate(_records(losses, tried)) if record["worse"] <= record["error"])


def _records(losses: Float[np.ndarray, "setting stream"], tried: list[dict[str, Any]]) -> list[dict[str, Any]]:
    best = losses[int(np.argmin(losses.mean(axis=1)))]
    differences = losses - best
    errors = differences.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    found = zip(tried, losses.mean(axis=1), differences.mean(axis=1), errors, strict=True)
    return [
        entry | {"log_loss": float(loss), "worse": float(worse), "error": float(error)}
        for entry, loss, worse, error in found
    ]


def _losses(
    model: OnlineMetaLearner, streams: list[tuple[Any, Any]], settings: dict[str, Any], chunk: int
) -> Float[np.ndarray, " stream"]:
    """Mean log loss of each stream."""
    held = {name: value for name, value in model.get_params(deep=False).items() if name not in settings}
    return np.array([_loss(OnlineMetaLearner(**held, **settings), X, y, chunk) for X, y in streams])


def _loss(model: OnlineMetaLearner, X: Any, y: Any, chunk: int) -> float:
    total, rows = 0.0, 0
    for part, targets in chunks(X, y, chunk):
        try:
            found = _log_density(model, part, targets)
            total, rows = total - float(found.sum()), rows + len(found)
        except NotFittedError:  # nothing is known before the first rows of a stream without a prior
            pass
        model.partial_fit(part, targets)
    if not rows:
        raise TaskError("Every stream must have rows with a label.")
    return total / rows


def _log_density(model: OnlineMetaLearner, X: Any, y: np.ndarray) -> Float[np.ndarray, " labelled"]:
    """Log probability of labels, or log density of targets; rows without a label are left out."""
    there = np.array([value is not None and value == value for value in y.tolist()], dtype=bool)
    if hasattr(model, "predict_proba"):
        said, places = model.predict_proba(X), {label: k for k, label in enumerate(model.classes_.tolist())}
        codes = [places.get(label, -1) for label in y[there].tolist()]
        chances = np.where(np.array(codes) >= 0, said[there][np.arange(len(codes)), codes], 0.0)
        return np.log(np.maximum(chances, 1e-6))
    mean, std = model.predict(X, return_std=True)
    miss = (y[there].astype(np.float64) - mean[there]) / std[there]
    return -0.5 * np.square(miss) - np.log(std[there]) - 0.5 * np.log(2.0 * np.pi)
