"""A few more meta-steps from a prior that is trained by gradients, on all tasks of a reservoir: follow the meta-leader.

References
----------
.. [1] Finn, C., Rajeswaran, A., Kakade, S. and Levine, S. (2019). Online meta-learning. ICML; section 4.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.learners.learn_gradients import SHOTS
from upstairs.learners.networks import net_from
from upstairs.learners.rules import CLOSED, METHODS, traced_rule
from upstairs.learners.seen import Seen, prior_of
from upstairs.outer.training import Training, train
from upstairs.prior import Prior
from upstairs.tasks.batches import FlatRows
from upstairs.values import restored

__all__ = ["meta_stepped", "takes_meta_steps"]

QUERIES = 20


def takes_meta_steps(settings: Mapping[str, Any]) -> bool:
    """Whether a prior with these settings is trained by gradients on rows whose columns and labels all tasks share."""
    rule = settings["rule"]
    return rule in METHODS and rule not in CLOSED and settings.get("labels") != "own"


def meta_stepped(prior: Prior, seen: Seen, training: Training, *, net: Any = None, seed: int = 0) -> Prior:
    """Return the prior after more steps on tasks, which are all trained on: none is held out.

    What was learned on held-out tasks (familiarity, guard, intervals) stays as it was.

    Parameters
    ----------
    prior : Prior
        Of a rule that is trained by gradients.
    seen : Seen
        Encoded rows of the tasks.
    training : Training
        How many steps, at which rate; 300 and .003 unless said.
    net : module, optional
        A network of the user's own.
    seed : int
        Draws tasks and rows.
    """
    from upstairs.inner.traced import Spec
    from upstairs.outer.augment import training_draw
    from upstairs.outer.draws import TaskDraw, flat_data

    settings = prior.settings
    inputs, ways = settings["spec"]
    training = training.filled(steps=300, rate=3e-3, batch=25, queries=QUERIES)
    assert training.batch is not None
    assert training.queries is not None
    counts = np.diff(seen.offsets)
    if int(counts.max(initial=0)) < 2:
        return prior
    module = net_from(settings["net"], net) if "net" in settings else None
    rule = traced_rule(settings["rule"], module, ways, restored(settings["options"]))
    low, high = SHOTS["shared"] if settings["shots"] is None else settings["shots"]
    high = max(low, min(high, int(counts.max()) - 1))
    outcome = train(
        rule,
        Spec(tuple(inputs), ways),
        training_draw(
            TaskDraw(training.batch, (low, high), training.queries), training, "shared" if ways else "regression", ways
        ),
        flat_data(FlatRows(seen.x, seen.y, seen.offsets), room=(_room(len(seen.names)), _room(len(seen.y)))),
        dataclasses.replace(training, checkpoint=None),
        seed=seed,
        start=prior.group("params"),
        names=seen.names,
    )
    outer = {**settings["outer"], "steps": settings["outer"]["steps"] + outcome.step}
    params, tables = outcome.params, prior.group("tables")
    return prior_of({**settings, "outer": outer}, params, tables, len(seen.names), len(seen.y))


def _room(size: int) -> int:
    """The next power of two: a reservoir that grows then needs few programs."""
    return 1 << max(size - 1, 1).bit_length()
