"""Training by gradients on tasks that share targets or labels, whether they lie in memory or come from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from upstairs.learners.learn import Plan
from upstairs.learners.rules import plain_rule, rule_from, traced_rule
from upstairs.learners.seen import Seen, held_out, prior_of
from upstairs.learners.trained import check_solved, computing, described_outcome, effort, training_of
from upstairs.outer.calibrate import interval_factors, tables_from
from upstairs.outer.training import train
from upstairs.prior import Prior
from upstairs.tasks.batches import FlatRows

if TYPE_CHECKING:
    from upstairs.nets.build import Net
    from upstairs.outer.draws import TaskDraw, WindowDraw
    from upstairs.outer.sources import Source

__all__ = ["SHARED_SHOTS", "Material", "train_shared", "trained_prior"]

SHARED_SHOTS = (1, 20)


def train_shared(
    seen: Seen,
    held: Seen | None,
    settings: dict[str, Any],
    plan: Plan,
    net: Net | None,
    start: Mapping[str, np.ndarray] | None = None,
) -> Prior:
    """Hold tasks out unless some are, train on the others, and put the prior together."""
    from upstairs.outer.draws import TaskDraw, flat_data

    fit = seen
    if held is None:
        out = held_out(np.unique(seen.groups, return_inverse=True)[1], plan.seed)
        fit, held = seen.some(~out), seen.some(out)
    material = Material(
        TaskDraw,
        lambda _: flat_data(FlatRows(fit.x, fit.y, fit.offsets)),
        int(np.diff(fit.offsets).max()),
        fit.names,
        (len(seen.names), len(seen.y)),
    )
    return trained_prior(material, held, settings, plan, net, start)


class Material(NamedTuple):
    """What is trained on: how tasks are drawn, from which data (for a number of tasks a step), and how large it is."""

    draw: type[TaskDraw] | type[WindowDraw]
    data: Callable[[int], Mapping[str, np.ndarray] | Source]
    most_rows: int
    """Of a task."""
    names: Sequence[str]
    size: tuple[int, int]
    """Tasks and rows, those that were held out counted."""


def trained_prior(
    material: Material,
    held: Seen,
    settings: dict[str, Any],
    plan: Plan,
    net: Net | None,
    start: Mapping[str, np.ndarray] | None = None,
) -> Prior:
    """Train on tasks that share targets or labels, judge on those held out, and put the prior together."""
    from upstairs.inner.traced import Spec
    from upstairs.outer.augment import training_draw
    from upstairs.outer.draws import TaskDraw, flat_data

    kind, ways = settings["kind"], len(settings["classes"])
    low, high = plan.shots or SHARED_SHOTS
    high = max(low, min(high, material.most_rows - 1))
    training = training_of(plan, steps=3000, rate=3e-3, batch=25, queries=20)
    assert training.batch is not None
    assert training.queries is not None
    rule = traced_rule(plan.method, net, ways, plan.options)
    spec = Spec((held.x.shape[1],) if net is None else net.inputs, ways)
    judges = (
        TaskDraw(training.batch, (low, high), training.queries),
        flat_data(FlatRows(held.x, held.y, held.offsets)),
    )
    draw = material.draw(training.batch, (low, high), training.queries)
    outcome = train(
        traced_rule(plan.method, computing(net, training), ways, plan.options),
        spec,
        training_draw(draw, training, "shared" if ways else "regression", ways),
        material.data(training.batch),
        training,
        validation=judges,
        judge_rule=rule,
        seed=plan.seed,
        start=start,
        names=material.names,
        gradient=plan.gradient,
    )
    check_solved(rule, *judges, outcome.params)
    settings |= described_outcome(plan, outcome, net, spec.inputs, ways, len(held.names), "tasks")
    settings["outer"] = outcome.told
    adapted = rule_from(settings, plan.net)
    folds = [(outcome.params, [held.task(number) for number in range(len(held.names))])]
    tables = tables_from(adapted, folds, plain=plain_rule(plan.method, kind), ways=ways, seed=plan.seed, **effort(net))
    if kind == "regression":
        tables |= interval_factors(adapted, folds, seed=plan.seed)
    return prior_of(settings, outcome.params, tables, *material.size)
