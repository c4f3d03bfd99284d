"""Which world is it? A contest between staying, going back to a world that is known, and starting again from the prior.

Every row is predicted by all candidates: the world that holds, the worlds in memory, and challengers, which started from the prior
a few rows ago. A candidate's weight is its posterior probability: it is multiplied by the likelihood of the row, and before
each row a share ``hazard`` of all weight is given up and dealt anew, to the known worlds and to a newborn that knows the prior
alone: Bayes' rule for a world that changes with probability ``hazard`` a row [1]_ [2]_. Nothing waits for an alarm: predictions are
those of all candidates, weighted. A change is *declared* when the world that held has lost its weight.

Challengers are few: each chunk of rows gives birth to one, and only the heaviest stay. Until its chunk is full it is the newborn, which
is dealt what challengers are dealt. What the world that held has learned since a chunk before a challenger was born is undone when that
challenger wins: the world may have changed in the middle of a chunk.

References
----------
.. [1] Herbster, M. and Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32 (fixed share).
.. [2] Adams, R. P. and MacKay, D. J. C. (2007). Bayesian online changepoint detection. arXiv 0710.3742.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.rule import Categorical, Gaussian, Prediction
from upstairs.online.worlds import World, Worlds

__all__ = ["Challenger", "Contest", "Declared", "Known", "Odds", "begin", "border", "mapped", "mixed", "step", "under"]

CHALLENGERS = 5
"""Candidates that started from the prior a while ago, the newborn left out."""
DECLARED = 0.9
"""Weight with which challengers together are declared to be a new world."""
RECALLED = 0.5
"""Weight with which a known world is declared to be back."""


@dataclass(frozen=True, slots=True)
class Odds:
    """How worlds are expected to change, and how much a row says about it.

    Parameters
    ----------
    hazard : float
        Probability a row that the world changes.
    recall : float
        Probability that it changes to a known world, and not to one that has never been met.
    temper : float
        Power of the likelihoods: a learned prior is never quite right, and with the full likelihood small errors of the model add up
        to alarms (Gruenwald 2012, the safe Bayesian).
    chunk : int
        Rows from one birth to the next.
    """

    hazard: float
    recall: float
    temper: float
    chunk: int


@dataclass(frozen=True, slots=True)
class Known:
    """A world in memory: its name (the how many-th world of the stream), and the row of the stream at which it last held."""

    world: World
    name: int
    last: int


@dataclass(frozen=True, slots=True)
class Challenger:
    """A world that may have begun some rows (``age``) ago, and what the world that held was like a chunk before."""

    world: World
    before: World
    age: int = 0


@dataclass(frozen=True, slots=True)
class Contest:
    """All candidates and their weights, which sum to one: known worlds, challengers, and the newborn last.

    ``holding`` is the place among the known worlds of the one that holds; ``chunk_start`` is what that one was like when the newborn
    began, ``since`` rows ago, and ``earlier`` a chunk before that; ``rows`` is how many rows the stream has had, ``met`` how many worlds.
    """

    known: tuple[Known, ...]
    holding: int
    challengers: tuple[Challenger, ...]
    newborn: World
    weight: Float[np.ndarray, " candidate"]
    earlier: World
    chunk_start: World
    since: int = 0
    rows: int = 0
    met: int = 1

    @property
    def candidates(self) -> list[World]:
        """Worlds in the order of the weights."""
        return [*(entry.world for entry in self.known), *(entry.world for entry in self.challengers), self.newborn]

    @property
    def held(self) -> Known:
        """The known world that holds."""
        return self.known[self.holding]


@dataclass(frozen=True, slots=True)
class Declared:
    """A change: ``kind`` is "new", "recall" or "border", ``world`` the name of the one that holds now, ``at`` the row of the stream."""

    kind: str
    world: int
    at: int


def begin(worlds: Worlds) -> Contest:
    """Return the contest of a stream of which nothing has been seen."""
    blank = worlds.blank()
    return Contest((Known(blank, 0, 0),), 0, (), blank, np.array([1.0, 0.0]), blank, blank)


def mapped(contest: Contest, change: Callable[[World], World]) -> Contest:
    """Return the contest with every world changed."""
    return replace(
        contest,
        known=tuple(replace(entry, world=change(entry.world)) for entry in contest.known),
        challengers=tuple(
            replace(entry, world=change(entry.world), before=change(entry.before)) for entry in contest.challengers
        ),
        newborn=change(contest.newborn),
        earlier=change(contest.earlier),
        chunk_start=change(contest.chunk_start),
    )


def mixed(predictions: Sequence[Prediction], weight: Float[np.ndarray, " candidate"]) -> Prediction:
    """Average predictions by their weights; a mixture of normal distributions is given by its moments."""
    if isinstance(predictions[0], Categorical):
        parts = [w * entry.probability for w, entry in zip(weight, predictions, strict=True)]  # type: ignore[union-attr]
        return Categorical(np.sum(parts, axis=0))
    mean = np.stack([entry.mean for entry in predictions])  # type: ignore[union-attr]
    variance = np.stack([entry.variance for entry in predictions])  # type: ignore[union-attr]
    share = weight[:, None, None]
    middle = (share * mean).sum(axis=0)
    return Gaussian(middle, (share * (variance + np.square(mean - middle))).sum(axis=0))


def step(
    contest: Contest, worlds: Worlds, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], odds: Odds
) -> tuple[Contest, Declared | None, Float[np.ndarray, " row"]]:
    """Weigh all candidates by some rows, then let those learn them that may hold.

    Parameters
    ----------
    contest, worlds
        Candidates so far, and how they learn.
    x, y
        Rows, encoded; no more than the chunk of the newborn has left, ``odds.chunk - contest.since``.
    odds
        How worlds change.

    Returns
    -------
    contest
    declared
        The change that was declared, if any.
    said
        Log predictive density of each row, before it was learned.
    """
    density = np.array([worlds.log_density(world, x, y) for world in contest.candidates])
    weight, said = _weighed(contest, density, odds)
    learned = _learned(replace(contest, weight=weight), worlds, x, y)
    return *_judged(_born(learned, worlds, odds.chunk), worlds), said


def border(contest: Contest, worlds: Worlds, name: int | None = None) -> tuple[Contest, Declared]:
    """Change worlds where a user says so.

    Parameters
    ----------
    contest, worlds
        Candidates so far, and how they begin.
    name
        Of a known world to go back to, or of a new one; None: a new one with the next free number.
    """
    place = next((number for number, entry in enumerate(contest.known) if entry.name == name), None)
    if place is not None:
        moved = _settled(contest, worlds, contest.known, place)
        return moved, Declared("border", contest.known[place].name, contest.rows)
    blank = worlds.blank(contest.held.world)
    new = Known(blank, contest.met if name is None else name, contest.rows)
    met = max(contest.met, new.name) + 1
    moved = _settled(replace(contest, met=met), worlds, (*contest.known, new), len(contest.known))
    return moved, Declared("border", new.name, contest.rows)


def under(contest: Contest, worlds: Worlds) -> Contest:
    """Return the contest under a prior that has changed, just after a change: known worlds are adapted anew to the rows they kept."""
    known = tuple(replace(entry, world=worlds.again(entry.world)) for entry in contest.known)
    return _settled(contest, worlds, known, contest.holding)


def _weighed(
    contest: Contest, density: Float[np.ndarray, "candidate row"], odds: Odds
) -> tuple[Float[np.ndarray, " candidate"], Float[np.ndarray, " row"]]:
    """Posterior weights after some rows, a row at a time, and the log density of each row under all candidates."""
    known, weight = len(contest.known), contest.weight
    others = [number for number in range(known) if number != contest.holding]
    share = np.zeros(len(weight))
    share[-1] = 1.0 - (odds.recall if others else 0.0)
    share[others] = odds.recall / max(len(others), 1)
    top = density.max(axis=0)
    likely = np.exp(density - top)
    tempered = likely**odds.temper
    said = np.empty(density.shape[1])
    for row in range(density.shape[1]):
        weight = (1.0 - odds.hazard) * weight + odds.hazard * share
        said[row] = weight @ likely[:, row]
        weight = weight * tempered[:, row]
        weight = weight / weight.sum()
    return weight, np.log(said) + top


def _learned(contest: Contest, worlds: Worlds, x: np.ndarray, y: np.ndarray) -> Contest:
    """The world that holds, all challengers and the newborn learn rows."""
    held, rows = contest.held, contest.rows + len(y)
    known = _with(contest.known, contest.holding, Known(worlds.learn(held.world, x, y), held.name, rows))
    challengers = tuple(
        replace(entry, world=worlds.learn(entry.world, x, y, later=True), age=entry.age + len(y))
        for entry in contest.challengers
    )
    newborn = worlds.learn(contest.newborn, x, y, later=True)
    since = contest.since + len(y)
    return replace(contest, known=known, challengers=challengers, newborn=newborn, since=since, rows=rows)


def _born(contest: Contest, worlds: Worlds, chunk: int) -> Contest:
    """When its chunk is full, the newborn becomes a challenger, and the lightest of too many challengers goes."""
    if contest.since < chunk:
        return contest
    count = len(contest.known)
    entries = [*contest.challengers, Challenger(contest.newborn, contest.earlier, contest.since)]
    weight = contest.weight[count:]
    keep = sorted(np.argsort(-weight, kind="stable")[:CHALLENGERS].tolist())
    kept = np.concatenate([contest.weight[:count], weight[keep], [0.0]])
    return replace(
        contest,
        challengers=tuple(entries[k] for k in keep),
        newborn=worlds.blank(contest.held.world),
        weight=kept / kept.sum(),
        earlier=contest.chunk_start,
        chunk_start=contest.held.world,
        since=0,
    )


def _judged(contest: Contest, worlds: Worlds) -> tuple[Contest, Declared | None]:
    """Declare a change where the world that holds has lost its weight: to a known one, or to challengers together.

    A challenger soon knows a world that was recalled as well as memory does; half of the weight is therefore enough to recall.
    """
    count = len(contest.known)
    best = int(np.argmax(contest.weight[:count]))
    lost = contest.weight[contest.holding] <= 1.0 - DECLARED
    if best != contest.holding and lost and contest.weight[best] >= RECALLED:
        known = _undone(contest)
        return _settled(contest, worlds, known, best), Declared("recall", known[best].name, contest.rows)
    of_challengers = contest.weight[count:-1]
    if of_challengers.sum() < DECLARED:
        return contest, None
    winner = contest.challengers[int(np.argmax(of_challengers))]
    if winner.before.total == 0:  # nothing was known before: the first world of the stream began a little later
        known = _with(contest.known, contest.holding, replace(contest.held, world=winner.world))
        return _settled(contest, worlds, known, contest.holding), None
    known = (*_undone(contest), Known(winner.world, contest.met, contest.rows))
    moved = _settled(replace(contest, met=contest.met + 1), worlds, known, count)
    return moved, Declared("new", contest.met, contest.rows)


def _undone(contest: Contest) -> tuple[Known, ...]:
    """Known worlds, the one that held as it was when the heaviest challenger was born."""
    if not contest.challengers:
        return contest.known
    heaviest = contest.challengers[int(np.argmax(contest.weight[len(contest.known) : -1]))]
    return _with(contest.known, contest.holding, replace(contest.held, world=heaviest.before))


def _settled(contest: Contest, worlds: Worlds, known: tuple[Known, ...], holding: int) -> Contest:
    """Start the contest anew from the world that holds."""
    weight = np.zeros(len(known) + 1)
    weight[holding] = 1.0
    world = known[holding].world
    return replace(
        contest,
        known=known,
        holding=holding,
        challengers=(),
        newborn=worlds.blank(world),
        weight=weight,
        earlier=world,
        chunk_start=world,
        since=0,
    )


def _with(known: tuple[Known, ...], place: int, entry: Known) -> tuple[Known, ...]:
    return (*known[:place], entry, *known[place + 1 :])
