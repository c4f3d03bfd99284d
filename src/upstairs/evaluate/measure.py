"""Adapt one learner to some episodes, and measure what it says about their query rows."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.base import clone

from upstairs.errors import FamiliarityWarning, UpstairsError
from upstairs.evaluate.calibration import BINS
from upstairs.evaluate.episodes import Episode
from upstairs.evaluate.metrics import score
from upstairs.evaluate.prepare import Entry
from upstairs.evaluate.result import KEYS
from upstairs.learners.base import PriorEstimator
from upstairs.learners.baselines import Baseline, Situated
from upstairs.learners.meta import MetaLearner
from upstairs.outer.peak import Peak
from upstairs.tasks.table import Table

__all__ = ["Part", "measure"]


@final
@dataclass(frozen=True)
class Part:
    """What one learner reached on some episodes with equal shots.

    ``records`` are dictionaries of `upstairs.evaluate.result.KEYS`, metrics and perhaps ``fallback``, one an episode;
    ``bins`` are those of `upstairs.evaluate.calibration`, over all query rows (zero without probabilities);
    ``megabytes`` is the peak of memory.
    """

    records: list[dict[str, Any]]
    bins: np.ndarray
    megabytes: float


def measure(entry: Entry, episodes: Sequence[Episode], at: Situated, scale: float, seed: int) -> Part:
    """Adapt one learner to some episodes and score it on their query rows.

    Raises
    ------
    UpstairsError
        If the learner fails on an episode; names learner, task and shots.
    """
    records = []
    bins = np.zeros((BINS, 3))
    with warnings.catch_warnings(), Peak() as peak:
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
            record = dict(zip(KEYS, keys, strict=True)) | found.values
            bins += 0.0 if found.bins is None else found.bins
            fallback = getattr(model, "fallback", "") if entry.baseline else ""
            records.append(record | ({"fallback": fallback} if fallback else {}))
    return Part(records, bins, peak.megabytes)


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
    own = seed if entry.seed is None else entry.seed
    found = []
    for episode in episodes:
        X, y = _columns_for(learner, episode.support.X), episode.support.y
        start = time.perf_counter()
        try:
            model = learner.adapt(X, y) if entry.how == "adapt" else _seeded(learner, episode, own).fit(X, y)
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
