"""Experience that grows with the worlds that a stream has met: what worked on the rows of each joins the table of trials.

A table of trials has a row for every task. It is filled for worlds that have ended, several at a time, since each setting is tried on
each of them; from the grown table it is learned anew which settings to recommend. A world that held, left and held again is in the
table once for each time, in one group. A table that is full stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from upstairs.errors import TaskError
from upstairs.learners.meta import MetaLearner
from upstairs.online.worlds import World
from upstairs.prior import Prior
from upstairs.tasks.task import Kind, Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["ExperienceGrowth"]

LEAST_ROWS = 20
"""Rows of a world that settings are tried on."""
LEAST_OF_A_CLASS = 5
"""Rows of each of two classes at least."""


@dataclass(frozen=True, slots=True)
class ExperienceGrowth:
    """Worlds that wait to be tried, and the meta-learner that tries them.

    ``meta`` fills and reads tables of trials, ``share`` how many worlds wait, as a share of the tasks in the table, before it does;
    ``ended`` counts worlds that have ended.
    """

    meta: MetaLearner
    share: float
    waiting: tuple[Task, ...] = ()
    ended: int = 0

    @classmethod
    def of(cls, meta: MetaLearner, share: float) -> ExperienceGrowth:
        """Start from a meta-learner that has a table of trials."""
        found = clone(meta)
        if getattr(found, "checkpoint", None) is not None:
            found.set_params(checkpoint=None)  # of the tasks that it was first learned on
        return cls(found, share)

    def after(
        self, prior: Prior, name: str, world: World, labels: np.ndarray | None, most: int
    ) -> tuple[ExperienceGrowth, Prior | None]:
        """Let a world that has ended wait, or try all settings on those that wait.

        Parameters
        ----------
        prior
            As grown so far.
        name, world, labels
            The world, and what its class numbers mean.
        most
            Tasks that the table holds at most, about.

        Returns
        -------
        growth
        prior
            The new one; None while too few worlds wait.

        Warns
        -----
        UserWarning
            If no setting at all can be fitted to one of those that wait; the stream goes on without them.
        """
        meta: Any = clone(self.meta)
        meta.prior_ = prior
        known = meta.experience_.names
        if not _tells(world, labels) or len(known) >= most:
            return self, None
        ended = self.ended + 1
        while f"{name}, end {ended}" in known:  # of an earlier stream
            ended += 1
        y = world.y if labels is None else labels[world.y]
        task = Task(world.x, y, name=f"{name}, end {ended}", kind=prior.settings["kind"], group=name)
        waiting = (*(entry for entry in self.waiting if entry.group != name), task)
        if len(waiting) < self.share * len(known):
            return replace(self, waiting=waiting, ended=ended), None
        grown = replace(self, waiting=(), ended=ended)
        try:
            return grown, meta.meta_partial_fit(TaskSet(list(waiting))).prior_
        except TaskError as error:
            warnings.warn(f"{len(waiting)} worlds do not join the table of trials: {error}", stacklevel=2)
            return grown, None

    def stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Write what waits, as JSON values and arrays."""
        arrays = {f"{n}/x": np.asarray(task.X) for n, task in enumerate(self.waiting)}
        targets = {f"{n}/y": np.asarray(task.y) for n, task in enumerate(self.waiting) if task.kind == "regression"}
        labels = [None if task.kind == "regression" else task.y.tolist() for task in self.waiting]
        names = [[task.name, task.group] for task in self.waiting]
        return {"names": names, "labels": labels, "ended": self.ended}, arrays | targets

    def restored(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ExperienceGrowth:
        """Undo `stored`; ``self`` has just begun."""
        waiting = []
        for n, ((name, group), own) in enumerate(zip(document["names"], document["labels"], strict=True)):
            kind: Kind = "regression" if own is None else "classification"
            y = arrays[f"{n}/y"] if own is None else np.asarray(own)
            waiting.append(Task(arrays[f"{n}/x"], y, name=name, kind=kind, group=group))
        return replace(self, waiting=tuple(waiting), ended=document["ended"])


def _tells(world: World, labels: np.ndarray | None) -> bool:
    """Whether there are rows enough to tell settings apart."""
    if len(world.y) < LEAST_ROWS:
        return False
    return labels is None or int((np.bincount(world.y) >= LEAST_OF_A_CLASS).sum()) >= 2
