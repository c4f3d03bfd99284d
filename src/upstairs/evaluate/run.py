"""Measure learners and baselines on the same frozen episodes."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone

from upstairs.errors import FamiliarityWarning, TaskError, UpstairsError
from upstairs.evaluate.episodes import Episode, Episodes, LeftOut, Order, freeze
from upstairs.evaluate.metrics import metrics_for, score
from upstairs.evaluate.prepare import Entry, check_learners, ready, ready_baselines, situation, target_scale
from upstairs.evaluate.result import KEYS, EvaluationResult
from upstairs.learners.base import PriorEstimator
from upstairs.learners.baselines import Baseline, Situated
from upstairs.learners.meta import MetaLearner
from upstairs.outer.threads import threads_for, total_rows
from upstairs.tasks.table import Table

__all__ = ["evaluate"]

CHUNK = 256
"""Episodes that are adapted in one go; the same for any ``n_jobs``, as results must not depend on it."""


def evaluate(
    learners: Any,
    test: Any,
    *,
    train: Any = None,
    shots: Any = (1, 5, 10),
    ways: int | None = None,
    queries: int | None = 15,
    draws: int | None = None,
    baselines: Any = "auto",
    metric: str | None = None,
    random_state: Any = 0,
    n_jobs: int | None = 1,
    progress: Callable[[int, int], None] | None = None,
    order: Order = None,
) -> EvaluationResult:
    """Measure learners beside baselines on test tasks that none of them has seen.

    Support and query rows are drawn once, from a random stream of each task, and are the same for every learner.

    Parameters
    ----------
    learners : mapping of name to learner
        A meta-learner (fitted, or unfitted and then fitted to ``train``), any object with ``adapt(X, y)`` that
        returns a fitted estimator, or an unfitted scikit-learn estimator (fitted to every support; where its
        ``random_state`` is None it gets one of the task's own). May be empty: only baselines are measured.
    test : TaskSet or ClassPool
        Held-out tasks, or held-out classes from which episodes are drawn.
    train : TaskSet or ClassPool, optional
        Training tasks, for unfitted meta-learners and for the baselines that learn from them.
    shots : int or sequence of int
        Support rows: in all for a regression and for labels that tasks share, a class for labels of a task's own.
    ways : int, optional
        Classes an episode, for labels of a task's own. None: all of the task's, and 5 of a class pool.
    queries : int, optional
        Most query rows, counted like ``shots``. None: all that remain (needed where a class is rare).
    draws : int, optional
        Draws of each task, by default 1; for a class pool the number of episodes, by default 200.
    baselines : "auto", sequence of str, or None
        "auto": all that apply. Names are those in `upstairs.learners.baselines.BASELINES`; "tuned" is the slow one.
    metric : str, optional
        The primary metric. By default "mse" (regression), "auc" (two shared classes) or "accuracy".
    random_state : int, numpy generator, or None
    n_jobs : int, optional
        Processes; the records do not depend on it, but for the seconds.
    progress : callable, optional
        Called with the number of episodes measured and to be measured.
    order : optional
        Earlier rows are support and later ones query. A column name, a function of a task that gives a value a row,
        or True: rows as they lie. None: at random.

    Returns
    -------
    EvaluationResult

    Raises
    ------
    TaskError
        For tasks in both sets, tasks that are all too small, or an argument out of range.
    UpstairsError
        If a learner fails on an episode; names learner, task and shots.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from upstairs.tasks import Task, TaskSet
    >>> rng = np.random.default_rng(0)
    >>> def line(name):
    ...     x = rng.normal(size=(30, 1))
    ...     return Task(x, 3.0 * x[:, 0] + rng.normal() + 0.1 * rng.normal(size=30), name=name)
    >>> tasks = TaskSet([line(f"t{number}") for number in range(20)])
    >>> train, _, test = tasks.split(valid=0, test=0.5, random_state=0)
    >>> result = evaluate({"ridge": Ridge()}, test, train=train, shots=[2], baselines=["linear Gaussian prior"])
    >>> [row.learner for row in result.table(2)]
    ['linear Gaussian prior', 'ridge']
    """
    check_learners(learners)
    at = situation(learners, test, train)
    known = metrics_for(at.kind, at.labels, len(at.classes))
    if metric is not None and metric not in known:
        raise TaskError(
            f"metric={metric!r} is not measured on such tasks; choose one of {', '.join(map(repr, known))}."
        )
    seed = _number(random_state)
    episodes = freeze(
        test, shots=_listed(shots), ways=ways, queries=queries, draws=draws, random_state=seed, order=order
    )
    notes: list[str] = []
    with threads_for(total_rows(train)):
        entries = [ready(name, learner, train) for name, learner in learners.items()]
        entries += ready_baselines(baselines, learners, at, train, notes)
    if not entries:
        raise TaskError(
            "There is nothing to measure: learners is empty and no baseline applies; pass learners={'name': learner}."
        )
    scale = target_scale(test, train) if at.kind == "regression" else 1.0
    with threads_for(total_rows(test)):
        records = _run(entries, episodes, at, scale, seed, n_jobs, progress)
    columns, fallbacks = _columns(records, known)
    notes += [
        f"{name!r} fell back in {count} of {len(episodes)} episodes: {why}" for (name, why), count in fallbacks.items()
    ]
    primary = metric or known[0]
    if np.isnan(columns[primary]).all():
        raise TaskError(
            f"{primary} could not be measured on any of {len(episodes)} episodes (one class among the query rows?); ask for more "
            "query rows (queries=None), or for another metric."
        )
    return EvaluationResult(
        columns=MappingProxyType(columns),
        kind=at.kind,
        labels=at.labels,
        metric=primary,
        learners=tuple(entry.name for entry in entries),
        baselines=tuple(entry.name for entry in entries if entry.baseline),
        meta_seconds=MappingProxyType({entry.name: entry.seconds for entry in entries}),
        left_out=(*episodes.left_out, *_unmeasured(columns, entries[0].name)),
        notes=tuple(notes),
        episodes_hash=episodes.hash,
        scale=scale,
    )


# --- measuring --------------------------------------------------------------------------------------------------
def _run(
    entries: Sequence[Entry],
    episodes: Episodes,
    at: Situated,
    scale: float,
    seed: int,
    n_jobs: int | None,
    progress: Any,
) -> list[dict[str, Any]]:
    def jobs() -> Iterator[tuple[Entry, list[Episode]]]:
        for places in episodes.chunks(CHUNK):
            read = [episodes.read(place) for place in places]
            for entry in entries:
                yield entry, read

    if n_jobs in (None, 1):
        parts: Any = (_measure(entry, read, at, scale, seed) for entry, read in jobs())
    else:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
        parts = parallel(joblib.delayed(_measure)(entry, read, at, scale, seed) for entry, read in jobs())
    records: list[dict[str, Any]] = []
    for part in parts:
        records += part
        if progress is not None:
            progress(len(records), len(entries) * len(episodes))
    return records


def _measure(entry: Entry, episodes: Sequence[Episode], at: Situated, scale: float, seed: int) -> list[dict[str, Any]]:
    """Adapt one learner to some episodes and score it on their query rows."""
    records = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FamiliarityWarning)
        adapted = _adapt(entry, episodes, seed)
        for episode, (model, seconds) in zip(episodes, adapted, strict=True):
            X, y = _columns_for(entry.learner, episode.query.X), episode.query.y
            classes = at.classes or episode.support.classes
            start = time.perf_counter()
            try:
                found = score(model, X, y, kind=at.kind, labels=at.labels, classes=classes, scale=scale)
            except Exception as error:
                raise _failure(entry, episode, "predict", error) from error
            taken = time.perf_counter() - start
            keys = (0, episode.name, episode.group, episode.shots, episode.draw, entry.name, len(y), seconds, taken)
            record = dict(zip(KEYS, keys, strict=True)) | found
            fallback = getattr(model, "fallback", "") if entry.baseline else ""
            records.append(record | ({"fallback": fallback} if fallback else {}))
    return records


def _adapt(entry: Entry, episodes: Sequence[Episode], seed: int) -> list[tuple[Any, float]]:
    learner = entry.learner
    if entry.how == "adapt" and hasattr(learner, "adapt_many"):
        start = time.perf_counter()
        try:
            models = list(learner.adapt_many([episode.support for episode in episodes]))
        except Exception as error:
            for episode in episodes:  # find out which one it is
                try:
                    learner.adapt(_columns_for(learner, episode.support.X), episode.support.y)
                except Exception as one:
                    raise _failure(entry, episode, "adapt", one) from one
            raise UpstairsError(
                f"Learner {entry.name!r} failed in adapt_many, {type(error).__name__}: {error}"
            ) from error
        each = (time.perf_counter() - start) / len(episodes)
        return [(model, each) for model in models]
    found = []
    for episode in episodes:
        X, y = _columns_for(learner, episode.support.X), episode.support.y
        start = time.perf_counter()
        try:
            model = learner.adapt(X, y) if entry.how == "adapt" else _seeded(learner, episode, seed).fit(X, y)
        except Exception as error:
            raise _failure(entry, episode, "adapt", error) from error
        found.append((model, time.perf_counter() - start))
    return found


def _seeded(estimator: Any, episode: Episode, seed: int) -> Any:
    """Return a copy of an estimator; a ``random_state`` of None becomes one of the episode's own."""
    copy = clone(estimator)
    text = f"{seed}/{episode.name}/{episode.shots}/{episode.draw}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") % 2**31
    free = [key for key, value in copy.get_params().items() if value is None and key.split("__")[-1] == "random_state"]
    return copy.set_params(**dict.fromkeys(free, number)) if free else copy


def _columns_for(learner: Any, X: Any) -> Any:
    """Hand tables to our own learners as they are, to others as an array or a data frame."""
    if not isinstance(X, Table) or isinstance(learner, MetaLearner | PriorEstimator | Baseline):
        return X
    return X.to_pandas() if X.categorical else np.column_stack(X.columns)


def _failure(entry: Entry, episode: Episode, doing: str, error: Exception) -> UpstairsError:
    return UpstairsError(
        f"Learner {entry.name!r} failed to {doing} on task {episode.name!r} ({episode.shots} shots, draw {episode.draw}, "
        f"{len(episode.support)} support rows), {type(error).__name__}: {error}"
    )


# --- the record -------------------------------------------------------------------------------------------------
def _columns(records: Sequence[dict[str, Any]], known: Sequence[str]) -> tuple[dict[str, np.ndarray], Counter]:
    columns = {name: np.array([record[name] for record in records]) for name in KEYS}
    columns |= {name: np.array([record.get(name, np.nan) for record in records], dtype=np.float64) for name in known}
    fallbacks = Counter((record["learner"], record["fallback"][:120]) for record in records if "fallback" in record)
    return columns, fallbacks


def _unmeasured(columns: Mapping[str, np.ndarray], learner: str) -> list[LeftOut]:
    """Count the episodes whose query rows do not allow a metric."""
    found = []
    reasons = {"auc": "one class among the query rows", "r2": "one query row, or all query targets equal"}
    for metric, reason in reasons.items():
        if metric in columns:
            gone = np.isnan(columns[metric]) & (columns["learner"] == learner)
            for shots in np.unique(columns["shots"][gone]).tolist():
                tasks = columns["task"][gone & (columns["shots"] == shots)].tolist()
                found.append(LeftOut(shots, len(tasks), reason, tuple(dict.fromkeys(tasks))[:100], metric))
    return found


def _listed(shots: Any) -> list[Any]:
    return list(shots) if isinstance(shots, Iterable) else [shots]


def _number(random_state: Any) -> int:
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(np.random.SeedSequence(random_state).entropy)  # type: ignore[arg-type]
