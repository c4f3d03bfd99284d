"""Ask the experience in a prior which settings to fit a data set with, and compare a few of them if that is wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from upstairs.errors import FamiliarityWarning, TaskError
from upstairs.learners.guard import UNFAMILIAR
from upstairs.learners.tuner_prior import described, recommender_of
from upstairs.outer.recommend import Recommender
from upstairs.outer.trials import SCORES, Settings, Trials
from upstairs.prior import Prior
from upstairs.tasks.fingerprint import row_codes
from upstairs.tasks.task import Kind, Task

__all__ = ["Advice", "ask"]

_CHEAP_FALLBACKS = 3
"""Recommended settings that are tried before the estimator's own, if rows are too few for the first."""


class Advice(NamedTuple):
    """Settings to fit with, the first that works, and what is known about them."""

    order: Sequence[Settings]
    familiarity: float
    trials: tuple[tuple[Settings, float], ...] = ()
    used_prior: bool = True
    reason: str = ""


def ask(
    prior: Prior,
    base: Any,
    X: Any,
    y: np.ndarray,
    kind: Kind,
    *,
    trials: int = 1,
    cv: int | float = 3,
    guard: bool = False,
    seed: int | None = None,
    allowed: Callable[[Settings], bool] | None = None,
    fallbacks: bool = True,
) -> Advice:
    """Say which settings suit a data set.

    Parameters
    ----------
    prior : Prior
        With experience.
    base : estimator
        Unfitted; used where settings are compared.
    X, y
        Rows as they are, and labels or targets.
    kind : {"classification", "regression"}
    trials : int
        How many settings are compared by cross-validation; 1: none.
    cv : int or float
        Folds, or a share that is held out.
    guard : bool
        Whether the estimator's own settings are compared as well.
    seed : int, optional
    allowed : callable, optional
        Which settings may be used; if none may, all may.
    fallbacks : bool
        Whether settings are named as well that are tried if the first does not work.

    Warns
    -----
    FamiliarityWarning
        If the data are unlike those of the experience.
    """
    known = recommender_of(prior)
    x = described(prior, X, y)
    familiarity = known.familiarity(x)
    if familiarity < UNFAMILIAR:
        warnings.warn(
            f"These data ({len(y)} rows) are less like the data sets of the prior than {100 - familiarity:.1f} % of those are "
            "like each other; the settings may not suit them: compare with guard=True, or give a few trials.",
            FamiliarityWarning,
            stacklevel=4,
        )
    if allowed is not None:
        known = _narrowed(known, allowed)
    fixed = prior.settings.get("fixed", {})
    if trials == 1 and not guard:
        order = [known.experience.settings[n] for n in known.order(x, _CHEAP_FALLBACKS if fallbacks else 1)]
        return Advice([_with(fixed, settings) for settings in order], familiarity)
    advice = _compared(known, familiarity, x, _scorer(base, X, y, kind, cv, seed, fixed), kind, trials, guard)
    return advice._replace(order=[_with(fixed, settings) for settings in advice.order])


def _with(fixed: Settings, settings: Settings) -> Settings:
    """Settings with what was learned to go with all of them; the estimator's own stay as they are."""
    return {**fixed, **settings} if settings else settings


def _narrowed(known: Recommender, allowed: Callable[[Settings], bool]) -> Recommender:
    table = known.experience
    kept = [number for number, settings in enumerate(table.settings) if allowed(settings)]
    if not kept or len(kept) == len(table.settings):
        return known
    form = "one" if known.form == "default" else known.form
    return Recommender(table.select(kept), form, known.learned, known.outcomes)


def _compared(
    known: Recommender,
    familiarity: float,
    x: np.ndarray,
    score: Callable[[Settings, str], float],
    kind: Kind,
    trials: int,
    guard: bool,
) -> Advice:
    """Compare the first few settings (and with ``guard`` the estimator's own) by cross-validation."""
    measure = known.experience.measure
    measure = measure if measure in SCORES[kind] else SCORES[kind][0]
    tried: dict[int, float] = {}
    for _ in range(trials):
        following = known.order(x, 1, tried)
        if following:
            tried[following[0]] = score(known.experience.settings[following[0]], measure)
    found: list[tuple[Settings, float]] = [(known.experience.settings[n], value) for n, value in tried.items()]
    used, reason = True, ""
    if guard:
        plain = score({}, measure)
        best = max(value for _, value in found)
        used = bool(best >= plain)
        reason = (
            f"cross-validated {measure}: {best:.4g} with recommended settings, {plain:.4g} with the estimator's own"
        )
        found.append(({}, plain))
    order = [settings for settings, _ in sorted(found, key=lambda entry: -entry[1])]
    return Advice(order, familiarity, tuple(found), used, reason)


def _scorer(
    base: Any, X: Any, y: np.ndarray, kind: Kind, cv: int | float, seed: int | None, fixed: Settings
) -> Callable[[Settings, str], float]:
    """Cross-validated score of settings on the rows of `fit`; -inf where it cannot be had."""
    task = Task(X, y, name="the rows of fit", kind=kind)
    task = task.take(np.argsort(row_codes(task.X, task.y), kind="stable"))  # folds do not depend on the rows' order
    try:
        trial: Callable[[Mapping[str, Any]], dict[str, float]] = Trials(base, cv, 0 if seed is None else seed)(task)
    except TaskError:
        return lambda settings, measure: -np.inf

    def score(settings: Settings, measure: str) -> float:
        try:
            value = trial(_with(fixed, settings))[measure]
        except ValueError:
            return -np.inf
        return value if np.isfinite(value) else -np.inf

    return score
