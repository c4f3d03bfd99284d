"""How many worlds are remembered: when there are too many, two that are alike become one, or the one that held longest ago is forgotten.

Two worlds are alike if their rows together have more evidence under the prior as one task than as two. The pair that gains
most is merged; if no pair gains anything, the world that has not held for longest goes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from upstairs.inner.rule import Rows
from upstairs.online.contest import Contest, Known
from upstairs.online.worlds import World, Worlds

__all__ = ["shrunk"]


def shrunk(contest: Contest, worlds: Worlds, most: int) -> Contest:
    """Return the contest with at most ``most`` known worlds.

    Parameters
    ----------
    contest, worlds
        Between two chunks.
    most
        At least 1; the world that holds stays as it is.
    """
    while len(contest.known) > most:
        others = [place for place in range(len(contest.known)) if place != contest.holding]
        gains = {
            pair: _gain(worlds, *(contest.known[place].world for place in pair)) for pair in combinations(others, 2)
        }
        best = max(gains, key=lambda pair: gains[pair], default=None)
        if best is not None and gains[best] > 0.0:
            contest = _merged(contest, worlds, *best)
        else:
            contest = _without(contest, min(others, key=lambda place: contest.known[place].last))
    return contest


def _evidence(worlds: Worlds, x: np.ndarray, y: np.ndarray) -> float:
    situation = worlds.situation
    assert situation.params is not None
    if not len(y):
        return 0.0
    rows = Rows(x[None], y[None], np.ones((1, len(y)), dtype=bool))
    return float(situation.rule.evidence(situation.params, rows)[0]) * len(y)


def _gain(worlds: Worlds, one: World, other: World) -> float:
    """Log evidence that the rows of two worlds gain as one task."""
    together = _evidence(worlds, np.concatenate([one.x, other.x]), np.concatenate([one.y, other.y]))
    return together - _evidence(worlds, one.x, one.y) - _evidence(worlds, other.x, other.y)


def _merged(contest: Contest, worlds: Worlds, first: int, second: int) -> Contest:
    """The younger of two worlds becomes part of the other; rows that are newer stay longer."""
    one, other = contest.known[first], contest.known[second]
    old, new = sorted((one, other), key=lambda entry: entry.last)
    x, y = (np.concatenate([getattr(old.world, name), getattr(new.world, name)]) for name in ("x", "y"))
    total = one.world.total + other.world.total
    world = worlds.of(x[-worlds.most_rows :], y[-worlds.most_rows :], total)
    known = list(contest.known)
    known[first] = Known(world, min(one.name, other.name), new.last)
    weight = contest.weight.copy()
    weight[first] += weight[second]
    return _without(replace(contest, known=tuple(known), weight=weight), second)


def _without(contest: Contest, place: int) -> Contest:
    known = (*contest.known[:place], *contest.known[place + 1 :])
    weight = np.delete(contest.weight, place)
    holding = contest.holding - (contest.holding > place)
    return replace(contest, known=known, weight=weight / weight.sum(), holding=holding)
