"""The memory of a tuner: which setting reached which score on which data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.outer.journal import settings_key
from upstairs.plain import json_value

__all__ = ["Experience"]

COMPARABLE = frozenset({"accuracy", "balanced_accuracy", "roc_auc"})
"""Measures whose differences mean the same on every task."""


@final
@dataclass(frozen=True, eq=False)
class Experience:
    """A table of tasks x settings, with what is known of each task. Never changed: every method returns another.

    Parameters
    ----------
    settings : sequence of dict
        One a column: arguments of the estimator, as JSON values. ``{}`` are the estimator's own defaults.
    names : sequence of str
        One a task, each once.
    scores : array of shape (task, setting), or mapping of str to such arrays
        More is better, by one measure or by several. NaN: not tried; -inf: tried, and failed or took too long.
    groups : sequence of str, optional
        What a task belongs to; leave-one-out leaves whole groups out. A task without one is its own group.
    fingerprints : sequence of str, optional
        Content of a task (see `upstairs.tasks.fingerprint`): the same data set under another name is the same task.
    features : array of shape (task, feature), optional
        Descriptions of the tasks (see `upstairs.outer.metafeatures.describe`, or your own); without NaN.
    seconds : array of shape (task, setting), optional
        Time of a fit.
    measure : str, optional
        Which of the scores counts; the first when not given.

    Raises
    ------
    TaskError
        If shapes differ, a name or a setting stands twice, or a task has no score at all.

    Examples
    --------
    >>> scores = [[0.9, 0.8, 0.7], [0.6, 0.7, 0.2]]
    >>> table = Experience([{"C": 0.1}, {"C": 1.0}, {"C": 10.0}], ["iris", "wine"], scores)
    >>> table
    Experience(2 tasks in 2 groups, 3 settings, 100 % tried, by 'score')
    >>> table.regrets.round(2).tolist()
    [[0.0, 0.1, 0.2], [0.1, 0.0, 0.5]]
    >>> table.without(["wine"]).names
    ('iris',)
    """

    settings: Sequence[Mapping[str, Any]]
    names: Sequence[str]
    scores: Any
    groups: Sequence[str] = ()
    fingerprints: Sequence[str] = ()
    features: Any = None
    seconds: Any = None
    measure: str = ""

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        shape = (len(names), len(self.settings))
        scores = self.scores if isinstance(self.scores, Mapping) else {self.measure or "score": self.scores}
        held = {str(key): _array(f"scores[{key!r}]", table, shape) for key, table in scores.items()}
        measure = self.measure or next(iter(held))
        if measure not in held:
            raise TaskError(f"measure={measure!r} must be one of the scores: {', '.join(map(repr, held))}.")
        seconds = np.full(shape, np.nan) if self.seconds is None else _array("seconds", self.seconds, shape)
        features = np.zeros((len(names), 0)) if self.features is None else np.asarray(self.features, dtype=np.float64)
        if features.ndim != 2 or len(features) != len(names) or not np.isfinite(features).all():
            raise TaskError(
                f"features must be finite numbers of shape (task, feature) for {len(names)} tasks, but have shape "
                f"{features.shape} or hold NaN; fill them in."
            )
        settings = tuple(json_value(dict(entry)) for entry in self.settings)
        values: dict[str, Any] = {
            "settings": settings,
            "names": names,
            "scores": held,
            "groups": tuple(str(group) for group in self.groups) or tuple(f"task:{name}" for name in names),
            "fingerprints": tuple(self.fingerprints) or tuple(f"task:{name}" for name in names),
            "features": features,
            "seconds": seconds,
            "measure": measure,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)
        self._check()

    def _check(self) -> None:
        for field in ("groups", "fingerprints"):
            if len(getattr(self, field)) != len(self.names):
                raise TaskError(
                    f"{field} must have one entry a task ({len(self.names)}), not {len(getattr(self, field))}."
                )
        for what, entries in (("task", self.names), ("setting", [settings_key(entry) for entry in self.settings])):
            if len(set(entries)) != len(entries):
                twice = next(entry for entry in entries if list(entries).count(entry) > 1)
                raise TaskError(
                    f"Each {what} must stand once in an experience, but {twice!r} stands twice; remove one."
                )
        empty = [name for name, row in zip(self.names, np.isfinite(self.score), strict=True) if not row.any()]
        if empty:
            raise TaskError(
                f"Task {empty[0]!r}: no setting has a score ({len(empty)} such tasks); leave it out, or give its trials more "
                "time."
            )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        tried = 100 * np.mean(~np.isnan(self.score)) if self.score.size else 0.0
        return (
            f"Experience({len(self)} tasks in {len(set(self.groups))} groups, {len(self.settings)} settings, "
            f"{tried:.0f} % tried, by {self.measure!r})"
        )

    # --- what the numbers say ---------------------------------------------------------------------------------------
    @property
    def score(self) -> Float[np.ndarray, "task setting"]:
        """Scores by the measure that counts."""
        found: np.ndarray = self.scores[self.measure]
        return found

    @property
    def regrets(self) -> Float[np.ndarray, "task setting"]:
        """The best score of the task minus the score; a failure counts as the worst; NaN where nothing was tried."""
        score = np.where(np.isfinite(self.score), self.score, np.nan)
        best, worst = np.nanmax(score, axis=1, keepdims=True), np.nanmin(score, axis=1, keepdims=True)
        return best - np.where(np.isneginf(self.score), worst, self.score)

    @property
    def losses(self) -> Float[np.ndarray, "task setting"]:
        """Regrets that are comparable between tasks; NaN where nothing was tried.

        Of measures that lie between 0 and 1 for every task (accuracy, balanced accuracy, area under the curve) the
        square roots of the regrets, so that no single hard task decides alone; of others regrets in units of the
        task's median regret, at most 1, and so deaf to disasters.
        """
        regrets = self.regrets
        if self.measure in COMPARABLE:
            return np.sqrt(regrets)
        unit = np.nanmedian(regrets, axis=1, keepdims=True)
        plain = np.where(regrets > 0, 1.0, 0.0)
        scaled = np.where(unit > 0, regrets / np.where(unit > 0, unit, 1.0), plain)
        return np.where(np.isnan(regrets), np.nan, np.minimum(scaled, 1.0))

    @property
    def full_losses(self) -> Float[np.ndarray, "task setting"]:
        """Losses in which a setting that was not tried on a task is as good as the task's usual one."""
        losses = self.losses
        return np.where(np.isnan(losses), np.nanmedian(losses, axis=1, keepdims=True), losses)

    # --- other tables -----------------------------------------------------------------------------------------------
    def take(self, tasks: Any) -> Experience:
        """Tasks by number or mask."""
        where = np.arange(len(self))[tasks]
        pick: dict[str, Any] = {
            name: tuple(getattr(self, name)[n] for n in where) for name in ("names", "groups", "fingerprints")
        }
        scores = {name: table[where] for name, table in self.scores.items()}
        return replace(self, **pick, scores=scores, features=self.features[where], seconds=self.seconds[where])

    def without(self, names: Sequence[str]) -> Experience:
        """Leave tasks out by name.

        Raises
        ------
        TaskError
            For a name that is not there.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise TaskError(f"There is no task {unknown[0]!r} in this experience of {len(self)} tasks.")
        return self.take(np.array([name not in set(names) for name in self.names], dtype=bool))

    def filter(self, keep: Callable[[str], bool]) -> Experience:
        """Keep the tasks whose name answers a question with yes."""
        return self.take(np.array([bool(keep(name)) for name in self.names], dtype=bool))

    def by(self, measure: str) -> Experience:
        """Return the same experience judged by another of its measures."""
        return replace(self, measure=measure)

    def select(self, settings: Sequence[int]) -> Experience:
        """Settings by number."""
        columns = list(settings)
        scores = {name: table[:, columns] for name, table in self.scores.items()}
        return replace(
            self, settings=[self.settings[n] for n in columns], scores=scores, seconds=self.seconds[:, columns]
        )

    def apart_from(self, fingerprint: str, group: str | None = None) -> Experience:
        """Leave out a data set, wherever it stands and however it is called, and its group if it is named.

        Examples
        --------
        >>> table = Experience([{}], ["a", "b"], [[1.0], [2.0]], fingerprints=["x", "y"], groups=["g", "g"])
        >>> table.apart_from("x").names, len(table.apart_from("x", "g"))
        (('b',), 0)
        """
        pairs = zip(self.fingerprints, self.groups, strict=True)
        return self.take(np.array([print_ != fingerprint and own != group for print_, own in pairs], dtype=bool))

    def merge(self, other: Experience) -> Experience:
        """Put two tables together; the same data set (by content) is one task, and newer scores win.

        Settings and tasks that stand in one table only leave cells that were not tried.

        Raises
        ------
        TaskError
            If the measures or the features differ, or one name stands for two data sets.
        """
        if set(self.scores) != set(other.scores) or self.measure != other.measure:
            raise TaskError(
                f"Two experiences must be measured alike to be merged, but one is by {sorted(self.scores)} (first "
                f"{self.measure!r}), the other by {sorted(other.scores)} (first {other.measure!r}); choose with by()."
            )
        if self.features.shape[1] != other.features.shape[1]:
            raise TaskError(
                f"Two experiences must have the same features to be merged, but one has {self.features.shape[1]} and the "
                f"other {other.features.shape[1]} a task."
            )
        settings = list(self.settings)
        where = {settings_key(entry): number for number, entry in enumerate(settings)}
        for entry in other.settings:
            if where.setdefault(settings_key(entry), len(settings)) == len(settings):
                settings.append(entry)
        rows = {print_: number for number, print_ in enumerate(self.fingerprints)}
        new = [number for number, print_ in enumerate(other.fingerprints) if print_ not in rows]
        rows |= {other.fingerprints[number]: len(self) + position for position, number in enumerate(new)}
        columns = np.array([where[settings_key(entry)] for entry in other.settings], dtype=np.int64)
        targets = np.array([rows[print_] for print_ in other.fingerprints], dtype=np.int64)

        def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            table = np.full((len(rows), len(settings)), np.nan)
            table[: len(self), : first.shape[1]] = first
            block = np.ix_(targets, columns)
            table[block] = np.where(np.isnan(second), table[block], second)
            return table

        return Experience(
            settings,
            (*self.names, *(other.names[n] for n in new)),
            {name: joined(table, other.scores[name]) for name, table in self.scores.items()},
            (*self.groups, *(other.groups[n] for n in new)),
            (*self.fingerprints, *(other.fingerprints[n] for n in new)),
            np.concatenate([self.features, other.features[new]]),
            joined(self.seconds, other.seconds),
            self.measure,
        )

    @classmethod
    def from_trials(
        cls,
        trials: Any,
        *,
        task: str,
        score: str,
        settings: Sequence[str] | None = None,
        candidates: int = 1000,
        measure: str = "score",
        random_state: int = 0,
    ) -> Experience:
        """Make a table of trials in which every task tried settings of its own, as a search log holds them.

        Some of all settings become the columns; what a task would score there is predicted by extremely randomised
        trees that are fitted to its own trials.

        Parameters
        ----------
        trials : data frame
            One row a trial.
        task, score : str
            Columns that name the task and hold the score (more is better).
        settings : sequence of str, optional
            Columns that are arguments of the estimator; all others when not given.
        candidates : int
            How many settings, drawn from all trials.
        measure : str
            What the score is called, such as ``"accuracy"``.
        random_state : int

        Examples
        --------
        >>> import pandas as pd
        >>> log = pd.DataFrame({"set": ["a"] * 3 + ["b"] * 3, "C": [1, 3, 9, 2, 4, 8], "auc": [.5, .7, .9, .5, .6, .8]})
        >>> Experience.from_trials(log, task="set", score="auc", measure="roc_auc")
        Experience(2 tasks in 2 groups, 6 settings, 100 % tried, by 'roc_auc')
        """
        from upstairs.outer.scattered import gathered

        names, columns, table = gathered(trials, task, score, settings, candidates, random_state)
        return cls(columns, names, {measure: table})

    # --- storage ----------------------------------------------------------------------------------------------------
    def stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything but the times, which differ from run to run, as JSON values and arrays."""
        document = {
            "settings": list(self.settings),
            "names": list(self.names),
            "groups": list(self.groups),
            "fingerprints": list(self.fingerprints),
            "measures": list(self.scores),
            "measure": self.measure,
        }
        arrays = {f"scores/{name}": table for name, table in self.scores.items()}
        return document, arrays | {"features": self.features}

    @classmethod
    def restored(cls, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Experience:
        """Undo `stored`."""
        scores = {name: arrays[f"scores/{name}"] for name in document["measures"]}
        pick = {name: document[name] for name in ("settings", "names", "groups", "fingerprints", "measure")}
        return cls(scores=scores, features=arrays["features"], **pick)


def _array(what: str, values: Any, shape: tuple[int, int]) -> Float[np.ndarray, "task setting"]:
    table = np.array(values, dtype=np.float64)
    if table.shape != shape:
        raise TaskError(
            f"{what} must have one row a task and one column a setting, {shape} in all, but has shape {table.shape}."
        )
    if np.isposinf(table).any():
        raise TaskError(f"{what} must be finite, NaN (not tried) or -inf (failed), but holds +inf.")
    return table
