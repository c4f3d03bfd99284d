"""Drift inside a world: learners that forget go along, and count as much as they have predicted lately.

The contest of worlds and each follower are experts in one mixture with a fixed share [1]_: a row multiplies the weight of each by
its predictive likelihood, and before the next a share of all weight is dealt anew. Followers never learn which world holds; in a world
that stands still the contest knows more and soon has nearly all the weight, and where nothing stands still a follower has.

References
----------
.. [1] Herbster, M. and Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32 (fixed share).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.logistic import BayesianLogistic
from upstairs.inner.rule import Prediction
from upstairs.learners.adaptation import Situation
from upstairs.online.prior_worlds import PriorWorlds
from upstairs.online.recursive_worlds import RecursiveWorlds
from upstairs.online.worlds import World, Worlds

__all__ = ["Following", "follow", "forgetful_worlds", "start_following"]

RATES = (0.998, 0.99, 0.95)
"""How fast followers forget, unless something else is said."""
MOVING = (0.99, 0.95)
"""The same for followers that make steps: 100 and 20 rows."""

SHARE = 0.002
"""Probability a row that another expert becomes the right one."""


@dataclass(frozen=True, slots=True)
class Following:
    """What followers have learned, and the weights of the contest (first) and of each follower; they sum to one."""

    worlds: tuple[World, ...]
    weight: Float[np.ndarray, " expert"]

    def predictions(
        self, makers: tuple[Worlds, ...], contest: Prediction, x: Float[np.ndarray, "row feature"]
    ) -> list[Prediction]:
        """Return what every expert predicts, in the order of the weights."""
        return [contest, *(maker.predict(world, x) for maker, world in zip(makers, self.worlds, strict=True))]


def start_following(makers: tuple[Worlds, ...]) -> Following:
    """Return followers that have seen nothing; the contest has half of the weight."""
    return Following(tuple(maker.blank() for maker in makers), _first_weights(len(makers)))


def _first_weights(followers: int) -> Float[np.ndarray, " expert"]:
    return np.array([0.5, *[0.5 / followers] * followers]) if followers else np.ones(1)


def follow(
    following: Following,
    makers: tuple[Worlds, ...],
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    contest: Float[np.ndarray, " row"],
) -> Following:
    """Weigh the experts by a chunk, then let the followers learn it.

    Parameters
    ----------
    following, makers
        So far, and how each follower learns.
    x, y
        A chunk, encoded.
    contest
        Log predictive density of each row under the contest of worlds, before it was learned.
    """
    if not makers:
        return following
    experts = zip(makers, following.worlds, strict=True)
    density = np.stack([contest, *(maker.log_density(world, x, y) for maker, world in experts)])
    weight, dealt = following.weight, SHARE * _first_weights(len(makers))
    for row in density.T:
        weight = weight * np.exp(row - row.max())
        weight = (1.0 - SHARE) * weight / weight.sum() + dealt
    learned = tuple(maker.learn(world, x, y) for maker, world in zip(makers, following.worlds, strict=True))
    return Following(learned, weight)


def forgetful_worlds(situation: Situation, most_rows: int, forgetting: Any) -> tuple[Worlds, ...]:
    """Return worlds that follow a drift within a task from a prior, one for each rate of forgetting.

    Where the rule forgets in closed form, a row that is ``k`` rows old counts ``rate ** k``, and so it does for two classes under a
    prior on the weights of a logistic regression; elsewhere the newest ``1 / (1 - rate)`` rows count, as many as the sum of those
    weights. Where a task starts from learned weights, every chunk is followed by steps from where the follower stands, down the loss of
    these rows.

    Parameters
    ----------
    situation, most_rows
        The prior, read, and how many rows are kept of a world.
    forgetting : "auto", sequence of float or None
        Rates; "auto": `RATES` in closed form, `MOVING` where steps are made (but not of networks for images), and none elsewhere.
    """
    logistic = type(situation.rule) is BayesianLogistic and situation.ways == 2
    rates = forgetting or ()
    if forgetting == "auto":
        light = situation.rule.moves and not situation.rule.one_by_one
        rates = RATES if logistic or situation.rule.fades else MOVING if light else ()
    if logistic:
        assert situation.encoder is not None
        assert situation.params is not None
        params = situation.rule.override(situation.params, situation.settings)
        return tuple(RecursiveWorlds.of(params, situation.encoder.width, rate) for rate in rates)
    if situation.rule.fades:
        return tuple(PriorWorlds(situation, 1, rate) for rate in rates)
    windows = [most_rows if rate == 1.0 else min(most_rows, max(1, round(1.0 / (1.0 - rate)))) for rate in rates]
    return tuple(PriorWorlds(situation, window, moves=situation.rule.moves) for window in windows)
