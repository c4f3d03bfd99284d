"""From tasks with the same columns to a prior of `PriorTreeClassifier` or `PriorTreeRegressor`."""

from __future__ import annotations

from typing import Any

import numpy as np

from upstairs.errors import TaskError
from upstairs.learners.learn import Plan
from upstairs.learners.rules import TREE, plain_rule, rule_from
from upstairs.learners.seen import Seen, encoded, held_rows, more_rows, prior_of
from upstairs.outer.calibrate import interval_factors, tables_from
from upstairs.outer.learn_growth import learn_growth, without_growth
from upstairs.outer.learn_tree import forms_of, learn_tree, relearn_tree
from upstairs.outer.pooling import Data
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["learn_trees", "learn_trees_on"]


def learn_trees(
    tasks: TaskSet | ClassPool,
    validation: TaskSet | ClassPool | None,
    plan: Plan,
    *,
    structure: str = "auto",
    leaves: int | None = None,
) -> tuple[Prior, Seen]:
    """Make a prior.

    Parameters
    ----------
    tasks, validation
        In canonical order.
    plan
        Of the method "tree".
    structure
        "shared": splits learned over tasks; "own": a task's own splits, with a prior over features; "auto": splits learned over
        tasks, which grow further on a task where unseen tasks say that it helps.
    leaves
        Of the shared tree; None: chosen on unseen tasks.

    Raises
    ------
    TaskError
        If labels are a task's own.
    """
    if isinstance(tasks, ClassPool) or tasks.labels == "own":
        raise TaskError(
            "columns='same' learns what to expect in the leaves, which needs labels that all tasks share, but these tasks have "
            "labels of their own; use columns='different', or another learner."
        )
    settings: dict[str, Any] = {"rule": TREE, "shots": plan.shots, "ways": plan.ways}
    described, seen, encoder = encoded(tasks, plan.categorical)
    settings |= described
    held = held_rows(validation, encoder, settings)
    kind, ways = str(tasks.kind), len(tasks.classes)
    found = learn_tree(
        seen.x,
        seen.y,
        seen.offsets,
        np.unique(seen.groups, return_inverse=True)[1],
        kind=kind,
        ways=ways,
        shots=plan.shots,
        forms=forms_of(plan.prior_mean, 1 if structure == "own" else leaves, encoder.width, kind),
        validation=None if held is None else (held.x, held.y, held.offsets),
        seed=plan.seed,
    )
    judges = seen if held is None else held
    unseen = [(params, _data(judges, numbers, kind, ways, plan.seed)) for params, numbers in found.folds]
    habits, grows, reason = without_growth(encoder.width, kind), False, ""
    if structure != "shared":
        growth = learn_growth(unseen, kind=kind, shots=plan.shots, must=structure == "own", seed=plan.seed)
        habits, grows, reason = growth.params, growth.grows, f"; {growth.reason}"
    settings |= {"choice": found.reason + reason, "report": found.report, "outer": found.settings | {"grows": grows}}
    folds = [
        ({**params, **habits}, [judges.task(int(number)) for number in numbers]) for params, numbers in found.folds
    ]
    rule = rule_from(settings)
    tables = tables_from(rule, folds, plain=plain_rule(TREE, kind), ways=ways, seed=plan.seed)
    if kind == "regression":
        tables |= interval_factors(rule, folds, seed=plan.seed)
    return prior_of(settings, found.params | habits, tables, len(seen.names), len(seen.y)), seen


def learn_trees_on(prior: Prior, seen: Seen, tasks: TaskSet | ClassPool) -> tuple[Prior, Seen]:
    """Make the next prior from what was seen and more tasks; the tree and how it grows stay, leaves are learned anew."""
    settings = dict(prior.settings)
    together = seen.extended(more_rows(tasks, Encoder.from_spec(settings["encoder"]), settings))
    params = relearn_tree(settings["outer"], prior.group("params"), together.x, together.y, together.offsets)
    return prior_of(settings, params, prior.group("tables"), len(together.names), len(together.y)), together


def _data(seen: Seen, numbers: np.ndarray, kind: str, ways: int, seed: int) -> Data:
    """Rows of some tasks, as `upstairs.outer` takes them."""
    some = seen.some(np.isin(np.arange(len(seen.names)), numbers))
    return Data(some.x, some.y, some.offsets, np.zeros(len(some.names), dtype=np.int64), kind, ways, seed)
