"""A stream in progress: how rows are read, the contest of worlds, those that follow it, and the reservoir of a growing prior.

Everything is immutable: learning gives another one, so that a call that fails has learned nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import clone

from upstairs.errors import TaskError
from upstairs.inner.rule import Gaussian, Prediction
from upstairs.learners.meta import MetaLearner
from upstairs.online.contest import Contest, Declared, Known, Odds, begin, border, mapped, mixed, step, under
from upstairs.online.detectors import OF_ERRORS, DriftDetector, Watches
from upstairs.online.following import Following, follow, start_following
from upstairs.online.growing_experience import ExperienceGrowth
from upstairs.online.growth import Growth
from upstairs.online.memory import shrunk
from upstairs.online.open_reading import OpenReader, SettingsReader, Windows, open_reader, restored_reader
from upstairs.online.reading import PriorReader, Reader
from upstairs.online.stored import contest_restored, contest_stored, following_restored, following_stored
from upstairs.online.worlds import World

__all__ = ["Limits", "Live", "begin_open", "begin_prior", "restored_live", "stored_live"]

ALARM = 0.05
"""Probability a row that the world changes, in the chunk after an alarm."""
LIGHT = 1e-4
"""Candidates of less weight are not asked for a prediction."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept: worlds, rows of each, tasks; how followers forget; steps of a growing prior and when it grows; the seed."""

    memory: int
    rows: int
    reservoir: int
    forgetting: Any
    meta_steps: int
    growth: float
    seed: int
    detectors: tuple[DriftDetector, ...] = ()

    @property
    def windows(self) -> Windows:
        """What readers need to know of it."""
        return self.rows, self.forgetting


@dataclass(frozen=True, slots=True)
class Live:
    """All that has been learned of a stream; ``names`` are the keys of its rows, where they came as dictionaries.

    ``alarms`` are the rows at which detectors gave an alarm, and their names; ``alarmed`` is for how many more rows the last one counts.
    The detectors themselves (``watches``) are told every row that is learned, and are the one part that changes in place.
    """

    reader: Reader
    contest: Contest
    following: Following
    changes: tuple[Declared, ...] = ()
    growth: Growth | ExperienceGrowth | None = None
    names: tuple[str, ...] = ()
    alarms: tuple[tuple[int, str], ...] = ()
    alarmed: int = 0
    watches: Watches | None = None

    def with_labels(self, labels: Shaped[np.ndarray, " row"], classes: Any, limits: Limits) -> Live:
        """Labels that have not been met widen what has been learned, where there is no prior."""
        reader = self.reader
        if not isinstance(reader, OpenReader) or reader.labels is None:
            return self
        more = [np.asarray(part) for part in (labels, classes) if part is not None and len(part)]
        return self._widened(reader, reader.labels, np.concatenate(more), limits) if more else self

    def at_border(self, world: int, limits: Limits) -> Live:
        """Go to another world, because a user says so."""
        ended = self.contest.held
        contest, declared = border(self.contest, self.reader.worlds, world)
        return replace(self, contest=contest, changes=(*self.changes, declared))._grown(ended, limits)

    def learned(
        self,
        x: Float[np.ndarray, "row feature"],
        y: Shaped[np.ndarray, " row"],
        odds: Odds,
        limits: Limits,
    ) -> Live:
        """Learn encoded rows in their order, a chunk at a time."""
        live, start = self, 0
        while start < len(y):
            stop = start + max(1, odds.chunk - live.contest.since)
            live = live._step(x[start:stop], y[start:stop], odds, limits)
            start = stop
        return live

    def predicted(self, x: Float[np.ndarray, "row feature"]) -> Prediction:
        """Predict encoded rows by all that may hold."""
        contest, worlds = self.contest, self.reader.worlds
        heavy = np.flatnonzero(contest.weight > LIGHT)
        candidates = contest.candidates
        weight = contest.weight[heavy] / contest.weight[heavy].sum()
        said = mixed([worlds.predict(candidates[place], x) for place in heavy.tolist()], weight)
        if not self.reader.followers:
            return said
        return mixed(self.following.predictions(self.reader.followers, said, x), self.following.weight)

    def _step(self, x: np.ndarray, y: np.ndarray, odds: Odds, limits: Limits) -> Live:
        reader, held = self.reader, self.contest.held.name
        warned = replace(odds, hazard=max(odds.hazard, ALARM)) if self.alarmed and odds.hazard else odds
        contest, found, said = step(self.contest, reader.worlds, x, y, warned)
        live = replace(self, contest=contest, following=follow(self.following, reader.followers, x, y, said))
        live = live._watched(self.contest.held.world, x, y, odds.chunk)
        if found is not None:
            live = replace(live, changes=(*live.changes, found))
            live = live._grown(next(entry for entry in contest.known if entry.name == held), limits)
        return replace(live, contest=shrunk(live.contest, live.reader.worlds, limits.memory))

    def _watched(self, held: World, x: np.ndarray, y: np.ndarray, lasts: int) -> Live:
        """Tell the detectors how the world that held predicted rows; an alarm counts for ``lasts`` rows."""
        if self.watches is None:
            return self
        said = self.reader.worlds.predict(held, x)
        if isinstance(said, Gaussian):
            loss = np.minimum(np.abs(y - said.mean[0]) / np.sqrt(said.variance[0]), 4.0) / 4.0
        else:
            loss = (said.probability[0].argmax(axis=1) != y).astype(np.float64)
        found = self.watches.update(x, loss)
        alarms = (*self.alarms, *((self.contest.rows, name) for name in found))
        return replace(self, alarms=alarms, alarmed=lasts if found else max(0, self.alarmed - len(y)))

    def _grown(self, ended: Known, limits: Limits) -> Live:
        """Let the prior grow by a world that has ended; not for each one where there are many."""
        reader, growth, name = self.reader, self.growth, f"world {ended.name}"
        if isinstance(growth, Growth) and isinstance(reader, PriorReader):
            old = reader.template._prior_read()
            growth, prior = growth.after(old, name, ended.world, limits.reservoir, limits.seed)
        elif isinstance(growth, ExperienceGrowth) and isinstance(reader, SettingsReader):
            growth, prior = growth.after(reader.prior, name, ended.world, reader.labels, limits.reservoir)
        else:
            return self
        if prior is None:
            return replace(self, growth=growth)
        reader = reader.with_prior(prior, limits.windows)
        makers = reader.followers
        again = tuple(maker.again(world) for maker, world in zip(makers, self.following.worlds, strict=True))
        following = replace(self.following, worlds=again)
        contest = under(self.contest, reader.worlds)
        return replace(self, reader=reader, contest=contest, following=following, growth=growth)

    def _widened(self, reader: OpenReader, labels: np.ndarray, more: np.ndarray, limits: Limits) -> Live:
        if not set(more.tolist()) - set(labels.tolist()):
            return self
        wide, places = reader.more_labels(more, limits.windows)
        contest = mapped(self.contest, lambda world: wide.worlds.widened(world, places))
        pairs = zip(wide.followers, self.following.worlds, strict=True)
        worlds = tuple(maker.widened(world, places) for maker, world in pairs)
        return replace(self, reader=wide, contest=contest, following=replace(self.following, worlds=worlds))


def begin_prior(learner: Any, limits: Limits) -> Live:
    """Begin with what a prior knows; it grows if ``learner`` is a meta-learner."""
    grows = isinstance(learner, MetaLearner)
    template = learner.learner() if grows else clone(learner, safe=False)
    reader = PriorReader.of(template, learner, limits.rows, limits.forgetting)
    growth = Growth.of(learner, learner._kept(), limits.meta_steps, limits.growth) if grows else None
    contest = begin(reader.worlds)
    watches = _watches(limits, reader, contest)
    return Live(reader, contest, start_following(reader.followers), growth=growth, watches=watches)


def begin_open(learner: Any, X: Any, y: Any, classes: Any, limits: Limits) -> Live | None:
    """Begin with the first rows of a stream whose learner knows no columns; None if they have no label."""
    reader = open_reader(learner, X, y, classes, limits.windows)
    if reader.labels is not None and not len(reader.labels):
        return None
    growth = ExperienceGrowth.of(learner, limits.growth) if isinstance(learner, MetaLearner) else None
    contest, following = begin(reader.worlds), start_following(reader.followers)
    return Live(reader, contest, following, growth=growth, watches=_watches(limits, reader, contest))


def _watches(limits: Limits, reader: Reader, contest: Contest) -> Watches | None:
    """Detectors for the columns that worlds see.

    Raises
    ------
    TaskError
        For a detector of errors on a regression.
    """
    of_errors = [detector.method for detector in limits.detectors if detector.method in OF_ERRORS]
    if of_errors and reader.classes is None:
        raise TaskError(
            f"detectors: {of_errors[0]!r} watches errors of classes; take 'adwin', 'kswin' or 'page-hinkley'."
        )
    return Watches(limits.detectors, contest.newborn.x.shape[1]) if limits.detectors else None


def stored_live(live: Live) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Write a stream in progress, but not its prior, as JSON values and arrays."""
    document, arrays = contest_stored(live.contest, live.reader.worlds)
    document["following"], more = following_stored(live.following, live.reader.followers)
    document |= {"changes": [asdict(change) for change in live.changes], "names": list(live.names)}
    document |= {"alarms": [list(alarm) for alarm in live.alarms], "alarmed": live.alarmed}
    more |= {} if live.watches is None else live.watches.stored()
    if live.growth is not None:
        document["growth"], grown = live.growth.stored()
        more |= {f"growth/{name}": array for name, array in grown.items()}
    if isinstance(live.reader, OpenReader):
        document |= live.reader.stored()
    return document, arrays | more


def restored_live(learner: Any, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray], limits: Limits) -> Live:
    """Undo `stored_live`."""
    reader: Reader
    growth: Growth | ExperienceGrowth | None = None
    kept = {name[7:]: array for name, array in arrays.items() if name.startswith("growth/")}
    if "columns" in document:
        reader = restored_reader(learner, document, limits.windows)
        if "growth" in document:
            growth = ExperienceGrowth.of(learner, limits.growth).restored(document["growth"], kept)
    else:
        grows = isinstance(learner, MetaLearner)
        reader = PriorReader.of(learner.learner() if grows else learner, learner, limits.rows, limits.forgetting)
        if "growth" in document:
            growth = Growth.restored(learner, document["growth"], kept, limits.meta_steps, limits.growth)
    contest = contest_restored(document, arrays, reader.worlds)
    watches = _watches(limits, reader, contest)
    if watches is not None:
        watches.restore(arrays)
    return Live(
        reader,
        contest,
        following_restored(document["following"], arrays, start_following(reader.followers), reader.followers),
        tuple(Declared(**change) for change in document["changes"]),
        growth,
        tuple(document["names"]),
        tuple((at, name) for at, name in document["alarms"]),
        document["alarmed"],
        watches,
    )
