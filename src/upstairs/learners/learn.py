"""From tasks to a prior in closed form: let ``outer`` learn and choose, and write down what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from upstairs.errors import TaskError
from upstairs.learners.networks import check_alone, net_for, net_from, net_settings
from upstairs.learners.rules import plain_rule, rule_from
from upstairs.learners.seen import (
    Seen,
    classes_again,
    classes_of,
    encoded,
    held_rows,
    more_rows,
    prior_of,
    seen_of_classes,
)
from upstairs.outer.calibrate import interval_factors, tables_from
from upstairs.outer.choose import choose, relearn
from upstairs.outer.metric import choose_metric, relearn_metric
from upstairs.outer.training import Training
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

if TYPE_CHECKING:
    from upstairs.nets.build import Net
    from upstairs.outer.estimators import Estimator

__all__ = ["Plan", "learn", "learn_on", "shot_range"]

FEWEST_TASKS_FOR_NET, FEWEST_ROWS_FOR_NET = 20, 1000


@dataclass(frozen=True)
class Plan:
    """What a user asked of a meta-learner.

    Parameters
    ----------
    method
        How a task is learned.
    options
        Of the method.
    net
        A network, None, or "auto".
    training
        How what needs gradients is trained.
    prior_mean
        "linear", "ridge", "boosting" or "auto" (for "bayesian-linear").
    shots, ways
        The support that the prior is chosen for.
    categorical
        Number columns that are identifiers.
    seed
        Draws folds and episodes.
    gradient
        How gradients over tasks come about; None: in reverse mode.
    """

    method: str
    options: Mapping[str, Any]
    net: Any
    training: Training | None
    prior_mean: str
    shots: tuple[int, int] | None
    ways: int | None
    categorical: tuple[str | int, ...]
    seed: int
    gradient: Estimator | None = None


def shot_range(shots: Any) -> tuple[int, int] | None:
    """Read the support rows that a user asked for.

    Raises
    ------
    ValueError
        If they are no number of at least 1 and no range.

    Examples
    --------
    >>> shot_range(5), shot_range((1, 20))
    ((5, 5), (1, 20))
    """
    if shots is None:
        return None
    low, high = (shots, shots) if isinstance(shots, int | np.integer) else tuple(shots)
    if not 1 <= low <= high:
        raise ValueError(f"shots must be a number of at least 1 or a (low, high) range, but is {shots!r}.")
    return int(low), int(high)


def learn(tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None, plan: Plan) -> tuple[Prior, Seen]:
    """Make a prior in closed form, or with the features of a network, from tasks in canonical order.

    Parameters
    ----------
    tasks, validation
        Training tasks, and the tasks on which choices are made (None: folds over the training tasks).
    plan
        For the method "bayesian-linear" or "prototype".
    """
    settings: dict[str, Any] = {"rule": plan.method, "shots": plan.shots, "ways": plan.ways}
    if plan.method == "prototype":
        if plan.options:
            raise ValueError(
                "options: 'diagonal' scales the features of a network, but there is none; use net='mlp' or net='conv4', or leave it out."
            )
        return _learn_prototype(tasks, validation, settings, plan)
    assert isinstance(tasks, TaskSet)
    described, seen, encoder = encoded(tasks, plan.categorical)
    settings |= described
    held = held_rows(validation, encoder, settings)
    net = _net(plan, tasks, encoder)
    choice = choose(
        seen.x,
        seen.y,
        seen.offsets,
        _numbers(seen.groups),
        kind=str(tasks.kind),
        ways=len(tasks.classes),
        shots=plan.shots,
        prior_mean="none" if plan.prior_mean == "linear" else plan.prior_mean,
        net=net,
        only_net=net is not None and plan.net != "auto",
        training=plan.training,
        validation=None if held is None else (held.x, held.y, held.offsets),
        random_state=plan.seed,
    )
    if any(name.startswith("net/") for name in choice.params):
        assert net is not None
        settings["net"] = net_settings(net)
    settings |= {"choice": choice.reason, "report": choice.report, "outer": choice.settings}
    judges = seen if held is None else held
    folds = [(params, [judges.task(int(number)) for number in numbers]) for params, numbers in choice.folds]
    rule, plain = rule_from(settings, plan.net), plain_rule(plan.method, str(tasks.kind))
    tables = tables_from(rule, folds, plain=plain, ways=len(tasks.classes), seed=plan.seed)
    if tasks.kind == "regression":
        tables |= interval_factors(rule, folds, seed=plan.seed)
    return prior_of(settings, choice.params, tables, len(seen.names), len(seen.y)), seen


def learn_on(prior: Prior, seen: Seen, tasks: TaskSet | ClassPool, net: Any) -> tuple[Prior, Seen]:
    """Make the next prior from what was seen and more tasks; encoding, rule and choices stay as they are."""
    settings = dict(prior.settings)
    encoder = Encoder.from_spec(settings["encoder"])
    if settings["rule"] == "prototype":
        classes, names = classes_of(tasks, encoder)
        together = seen.extended(seen_of_classes(classes, names))
        outer, scale = settings["outer"], encoder.raw_scale()
        params: Mapping[str, np.ndarray] = relearn_metric(classes_again(together), outer, scale)
    else:
        together = seen.extended(more_rows(tasks, encoder, settings))
        own = net_from(settings["net"], net) if "net" in settings else None
        params = relearn(settings["outer"], prior.group("params"), together.x, together.y, together.offsets, own)
    return prior_of(settings, params, prior.group("tables"), len(together.names), len(together.y)), together


def _learn_prototype(
    tasks: TaskSet | ClassPool,
    validation: TaskSet | ClassPool | None,
    settings: dict[str, Any],
    plan: Plan,
) -> tuple[Prior, Seen]:
    raw = (
        tasks.X.reshape(len(tasks.X), -1).astype(np.float64)
        if isinstance(tasks, ClassPool)
        else concatenate_columns(list(tasks))
    )
    encoder = Encoder.fit(raw, categorical=plan.categorical)
    classes, names = classes_of(tasks, encoder)
    low, high = settings["shots"] or (1, 5)
    choice = choose_metric(
        classes,
        raw_scale=encoder.raw_scale(),
        shots=(low, high),
        ways=settings["ways"],
        validation=None if validation is None else classes_of(validation, encoder)[0],
        seed=plan.seed,
    )
    settings |= {
        "kind": "classification",
        "labels": "own",
        "classes": [],
        "encoder": encoder.spec(),
        "target": [0.0, 1.0],
        "choice": choice.sentence,
        "report": choice.report,
        "outer": choice.settings,
    }
    rule = plain_rule("prototype", "classification")
    tables = tables_from(rule, choice.folds, plain=rule, ways=0, seed=plan.seed)
    return prior_of(settings, choice.params, tables, len(names), len(classes.y)), seen_of_classes(classes, names)


def _net(plan: Plan, tasks: TaskSet, encoder: Encoder) -> Net | None:
    """Return the network whose features are to be tried: asked for, or automatically where rows can teach one."""
    if plan.net is None:
        return None
    if plan.net == "auto":
        enough = len(tasks) >= FEWEST_TASKS_FOR_NET and sum(tasks.rows) >= FEWEST_ROWS_FOR_NET
        if tasks.kind != "regression" or plan.prior_mean != "auto" or not enough:
            return None
    elif tasks.kind != "regression":
        raise TaskError(
            "net: method='bayesian-linear' learns network features for regressions only, but these tasks share labels; use "
            "method='maml', or net=None."
        )
    elif plan.prior_mean not in ("auto", "linear"):
        raise ValueError(f"prior_mean={plan.prior_mean!r} cannot be used together with net; leave it at 'auto'.")
    net = net_for(plan.net, (encoder.width,), encoder.width, 0, "linear features")
    check_alone(net, plan.method)
    return net


def _numbers(groups: tuple[str, ...]) -> Int[np.ndarray, " task"]:
    return np.unique(np.array(groups), return_inverse=True)[1]
