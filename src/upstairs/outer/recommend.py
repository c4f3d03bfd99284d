"""From experience to recommendation: choose a form on tasks that were left out, then order the settings to try."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import PriorMismatchError
from upstairs.outer.experience import Experience
from upstairs.outer.likeness import FORMS, Learned, Spreads, strangeness
from upstairs.outer.portfolio import greedy
from upstairs.outer.surrogate import Surrogate, coordinates

__all__ = ["Choice", "Outcomes", "Recommender", "chosen", "group_folds"]

_FOLDS = 10
_TRIALS = 10
"""Trials over which the use of outcomes is judged."""
HAND_OVER = 3
"""After so many trials on a task the surrogate, which knows their outcomes, chooses the next."""
_SIMPLER = 1.0
"""A form replaces a simpler one if it is better by so many standard errors of the paired difference."""


@dataclass(frozen=True)
class Outcomes:
    """What the outcomes of trials on a task are used for.

    ``level`` and ``pattern``: by how many units (the usual median regret) the level of the scores, and their
    differences, of two alike tasks differ; ``surrogate``: whether it chooses once there are `HAND_OVER` trials.
    """

    level: float = np.inf
    pattern: float = np.inf
    surrogate: bool = False


_OUTCOMES = (
    Outcomes(),
    Outcomes(pattern=0.5),
    Outcomes(pattern=0.5, surrogate=True),
)


@dataclass(frozen=True)
class Choice:
    """Which form leave-one-group-out chose, and why.

    Attributes
    ----------
    form : str
        "default" (the estimator's own settings) or a name of `upstairs.outer.likeness.FORMS`.
    losses : dict of str to float
        Mean loss of the first recommended setting on left-out tasks, by form (see `Experience.losses`).
    outcomes : Outcomes
        What the outcomes of trials are used for.
    trials : dict of str to float
        Mean loss over the first ten trials on left-out tasks: "alone" without and "outcomes" with their outcomes.
    reason : str
        In one sentence.
    """

    form: str
    losses: Mapping[str, float]
    outcomes: Outcomes
    trials: Mapping[str, float]
    reason: str


@final
@dataclass(frozen=True, eq=False)
class Recommender:
    """Experience that is ready to be asked.

    Parameters
    ----------
    experience : Experience
    form : str
    learned : mapping of arrays
        What the form learned over the tasks of the experience.
    outcomes : Outcomes

    Examples
    --------
    >>> table = Experience([{}, {"C": 1}], ["a", "b", "c"], [[0.5, 0.9], [0.6, 0.7], [0.8, 0.7]])
    >>> Recommender.learn(table, "one").order(np.zeros(0), 2)
    [1, 0]
    """

    experience: Experience
    form: str
    learned: Learned = field(default_factory=dict)
    outcomes: Outcomes = field(default_factory=Outcomes)

    @classmethod
    def learn(cls, experience: Experience, form: str, outcomes: Outcomes | None = None) -> Recommender:
        """Learn over the tasks of an experience what a form needs."""
        learned = {} if form == "default" else FORMS[form].learn(experience.features, experience.losses)
        return cls(experience, form, learned, outcomes or Outcomes())

    def weights(
        self, x: Float[np.ndarray, " feature"], tried: Mapping[int, float] | None = None
    ) -> Float[np.ndarray, " task"]:
        """Weigh the past tasks for a new one.

        Parameters
        ----------
        x : array of shape (feature,)
            Description of the new task.
        tried : mapping of int to float, optional
            Scores of settings on the new task. Past tasks on which these settings stood to each other in the same way
            count more: with scores s and past scores a, the weight is multiplied by
            exp(-(mean difference)^2 / 2 level^2 - sum (difference - mean difference)^2 / 2 pattern^2), in units of
            the usual regret of a setting.
        """
        form = FORMS["one" if self.form == "default" else self.form]
        if len(x) != self.experience.features.shape[1]:
            raise PriorMismatchError(
                f"The description of a task must have {self.experience.features.shape[1]} numbers, as those of the "
                f"experience have, but has {len(x)}."
            )
        weights = form.weights(self.learned, self.experience.features, x)
        if tried:
            weights = self._bound(np.maximum(weights, 0.0), tried)
        return weights

    def order(self, x: Float[np.ndarray, " feature"], size: int, tried: Mapping[int, float] | None = None) -> list[int]:
        """Return the settings to try next, by number, the best first.

        Parameters
        ----------
        x : array of shape (feature,)
        size : int
            How many.
        tried : mapping of int to float, optional
            Scores of settings that were tried on this task; they are not named again.
        """
        tried = dict(tried or {})
        losses = self._losses
        if self.outcomes.surrogate and len(tried) >= HAND_OVER:
            unit = self._capped[1]
            best = max(tried.values())
            known = {n: max(value, best - _CAP * unit) for n, value in tried.items()}
            gains = self._surrogate.improvement(known)
            gains[list(tried)] = -np.inf
            return [int(n) for n in np.argsort(-gains, kind="stable")[: min(size, len(gains) - len(tried))]]
        weights = self.weights(x, tried)
        left = np.array([n for n in range(losses.shape[1]) if n not in tried], dtype=np.int64)
        if not len(left):
            return []
        if tried:
            so_far = losses[:, list(tried)].min(axis=1)
            return left[greedy(losses[:, left], size, weights=weights, so_far=so_far)].tolist()
        first = 0 if self.form == "default" else int(np.argmin(weights @ losses))
        if size == 1:
            return [first]
        rest = np.setdiff1d(left, [first])
        more = greedy(losses[:, rest], size - 1, weights=np.maximum(weights, 0.0), so_far=losses[:, first])
        return [first, *rest[more].tolist()]

    def expected(self, x: Float[np.ndarray, " feature"]) -> Float[np.ndarray, " setting"]:
        """What is expected of each setting: its weighted mean loss."""
        return self.weights(x) @ self._losses

    def familiarity(self, x: Float[np.ndarray, " feature"]) -> float:
        """Percentile (0 to 100) of the new task's distance to its nearest past tasks among theirs to each other.

        Beyond the most distant past task the tail falls with the fourth power of the distance.
        """
        features = self.experience.features
        if len(features) < 3 or features.shape[1] == 0:
            return 100.0
        units, past = self._placed
        known, own = self._apart, _typical(strangeness(past, units.scaled(x)))
        if own <= known.max():
            return 100.0 * float(np.mean(known >= own))
        return 100.0 / (len(known) + 1) * float((known.max() / own) ** 4)

    @functools.cached_property
    def _placed(self) -> tuple[Spreads, Float[np.ndarray, "task feature"]]:
        """What descriptions are measured in, and those of the past tasks so measured."""
        units = Spreads(self.experience.features)
        return units, units.scaled(self.experience.features)

    @functools.cached_property
    def _apart(self) -> Float[np.ndarray, " task"]:
        """Distance of each past task to the nearest others."""
        past = self._placed[1]
        return np.array([_typical(np.delete(strangeness(past, row), n)) for n, row in enumerate(past)])

    @functools.cached_property
    def _losses(self) -> Float[np.ndarray, "task setting"]:
        return self.experience.full_losses

    @functools.cached_property
    def _capped(self) -> tuple[Float[np.ndarray, "task setting"], float]:
        """Scores with disasters capped, and the unit: the usual median regret of a task."""
        regrets, score = self.experience.regrets, self.experience.score
        unit = max(float(np.median(np.nanmedian(regrets, axis=1))), 1e-12)
        best = np.nanmax(np.where(np.isfinite(score), score, np.nan), axis=1, keepdims=True)
        return best - np.minimum(regrets, _CAP * unit), unit

    @functools.cached_property
    def _surrogate(self) -> Surrogate:
        return Surrogate.learn(self._capped[0], coordinates(self.experience.settings))

    def _bound(self, weights: np.ndarray, tried: Mapping[int, float]) -> np.ndarray:
        level, pattern = self.outcomes.level, self.outcomes.pattern
        if np.isinf(level) and np.isinf(pattern):
            return weights
        score, unit = self._capped
        columns = list(tried)
        past = score[:, columns]
        own = np.array([tried[n] for n in columns])
        own = np.maximum(own, own.max() - _CAP * unit)
        difference = np.where(np.isnan(past), 0.0, past - own) / unit
        mean = difference.mean(axis=1)
        apart = ((difference - mean[:, None]) ** 2).sum(axis=1)
        log = -0.5 * (mean / level) ** 2 - 0.5 * apart / pattern**2
        bound = weights * np.exp(log - log[weights > 0].max(initial=-np.inf)) if (weights > 0).any() else weights
        total = bound.sum()
        even = np.full(len(weights), 1.0 / len(weights))
        return (0.98 * bound / total if total > 0 else 0.98 * even) + 0.02 * even


_CAP = 5.0
"""Scores further below a task's best than so many units are that far: a disaster is a disaster."""


def _typical(apart: Float[np.ndarray, " task"]) -> float:
    return float(np.sort(apart)[:3].mean())


def group_folds(groups: Sequence[str], folds: int = _FOLDS, seed: int = 0) -> Int[np.ndarray, " task"]:
    """Deal whole groups to folds; with no more groups than folds each is left out alone.

    Examples
    --------
    >>> group_folds(["a", "b", "a", "c"]).tolist()
    [2, 0, 2, 1]
    """
    names, where = np.unique(np.array(groups, dtype=str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return (order % min(folds, len(names)))[where]


def chosen(
    experience: Experience,
    *,
    forms: Sequence[str] = tuple(FORMS),
    default: int | None = 0,
    folds: int = _FOLDS,
    trials: int = _TRIALS,
) -> Choice:
    """Choose a form, and how far outcomes of trials count, on groups of tasks that are left out in turn.

    Parameters
    ----------
    experience : Experience
    forms : sequence of str
        The simplest first.
    default : int, optional
        The setting that is the estimator's own defaults, if it is among them.
    folds : int
        Parts that groups are dealt to; each is left out once.
    trials : int
        Over how many trials the use of their outcomes is judged; 0 leaves it out.
    """
    losses = experience.full_losses
    fold = group_folds(experience.groups, folds)
    if len(np.unique(fold)) < 2:
        return Choice("one", {}, Outcomes(), {}, "all tasks are of one group, so that nothing could be compared")
    described = experience.features.shape[1] > 0
    forms = [form for form in forms if form == "one" or described]
    rows = np.arange(len(experience))
    found: dict[str, np.ndarray] = {} if default is None else {"default": losses[:, default]}
    held: dict[tuple[str, int], Recommender] = {}
    for form in forms:
        picks = np.zeros(len(rows), dtype=np.int64)
        for out in np.unique(fold):
            held[form, int(out)] = Recommender.learn(experience.take(fold != out), form)
            for row in np.flatnonzero(fold == out):
                picks[row] = held[form, int(out)].order(experience.features[row], 1)[0]
        found[form] = losses[rows, picks]
    best = next(iter(found))
    for name in list(found)[1:]:
        gain = _by_group(found[best] - found[name], experience.groups)
        if gain.mean() > _SIMPLER * gain.std(ddof=1) / np.sqrt(len(gain)):
            best = name
    means = {name: float(_by_group(values, experience.groups).mean()) for name, values in found.items()}
    basis = "one" if best == "default" else best
    outcomes, means_of_trials = _outcomes(experience, fold, held, basis, trials)
    said = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    groups = len(set(experience.groups))
    reason = f"{best!r} was chosen on {len(experience)} left-out tasks in {groups} groups (mean loss: {said})"
    return Choice(best, means, outcomes, means_of_trials, reason)


def _outcomes(
    experience: Experience, fold: np.ndarray, held: Mapping[tuple[str, int], Recommender], form: str, trials: int
) -> tuple[Outcomes, dict[str, float]]:
    """Choose how far outcomes count, by the mean loss over the first trials on left-out tasks."""
    if trials == 0:
        return Outcomes(), {}
    bases = {out: base for (name, out), base in held.items() if name == form}
    losses = experience.full_losses
    score = np.where(np.isnan(experience.score), -np.inf, experience.score)
    means: list[float] = []
    for use in _OUTCOMES:
        asked = {out: Recommender(base.experience, form, base.learned, use) for out, base in bases.items()}
        after = np.zeros((len(experience), trials))
        for row in range(len(experience)):
            tried: dict[int, float] = {}
            for trial in range(trials):
                following = asked[int(fold[row])].order(experience.features[row], 1, tried)
                if following:
                    tried[following[0]] = float(score[row, following[0]])
                after[row, trial] = losses[row, list(tried)].min()
        means.append(float(_by_group(after, experience.groups).mean()))
    best = int(np.argmin(means))
    return _OUTCOMES[best], {"alone": means[0], "outcomes": means[best]}


def _by_group(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Means within groups: a group counts once, however many tasks it has."""
    names, where = np.unique(np.array(groups, dtype=str), return_inverse=True)
    sums: Any = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, where, values)
    return sums / np.bincount(where).reshape(-1, *[1] * (values.ndim - 1))
