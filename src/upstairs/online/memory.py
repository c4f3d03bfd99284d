"""How many worlds are remembered: when there are too many, two that are alike become one, or the one that held longest ago is forgotten.

Two worlds are alike if their rows together have more evidence under the prior as one task than as two. The pair that gains
most is merged; if no pair gains anything, and where there is no prior to say so, the world that has not held for longest goes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

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
        gains = {pair: _together(contest, worlds, *pair) for pair in combinations(others, 2)}
        found = {pair: entry for pair, entry in gains.items() if entry is not None}
        if found:
            pair = max(found, key=lambda pair: found[pair][0])
            contest = _merged(contest, *pair, found[pair][1])
        else:
            contest = _without(contest, min(others, key=lambda place: contest.known[place].last))
    return contest


def _together(contest: Contest, worlds: Worlds, first: int, second: int) -> tuple[float, World] | None:
    """Two worlds as one, rows of the one that held last the newer ones."""
    old, new = sorted((contest.known[first], contest.known[second]), key=lambda entry: entry.last)
    return worlds.merged(old.world, new.world)


def _merged(contest: Contest, first: int, second: int, world: World) -> Contest:
    """The younger of two worlds becomes part of the other."""
    one, other = contest.known[first], contest.known[second]
    known = list(contest.known)
    known[first] = Known(world, min(one.name, other.name), max(one.last, other.last))
    weight = contest.weight.copy()
    weight[first] += weight[second]
    return _without(replace(contest, known=tuple(known), weight=weight), second)


def _without(contest: Contest, place: int) -> Contest:
    known = (*contest.known[:place], *contest.known[place + 1 :])
    weight = np.delete(contest.weight, place)
    holding = contest.holding - (contest.holding > place)
    return replace(contest, known=known, weight=weight / weight.sum(), holding=holding)
