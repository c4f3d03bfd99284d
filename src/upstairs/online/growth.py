"""A prior that grows with the worlds that a stream has met: follow the meta-leader over a bounded reservoir of tasks.

The prior is that which all tasks in the reservoir together recommend [1]_, the tasks that it was first learned on among them:
what is learned in closed form (weights of linear models, leaves of trees, costs of machines) is learned anew; what was decided at
the start (encoding, splits) stays, but for what may differ between tasks and for a pooled prediction, which are chosen again whenever
the tasks have doubled: a few tasks can hardly tell. A prior that is trained by gradients takes some more steps on the reservoir. When the
reservoir is full, a task drawn at random makes room, so that every task of the past has the same chance to be in it [2]_.

References
----------
.. [1] Finn, C., Rajeswaran, A., Kakade, S. and Levine, S. (2019). Online meta-learning. ICML (follow the meta-leader).
.. [2] Vitter, J. S. (1985). Random sampling with a reservoir. ACM Transactions on Mathematical Software 11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError
from upstairs.learners.meta import MetaLearner
from upstairs.learners.meta_steps import meta_stepped, takes_meta_steps
from upstairs.learners.rules import MACHINE, TREE
from upstairs.learners.seen import Seen, prior_of
from upstairs.online.worlds import World
from upstairs.outer.choose import choose, relearn
from upstairs.outer.learn_tree import relearn_tree
from upstairs.outer.training import Training
from upstairs.prior import Prior

__all__ = ["Growth", "check_grows", "grown"]


@dataclass(frozen=True, slots=True)
class Growth:
    """The reservoir of tasks, and when a prior was last learned from it.

    ``first`` counts the tasks that the first prior was learned on, ``ended`` worlds that have ended, ``waiting`` those since the prior
    last grew (it grows when they are a ``share`` of the reservoir), ``chosen`` the tasks that its form was last chosen on. ``training``
    and ``net`` are how a prior goes on that is trained by gradients, and a network of the user's own; ``prior_mean`` is what may be chosen
    as the mean of another.
    """

    seen: Seen
    training: Training
    share: float
    net: Any = None
    prior_mean: str = "auto"
    first: int = 0
    ended: int = 0
    waiting: int = 0
    chosen: int = 0

    @classmethod
    def of(cls, meta: MetaLearner, seen: Seen, meta_steps: int, share: float) -> Growth:
        """Start from a meta-learner and the tasks that it learned."""
        check_grows(meta.prior_)
        asked = getattr(meta, "training", None) or Training()
        training = replace(asked, steps=meta_steps, patience=None, checkpoint=None)
        mean = getattr(meta, "prior_mean", "auto")
        mean = "none" if mean == "linear" else mean
        first = int(meta.prior_.provenance["tasks"])
        return cls(seen, training, share, getattr(meta, "net", None), mean, first=first, chosen=first)

    def stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Write the reservoir and the counts, as JSON values and arrays."""
        seen = self.seen
        counts = [self.first, self.ended, self.waiting, self.chosen]
        arrays = {name: getattr(seen, name) for name in ("x", "y", "offsets")}
        return {"counts": counts, "names": list(seen.names), "groups": list(seen.groups)}, arrays

    @classmethod
    def restored(
        cls, meta: MetaLearner, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray], steps: int, share: float
    ) -> Growth:
        """Undo `stored`."""
        names, groups = tuple(document["names"]), tuple(document["groups"])
        seen = Seen(arrays["x"], arrays["y"], arrays["offsets"], names, groups)
        first, ended, waiting, chosen = document["counts"]
        found = cls.of(meta, seen, steps, share)
        return replace(found, first=first, ended=ended, waiting=waiting, chosen=chosen)

    def after(self, prior: Prior, name: str, world: World, most: int, seed: int) -> tuple[Growth, Prior | None]:
        """Put a world that has ended into the reservoir.

        Parameters
        ----------
        prior
            As grown so far.
        name, world
            The world.
        most, seed
            Tasks that the reservoir holds at most; draws which one makes room.

        Returns
        -------
        growth
        prior
            The new one; None while too few worlds have ended since the last.
        """
        if not len(world.y):
            return self, None
        ended, waiting = self.ended + 1, self.waiting + 1
        rng = np.random.default_rng([seed, ended])
        seen = _with_task(self.seen, name, world, most, rng, ended + self.first)
        if waiting < self.share * len(seen.names):
            return replace(self, seen=seen, ended=ended, waiting=waiting), None
        met = max(ended + self.first, len(seen.names))
        doubled = met >= 2 * self.chosen
        if takes_meta_steps(prior.settings):
            new = meta_stepped(prior, seen, self.training, net=self.net, seed=seed + ended)
        else:
            new = grown(prior, seen, prior_mean=self.prior_mean if doubled else None)
        return replace(self, seen=seen, ended=ended, waiting=0, chosen=met if doubled else self.chosen), new


def check_grows(prior: Prior) -> None:
    """Refuse a prior that can neither be learned anew in closed form nor go on by gradient steps.

    Raises
    ------
    PriorMismatchError
        Naming its rule.
    """
    settings = prior.settings
    if takes_meta_steps(settings):
        return
    closed = settings["rule"] in ("bayesian-linear", MACHINE, TREE) and "net" not in settings
    if not closed or settings["outer"].get("solver") == "libsvm":
        raise PriorMismatchError(
            f"A prior of the rule {settings['rule']!r} cannot grow on a stream; pass meta.learner(), whose prior stays, or use "
            "method='bayesian-linear' without a network, a method that is trained by gradients, a MetaDecisionTree, or a MetaSVM with "
            "solver='smooth'."
        )


def grown(prior: Prior, seen: Seen, *, prior_mean: str | None = None) -> Prior:
    """Return the prior that tasks recommend.

    Parameters
    ----------
    prior : Prior
        Checked by `check_grows`.
    seen : Seen
        Encoded rows of all tasks in the reservoir.
    prior_mean : str, optional
        What the mean may be if the form of a prior over weights is to be chosen again, pooled prediction included; None: it stays.
    """
    settings = prior.settings
    if prior_mean is not None and settings["rule"] == "bayesian-linear":
        choice = choose(
            seen.x,
            seen.y,
            seen.offsets,
            np.unique(seen.groups, return_inverse=True)[1],
            kind=settings["kind"],
            ways=len(settings["classes"]),
            shots=None if settings["shots"] is None else tuple(settings["shots"]),
            prior_mean=prior_mean,
        )
        told = {"choice": choice.reason, "report": choice.report, "outer": choice.settings}
        return prior_of({**settings, **told}, choice.params, prior.group("tables"), len(seen.names), len(seen.y))
    again = _of(prior.settings["rule"])
    params = again(prior.settings["outer"], prior.group("params"), seen.x, seen.y, seen.offsets)
    return prior_of(prior.settings, params, prior.group("tables"), len(seen.names), len(seen.y))


def _with_task(seen: Seen, name: str, world: World, most: int, rng: np.random.Generator, met: int) -> Seen:
    """Put a task into the reservoir, or its newer rows in place of older ones; ``met`` tasks there have been in all."""
    if name in seen.names:
        seen = seen.some(np.array([entry != name for entry in seen.names]))
    elif len(seen.names) >= most:
        if rng.random() >= most / max(met, 1):
            return seen
        out = int(rng.integers(len(seen.names)))
        seen = seen.some(np.arange(len(seen.names)) != out)
    return seen.extended(Seen(world.x, world.y, np.array([0, len(world.y)]), (name,), (name,)))


def _of(rule: str) -> Callable[..., Any]:
    if rule == MACHINE:
        from upstairs.outer.learn_machine import relearn_machine

        return relearn_machine
    return relearn_tree if rule == TREE else relearn
